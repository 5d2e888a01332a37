package network

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/internal/strictjson"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Annotations of an entry of the index that is a base image.
const (
	baseName = "dev.kedge.base" // its reference
	basePin  = "dev.kedge.pin"  // the digest that lockfiles have for it
)

// A Base is a base image that a lockfile pins.
type Base struct {
	Ref string
	Pin digest.Digest // of the index or the manifest in its registry
}

// A BaseImage is a base image for one platform.
type BaseImage struct {
	Platform ocispec.Platform
	Config   []byte // as the registry has it
	Layers   []ocispec.Descriptor
}

// KeepBase keeps a base image for a lockfile, so that a build can do without its registry. The cache gets the
// layers that it lacks from blobs. The image has a manifest of its own: a builder does not tell that of the
// registry.
func (c *Cache) KeepBase(ctx context.Context, lockfile string, b Base, images []BaseImage, blobs content.Provider) error {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, img := range images {
		config := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(img.Config), Size: int64(len(img.Config))}
		manifest, err := strictjson.Encode(ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: img.Layers,
		})
		if err != nil {
			return err
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(maxRestores)
		for _, d := range img.Layers {
			group.Go(func() error { return c.copyBlob(ctx, blobs, d) })
		}
		if err := group.Wait(); err != nil {
			return fmt.Errorf("keep image %q: %w", b.Ref, err)
		}
		for _, data := range [][]byte{img.Config, manifest} {
			if err := c.Put(digest.FromBytes(data), bytes.NewReader(data)); err != nil {
				return fmt.Errorf("keep image %q: %w", b.Ref, err)
			}
		}
		index.Manifests = append(index.Manifests, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(manifest), Size: int64(len(manifest)), Platform: &img.Platform,
		})
	}
	data, err := strictjson.Encode(index)
	if err != nil {
		return err
	}
	if err := c.Put(digest.FromBytes(data), bytes.NewReader(data)); err != nil {
		return fmt.Errorf("keep image %q: %w", b.Ref, err)
	}
	return c.list(ctx, ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(data), Size: int64(len(data)),
		Annotations: map[string]string{recordPath: lockfile, baseName: b.Ref, basePin: b.Pin.String()},
	})
}

func (c *Cache) copyBlob(ctx context.Context, blobs content.Provider, d ocispec.Descriptor) error {
	if f, err := c.Open(d.Digest); err == nil {
		return f.Close()
	}
	ra, err := blobs.ReaderAt(ctx, d)
	if err != nil {
		return err
	}
	defer ra.Close()
	return c.Put(d.Digest, io.NewSectionReader(ra, 0, ra.Size()))
}

// Base returns the digest of a base image in the cache, if all of it is there for every one of the platforms. It
// reads every file of the image.
func (c *Cache) Base(ctx context.Context, b Base, wanted []ocispec.Platform) (digest.Digest, bool) {
	return c.base(b, wanted, func(d digest.Digest) bool {
		f, err := c.Open(d)
		if err != nil || ctx.Err() != nil {
			return false
		}
		return f.Close() == nil
	})
}

// HasBase reports whether the cache has a file for each part of a base image. It does not read the layers.
func (c *Cache) HasBase(b Base, wanted []ocispec.Platform) bool {
	_, ok := c.base(b, wanted, c.Has)
	return ok
}

func (c *Cache) base(b Base, wanted []ocispec.Platform, has func(digest.Digest) bool) (digest.Digest, bool) {
	entries, err := c.readIndex()
	if err != nil {
		return "", false
	}
	for _, e := range entries {
		if e.Annotations[baseName] == b.Ref && e.Annotations[basePin] == b.Pin.String() && c.complete(e.Digest, wanted, has) {
			return e.Digest, true
		}
	}
	return "", false
}

// complete reports whether an index has a whole image for every one of the platforms.
func (c *Cache) complete(dgst digest.Digest, wanted []ocispec.Platform, has func(digest.Digest) bool) bool {
	var index ocispec.Index
	if c.readJSON(dgst, &index) != nil {
		return false
	}
	for _, p := range wanted {
		match, found := platforms.Only(p), false
		for _, m := range index.Manifests {
			if m.Platform == nil || !match.Match(*m.Platform) {
				continue
			}
			var manifest ocispec.Manifest
			if c.readJSON(m.Digest, &manifest) != nil {
				return false
			}
			found = true
			for _, d := range append(manifest.Layers, manifest.Config) {
				if !has(d.Digest) {
					return false
				}
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// maxManifest bounds the bytes of a manifest or an index.
const maxManifest = 64 << 20

func (c *Cache) readJSON(dgst digest.Digest, v any) error {
	data, err := c.read(dgst, maxManifest)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// children adds the digests of an entry of the index and of everything below it, as far as the cache has it.
func (c *Cache) children(desc ocispec.Descriptor, needed map[digest.Digest]bool) {
	if needed[desc.Digest] {
		return
	}
	needed[desc.Digest] = true
	var doc struct {
		Config            ocispec.Descriptor
		Layers, Manifests []ocispec.Descriptor
	}
	if c.readJSON(desc.Digest, &doc) != nil {
		return // a damaged manifest needs nothing
	}
	for _, d := range append(doc.Layers, doc.Config) {
		needed[d.Digest] = true
	}
	for _, d := range doc.Manifests {
		c.children(d, needed)
	}
}
