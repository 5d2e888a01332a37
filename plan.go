package kedge

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"time"

	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/drift"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/image"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/policy"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A plan is a project with everything decided that a build needs.
type plan struct {
	*project
	request  *builder.Request
	target   string            // to build
	declared string            // the target that ships: target, unless the lock declares another
	secrets  map[string][]byte // the values to look for in the image, by id
	tooShort []string          // ids of secrets that are too short to look for
	unread   error             // why git could not tell the modes of files
}

// resolve decides on the target, the epoch and the files to send, and refuses a build that cannot succeed.
func (p *project) resolve(ctx context.Context) (*plan, error) {
	if err := p.checkPolicy(); err != nil {
		return nil, err
	}
	if err := p.checkAnnotations(); err != nil {
		return nil, err
	}
	target, declared, err := p.target()
	if err != nil {
		return nil, err
	}
	req, unread, err := p.requestFor(ctx, target)
	if err != nil {
		return nil, err
	}
	if len(req.Platforms) == 0 { // only the frontend knows them
		req.Accept = func(all []ocispec.Platform) error { return image.CheckAnnotations(p.options.Annotations, all) }
	}
	secrets, tooShort, err := p.secretValues(ctx)
	if err != nil {
		return nil, err
	}
	return &plan{project: p, request: req, target: target, declared: declared, secrets: secrets, tooShort: tooShort, unread: unread}, nil
}

// requestFor returns the request that builds target, and why git could not tell the modes of files that it
// sends.
func (p *project) requestFor(ctx context.Context, target string) (req *builder.Request, unread, err error) {
	req = p.inputs(p.pins)
	req.Target, req.Attest = p.parsed.Option(target), p.options.Attest
	if p.options.GitLabels.On && p.context.Dir != "" {
		labels := map[string]string{}
		maps.Copy(labels, req.Labels)
		maps.Copy(labels, p.options.GitLabels.of(ctx, p.context.Dir, p.dockerfile.Path, p.env.Environ))
		req.Labels = labels
	}
	if req.Leave, err = p.leave(); err != nil {
		return nil, nil, err
	}
	if p.ownPolicy != "" && p.dockerfile.Path != "" { // which has what the lock has
		req.Leave = append(req.Leave, policy.RegoPath(p.dockerfile.Path))
	}
	if !p.options.KeepModes {
		req.Tracked, unread = trackedIn(ctx, req.Directories(), p.env.Environ)
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
	}
	epoch, err := p.epoch()
	if err != nil {
		return nil, nil, err
	}
	req.StageEpoch = !epoch.Explicit() && p.parsed.StageArg("SOURCE_DATE_EPOCH")
	req.Epoch, req.NewEpoch, err = epoch.choose(p.pins.Epoch, func() (time.Time, error) { return p.commitTime(ctx) })
	if err != nil {
		return nil, nil, err
	}
	if req.Downloads, err = p.downloads(ctx, p.record); err == nil && p.options.Offline {
		err = p.offline(ctx, req)
	}
	return req, unread, err
}

// leave returns the paths that no context has, because they say what is built from it: the lockfile, the record of
// drift and the thresholds.
func (p *project) leave() ([]string, error) {
	var paths []string
	if p.lockfile != "" && !p.committed {
		paths = append(paths, p.lockfile)
	}
	if p.dockerfile.Path == "" {
		return paths, nil
	}
	settings, err := drift.FindSettings(filepath.Dir(p.dockerfile.Path))
	if settings != "" {
		paths = append(paths, settings)
	}
	return append(paths, drift.Path(p.dockerfile.Path)), err
}

// target returns the target to build, and the one that the lock declares, which ships. The error is a
// *[frontend.DeclaredTargetError] if the lock refuses the target.
func (p *project) target() (target, declared string, err error) {
	return p.parsed.DeclaredTarget(p.lock, frontend.TargetOptions{
		Lockfile: p.lockfile, Lockless: p.lockless(),
		Target: p.options.Target, Declares: p.options.DeclaresTarget, Ships: p.options.Ships,
	})
}

// lockless reports whether nothing can hold a lock, so that no target can be declared.
func (p *project) lockless() bool {
	return p.lockfile == "" || !p.lockExists && p.unwritable != nil
}

// checkAnnotations refuses annotations that the image will have no place for.
func (p *project) checkAnnotations() error {
	var asked []ocispec.Platform
	for _, name := range p.options.Platforms {
		platform, err := platforms.Parse(name)
		if err != nil {
			return fmt.Errorf("platform %q: %w", name, err)
		}
		asked = append(asked, platform)
	}
	return image.CheckAnnotations(p.options.Annotations, asked)
}

// A PolicyError says that a policy lies next to the Dockerfile, which docker build would apply.
type PolicyError struct{ Path string }

func (e *PolicyError) Error() string {
	return e.Path + ": docker build applies this policy, and kedge does not"
}

// checkPolicy returns a *PolicyError if there is a policy that the options do not ignore, unless kedge made
// it of a lock: kedge itself goes by the lock.
func (p *project) checkPolicy() error {
	rego, path := p.fetch.policy, policy.RegoPath(p.name)
	if p.dockerfile.Path != "" {
		path = policy.RegoPath(p.dockerfile.Path)
		rego = policy.Read(path)
	}
	if rego == nil {
		return nil
	}
	of, own := policy.Own(rego)
	if !own && !p.options.IgnorePolicy {
		return &PolicyError{Path: path}
	}
	p.ownPolicy = of
	return nil
}

// moved looks up the images of the lock that made was built from, and returns those whose tag names
// another image now. The lock stays as it is, and no image runs, not even a frontend's.
func (p *project) moved(ctx context.Context, made *builder.Result) ([]lock.Change, error) {
	used := func(s lock.Source) bool {
		_, locked := p.lock.Pin(s)
		return s.Kind == lock.Image && locked && made.Used[s]
	}
	req := p.inputs(p.lock.Keep(func(s lock.Source) bool { return !used(s) }))
	req.Locked = false
	for _, s := range p.lock.Sources() {
		if used(s) {
			req.Relock = append(req.Relock, s)
		}
	}
	if len(req.Relock) == 0 {
		return nil, nil
	}
	req, wait := p.env.display(req, "looking for newer images")
	found, err := p.env.Builder.LookUp(ctx, req)
	wait()
	if err != nil {
		return nil, fmt.Errorf("looking for newer images: %w", err)
	}
	return p.lock.Changes(found), nil
}
