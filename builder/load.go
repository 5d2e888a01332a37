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

// Loaded is the part of a build's input that only the builder can fetch.
type Loaded struct {
	Dockerfile []byte               // nil if this machine can read it
	Policy     []byte               // the DOCKERFILE.rego next to a Dockerfile in the context; nil if there is none
	Lock       *lock.File           // Request.Lock and the pins that were added
	Used       map[lock.Source]bool // the sources that were fetched
	Lockfile   []byte               // the DOCKERFILE.lock next to it in a git context; nil if there is none
	// Committed is the commit time of a git context, and zero for any other context.
	Committed time.Time
}

// DockerfileError says that the Dockerfile could not be read.
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

// maxDockerfile bounds the bytes of a Dockerfile that is a URL, as in docker buildx.
const maxDockerfile = 2 << 20

// Load has the builder fetch the context and the Dockerfile of a remote req, through the lock, and
// reads the Dockerfile. It ignores req.Parsed and req.Target.
func (b *Builder) Load(ctx context.Context, req *Request) (*Loaded, error) {
	j := newJob(b, req, Pass{})
	j.internal = true
	loaded := &Loaded{}
	_, err := j.session(ctx, nil, func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		return gateway.NewResult(), j.load(ctx, c, loaded)
	})
	if err != nil {
		return nil, err
	}
	loaded.Lock, loaded.Used = j.pins.file, j.pins.used
	return loaded, nil
}

func (j *job) load(ctx context.Context, c gateway.Client, loaded *Loaded) error {
	uses, err := j.inputs(ctx)
	if err != nil {
		return err
	}
	if err := j.lookUp(ctx, c, uses); err != nil {
		return err
	}
	if err := j.fetch(ctx, c, uses, &rewriter{}); err != nil {
		return err
	}
	if j.req.Context.Git() {
		if loaded.Committed, err = j.committed(ctx, c, uses[0]); err != nil {
			return err
		}
	}
	switch {
	case j.req.Dockerfile.URL != "":
		loaded.Dockerfile, err = j.readURL(ctx, c)
	case j.req.Dockerfile.Inside != "":
		err = j.readInside(ctx, c, loaded)
	}
	if err != nil {
		return &DockerfileError{Dockerfile: j.req.Dockerfile, Context: j.req.Context, Err: err}
	}
	return nil
}

// LookUp looks up the sources in req.Relock that the lock lacks, and returns a lock that has them.
func (b *Builder) LookUp(ctx context.Context, req *Request) (*lock.File, error) {
	j := newJob(b, req, Pass{})
	j.internal = true
	_, err := j.session(ctx, nil, func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		return gateway.NewResult(), j.lookUp(ctx, c, nil)
	})
	return j.pins.file, err
}

// inputs returns the operations that fetch the context and the Dockerfile, in this order.
func (j *job) inputs(ctx context.Context) ([]frontend.Use, error) {
	var states []llb.State
	if url := j.req.Context.URL; url != "" {
		st, git, err := dockerui.DetectGitContext(url, nil)
		if !git {
			st, _, _ = dockerui.DetectHTTPContext(url)
		} else if err != nil {
			return nil, &ContextError{Value: url, Err: err}
		}
		states = append(states, *st)
	}
	if url := j.req.Dockerfile.URL; url != "" {
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

// committed returns the commit time of a git context.
func (j *job) committed(ctx context.Context, c gateway.Client, use frontend.Use) (time.Time, error) {
	in, err := frontend.Identify(use.Op)
	if err != nil {
		return time.Time{}, err
	}
	op := use.Op
	if _, pin, ok := j.pins.find(in); ok {
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

func (j *job) readURL(ctx context.Context, c gateway.Client) ([]byte, error) {
	ref, err := solved(ctx, c, httpDockerfile(j.req.Dockerfile.URL))
	if err != nil {
		return nil, err
	}
	data, err := ref.ReadFile(ctx, gateway.ReadRequest{Filename: "Dockerfile", Range: &gateway.FileRange{Length: maxDockerfile + 1}})
	if err == nil && len(data) > maxDockerfile {
		return nil, fmt.Errorf("larger than %d bytes", maxDockerfile)
	}
	return data, err
}

// readInside reads a Dockerfile in the context with the frontend's own code.
func (j *job) readInside(ctx context.Context, c gateway.Client, loaded *Loaded) error {
	ui, err := dockerui.NewClient(frontendClient{c, j.frontendOptions()})
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
	if loaded.Policy, err = readBeside(ctx, ref, j.req.Dockerfile.Inside+".rego"); err != nil || !j.req.Context.Git() {
		return err
	}
	loaded.Lockfile, err = readBeside(ctx, ref, lock.Path(j.req.Dockerfile.Inside))
	return err
}

// readBeside reads a file of at most maxDockerfile bytes. It returns nil if the file does not exist, and never
// for one that does.
func readBeside(ctx context.Context, ref gateway.Reference, name string) ([]byte, error) {
	if _, err := ref.StatFile(ctx, gateway.StatRequest{Path: name}); err != nil {
		return nil, ctx.Err()
	}
	data, err := ref.ReadFile(ctx, gateway.ReadRequest{Filename: name, Range: &gateway.FileRange{Length: maxDockerfile + 1}})
	if err == nil && len(data) > maxDockerfile {
		return nil, fmt.Errorf("%q: larger than %d bytes", name, maxDockerfile)
	}
	return append([]byte{}, data...), err
}

// solved has the daemon produce st.
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

// frontendClient is a gateway.Client with the options that the frontend will get.
type frontendClient struct {
	gateway.Client
	options map[string]string
}

// BuildOpts implements gateway.Client.
func (f frontendClient) BuildOpts() gateway.BuildOpts {
	o := f.Client.BuildOpts()
	o.Opts = maps.Clone(f.options)
	return o
}
