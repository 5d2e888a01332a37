package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// lookUp pins the sources that have no pin yet, side by side. If the lock may not grow, it notes them
// as missing without looking them up. It returns an *UnlockedError for what the lock forbids.
func (j *job) lookUp(ctx context.Context, c gateway.Client, uses []frontend.Use) error {
	j.lockLocals(uses)
	ops, lines := map[lock.Source]*pb.SourceOp{}, map[lock.Source]int{}
	for _, use := range uses {
		in, err := frontend.Identify(use.Op)
		if err != nil {
			return fmt.Errorf("%s: %w", j.req.where(in.Written, use.Line), err)
		}
		// BuildKit would mix the cached layers of images for different operating systems.
		if os := use.Platform.GetOS(); os != "" && os != "linux" {
			return fmt.Errorf("%s: image %q for %s: kedge builds images for linux", j.req.where(in.Written, use.Line), in.Source.Ref, os)
		}
		if _, _, ok := j.pins.find(in); !ok && !in.Local {
			if j.req.Locked {
				j.pins.miss(in)
				continue
			}
			ops[in.Written], lines[in.Written] = use.Op, use.Line
		}
	}
	for _, src := range j.req.Relock {
		if src.Kind == lock.Local {
			continue // a Dockerfile that uses it has asked for it
		}
		op := frontend.Operation(src)
		if in, err := frontend.Identify(op); err == nil {
			if _, _, ok := j.pins.find(in); !ok {
				ops[in.Written] = op
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for src, op := range ops {
		j.locals.skip(src.Ref)
		group.Go(func() error {
			// The daemon calls pins.check, which asks for the look-up and records the result.
			_, err := c.ResolveSourceMetadata(ctx, op.CloneVT(), sourceresolver.Opt{LogName: lookUpName(op)})
			if err != nil {
				return fmt.Errorf("%s: looking up %s %q: %w", j.req.where(src, lines[src]), src.Kind, src.Ref, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	j.pins.compare(uses)
	return j.pins.err(j.req, uses)
}

// lookUpName is the name of a look-up in the progress and in the daemon's records.
func lookUpName(op *pb.SourceOp) string { return "look up " + redact(op.Identifier) }

// where describes the place that names a source: a line of the Dockerfile, or an argument.
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

// line returns a line of the Dockerfile that names a source, or 0 if there is none.
func (r *Request) line(src lock.Source) int {
	if r.Parsed == nil {
		return 0
	}
	return r.Parsed.Line(src)
}

// newestBase returns the newest creation time of the images in uses, from registries and OCI layouts. It
// ignores a time in the future: the files that this build makes would be older than the epoch, and keep
// their own times.
func (j *job) newestBase(ctx context.Context, c gateway.Client, uses []frontend.Use) (time.Time, error) {
	var mu sync.Mutex
	var newest time.Time
	now := j.req.now()
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

// fetch downloads the URLs and git trees before any step runs, so that a source that no longer has its
// locked content ends the build early.
func (j *job) fetch(ctx context.Context, c gateway.Client, uses []frontend.Use, rw *rewriter) error {
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
		src, pin, ok := j.pins.find(in)
		if !ok {
			continue
		}
		group.Go(func() error {
			def, err := frontend.Fetch(rw.timed(frontend.Pinned(use.Op, in, pin)))
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
		// For a pinned URL, BuildKit ignores the HTTP status: it reports that the error page has another
		// digest. Looking again finds the real reason.
		pin, found, looked := j.lookAgain(ctx, c, f.src, f.use.Op, sourceresolver.Opt{})
		if looked != nil {
			f.err = looked
		}
		if found != "" && found != pin {
			j.pins.changed(f.src, pin, found)
		}
		reasons = append(reasons, fmt.Errorf("%s: fetching %s %q: %w", j.req.where(f.src, f.use.Line), f.src.Kind, f.src.Ref, f.err))
	}
	if unlocked := j.pins.err(j.req, uses); unlocked != nil {
		return unlocked
	}
	if len(reasons) > 0 && ctx.Err() == nil {
		return errors.Join(reasons...)
	}
	return err
}

// lookAgain looks up a source that could not be fetched. It returns the pin of the source
// and its current state, or why it cannot be looked up.
func (j *job) lookAgain(ctx context.Context, c gateway.Client, src lock.Source, op *pb.SourceOp, opt sourceresolver.Opt) (pin, found string, err error) {
	opt.LogName = "look again at " + src.Ref
	pin, found = j.pins.probe(src, func() error {
		_, err = c.ResolveSourceMetadata(ctx, op.CloneVT(), opt)
		return err
	})
	return pin, found, err
}

// blameTimeout bounds the search for an image that the lock pins and its registry no longer has.
const blameTimeout = 20 * time.Second

// blameLock returns err, or the reason for it if a locked image is gone from its registry: the tag
// moved and the old image was deleted. The frontend only says "not found", without a typed error.
func (j *job) blameLock(ctx context.Context, c gateway.Client, err error) error {
	if unlocked := (*UnlockedError)(nil); err == nil || errors.As(err, &unlocked) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, blameTimeout)
	defer cancel()
	var reasons []error
	for _, image := range j.pins.resolved() {
		op, opt := frontend.Operation(image.source), imageOpt(image.platform)
		in, err := frontend.Identify(op)
		if _, locked := j.req.Lock.Pin(image.source); err != nil || !locked || in.Pin != "" {
			continue // pinned by this run, or by the Dockerfile
		}
		// The daemon calls pins.check, which sends it to the locked digest.
		opt.LogName = "look again at " + image.source.Ref + " as locked"
		_, missing := c.ResolveSourceMetadata(ctx, op.CloneVT(), opt)
		if missing == nil {
			continue
		}
		pin, found, looked := j.lookAgain(ctx, c, image.source, op, opt)
		if found != "" && found != pin {
			j.pins.gone(image.source, pin, found)
		} else if looked != nil && ctx.Err() == nil {
			reasons = append(reasons, fmt.Errorf("%s: looking up image %q, locked to %s: %w", j.req.where(image.source, j.req.line(image.source)), image.source.Ref, pin, missing))
		}
	}
	if unlocked := j.pins.err(j.req, nil); unlocked != nil {
		return unlocked
	}
	if len(reasons) > 0 {
		return errors.Join(reasons...)
	}
	return err
}

// imageOpt asks for an image's config for a platform.
func imageOpt(p *pb.Platform) sourceresolver.Opt {
	opt := sourceresolver.Opt{ImageOpt: &sourceresolver.ResolveImageOpt{}}
	if p != nil {
		opt.ImageOpt.Platform = &ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
	}
	return opt
}
