package publish

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/kedge-build/kedge/image"
	"github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/kedge-build/kedge/rules"
	"github.com/kedge-build/kedge/store"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
)

var (
	epoch = time.Unix(1700000000, 0)
	late  = epoch.Add(12345678 * time.Millisecond)
	amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = ocispec.Platform{OS: "linux", Architecture: "arm64"}
)

// TestMain silences containerd, which warns when fs-verity is missing.
func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard)
	os.Exit(m.Run())
}

func file(name, body string) tartest.Entry {
	e := tartest.Entry{Header: tar.Header{Name: name, Mode: 0o644, ModTime: late, Typeflag: tar.TypeReg}, Body: body}
	if _, ok := layer.ParseWhiteout(name); ok {
		e.Mode = 0 // as builders write it
	}
	return e
}

// A rawImage is what a builder exports for one platform. Layers of its base may be compressed.
type rawImage struct {
	platform ocispec.Platform
	base     [][]byte
	layers   [][]byte
	baseRef  string
	attest   string // a statement about the image, if not empty
}

func typed(name string, kind byte, link string) tartest.Entry {
	e := file(name, "")
	e.Typeflag, e.Linkname = kind, link
	if kind == tar.TypeDir {
		e.Mode = 0o755
	}
	return e
}

func chmod(e tartest.Entry, mode int64) tartest.Entry { e.Mode = mode; return e }

func small(t testing.TB, body string) rawImage {
	return rawImage{platform: amd64, layers: [][]byte{tartest.Tar(t, file("f", body))}}
}

func testStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// build writes images of several platforms into s, as one. No rule changes their layers.
func build(t testing.TB, s *store.Store, imgs ...rawImage) store.Image {
	t.Helper()
	in, err := image.NewIngest(t.Context(), s, epoch, image.IngestOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	add := func(mediaType string, data []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		w, err := in.Writer(t.Context(), content.WithRef(d.Digest.String()), content.WithDescriptor(d))
		if errdefs.IsAlreadyExists(err) {
			return d
		}
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if err := content.Copy(t.Context(), w, bytes.NewReader(data), d.Size, d.Digest); err != nil {
			t.Fatal(err)
		}
		return d
	}
	var sources []image.Source
	var manifests []ocispec.Descriptor
	for _, img := range imgs {
		mf := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
		cfg := ocispec.Image{Platform: img.platform, Created: &late, RootFS: ocispec.RootFS{Type: "layers"}}
		for _, blob := range slices.Concat(img.base, img.layers) {
			mf.Layers = append(mf.Layers, add(ocispec.MediaTypeImageLayer, blob))
			cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, diffIDOf(t, blob))
			cfg.History = append(cfg.History, ocispec.History{Created: &late, CreatedBy: "COPY"})
		}
		mf.Config = add(ocispec.MediaTypeImageConfig, marshal(t, cfg))
		d := add(ocispec.MediaTypeImageManifest, marshal(t, mf))
		d.Platform = &img.platform
		manifests = append(manifests, d)
		if img.attest != "" {
			statement := add("application/vnd.in-toto+json", []byte(img.attest))
			statement.Annotations = map[string]string{"in-toto.io/predicate-type": "https://example.com/p"}
			about := add(ocispec.MediaTypeImageManifest, marshal(t, ocispec.Manifest{
				Config: add(ocispec.MediaTypeImageConfig, []byte("{}")), Layers: []ocispec.Descriptor{statement},
			}))
			about.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
			about.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": d.Digest.String()}
			manifests = append(manifests, about)
		}
		sources = append(sources, image.Source{Platform: img.platform, BaseLayers: len(img.base), BaseHistory: len(img.base), BaseRef: img.baseRef})
	}
	root := manifests[0]
	if len(manifests) > 1 {
		root = add(ocispec.MediaTypeImageIndex, marshal(t, ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests,
		}))
	}
	none, err := rules.Parse("none")
	if err != nil {
		t.Fatal(err)
	}
	img, err := in.Write(t.Context(), root, sources, image.Options{Rules: none})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func diffIDOf(t testing.TB, blob []byte) digest.Digest {
	t.Helper()
	if zr, err := gzip.NewReader(bytes.NewReader(blob)); err == nil {
		if blob, err = io.ReadAll(zr); err != nil {
			t.Fatal(err)
		}
	}
	return digest.FromBytes(blob)
}

