package builder

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/contentutil"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// LocalImages finds images of this machine by their names.
type LocalImages interface {
	// Has reports whether there is an image with a name, which is a full reference with a tag. It is
	// faster than Find.
	Has(ctx context.Context, name string) (bool, error)
	// Find returns the layout with the image that has a name, or nil if there is none.
	Find(ctx context.Context, name string) (*Layout, error)
	// Places lists where Find looks, in words for the user.
	Places() []string
}

// A NowhereError says that an image is neither in its registry nor on this machine.
type NowhereError struct {
	Places []string // of this machine, where the image was looked for
	Err    error
}

func (e *NowhereError) Error() string { return e.Err.Error() }

func (e *NowhereError) Unwrap() error { return e.Err }

// A StageNameError says that a stage has the name of an image of this machine that the build uses. BuildKit
// could not tell the two apart.
type StageNameError struct{ Where, Name string }

func (e *StageNameError) Error() string {
	return fmt.Sprintf("%s: build stage %q has the name of an image of this machine that the build uses", e.Where, e.Name)
}

// registryPatience bounds how long a registry may take to answer for an image that this machine has.
const registryPatience = 5 * time.Second

// locals are the images of this machine that a build uses. The daemon gets them as named contexts, through
// the session.
type locals struct {
	finder LocalImages // may be nil

	mu      sync.Mutex
	served  map[string]*Layout      // by name in full
	waiting map[string]*pb.Platform // this machine has the image, and its registry may have it
	asked   map[string]bool         // the registry, about the name
	err     error
}

// localStore is the daemon's name for all of them.
const localStore = "kedge-local"

// contextName returns the name of the named context that replaces an image.
func contextName(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return strings.TrimSuffix(reference.FamiliarString(named), ":latest")
}

// withLocals calls ask, which has the frontend read the Dockerfile, again and again, as long as that needs
// images of this machine that the daemon does not have yet.
func (j *job) withLocals(ctx context.Context, c gateway.Client, ask func() error) error {
	if err := j.serveLocked(ctx); err != nil {
		return err
	}
	if err := j.serveBases(ctx); err != nil {
		return err
	}
	for {
		failed := ask()
		if failed == nil || ctx.Err() != nil {
			return failed
		}
		again, err := j.askRegistries(ctx, c)
		switch {
		case err != nil:
			return err
		case again:
		case j.req.Local != nil && j.pins.unanswered():
			return &NowhereError{Places: j.req.Local.Places(), Err: failed}
		default:
			return failed
		}
	}
}

// serveLocked finds the images that the lock has as local. It leaves out those that are not there: the build
// may not need them.
func (j *job) serveLocked(ctx context.Context) error {
	l := &j.locals
	if l.finder == nil || j.pass.first != nil {
		return nil
	}
	for _, s := range j.pins.lockedLocals() {
		if _, given := j.req.Contexts[contextName(s.Ref)]; given || j.stageCalled(s.Ref) != nil {
			continue
		}
		layout, err := l.finder.Find(ctx, s.Ref)
		if err != nil {
			return err
		}
		if layout != nil {
			l.serve(s.Ref, layout)
		}
	}
	return nil
}

// skip says that an image is looked up in its registry alone.
func (l *locals) skip(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked == nil {
		l.asked = map[string]bool{}
	}
	l.asked[name] = true
}

// stageCalled returns a *StageNameError if a stage has the name of the context that replaces an image.
func (j *job) stageCalled(name string) error {
	if j.req.Parsed == nil {
		return nil
	}
	for _, s := range j.req.Parsed.Stages {
		if s.Name == contextName(name) {
			return &StageNameError{Where: fmt.Sprintf("%s:%d", j.req.Dockerfile, s.Line), Name: s.Name}
		}
	}
	return nil
}

func (l *locals) serve(name string, layout *Layout) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.served == nil {
		l.served = map[string]*Layout{}
	}
	l.served[name] = layout
}

// all returns the images that are served, by name.
func (l *locals) all() map[string]*Layout {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.served)
}

