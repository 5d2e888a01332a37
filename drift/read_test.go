package drift

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// item is an entry of a test's layer. A name that ends in a slash is a folder.
type item struct {
	name, content string
	mode          int64
	link          string // of a symlink; with = before it, of a hard link
	xattrs        map[string]string
}

// image returns an image of layers, made by the instructions RUN 0, RUN 1 and so on.
func image(t testing.TB, config v1.Config, layers ...[]item) v1.Image {
	t.Helper()
	var add []mutate.Addendum
	for i, items := range layers {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, it := range items {
			h := &tar.Header{Name: it.name, Mode: it.mode, Size: int64(len(it.content)), Typeflag: tar.TypeReg, PAXRecords: map[string]string{}}
			if h.Mode == 0 {
				h.Mode = 0o644
			}
			target, hard := strings.CutPrefix(it.link, "=")
			switch {
			case hard:
				h.Typeflag, h.Linkname = tar.TypeLink, target
			case it.link != "":
				h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, it.link, 0o777
			case strings.HasSuffix(it.name, "/"):
				h.Typeflag = tar.TypeDir
				if it.mode == 0 {
					h.Mode = 0o755
				}
			}
			for k, v := range it.xattrs {
				h.PAXRecords["SCHILY.xattr."+k] = v
			}
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, it.content); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
		if err != nil {
			t.Fatal(err)
		}
		add = append(add, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: "RUN " + string(rune('0'+i))}})
	}
	img, err := mutate.Append(empty.Image, add...)
	if err == nil {
		img, err = mutate.ConfigFile(img, withConfig(t, img, config))
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func withConfig(t testing.TB, img v1.Image, config v1.Config) *v1.ConfigFile {
	t.Helper()
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", "amd64", config
	return file
}

func record(t testing.TB, img v1.Image) *Record {
	t.Helper()
	r, notes, err := Read(t.Context(), img)
	if err != nil || len(notes) > 0 {
		t.Fatal(err, notes)
	}
	return r
}

const osRelease = "ID=debian\nVERSION_ID=\"12\"\n"

// TestRead reads an image with everything that a record has.
func TestRead(t *testing.T) {
	img := image(t, v1.Config{User: "app", Env: []string{"A=1"}, ExposedPorts: map[string]struct{}{"80/tcp": {}}},
		[]item{
			{name: "etc/"}, {name: "etc/os-release", link: "../usr/lib/os-release"}, {name: "usr/lib/os-release", content: osRelease},
			{name: "etc/apt/sources.list", content: "# comment\ndeb [signed-by=/k.gpg] http://user:pass@deb.example.org/debian bookworm main # x\n"},
			{name: "etc/apt/sources.list.d/a.sources", content: "Types: deb\nURIs: https://b.example.org/\nSuites: x\n y\nComponents: main\n\nEnabled: no\nTypes: deb\nURIs: https://no.example.org\nSuites: z\n"},
			{name: "root/.npmrc", content: "@scope:registry = https://npm.example.org/\n//npm.example.org/:_authToken=secret\n"},
			{name: "var/lib/dpkg/status", content: "Package: openssl\nStatus: install ok installed\nVersion: 1:3.0.1-2+deb\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n"},
			{name: "usr/lib/node_modules/@a/b/package.json", content: `{"name": "@a/b", "version": "1.2.3"}`},
			{name: "old", content: "x"}, {name: "tmp/", mode: 0o1777},
		},
		[]item{
			{name: ".wh.old"}, {name: "bin/su", content: "su", mode: 0o4755}, {name: "bin/su2", link: "=bin/su"},
			{name: "bin/ping", content: "ping", mode: 0o755, xattrs: map[string]string{"security.capability": "\x01\x02"}},
			{name: "a b\n", content: "odd"},
		})
	r := record(t, img)
	digest := r.Digest
	r.Digest, r.Download, r.Layers[0].DiffID, r.Layers[1].DiffID = "sha256:d", 7, "sha256:0", "sha256:1"
	want := map[string]string{
		"image": header + `version = 1
digest = "sha256:d"
platform = "linux/amd64"
base = "debian 12"
size = 504
download = 7
files = 25
packages = 2
layers = [
  "sha256:0 496 RUN 0",
  "sha256:1 9 RUN 1",
]
sources = [
  "deb http://deb.example.org/debian bookworm main",
  "deb https://b.example.org/ x main",
  "deb https://b.example.org/ y main",
  "npm https://npm.example.org/",
]

[config]
"config.Env.A" = "1"
"config.ExposedPorts[\"80/tcp\"]" = "{}"
"config.User" = "app"

[folders]
"/" = 3
"/bin" = 6
"/etc/apt" = 224
"/root" = 80
"/usr/lib" = 62
"/var/lib" = 129

[privileged]
"/bin/ping" = "file 755 0:0 security.capability=AQI="
"/bin/su" = "file 4755 0:0"
"/bin/su2" = "file 4755 0:0"

[world-writable]
"/tmp" = "directory 1777 0:0"
`,
		"packages": "pkg:deb/debian/openssl@1:3.0.1-2%2Bdeb\npkg:npm/%40a/b@1.2.3\n",
	}
	got := map[string]string{}
	for name, text := range r.Format() {
		got[name] = string(text)
	}
	for _, name := range []string{"image", "packages"} {
		if diff := cmp.Diff(want[name], got[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	bin := strings.Split(got["files/bin"], "\n")
	if len(bin) != 4 || !strings.HasPrefix(bin[1], "/bin/su file 4755 0:0 2 sha256:") || strings.Replace(bin[2], "su2 file 4755 0:0 linked", "su file 4755 0:0", 1) != bin[1] ||
		!strings.HasSuffix(bin[0], " security.capability=AQI=") {
		t.Errorf("files/bin: %q", bin)
	}
	if !strings.Contains(got["files/top"], `"/a b\n" file 644 0:0 3 sha256:`) || strings.Contains(got["files/top"], "/old") {
		t.Errorf("files/top: %s", got["files/top"])
	}
	for name, text := range got {
		if strings.Contains(text, "pass") && name != "files/usr" || strings.Contains(text, "secret") {
			t.Errorf("%s has a credential: %s", name, text)
		}
	}
	if digest == "" || r.Layers[0].By != "RUN 0" {
		t.Errorf("%q, %v", digest, r.Layers)
	}
}

// TestSaveLoad: a record comes back as it was, and an edited or merged one is refused.
func TestSaveLoad(t *testing.T) {
	r := record(t, image(t, v1.Config{Env: []string{"A=\"1\"\\\x00\xff\u202e"}}, []item{
		{name: "a/b", content: "1"}, {name: "a.b", content: "2"}, {name: "\xffodd \"name\"", content: "3"}, {name: "l", link: "a b"}, {name: "empty", content: ""},
		{name: "fifo/", mode: 0o2777},
	}))
	r.Reason = "it is \"fine\"\n"
	dir := filepath.Join(t.TempDir(), "Dockerfile.drift")
	if err := r.Save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.Files, got.Files, cmp.AllowUnexported(File{})); diff != "" {
		t.Error(diff)
	}
	if got.Reason != r.Reason || len(Compare(r, got, nil).Files)+len(Compare(r, got, nil).Config) > 0 {
		t.Errorf("%q, %v", got.Reason, Compare(r, got, nil).Config)
	}
	// Another image in the same place leaves nothing of the first.
	if err := record(t, image(t, v1.Config{}, []item{{name: "z/z", content: "1"}})).Save(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "files", "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file of the old record is still there")
	}
	for name, edit := range map[string]func(string) string{
		"files/z":  func(s string) string { return strings.Replace(s, " 644 ", " 755 ", 1) + "nonsense\n" },
		"image":    func(s string) string { return strings.Replace(s, "files = 2", "files = 3", 1) },
		"packages": func(s string) string { return s + "pkg:deb/debian/x@1" },
	} {
		path := filepath.Join(dir, name)
		old, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(edit(string(old))), 0o644); err != nil {
			t.Fatal(err)
		}
		var bad *FormatError
		if _, err := Load(dir); !errors.As(err, &bad) {
			t.Errorf("%s was edited: %v", name, err)
		}
		if err := os.WriteFile(path, old, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(dir); err != nil {
		t.Error(err)
	}
	// A merge conflict has its line, and may be recorded over. The record of a newer kedge may not.
	path := filepath.Join(dir, "image")
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		header + "<<<<<<< HEAD\nversion = 1\n=======\nversion = 2\n>>>>>>> a\n": "image:2: git left a merge conflict here",
		header + "version = 2\nnew = true\n":                                    "image: version 2 is newer than this kedge",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		var bad *FormatError
		if _, err := Load(dir); !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		} else if err := r.Save(dir); (err == nil) == bad.Newer {
			t.Errorf("recorded over %q: %v", text, err)
		} else if now, err := os.ReadFile(path); err != nil || bad.Newer != (string(now) == text) {
			t.Errorf("%q became %q, %v", text, now, err)
		}
	}
	if err := os.WriteFile(path, sound, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestArrange: records of platforms replace one record and are replaced by one, and what is none stays.
func TestArrange(t *testing.T) {
	r := record(t, image(t, v1.Config{}, []item{{name: "a", content: "1"}}))
	dir := filepath.Join(t.TempDir(), "[a]*.drift") // no pattern
	arrange := func(platforms ...string) {
		t.Helper()
		if err := Arrange(dir, platforms...); err != nil {
			t.Fatal(err)
		}
		paths := []string{dir}
		if len(platforms) > 0 {
			paths = nil
		}
		for _, p := range platforms {
			paths = append(paths, PlatformPath(dir, p))
		}
		for _, path := range paths {
			if err := r.Save(path); err != nil {
				t.Fatal(err)
			}
		}
		if len(platforms) == 0 {
			paths = nil
		}
		if got := Platforms(dir); !slices.Equal(got, paths) {
			t.Errorf("%q has %q", platforms, got)
		}
		if _, err := Load(dir); (err == nil) != (len(platforms) == 0) {
			t.Errorf("%q: %v", platforms, err)
		}
	}
	arrange()
	arrange("linux/amd64", "linux/arm/v7")
	arrange("linux/amd64")
	mine := filepath.Join(dir, "mine")
	if err := os.WriteFile(mine, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, platforms := range [][]string{nil, {"linux/arm64"}} {
		if err := Arrange(dir, platforms...); !errors.As(err, new(*ForeignError)) || len(Platforms(dir)) != 1 {
			t.Errorf("%q: %v", platforms, err)
		}
	}
	if err := os.Remove(mine); err != nil {
		t.Fatal(err)
	}
	arrange()
}

// An image may call its platform anything, and its record stays below the folder.
func TestPlatformPath(t *testing.T) {
	for platform, want := range map[string]string{
		"linux/arm/v7": "d/linux-arm-v7", "": "d/unknown", ".": "d/unknown", "..": "d/unknown", "../..": "d/-..", "linux/../x": "d/linux-..-x",
	} {
		if got := PlatformPath("d", platform); got != want {
			t.Errorf("%q: %q, not %q", platform, got, want)
		}
	}
}

// TestSaveRefuses: what is no record is not replaced.
func TestSaveRefuses(t *testing.T) {
	r := record(t, image(t, v1.Config{}, []item{{name: "a", content: "1"}}))
	dir := t.TempDir()
	path := filepath.Join(dir, "files", "mine")
	if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("mine"), 0o644)); err != nil {
		t.Fatal(err)
	}
	var foreign *ForeignError
	if err := r.Save(dir); !errors.As(err, &foreign) {
		t.Errorf("saved over files of the user: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "mine" {
		t.Errorf("%q, %v", got, err)
	}
	if err := r.Save(filepath.Join(t.TempDir())); err != nil {
		t.Errorf("into an empty folder: %v", err)
	}
}

// TestReadSame: how layers are cut, and which name of a file comes first, is not drift.
func TestReadSame(t *testing.T) {
	one := record(t, image(t, v1.Config{}, []item{{name: "a", content: "1"}, {name: "b", link: "=a"}, {name: "c", content: "2"}}))
	two := record(t, image(t, v1.Config{}, []item{{name: "b", content: "1"}, {name: "a", link: "=b"}}, []item{{name: "c", content: "2"}}))
	if d := Compare(one, two, nil); len(d.Files) > 0 || len(d.NewlyMarked) > 0 || one.Size() != 2 || two.Size() != 2 {
		t.Errorf("%v, %d, %d", d.Files, one.Size(), two.Size())
	}
}

func TestReadDamaged(t *testing.T) {
	img := image(t, v1.Config{}, []item{{name: "var/lib/rpm/Packages", content: "no database"}, {name: "a.jar", content: "no jar"}})
	_, notes, err := Read(t.Context(), img)
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0], "/var/lib/rpm/Packages") {
		t.Errorf("%q, %v", notes, err)
	}
}

func FuzzParseFile(f *testing.F) {
	r := record(f, image(f, v1.Config{}, []item{{name: "a b", content: "1"}, {name: "l", link: "x y"}, {name: "d/", mode: 0o1777},
		{name: "x", content: "1", xattrs: map[string]string{"user.a": "b"}}}))
	for i := range r.Files {
		var b bytes.Buffer
		r.Files[i].write(&b)
		f.Add(strings.TrimSuffix(b.String(), "\n"))
	}
	f.Fuzz(func(t *testing.T, line string) {
		got, err := parseFile(line)
		if err != nil {
			return
		}
		var b bytes.Buffer
		got.write(&b)
		again, err := parseFile(strings.TrimSuffix(b.String(), "\n"))
		if err != nil || again != got {
			t.Errorf("%q is %+v, and written and read again %+v: %v", line, got, again, err)
		}
	})
}

func FuzzParseImage(f *testing.F) {
	r := record(f, image(f, v1.Config{Env: []string{"A=1"}}, []item{{name: "a", content: "1"}}))
	f.Add(r.image())
	f.Add([]byte("version = 2"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, _, err := parseImage("image", text); err != nil {
			var bad *FormatError
			if !errors.As(err, &bad) {
				t.Errorf("%v is no *FormatError", err)
			}
		}
	})
}

func FuzzSources(f *testing.F) {
	f.Add("etc/apt/sources.list.d/a.sources", []byte("Types: deb\nURIs: https://a:b@c\nSuites: x\n"))
	f.Add("etc/apt/sources.list", []byte("deb http://a b c"))
	f.Fuzz(func(t *testing.T, name string, text []byte) { sourcesOf(name, text) })
}
