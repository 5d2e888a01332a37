package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

func usesOf(parts []part) []frontend.Use {
	var uses []frontend.Use
	for _, p := range parts {
		uses = append(uses, p.graph.Uses()...)
	}
	return uses
}

// lookUp pins every source that is not yet: all at once, where the frontend had no need to. Where nothing
// may be added there is no need to, either. What it finds against the lock, s.pins.err reports.
func (s *solve) lookUp(ctx context.Context, c gateway.Client, uses []frontend.Use) error {
	ops, lines := map[lock.Source]*pb.SourceOp{}, map[lock.Source]int{}
	for _, use := range uses {
		in, err := frontend.Identify(use.Op)
		if err != nil {
			return fmt.Errorf("%s: %w", s.req.where(in.Written, use.Line), err)
		}
		// BuildKit would turn the cached layers of an image that both use into those of the other.
		if os := use.Platform.GetOS(); os != "" && os != "linux" {
			return fmt.Errorf("%s: image %q for %s: kedge builds images for linux", s.req.where(in.Written, use.Line), in.Source.Ref, os)
		}
		if _, _, ok := s.pins.find(in); !ok && !in.Local {
			if s.req.Locked {
				s.pins.miss(in)
				continue
			}
			ops[in.Written], lines[in.Written] = use.Op, use.Line
		}
	}
	for _, src := range s.req.Relock {
		op := frontend.Operation(src)
		if in, err := frontend.Identify(op); err == nil {
			if _, _, ok := s.pins.find(in); !ok {
				ops[in.Written] = op
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for src, op := range ops {
		group.Go(func() error {
			// The daemon asks p.check, which asks for the look-up and notes what it finds.
			_, err := c.ResolveSourceMetadata(ctx, op.CloneVT(), sourceresolver.Opt{LogName: lookUpName(op)})
			if err != nil {
				return fmt.Errorf("%s: looking up %s %q: %w", s.req.where(src, lines[src]), src.Kind, src.Ref, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	s.pins.compare(uses)
	return s.pins.err(s.req, uses)
}

// lookUpName is what the daemon shows, and keeps, as the name of a look-up.
func lookUpName(op *pb.SourceOp) string { return "look up " + redact(op.Identifier) }

// where says what names a source: a line of the Dockerfile, or the command line.
func (r *Request) where(src lock.Source, line int) string {
	switch {
	case r.Context.URL != "" && src == r.Context.source():
		return "build context"
	case r.Dockerfile.URL != "" && src == (Context{URL: r.Dockerfile.URL}).source():
		return "Dockerfile"
	case line > 0:
		return fmt.Sprintf("%s:%d", r.Dockerfile, line)
	}
	for name, c := range r.Contexts {
		if src == c.source() {
			return fmt.Sprintf("build context %q", name)
		}
	}
	return r.Dockerfile.String()
}

// line returns a line of the Dockerfile that names a source, or 0.
func (r *Request) line(src lock.Source) int {
	if r.Parsed == nil {
		return 0
	}
	return r.Parsed.Line(src)
}

// newestBase returns the newest creation time of the images that the build uses, of a registry or of an
// OCI layout. A time that has not come yet does not count: what the build writes would be older, and keep
// the time of the build.
func (s *solve) newestBase(ctx context.Context, c gateway.Client, uses []frontend.Use) (time.Time, error) {
	var mu sync.Mutex
	var newest time.Time
	now := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for _, use := range uses {
		in, err := frontend.Identify(use.Op)
		if err != nil || in.Source.Kind != lock.Image && !frontend.FromLayout(use.Op) {
			continue
		}
		group.Go(func() error {
			meta, err := c.ResolveSourceMetadata(ctx, use.Op.CloneVT(), imageOpt(use.Platform))
			if err != nil {
				return err
			}
			var config ocispec.Image
			if meta.Image == nil || json.Unmarshal(meta.Image.Config, &config) != nil || config.Created == nil {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if config.Created.After(newest) && !config.Created.After(now) {
				newest = *config.Created
			}
			return nil
		})
	}
	err := group.Wait()
	return newest, err
}

func (s *solve) outline(ctx context.Context, c gateway.Client) error {
	opts := s.frontendOptions()
	opts["requestid"] = "frontend.outline"
	opts["frontend.caps"] = strings.Join(append(s.req.frontendCaps(), "moby.buildkit.frontend.subrequests"), ",")
	delete(opts, "no-cache")
	if p := s.req.Platforms; len(p) > 0 {
		opts["platform"] = p[0]
	}
	res, err := c.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: opts})
	var (
		noOutline     *errdefs.UnsupportedSubrequestError
		noSubrequests *errdefs.UnsupportedFrontendCapError
	)
	if errors.As(err, &noOutline) || errors.As(err, &noSubrequests) {
		s.result.Args = frontend.GivenArgs(s.req.Args)
		return nil
	}
	if err != nil {
		return fmt.Errorf("asking which build args %q uses: %w", s.req.Dockerfile, err)
	}
	s.result.Args, err = frontend.Args(res.Metadata["result.json"], s.req.Args)
	return err
}

// fetch gets what is pinned by content before any step runs, so that a source that no longer is what
// the lock says ends the build there.
func (s *solve) fetch(ctx context.Context, c gateway.Client, uses []frontend.Use) error {
	type failure struct {
		src lock.Source
		use frontend.Use
		err error
	}
	var mu sync.Mutex
	var failed []failure
	group, gctx := errgroup.WithContext(ctx)
	for _, use := range uses {
		in, err := frontend.Identify(use.Op)
		if err != nil || in.Local || in.Source.Kind == lock.Image {
			continue
		}
		src, pin, ok := s.pins.find(in)
		if !ok {
			continue
		}
		group.Go(func() error {
			def, err := frontend.Fetch(s.timed(frontend.Pinned(use.Op, in, pin)))
			if err != nil {
				return err
			}
			if _, err = c.Solve(gctx, gateway.SolveRequest{Definition: def, Evaluate: true}); err != nil && gctx.Err() == nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, failure{src, use, err})
			}
			return err
		})
	}
	err := group.Wait()
	var reasons []error
	for _, f := range failed {
		// What is pinned BuildKit takes without looking at the status: it would say that the page about an
		// error has another digest.
		pin, found, looked := s.lookAgain(ctx, c, f.src, f.use.Op, sourceresolver.Opt{})
		if looked != nil {
			f.err = looked
		}
		if found != "" && found != pin {
			s.pins.changed(f.src, pin, found)
		}
		reasons = append(reasons, fmt.Errorf("%s: fetching %s %q: %w", s.req.where(f.src, f.use.Line), f.src.Kind, f.src.Ref, f.err))
	}
	if unlocked := s.pins.err(s.req, uses); unlocked != nil {
		return unlocked
	}
	if len(reasons) > 0 && ctx.Err() == nil {
		return errors.Join(reasons...)
	}
	return err
}

// lookAgain returns what a source that could not be fetched is locked to, and what it is now, or why it
// cannot be looked at.
func (s *solve) lookAgain(ctx context.Context, c gateway.Client, src lock.Source, op *pb.SourceOp, opt sourceresolver.Opt) (pin, found string, err error) {
	opt.LogName = "look again at " + src.Ref
	pin, found = s.pins.probe(src, func() error {
		_, err = c.ResolveSourceMetadata(ctx, op.CloneVT(), opt)
		return err
	})
	return pin, found, err
}

// blameWithin is how long to look for what the lock has to do with an error.
const blameWithin = 20 * time.Second

// blameLock returns why the build function failed with err. Where an image is locked to what its registry
// does not have, since the tag has moved on and what it was before has been deleted, the frontend says no
// more than that it was not found, and no error says so by its type.
func (s *solve) blameLock(ctx context.Context, c gateway.Client, err error) error {
	if unlocked := (*UnlockedError)(nil); err == nil || errors.As(err, &unlocked) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, blameWithin)
	defer cancel()
	var reasons []error
	for _, image := range s.pins.taken() {
		op, opt := frontend.Operation(image.source), imageOpt(image.platform)
		in, err := frontend.Identify(op)
		if _, locked := s.req.Lock.Pin(image.source); err != nil || !locked || in.Pin != "" {
			continue // this run itself has looked it up, or the Dockerfile says which
		}
		// The daemon asks p.check, which has it look for what is locked.
		opt.LogName = "look again at " + image.source.Ref + " as locked"
		_, missing := c.ResolveSourceMetadata(ctx, op.CloneVT(), opt)
		if missing == nil {
			continue
		}
		pin, found, looked := s.lookAgain(ctx, c, image.source, op, opt)
		if found != "" && found != pin {
			s.pins.gone(image.source, pin, found)
		} else if looked != nil && ctx.Err() == nil {
			reasons = append(reasons, fmt.Errorf("%s: looking up image %q, locked to %s: %w", s.req.where(image.source, s.req.line(image.source)), image.source.Ref, pin, missing))
		}
	}
	if unlocked := s.pins.err(s.req, nil); unlocked != nil {
		return unlocked
	}
	if len(reasons) > 0 {
		return errors.Join(reasons...)
	}
	return err
}

// base returns the config of the image that g starts from: what the frontend says, or, where it is
// too old to say, what the image itself does.
func (s *solve) base(ctx context.Context, c gateway.Client, g *frontend.Graph, said []byte) (base ocispec.Image, err error) {
	if use := g.BaseUse(); len(said) == 0 && use != nil {
		meta, err := c.ResolveSourceMetadata(ctx, use.Op.CloneVT(), imageOpt(use.Platform))
		if err != nil {
			return base, err
		}
		if meta.Image != nil {
			said = meta.Image.Config
		}
	}
	if len(said) == 0 {
		return base, nil
	}
	if err := json.Unmarshal(said, &base); err != nil {
		return base, fmt.Errorf("reading the base image's config: %w", err)
	}
	return base, nil
}

// imageOpt asks for an image's config for a platform.
func imageOpt(p *pb.Platform) sourceresolver.Opt {
	opt := sourceresolver.Opt{ImageOpt: &sourceresolver.ResolveImageOpt{}}
	if p != nil {
		opt.ImageOpt.Platform = &ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
	}
	return opt
}
