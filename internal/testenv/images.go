package testenv

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/kedge-build/kedge/internal/debian"
)

// Debian pushes the base image of Debian bookworm as library/debian:bookworm-slim,
// :bookworm and :latest, and returns it. See [DebianRelease].
func Debian(t testing.TB, r *Registry) v1.Image {
	t.Helper()
	img := DebianRelease(t, r, debian.Bookworm)
	r.Push(t, "library/debian:latest", img)
	return img
}

// DebianRelease pushes the base image of a Debian release (bullseye, bookworm,
// trixie or sid) as library/debian:RELEASE-slim and :RELEASE, and returns it. The
// first use on a machine makes the image, which takes about half a minute. Its
// date is the mirror's, or $KEDGE_TEST_BASE_CREATED in RFC 3339. No test may depend
// on it.
func DebianRelease(t testing.TB, r *Registry, release string) v1.Image {
	t.Helper()
	if testing.Short() {
		t.Skip("uses a Debian base image: not in short mode")
	}
	cache, err := debian.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	var log buffer
	img, err := debian.Slim(t.Context(), cache, release, &log)
	if tool := (*debian.ToolError)(nil); errors.As(err, &tool) {
		missing(t, "%v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, log.tail())
	}
	img = dated(t, img, os.Getenv("KEDGE_TEST_BASE_CREATED"))
	r.Push(t, "library/debian:"+release+"-slim", img)
	r.Push(t, "library/debian:"+release, img)
	return img
}

// dated returns base with another creation time, in RFC 3339. "" keeps its own.
func dated(t testing.TB, base v1.Image, created string) v1.Image {
	t.Helper()
	if created == "" {
		return base
	}
	when, err := time.Parse(time.RFC3339, created)
	if err != nil {
		t.Fatalf("KEDGE_TEST_BASE_CREATED: %v", err)
	}
	img, err := mutate.CreatedAt(base, v1.Time{Time: when.UTC()})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// Derive returns base with another creation time and one more layer, which has the
// files (content by path). Without files it adds no layer. Equal arguments give
// equal images. [Scratch] can be the base.
func Derive(t testing.TB, base v1.Image, created time.Time, files map[string]string) v1.Image {
	t.Helper()
	img := base
	if len(files) > 0 {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			content, err := tree(created, files)
			return io.NopCloser(bytes.NewReader(content)), err
		}, tarball.WithMediaType(types.OCILayer))
		if err != nil {
			t.Fatal(err)
		}
		img, err = mutate.Append(img, mutate.Addendum{
			Layer:   layer,
			History: v1.History{Created: v1.Time{Time: created}, CreatedBy: "COPY . /"},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	img, err := mutate.CreatedAt(img, v1.Time{Time: created})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// tree returns a tar of the files. All have the same time.
func tree(created time.Time, files map[string]string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		header := &tar.Header{Name: name, Mode: 0o755, Size: int64(len(files[name])), ModTime: created}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, files[name]); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}

// Scratch returns a linux image for an architecture, without layers.
func Scratch(t testing.TB, architecture string) v1.Image {
	t.Helper()
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	img, err := mutate.ConfigFile(img, &v1.ConfigFile{
		Architecture: architecture,
		OS:           "linux",
		RootFS:       v1.RootFS{Type: "layers"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// Index returns an index of the images. Their platforms are those in their
// configurations.
func Index(t testing.TB, images ...v1.Image) v1.ImageIndex {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, img := range images {
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        img,
			Descriptor: v1.Descriptor{Platform: config.Platform()},
		})
	}
	return index
}

// Tiny pushes an index as library/tiny:latest, and returns it. Its images for
// linux/amd64 and linux/arm64 have one file, /etc/tiny, with the name of the
// architecture. They have no program for RUN, but COPY works for both platforms on
// any machine.
func Tiny(t testing.TB, r *Registry) v1.ImageIndex {
	t.Helper()
	created := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	var images []v1.Image
	for _, arch := range []string{"amd64", "arm64"} {
		images = append(images, Derive(t, Scratch(t, arch), created, map[string]string{"etc/tiny": arch + "\n"}))
	}
	index := Index(t, images...)
	r.Push(t, "library/tiny:latest", index)
	return index
}
