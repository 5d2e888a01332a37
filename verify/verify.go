// Package verify judges whether two builds of one thing are the same, bit for bit. A difference is a
// Verdict, not an error.
package verify

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/cause"
	"github.com/kedge-build/kedge/diff"
	"github.com/kedge-build/kedge/explain"
	"github.com/kedge-build/kedge/fix"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
)

// Verdict is what the comparison of two builds found.
type Verdict struct {
	Reproducible bool
	// Varied are the respects in which the second build differed on purpose.
	Varied    []string
	Platforms []Platform
	// Patch is what to write instead: those of all layers as one unified diff of the Dockerfile.
	Patch string
}

// Platform is the comparison of the two images for one platform.
type Platform struct {
	Platform string
	First    digest.Digest // of the manifest
	Second   digest.Digest
	Same     bool
	// Layers are those that differ, lowest first. It is empty for images that differ in nothing but
	// their config.
	Layers []Layer
}

// Layer is a layer that differs.
type Layer struct {
	Index       int           // from 0, the base image's included
	First       digest.Digest // empty where that build has no such layer
	Second      digest.Digest
	Line        int // of the Dockerfile; 0 where unknown
	Instruction string
	// From are the instructions that made what the layer copies from other stages.
	From []Origin
	// Caches are the targets of cache mounts with which it was made, and which the second build found empty.
	Caches []string
	Paths  []explain.File
	// Patch is what to write instead, as a unified diff of the Dockerfile; empty where no change of one
	// line does it.
	Patch string
}

// Origin is an instruction of the Dockerfile.
type Origin struct {
	Line        int
	Instruction string
}

// Builds are what Compare is told of the two builds.
type Builds struct {
	// Steps are, for each platform by its name, the instructions behind the layers above the base
	// image, lowest first.
	Steps      map[string][]frontend.Step
	Dockerfile []byte
	Name       string // of the Dockerfile, in patches
	Varied     []string
	Hints      cause.Hints
}

// Compare compares the images of two builds, which from has, and explains what differs.
func Compare(ctx context.Context, from content.Provider, first, second store.Image, b Builds) (*Verdict, error) {
	v := &Verdict{Reproducible: true, Varied: b.Varied}
	var steps []fix.Step
	if len(first.Manifests) != len(second.Manifests) || len(first.Manifests) == 0 {
		return nil, fmt.Errorf("the builds cannot be compared: one is for %d platforms, the other for %d", len(first.Manifests), len(second.Manifests))
	}
	for i, x := range first.Manifests {
		y := second.Manifests[i]
		if platforms.Format(x.Platform) != platforms.Format(y.Platform) {
			return nil, fmt.Errorf("the builds cannot be compared: one is for %s, the other for %s", platforms.Format(x.Platform), platforms.Format(y.Platform))
		}
		p := Platform{
			Platform: platforms.Format(x.Platform),
			First:    x.Descriptor.Digest,
			Second:   y.Descriptor.Digest,
			Same:     x.Descriptor.Digest == y.Descriptor.Digest,
		}
		if !p.Same {
			v.Reproducible = false
			var err error
			if p.Layers, err = b.layers(ctx, from, x, y); err != nil {
				return nil, err
			}
			for i := range p.Layers {
				steps = append(steps, b.patch(&p.Layers[i])...)
			}
		}
		v.Platforms = append(v.Platforms, p)
	}
	v.Patch, _ = fix.Patch(b.Name, b.Dockerfile, steps...)
	return v, nil
}

func (b *Builds) layers(ctx context.Context, from content.Provider, first, second store.Manifest) ([]Layer, error) {
	var differing []Layer
	steps := b.Steps[platforms.Format(first.Platform)]
	for i := range max(len(first.Layers), len(second.Layers)) {
		x, y := at(first.Layers, i), at(second.Layers, i)
		if x.DiffID == y.DiffID {
			continue
		}
		l := Layer{Index: i, First: x.Descriptor.Digest, Second: y.Descriptor.Digest}
		if base := len(first.Layers) - len(steps); base >= 0 && i >= base && i < len(first.Layers) {
			step := steps[i-base]
			l.Line, l.Instruction, l.Caches = step.Line, step.Text, slices.Clone(step.Caches)
			for _, s := range step.From {
				l.From = append(l.From, Origin{s.Line, s.Text})
				l.Caches = append(l.Caches, s.Caches...)
			}
		}
		paths, err := diff.Layers(ctx, blob(ctx, from, x), blob(ctx, from, y))
		if err != nil {
			return nil, fmt.Errorf("comparing layer %d: %w", i, err)
		}
		hints := b.Hints
		hints.Caches = l.Caches
		l.Paths, err = explain.Files(ctx, []diff.Blob{blob(ctx, from, x)}, []diff.Blob{blob(ctx, from, y)}, paths, hints)
		if err != nil {
			return nil, fmt.Errorf("comparing layer %d: %w", i, err)
		}
		differing = append(differing, l)
	}
	return differing, nil
}

func at(layers []store.Layer, i int) store.Layer {
	if i < len(layers) {
		return layers[i]
	}
	return store.Layer{}
}

// patch says in l what to write instead of the instruction that made it, or of one that made what it
// copies, and returns that step.
func (b *Builds) patch(l *Layer) []fix.Step {
	var causes []cause.Cause
	for _, p := range l.Paths {
		causes = append(causes, p.Causes...)
	}
	for _, made := range append([]Origin{{Line: l.Line}}, l.From...) {
		step := fix.Step{Line: made.Line, Causes: causes}
		if patch, ok := fix.Patch(b.Name, b.Dockerfile, step); ok {
			l.Patch = patch
			return []fix.Step{step}
		}
	}
	return nil
}

// blob returns a layer for comparison. The layer that at returns for an image that has none is empty.
func blob(ctx context.Context, from content.Provider, l store.Layer) diff.Blob {
	if l.DiffID == "" {
		return diff.Blob{}
	}
	return diff.Blob{
		Open:   func() (io.ReadCloser, error) { return store.OpenBlob(ctx, from, l.Descriptor) },
		Digest: l.Descriptor.Digest, DiffID: l.DiffID,
	}
}
