package kedge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/network"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A MissingError lists what an offline build needs and this machine does not have.
type MissingError struct {
	Downloads []network.Entry
	Sources   []lock.Source // images, and what ADD fetches, which is never kept
}

func (e *MissingError) Error() string {
	var lines []string
	for _, s := range e.Sources {
		lines = append(lines, fmt.Sprintf("%s %q is not on this machine", s.Kind, s.Ref))
	}
	for _, d := range e.Downloads {
		lines = append(lines, fmt.Sprintf("the download %s (%s) is not on this machine", d.URL, d.Digest))
	}
	return strings.Join(lines, "\n")
}

// offline has req fetch nothing: images come from the cache, and RUN from the record. It lists everything that is
// missing before anything runs.
func (p *project) offline(ctx context.Context, req *builder.Request) error {
	if req.Downloads == nil { // no RUN may download anything
		var err error
		if req.Downloads, err = p.downloads(ctx, &network.Record{}); err != nil {
			return err
		}
	}
	cache := req.Downloads.Cache
	wanted, err := p.platforms()
	if err != nil {
		return err
	}
	req.Offline = func(ctx context.Context, s lock.Source, pin string) (*builder.Layout, error) {
		dgst, ok := cache.Base(ctx, network.Base{Ref: s.Ref, Pin: digest.Digest(pin)}, wanted)
		if !ok {
			return nil, nil
		}
		return &builder.Layout{Dir: cache.Dir(), Digest: dgst}, nil
	}
	bodies := req.Downloads.Options
	bodies.Offline = true
	replayer := network.NewReplayer(bodies)
	_, err = replayer.Restore(ctx) // which reads them all: what is damaged is missing, too
	err = errors.Join(err, replayer.Close(ctx))
	var lost *network.MissingError
	if !errors.As(err, &lost) {
		return err
	}
	missing := &MissingError{Downloads: lost.Entries}
	for _, s := range p.lock.Sources() {
		pin, _ := p.lock.Pin(s)
		here := s.Kind == lock.Local || s.Kind == lock.Image && cache.HasBase(network.Base{Ref: s.Ref, Pin: digest.Digest(pin)}, wanted)
		if !here && p.parsed.MayName(s) {
			missing.Sources = append(missing.Sources, s)
		}
	}
	return missing
}

// platforms returns the platforms that are built for; without any, that of this machine.
func (p *project) platforms() ([]ocispec.Platform, error) {
	var all []ocispec.Platform
	for _, name := range p.options.Platforms {
		platform, err := platforms.Parse(name)
		if err != nil {
			return nil, fmt.Errorf("platform %q: %w", name, err)
		}
		all = append(all, platforms.Normalize(platform))
	}
	if len(all) == 0 {
		all = append(all, platforms.DefaultSpec())
		all[0].OS = "linux"
	}
	return all, nil
}

// keepBases has the cache of downloads keep the base images in used, for builds that are offline.
func (p *project) keepBases(ctx context.Context, req *builder.Request, f *lock.File, used map[lock.Source]bool) error {
	if p.record == nil && p.options.LockDownloads != RecordDownloads || req.Downloads == nil || req.Offline != nil {
		return nil
	}
	path, err := filepath.Abs(p.lockfile)
	if err != nil {
		return err
	}
	wanted, err := p.platforms()
	if err != nil {
		return err
	}
	var failed []error
	for _, s := range f.Sources() {
		pin, _ := f.Pin(s)
		base := network.Base{Ref: s.Ref, Pin: digest.Digest(pin)}
		if s.Kind != lock.Image || !used[s] || req.Downloads.Cache.HasBase(base, wanted) {
			continue
		}
		failed = append(failed, p.keepBase(ctx, req, f, s, path, base))
	}
	return errors.Join(failed...)
}

func (p *project) keepBase(ctx context.Context, req *builder.Request, f *lock.File, s lock.Source, path string, base network.Base) error {
	dir, err := os.MkdirTemp("", "kedge-base-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sent, err := local.NewStore(dir)
	if err != nil {
		return err
	}
	names := p.options.Platforms
	if len(names) == 0 {
		names = []string{""}
	}
	own := *req
	own.Lock = f
	var images []network.BaseImage
	for _, name := range names {
		img, err := p.env.Builder.Base(ctx, &own, s, name, sent)
		if err != nil {
			return err
		}
		images = append(images, network.BaseImage(img))
	}
	return req.Downloads.Cache.KeepBase(ctx, path, base, images, sent)
}
