// Package wholefile reads and replaces files as a whole. A reader of a file that Write replaces
// sees the old content or the new one, also after a crash. Read is bounded and never waits. Await is for
// files that may be pipes.
//
//	err := wholefile.Write("Dockerfile.lock", 0o644, func(w io.Writer) error {
//		return encode(w, lock)
//	})
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
	"syscall"
	"time"
)

// Write replaces the file at path with the output of write. It writes a temporary file in the same
// folder, syncs it to disk and renames it. If a step fails, it removes the temporary file and leaves
// path as it was.
//
// An existing file keeps its mode, and its owner if the process runs as root. A new file gets perm
// minus the umask. Write follows symlinks, even if their target does not exist yet. It returns a
// *NotRegularError if path is a folder, a pipe or a device.
//
// Write also removes temporary files that killed processes left for the same path.
func Write(path string, perm fs.FileMode, write func(io.Writer) error) (err error) {
	if path, err = Follow(path); err != nil {
		return err
	}
	old, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	exists := err == nil
	if exists && !old.Mode().IsRegular() {
		return &NotRegularError{Path: path, Mode: old.Mode()}
	}
	sweep(path)
	tmp, err := create(filepath.Dir(path), prefix(path), perm)
	if err != nil {
		return err
	}
	if exists {
		err = inherit(tmp, old)
	}
	return finish(tmp, path, err, write)
}

// WriteVia is Write with the temporary file in another folder of the same file system. It is for a folder
// that the caller owns: WriteVia follows no symlinks, keeps no mode and removes no files of killed processes.
func WriteVia(dir, path string, data []byte, perm fs.FileMode) error {
	tmp, err := create(dir, prefix(path), perm)
	if err != nil {
		return err
	}
	return finish(tmp, path, nil, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// finish fills a temporary file and renames it to path, or removes it if anything fails or err is not nil.
func finish(tmp *os.File, path string, err error, write func(io.Writer) error) error {
	// The file is renamed while it is open, hence locked, so that no sweep removes it.
	defer tmp.Close()
	if err == nil {
		err = write(tmp)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// WriteBytes is Write for content in memory.
func WriteBytes(path string, data []byte, perm fs.FileMode) error {
	return Write(path, perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Read returns the content of the regular file at path. It returns a *NotRegularError for anything
// else, without waiting for the other end of a pipe, and a *TooLargeError for more than limit bytes.
func Read(path string, limit int64) ([]byte, error) {
	f, size, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > limit {
		return nil, &TooLargeError{Path: path, Limit: limit}
	}
	return read(f, path, size, limit) // it may be a file of /proc, or grow
}

func read(r io.Reader, path string, size, limit int64) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(int(size) + bytes.MinRead)
	n, err := b.ReadFrom(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, &TooLargeError{Path: path, Limit: limit}
	}
	return b.Bytes(), nil
}

// Open opens the regular file at path for reading, and returns its size in bytes. It returns a
// *NotRegularError for anything else. os.Open would wait for the other end of a pipe.
func Open(path string) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &NotRegularError{Path: path, Mode: info.Mode()}
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// Await returns what f returns, or ctx's error if that is done first. It is for what may wait for the other end
// of a pipe: f goes on then, and what it returns is lost.
func Await[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// OpenPipe opens what is at path, which may be a pipe, for reading or writing, as flag says. Until ctx is done it waits
// for the other end; then it returns ctx's error, and reads and writes that wait fail. The caller must call stop when
// it closes the file.
func OpenPipe(ctx context.Context, path string, flag int) (f *os.File, stop func() bool, err error) {
	f, err = Await(ctx, func() (*os.File, error) { return os.OpenFile(path, flag, 0) })
	if err != nil {
		return nil, nil, err
	}
	return f, context.AfterFunc(ctx, func() { _ = f.SetDeadline(time.Unix(1, 0)) }), nil // a regular file has none, and never waits
}

// ReadPipe is Read for what may be a pipe, and waits like OpenPipe.
func ReadPipe(ctx context.Context, path string, limit int64) ([]byte, error) {
	f, stop, err := OpenPipe(ctx, path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	defer stop()
	return read(f, path, 0, limit)
}

// NotRegularError says that Path is a folder, a pipe, a device or a socket.
type NotRegularError struct {
	Path string
	Mode fs.FileMode
}

func (e *NotRegularError) Error() string {
	kind := "a special file"
	switch {
	case e.Mode.IsDir():
		kind = "a folder"
	case e.Mode&fs.ModeNamedPipe != 0:
		kind = "a named pipe"
	case e.Mode&fs.ModeSocket != 0:
		kind = "a socket"
	case e.Mode&fs.ModeDevice != 0:
		kind = "a device"
	}
	return fmt.Sprintf("%q is %s, not a file", e.Path, kind)
}

// TooLargeError says that the file at Path has more than Limit bytes.
type TooLargeError struct {
	Path  string
	Limit int64
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%q is larger than %d MiB", e.Path, e.Limit>>20)
}

// Follow returns the path that the symlink at path leads to, over any number of links, or path if it
// is no symlink. The last target need not exist.
func Follow(path string) (string, error) {
	for range 40 { // as many as Linux follows
		target, err := os.Readlink(path)
		if err != nil {
			return path, nil
		}
		if !filepath.IsAbs(target) {
			// Not cleaned: dir/.. is another folder if dir is a symlink.
			target = filepath.Dir(path) + string(filepath.Separator) + target
		}
		path = target
	}
	return "", &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
}

// inherit gives a temporary file the mode and the owner of the file that it replaces.
func inherit(tmp *os.File, old fs.FileInfo) error {
	if owner, ok := old.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		if err := tmp.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return tmp.Chmod(old.Mode().Perm())
}

// prefix returns the start of the names of the temporary files for path. The rest is random text of
// a fixed length.
func prefix(path string) string {
	base := filepath.Base(path)
	return "." + base[:min(len(base), 200)] + ".kedge-" // a name has at most 255 bytes
}

// create makes a temporary file and locks it, as a sign that its process lives.
func create(dir, prefix string, perm fs.FileMode) (*os.File, error) {
	for {
		name := filepath.Join(dir, prefix+rand.Text())
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
		if err != nil {
			return nil, err
		}
		// On a file system without locks, nothing is locked and nothing swept.
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return f, nil
		}
		f.Close() // a sweep came between open and lock
	}
}

// sweep removes the temporary files for path that no living process has locked.
func sweep(path string) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return
	}
	names, _ := dir.Readdirnames(-1)
	dir.Close()
	start := prefix(path)
	for _, name := range names {
		if rest, ok := strings.CutPrefix(name, start); ok && len(rest) == len(rand.Text()) {
			removeUnlocked(filepath.Join(filepath.Dir(path), name))
		}
	}
}

func removeUnlocked(path string) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		_ = os.Remove(path)
	}
}