// wait decides about an image without a pin. It reports whether the image is on this machine, so that its
// registry is asked first, with patience.
func (j *job) wait(ctx context.Context, name string, platform *pb.Platform) bool {
	l := &j.locals
	l.mu.Lock()
	asked := l.finder == nil || l.asked[name]
	l.mu.Unlock()
	if asked {
		return false
	}
	has, err := l.finder.Has(ctx, name)
	if ctx.Err() != nil {
		return false // another look-up has failed, and its error is the one to show
	}
	if has && err == nil {
		err = j.stageCalled(name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.err = cmp.Or(l.err, err)
		return true
	}
	if !has {
		return false
	}
	if l.waiting == nil {
		l.waiting = map[string]*pb.Platform{}
	}
	l.waiting[name] = platform
	return true
}

// askRegistries asks the registries of the images that wait, and has the build use those of this machine
// that no registry has. It reports whether there were any.
func (j *job) askRegistries(ctx context.Context, c gateway.Client) (bool, error) {
	l := &j.locals
	l.mu.Lock()
	waiting, err := l.waiting, l.err
	l.waiting = nil
	if l.asked == nil {
		l.asked = map[string]bool{}
	}
	for name := range waiting {
		l.asked[name] = true
	}
	l.mu.Unlock()
	if err != nil {
		return false, err
	}
	for _, name := range slices.Sorted(maps.Keys(waiting)) {
		src := lock.Source{Kind: lock.Image, Ref: name}
		patient, cancel := context.WithTimeout(ctx, registryPatience)
		opt := imageOpt(waiting[name])
		opt.LogName = "look up " + name
		_, err := c.ResolveSourceMetadata(patient, frontend.Operation(src), opt)
		cancel()
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err == nil {
			continue
		}
		layout, err := l.finder.Find(ctx, name)
		if err != nil {
			return false, err
		}
		if layout != nil {
			l.serve(name, layout)
			j.pins.answered(src)
		}
	}
	return len(waiting) > 0, nil
}

// lockLocals pins the images of this machine in uses. An image that was rebuilt moves its pin.
func (j *job) lockLocals(uses []frontend.Use) {
	served := j.locals.all()
	for _, use := range uses {
		name, sum, ok := frontend.LayoutImage(use.Op)
		if layout := served[name]; ok && layout != nil && layout.Digest.String() == sum && !j.pins.takeBase(name) {
			j.pins.takeLocal(lock.Source{Kind: lock.Local, Ref: name}, sum)
		}
	}
}

// options adds the named contexts that replace images.
func (l *locals) options(opts map[string]string) {
	for name, layout := range l.all() {
		if key := "context:" + contextName(name); opts[key] == "" {
			opts[key] = "oci-layout://" + localStore + "@" + layout.Digest.String()
		}
	}
}

// store returns the content of the images that are served, also of those that are added later.
func (l *locals) store() content.Store { return &localContent{contentutil.NewBuffer(), l} }

type localContent struct {
	content.Store
	locals *locals
}

// layouts returns the stores of the images.
func (s *localContent) layouts() []layoutStore {
	var all []layoutStore
	seen := map[string]bool{}
	for _, layout := range s.locals.all() {
		if !seen[layout.Dir] {
			seen[layout.Dir] = true
			all = append(all, layoutStore{dir: layout.Dir})
		}
	}
	return all
}

// Info implements content.InfoProvider.
func (s *localContent) Info(ctx context.Context, dgst digest.Digest) (content.Info, error) {
	err := fmt.Errorf("blob %s: %w", dgst, errdefs.ErrNotFound)
	for _, layout := range s.layouts() {
		var info content.Info
		if info, err = layout.Info(ctx, dgst); err == nil {
			return info, nil
		}
	}
	return content.Info{}, err
}

// ReaderAt implements content.Provider.
func (s *localContent) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	err := fmt.Errorf("blob %s: %w", desc.Digest, errdefs.ErrNotFound)
	for _, layout := range s.layouts() {
		var r content.ReaderAt
		if r, err = layout.ReaderAt(ctx, desc); err == nil {
			return r, nil
		}
	}
	return nil, err
}

// lockedLocals returns the images that the lock has as local, and not as those of a registry.
func (p *pins) lockedLocals() []lock.Source {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []lock.Source
	for _, s := range p.file.Sources() {
		if _, registry := p.file.Pin(lock.Source{Kind: lock.Image, Ref: s.Ref}); s.Kind == lock.Local && !registry {
			all = append(all, s)
		}
	}
	return all
}

// takeLocal pins an image of this machine, or moves its pin. If no pin may be added, it records that.
func (p *pins) takeLocal(s lock.Source, found string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used[s] = true
	pin, _ := p.file.Pin(s)
	switch {
	case pin == found:
	case p.locked:
		p.unlocked[s] = Unlocked{Source: s, Locked: pin, Found: found}
	default:
		p.file = p.file.Keep(func(other lock.Source) bool { return other != s })
		_ = p.file.Add(s, found) // the digest of a layout is valid
	}
}

// lostLocal records that an image that the lock has as local is not on this machine, and reports whether it
// is such an image.
func (p *pins) lostLocal(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := lock.Source{Kind: lock.Local, Ref: name}
	pin, ok := p.file.Pin(s)
	if ok {
		p.unlocked[s] = Unlocked{Source: s, Locked: pin}
	}
	return ok
}

// ask and answered record that the daemon asks a registry for an image, and that it need not any more.
func (p *pins) ask(s lock.Source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asking == nil {
		p.asking = map[lock.Source]bool{}
	}
	p.asking[s] = s.Kind == lock.Image
}

func (p *pins) answered(s lock.Source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.asking, s)
}

// unanswered reports whether a registry did not have an image.
func (p *pins) unanswered() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(slices.Collect(maps.Values(p.asking)), true)
}

func (p *pins) probing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.probed != nil
}
