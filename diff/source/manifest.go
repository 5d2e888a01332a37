package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxJSON bounds an index, manifest or config, in bytes. Registries take 4 MiB.
const maxJSON = 16 << 20

// maxIndexes is how deeply indexes may be nested.
const maxIndexes = 4

// blobs opens a blob by its digest and returns its size, in bytes.
type blobs func(v1.Hash) (io.ReadCloser, int64, error)

// section is a part of a file or another blob that must be closed.
type section struct {
	*io.SectionReader
	io.Closer
}

// A PlatformError says that an index has no image for a platform.
type PlatformError struct {
	Platform string
	Have     []string
}

func (e *PlatformError) Error() string {
	have := "it has none for any"
	if len(e.Have) > 0 {
		have = "it has " + strings.Join(e.Have, ", ")
	}
	return fmt.Sprintf("there is no image for %s: %s", e.Platform, have)
}

// read returns a JSON blob whose digest it has checked.
func (b blobs) read(h v1.Hash) ([]byte, error) {
	r, _, err := b(h)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := readAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading blob %s: %w", h, err)
	}
	got, _, err := v1.SHA256(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if got != h {
		return nil, fmt.Errorf("blob %s has the digest %s", h, got)
	}
	return data, nil
}

func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxJSON+1))
	if err == nil && len(data) > maxJSON {
		err = fmt.Errorf("more than %d bytes", maxJSON)
	}
	return data, err
}

func readFile(name string) ([]byte, error) { return wholefile.Read(name, maxJSON) }

// fromIndex returns the image of a layout's index.json that which names, by name or digest. An empty name
// selects the only image.
func (o Options) fromIndex(b blobs, data []byte, which string) (v1.Image, error) {
	index, err := v1.ParseIndexManifest(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("reading index.json: %w", err)
	}
	var entries []v1.Descriptor
	var names []string
	for _, d := range index.Manifests {
		// containerd's annotation has the whole name. The specification's often has only the tag.
		full, ref := d.Annotations["io.containerd.image.name"], d.Annotations[ocispec.AnnotationRefName]
		if full == "" {
			full = ref
		}
		if full != "" {
			names = append(names, fmt.Sprintf("%q", full))
		}
		if which == "" || which == ref || which == d.Digest.String() || sameName(which, full) {
			entries = append(entries, d)
		}
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("there is no image %q: there are %s", which, strings.Join(names, ", "))
	}
	// One image may have several names.
	same := true
	for _, d := range entries {
		same = same && d.Digest == entries[0].Digest
	}
	if same {
		entries = entries[:1]
	}
	if len(entries) > 1 {
		for _, d := range entries {
			if d.Platform == nil {
				return nil, fmt.Errorf("there are %d images: name one of %s", len(entries), strings.Join(names, ", "))
			}
		}
	}
	return o.choose(b, entries, 0)
}

// sameName reports whether Docker takes two names for the same image: app is docker.io/library/app:latest.
func sameName(a, b string) bool {
	x, err := reference.ParseNormalizedNamed(a)
	if err != nil {
		return a == b
	}
	y, err := reference.ParseNormalizedNamed(b)
	return a == b || err == nil && reference.TagNameOnly(x).String() == reference.TagNameOnly(y).String()
}

// choose returns the image for the platform from the entries of an index.
func (o Options) choose(b blobs, entries []v1.Descriptor, depth int) (v1.Image, error) {
	d, err := o.pick(entries, depth == 0)
	if err != nil {
		return nil, err
	}
	data, err := b.read(d.Digest)
	if err != nil {
		return nil, err
	}
	if isIndex(d.MediaType, data) {
		index, err := v1.ParseIndexManifest(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("reading index %s: %w", d.Digest, err)
		}
		if depth == maxIndexes {
			return nil, fmt.Errorf("indexes are nested more than %d deep", maxIndexes)
		}
		if len(index.Manifests) == 0 {
			p, _ := o.platform()
			return nil, &PlatformError{Platform: p.String()}
		}
		return o.choose(b, index.Manifests, depth+1)
	}
	img, err := fromManifest(b, d, data)
	if err != nil {
		return nil, err
	}
	return img, o.check(img)
}

