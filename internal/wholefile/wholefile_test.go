package wholefile

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// names returns the names in a folder.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestWriteKeepsMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, want := range []fs.FileMode{0o640, 0o606} {
		if err := WriteBytes(path, []byte(want.String()), 0o640); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != want || content(t, path) != want.String() {
			t.Errorf("mode %v, %v; want %v", info.Mode(), err, want)
		}
		if err := os.Chmod(path, 0o606); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("left behind: %q", got)
	}
}

func TestWriteKeepsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can give a file to another owner: nothing to keep")
		return
	}
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 12, 34); err != nil {
		t.Fatal(err)
	}
	if err := WriteBytes(path, []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if stat := info.Sys().(*syscall.Stat_t); stat.Uid != 12 || stat.Gid != 34 {
		t.Errorf("owner %d:%d, want 12:34", stat.Uid, stat.Gid)
	}
}

func TestWriteThatFailsLeavesTheOld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	err := Write(path, 0o644, func(w io.Writer) error {
		_, err := io.WriteString(w, "half")
		return errors.Join(err, boom)
	})
	if !errors.Is(err, boom) || content(t, path) != "old" {
		t.Errorf("content %q, error %v", content(t, path), err)
	}
	if got := names(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("left behind: %q", got)
	}
}

// A symlink stays, whether its target exists, is missing, or lies behind a second symlink.
func TestWriteFollowsSymlinks(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"one": "d/two", "d/two": "../d/file"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"first", "second"} {
		if err := WriteBytes(filepath.Join(dir, "one"), []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(filepath.Join(dir, "d", "file"))
		if err != nil || !info.Mode().IsRegular() || content(t, filepath.Join(dir, "one")) != want {
			t.Errorf("target: %v, %v", info, err)
		}
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Fatal(err)
	}
	if err := WriteBytes(loop, nil, 0o644); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a loop: %v", err)
	}
	if err := os.Symlink("gone/file", filepath.Join(dir, "nowhere")); err != nil {
		t.Fatal(err)
	}
	if err := WriteBytes(filepath.Join(dir, "nowhere"), nil, 0o644); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a target in a folder that does not exist: %v", err)
	}
}

// What a killed process left is removed. The temporary files of living processes and of other paths stay.
func TestWriteSweeps(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	left := filepath.Join(dir, ".f.kedge-"+rand.Text())
	keep := []string{".f.kedge-short", ".g.kedge-" + rand.Text(), ".f.old"}
	for _, name := range append(keep, filepath.Base(left)) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	err := Write(path, 0o644, func(w io.Writer) error {
		// A second writer of the same path, while the first has a temporary file.
		return errors.Join(WriteBytes(path, []byte("second"), 0o644), func() error { _, err := io.WriteString(w, "first"); return err }())
	})
	if err != nil || content(t, path) != "first" {
		t.Errorf("content %q, %v", content(t, path), err)
	}
	if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
	for _, name := range keep {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestWriteVia(t *testing.T) {
	tmp, dir := t.TempDir(), t.TempDir()
	for _, want := range []string{"first", "second"} {
		if err := WriteVia(tmp, filepath.Join(dir, "f"), []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := content(t, filepath.Join(dir, "f")); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if err := WriteVia(tmp, filepath.Join(dir, "gone", "f"), nil, 0o644); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing folder: %v", err)
	}
	if left := names(t, tmp); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestWriteManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, strings.Repeat("n", 255)) // the longest name there is
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if err := WriteBytes(path, bytes.Repeat([]byte{byte('a' + i%26)}, 10_000), 0o644); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := content(t, path); len(got) != 10_000 || strings.Trim(got, got[:1]) != "" {
		t.Errorf("a mixture of %d bytes", len(got))
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left behind: %d files", len(got)-1)
	}
}

// A pipe has no end to read up to, and replacing it would cut off its reader.
func TestNotRegular(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		pipe:        fmt.Sprintf("%q is a named pipe, not a file", pipe),
		dir:         fmt.Sprintf("%q is a folder, not a file", dir),
		"/dev/zero": `"/dev/zero" is a device, not a file`,
	} {
		done := time.AfterFunc(10*time.Second, func() { panic("waits for the other end of " + path) })
		var irregular *NotRegularError
		if _, err := Read(path, 10); !errors.As(err, &irregular) || err.Error() != want {
			t.Errorf("read: got %v, want %s", err, want)
		}
		if err := WriteBytes(path, nil, 0o644); !errors.As(err, &irregular) || err.Error() != want {
			t.Errorf("write: got %v, want %s", err, want)
		}
		done.Stop()
	}
}

// A pipe is waited for, at either end, until ctx is done.
func TestOpenPipe(t *testing.T) {
	done := time.AfterFunc(20*time.Second, func() { panic("waits for the other end of a pipe") })
	defer done.Stop()
	pipe := func() string {
		path := filepath.Join(t.TempDir(), "pipe")
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	interrupted := errors.New("interrupted")
	for name, flag := range map[string]int{"read": os.O_RDONLY, "write": os.O_WRONLY} {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Millisecond, func() { cancel(interrupted) })
		if _, _, err := OpenPipe(ctx, pipe(), flag); !errors.Is(err, interrupted) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// The other end comes late, and reads.
	path := pipe()
	read := make(chan string, 1)
	time.AfterFunc(10*time.Millisecond, func() {
		data, err := ReadPipe(t.Context(), path, 10)
		read <- fmt.Sprintf("%s %v", data, err)
	})
	f, stop, err := OpenPipe(t.Context(), path, os.O_WRONLY)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, "content"); err != nil {
		t.Error(err)
	}
	f.Close()
	if got := <-read; !stop() || got != "content <nil>" {
		t.Error(got)
	}

	// It is there, and neither reads nor writes.
	path = pipe()
	idle, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	f, _, err = OpenPipe(ctx, path, os.O_WRONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
	path = pipe()
	if idle, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := ReadPipe(ctx, path, 10); !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.Canceled) {
		t.Errorf("read: %v", err)
	}
}

func TestReadIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("12345"), 0o644); err != nil {
		t.Fatal(err)
	}
	if data, err := Read(path, 5); err != nil || string(data) != "12345" {
		t.Errorf("%q, %v", data, err)
	}
	var large *TooLargeError
	if _, err := Read(path, 4); !errors.As(err, &large) || large.Limit != 4 {
		t.Errorf("got %v", err)
	}
	// A file of /proc has a size of zero.
	if _, err := Read("/proc/self/status", 4); !errors.As(err, &large) {
		t.Errorf("got %v", err)
	}
}
