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
	"github.com/kedge-build/kedge/internal/wholefile"
)

// maxSize bounds the bytes of a lockfile: about 200,000 pins.
const maxSize = 32 << 20

// Path returns the path of a Dockerfile's lockfile.
func Path(dockerfile string) string { return dockerfile + ".lock" }

// Read reads the lockfile at path. One that does not exist is the empty lock, with exists false.
// What does not parse is reported as Errors.
func Read(path string) (f *File, exists bool, err error) {
	data, err := wholefile.Read(path, maxSize)
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
	if err := wholefile.WriteBytes(path, data, 0o644); err != nil {
		return fmt.Errorf("writing the lockfile: %w", err)
	}
	return nil
}
