package verify

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/cause"
	"github.com/kedge-build/kedge/diff"
	"github.com/kedge-build/kedge/explain"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/image"
	kedgelayer "github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
)

var (
	epoch = time.Unix(1700000000, 0)
	amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = ocispec.Platform{OS: "linux", Architecture: "arm64"}
)

// TestMain silences containerd, which warns on file systems without fs-verity.
func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard)
	os.Exit(m.Run())
}

// layer returns a layer with files, given as pairs of path and content.
func layer(t testing.TB, files ...string) []byte {
	t.Helper()
	var entries []tartest.Entry
	for f := range slices.Chunk(files, 2) {
		entries = append(entries, tartest.Entry{Header: tar.Header{Name: f[0], Mode: 0o644, ModTime: epoch}, Body: f[1]})
	}
	return tartest.Tar(t, entries...)
}

// built is a builder's export for one platform.
type built struct {
	platform ocispec.Platform
	base     [][]byte
	layers   [][]byte
	env      string
}

func testStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// write makes the store write the canonical image of a build.
func write(t testing.TB, s *store.Store, second bool, builds ...built) store.Image {
	t.Helper()
	in, err := image.NewIngest(t.Context(), s, epoch, image.IngestOptions{Second: second})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	send := func(mediaType string, data []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		err := content.WriteBlob(t.Context(), in, d.Digest.String(), bytes.NewReader(data), d)
		if err != nil && !errdefs.IsAlreadyExists(err) {
			t.Fatal(err)
		}
		return d
	}
	document := func(mediaType string, v any) ocispec.Descriptor {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return send(mediaType, data)
	}
	var sources []image.Source
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, b := range builds {
		config := ocispec.Image{Created: &epoch, Platform: b.platform, Config: ocispec.ImageConfig{Env: []string{"A=" + b.env}}, RootFS: ocispec.RootFS{Type: "layers"}}
		manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
		for i, data := range append(append([][]byte{}, b.base...), b.layers...) {
			manifest.Layers = append(manifest.Layers, send(ocispec.MediaTypeImageLayer, data))
			config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(data))
			config.History = append(config.History, ocispec.History{CreatedBy: fmt.Sprint("layer ", i)})
		}
		manifest.Config = document(ocispec.MediaTypeImageConfig, config)
		d := document(ocispec.MediaTypeImageManifest, manifest)
		d.Platform = &b.platform
		index.Manifests = append(index.Manifests, d)
		sources = append(sources, image.Source{Platform: b.platform, BaseLayers: len(b.base), BaseHistory: len(b.base)})
	}
	img, err := in.Write(t.Context(), document(ocispec.MediaTypeImageIndex, index), sources, image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// without returns v without digests, which other tests compare.
func without(t testing.TB, v *Verdict, first, second store.Image) Verdict {
	t.Helper()
	out := *v
	for i := range out.Platforms {
		p := &out.Platforms[i]
		if p.First != first.Manifests[i].Descriptor.Digest || p.Second != second.Manifests[i].Descriptor.Digest {
			t.Errorf("digests of %s are %s and %s", p.Platform, p.First, p.Second)
		}
		p.First, p.Second = "", ""
		for j := range p.Layers {
			l := &p.Layers[j]
			check := func(got digest.Digest, m store.Manifest) {
				want := digest.Digest("")
				if l.Index < len(m.Layers) {
					want = m.Layers[l.Index].Descriptor.Digest
				}
				if got != want {
					t.Errorf("layer %d of %s is %q, want %q", l.Index, p.Platform, got, want)
				}
			}
			check(l.First, first.Manifests[i])
			check(l.Second, second.Manifests[i])
			l.First, l.Second = "", ""
			for k := range l.Paths {
				l.Paths[k] = explain.File{Path: l.Paths[k].Path} // its details have tests of their own
			}
		}
	}
	return out
}

func TestCompare(t *testing.T) {
	base := [][]byte{layer(t, "etc/base", "1")}
	one, other := layer(t, "a", "1", "b", "1"), layer(t, "a", "1", "b", "2")
	last := layer(t, "z", "z")
	steps := map[string][]frontend.Step{
		"linux/amd64": {{File: "Dockerfile", Line: 3, Text: "RUN one"}, {File: "Dockerfile", Line: 4, Text: "RUN two"}},
		"linux/arm64": {{File: "Dockerfile", Line: 13, Text: "RUN arm"}, {File: "Dockerfile", Line: 14, Text: "RUN arm two"}},
	}
	content := func(path string) []explain.File {
		return files(diff.Path{Path: "/" + path, Change: diff.Changed, What: []string{"content"}})
	}
	image := func(layers ...[]byte) built { return built{platform: amd64, base: base, layers: layers} }
	arm := func(layers ...[]byte) built { return built{platform: arm64, base: base, layers: layers} }
	only := func(p Platform) []Platform { p.Platform = "linux/amd64"; return []Platform{p} }
	tests := []struct {
		name          string
		first, second []built
		want          []Platform
	}{
		{"same", []built{image(one, last)}, []built{image(one, last)}, only(Platform{Same: true})},
		{"nothing in it", []built{{platform: amd64}}, []built{{platform: amd64}}, only(Platform{Same: true})},
		{"first step", []built{image(one, last)}, []built{image(other, last)},
			only(Platform{Layers: []Layer{{Index: 1, Line: 3, Instruction: "RUN one", Paths: content("b")}}})},
		{"last step", []built{image(last, one)}, []built{image(last, other)},
			only(Platform{Layers: []Layer{{Index: 2, Line: 4, Instruction: "RUN two", Paths: content("b")}}})},
		{"both steps", []built{image(one, layer(t, "c", "1"))}, []built{image(other, layer(t, "c", "2"))},
			only(Platform{Layers: []Layer{{Index: 1, Line: 3, Instruction: "RUN one", Paths: content("b")}, {Index: 2, Line: 4, Instruction: "RUN two", Paths: content("c")}}})},
		{"steps the other way round", []built{image(one, last)}, []built{image(last, one)},
			only(Platform{Layers: []Layer{
				{Index: 1, Line: 3, Instruction: "RUN one", Paths: files([]diff.Path{{Path: "/a", Change: diff.Removed}, {Path: "/b", Change: diff.Removed}, {Path: "/z", Change: diff.Added}}...)},
				{Index: 2, Line: 4, Instruction: "RUN two", Paths: files([]diff.Path{{Path: "/a", Change: diff.Added}, {Path: "/b", Change: diff.Added}, {Path: "/z", Change: diff.Removed}}...)},
			}})},
		{"base", []built{image(one, last)}, []built{{platform: amd64, base: [][]byte{layer(t, "etc/base", "2")}, layers: [][]byte{one, last}}},
			only(Platform{Layers: []Layer{{Index: 0, Paths: content("etc/base")}}})},
		{"config only", []built{image(one, last)}, []built{{platform: amd64, base: base, layers: [][]byte{one, last}, env: "other"}}, only(Platform{})},
		{"a layer less", []built{image(one, last)}, []built{image(one)},
			only(Platform{Layers: []Layer{{Index: 2, Line: 4, Instruction: "RUN two", Paths: files([]diff.Path{{Path: "/z", Change: diff.Removed}}...)}}})},
		{"more layers than steps know", []built{image(one, last, last)}, []built{image(other, last, last)}, only(Platform{Layers: []Layer{{Index: 1, Paths: content("b")}}})},
		{"two platforms, same", []built{image(one, last), arm(one, last)}, []built{image(one, last), arm(one, last)},
			[]Platform{{Platform: "linux/amd64", Same: true}, {Platform: "linux/arm64", Same: true}}},
		{"two platforms in another order", []built{image(one, last), arm(last, one)}, []built{arm(last, one), image(one, last)},
			[]Platform{{Platform: "linux/amd64", Same: true}, {Platform: "linux/arm64", Same: true}}},
		{"one of two platforms", []built{image(one, last), arm(one, last)}, []built{image(one, last), arm(other, last)},
			[]Platform{{Platform: "linux/amd64", Same: true}, {Platform: "linux/arm64", Layers: []Layer{{Index: 1, Line: 13, Instruction: "RUN arm", Paths: content("b")}}}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := testStore(t)
			first, second := write(t, s, false, test.first...), write(t, s, true, test.second...)
			got, err := Compare(t.Context(), s, first, second, Builds{Steps: steps})
			if err != nil {
				t.Fatal(err)
			}
			want := Verdict{Reproducible: true, Platforms: test.want}
			for _, p := range test.want {
				want.Reproducible = want.Reproducible && p.Same
			}
			if diff := cmp.Diff(want, without(t, got, first, second)); diff != "" {
				t.Error(diff)
			}
			if got.Reproducible != (first.Descriptor.Digest == second.Descriptor.Digest) {
				t.Errorf("reproducible: %v, but the images are %s and %s", got.Reproducible, first.Descriptor.Digest, second.Descriptor.Digest)
			}
		})
	}
}

// TestCompareWithoutSteps: without steps the verdict still names layers and files.
func TestCompareWithoutSteps(t *testing.T) {
	s := testStore(t)
	first := write(t, s, false, built{platform: amd64, layers: [][]byte{layer(t, "a", "1")}})
	second := write(t, s, false, built{platform: amd64, layers: [][]byte{layer(t, "a", "2")}})
	v, err := Compare(t.Context(), s, first, second, Builds{})
	if err != nil {
		t.Fatal(err)
	}
	want := []Layer{{Index: 0, Paths: files([]diff.Path{{Path: "/a", Change: diff.Changed, What: []string{"content"}}}...)}}
	if diff := cmp.Diff(want, without(t, v, first, second).Platforms[0].Layers); diff != "" {
		t.Error(diff)
	}
}

func TestCompareErrors(t *testing.T) {
	s := testStore(t)
	one := built{platform: amd64, layers: [][]byte{layer(t, "a", "1")}}
	two := built{platform: arm64, layers: [][]byte{layer(t, "a", "1")}}
	single, both := write(t, s, false, one), write(t, s, false, one, two)
	for name, pair := range map[string][2]store.Image{
		"more platforms":  {single, both},
		"fewer platforms": {both, single},
		"none":            {{}, {}},
		"none and one":    {{}, single},
	} {
		if v, err := Compare(t.Context(), s, pair[0], pair[1], Builds{}); err == nil || v != nil {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
	other := write(t, s, false, built{platform: amd64, layers: [][]byte{layer(t, "a", "2")}})
	if v, err := Compare(t.Context(), testStore(t), single, other, Builds{}); !errdefs.IsNotFound(err) || v != nil {
		t.Errorf("blobs that are gone: %v, %v", v, err)
	}
}

// TestCompareChecksLayers: a layer with the wrong content is an error, not a verdict.
func TestCompareChecksLayers(t *testing.T) {
	s := testStore(t)
	first := write(t, s, false, built{platform: amd64, layers: [][]byte{layer(t, "a", "1")}})
	second := write(t, s, true, built{platform: amd64, layers: [][]byte{layer(t, "a", "2")}})
	other := write(t, s, false, built{platform: amd64, layers: [][]byte{layer(t, "a", "3")}})
	blob := func(img store.Image) string {
		return filepath.Join(s.Dir(), "blobs", "sha256", img.Manifests[0].Layers[0].Descriptor.Digest.Encoded())
	}
	data, err := os.ReadFile(blob(other))
	if err != nil {
		t.Fatal(err)
	}
	wrong := second
	wrong.Manifests = slices.Clone(second.Manifests)
	wrong.Manifests[0].Layers = slices.Clone(second.Manifests[0].Layers)
	wrong.Manifests[0].Layers[0].DiffID = digest.FromString("another")
	var mismatch *kedgelayer.DigestError
	if v, err := Compare(t.Context(), s, first, wrong, Builds{}); !errors.As(err, &mismatch) || mismatch.Kind != "diffID" || v != nil {
		t.Errorf("another diffID: %v, %v", v, err)
	}
	if err := os.WriteFile(blob(second), data, 0o644); err != nil {
		t.Fatal(err)
	}
	if v, err := Compare(t.Context(), s, first, second, Builds{}); !errors.As(err, &mismatch) || mismatch.Kind != "digest" || v != nil {
		t.Errorf("another blob: %v, %v", v, err)
	}
}

// TestCompareRunsNothing: containerd's decompression would run these programs.
func TestCompareRunsNothing(t *testing.T) {
	bin := t.TempDir()
	ran := filepath.Join(bin, "ran")
	for _, name := range []string{"igzip", "unpigz"} {
		script := fmt.Sprintf("#!/bin/sh\n: > %q\nexec gzip -dc\n", ran)
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	s := testStore(t)
	first := write(t, s, false, built{platform: amd64, layers: [][]byte{layer(t, "a", "1")}})
	second := write(t, s, true, built{platform: amd64, layers: [][]byte{layer(t, "a", "2")}})
	if v, err := Compare(t.Context(), s, first, second, Builds{}); err != nil || v.Reproducible {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := os.Stat(ran); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a program from PATH was run: %v", err)
	}
}

func TestMoreLayersInTheSecond(t *testing.T) {
	s := testStore(t)
	base := [][]byte{layer(t, "etc/base", "1")}
	first := write(t, s, false, built{platform: amd64, base: base, layers: [][]byte{layer(t, "a", "1")}})
	second := write(t, s, false, built{platform: amd64, base: base, layers: [][]byte{layer(t, "a", "2"), layer(t, "b", "2")}})
	v, err := Compare(t.Context(), s, first, second, Builds{Steps: map[string][]frontend.Step{"linux/amd64": {{Line: 3, Text: "RUN one"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if l := v.Platforms[0].Layers[0]; l.Line != 3 {
		t.Errorf("%+v", l)
	}
	if l := v.Platforms[0].Layers[1]; l.Line != 0 {
		t.Errorf("%+v", l)
	}
}

func TestOtherPlatform(t *testing.T) {
	s := testStore(t)
	a := write(t, s, false, built{platform: amd64, layers: [][]byte{layer(t, "a", "1")}})
	b := write(t, s, false, built{platform: arm64, layers: [][]byte{layer(t, "a", "1")}})
	if v, err := Compare(t.Context(), s, a, b, Builds{}); err == nil {
		t.Errorf("%+v", v)
	}
}

// files returns explained files without causes.
func files(paths ...diff.Path) []explain.File {
	files := make([]explain.File, len(paths))
	for i, p := range paths {
		files[i].Path = p
	}
	return files
}

// TestCompareCacheMounts: a difference in a step with cache mounts has them as its cause. A difference in
// another step has not.
func TestCompareCacheMounts(t *testing.T) {
	s := testStore(t)
	first := write(t, s, false, built{platform: amd64, layers: [][]byte{layer(t, "n", "2"), layer(t, "m", "2")}})
	second := write(t, s, true, built{platform: amd64, layers: [][]byte{layer(t, "n", "1"), layer(t, "m", "1")}})
	v, err := Compare(t.Context(), s, first, second, Builds{Steps: map[string][]frontend.Step{"linux/amd64": {{Line: 2, Caches: []string{"/c"}}, {Line: 3}}}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []cause.Kind{cause.CacheMount, cause.Unknown} {
		if causes := v.Platforms[0].Layers[i].Paths[0].Causes; len(causes) != 1 || causes[0].Kind != want {
			t.Errorf("layer %d: %+v, want %s", i, causes, want)
		}
	}
}

// TestCompareExplains: a cause, the instruction in another stage that made what is copied, and a patch.
func TestCompareExplains(t *testing.T) {
	s := testStore(t)
	began := time.Unix(1700000000, 0).UTC()
	stamp := func(when time.Time) []byte { return layer(t, "out/stamp", "built on "+when.Format(time.RFC3339)+"\n") }
	first := write(t, s, false, built{platform: amd64, layers: [][]byte{stamp(began)}})
	second := write(t, s, true, built{platform: amd64, layers: [][]byte{stamp(began.Add(time.Hour))}})
	dockerfile := "FROM a AS build\nRUN echo \"built on $(date -Iseconds)\" > /out/stamp\nFROM scratch\nCOPY --from=build /out /out\n"
	window := func(from time.Time) cause.Window {
		return cause.Window{From: from.Add(-time.Minute), To: from.Add(time.Minute)}
	}
	v, err := Compare(t.Context(), s, first, second, Builds{
		Steps:      map[string][]frontend.Step{"linux/amd64": {{Line: 4, Text: "COPY --from=build /out /out", From: []frontend.Step{{Line: 2, Text: "RUN echo"}}}}},
		Dockerfile: []byte(dockerfile), Name: "Dockerfile",
		Hints: cause.Hints{First: window(began), Second: window(began.Add(time.Hour))},
	})
	if err != nil {
		t.Fatal(err)
	}
	l := v.Platforms[0].Layers[0]
	if len(l.Paths) != 1 || len(l.Paths[0].Causes) != 1 {
		t.Fatalf("%+v", l)
	}
	if c := l.Paths[0].Causes[0]; c.Kind != cause.Timestamp || c.Clock != cause.BuildClock {
		t.Errorf("%+v", c)
	}
	if diff := cmp.Diff([]Origin{{2, "RUN echo"}}, l.From); diff != "" {
		t.Error(diff)
	}
	if v.Patch != l.Patch {
		t.Errorf("the patch of all is not that of the one layer:\n%s", v.Patch)
	}
	if !strings.Contains(l.Patch, "+RUN echo \"built on $(date ") || !strings.Contains(l.Patch, "SOURCE_DATE_EPOCH") {
		t.Errorf("patch:\n%s", l.Patch)
	}
	if f := l.Paths[0]; f.First == nil || string(f.Second.Excerpt) == string(f.First.Excerpt) {
		t.Errorf("%+v", f)
	}
}
