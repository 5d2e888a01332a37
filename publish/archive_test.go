package publish

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/kedge-build/kedge/store"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func exported(t testing.TB, s *store.Store, img store.Image, format Type, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := writeArchive(t.Context(), s, &b, img.Descriptor, names, format); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func untar(t testing.TB, data []byte) map[string]string {
	t.Helper()
	content := map[string]string{}
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return content
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(time.Unix(0, 0)) || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%q says when or by whom it was written: %+v", h.Name, h)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		content[h.Name] = string(data)
	}
}

func indexNames(t testing.TB, data string) []string {
	t.Helper()
	var index ocispec.Index
	if err := json.Unmarshal([]byte(data), &index); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range index.Manifests {
		got = append(got, m.Annotations[images.AnnotationImageName]+" "+m.Annotations[ocispec.AnnotationRefName])
	}
	return got
}

func TestExport(t *testing.T) {
	s := testStore(t)
	one := build(t, s, small(t, "a"))
	shared := tartest.Tar(t, file("shared", "s"))
	two := build(t, s, rawImage{platform: amd64, layers: [][]byte{shared}}, rawImage{platform: arm64, layers: [][]byte{shared}})
	for _, img := range []store.Image{one, two} {
		for _, format := range []Type{OCI, Docker} {
			first := exported(t, s, img, format, "app:v1", "app", "app:v1")
			time.Sleep(2 * time.Millisecond)
			if !bytes.Equal(first, exported(t, s, img, format, "app", "app:v1")) {
				t.Errorf("%s: two exports differ", format)
			}
			content := untar(t, first)
			blobs, err := s.Complete(t.Context(), img.Descriptor)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range blobs {
				if _, ok := content["blobs/sha256/"+b.Digest.Encoded()]; !ok {
					t.Errorf("%s: blob %s is missing", format, b.Digest)
				}
			}
			want := []string{"docker.io/library/app:latest latest", "docker.io/library/app:v1 v1"}
			if diff := gocmp.Diff(want, indexNames(t, content["index.json"])); diff != "" {
				t.Errorf("%s: names (-want +got):\n%s", format, diff)
			}
			wantList := ""
			if format == Docker && len(img.Manifests) == 1 {
				m := img.Manifests[0]
				wantList = `[{"Config":"blobs/sha256/` + m.Config.Encoded() + `","RepoTags":["app:latest","app:v1"],"Layers":["blobs/sha256/` + m.Layers[0].Descriptor.Digest.Encoded() + `"]}]`
			}
			if diff := gocmp.Diff(wantList, content["manifest.json"]); diff != "" {
				t.Errorf("%s: manifest.json (-want +got):\n%s", format, diff)
			}
		}
	}
}

// The annotations of an image's descriptor are in the layout's index, beside the name.
func TestExportAnnotations(t *testing.T) {
	s := testStore(t)
	img := build(t, s, small(t, "a"))
	img.Descriptor.Annotations = map[string]string{"x": "top"}
	var layout ocispec.Index
	if err := json.Unmarshal([]byte(untar(t, exported(t, s, img, OCI, "app"))["index.json"]), &layout); err != nil {
		t.Fatal(err)
	}
	if a := layout.Manifests[0].Annotations; a["x"] != "top" || a[images.AnnotationImageName] != "docker.io/library/app:latest" {
		t.Errorf("%v", a)
	}
}

// An archive has the attestations, and manifest.json names the one image beside them.
func TestExportAttestations(t *testing.T) {
	s := testStore(t)
	raw := small(t, "a")
	raw.attest = `{"predicate":{}}`
	img := build(t, s, raw)
	blobs, err := s.Complete(t.Context(), img.Top())
	if err != nil {
		t.Fatal(err)
	}
	if len(blobs) != 7 { // index, two manifests, two configs, layer, statement
		t.Fatalf("%d blobs: %v", len(blobs), blobs)
	}
	for _, format := range []Type{OCI, Docker} {
		content := untar(t, exported(t, s, store.Image{Descriptor: img.Top()}, format, "app"))
		for _, b := range blobs {
			if _, ok := content["blobs/sha256/"+b.Digest.Encoded()]; !ok {
				t.Errorf("%s: blob %s of type %s is missing", format, b.Digest, b.MediaType)
			}
		}
		if config := img.Manifests[0].Config.Encoded(); (format == Docker) != strings.Contains(content["manifest.json"], config) {
			t.Errorf("%s: manifest.json: %q", format, content["manifest.json"])
		}
	}
}

