package image

import (
	"encoding/json"
	"errors"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/kedge-build/kedge/store"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func annotationsIn(t testing.TB, s *store.Store, desc ocispec.Descriptor) (top map[string]string, of []map[string]string) {
	t.Helper()
	var doc struct {
		Annotations map[string]string    `json:"annotations"`
		Manifests   []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal([]byte(mustRead(t, s, desc)), &doc); err != nil {
		t.Fatal(err)
	}
	for _, m := range doc.Manifests {
		of = append(of, m.Annotations)
	}
	return doc.Annotations, of
}

func TestAnnotations(t *testing.T) {
	s := testStore(t)
	two := []rawImage{{platform: amd64, layers: [][]byte{tartest.Tar(t, file("a", "1"))}}, {platform: arm64, layers: [][]byte{tartest.Tar(t, file("a", "2"))}}}
	plainOne, _ := build(t, s, Options{}, two...)
	img, _ := build(t, s, Options{Annotations: []Annotation{
		{OnManifest, &arm64, "k", "arm"}, {OnManifest, nil, "k", "all"}, {OnManifest, nil, "k", "last"},
		{OnManifestDescriptor, &amd64, "d", "amd"}, {OnIndex, nil, "i", "index"}, {OnIndexDescriptor, nil, "x", "top"},
	}}, two...)
	type notes = map[string]string
	index, descs := annotationsIn(t, s, img.Descriptor)
	amd, _ := annotationsIn(t, s, img.Manifests[0].Descriptor)
	arm, _ := annotationsIn(t, s, img.Manifests[1].Descriptor)
	got := []notes{img.Descriptor.Annotations, index, descs[0], descs[1], amd, arm}
	want := []notes{{"x": "top"}, {"i": "index"}, {"d": "amd"}, nil, {"k": "last"}, {"k": "arm"}}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("descriptor, index, two descriptors, two manifests (-want +got):\n%s", diff)
	}
	for i, m := range img.Manifests {
		if m.Config != plainOne.Manifests[i].Config {
			t.Errorf("an annotation changed the config of %v", m.Platform)
		}
	}
}

func TestAnnotationsOfAnIndexOfOne(t *testing.T) {
	s := testStore(t)
	one := rawImage{platform: amd64, layers: [][]byte{tartest.Tar(t, file("a", "1"))}}
	plain, _ := build(t, s, Options{}, one)
	img, _ := build(t, s, Options{Annotations: []Annotation{{OnIndex, nil, "i", "index"}, {OnIndexDescriptor, nil, "x", "top"}}}, one)
	index, descs := annotationsIn(t, s, img.Descriptor)
	if index["i"] != "index" || img.Descriptor.Annotations["x"] != "top" || len(descs) != 1 {
		t.Errorf("the index has %v, its descriptor %v, and it has %d manifests", index, img.Descriptor.Annotations, len(descs))
	}
	if img.Manifests[0].Descriptor.Digest != plain.Descriptor.Digest {
		t.Error("the manifest is another")
	}
}

func TestAnnotationsWithoutPlace(t *testing.T) {
	tests := []struct {
		name string
		a    Annotation
		of   []ocispec.Platform
		ok   bool
	}{
		{"manifest", Annotation{OnManifest, nil, "k", "v"}, nil, true},
		{"any platform may be the one", Annotation{OnManifest, &arm64, "k", "v"}, nil, true},
		{"its platform", Annotation{OnManifest, &arm64, "k", "v"}, []ocispec.Platform{amd64, arm64}, true},
		{"a variant that goes without saying", Annotation{OnManifest, &ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, "k", "v"}, []ocispec.Platform{arm64}, true},
		{"another platform", Annotation{OnManifestDescriptor, &arm64, "k", "v"}, []ocispec.Platform{amd64}, false},
		{"index", Annotation{OnIndex, nil, "k", "v"}, []ocispec.Platform{amd64, arm64}, true},
		{"an index of one", Annotation{OnIndex, nil, "k", "v"}, []ocispec.Platform{amd64}, true},
	}
	for _, test := range tests {
		err := CheckAnnotations([]Annotation{test.a}, test.of)
		var without *AnnotationError
		if test.ok != (err == nil) || err != nil && !errors.As(err, &without) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
