package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// settle is how long to try for an exclusive lock before it counts as held. Every check of a lock holds it for some
// microseconds.
const settle = 250 * time.Millisecond

// openLock opens a lock file. Lock files are never removed, because a lock belongs to a file and not to its name.
func openLock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}

// tryLock takes a lock of f if that is possible without waiting.
func tryLock(f *os.File, how int) (bool, error) {
	for {
		switch err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, unix.EINTR):
			return false, fmt.Errorf("locking %q: %w", f.Name(), err)
		}
	}
}

// waitLock takes a lock of f, and waits for it until ctx ends. It polls, because a blocked flock cannot be canceled.
func waitLock(ctx context.Context, f *os.File, how int) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		ok, err := tryLock(f, how)
		if ok || err != nil {
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			return fmt.Errorf("waiting for lock %q: %w", f.Name(), err)
		}
	}
}

// lockWithin waits at most d for the exclusive lock of f. It returns false if the lock is still held then.
func lockWithin(ctx context.Context, f *os.File, d time.Duration) (bool, error) {
	short, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	err := waitLock(short, f, unix.LOCK_EX)
	if err != nil && short.Err() != nil && ctx.Err() == nil {
		return false, nil
	}
	return err == nil, err
}

// unlock drops the lock of f. Closing f is not enough while a process that is being forked has a copy of f.
func unlock(f *os.File) {
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN) // fails only if the file is closed
}

// release drops the lock and closes the file.
func release(f *os.File) {
	unlock(f)
	f.Close()
}

// sleep waits for d. It returns the cause if ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
