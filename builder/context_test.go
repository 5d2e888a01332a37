package builder

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/filesum"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
)

var epoch = time.Unix(1700000000, 0)

func write(t testing.TB, path, content string, modified time.Time) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, modified, modified); err != nil {
		t.Fatal(err)
	}
}

func fsOf(t testing.TB, dir string) fsutil.FS {
	t.Helper()
	fs, err := newFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

// A torn folder has a file that cannot be read.
type torn struct {
	fsutil.FS
	path string
}

func (f torn) Open(path string) (io.ReadCloser, error) {
	if path == f.path {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
	}
	return f.FS.Open(path)
}

// A file that is sent and cannot be read is an error: BuildKit would take it for an empty one.
func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		write(t, filepath.Join(dir, name), name, epoch)
	}
	for path, exclude := range map[string][]string{"b": nil, "a": {"a"}} {
		c := contextTimes{sent: map[string]sentFile{}, sums: filesum.Open("", time.Now)}
		opt := fsutil.FilterOpt{ExcludePatterns: exclude}
		folder := torn{fsOf(t, dir), path}
		if err := c.filter(t.Context(), map[string]fsutil.FS{"context": folder}, leaveNothing)("context", &opt); err != nil {
			t.Fatal(err)
		}
		filtered, err := fsutil.NewFilterFS(folder, &opt)
		if err == nil {
			err = filtered.Walk(t.Context(), "", func(string, os.DirEntry, error) error { return nil })
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := c.unreadable(); (exclude == nil) != errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s, without %q: %v", path, exclude, err)
		}
	}
}

// times walks a folder as BuildKit's client does, and returns the times that it sends.
func (c *contextTimes) times(t testing.TB, name, dir string) map[string]int64 {
	t.Helper()
	var opt fsutil.FilterOpt
	if err := c.filter(t.Context(), map[string]fsutil.FS{name: fsOf(t, dir)}, leaveNothing)(name, &opt); err != nil {
		t.Fatal(err)
	}
	times := map[string]int64{}
	fs, err := fsutil.NewFilterFS(fsOf(t, dir), &opt)
	if err != nil {
		t.Fatal(err)
	}
	err = fs.Walk(t.Context(), "", func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		times[path] = info.Sys().(*fstypes.Stat).ModTime
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return times
}

func leaveNothing(string, string) bool { return false }

func newTimes(at time.Time) *contextTimes {
	c := &contextTimes{sent: map[string]sentFile{}, sums: filesum.Open("", time.Now)}
	c.setEpoch(at)
	return c
}

func TestContextTimes(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "sub/deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	old := time.Unix(1, 2)
	write(t, filepath.Join(dir, "a"), "one", old)
	write(t, filepath.Join(dir, "sub/deep/b"), "one", old)
	write(t, filepath.Join(dir, "empty"), "", old)
	c := newTimes(epoch)
	first := c.times(t, "context", dir)
	if len(first) != 6 {
		t.Fatalf("%v", first)
	}
	for path, at := range first {
		if time.Unix(0, at).Unix() != epoch.Unix() {
			t.Errorf("%s has the time %v, want the epoch", path, time.Unix(0, at))
		}
	}
	for _, path := range []string{"sub", "sub/deep", "link"} {
		if first[path] != epoch.UnixNano() {
			t.Errorf("%s has the time %d, want %d", path, first[path], epoch.UnixNano())
		}
	}
	if first["a"] != first["sub/deep/b"] || first["a"] == first["empty"] {
		t.Errorf("times do not depend on content: %v", first)
	}

	// The same files, checked out at another time.
	other := t.TempDir()
	if err := os.CopyFS(other, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(other, "a"), "one", time.Now())
	if diff := cmp.Diff(first, newTimes(epoch).times(t, "context", other)); diff != "" {
		t.Errorf("another checkout has other times:\n%s", diff)
	}

	// Only the time of a file with the same mtime and size, and other content, changes.
	write(t, filepath.Join(dir, "a"), "two", old)
	second := c.times(t, "context", dir)
	if second["a"] == first["a"] {
		t.Error("an edited file has the same time")
	}
	second["a"] = first["a"]
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}

	// Another epoch changes the seconds and nothing else.
	c.setEpoch(epoch.Add(time.Hour))
	for path, at := range c.times(t, "context", dir) {
		if at-second[path] != int64(time.Hour) && path != "a" {
			t.Errorf("%s moved by %d", path, at-second[path])
		}
	}
}

