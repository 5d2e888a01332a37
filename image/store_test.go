package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// small returns an image with one new layer that holds body.
func small(t testing.TB, body string) rawImage {
	return rawImage{platform: amd64, layers: [][]byte{tartest.Tar(t, file("f", body))}}
}

func names(t testing.TB, s *store.Store) map[string][]string {
	t.Helper()
	list, err := s.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := map[string][]string{}
	for _, e := range list {
		m[e.Descriptor.Digest.Encoded()[:12]] = e.Names
	}
	return m
}

func short(img store.Image) string { return img.Descriptor.Digest.Encoded()[:12] }

func TestTag(t *testing.T) {
	s := testStore(t)
	a, _ := build(t, s, Options{}, small(t, "a"))
	b, _ := build(t, s, Options{}, small(t, "b"))
	if diff := gocmp.Diff(map[string][]string{short(a): nil, short(b): nil}, names(t, s)); diff != "" {
		t.Errorf("fresh images (-want +got):\n%s", diff)
	}
	tag := func(img store.Image, names ...string) {
		t.Helper()
		if err := s.Tag(t.Context(), names, img.Descriptor); err != nil {
			t.Fatal(err)
		}
	}
	tag(a, "app", "localhost:5000/team/app:v1", "app")
	tag(b, "other")
	want := map[string][]string{
		short(a): {"docker.io/library/app:latest", "localhost:5000/team/app:v1"},
		short(b): {"docker.io/library/other:latest"},
	}
	if diff := gocmp.Diff(want, names(t, s)); diff != "" {
		t.Errorf("tagged (-want +got):\n%s", diff)
	}
	tag(b, "app:latest", "localhost:5000/team/app:v1")
	want = map[string][]string{
		short(a): nil,
		short(b): {"docker.io/library/app:latest", "docker.io/library/other:latest", "localhost:5000/team/app:v1"},
	}
	if diff := gocmp.Diff(want, names(t, s)); diff != "" {
		t.Errorf("moved (-want +got):\n%s", diff)
	}
	// Writing an image again does not add an entry without a name.
	build(t, s, Options{}, small(t, "b"))
	if diff := gocmp.Diff(want, names(t, s)); diff != "" {
		t.Errorf("written again (-want +got):\n%s", diff)
	}

	for _, name := range []string{"", "UPPER", "app@" + a.Descriptor.Digest.String()} {
		if err := s.Tag(t.Context(), []string{"fine", name}, a.Descriptor); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
	gone := ocispec.Descriptor{Digest: digest.FromString("gone")}
	var nf *store.NotFoundError
	if err := s.Tag(t.Context(), []string{"x"}, gone); !errors.As(err, &nf) {
		t.Errorf("tag of an image that is not there: %v", err)
	}
	if diff := gocmp.Diff(want, names(t, s)); diff != "" {
		t.Errorf("after failures (-want +got):\n%s", diff)
	}
}

func TestImages(t *testing.T) {
	s := testStore(t)
	layer := tartest.Tar(t, file("shared", "s"))
	img, _ := build(t, s, Options{}, rawImage{platform: arm64, layers: [][]byte{layer}}, rawImage{platform: amd64, layers: [][]byte{layer}})
	var size int64
	for _, f := range files(t, storePath(s, "blobs")) {
		size += int64(len(readFile(t, storePath(s, "blobs", f))))
	}
	got, err := s.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []store.Entry{{Descriptor: img.Descriptor, Platforms: []string{"linux/amd64", "linux/arm64"}, Created: epoch, Size: size}}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
}

func TestResolve(t *testing.T) {
	s := testStore(t)
	a, _ := build(t, s, Options{}, small(t, "a"))
	if err := s.Tag(t.Context(), []string{"app:v1", "facade"}, a.Descriptor); err != nil {
		t.Fatal(err)
	}
	// Digests with the same start cannot be made, so plant two entries.
	like := func(last string) digest.Digest {
		return digest.NewDigestFromEncoded(digest.SHA256, "abcdef"+strings.Repeat("0", 57)+last)
	}
	index := storePath(s, "index.json")
	var entries []string
	for _, last := range []string{"1", "2"} {
		entries = append(entries, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1},`, ocispec.MediaTypeImageManifest, like(last)))
	}
	writeFile(t, index, []byte(strings.Replace(readFile(t, index), `"manifests":[`, `"manifests":[`+strings.Join(entries, ""), 1)))
	hex := a.Descriptor.Digest.Encoded()
	tests := []struct {
		ref        string
		want       digest.Digest
		candidates []digest.Digest
	}{
		{ref: "app:v1", want: a.Descriptor.Digest},
		{ref: "docker.io/library/app:v1", want: a.Descriptor.Digest},
		{ref: "facade", want: a.Descriptor.Digest}, // six hex digits, but a name
		{ref: "sha256:" + hex, want: a.Descriptor.Digest},
		{ref: hex, want: a.Descriptor.Digest},
		{ref: hex[:6], want: a.Descriptor.Digest},
		{ref: strings.ToUpper(hex[:7]), want: a.Descriptor.Digest},
		{ref: "sha256:" + hex[:7], want: a.Descriptor.Digest},
		{ref: "anything@sha256:" + hex, want: a.Descriptor.Digest},
		{ref: hex[:5]},
		{ref: "app"},
		{ref: "app:v2"},
		{ref: ""},
		{ref: "sha256:"},
		{ref: "abcdef", candidates: []digest.Digest{like("1"), like("2")}},
		{ref: like("1").String(), want: like("1")},
	}
	for _, tt := range tests {
		t.Run(tt.ref, func(t *testing.T) {
			got, err := s.Resolve(t.Context(), tt.ref)
			if got.Digest != tt.want {
				t.Errorf("digest %q, want %q", got.Digest, tt.want)
			}
			var nf *store.NotFoundError
			if tt.want != "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.As(err, &nf) || !errdefs.IsNotFound(err) || nf.Ref != tt.ref {
				t.Fatalf("error %v, want a NotFoundError", err)
			}
			if diff := gocmp.Diff(tt.candidates, nf.Candidates); diff != "" {
				t.Errorf("candidates (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPrune(t *testing.T) {
	s := testStore(t)
	base := tartest.Gzip(t, tartest.Tar(t, file("base", "base")))
	keep, _ := build(t, s, Options{}, rawImage{platform: amd64, base: [][]byte{base}, layers: [][]byte{tartest.Tar(t, file("f", "keep"))}})
	drop, _ := build(t, s, Options{}, rawImage{platform: amd64, base: [][]byte{base}, layers: [][]byte{tartest.Tar(t, file("f", "drop"))}})
	if err := s.Tag(t.Context(), []string{"keep"}, keep.Descriptor); err != nil {
		t.Fatal(err)
	}
	orphan := digest.FromString("orphan")
	writeFile(t, storePath(s, "blobs", "sha256", orphan.Encoded()), []byte("orphan"))
	if err := os.MkdirAll(storePath(s, "tmp", "ingest-dead"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, storePath(s, "tmp", "ingest-dead", "data"), make([]byte, 1000))
	writeFile(t, storePath(s, "tmp", "ingest-dead", "lock"), nil)

	m := drop.Manifests[0]
	gone := []digest.Digest{m.Descriptor.Digest, m.Config, m.Layers[1].Descriptor.Digest, orphan}
	var size int64 = 1000
	for _, d := range gone {
		size += int64(len(readFile(t, storePath(s, "blobs", "sha256", d.Encoded()))))
	}
	slices.Sort(gone)
	got, err := s.Prune(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	want := store.Pruned{Images: []digest.Digest{drop.Descriptor.Digest}, Blobs: gone, Bytes: size}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("pruned (-want +got):\n%s", diff)
	}
	if _, err := s.Complete(t.Context(), keep.Descriptor); err != nil {
		t.Error(err)
	}
	if got := files(t, storePath(s, "layers")); len(got) != 2 {
		t.Errorf("records left: %q, want two for the layer that is left", got)
	}
	if got := files(t, storePath(s, "tmp")); len(got) != 0 {
		t.Errorf("left in tmp: %q", got)
	}
	if got, err := s.Prune(t.Context(), false); err != nil || !gocmp.Equal(got, store.Pruned{}) {
		t.Errorf("pruned again: %+v, %v", got, err)
	}
	if _, err := s.Prune(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if got := files(t, s.Dir()); !gocmp.Equal(got, []string{"index.json", "index.lock", "oci-layout", "store.lock"}) {
		t.Errorf("left after pruning all: %q", got)
	}
	build(t, s, Options{}, small(t, "after"))
}

func TestPruneBusy(t *testing.T) {
	s := testStore(t)
	img, _ := build(t, s, Options{}, small(t, "a"))
	busy := func(why string) {
		t.Helper()
		var be *store.BusyError
		if _, err := s.Prune(t.Context(), true); !errors.As(err, &be) {
			t.Errorf("%s: %v, want a BusyError", why, err)
		}
		if _, err := s.Complete(t.Context(), img.Descriptor); err != nil {
			t.Error(err)
		}
	}
	in := testIngest(t, s, IngestOptions{})
	busy("an export of this store")
	in.Close()
	other, err := store.Open(t.Context(), s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	busy("another process")
	// The refused Prune must still hold its own lock.
	var be *store.BusyError
	if _, err := other.Prune(t.Context(), true); !errors.As(err, &be) {
		t.Errorf("the other way round: %v, want a BusyError", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prune(t.Context(), true); err != nil {
		t.Error(err)
	}
	if _, err := store.Open(t.Context(), s.Dir()); err != nil {
		t.Errorf("open after pruning: %v", err)
	}
}

// TestKilled kills a process that runs this test during an export.
func TestKilled(t *testing.T) {
	const child = "KEDGE_TEST_KILLED"
	if dir := os.Getenv(child); dir != "" {
		s, err := store.Open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		in, err := NewIngest(t.Context(), s, epoch, IngestOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close() // never, but it keeps the lock from the garbage collector
		newExport(t, small(t, "killed")).send(t, in)
		writeFile(t, filepath.Join(dir, "ready"), nil)
		time.Sleep(time.Hour)
	}
	s := testStore(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), child+"="+s.Dir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := filepath.Join(s.Dir(), "ready")
	for range 1000 {
		if _, err := os.Stat(ready); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := os.Remove(ready); err != nil {
		t.Fatal(err)
	}
	var be *store.BusyError
	if _, err := s.Prune(t.Context(), false); !errors.As(err, &be) {
		t.Errorf("prune while another process exports: %v", err)
	}
	reopen := func() {
		t.Helper()
		other, err := store.Open(t.Context(), s.Dir())
		if err != nil {
			t.Fatal(err)
		}
		other.Close()
	}
	reopen()
	if len(files(t, storePath(s, "tmp"))) == 0 {
		t.Error("the export of a living process was removed")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	reopen()
	if got := files(t, storePath(s, "tmp")); len(got) != 0 {
		t.Errorf("left by the dead process: %q", got)
	}
	if got := names(t, s); len(got) != 0 {
		t.Errorf("images: %v", got)
	}
}

func TestOpenStoreRefuses(t *testing.T) {
	foreign := t.TempDir()
	writeFile(t, filepath.Join(foreign, "thesis.tex"), nil)
	layout := t.TempDir()
	writeFile(t, filepath.Join(layout, "oci-layout"), []byte(store.LayoutFile))
	newer := t.TempDir()
	writeFile(t, filepath.Join(newer, "oci-layout"), []byte(`{"imageLayoutVersion":"2.0.0"}`))
	writeFile(t, filepath.Join(newer, "store.lock"), nil)
	for want, dir := range map[string]string{
		"not empty and not an image store":    foreign,
		"is not empty and not an image":       layout,
		`OCI image layout of version "2.0.0"`: newer,
	} {
		before := files(t, dir)
		if _, err := store.Open(t.Context(), dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
		if diff := gocmp.Diff(before, files(t, dir)); diff != "" {
			t.Errorf("the directory changed:\n%s", diff)
		}
	}
}

// TestConcurrentExports opens the store many times while exports start and end.
func TestConcurrentExports(t *testing.T) {
	s := testStore(t)
	errs := make(chan error)
	const workers = 8
	for range workers {
		go func() {
			var err error
			for i := 0; i < 40 && err == nil; i++ {
				var other *store.Store
				if other, err = store.Open(context.Background(), s.Dir()); err != nil {
					break
				}
				in, begun := NewIngest(context.Background(), other, epoch, IngestOptions{})
				if err = begun; err == nil {
					err = in.Close()
				}
				err = errors.Join(err, other.Close())
			}
			errs <- err
		}()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := files(t, storePath(s, "tmp")); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

func TestConcurrentTags(t *testing.T) {
	s := testStore(t)
	img, _ := build(t, s, Options{}, small(t, "a"))
	errs := make(chan error)
	var want []string
	for i := range 20 {
		name := "docker.io/library/n:" + string(rune('a'+i))
		want = append(want, name)
		go func() {
			other, err := store.Open(context.Background(), s.Dir())
			if err == nil {
				err = errors.Join(other.Tag(context.Background(), []string{name}, img.Descriptor), other.Close())
			}
			errs <- err
		}()
	}
	for range want {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if diff := gocmp.Diff(map[string][]string{short(img): want}, names(t, s)); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}
