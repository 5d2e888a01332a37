package builder

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Base is a base image for one platform, as its registry has it.
type Base struct {
	Platform ocispec.Platform
	Config   []byte
	Layers   []ocispec.Descriptor
}

// Base has the daemon send the layers of an image that req's lock pins to a store. The platform may be empty: the
// builder's own.
func (b *Builder) Base(ctx context.Context, req *Request, src lock.Source, platform string, to content.Store) (Base, error) {
	var base Base
	own := &Request{Lock: req.Lock, Locked: true, Auth: req.Auth, Now: req.Now}
	j := newJob(b, own, Pass{})
	j.internal = true
	var constraints []llb.ImageOption
	if platform != "" {
		p, err := platforms.Parse(platform)
		if err != nil {
			return base, fmt.Errorf("platform %q: %w", platform, err)
		}
		base.Platform = p
		constraints = append(constraints, llb.Platform(p))
	}
	res, err := j.session(ctx, &export{Store: to}, func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		opt := imageOpt(nil)
		if platform != "" {
			opt.ImageOpt.Platform = &base.Platform
		}
		meta, err := c.ResolveSourceMetadata(ctx, frontend.Operation(src), opt)
		if err != nil {
			return nil, err
		}
		if meta.Image == nil {
			return nil, fmt.Errorf("image %q: the builder did not return its config", src.Ref)
		}
		base.Config = meta.Image.Config
		def, err := llb.Image(src.Ref, constraints...).Marshal(ctx)
		if err != nil {
			return nil, err
		}
		out, err := c.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB()})
		if err == nil {
			out.AddMeta(exptypes.ExporterImageConfigKey, base.Config)
		}
		return out, err
	})
	if err != nil {
		return base, fmt.Errorf("image %q: %w", src.Ref, err)
	}
	root, err := exported(res)
	if err != nil {
		return base, err
	}
	var config ocispec.Image
	if err := json.Unmarshal(base.Config, &config); err != nil {
		return base, fmt.Errorf("config of image %q: %w", src.Ref, err)
	}
	base.Platform = platforms.Normalize(config.Platform)
	if base.Layers, err = layersOf(ctx, to, root); err == nil && len(base.Layers) != len(config.RootFS.DiffIDs) {
		err = fmt.Errorf("image %q: the builder sent %d layers, and its config has %d", src.Ref, len(base.Layers), len(config.RootFS.DiffIDs))
	}
	return base, err
}

// layersOf returns the layers of an exported image for one platform.
func layersOf(ctx context.Context, from content.Provider, root ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	m, err := images.Manifest(ctx, from, root, platforms.All)
	if err != nil {
		return nil, err
	}
	layers := slices.Clone(m.Layers)
	for i := range layers {
		layers[i].Annotations = nil
	}
	return layers, nil
}

// An OfflineError lists sources that an offline build needs and that this machine does not have.
type OfflineError struct{ Sources []Unlocked }

func (e *OfflineError) Error() string {
	lines := make([]string, len(e.Sources))
	for i, s := range e.Sources {
		lines[i] = fmt.Sprintf("%s: %s %q is not on this machine", s.Where, s.Source.Kind, s.Source.Ref)
	}
	return strings.Join(lines, "\n")
}

// serveBases has the daemon take the images that the lock pins from this machine, as far as they are there.
func (j *job) serveBases(ctx context.Context) error {
	if j.req.Offline == nil || j.pass.first != nil {
		return nil
	}
	for _, s := range j.req.Lock.Sources() {
		if _, given := j.req.Contexts[contextName(s.Ref)]; given || s.Kind != lock.Image {
			continue
		}
		pin, _ := j.req.Lock.Pin(s)
		layout, err := j.req.Offline(ctx, s, pin)
		if err != nil {
			return err
		}
		if layout == nil {
			continue
		}
		if err := j.stageCalled(s.Ref); err != nil {
			return err
		}
		j.locals.serve(s.Ref, layout)
	}
	return nil
}

// takeBase notes the use of a locked image that comes from this machine, and reports whether it is one.
func (p *pins) takeBase(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := lock.Source{Kind: lock.Image, Ref: name}
	_, locked := p.file.Pin(s)
	if locked && p.offline {
		p.used[s] = true
		return true
	}
	return false
}

// keepOff notes that an offline build needs a source from elsewhere.
func (p *pins) keepOff(s lock.Source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away == nil {
		p.away = map[lock.Source]bool{}
	}
	p.away[s] = true
}

// offlineErr returns an *OfflineError if an offline build needs a source from elsewhere. The build ends at the
// first, so the error also lists what else the Dockerfile may name, and this machine does not have.
func (j *job) offlineErr() error {
	j.pins.mu.Lock()
	defer j.pins.mu.Unlock()
	if len(j.pins.away) == 0 {
		return nil
	}
	served := j.locals.all()
	missing := map[lock.Source]bool{}
	for s := range j.pins.away {
		missing[s] = true
	}
	for _, s := range j.req.Lock.Sources() {
		if s.Kind != lock.Local && served[s.Ref] == nil && j.req.Parsed != nil && j.req.Parsed.MayName(s) {
			missing[s] = true
		}
	}
	e := &OfflineError{}
	for s := range missing {
		line := j.req.line(s)
		e.Sources = append(e.Sources, Unlocked{Source: s, Line: line, Where: j.req.where(s, line)})
	}
	slices.SortFunc(e.Sources, compareUnlocked)
	return e
}

func compareUnlocked(a, b Unlocked) int {
	if a.Line != b.Line {
		return a.Line - b.Line
	}
	return strings.Compare(a.Source.Ref, b.Source.Ref)
}