// A mount that keeps times has none before the epoch. An edit still changes the time by which BuildKit syncs.
func TestOwnTimes(t *testing.T) {
	dir := t.TempDir()
	late := epoch.Add(time.Hour + 123456789)
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(dir, "sub"), late, late); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "late"), "one", late)
	write(t, filepath.Join(dir, "whole"), "one", late.Truncate(time.Second))
	write(t, filepath.Join(dir, "early"), "one", epoch.Add(-time.Nanosecond))
	c := newTimes(epoch)
	stamped := c.times(t, "context", dir)
	c.keep("other")
	if diff := cmp.Diff(stamped, c.times(t, "context", dir)); diff != "" {
		t.Errorf("another mount keeps its times:\n%s", diff)
	}
	c.keep("context")
	first := c.times(t, "context", dir)
	if first["sub"] != late.UnixNano() || first["early"] != stamped["early"] {
		t.Errorf("%v", first)
	}
	for path, own := range map[string]time.Time{"late": late, "whole": late.Truncate(time.Second)} {
		if later := time.Unix(0, first[path]).Sub(own); later < 0 || later >= 2*time.Millisecond {
			t.Errorf("%s: later by %v", path, later)
		}
	}
	write(t, filepath.Join(dir, "late"), "two", late)
	if second := c.times(t, "context", dir); second["late"] == first["late"] {
		t.Error("an edited file has the same time")
	}
}

func TestChanged(t *testing.T) {
	sent := func(edit func(dir string)) map[string]sentFile {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "a"), "one", epoch)
		write(t, filepath.Join(dir, "b"), "two", epoch)
		edit(dir)
		c := newTimes(epoch)
		c.times(t, "context", dir)
		return c.sent
	}
	first := sent(func(string) {})
	for name, test := range map[string]struct {
		edit func(dir string)
		want string
	}{
		"nothing": {func(string) {}, ""},
		"a time":  {func(dir string) { write(t, filepath.Join(dir, "a"), "one", epoch.Add(time.Hour)) }, ""},
		"content": {func(dir string) { write(t, filepath.Join(dir, "a"), "eno", epoch) }, "a"},
		"added":   {func(dir string) { write(t, filepath.Join(dir, "c"), "", epoch) }, "c"},
		"removed": {func(dir string) { _ = os.Remove(filepath.Join(dir, "b")) }, "b"},
		"mode":    {func(dir string) { _ = os.Chmod(filepath.Join(dir, "b"), 0o700) }, "b"},
	} {
		if got, ok := changed(first, sent(test.edit)); got != test.want || ok != (test.want != "") {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
}

func TestContextTimesElsewhere(t *testing.T) {
	opt := &fsutil.FilterOpt{}
	if err := newTimes(epoch).filter(t.Context(), nil, leaveNothing)("dockerfile", opt); err != nil || opt.Map != nil {
		t.Errorf("%v, %v", opt, err)
	}
	// The sync reports a file that cannot be read.
	if err := newTimes(epoch).filter(t.Context(), map[string]fsutil.FS{"context": fsOf(t, t.TempDir())}, leaveNothing)("context", opt); err != nil {
		t.Fatal(err)
	}
	st := &fstypes.Stat{Mode: 0o644, ModTime: 7}
	if got := opt.Map("gone", st); got != fsutil.MapResultKeep || st.ModTime != 7 {
		t.Errorf("%v, %v", got, st)
	}
}
