package publish

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/kedge-build/kedge/store"
)

// entriesOf returns a line for each entry of a tar.
func entriesOf(t testing.TB, data []byte) []string {
	t.Helper()
	var lines []string
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%c %o %s %s%s", h.Typeflag, h.Mode, h.Name, h.Linkname, body))
		if h.ModTime.After(epoch) {
			t.Errorf("%s: %v is after the epoch", h.Name, h.ModTime)
		}
	}
}

func TestExportTar(t *testing.T) {
	dir := func(name string) tartest.Entry { return typed(name, tar.TypeDir, "") }
	tests := []struct {
		name   string
		layers [][]tartest.Entry
		want   []string
	}{
		{"nothing", [][]tartest.Entry{{}}, nil},
		{"a file replaced", [][]tartest.Entry{{file("a", "1")}, {chmod(file("a", "2"), 0o4755)}}, []string{"0 4755 a 2"}},
		{"sorted, folders first", [][]tartest.Entry{{file("b/c", "1"), file("a", "2")}}, []string{"0 644 a 2", "5 755 b/ ", "0 644 b/c 1"}},
		{"removed", [][]tartest.Entry{{file("a", "1"), file("b", "2")}, {file(".wh.a", "")}}, []string{"0 644 b 2"}},
		{"removed and made anew, in either order", [][]tartest.Entry{{file("d/a", "1")}, {file("d/b", "2"), file(".wh.d", "")}},
			[]string{"5 755 d/ ", "0 644 d/b 2"}},
		{"opaque", [][]tartest.Entry{{dir("d"), file("d/a", "1")}, {chmod(dir("d"), 0o700), file("d/b", "2"), file("d/.wh..wh..opq", "")}},
			[]string{"5 700 d/ ", "0 644 d/b 2"}},
		{"a folder's mode changes, its files stay", [][]tartest.Entry{{dir("d"), file("d/a", "1")}, {chmod(dir("d"), 0o1777)}},
			[]string{"5 1777 d/ ", "0 644 d/a 1"}},
		{"a folder becomes a file", [][]tartest.Entry{{dir("d"), file("d/a", "1")}, {file("d", "2")}}, []string{"0 644 d 2"}},
		{"a hard link", [][]tartest.Entry{{file("b", "1"), typed("a", tar.TypeLink, "b")}}, []string{"0 644 a 1", "1 644 b a"}},
		{"a hard link whose target goes", [][]tartest.Entry{{file("b", "1"), typed("a", tar.TypeLink, "b")}, {file(".wh.b", "")}}, []string{"0 644 a 1"}},
		{"a hard link to the layer below", [][]tartest.Entry{{file("b", "1")}, {typed("c", tar.TypeLink, "b"), file("x", "")}},
			[]string{"0 644 b 1", "1 644 c b", "0 644 x "}},
		{"links, pipes, devices", [][]tartest.Entry{{typed("s", tar.TypeSymlink, "../../etc"), typed("p", tar.TypeFifo, ""), typed("z", tar.TypeChar, "")}},
			[]string{"6 644 p ", "2 777 s ../../etc", "3 644 z "}},
		{"below a link to a folder", [][]tartest.Entry{{dir("usr/bin"), typed("bin", tar.TypeSymlink, "usr/bin")}, {file("bin/x", "1")}},
			[]string{"2 777 bin usr/bin", "5 755 usr/ ", "5 755 usr/bin/ ", "0 644 usr/bin/x 1"}},
		{"below a link out of the image", [][]tartest.Entry{{typed("a", tar.TypeSymlink, "/../../b")}, {file("a/x", "1")}},
			[]string{"2 777 a /../../b", "5 755 b/ ", "0 644 b/x 1"}},
		{"a file that is replaced is not read", [][]tartest.Entry{{file("a", strings.Repeat("x", 1<<20))}, {file("a", "")}}, []string{"0 644 a "}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := testStore(t)
			raw := rawImage{platform: amd64}
			for _, l := range test.layers {
				raw.layers = append(raw.layers, tartest.Tar(t, l...))
			}
			img := build(t, s, raw)
			var one, two bytes.Buffer
			for _, b := range []*bytes.Buffer{&one, &two} {
				if err := writeTar(t.Context(), s, b, img.Descriptor, RootOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			for i, w := range test.want { // tar keeps no mode of links that matters
				test.want[i] = strings.Replace(w, "2 777", "2 644", 1)
			}
			if diff := gocmp.Diff(test.want, entriesOf(t, one.Bytes())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !bytes.Equal(one.Bytes(), two.Bytes()) {
				t.Error("two exports differ")
			}
		})
	}
}

// based writes an image of base layers, which are not normalised and so can be hostile.
func based(t testing.TB, s *store.Store, layers ...[]byte) store.Image {
	t.Helper()
	img := build(t, s, rawImage{platform: amd64, base: layers})
	return img
}

func TestExportRootRefuses(t *testing.T) {
	tests := []struct {
		name    string
		entries []tartest.Entry
		source  string
		path    string
	}{
		{"a hard link to nothing", []tartest.Entry{typed("a", tar.TypeLink, "etc/passwd")}, "", "a"},
		{"a link to itself", []tartest.Entry{typed("a", tar.TypeSymlink, "a"), file("a/x", "")}, "", "a"},
		{"in a file", []tartest.Entry{file("a", ""), file("a/x/y", "")}, "", "a/x"},
		{"no such folder", []tartest.Entry{file("a", "")}, "b", "b"},
		{"a folder that is none", []tartest.Entry{file("a", "")}, "/a", "a"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := testStore(t)
			img := based(t, s, tartest.Tar(t, test.entries...))
			dir := filepath.Join(t.TempDir(), "out")
			err := writeFolder(t.Context(), s, dir, img.Descriptor, RootOptions{Source: test.source})
			var wrong *PathError
			if !errors.As(err, &wrong) || wrong.Path != test.path {
				t.Fatalf("%v", err)
			}
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Error("something was written")
			}
		})
	}
	s := testStore(t)
	img := based(t, s, tartest.Tar(t, file("../out", "x")))
	if err := writeFolder(t.Context(), s, t.TempDir(), img.Descriptor, RootOptions{}); err == nil || !strings.Contains(err.Error(), `path with ".."`) {
		t.Errorf("a path out of the root: %v", err)
	}
}

