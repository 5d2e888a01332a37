// Package store keeps images on disk: their blobs, their names, and records about their layers that save
// later builds work.
package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/internal/strictjson"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An Image is an image in a Store. It must not be changed.
type Image struct {
	// Descriptor is the top of the image: the manifest of an image for one platform, or the index of one
	// for several. It has annotations only until the image is read back from the store.
	Descriptor ocispec.Descriptor
	// Attested is the index with the attestations, which differs from build to build. It is zero if there
	// are none, and for an image that is read back: there the index is Descriptor.
	Attested ocispec.Descriptor
	// Manifests are the images of the platforms, sorted by platform.
	Manifests []Manifest
}

// A Manifest is the image of one platform.
type Manifest struct {
	Platform   ocispec.Platform
	Descriptor ocispec.Descriptor
	Config     digest.Digest
	Created    time.Time // from the config; zero if it has none
	Layers     []Layer   // lowest first
}

// A Layer is one layer of a Manifest.
type Layer struct {
	Descriptor ocispec.Descriptor
	DiffID     digest.Digest // of the uncompressed tar
	// CreatedBy is the instruction that made the layer, as the config's history has it. It is empty if that
	// does not say, and for an image that is not read back from the store.
	CreatedBy string
	// Raw is the digest of the raw layer that the layer was made from. It is empty for layers of a base
	// image, and for an image that is read back from the store.
	Raw digest.Digest
	// Normalised lists the paths that rules dropped or changed, sorted, by rule id, as far as the store
	// remembers.
	Normalised map[string][]string
}

// Normalised returns the paths that rules dropped or changed, sorted, by platform and rule id, as far as
// the store remembers.
func (i Image) Normalised() map[string]map[string][]string {
	all := map[string]map[string][]string{}
	for _, m := range i.Manifests {
		for _, l := range m.Layers {
			for rule, paths := range l.Normalised {
				platform := platforms.Format(m.Platform)
				if all[platform] == nil {
					all[platform] = map[string][]string{}
				}
				for _, p := range paths {
					all[platform][rule] = append(all[platform][rule], "/"+p)
				}
			}
		}
		for _, paths := range all[platforms.Format(m.Platform)] {
			slices.Sort(paths)
		}
	}
	return all
}

// TargetLabel is the label of an image whose target the lock does not declare. Its value is the target.
const TargetLabel = "dev.kedge.target"

// Target returns the target that an image is of if its lock does not declare that, and "" for any other image.
func (s *Store) Target(ctx context.Context, desc ocispec.Descriptor) (string, error) {
	img, err := s.Image(ctx, desc)
	if err != nil {
		return "", err
	}
	for _, m := range img.Manifests {
		var mf ocispec.Manifest
		if err := ReadDocument(ctx, s, m.Descriptor, &mf); err != nil {
			return "", err
		}
		var cfg ocispec.Image
		if err := ReadDocument(ctx, s, mf.Config, &cfg); err != nil {
			return "", err
		}
		if target := cfg.Config.Labels[TargetLabel]; target != "" {
			return target, nil
		}
	}
	return "", nil
}

// Described returns Top, with the platform if the image is for one.
func (i Image) Described() ocispec.Descriptor {
	d := i.Top()
	if len(i.Manifests) == 1 && d.Digest == i.Manifests[0].Descriptor.Digest {
		d.Platform = &i.Manifests[0].Platform
	}
	return d
}

// Top returns the descriptor to deliver and name: the index with the attestations if there are any, else
// Descriptor.
func (i Image) Top() ocispec.Descriptor {
	if i.Attested.Digest != "" {
		return i.Attested
	}
	return i.Descriptor
}

// MaxDocument bounds manifests, indexes and configs, in bytes. Registries take 4 MiB.
const MaxDocument = 8 << 20

// MaxStatement bounds an attestation, in bytes: the longest that BuildKit makes, with room for its head.
const MaxStatement = 96 << 20

// Image reads the image whose top is desc, a manifest or an index. The error wraps errdefs.ErrNotFound if
// a blob is missing. Image does not look at layer blobs.
func (s *Store) Image(ctx context.Context, desc ocispec.Descriptor) (Image, error) {
	desc = Plain(desc)
	img := Image{Descriptor: desc}
	if images.IsManifestType(desc.MediaType) {
		m, err := s.manifest(ctx, desc)
		if err != nil {
			return Image{}, err
		}
		img.Manifests = []Manifest{m}
		return img, nil
	}
	if !images.IsIndexType(desc.MediaType) {
		return Image{}, fmt.Errorf("image %s: media type %q is neither a manifest nor an index", desc.Digest, desc.MediaType)
	}
	var index ocispec.Index
	if err := ReadDocument(ctx, s, desc, &index); err != nil {
		return Image{}, fmt.Errorf("read index %s: %w", desc.Digest, err)
	}
	for _, d := range index.Manifests {
		if IsAttestation(d) {
			continue
		}
		m, err := s.manifest(ctx, d)
		if err != nil {
			return Image{}, err
		}
		img.Manifests = append(img.Manifests, m)
	}
	return img, nil
}

