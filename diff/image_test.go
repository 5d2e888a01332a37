package diff

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/klauspost/compress/gzip"
)

// picture returns an image with layers, each a list of files.
func picture(t testing.TB, layers ...[]file) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: "amd64", Config: v1.Config{Env: []string{"PATH=/bin", "A=1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return stack(t, img, layers...)
}

// stack adds layers to an image.
func stack(t testing.TB, img v1.Image, layers ...[]file) v1.Image {
	t.Helper()
	for _, files := range layers {
		img = appendTar(t, img, tartest.Tar(t, files...), gzip.DefaultCompression)
	}
	return img
}

func appendTar(t testing.TB, img v1.Image, content []byte, level int) v1.Image {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}, tarball.WithCompressionLevel(level), tarball.WithMediaType(types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.Append(img, mutate.Addendum{Layer: l}); err != nil {
		t.Fatal(err)
	}
	return img
}

func compare(t testing.TB, a, b v1.Image, types ...string) *Result {
	t.Helper()
	r, err := Images(t.Context(), a, b, Options{Types: types, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// said returns paths in the form "CHANGE PATH WHAT,...".
func said(files []File) []string {
	list := []string{}
	for _, f := range files {
		list = append(list, strings.TrimSpace(string(f.Change)+" "+f.Path.Path+" "+strings.Join(f.What, ",")))
	}
	return list
}

func dir(name string) file {
	return special(name, tar.TypeDir).With(func(h *tar.Header) { h.Mode = 0o755 })
}

func link(name, target string) file {
	return special(name, tar.TypeLink).With(func(h *tar.Header) { h.Linkname = target })
}

func symlink(name, target string) file {
	return special(name, tar.TypeSymlink).With(func(h *tar.Header) { h.Linkname = target })
}

func TestImagesSquashed(t *testing.T) {
	base := []file{dir("d"), regular("d/one", "1"), regular("d/two", "2"), regular("top", "t")}
	a := regular("a", "body")
	tests := []struct {
		name          string
		first, second [][]file
		want          []string
	}{
		// Differences.
		{"same size", [][]file{{a}}, [][]file{{regular("a", "bodY")}}, []string{"changed /a content"}},
		{"setuid", [][]file{{a}}, [][]file{{a.With(func(h *tar.Header) { h.Mode |= 0o4000 })}}, []string{"changed /a mode"}},
		{"owner", [][]file{{a}}, [][]file{{a.With(func(h *tar.Header) { h.Gid = 7 })}}, []string{"changed /a owner"}},
		{"xattr", [][]file{{a}}, [][]file{{a.With(xattr("security.capability", "x"))}}, []string{"changed /a xattrs"}},
		{"time", [][]file{{a}}, [][]file{{a.With(func(h *tar.Header) { h.ModTime = epoch.Add(time.Second) })}}, []string{"changed /a time"}},
		{"file to symlink", [][]file{{a}}, [][]file{{symlink("a", "b")}}, []string{"changed /a type,target"}},
		{"link target", [][]file{{symlink("a", "b")}}, [][]file{{symlink("a", "c")}}, []string{"changed /a target"}},
		{"device", [][]file{{special("a", tar.TypeChar)}}, [][]file{{special("a", tar.TypeChar).With(func(h *tar.Header) { h.Devminor = 3 })}}, []string{"changed /a device"}},
		{"hard link to what changed", [][]file{{a, link("l", "a")}}, [][]file{{regular("a", "bodY"), link("l", "a")}}, []string{"changed /a content", "changed /l content"}},
		{"hard link to another", [][]file{{a, regular("b", "x"), link("l", "a")}}, [][]file{{a, regular("b", "x"), link("l", "b")}}, []string{"changed /l content"}},
		{"hard link to a lower layer", [][]file{base, {link("l", "d/one")}}, [][]file{base, {link("l", "d/two")}}, []string{"changed /l content"}},
		{"whiteout", [][]file{base, {regular("d/.wh.one", "")}}, [][]file{base}, []string{"added /d/one"}},
		{"whiteout of a directory", [][]file{base}, [][]file{base, {special(".wh.d", tar.TypeReg)}}, []string{"removed /d", "removed /d/one", "removed /d/two"}},
		{"opaque directory", [][]file{base}, [][]file{base, {dir("d"), regular("d/.wh..wh..opq", ""), regular("d/three", "3")}}, []string{"removed /d/one", "added /d/three", "removed /d/two"}},
		{"opaque mark alone", [][]file{base}, [][]file{base, {regular("d/.wh..wh..opq", "")}}, []string{"removed /d/one", "removed /d/two"}},
		{"directory made anew", [][]file{base}, [][]file{base, {regular(".wh.d", ""), dir("d"), regular("d/one", "1")}}, []string{"removed /d/two"}},
		{"file in place of a directory", [][]file{base}, [][]file{base, {regular("d", "")}}, []string{"changed /d type,mode", "removed /d/one", "removed /d/two"}},
		{"over a shared layer, on one side", [][]file{base, {a}}, [][]file{base, {a, regular("top", "T")}}, []string{"changed /top content"}},
		{"new over a shared layer", [][]file{base, {a}}, [][]file{base, {a, regular("new", "n")}}, []string{"added /new"}},
		{"one layer more", [][]file{base}, [][]file{base, {a}}, []string{"added /a"}},
		{"root", [][]file{{dir("./")}}, [][]file{{dir("./").With(func(h *tar.Header) { h.Mode = 0o777 })}}, []string{"changed / mode"}},
		// No differences.
		{"same", [][]file{base}, [][]file{base}, []string{}},
		{"cut in other layers", [][]file{base, {a}}, [][]file{{a}, base}, []string{}},
		{"all in one layer", [][]file{base, {a}}, [][]file{append(slices.Clone(base), a)}, []string{}},
		{"other order", [][]file{base}, [][]file{{base[3], base[0], base[2], base[1]}}, []string{}},
		{"removed /and made again", [][]file{base}, [][]file{base, {regular(".wh.top", "")}, {base[3]}}, []string{}},
		{"never seen", [][]file{base, {regular("x", "1")}, {regular(".wh.x", "")}}, [][]file{base}, []string{}},
		{"link or the other way round", [][]file{{a, link("b", "a")}}, [][]file{{regular("b", "body"), link("a", "b")}}, []string{}},
		{"link or copy", [][]file{{a, link("b", "a")}}, [][]file{{a, regular("b", "body")}}, []string{}},
		{"other names", [][]file{{dir("./d/"), regular("./d/a", "x")}}, [][]file{{dir("d"), regular("/d/a", "x")}}, []string{}},
		{"root that is not said", [][]file{{dir("./"), a}}, [][]file{{a}}, []string{}},
		{"directory again", [][]file{base, {dir("d")}}, [][]file{base}, []string{}},
		{"opaque, with all again", [][]file{base}, [][]file{base, append([]file{regular("d/.wh..wh..opq", "")}, base...)}, []string{}},
		{"same layer over other ones", [][]file{{regular("a", "x")}, base}, [][]file{{regular("a", "x")}, {}, base}, []string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := compare(t, picture(t, tt.first...), picture(t, tt.second...), "file")
			if d := cmp.Diff(tt.want, said(r.Files)); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
			if r.Same != (len(tt.want) == 0) || len(r.Notes) > 0 {
				t.Errorf("same: %v, notes: %q", r.Same, r.Notes)
			}
		})
	}
}

func TestImagesSame(t *testing.T) {
	content := tartest.Tar(t, regular("a", strings.Repeat("body", 1000)))
	base := picture(t)
	a := appendTar(t, base, content, gzip.BestCompression)
	b := appendTar(t, base, content, gzip.NoCompression)
	r := compare(t, a, b)
	if !r.Same || len(r.Shared) != 1 || r.Sizes.First == r.Sizes.Second {
		t.Errorf("other compression: %+v", r)
	}
	if r := compare(t, a, b, "size"); r.Same {
		t.Error("asked for sizes, they are the same")
	}
	r = compare(t, a, a)
	if !r.Same || r.First.Digest != r.Second.Digest {
		t.Errorf("the same image: %+v", r)
	}
}

func TestImagesLayers(t *testing.T) {
	shared, x := []file{regular("s", "s")}, []file{regular("a", "1"), regular("b", "1")}
	a := picture(t, shared, x, []file{regular(".wh.a", "")})
	b := picture(t, shared, []file{regular("b", "2"), regular("a", "1")})
	r := compare(t, a, b, "layer")
	if len(r.Layers) != 2 || r.Same || len(r.Shared) != 1 {
		t.Fatalf("%+v", r)
	}
	if d := cmp.Diff([]string{"changed /b content"}, said(r.Layers[0].Files)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"removed /a"}, said(r.Layers[1].Files)); d != "" {
		t.Error(d)
	}
	if l := r.Layers[1]; l.Index != 2 || l.Second != "" || l.Files[0].First.Type != "whiteout" {
		t.Errorf("%+v", l)
	}
}

func TestImagesStat(t *testing.T) {
	a := picture(t, []file{regular("a", "12")})
	b := picture(t, []file{regular("a", "123").With(func(h *tar.Header) { h.Mode, h.Uid = 0o4777, 5 })})
	got := compare(t, a, b, "file").Files
	when := epoch.UTC().Format(time.RFC3339)
	want := []File{{
		Path{"/a", Changed, []string{"content", "mode", "owner"}},
		&Stat{Type: "file", Size: 2, Mode: "644", Time: when},
		&Stat{Type: "file", Size: 3, Mode: "4777", UID: 5, Time: when},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// broken is a layer that cannot be read.
type broken struct{ v1.Layer }

func (broken) Compressed() (io.ReadCloser, error) { return nil, errors.New("it is gone") }

// other is a layer with the content of another layer.
type other struct{ v1.Layer }

func (other) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("something else")), nil
}

// withLayers replaces layers of an image.
type withLayers struct {
	v1.Image
	change func(v1.Layer) v1.Layer
	at     int
}

func (w withLayers) Layers() ([]v1.Layer, error) {
	layers, err := w.Image.Layers()
	if err == nil {
		layers[w.at] = w.change(layers[w.at])
	}
	return layers, err
}

func breakLayer(l v1.Layer) v1.Layer  { return broken{l} }
func changeLayer(l v1.Layer) v1.Layer { return other{l} }

func TestImagesSharedIsNotRead(t *testing.T) {
	base := picture(t, []file{regular("s", "s")})
	a := withLayers{stack(t, base, []file{regular("a", "1")}), breakLayer, 0}
	b := withLayers{stack(t, base, []file{regular("a", "2")}), breakLayer, 0}
	r := compare(t, a, b)
	if d := cmp.Diff([]string{"changed /a content"}, said(r.Files)); d != "" || len(r.Notes) > 0 {
		t.Error(d, r.Notes)
	}
	// Only the shared layer knows whether this is new.
	b = withLayers{stack(t, base, []file{regular("a", "1"), regular("s", "2")}), breakLayer, 0}
	r = compare(t, a, b)
	if d := cmp.Diff([]string{"added /s"}, said(r.Files)); d != "" || len(r.Notes) != 1 {
		t.Error(d, r.Notes)
	}
	if r := compare(t, a, b, "config", "history", "size"); len(r.Notes) > 0 {
		t.Error(r.Notes)
	}
}

func TestImagesRefuses(t *testing.T) {
	a, b := picture(t, []file{regular("a", "1")}), picture(t, []file{regular("a", "2")})
	_, err := Images(t.Context(), a, withLayers{b, changeLayer, 0}, Options{})
	var wrong *layer.DigestError
	if !errors.As(err, &wrong) {
		t.Errorf("another content: %v", err)
	}
	if _, err := Images(t.Context(), a, withLayers{b, breakLayer, 0}, Options{}); err == nil || !strings.Contains(err.Error(), "it is gone") {
		t.Errorf("unreadable: %v", err)
	}
	if _, err := Images(t.Context(), a, b, Options{Types: []string{"dpkg"}}); err == nil {
		t.Error("an unknown type is taken")
	}
	for want, f := range map[string]file{
		"path of more than": regular(strings.Repeat("x/", 2048)+"x", ""),
		`path with ".."`:    regular("../../a", ""),
		"whiteout of no":    regular("d/.wh.", ""),
	} {
		if _, err := Images(t.Context(), a, picture(t, []file{f}), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func TestImagesConfig(t *testing.T) {
	change := func(img v1.Image, fn func(*v1.ConfigFile)) v1.Image {
		file, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		file = file.DeepCopy()
		fn(file)
		if img, err = mutate.ConfigFile(img, file); err != nil {
			t.Fatal(err)
		}
		return img
	}
	a := picture(t)
	b := change(a, func(c *v1.ConfigFile) {
		c.Config.Env = []string{"A=2", "PATH=/bin", "B=x"}
		c.Config.Labels = map[string]string{"org.example.a": "b"}
		c.Config.Entrypoint = []string{"/bin/sh", "-c"}
		c.Config.Volumes = map[string]struct{}{"/data": {}}
		c.History = []v1.History{{CreatedBy: "RUN x", EmptyLayer: true}}
	})
	r := compare(t, a, b)
	want := []Setting{
		{"config.Entrypoint", Added, "", `["/bin/sh","-c"]`},
		{"config.Env.A", Changed, "1", "2"},
		{"config.Env.B", Added, "", "x"},
		{`config.Labels["org.example.a"]`, Added, "", "b"},
		{`config.Volumes["/data"]`, Added, "", "{}"},
	}
	if d := cmp.Diff(want, r.Config); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]Step{{Index: 0, Second: &StepState{CreatedBy: "RUN x", EmptyLayer: true}}}, r.History); d != "" {
		t.Error(d)
	}
	if r.Same {
		t.Error("said to be the same")
	}
	b = change(a, func(c *v1.ConfigFile) { c.Config.Env = []string{"A=1", "PATH=/bin"} })
	if r := compare(t, a, b); !r.Same {
		t.Errorf("Env in another order: %+v", r.Config)
	}
}

func TestImagesPackages(t *testing.T) {
	status := func(version string) file {
		return regular("var/lib/dpkg/status", "Package: libc6\nStatus: install ok installed\nVersion: "+version+"\n\nPackage: tar\nVersion: 1\n")
	}
	pip := func(dir, version string) file {
		return regular("usr/lib/"+dir+"/x.dist-info/METADATA", "Name: x\nVersion: "+version+"\n\nbody")
	}
	tests := []struct {
		name          string
		first, second [][]file
		want          []Package
	}{
		{"upgraded", [][]file{{status("1")}}, [][]file{{status("2")}}, []Package{{"deb", "libc6", Changed, "1", "2"}}},
		{"upgraded over a shared layer", [][]file{{status("1")}}, [][]file{{status("1")}, {status("2")}}, []Package{{"deb", "libc6", Changed, "1", "2"}}},
		{"removed", [][]file{{pip("p", "1")}}, [][]file{{}}, []Package{{"pypi", "x", Removed, "1", ""}}},
		{"removed by whiteout", [][]file{{pip("p", "1")}}, [][]file{{pip("p", "1")}, {regular("usr/lib/.wh.p", "")}}, []Package{{"pypi", "x", Removed, "1", ""}}},
		{"added", [][]file{{}}, [][]file{{pip("p", "1"), pip("q", "2")}}, []Package{{"pypi", "x", Added, "", "1, 2"}}},
		{"moved", [][]file{{pip("p", "1")}}, [][]file{{pip("q", "1")}}, []Package{}},
		{"same packages, other text", [][]file{{pip("p", "1")}}, [][]file{{regular("usr/lib/p/x.dist-info/METADATA", "Name: x\nVersion: 1\nLicense: y\n")}}, []Package{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := compare(t, picture(t, tt.first...), picture(t, tt.second...), "deb", "pypi")
			if d := cmp.Diff(tt.want, r.Packages); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
			if len(r.Files) > 0 {
				t.Error("files were not asked for")
			}
		})
	}
	r := compare(t, picture(t, []file{regular("var/lib/rpm/rpmdb.sqlite", "no database, but long enough")}), picture(t))
	if len(r.Notes) != 1 {
		t.Errorf("a damaged database: notes %q", r.Notes)
	}
}

const hostile = "a|b\n`</code><script>alert(1)</script>`\x1b[2J[x](http://e.example)\u202e"

func FuzzReadTree(f *testing.F) {
	f.Add(tartest.Tar(f, regular("a", "body"), dir("d"), link("l", "a"), symlink("s", "l"), regular("d/.wh..wh..opq", ""), regular(".wh.x", ""), regular("var/lib/dpkg/status", "Package: a\nVersion: 1\n")))
	f.Add(tartest.Tar(f, regular(hostile, "x").With(xattr("user.a", "b"))))
	f.Fuzz(func(t *testing.T, content []byte) {
		if len(content) > 1<<20 {
			t.Skip()
		}
		a := appendTar(t, picture(t), content, gzip.NoCompression)
		if _, err := Images(t.Context(), a, picture(t, []file{regular("a", "x")}), Options{TempDir: t.TempDir()}); err != nil {
			return
		}
		if r := compare(t, a, a); !r.Same {
			t.Errorf("an image differs from itself: %+v", r)
		}
	})
}