func TestExportFolder(t *testing.T) {
	s := testStore(t)
	img := based(t, s, tartest.Tar(t,
		chmod(typed("d", tar.TypeDir, ""), 0o555),
		chmod(file("d/f", "new"), 0o4711),
		typed("d/l", tar.TypeLink, "d/f"),
		typed("out", tar.TypeSymlink, "/nowhere"),
		typed("pipe", tar.TypeFifo, ""),
		file("in", "was a folder"),
		file(".kedge-output", "no other name is in the way of a file that is not whole yet"),
		typed("was", tar.TypeDir, ""),
		file("was/a", "link"),
	))
	work := t.TempDir()
	dir, victim := filepath.Join(work, "a/b"), filepath.Join(work, "victim")
	// What is in the way, and what is not.
	for _, name := range []string{"in/there", "d/stays"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, name), []byte("old"))
	}
	if err := os.Mkdir(victim, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"was": victim, "out": victim, "d/f": filepath.Join(victim, "f")} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // over its own result, too
		if err := writeFolder(t.Context(), s, dir, img.Descriptor, RootOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		got = append(got, fmt.Sprintf("%v %s", info.Mode(), name))
		if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != os.Getuid() {
			t.Errorf("%s belongs to %d", name, st.Uid)
		}
		if name != "d/stays" && !info.ModTime().Equal(late.Round(time.Second)) {
			t.Errorf("%s is of %v", name, info.ModTime())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"-rw-r--r-- .kedge-output", "dr-xr-xr-x d", "urwx--x--x d/f", "urwx--x--x d/l", "-rw-r--r-- d/stays", "-rw-r--r-- in",
		"Lrwxrwxrwx out", "prw-r--r-- pipe", "drwxr-xr-x was", "-rw-r--r-- was/a"}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	one, _ := os.Stat(filepath.Join(dir, "d/f"))
	if two, _ := os.Stat(filepath.Join(dir, "d/l")); !os.SameFile(one, two) {
		t.Error("the hard link is a file of its own")
	}
	if readFile(t, filepath.Join(dir, "d/f")) != "new" {
		t.Error("the file has another content")
	}
	if left, err := os.ReadDir(victim); err != nil || len(left) > 0 {
		t.Errorf("written outside: %v, %v", left, err)
	}
}

func TestExportPlatforms(t *testing.T) {
	s := testStore(t)
	shared := file("etc/same", "x")
	img := build(t, s,
		rawImage{platform: amd64, layers: [][]byte{tartest.Tar(t, shared)}}, rawImage{platform: arm64, layers: [][]byte{tartest.Tar(t, file("etc/arm", "y"))}})
	no, yes := false, true
	tests := []struct {
		name string
		o    RootOptions
		want []string
	}{
		{"by itself", RootOptions{}, []string{"linux_amd64/", "linux_amd64/etc/", "linux_amd64/etc/same", "linux_arm64/", "linux_arm64/etc/", "linux_arm64/etc/arm"}},
		{"together", RootOptions{Split: &no}, []string{"etc/", "etc/arm", "etc/same"}},
		{"a folder", RootOptions{Split: &yes, Source: "etc"}, []string{"linux_amd64/", "linux_amd64/same", "linux_arm64/", "linux_arm64/arm"}},
	}
	for _, test := range tests {
		var b bytes.Buffer
		if err := writeTar(t.Context(), s, &b, img.Descriptor, test.o); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, line := range entriesOf(t, b.Bytes()) {
			got = append(got, strings.Fields(line)[2])
		}
		for i := range got {
			got[i] = strings.TrimSuffix(got[i], "x")
		}
		if diff := gocmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	both := build(t, s,
		rawImage{platform: amd64, layers: [][]byte{tartest.Tar(t, shared)}}, rawImage{platform: arm64, layers: [][]byte{tartest.Tar(t, shared)}})
	var conflict *PathError
	if err := writeTar(t.Context(), s, io.Discard, both.Descriptor, RootOptions{Split: &no}); !errors.As(err, &conflict) || conflict.Path != "etc/same" {
		t.Errorf("two platforms have the same path: %v", err)
	}
}
