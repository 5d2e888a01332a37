package publish

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// temporary begins the name of a file or folder that becomes part of an output when it is complete. Random
// text follows.
const temporary = ".kedge-"

// isTemporary reports whether name is prefix, temporary and random text.
func isTemporary(name, prefix string) bool {
	rest, ok := strings.CutPrefix(name, prefix+temporary)
	return ok && len(rest) == len(rand.Text())
}

// lockDir waits until no other command writes into a folder, and returns how to end that. On a file system
// without locks there is nothing to wait for, and alone is false.
func lockDir(ctx context.Context, dir string) (unlock func(), alone bool, err error) {
	lock := flock.New(dir, flock.SetFlag(os.O_RDONLY))
	if alone, err = lock.TryLockContext(ctx, 20*time.Millisecond); ctx.Err() != nil {
		return nil, false, err
	}
	return func() { _ = lock.Unlock() }, alone && err == nil, nil
}

// makeBeside creates a temporary folder next to the folder dir. It stays locked until close.
func makeBeside(ctx context.Context, dir string) (path string, unlock func(), err error) {
	path = filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+temporary+rand.Text())
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", nil, err
	}
	unlock, _, err = lockDir(ctx, path)
	return path, unlock, err
}

// sweepBeside removes the folders that makeBeside created for dir and that no living process has locked. Call it
// when dir is complete, because one of them may hold what was there before.
func sweepBeside(dir string) error {
	parent, base := filepath.Dir(dir), filepath.Base(dir)
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !isTemporary(e.Name(), "."+base) {
			continue
		}
		path := filepath.Join(parent, e.Name())
		lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
		if dead, err := lock.TryLock(); err != nil || !dead {
			continue
		}
		err := os.RemoveAll(path)
		_ = lock.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}
