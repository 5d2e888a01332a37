package builder

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerui"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/util/gitutil/gitobject"
)

// Loaded is what a build is about, as the builder fetched it.
type Loaded struct {
	Dockerfile []byte     // nil where the builder is not needed to read it
	Policy     bool       // a DOCKERFILE.rego lies beside a Dockerfile inside the context
	Lock       *lock.File // Request.Lock and what was added
	Used       map[lock.Source]bool
	// Committed is when the commit of a git context was made; zero for any other context.
	Committed time.Time
}

// DockerfileError says that a context has no Dockerfile that can be read.
type DockerfileError struct {
	Dockerfile Dockerfile
	Context    Context
	Err        error
}

func (e *DockerfileError) Error() string {
	if e.Dockerfile.Inside == "" {
		return fmt.Sprintf("reading the Dockerfile %q: %v", e.Dockerfile, e.Err)
	}
	return fmt.Sprintf("reading %q in the build context %q: %v", e.Dockerfile, e.Context, e.Err)
}

func (e *DockerfileError) Unwrap() error { return e.Err }

// maxDockerfile is how long a Dockerfile may be that is a URL; docker buildx has the same limit.
const maxDockerfile = 2 << 20

// Load has the builder fetch the context and the Dockerfile of req where they are not on this machine,
// locked as all that a build fetches, and reads the Dockerfile. Of req, Parsed and Target need not be
// known. It is for a req that is Remote.
func (b *Builder) Load(ctx context.Context, req *Request) (*Loaded, error) {
	s := newSolve(b, req, 0)
	s.internal = true
	loaded := &Loaded{}
	_, err := s.session(ctx, false, func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		return gateway.NewResult(), s.load(ctx, c, loaded)
	})
	if err != nil {
		return nil, err
	}
	loaded.Lock, loaded.Used = s.pins.file, s.pins.used
	return loaded, nil
}

func (s *solve) load(ctx context.Context, c gateway.Client, loaded *Loaded) error {
	uses, err := s.inputs(ctx)
	if err != nil {
		return err
	}
	if err := s.lookUp(ctx, c, uses); err != nil {
		return err
	}
	if err := s.fetch(ctx, c, uses); err != nil {
		return err
	}
	if s.req.Context.Git() {
		if loaded.Committed, err = s.committed(ctx, c, uses[0]); err != nil {
			return err
		}
	}
	switch {
	case s.req.Dockerfile.URL != "":
		loaded.Dockerfile, err = s.readURL(ctx, c)
	case s.req.Dockerfile.Inside != "":
		err = s.readInside(ctx, c, loaded)
	}
	if err != nil {
		return &DockerfileError{Dockerfile: s.req.Dockerfile, Context: s.req.Context, Err: err}
	}
	return nil
}

// LookUp looks up the sources of req.Relock that its lock does not have, and returns the lock with them.
// Nothing else is done.
func (b *Builder) LookUp(ctx context.Context, req *Request) (*lock.File, error) {
	s := newSolve(b, req, 0)
	s.internal = true
	_, err := s.session(ctx, false, func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		return gateway.NewResult(), s.lookUp(ctx, c, nil)
	})
	return s.pins.file, err
}

// inputs returns what fetches the context and the Dockerfile, in this order.
func (s *solve) inputs(ctx context.Context) ([]frontend.Use, error) {
	var states []llb.State
	if url := s.req.Context.URL; url != "" {
		st, git, err := dockerui.DetectGitContext(url, nil)
		if !git {
			st, _, _ = dockerui.DetectHTTPContext(url)
		} else if err != nil {
			return nil, &ContextError{Value: url, Err: err}
		}
		states = append(states, *st)
	}
	if url := s.req.Dockerfile.URL; url != "" {
		states = append(states, httpDockerfile(url))
	}
	var uses []frontend.Use
	for _, st := range states {
		g, err := graphOf(ctx, st)
		if err != nil {
			return nil, err
		}
		uses = append(uses, g.Uses()...)
	}
	return uses, nil
}

func httpDockerfile(url string) llb.State {
	return llb.HTTP(url, llb.Filename("Dockerfile"), dockerui.WithInternalName("load "+Dockerfile{URL: url}.String()))
}

// committed returns the time of the commit that a git context is at.
func (s *solve) committed(ctx context.Context, c gateway.Client, use frontend.Use) (time.Time, error) {
	in, err := frontend.Identify(use.Op)
	if err != nil {
		return time.Time{}, err
	}
	op := use.Op
	if _, pin, ok := s.pins.find(in); ok {
		op = frontend.Pinned(op, in, pin)
	}
	meta, err := c.ResolveSourceMetadata(ctx, op, sourceresolver.Opt{
		LogName: "[internal] read the time of the commit", GitOpt: &sourceresolver.ResolveGitOpt{ReturnObject: true},
	})
	if err != nil || meta.Git == nil || len(meta.Git.CommitObject) == 0 {
		return time.Time{}, err
	}
	object, err := gitobject.Parse(meta.Git.CommitObject)
	if err != nil {
		return time.Time{}, fmt.Errorf("reading the commit of %q: %w", in.Source.Ref, err)
	}
	commit, err := object.ToCommit()
	if err != nil || commit.Committer.When == nil {
		return time.Time{}, err
	}
	return commit.Committer.When.UTC(), nil
}

func (s *solve) readURL(ctx context.Context, c gateway.Client) ([]byte, error) {
	ref, err := solved(ctx, c, httpDockerfile(s.req.Dockerfile.URL))
	if err != nil {
		return nil, err
	}
	data, err := ref.ReadFile(ctx, gateway.ReadRequest{Filename: "Dockerfile", Range: &gateway.FileRange{Length: maxDockerfile + 1}})
	if err == nil && len(data) > maxDockerfile {
		return nil, fmt.Errorf("larger than %d bytes", maxDockerfile)
	}
	return data, err
}

// readInside reads the Dockerfile as the frontend will.
func (s *solve) readInside(ctx context.Context, c gateway.Client, loaded *Loaded) error {
	ui, err := dockerui.NewClient(asked{c, s.frontendOptions()})
	if err != nil {
		return err
	}
	src, err := ui.ReadEntrypoint(ctx, "Dockerfile")
	if err != nil {
		return err
	}
	loaded.Dockerfile = src.Data
	st, err := ui.MainContext(ctx)
	if err != nil {
		return err
	}
	ref, err := solved(ctx, c, *st)
	if err != nil {
		return err
	}
	_, err = ref.StatFile(ctx, gateway.StatRequest{Path: s.req.Dockerfile.Inside + ".rego"})
	loaded.Policy = err == nil
	return ctx.Err()
}

// solved returns what st is made of.
func solved(ctx context.Context, c gateway.Client, st llb.State) (gateway.Reference, error) {
	def, err := st.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	res, err := c.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB()})
	if err != nil {
		return nil, err
	}
	return res.SingleRef()
}

// asked is a gateway client whose options are those that the frontend will get.
type asked struct {
	gateway.Client
	options map[string]string
}

// BuildOpts is part of gateway.Client.
func (a asked) BuildOpts() gateway.BuildOpts {
	o := a.Client.BuildOpts()
	o.Opts = maps.Clone(a.options)
	return o
}
