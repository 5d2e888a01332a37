package source

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/kedge-build/kedge/store"
)

// picture returns an image for linux on an architecture.
func picture(t testing.TB, arch string) v1.Image {
	t.Helper()
	img, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

func indexOf(t testing.TB, images ...v1.Image) v1.ImageIndex {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, img := range images {
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: config.Platform()}})
	}
	return index
}

// write makes an OCI layout of an image or index, with a name unless that is empty.
func write(t testing.TB, what mutate.Appendable, name string) string {
	t.Helper()
	dir := t.TempDir()
	path, err := layout.Write(dir, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		t.Fatal(err)
	}
	var o []layout.Option
	if name != "" {
		o = append(o, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": name}))
	}
	if img, ok := what.(v1.Image); ok {
		err = path.AppendImage(img, o...)
	} else {
		err = path.AppendIndex(what.(v1.ImageIndex), o...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// tarOf returns a tar of a directory.
func tarOf(t testing.TB, dir string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	err = w.AddFS(os.DirFS(dir))
	if err := errors.Join(err, w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return file
}

func gzipped(t testing.TB, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err = w.Write(data)
	if err := errors.Join(err, w.Close(), os.WriteFile(file+".gz", b.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
	return file + ".gz"
}

func dockerArchive(t testing.TB, img v1.Image) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "docker.tar")
	tag, err := name.NewTag("app:1")
	if err == nil {
		err = tarball.WriteToFile(file, tag, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// uncompressed writes the form of docker save before version 25: uncompressed layers, one of them a link.
func uncompressed(t testing.TB, img v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	files := map[string][]byte{"config.json": config}
	for i, l := range layers {
		rc, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(rc)
		if err != nil {
			t.Fatal(err)
		}
		n := string(rune('a'+i)) + "/layer.tar"
		names = append(names, n)
		files[n] = data
	}
	files["manifest.json"], err = json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{"app:1"}, "Layers": names}})
	if err != nil {
		t.Fatal(err)
	}
	for n, data := range files {
		err := errors.Join(os.MkdirAll(filepath.Join(dir, filepath.Dir(n)), 0o755), os.WriteFile(filepath.Join(dir, n), data, 0o644))
		if err != nil {
			t.Fatal(err)
		}
	}
	return tarOf(t, dir)
}

// check fails unless name leads to an image with the config of want, and all of its layers can be read.
func check(t *testing.T, name string, o Options, want v1.Image) {
	t.Helper()
	o.TempDir = t.TempDir()
	img, err := Open(t.Context(), name, o)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	got, err := img.ConfigName()
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if w, err := want.ConfigName(); err != nil || got != w {
		t.Errorf("%s: config %s, not %s (%v)", name, got, w, err)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 2 {
		t.Errorf("%s: %d layers: %v", name, len(layers), err)
	}
	for _, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		sum, n, err := v1.SHA256(rc)
		if d, _ := l.Digest(); err != nil || sum != d {
			t.Errorf("%s: layer %s has the digest %s (%v)", name, d, sum, err)
		}
		if size, err := l.Size(); err != nil || size != n {
			t.Errorf("%s: layer of %d bytes, not %d", name, n, size)
		}
		rc.Close()
	}
	if err := img.Close(); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if left, err := os.ReadDir(o.TempDir); err != nil || len(left) > 0 {
		t.Errorf("%s: %d temporary files are left (%v)", name, len(left), err)
	}
}

func TestOpenFiles(t *testing.T) {
	img := picture(t, runtime.GOARCH)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	dir := write(t, img, "registry.example/app:1")
	oci, docker, plain := tarOf(t, dir), dockerArchive(t, img), uncompressed(t, img)
	for _, name := range []string{
		dir, "oci:" + dir, "oci:" + dir + ":registry.example/app:1", "oci:" + dir + "@" + digest.String(),
		oci, "oci-archive:" + oci, "oci-archive:" + oci + ":registry.example/app:1", gzipped(t, oci),
		docker, "docker-archive:" + docker, "docker-archive:" + docker + ":app:1", "docker-archive:" + gzipped(t, docker),
		plain, gzipped(t, plain),
	} {
		check(t, name, Options{}, img)
	}
	for _, name := range []string{"oci:" + dir + ":other", "docker-archive:" + docker + ":other", "oci:" + t.TempDir(), "oci-archive:", "oci-archive:" + filepath.Join(dir, "index.json")} {
		if img, err := Open(t.Context(), name, Options{TempDir: t.TempDir()}); err == nil {
			t.Errorf("%s is opened: %v", name, img)
		}
	}
}

// TestOpenReaderAt: layers in files allow random access.
func TestOpenReaderAt(t *testing.T) {
	dir := write(t, picture(t, runtime.GOARCH), "")
	for _, name := range []string{dir, tarOf(t, dir)} {
		img, err := Open(t.Context(), name, Options{})
		if err != nil {
			t.Fatal(err)
		}
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		rc, err := layers[0].Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := rc.(io.ReaderAt); !ok {
			t.Errorf("%s: a layer cannot be read at any place", name)
		}
		if err := errors.Join(rc.Close(), img.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenPlatform(t *testing.T) {
	amd, arm := picture(t, "amd64"), picture(t, "arm64")
	own := map[string]v1.Image{"amd64": amd, "arm64": arm}[runtime.GOARCH]
	index := indexOf(t, amd, arm)
	platform := func(arch string) Options {
		return Options{Platform: &v1.Platform{OS: "linux", Architecture: arch}}
	}
	nested, flat := write(t, index, ""), t.TempDir()
	if _, err := layout.Write(flat, index); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{nested, flat} {
		check(t, dir, platform("arm64"), arm)
		check(t, dir, platform("amd64"), amd)
		if own != nil {
			check(t, dir, Options{}, own)
		}
		_, err := Open(t.Context(), dir, platform("s390x"))
		var missing *PlatformError
		if !errors.As(err, &missing) || missing.Platform != "linux/s390x" || strings.Join(missing.Have, " ") != "linux/amd64 linux/arm64" {
			t.Errorf("no such platform: %v", err)
		}
	}
	// An image without an index is accepted for any platform, unless one is requested.
	alone := write(t, picture(t, "s390x"), "")
	if img, err := Open(t.Context(), alone, Options{}); err != nil {
		t.Error(err)
	} else {
		img.Close()
	}
	var missing *PlatformError
	if _, err := Open(t.Context(), alone, platform("arm64")); !errors.As(err, &missing) {
		t.Errorf("alone, for another platform: %v", err)
	}
}

func TestOpenRegistry(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	amd, arm := picture(t, "amd64"), picture(t, "arm64")
	push := func(s string) name.Reference {
		ref, err := name.ParseReference(host + "/" + s)
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	if err := errors.Join(remote.Write(push("app:1"), arm), remote.WriteIndex(push("app:2"), indexOf(t, amd, arm))); err != nil {
		t.Fatal(err)
	}
	check(t, host+"/app:1", Options{}, arm)
	check(t, "docker://"+host+"/app:2", Options{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}, arm)
	check(t, host+"/app:2", Options{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}, amd)
	var missing *PlatformError
	if _, err := Open(t.Context(), host+"/app:2", Options{Platform: &v1.Platform{OS: "linux", Architecture: "mips"}}); !errors.As(err, &missing) {
		t.Errorf("no such platform: %v", err)
	}
	if _, err := Open(t.Context(), host+"/none", Options{}); err == nil {
		t.Error("what is not there is opened")
	}
	var usage *UsageError
	if _, err := Open(t.Context(), "docker://No Reference", Options{}); !errors.As(err, &usage) {
		t.Errorf("no reference: %v", err)
	}
}

func TestOpenStore(t *testing.T) {
	st, err := store.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var missing *store.NotFoundError
	if _, err := Open(t.Context(), "store:app", Options{Store: st}); !errors.As(err, &missing) {
		t.Errorf("not in the store: %v", err)
	}
	if _, err := Open(t.Context(), "store:app", Options{}); err == nil {
		t.Error("no store, and no error")
	}
}

func TestOpenDaemon(t *testing.T) {
	img := picture(t, runtime.GOARCH)
	archive := dockerArchive(t, img)
	o := Options{Docker: func(_ context.Context, name string) (io.ReadCloser, error) {
		if name != "registry.example/app:1" {
			return nil, errors.New("no such image")
		}
		return os.Open(archive)
	}}
	check(t, "docker-daemon:registry.example/app:1", o, img)
	if _, err := Open(t.Context(), "docker-daemon:other", o); err == nil || !strings.Contains(err.Error(), "no such image") {
		t.Errorf("%v", err)
	}
	if _, err := Open(t.Context(), "docker-daemon:app", Options{}); err == nil {
		t.Error("no Engine, and no error")
	}
}

func FuzzArchive(f *testing.F) {
	img, err := random.Image(100, 1)
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range []string{dockerArchive(f, img), uncompressed(f, img), tarOf(f, write(f, img, "a"))} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "a.tar")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		img, err := Open(t.Context(), file, Options{TempDir: t.TempDir()})
		if err != nil {
			return
		}
		defer img.Close()
		layers, err := img.Layers()
		if err != nil {
			return
		}
		for _, l := range layers {
			if rc, err := l.Compressed(); err == nil {
				_, _ = io.Copy(io.Discard, rc)
				rc.Close()
			}
		}
	})
}
