package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const imageScheme = "docker-image://"

// pinned is a client whose sources come from a lock, and whose RUN steps know the epoch. It is safe for concurrent
// use once its options are set.
type pinned struct {
	client.Client
	opts    map[string]string
	lock    *lock.File
	epoch   time.Time   // zero if there is none
	context lock.Source // the build context, which the command line names
	query   bool        // nothing is built, so that a source needs no pin

	mu      sync.Mutex
	missing map[lock.Source]unlocked
	inputs  map[digest.Digest]bool // the operations of other builds, which bake hands over
}

// unlocked is a source that the lock does not pin, or pins to something else.
type unlocked struct {
	line          int    // of the Dockerfile; 0 if it is not known
	locked, found string // empty without a pin
}

func (p *pinned) BuildOpts() client.BuildOpts {
	o := p.Client.BuildOpts()
	o.Opts = maps.Clone(p.opts)
	return o
}

// Inputs returns what other builds made. Their frontends have pinned it.
func (p *pinned) Inputs(ctx context.Context) (map[string]llb.State, error) {
	inputs, err := p.Client.Inputs(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inputs = map[digest.Digest]bool{}
	for _, st := range inputs {
		def, err := st.Marshal(ctx)
		if err != nil {
			return nil, err
		}
		for _, op := range def.Def {
			p.inputs[digest.FromBytes(op)] = true
		}
	}
	return inputs, nil
}

func (p *pinned) isInput(op digest.Digest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inputs[op]
}

func (p *pinned) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	op, ok, err := p.pin(op, 0)
	if err != nil {
		return nil, err
	}
	if !ok && !p.query {
		return nil, errors.New("not locked")
	}
	return p.Client.ResolveSourceMetadata(ctx, op, opt)
}

// ResolveImageConfig looks up an image by its pin. One without a pin has a placeholder, so that the Dockerfile
// frontend goes on to the other sources, and names the lines of all.
func (p *pinned) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	if opt.OCILayoutOpt == nil {
		op, ok, err := p.pin(&pb.SourceOp{Identifier: imageScheme + ref}, 0)
		if err != nil {
			return "", "", nil, err
		}
		if !ok && !p.query {
			config, err := json.Marshal(placeholder(opt.ImageOpt))
			return ref, "", config, err
		}
		ref = strings.TrimPrefix(op.Identifier, imageScheme)
	}
	return p.Client.ResolveImageConfig(ctx, ref, opt)
}

// placeholder returns the config of an image that is not looked up. It has a layer, since one without is scratch.
func placeholder(opt *sourceresolver.ResolveImageOpt) ocispec.Image {
	config := ocispec.Image{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString("")}}}
	if opt != nil && opt.Platform != nil {
		config.Platform = *opt.Platform
	}
	return config
}

// Solve solves a definition with its sources pinned. A definition with a source that has no pin is not solved, and
// has an empty result, so that those of other platforms show theirs.
func (p *pinned) Solve(ctx context.Context, req client.SolveRequest) (*client.Result, error) {
	if req.Definition == nil {
		return nil, errors.New("a frontend that runs another one is not supported: its sources would not be locked")
	}
	g, err := frontend.NewGraph(req.Definition)
	if err != nil {
		return nil, err
	}
	complete := true
	for _, use := range g.Uses() {
		if p.isInput(use.Vertex) {
			continue
		}
		_, ok, err := p.pin(use.Op, use.Line)
		if err != nil {
			return nil, err
		}
		complete = complete && ok
	}
	if !complete && !p.query {
		return client.NewResult(), nil
	}
	if req.Definition, err = g.Rewrite(p.edit); err != nil {
		return nil, err
	}
	return p.Client.Solve(ctx, req)
}

// edit pins a source, and gives a RUN the variables that kedge gives it.
func (p *pinned) edit(v frontend.Vertex) {
	if p.isInput(v.Digest) {
		return
	}
	if src := v.Op.GetSource(); src != nil {
		if op, ok, err := p.pin(src, 0); ok && err == nil {
			src.Identifier, src.Attrs = op.Identifier, op.Attrs
		}
	}
	if exec := v.Op.GetExec(); exec.GetMeta() != nil && !p.epoch.IsZero() {
		exec.Meta.Env = frontend.SteadyEnv(exec.Meta.Env, p.epoch)
	}
}

// pin returns op with the pin that the lock has for it. It records a source without a pin, and returns false.
func (p *pinned) pin(op *pb.SourceOp, line int) (*pb.SourceOp, bool, error) {
	in, err := frontend.Identify(op)
	if err != nil {
		return nil, false, err
	}
	if in.Local || in.Source == p.context {
		return op, true, nil
	}
	s, pin, ok := in.PinIn(p.lock)
	if !ok {
		p.miss(in, unlocked{line: line})
		return op, false, nil
	}
	if !in.Agrees(pin) {
		p.miss(in, unlocked{line, pin, in.Pin})
		return op, false, nil
	}
	if have := p.Client.BuildOpts().LLBCaps; s.Kind == lock.Git && have.Supports(pb.CapSourceGitChecksum) != nil {
		return nil, false, fmt.Errorf("git %q: this version of BuildKit cannot fetch a commit that is locked", s.Ref)
	}
	return frontend.Pinned(op, in, pin), true, nil
}

func (p *pinned) miss(in frontend.Input, u unlocked) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := in.LockedAs()
	if u.locked != "" {
		s = in.Source
	}
	if old, ok := p.missing[s]; ok && (u.line == 0 || old.line > 0 && old.line <= u.line) {
		u.line = old.line
	}
	p.missing[s] = u
}

// err returns an error for the sources that the lock does not pin.
func (p *pinned) err(in *input, parsed *frontend.Dockerfile) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.missing) == 0 {
		return nil
	}
	for s, u := range p.missing {
		if u.line == 0 {
			u.line = parsed.Line(s)
			p.missing[s] = u
		}
	}
	sources := slices.SortedFunc(maps.Keys(p.missing), func(a, b lock.Source) int {
		return cmp.Or(cmp.Compare(p.missing[a].line, p.missing[b].line), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Ref, b.Ref))
	})
	var said []string
	var at []int
	for _, s := range sources {
		u := p.missing[s]
		where := in.source.Filename
		if u.line > 0 {
			where, at = fmt.Sprintf("%s:%d", where, u.line), append(at, u.line)
		}
		said = append(said, fmt.Sprintf("%s: %s", where, p.why(s, u)))
	}
	if !in.exists {
		said = append(said, "there is no "+in.lockfile+" beside it")
	}
	said = append(said, "kedge lock adds what is missing, kedge lock --refresh=REFERENCE takes what has changed; commit "+in.lockfile+" then")
	return in.located(errors.New(strings.Join(said, "\n")), slices.Compact(at)...)
}

// why says what is wrong with a source.
func (p *pinned) why(s lock.Source, u unlocked) string {
	if _, ok := p.lock.Pin(lock.Source{Kind: lock.Local, Ref: s.Ref}); ok && s.Kind == lock.Image {
		return fmt.Sprintf("image %q is locked to an image of one machine, which only kedge build finds", s.Ref)
	}
	if u.locked != "" {
		return fmt.Sprintf("%s %q is locked to %s, not %s", s.Kind, s.Ref, u.locked, u.found)
	}
	return fmt.Sprintf("%s %q is not locked", s.Kind, s.Ref)
}