// pick returns the entry for the platform. A single entry is chosen if it is alone in a layout or names no
// platform. Attestations are never chosen.
func (o Options) pick(entries []v1.Descriptor, alone bool) (v1.Descriptor, error) {
	if len(entries) == 1 && (alone || entries[0].Platform == nil) {
		return entries[0], nil
	}
	want, _ := o.platform()
	missing := &PlatformError{Platform: want.String()}
	for _, d := range entries {
		if o.platforms != nil && d.Platform != nil && !isAttestation(d) {
			*o.platforms = append(*o.platforms, *d.Platform)
		}
	}
	for _, d := range entries {
		if d.Platform == nil || isAttestation(d) {
			continue
		}
		if d.Platform.Satisfies(want) {
			return d, nil
		}
		missing.Have = append(missing.Have, d.Platform.String())
	}
	return v1.Descriptor{}, missing
}

func isAttestation(d v1.Descriptor) bool {
	o := ocispec.Descriptor{Annotations: d.Annotations}
	if d.Platform != nil {
		o.Platform = &ocispec.Platform{OS: d.Platform.OS, Architecture: d.Platform.Architecture}
	}
	return store.IsAttestation(o)
}

// check refuses an image for another platform than the requested one.
func (o Options) check(img v1.Image) error {
	want, asked := o.platform()
	if !asked {
		return nil
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	if p := config.Platform(); p == nil || !p.Satisfies(want) {
		e := &PlatformError{Platform: want.String()}
		if p != nil {
			e.Have = []string{p.String()}
		}
		return e
	}
	return nil
}

// isIndex reports whether a blob is an index, by its media type or, if an entry has none, by its content.
func isIndex(t types.MediaType, data []byte) bool {
	if t != "" {
		return t.IsIndex()
	}
	var keys struct{ Manifests *json.RawMessage }
	return json.Unmarshal(data, &keys) == nil && keys.Manifests != nil
}

// fromManifest returns the image of a manifest.
func fromManifest(b blobs, d v1.Descriptor, data []byte) (v1.Image, error) {
	manifest, err := v1.ParseManifest(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("reading manifest %s: %w", d.Digest, err)
	}
	config, err := b.read(manifest.Config.Digest)
	if err != nil {
		return nil, fmt.Errorf("reading the config: %w", err)
	}
	return partial.CompressedToImage(&core{b, d.MediaType, data, config, manifest})
}

// core implements partial.CompressedImageCore.
type core struct {
	blobs    blobs
	kind     types.MediaType
	raw      []byte
	config   []byte
	manifest *v1.Manifest
}

func (c *core) MediaType() (types.MediaType, error) { return c.kind, nil }
func (c *core) RawManifest() ([]byte, error)        { return c.raw, nil }
func (c *core) RawConfigFile() ([]byte, error)      { return c.config, nil }

func (c *core) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, d := range c.manifest.Layers {
		if d.Digest == h {
			return &blob{c.blobs, d}, nil
		}
	}
	return nil, fmt.Errorf("no layer %s", h)
}

// blob is a layer in its stored form.
type blob struct {
	blobs blobs
	desc  v1.Descriptor
}

func (b *blob) Digest() (v1.Hash, error)            { return b.desc.Digest, nil }
func (b *blob) Size() (int64, error)                { return b.desc.Size, nil }
func (b *blob) MediaType() (types.MediaType, error) { return b.desc.MediaType, nil }
func (b *blob) Compressed() (io.ReadCloser, error) {
	r, _, err := b.blobs(b.desc.Digest)
	return r, err
}

func digestOf(h v1.Hash) digest.Digest { return digest.Digest(h.String()) }

func descriptor(d ocispec.Descriptor) (v1.Descriptor, error) {
	h, err := v1.NewHash(d.Digest.String())
	return v1.Descriptor{MediaType: types.MediaType(d.MediaType), Digest: h, Size: d.Size}, err
}
