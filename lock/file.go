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

// Read reads the lockfile at path. If there is none, it returns the empty lock and exists is false. The
// error is Errors if the file does not parse.
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

// Update reads the lockfile at path, calls edit, and replaces the file if edit changed it. If edit
// fails, the file stays as it was. Concurrent calls, also of other processes, run one after the other.
func Update(ctx context.Context, path string, edit func(*File) error) error {
	// The folder is locked rather than a file, because it exists already and the lock leaves no trace.
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