func blobPath(s *store.Store, dgst digest.Digest) string {
	return filepath.Join(s.Dir(), "blobs", dgst.Algorithm().String(), dgst.Encoded())
}

func removeBlob(t testing.TB, s *store.Store, dgst digest.Digest) {
	t.Helper()
	if err := os.Remove(blobPath(s, dgst)); err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// files lists the regular files below dir, slash-separated.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			list = append(list, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// A failAfter is a disk that is full after left bytes.
type failAfter struct{ left int }

var errFull = errors.New("disk full")

func (w *failAfter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// A cancelAfter is a context that is canceled when it has been asked left times whether it is: at every
// read of a layer and every write of an archive.
type cancelAfter struct {
	context.Context
	cancel context.CancelCauseFunc
	left   *int
}

var errInterrupted = errors.New("interrupted")

func newCancelAfter(ctx context.Context, n int) cancelAfter {
	ctx, cancel := context.WithCancelCause(ctx)
	return cancelAfter{ctx, cancel, &n}
}

func (c cancelAfter) Err() error {
	if *c.left--; *c.left < 0 {
		c.cancel(errInterrupted)
	}
	return c.Context.Err()
}

// TestDamage damages each blob of an image in each way: every output names the blob, and another image
// is not affected.
func TestDamage(t *testing.T) {
	damages := map[string]func(path string) error{
		"changed": func(path string) error {
			data, err := os.ReadFile(path)
			if err == nil {
				data[0] ^= 1
				err = os.WriteFile(path, data, 0o644)
			}
			return err
		},
		"cut":  func(path string) error { return os.Truncate(path, 3) },
		"gone": os.Remove,
	}
	blobs := map[string]func(store.Manifest) digest.Digest{
		"manifest": func(m store.Manifest) digest.Digest { return m.Descriptor.Digest },
		"config":   func(m store.Manifest) digest.Digest { return m.Config },
		"layer":    func(m store.Manifest) digest.Digest { return m.Layers[0].Descriptor.Digest },
	}
	for blob, digestIn := range blobs {
		for damage, do := range damages {
			t.Run(fmt.Sprint(blob, " ", damage), func(t *testing.T) {
				s := testStore(t)
				bad, good := build(t, s, small(t, "bad")), build(t, s, small(t, "good"))
				want := digestIn(bad.Manifests[0])
				if err := os.Chmod(blobPath(s, want), 0o644); err != nil {
					t.Fatal(err)
				}
				if err := do(blobPath(s, want)); err != nil {
					t.Fatal(err)
				}
				for name, export := range map[string]func(store.Image) error{
					"oci":    func(i store.Image) error { return writeArchive(t.Context(), s, io.Discard, i.Descriptor, nil, OCI) },
					"docker": func(i store.Image) error { return writeArchive(t.Context(), s, io.Discard, i.Descriptor, nil, Docker) },
					"tar":    func(i store.Image) error { return writeTar(t.Context(), s, io.Discard, i.Descriptor, RootOptions{}) },
					"dir":    func(i store.Image) error { return writeLayout(t.Context(), s, t.TempDir()+"/d", i.Descriptor, nil) },
				} {
					var damaged *store.DamagedError
					if err := export(bad); !errors.As(err, &damaged) || damaged.Blob != want {
						t.Errorf("%s: %v", name, err)
					}
					if err := export(good); err != nil {
						t.Errorf("%s of another image: %v", name, err)
					}
				}
			})
		}
	}
}
