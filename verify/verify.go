// Package verify judges whether two builds of one thing are the same, bit for bit. A difference is a
// Verdict, not an error.
package verify

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/diff"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/image"
	"github.com/opencontainers/go-digest"
)

// Verdict is what the comparison of two builds found.
type Verdict struct {
	Reproducible bool       `json:"reproducible"`
	Platforms    []Platform `json:"platforms"`
}

// Platform is the comparison of the two images for one platform.
type Platform struct {
	Platform string        `json:"platform"`
	First    digest.Digest `json:"first"` // of the manifest
	Second   digest.Digest `json:"second"`
	Same     bool          `json:"same"`
	// Layers are those that differ, lowest first. It is empty for images that differ in nothing but
	// their config.
	Layers []Layer `json:"layers,omitempty"`
}

// Layer is a layer that differs.
type Layer struct {
	Index       int           `json:"index"`           // from 0, the base image's included
	First       digest.Digest `json:"first,omitempty"` // empty where that build has no such layer
	Second      digest.Digest `json:"second,omitempty"`
	Line        int           `json:"line,omitempty"` // of the Dockerfile; 0 where unknown
	Instruction string        `json:"instruction,omitempty"`
	Paths       []diff.Path   `json:"paths"`
}

// Compare compares the images of two builds, which are in store. steps are, for each platform by its
// name, the instructions behind the layers above the base image, lowest first.
func Compare(ctx context.Context, store content.Provider, first, second image.Image, steps map[string][]frontend.Step) (*Verdict, error) {
	v := &Verdict{Reproducible: true}
	if len(first.Manifests) != len(second.Manifests) || len(first.Manifests) == 0 {
		return nil, fmt.Errorf("the builds cannot be compared: one is for %d platforms, the other for %d", len(first.Manifests), len(second.Manifests))
	}
	for i, a := range first.Manifests {
		b := second.Manifests[i]
		if platforms.Format(a.Platform) != platforms.Format(b.Platform) {
			return nil, fmt.Errorf("the builds cannot be compared: one is for %s, the other for %s", platforms.Format(a.Platform), platforms.Format(b.Platform))
		}
		p := Platform{
			Platform: platforms.Format(a.Platform),
			First:    a.Descriptor.Digest,
			Second:   b.Descriptor.Digest,
			Same:     a.Descriptor.Digest == b.Descriptor.Digest,
		}
		if !p.Same {
			v.Reproducible = false
			var err error
			if p.Layers, err = layers(ctx, store, a, b, steps[p.Platform]); err != nil {
				return nil, err
			}
		}
		v.Platforms = append(v.Platforms, p)
	}
	return v, nil
}

func layers(ctx context.Context, store content.Provider, a, b image.Manifest, steps []frontend.Step) ([]Layer, error) {
	var differing []Layer
	for i := range max(len(a.Layers), len(b.Layers)) {
		x, y := at(a.Layers, i), at(b.Layers, i)
		if x.DiffID == y.DiffID {
			continue
		}
		l := Layer{Index: i, First: x.Descriptor.Digest, Second: y.Descriptor.Digest}
		if base := len(a.Layers) - len(steps); base >= 0 && i >= base && i < len(a.Layers) {
			l.Line, l.Instruction = steps[i-base].Line, steps[i-base].Text
		}
		var err error
		if l.Paths, err = paths(ctx, store, x, y); err != nil {
			return nil, fmt.Errorf("comparing layer %d: %w", i, err)
		}
		if l.Paths == nil {
			l.Paths = []diff.Path{} // the same entries, in another order
		}
		differing = append(differing, l)
	}
	return differing, nil
}

func at(layers []image.Layer, i int) image.Layer {
	if i < len(layers) {
		return layers[i]
	}
	return image.Layer{}
}

func paths(ctx context.Context, store content.Provider, x, y image.Layer) ([]diff.Path, error) {
	first, err := open(ctx, store, x)
	if err != nil {
		return nil, err
	}
	defer first.Close()
	second, err := open(ctx, store, y)
	if err != nil {
		return nil, err
	}
	defer second.Close()
	return diff.Layers(first, second)
}

// open reads the tar of a layer; one that is not there is empty.
func open(ctx context.Context, store content.Provider, l image.Layer) (io.ReadCloser, error) {
	if l.DiffID == "" {
		return io.NopCloser(eof{}), nil
	}
	blob, err := store.ReaderAt(ctx, l.Descriptor)
	if err != nil {
		return nil, err
	}
	tar, err := compression.DecompressStream(content.NewReader(blob))
	if err != nil {
		blob.Close()
		return nil, err
	}
	return &layerReader{ReadCloser: tar, blob: blob}, nil
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

type layerReader struct {
	io.ReadCloser
	blob io.Closer
}

func (r *layerReader) Close() error {
	err := r.ReadCloser.Close()
	if berr := r.blob.Close(); err == nil {
		err = berr
	}
	return err
}
