package debian

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReleaseOf(t *testing.T) {
	for tag, want := range map[string]string{
		"bullseye": "bullseye", "bullseye-slim": "bullseye", "11": "bullseye", "11.11-slim": "bullseye",
		"bookworm-20260101-slim": "bookworm", "12": "bookworm",
		"trixie-slim": "trixie", "13.1": "trixie",
		"sid": "sid", "unstable-slim": "sid",
		"latest": Bookworm, "buster-slim": Bookworm, "": Bookworm, "113": Bookworm,
	} {
		if got := ReleaseOf(tag); got != want {
			t.Errorf("ReleaseOf(%q) = %q, want %q", tag, got, want)
		}
	}
}

func TestParseSources(t *testing.T) {
	const out = `'http://mirror.example/debian-security/dists/bookworm-security/InRelease' mirror.example_debian-security_dists_bookworm-security_InRelease 0 
'http://mirror.example/debian-security/dists/bookworm-security/main/binary-amd64/Packages.xz' mirror.example_debian-security_dists_bookworm-security_main_binary-amd64_Packages 0 
'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' mirror.example_debian_dists_bookworm_main_binary-amd64_Packages 0 
'http://mirror.example/debian/dists/bookworm/main/binary-all/Packages.xz' mirror.example_debian_dists_bookworm_main_binary-all_Packages 0 
'http://mirror.example/debian/dists/bookworm-updates/main/binary-amd64/Packages.xz' mirror.example_debian_dists_bookworm-updates_main_binary-amd64_Packages 0 
'https://other.example/apt/dists/bookworm/main/binary-amd64/Packages.gz' other.example_apt_dists_bookworm_main_binary-amd64_Packages 0 
'https://other.example/apt/dists/bookworm/stable/binary-amd64/Packages.gz' other.example_apt_dists_bookworm_stable_binary-amd64_Packages 0 
'https://other.example/apt/dists/bookworm-pgdg/main/binary-amd64/Packages.gz' other.example_apt_dists_bookworm-pgdg_main_binary-amd64_Packages 0 
'http://mirror.example/debian/dists/noble/main/binary-amd64/Packages.xz' mirror.example_debian_dists_noble_main_binary-amd64_Packages 0 
`
	found := parseSources(out)
	diff := func(what string, got, want []source) {
		t.Helper()
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(source{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	diff("bookworm", archivesOf("bookworm", found), []source{
		{"http://mirror.example/debian", "bookworm"},
		{"http://mirror.example/debian-security", "bookworm-security"},
		{"http://mirror.example/debian", "bookworm-updates"},
	})
	diff("trixie", archivesOf("trixie", found), nil)
	diff("trixie, guessed", guess("trixie", found), []source{
		{"http://mirror.example/debian", "trixie"},
		{"http://mirror.example/debian-security", "trixie-security"},
		{"http://mirror.example/debian", "trixie-updates"},
	})
	diff("sid, guessed", guess("sid", found), []source{{"http://mirror.example/debian", "sid"}})
	diff("no security", guess("trixie", []source{{"http://m.example", "sid"}}), []source{
		{"http://m.example", "trixie"}, {"http://m.example", "trixie-updates"},
	})
	diff("nothing of Debian", guess("sid", parseSources("'http://mirror.example/ubuntu/dists/noble/main/binary-amd64/Packages.xz' x 0\n")), nil)
}

func TestDeb822(t *testing.T) {
	const want = `Types: deb
URIs: http://m.example/debian
Suites: sid
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://m.example/more
Suites: other
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`
	if got := deb822([]source{{"http://m.example/debian", "sid"}, {"http://m.example/more", "other"}}); got != want {
		t.Errorf("deb822 is\n%s", got)
	}
}

func TestArchiveDate(t *testing.T) {
	root := t.TempDir()
	if _, err := archiveDate(root); err == nil {
		t.Error("a date of no archive")
	}
	fill(t, root, map[string]string{
		"var/lib/apt/lists/a_InRelease": "Origin: Debian\nDate: Sat, 10 Feb 2024 11:07:25 UTC\nValid-Until: Sat, 17 Feb 2024 11:07:25 UTC\n",
		"var/lib/apt/lists/b_InRelease": "Date: Sun, 11 Feb 2024 01:02:03 UTC\n",
	})
	got, err := archiveDate(root)
	if want := time.Date(2024, 2, 11, 1, 2, 3, 0, time.UTC); err != nil || !got.Equal(want) {
		t.Errorf("the newest date is %v, %v, want %v", got, err, want)
	}
	for _, broken := range []string{"Origin: Debian\n", "Date: yesterday\n"} {
		fill(t, root, map[string]string{"var/lib/apt/lists/c_InRelease": broken})
		if _, err := archiveDate(root); err == nil || !strings.Contains(err.Error(), "c_InRelease") {
			t.Errorf("%q: %v", broken, err)
		}
	}
}

// A slim tree keeps licences, and has no trace of the machine and the day.
func TestSlim(t *testing.T) {
	root := t.TempDir()
	kept := []string{
		"etc/machine-id", "etc/passwd", "usr/bin/a", "usr/share/doc/a/copyright", "usr/share/locale/locale.alias",
		"usr/share/zoneinfo/UTC", "var/log/faillog", "var/lib/dpkg/status",
	}
	gone := []string{
		"usr/share/doc/a/changelog", "usr/share/doc/b/examples/c", "usr/share/man/man1/a.1", "usr/share/locale/de/a.mo",
		"etc/passwd-", "etc/hostname", "etc/resolv.conf", "tmp/x/y", "var/cache/apt/pkgcache.bin",
		"var/lib/apt/lists/a_InRelease", "var/lib/dpkg/status-old", "var/log/dpkg.log", "var/log/apt/history.log",
	}
	for _, name := range append(kept, gone...) {
		fill(t, root, map[string]string{name: "content\n"})
	}
	if err := slim(root); err != nil {
		t.Fatal(err)
	}
	for _, name := range kept {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
	for _, name := range append(gone, "usr/share/doc/b", "usr/share/man/man1") {
		if _, err := os.Lstat(filepath.Join(root, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	// Empty folders of packages stay, and so does the file for the machine id.
	if info, err := os.Stat(filepath.Join(root, "usr/share/man")); err != nil || !info.IsDir() {
		t.Errorf("usr/share/man: %v", err)
	}
	if info, err := os.Stat(filepath.Join(root, "etc/machine-id")); err != nil || info.Size() != 0 {
		t.Errorf("etc/machine-id is not empty: %v", err)
	}
	if rules := slimRules(); !strings.Contains(rules, "path-exclude /usr/share/doc/*\n") || !strings.Contains(rules, "path-include /usr/share/doc/*/copyright\n") {
		t.Errorf("dpkg is told:\n%s", rules)
	}
}

// Equal trees give equal archives, in which no file is newer than a given time.
func TestArchive(t *testing.T) {
	newest := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	old := newest.Add(-time.Hour)
	pack := func() []byte {
		root := t.TempDir()
		fill(t, root, map[string]string{"b/file": "content\n", "a": "a\n"})
		for _, err := range []error{
			os.Link(filepath.Join(root, "b/file"), filepath.Join(root, "b/hard")),
			os.Symlink("b/file", filepath.Join(root, "c")),
			os.Chtimes(filepath.Join(root, "a"), old, old),
			os.Chmod(filepath.Join(root, "a"), 0o640),
			os.Chmod(filepath.Join(root, "b"), 0o755|fs.ModeSticky),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(t.TempDir(), "layer.tar")
		if err := archive(path, root, newest); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	first := pack()
	if !bytes.Equal(first, pack()) {
		t.Error("two equal trees give different archives")
	}
	type entry struct {
		Name, Link string
		Type       byte
		Mode       int64
		Time       time.Time
		Content    string
	}
	var got []entry
	for tr := tar.NewReader(bytes.NewReader(first)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, entry{h.Name, h.Linkname, h.Typeflag, h.Mode, h.ModTime.UTC(), string(content)})
	}
	want := []entry{
		{"a", "", tar.TypeReg, 0o640, old, "a\n"},
		{"b/", "", tar.TypeDir, 0o1755, newest, ""},
		{"b/file", "", tar.TypeReg, 0o644, newest, "content\n"},
		{"b/hard", "b/file", tar.TypeLink, 0o644, newest, ""},
		{"c", "b/file", tar.TypeSymlink, 0o777, newest, ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestImage(t *testing.T) {
	created := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	path := filepath.Join(t.TempDir(), "layer.tar")
	if err := archive(path, t.TempDir(), created); err != nil {
		t.Fatal(err)
	}
	img, err := image(path, "sid", created)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if !config.Created.Equal(created) || len(config.RootFS.DiffIDs) != 1 || !strings.HasSuffix(config.History[0].CreatedBy, " sid") {
		t.Errorf("the image's configuration is %+v", config)
	}
	if diff := cmp.Diff([]string{"bash"}, config.Config.Cmd); diff != "" {
		t.Error(diff)
	}
}

func TestCacheDir(t *testing.T) {
	t.Setenv("KEDGE_TEST_CACHE", "/somewhere")
	if dir, err := CacheDir(); err != nil || dir != "/somewhere" {
		t.Errorf("CacheDir is %q, %v", dir, err)
	}
	t.Setenv("KEDGE_TEST_CACHE", "")
	t.Setenv("XDG_CACHE_HOME", "/cache")
	if dir, err := CacheDir(); err != nil || dir != "/cache/kedge-test" {
		t.Errorf("CacheDir is %q, %v", dir, err)
	}
}

// fill writes files below root, by name.
func fill(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		if err := put(root, name, content); err != nil {
			t.Fatal(err)
		}
	}
}