// manifest reads a manifest and the records of its layers.
func (s *Store) manifest(ctx context.Context, desc ocispec.Descriptor) (Manifest, error) {
	m, err := readManifest(ctx, s, desc)
	for i := range m.Layers {
		l := &m.Layers[i]
		if r, ok := s.readRecord(diffName(l.DiffID)); ok && r.Digest == l.Descriptor.Digest {
			l.Normalised = r.Normalised
		}
	}
	return m, err
}

func readManifest(ctx context.Context, from content.Provider, desc ocispec.Descriptor) (Manifest, error) {
	var mf ocispec.Manifest
	if err := ReadDocument(ctx, from, desc, &mf); err != nil {
		return Manifest{}, fmt.Errorf("read manifest %s: %w", desc.Digest, err)
	}
	var cfg ocispec.Image
	if err := ReadDocument(ctx, from, mf.Config, &cfg); err != nil {
		return Manifest{}, fmt.Errorf("read config %s: %w", mf.Config.Digest, err)
	}
	if len(mf.Layers) != len(cfg.RootFS.DiffIDs) {
		return Manifest{}, fmt.Errorf("manifest %s has %d layers, its config %d", desc.Digest, len(mf.Layers), len(cfg.RootFS.DiffIDs))
	}
	m := Manifest{Platform: platforms.Normalize(cfg.Platform), Config: mf.Config.Digest}
	if desc.Platform != nil {
		m.Platform = platforms.Normalize(*desc.Platform)
	}
	if cfg.Created != nil {
		m.Created = *cfg.Created
	}
	m.Descriptor = Plain(desc)
	by := createdBy(cfg.History)
	for i, l := range mf.Layers {
		layer := Layer{Descriptor: l, DiffID: cfg.RootFS.DiffIDs[i]}
		if len(by) == len(mf.Layers) {
			layer.CreatedBy = by[i]
		}
		m.Layers = append(m.Layers, layer)
	}
	return m, nil
}

// createdBy returns the instructions of a history that made a layer.
func createdBy(history []ocispec.History) []string {
	var by []string
	for _, h := range history {
		if !h.EmptyLayer {
			by = append(by, h.CreatedBy)
		}
	}
	return by
}

// ReadDocument reads the JSON blob of desc into v, and checks its digest. It refuses duplicate keys.
func ReadDocument(ctx context.Context, from content.Provider, desc ocispec.Descriptor, v any) error {
	data, err := ReadBlob(ctx, from, desc, MaxDocument)
	if err != nil {
		return err
	}
	if _, err := strictjson.Decode(data); err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// ReadBlob reads a blob of at most limit bytes, and checks its digest.
func ReadBlob(ctx context.Context, from content.Provider, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("digest %q: %w", desc.Digest, err)
	}
	if desc.Size > limit {
		return nil, fmt.Errorf("%d bytes, more than %d", desc.Size, limit)
	}
	ra, err := from.ReaderAt(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer ra.Close()
	if ra.Size() != desc.Size {
		return nil, fmt.Errorf("%d bytes, want %d: %w", ra.Size(), desc.Size, errdefs.ErrFailedPrecondition)
	}
	data := make([]byte, desc.Size)
	if _, err := ra.ReadAt(data, 0); err != nil {
		return nil, err
	}
	if got := desc.Digest.Algorithm().FromBytes(data); got != desc.Digest {
		return nil, fmt.Errorf("content has digest %s: %w", got, errdefs.ErrFailedPrecondition)
	}
	return data, nil
}

// Plain returns desc with only those fields that find the blob.
func Plain(desc ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, URLs: desc.URLs}
}

// Statements returns the attestations about m in an index. There are none if the index is zero.
func (s *Store) Statements(ctx context.Context, index ocispec.Descriptor, m Manifest) ([]ocispec.Descriptor, error) {
	if index.Digest == "" {
		return nil, nil
	}
	var top ocispec.Index
	if err := ReadDocument(ctx, s, index, &top); err != nil {
		return nil, err
	}
	var all []ocispec.Descriptor
	for _, d := range top.Manifests {
		if d.Annotations["vnd.docker.reference.digest"] != m.Descriptor.Digest.String() {
			continue
		}
		var mf ocispec.Manifest
		if err := ReadDocument(ctx, s, d, &mf); err != nil {
			return nil, err
		}
		all = append(all, mf.Layers...)
	}
	return all, nil
}

// IsAttestation reports whether a manifest in an index is not an image but an attestation about one.
// See https://github.com/moby/buildkit/blob/v0.34.2/docs/attestations/attestation-storage.md.
func IsAttestation(desc ocispec.Descriptor) bool {
	return desc.Annotations["vnd.docker.reference.type"] == "attestation-manifest" ||
		desc.Platform != nil && desc.Platform.OS == "unknown" && desc.Platform.Architecture == "unknown"
}

// walk calls fn once for every blob that desc needs, parents before children. It passes over the children
// of a blob that is missing.
func (s *Store) walk(ctx context.Context, desc ocispec.Descriptor, fn func(ocispec.Descriptor) error) error {
	seen := map[digest.Digest]bool{}
	var visit func(ocispec.Descriptor) error
	visit = func(desc ocispec.Descriptor) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if seen[desc.Digest] {
			return nil
		}
		seen[desc.Digest] = true
		if err := fn(desc); err != nil {
			return err
		}
		children, err := images.Children(ctx, s, desc)
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		for _, c := range children {
			if err := visit(c); err != nil {
				return err
			}
		}
		return nil
	}
	return visit(desc)
}
