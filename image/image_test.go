package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/decompress"
	"github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/kedge-build/kedge/rules"
	"github.com/kedge-build/kedge/store"
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

// TestMain silences containerd, which warns on file systems without fs-verity.
func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard)
	os.Exit(m.Run())
}

// file returns a file of a layer.
func file(name, body string) tartest.Entry {
	e := tartest.Entry{Header: tar.Header{Name: name, Mode: 0o644, ModTime: late, Typeflag: tar.TypeReg}, Body: body}
	if _, ok := layer.ParseWhiteout(name); ok {
		e.Mode = 0 // as builders write it
	}
	return e
}

// rawImage is a builder's export for one platform.
type rawImage struct {
	platform ocispec.Platform
	base     [][]byte // layer blobs
	layers   [][]byte
	config   string // instead of the usual one
}

// rawExport is a whole export, with its blobs in the order in which BuildKit sends them.
type rawExport struct {
	root  ocispec.Descriptor
	blobs []ocispec.Descriptor
	data  map[digest.Digest][]byte
}

func (x *rawExport) add(mediaType string, data []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	x.blobs = append(x.blobs, d)
	x.data[d.Digest] = data
	return d
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func diffIDOf(t testing.TB, blob []byte) digest.Digest {
	t.Helper()
	r, err := decompress.Open(bytes.NewReader(blob), decompress.Gzip|decompress.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	d, err := digest.FromReader(r)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// newExport makes an export like BuildKit's: for several images an index with an attestation manifest.
func newExport(t testing.TB, imgs ...rawImage) *rawExport {
	t.Helper()
	x := &rawExport{data: map[digest.Digest][]byte{}}
	var manifests []ocispec.Descriptor
	for _, img := range imgs {
		mf := ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2},
			MediaType: ocispec.MediaTypeImageManifest,
			Layers:    []ocispec.Descriptor{},
		}
		cfg := map[string]any{
			"architecture":               img.platform.Architecture,
			"os":                         img.platform.OS,
			"created":                    late.Format(time.RFC3339Nano),
			"config":                     map[string]any{"Env": []string{"A=<&>"}, "Labels": map[string]string{"from": "dockerfile", "both": "dockerfile"}},
			"moby.buildkit.buildinfo.v1": "e30=",
			"unknown":                    map[string]any{"kept": 12345678901234567},
		}
		history := []map[string]any{{"created": late.Format(time.RFC3339Nano), "created_by": "CMD", "empty_layer": true}}
		var ids []digest.Digest
		for i, blob := range slices.Concat(img.base, img.layers) {
			d := x.add("application/vnd.oci.image.layer.v1.tar", blob)
			d.Annotations = map[string]string{"buildkit/note": "x"}
			mf.Layers = append(mf.Layers, d)
			ids = append(ids, diffIDOf(t, blob))
			created := late.Format(time.RFC3339Nano)
			if i < len(img.base) {
				created = "2001-02-03T04:05:06.789Z"
			}
			history = append(history, map[string]any{"created": created, "created_by": fmt.Sprint("layer ", i), "comment": "buildkit.dockerfile.v0"})
		}
		slices.SortStableFunc(history, func(a, b map[string]any) int {
			return cmp.Compare(len(fmt.Sprint(b["comment"])), len(fmt.Sprint(a["comment"])))
		})
		cfg["history"] = history
		cfg["rootfs"] = map[string]any{"type": "layers", "diff_ids": ids}
		data := marshal(t, cfg)
		if img.config != "" {
			data = []byte(img.config)
		}
		mf.Config = x.add(ocispec.MediaTypeImageConfig, data)
		d := x.add(ocispec.MediaTypeImageManifest, marshal(t, mf))
		d.Platform = &img.platform
		manifests = append(manifests, d)
	}
	if len(imgs) == 1 {
		x.root = store.Plain(manifests[0])
		return x
	}
	att := x.add(ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2}`))
	att.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	att.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	x.root = x.add(ocispec.MediaTypeImageIndex, marshal(t, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: append(manifests, att),
	}))
	return x
}

// send sends the export to in and returns the digests of the blobs that were sent.
func (x *rawExport) send(t testing.TB, in *Ingest) map[digest.Digest]bool {
	t.Helper()
	sent := map[digest.Digest]bool{}
	for i, d := range x.blobs {
		w, err := in.Writer(t.Context(), content.WithRef(fmt.Sprint("blob-", i)), content.WithDescriptor(ocispec.Descriptor{Digest: d.Digest, Size: d.Size}))
		_, infoErr := in.Info(t.Context(), d.Digest) // as containerd's server asks before it commits
		if (infoErr == nil) != errdefs.IsAlreadyExists(err) {
			t.Fatalf("Info says %v, Writer %v", infoErr, err)
		}
		if errdefs.IsAlreadyExists(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := content.Copy(t.Context(), w, bytes.NewReader(x.data[d.Digest]), d.Size, d.Digest); err != nil {
			t.Fatal(err)
		}
		w.Close()
		sent[d.Digest] = true
	}
	return sent
}

// write sends the export to in, once more if that is needed, and writes the image. It returns the digests of the blobs
// that were sent.
func (x *rawExport) write(t testing.TB, in *Ingest, sources []Source, opts Options) (store.Image, map[digest.Digest]bool) {
	t.Helper()
	sent := x.send(t, in)
	img, err := in.Write(t.Context(), x.root, sources, opts)
	if notSent := (*NotSentError)(nil); errors.As(err, &notSent) {
		maps.Copy(sent, x.send(t, in))
		img, err = in.Write(t.Context(), x.root, sources, opts)
	}
	if err != nil {
		t.Fatal(err)
	}
	return img, sent
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

func testIngest(t testing.TB, s *store.Store, o IngestOptions) *Ingest {
	t.Helper()
	in, err := NewIngest(t.Context(), s, epoch, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return in
}

func sourcesOf(imgs []rawImage) []Source {
	var sources []Source
	for _, img := range imgs {
		src := Source{Platform: img.platform, BaseLayers: len(img.base), BaseHistory: len(img.base), Run: map[int]bool{}}
		for i := range img.layers {
			src.Run[len(img.base)+i] = true
		}
		sources = append(sources, src)
	}
	return sources
}

// build writes one export into s. It returns the image and the digests that were sent.
func build(t testing.TB, s *store.Store, opts Options, imgs ...rawImage) (store.Image, map[digest.Digest]bool) {
	t.Helper()
	return buildAgain(t, s, IngestOptions{}, opts, imgs...)
}

// buildAgain is build with other IngestOptions.
func buildAgain(t testing.TB, s *store.Store, o IngestOptions, opts Options, imgs ...rawImage) (store.Image, map[digest.Digest]bool) {
	t.Helper()
	x := newExport(t, imgs...)
	in := testIngest(t, s, o)
	img, sent := x.write(t, in, sourcesOf(imgs), opts)
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	return img, sent
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

func removeBlob(t testing.TB, s *store.Store, dgst digest.Digest) {
	t.Helper()
	path, err := blobPath(s, dgst)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t testing.TB, s *store.Store, desc ocispec.Descriptor) string {
	t.Helper()
	data, err := store.ReadBlob(t.Context(), s, desc, store.MaxDocument)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// files returns the regular files below dir, with slashes.
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

func TestWriteImage(t *testing.T) {
	s := testStore(t)
	base := tartest.Gzip(t, tartest.Tar(t, file("etc/base", "base")))
	raw := rawImage{platform: amd64, base: [][]byte{base}, layers: [][]byte{tartest.Tar(t, file("etc/new", "new"))}}
	img, _ := build(t, s, Options{Labels: map[string]string{"both": "kedge", "new": "label"}}, raw)

	if len(img.Manifests) != 1 || img.Descriptor.MediaType != ocispec.MediaTypeImageManifest {
		t.Fatalf("one platform gave %+v", img)
	}
	m := img.Manifests[0]
	var mf map[string]any
	if err := json.Unmarshal([]byte(mustRead(t, s, img.Descriptor)), &mf); err != nil {
		t.Fatal(err)
	}
	if mf["annotations"] != nil {
		t.Errorf("the manifest has annotations: %v", mf)
	}
	baseDesc := ocispec.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: digest.FromBytes(base), Size: int64(len(base))}
	if diff := gocmp.Diff(store.Layer{Descriptor: baseDesc, DiffID: diffIDOf(t, base)}, m.Layers[0]); diff != "" {
		t.Errorf("base layer (-want +got):\n%s", diff)
	}
	if l := m.Layers[1]; l.Raw != digest.FromBytes(raw.layers[0]) || l.Descriptor.MediaType != ocispec.MediaTypeImageLayerGzip {
		t.Errorf("new layer %+v", l)
	}
	want := fmt.Sprintf(`{"architecture":"amd64","config":{"Env":["A=<&>"],"Labels":{"both":"kedge","from":"dockerfile","new":"label"}},`+
		`"created":"2023-11-14T22:13:20Z","history":[`+
		`{"comment":"buildkit.dockerfile.v0","created":"2001-02-03T04:05:06.789Z","created_by":"layer 0"},`+
		`{"comment":"buildkit.dockerfile.v0","created":"2023-11-14T22:13:20Z","created_by":"layer 1"},`+
		`{"created":"2023-11-14T22:13:20Z","created_by":"CMD","empty_layer":true}],`+
		`"os":"linux","rootfs":{"diff_ids":["%s","%s"],"type":"layers"},"unknown":{"kept":12345678901234567}}`,
		m.Layers[0].DiffID, m.Layers[1].DiffID)
	if diff := gocmp.Diff(want, mustRead(t, s, ocispec.Descriptor{Digest: m.Config, Size: int64(len(want))})); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}

	read, err := s.Image(t.Context(), img.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	read.Manifests[0].Layers[1].Raw = m.Layers[1].Raw
	for i := range read.Manifests[0].Layers {
		read.Manifests[0].Layers[i].CreatedBy = "" // which only the config has
	}
	if diff := gocmp.Diff(img, read); diff != "" {
		t.Errorf("image read back (-written +read):\n%s", diff)
	}
}

func TestWriteOnlyContentCounts(t *testing.T) {
	newer := func(h *tar.Header) { h.ModTime = late.Add(time.Hour); h.Uname = "root" }
	layer := tartest.Tar(t, file("a", "same"))
	base := tartest.Gzip(t, tartest.Tar(t, file("base", "base")))
	want, _ := build(t, testStore(t), Options{}, rawImage{platform: amd64, base: [][]byte{base}, layers: [][]byte{layer}})
	for name, blob := range map[string][]byte{
		"gzip":       tartest.Gzip(t, layer),
		"zstd":       tartest.Zstd(t, layer),
		"later time": tartest.Tar(t, file("a", "same").With(newer)),
		"padding":    append(slices.Clone(layer), make([]byte, 10240)...),
	} {
		t.Run(name, func(t *testing.T) {
			for _, second := range []IngestOptions{{}, {Second: true}} {
				got, _ := buildAgain(t, testStore(t), second, Options{}, rawImage{platform: amd64, base: [][]byte{base}, layers: [][]byte{blob}})
				if got.Descriptor.Digest != want.Descriptor.Digest {
					t.Errorf("%+v: digest %s, want %s", second, got.Descriptor.Digest, want.Descriptor.Digest)
				}
			}
		})
	}
	other, _ := build(t, testStore(t), Options{}, rawImage{platform: amd64, base: [][]byte{base}, layers: [][]byte{tartest.Tar(t, file("a", "other"))}})
	if other.Descriptor.Digest == want.Descriptor.Digest {
		t.Error("other content has the same digest")
	}
}

func TestWriteIndex(t *testing.T) {
	shared := tartest.Tar(t, file("shared", "s"))
	a := rawImage{platform: amd64, layers: [][]byte{shared, tartest.Tar(t, file("a", "a"))}}
	b := rawImage{platform: arm64, layers: [][]byte{shared, tartest.Tar(t, file("b", "b"))}}
	s := testStore(t)
	img, _ := build(t, s, Options{}, b, a)
	swapped, _ := build(t, testStore(t), Options{}, a, b)
	if diff := gocmp.Diff(img, swapped); diff != "" {
		t.Errorf("the order of platforms reached the image:\n%s", diff)
	}
	var index ocispec.Index
	if err := json.Unmarshal([]byte(mustRead(t, s, img.Descriptor)), &index); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range index.Manifests {
		got = append(got, platformKey(*m.Platform))
	}
	if diff := gocmp.Diff([]string{"linux/amd64", "linux/arm64"}, got); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
	// An index for one platform, which attestations require, gives the same image.
	single, _ := build(t, testStore(t), Options{}, a)
	x := newExport(t, a, b)
	var raw ocispec.Index
	if err := json.Unmarshal(x.data[x.root.Digest], &raw); err != nil {
		t.Fatal(err)
	}
	raw.Manifests = slices.DeleteFunc(raw.Manifests, func(d ocispec.Descriptor) bool { return d.Platform.Architecture == "arm64" })
	x.root = x.add(ocispec.MediaTypeImageIndex, marshal(t, raw))
	in := testIngest(t, s, IngestOptions{})
	x.send(t, in)
	one, err := in.Write(t.Context(), x.root, sourcesOf([]rawImage{a}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if one.Descriptor.Digest != single.Descriptor.Digest {
		t.Errorf("an index of one and a manifest gave %s and %s", one.Descriptor.Digest, single.Descriptor.Digest)
	}
	// So do two exports: one is an index, the other a manifest.
	y := newExport(t, b)
	y.root.Platform = &b.platform
	in = testIngest(t, s, IngestOptions{})
	x.send(t, in)
	y.send(t, in)
	root, err := in.Join(t.Context(), []ocispec.Descriptor{y.root, x.root})
	if err != nil {
		t.Fatal(err)
	}
	two, err := in.Write(t.Context(), root, sourcesOf([]rawImage{b, a}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if two.Descriptor.Digest != img.Descriptor.Digest {
		t.Errorf("two exports gave %s, one gave %s", two.Descriptor.Digest, img.Descriptor.Digest)
	}
}

func TestIngestSkipsWhatIsKnown(t *testing.T) {
	s := testStore(t)
	base := tartest.Gzip(t, tartest.Tar(t, file("base", "base")))
	raw := rawImage{platform: amd64, base: [][]byte{base}, layers: [][]byte{tartest.Tar(t, file("a", "a")), tartest.Gzip(t, tartest.Tar(t, file("b", "b")))}}
	first, sent := build(t, s, Options{}, raw)
	for _, blob := range slices.Concat(raw.base, raw.layers) {
		if !sent[digest.FromBytes(blob)] {
			t.Errorf("the first build did not send %s", digest.FromBytes(blob))
		}
	}
	second, sent := build(t, s, Options{}, raw)
	for _, blob := range slices.Concat(raw.base, raw.layers) {
		if sent[digest.FromBytes(blob)] {
			t.Errorf("the second build sent %s", digest.FromBytes(blob))
		}
	}
	if diff := gocmp.Diff(first, second); diff != "" {
		t.Errorf("images (-first +second):\n%s", diff)
	}
	if got := files(t, storePath(s, "tmp")); len(got) != 0 {
		t.Errorf("left in tmp: %q", got)
	}
	// Another epoch gives another image.
	in, err := NewIngest(t.Context(), s, epoch.Add(time.Hour), IngestOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := in.Info(t.Context(), digest.FromBytes(raw.layers[0])); !errdefs.IsNotFound(err) {
		t.Errorf("the layer counts as known for another epoch: %v", err)
	}
}

func TestBadRecordsAreIgnored(t *testing.T) {
	raw := rawImage{platform: amd64, layers: [][]byte{tartest.Tar(t, file("a", "a"))}}
	want, _ := build(t, testStore(t), Options{}, raw)
	otherLayer := func(s *store.Store) store.Record {
		img, _ := build(t, s, Options{}, rawImage{platform: amd64, layers: [][]byte{tartest.Tar(t, file("other", "other"))}})
		r, ok := s.RawRecords(epoch)(img.Manifests[0].Layers[0].Raw)
		if !ok {
			t.Fatal("no record")
		}
		return r
	}
	faults := map[string]func(s *store.Store, name string, data []byte) []byte{
		"truncated": func(_ *store.Store, _ string, data []byte) []byte { return data[:len(data)/2] },
		"empty":     func(*store.Store, string, []byte) []byte { return nil },
		"null":      func(*store.Store, string, []byte) []byte { return []byte("null") },
		"two":       func(_ *store.Store, _ string, data []byte) []byte { return append(slices.Clone(data), data...) },
		"old rules": func(_ *store.Store, _ string, data []byte) []byte {
			return bytes.Replace(data, fmt.Appendf(nil, `"rules":%d`, rules.Version), []byte(`"rules":0`), 1)
		},
		"new version": func(_ *store.Store, _ string, data []byte) []byte {
			return bytes.Replace(data, []byte(`"version":2`), []byte(`"version":3`), 1)
		},
		"of another layer": func(s *store.Store, _ string, _ []byte) []byte {
			return marshal(t, otherLayer(s))
		},
		"other size": func(_ *store.Store, _ string, data []byte) []byte {
			return bytes.Replace(data, []byte(`"size":`), []byte(`"size":1`), 1)
		},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			s := testStore(t)
			build(t, s, Options{}, raw)
			for _, f := range files(t, storePath(s, "layers")) {
				path := storePath(s, "layers", f)
				if filepath.Ext(f) != ".json" {
					continue // a listing
				}
				data := []byte(readFile(t, path))
				changed := fault(s, f, data)
				if bytes.Equal(changed, data) {
					t.Fatal("the fault changes nothing")
				}
				writeFile(t, path, changed)
			}
			for _, second := range []IngestOptions{{}, {Second: true}} {
				got, sent := buildAgain(t, s, second, Options{}, raw)
				if !sent[digest.FromBytes(raw.layers[0])] {
					t.Error("the record was believed")
				}
				if diff := gocmp.Diff(want, got); diff != "" {
					t.Errorf("image (-want +got):\n%s", diff)
				}
			}
		})
	}
	t.Run("blob gone", func(t *testing.T) {
		s := testStore(t)
		img, _ := build(t, s, Options{}, raw)
		removeBlob(t, s, img.Manifests[0].Layers[0].Descriptor.Digest)
		got, sent := build(t, s, Options{}, raw)
		if !sent[digest.FromBytes(raw.layers[0])] {
			t.Error("the record was believed")
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("image (-want +got):\n%s", diff)
		}
		if _, err := s.Complete(t.Context(), got.Descriptor); err != nil {
			t.Error(err)
		}
	})
}

func TestSecondBuildDoesNotCompressAgain(t *testing.T) {
	s := testStore(t)
	build(t, s, Options{}, rawImage{platform: amd64, layers: [][]byte{tartest.Tar(t, file("a", "a"))}})
	before := files(t, s.Dir())
	again := tartest.Tar(t, file("a", "a").With(func(h *tar.Header) { h.ModTime = late.Add(time.Minute) }))
	x := newExport(t, rawImage{platform: amd64, layers: [][]byte{again}})
	in := testIngest(t, s, IngestOptions{Second: true})
	x.send(t, in)
	sent := len(files(t, in.draft.Dir()))
	if _, err := in.Write(t.Context(), x.root, []Source{{Platform: amd64}}, Options{}); err != nil {
		t.Fatal(err)
	}
	if got := len(files(t, in.draft.Dir())); got > sent {
		t.Errorf("it wrote %d blobs beside those sent", got-sent)
	}
	in.Close()
	if diff := gocmp.Diff(before, files(t, s.Dir())); diff != "" {
		t.Errorf("files of the store (-before +after):\n%s", diff)
	}
}

func TestBaseLayerThatWasNew(t *testing.T) {
	s := testStore(t)
	layer := tartest.Tar(t, file("a", "a"))
	build(t, s, Options{}, rawImage{platform: amd64, layers: [][]byte{layer}})
	onTop := rawImage{platform: amd64, base: [][]byte{layer}, layers: [][]byte{tartest.Tar(t, file("b", "b"))}}
	img, _ := build(t, s, Options{}, onTop)
	if got := img.Manifests[0].Layers[0].Descriptor.Digest; got != digest.FromBytes(layer) {
		t.Errorf("base layer %s, want the blob as it is", got)
	}
}

func TestWriteRefuses(t *testing.T) {
	layer := tartest.Tar(t, file("a", "a"))
	good := rawImage{platform: amd64, layers: [][]byte{layer}}
	conf := func(history, diffIDs string) string {
		return fmt.Sprintf(`{"architecture":"amd64","os":"linux","history":%s,"rootfs":{"type":"layers","diff_ids":%s}}`, history, diffIDs)
	}
	otherID := fmt.Sprintf("[%q]", digest.FromString("other"))
	tests := []struct {
		name    string
		raw     rawImage
		sources []Source
		want    string
	}{
		{"no source", good, nil, "for 1 platforms, want 0"},
		{"other platform", good, []Source{{Platform: amd64}, {Platform: arm64}}, "for 1 platforms, want 2"},
		{"too many base layers", good, []Source{{Platform: amd64, BaseLayers: 2}}, "2 layers of the base image, but 1"},
		{"too much base history", good, []Source{{Platform: amd64, BaseHistory: 3}}, "3 history entries of the base image, but 2"},
		{"bad base reference", good, []Source{{Platform: amd64, BaseRef: "UPPER"}}, `base image "UPPER"`},
		{"other diffID", rawImage{platform: amd64, layers: good.layers, config: conf("[{}]", otherID)}, []Source{{Platform: amd64}}, "does not have the diffID"},
		{"other diffID, gzip", rawImage{platform: amd64, layers: [][]byte{tartest.Gzip(t, layer)}, config: conf("[{}]", otherID)}, []Source{{Platform: amd64}}, "does not have the diffID"},
		{"history short", rawImage{platform: amd64, layers: good.layers, config: conf("[]", otherID)}, []Source{{Platform: amd64}}, "history names 0 layers, rootfs 1"},
		{"layers short", rawImage{platform: amd64, layers: good.layers, config: conf("null", "null")}, []Source{{Platform: amd64}}, "manifest has 1 layers, the config 0"},
		{"broken layer", rawImage{platform: amd64, layers: [][]byte{tartest.Tar(t, file("a", strings.Repeat("a", 600)))[:700]}}, []Source{{Platform: amd64}}, "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := testStore(t)
			x := newExport(t, tt.raw)
			in := testIngest(t, s, IngestOptions{})
			x.send(t, in)
			_, err := in.Write(t.Context(), x.root, tt.sources, Options{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q in it", err, tt.want)
			}
			if list, err := s.Images(t.Context()); err != nil || len(list) != 0 {
				t.Errorf("listed after the failure: %v, %v", list, err)
			}
		})
	}
}

func TestWriteWrongBlob(t *testing.T) {
	in := testIngest(t, testStore(t), IngestOptions{})
	d := ocispec.Descriptor{Digest: digest.FromString("right"), Size: 5}
	err := content.WriteBlob(t.Context(), in, "ref", strings.NewReader("wrong"), d)
	if !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a blob with another digest: %v", err)
	}
}

var errInterrupted = errors.New("interrupted")

func TestWriteInterrupted(t *testing.T) {
	s := testStore(t)
	x := newExport(t, rawImage{platform: amd64, layers: [][]byte{tartest.Tar(t, file("big", string(tartest.Noise(20<<20))))}})
	in := testIngest(t, s, IngestOptions{})
	x.send(t, in)
	before := files(t, s.Dir())
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		// In the middle of compression.
		for {
			if e, err := filepath.Glob(filepath.Join(in.draft.Dir(), "spool-*")); err == nil && len(e) > 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		cancel(errInterrupted)
	}()
	if _, err := in.Write(ctx, x.root, []Source{{Platform: amd64}}, Options{}); !errors.Is(err, errInterrupted) {
		t.Fatalf("Write: %v", err)
	}
	if diff := gocmp.Diff(before, files(t, s.Dir())); diff != "" {
		t.Errorf("files of the store (-before +after):\n%s", diff)
	}
	if _, err := in.Write(t.Context(), x.root, []Source{{Platform: amd64}}, Options{}); err != nil {
		t.Errorf("Write after an interrupted one: %v", err)
	}
}

func storePath(s *store.Store, elem ...string) string {
	return filepath.Join(append([]string{s.Dir()}, elem...)...)
}

func blobPath(s *store.Store, dgst digest.Digest) (string, error) {
	return storePath(s, "blobs", dgst.Algorithm().String(), dgst.Encoded()), nil
}
