// Package verify compares two builds of the same thing, bit for bit. A difference is a Verdict, not an
// error.
package verify

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/cause"
	"github.com/kedge-build/kedge/diff"
	"github.com/kedge-build/kedge/explain"
	"github.com/kedge-build/kedge/fix"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/store"
	"github.com/kedge-build/kedge/trace"
	"github.com/opencontainers/go-digest"
)

// Verdict is the result of comparing two builds.
type Verdict struct {
	// Reproducible is set if the builds agree, and no file is certain to have their day.
	Reproducible bool
	// Varied lists the ways in which the second build differed on purpose.
	Varied    []string
	Platforms []Platform
	// Patch is a unified diff of the Dockerfile with the patches of all layers.
	Patch string
	// NotCovered lists what two builds that agree do not show, in the order of the Dockerfile.
	NotCovered []Gap
	// Builders are the two builders if the builds ran on two, the first one's first. Otherwise it is empty.
	Builders []Builder
}

// Builder describes a builder. What it does not say is empty.
type Builder struct {
	Name     string // or address
	Version  string // of BuildKit
	Platform string
	Kernel   string // the release of Linux
}

// GapKind says what a verdict does not cover.
type GapKind string

// The values of GapKind.
const (
	Download   GapKind = "download"    // a RUN may have downloaded what the lock does not pin
	CacheMount GapKind = "cache-mount" // a RUN has a cache mount, and only some of its contents were tried
	Secret     GapKind = "secret"      // a RUN read a secret, which both builds had
	GitDir     GapKind = "git-dir"     // the context's .git is in the image, and another clone may have another one
	Common     GapKind = "common"      // a RUN follows what both builds had in common: the CPU, or the day in a seed
)

// Gap is one thing that a verdict does not cover.
type Gap struct {
	Kind GapKind
	Line int    // of the Dockerfile; 0 if unknown
	Text string // what is not covered, in a line
}

// Platform is the comparison of the two images for one platform.
type Platform struct {
	Platform string
	First    digest.Digest // of the manifest
	Second   digest.Digest
	Same     bool
	// Layers lists the layers that differ, lowest first. It is empty if only the configs differ.
	Layers []Layer
	// Traces are files that both builds agree on, and that another day or machine would change.
	Traces []trace.Finding
}

// Layer is a layer that differs.
type Layer struct {
	Index       int           // from 0, with the base image's layers
	First       digest.Digest // empty if that build has no such layer
	Second      digest.Digest
	Line        int // of the Dockerfile; 0 if unknown
	Instruction string
	// From lists the instructions in other stages that made the files which the layer copies.
	From []Origin
	// Caches lists the targets of cache mounts that the first build used and the second build found empty.
	Caches []string
	Paths  []explain.File
	// Patch is a unified diff of the Dockerfile that removes the difference, empty if no change of one
	// line does.
	Patch string
}

// Origin is an instruction of the Dockerfile.
type Origin struct {
	Line        int
	Instruction string
}

// Builds describes the two builds to Compare.
type Builds struct {
	// Steps lists the instructions of the layers above the base image, lowest first, by platform.
	Steps      map[string][]frontend.Step
	Dockerfile []byte
	Name       string // of the Dockerfile, in patches
	Varied     []string
	Hints      cause.Hints
	// Traces are what the first build's image tells about its day and its machine, by platform.
	Traces     map[string][]trace.Finding
	NotCovered []Gap
}

// Compare compares the images of two builds, whose blobs from provides, and explains the differences. It
// checks the digest and the diffID of every layer that it reads.
func Compare(ctx context.Context, from content.Provider, first, second store.Image, b Builds) (*Verdict, error) {
	v := &Verdict{Reproducible: true, Varied: b.Varied, NotCovered: b.NotCovered}
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
		for _, f := range p.trace(b.Traces[p.Platform]) {
			v.Reproducible = false
			steps = append(steps, fix.Step{Line: f.Line, Causes: []cause.Cause{{Kind: cause.Timestamp, Clock: cause.BuildClock, Format: f.What}}})
		}
		v.Platforms = append(v.Platforms, p)
	}
	v.Patch, _ = fix.Patch(b.Name, b.Dockerfile, steps...)
	return v, nil
}

// trace adds findings to p, except for those in files that differ anyway. It returns the certain ones.
func (p *Platform) trace(found []trace.Finding) (certain []trace.Finding) {
	differ := map[int]map[string]bool{}
	for _, l := range p.Layers {
		differ[l.Index] = map[string]bool{}
		for _, f := range l.Paths {
			differ[l.Index]["/"+strings.TrimPrefix(f.Path.Path, "/")] = true
		}
	}
	for _, f := range found {
		if differ[f.Layer][f.Path] {
			continue
		}
		p.Traces = append(p.Traces, f)
		if f.Certain {
			certain = append(certain, f)
		}
	}
	return certain
}

func (b *Builds) layers(ctx context.Context, from content.Provider, first, second store.Manifest) ([]Layer, error) {
	var differing []Layer
	steps := b.Steps[platforms.Format(first.Platform)]
	for i := range max(len(first.Layers), len(second.Layers)) {
		x, y := layerAt(first.Layers, i), layerAt(second.Layers, i)
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
			slices.Sort(l.Caches)
			l.Caches = slices.Compact(l.Caches)
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

func layerAt(layers []store.Layer, i int) store.Layer {
	if i < len(layers) {
		return layers[i]
	}
	return store.Layer{}
}

// patch sets the patch of l: for the instruction that made it, or else for one that made files which it
// copies. It returns the patched step.
func (b *Builds) patch(l *Layer) []fix.Step {
	var causes []cause.Cause
	for _, p := range l.Paths {
		causes = append(causes, p.Causes...)
	}
	for _, origin := range append([]Origin{{Line: l.Line}}, l.From...) {
		step := fix.Step{Line: origin.Line, Causes: causes}
		if patch, ok := fix.Patch(b.Name, b.Dockerfile, step); ok {
			l.Patch = patch
			return []fix.Step{step}
		}
	}
	return nil
}

// blob returns a layer for comparison, empty for the zero Layer.
func blob(ctx context.Context, from content.Provider, l store.Layer) diff.Blob {
	if l.DiffID == "" {
		return diff.Blob{}
	}
	return diff.Blob{
		Open:   func() (io.ReadCloser, error) { return store.OpenBlob(ctx, from, l.Descriptor) },
		Digest: l.Descriptor.Digest, DiffID: l.DiffID,
	}
}
