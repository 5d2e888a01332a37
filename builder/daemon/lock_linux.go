package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// settle is how long an exclusive lock is tried for before its holder counts as real: every look at a lock holds it for
// some microseconds.
const settle = 250 * time.Millisecond

// openLock opens a lock file, which is never removed: a lock is on the file, not on its name.
func openLock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}

// tryLock takes the flock how of f if nobody is in the way.
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

// waitLock takes the flock how of f, waiting until ctx ends. It polls, because a blocked flock cannot be called off.
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

// lockWithin is waitLock for at most d; it returns false when somebody still has the lock then.
func lockWithin(ctx context.Context, f *os.File, how int, d time.Duration) (bool, error) {
	short, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	err := waitLock(short, f, how)
	if err != nil && short.Err() != nil && ctx.Err() == nil {
		return false, nil
	}
	return err == nil, err
}

// unlock drops the lock of f also where a process that is being forked right now still has a copy of f.
func unlock(f *os.File) {
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN) // fails for a closed file only
}

// release drops the lock and closes the file.
func release(f *os.File) {
	unlock(f)
	f.Close()
}

// sleep waits for d, or fails with the cause of ctx's end.
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
