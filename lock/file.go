package lock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// Path returns where the lockfile of a Dockerfile is.
func Path(dockerfile string) string { return dockerfile + ".lock" }

// Read reads the lockfile at path. One that does not exist is the empty lock, with exists false.
// What does not parse is reported as Errors.
func Read(path string) (f *File, exists bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &File{}, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading the lockfile: %w", err)
	}
	f, err = Parse(path, data)
	return f, true, err
}

// Update lets edit change the lockfile at path and writes what it leaves, beside it and then
// renamed. The file is read anew, and no other Update of the same file runs meanwhile, so that edit
// sees what others wrote. Nothing is written where edit fails or changes nothing.
func Update(ctx context.Context, path string, edit func(*File) error) error {
	// The folder is what is locked: it exists, and a lock on it leaves nothing behind.
	mutex := flock.New(filepath.Dir(path), flock.SetFlag(os.O_RDONLY))
	if _, err := mutex.TryLockContext(ctx, 10*time.Millisecond); err != nil {
		return fmt.Errorf("waiting to write %q: %w", path, err)
	}
	defer mutex.Unlock()

	f, _, err := Read(path)
	if err != nil {
		return err
	}
	if err := edit(f); err != nil {
		return err
	}
	data := f.Format()
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := writeFile(path, data); err != nil {
		return fmt.Errorf("writing the lockfile: %w", err)
	}
	return nil
}

func writeFile(path string, data []byte) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