func TestExportFails(t *testing.T) {
	s := testStore(t)
	img := build(t, s, small(t, string(tartest.Noise(3<<20))))
	whole := len(exported(t, s, img, OCI))
	for _, left := range []int{0, 2 << 20, whole - 1} {
		if err := writeArchive(t.Context(), s, &failAfter{left: left}, img.Descriptor, nil, OCI); !errors.Is(err, errFull) {
			t.Errorf("disk full after %d of %d bytes: %v", left, whole, err)
		}
	}
	if err := writeArchive(t.Context(), s, io.Discard, img.Descriptor, nil, "rpm"); err == nil {
		t.Error("an unknown format was written")
	}
	if err := writeArchive(t.Context(), s, io.Discard, img.Descriptor, []string{"UPPER"}, OCI); err == nil {
		t.Error("a bad name was written")
	}
	var b bytes.Buffer
	ctx := newCancelAfter(t.Context(), 30)
	if err := writeArchive(ctx, s, &b, img.Descriptor, nil, OCI); !errors.Is(err, errInterrupted) {
		t.Errorf("interrupted: %v", err)
	}
	if b.Len() == 0 || b.Len() >= whole {
		t.Errorf("interrupted after %d of %d bytes", b.Len(), whole)
	}
	removeBlob(t, s, img.Manifests[0].Layers[0].Descriptor.Digest)
	b.Reset()
	var damaged *store.DamagedError
	if err := writeArchive(t.Context(), s, &b, img.Descriptor, nil, OCI); !errors.As(err, &damaged) || b.Len() > 0 {
		t.Errorf("without a layer: %v after %d bytes", err, b.Len())
	}
}

func TestExportDir(t *testing.T) {
	s := testStore(t)
	a := build(t, s, small(t, "a"))
	b := build(t, s, small(t, "b"))
	parent := t.TempDir()
	dir := filepath.Join(parent, "new", "layout")
	for _, img := range []store.Image{a, b} { // makes it, then replaces it
		if err := writeLayout(t.Context(), s, dir, img.Descriptor, []string{"app"}); err != nil {
			t.Fatal(err)
		}
		got := files(t, dir)
		want := []string{"index.json", "oci-layout"}
		blobs, _ := s.Complete(t.Context(), img.Descriptor)
		for _, b := range blobs {
			want = append(want, "blobs/sha256/"+b.Digest.Encoded())
		}
		slices.Sort(want)
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
		if diff := gocmp.Diff([]string{"docker.io/library/app:latest latest"}, indexNames(t, readFile(t, filepath.Join(dir, "index.json")))); diff != "" {
			t.Errorf("names (-want +got):\n%s", diff)
		}
	}
	before := files(t, parent)

	err := writeLayout(newCancelAfter(t.Context(), 5), s, dir, a.Descriptor, nil)
	if !errors.Is(err, errInterrupted) {
		t.Errorf("interrupted: %v", err)
	}
	foreign := t.TempDir()
	writeFile(t, filepath.Join(foreign, "thesis.tex"), nil)
	for _, dir := range []string{foreign, s.Dir()} {
		if err := writeLayout(t.Context(), s, dir, a.Descriptor, nil); err == nil || !strings.Contains(err.Error(), "not an OCI image layout") {
			t.Errorf("export to %q: %v", dir, err)
		}
	}
	path := blobPath(s, a.Manifests[0].Layers[0].Descriptor.Digest)
	data := []byte(readFile(t, path))
	data[len(data)/2] ^= 1
	writeFile(t, path, data)
	var damaged *store.DamagedError
	if err := writeLayout(t.Context(), s, dir, a.Descriptor, nil); !errors.As(err, &damaged) || !strings.Contains(err.Error(), "another digest") {
		t.Errorf("export of a rotten blob: %v", err)
	}
	if diff := gocmp.Diff(before, files(t, parent)); diff != "" {
		t.Errorf("failures left something (-before +after):\n%s", diff)
	}
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the layout: %v, %v", entries, err)
	}
}
