package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Lease is a use of the running daemon, which does not stop for idleness before Release, or before the process ends.
type Lease struct {
	addr string
	use  *os.File
	once sync.Once
}

// Addr returns the address of the daemon, unix:///....
func (l *Lease) Addr() string { return l.addr }

// Release ends the use; from now on the daemon counts its idle time. More than one call does no more.
func (l *Lease) Release() {
	l.once.Do(func() {
		touch(l.use)
		release(l.use)
	})
}

// Acquire returns a Lease of the daemon that o asks for, and starts that daemon if it does not run. One that runs with
// another buildkitd, runtime or configuration is replaced if nobody uses it.
//
// Errors: *SetupError, *MissingError, *StartError, *InUseError (another daemon runs and is in use), and the cause of
// ctx's end, in which case a daemon that was being started is gone again.
func Acquire(ctx context.Context, o Options) (*Lease, error) {
	if len(o.Serve) == 0 || !filepath.IsAbs(o.Serve[0]) {
		return nil, fmt.Errorf("the command to run the builder, %q, does not start with an absolute path", o.Serve)
	}
	d, err := newRootDir(o.Root)
	if err != nil {
		return nil, err
	}
	if uid := os.Geteuid(); uid != 0 {
		o = o.asUser(d, uid)
	}
	if err := d.prepare(); err != nil {
		return nil, err
	}
	want, err := o.find()
	if err != nil {
		return nil, err
	}
	use, err := openLock(d.use())
	if err != nil {
		return nil, fmt.Errorf("using the builder: %w", err)
	}
	l := &Lease{addr: d.addr(), use: use}
	if err := d.acquire(ctx, use, want, o); err != nil {
		release(use)
		return nil, err
	}
	return l, nil
}

// acquire returns with a shared lock of use, and the daemon running.
func (d rootDir) acquire(ctx context.Context, use *os.File, want spec, o Options) error {
	ph, st, err := d.join(ctx, use, o.Idle)
	if err != nil {
		return err
	}
	if ph == serving && len(want.changed(st.Spec)) == 0 {
		return nil
	}
	unlock(use)

	start, err := openLock(d.start())
	if err != nil {
		return fmt.Errorf("starting the builder: %w", err)
	}
	defer release(start)
	if err := waitLock(ctx, start, unix.LOCK_EX); err != nil {
		return fmt.Errorf("starting the builder in %q: %w", d, err)
	}
	for launches := 0; ; {
		ph, st, err := d.join(ctx, use, o.Idle)
		if err != nil {
			return err
		}
		switch changed := want.changed(st.Spec); {
		case ph == absent:
			if launches++; launches > 2 {
				return d.failed(errors.New("it ends as soon as it has started"))
			}
			// The shared lock stays, so that the new daemon does not count as idle.
			if err := d.launch(ctx, want, o); err != nil {
				return err
			}
		case ph == changing: // stopping, or started by somebody who died
			unlock(use)
			if err := sleep(ctx, 10*time.Millisecond); err != nil {
				return fmt.Errorf("waiting for the builder in %q: %w", d, err)
			}
		case ph == serving && len(changed) == 0:
			return nil
		default:
			unlock(use)
			err := d.evict(ctx, use, changed)
			if inUse := (*InUseError)(nil); ph == silent && errors.As(err, &inUse) {
				// It may have been killed just now, and then it is gone soon, whoever used it.
				if now, st2, err := d.look(); err != nil || now != serving || st2.Daemon != st.Daemon {
					continue
				}
				return fmt.Errorf("buildkitd %d does not answer: %w", st.Daemon.PID, err)
			}
			if err != nil {
				return err
			}
		}
	}
}

// join takes the shared lock of use, and then looks what there is. Only with the lock does that stay true.
func (d rootDir) join(ctx context.Context, use *os.File, idle time.Duration) (phase, state, error) {
	if err := waitLock(ctx, use, unix.LOCK_SH); err != nil {
		return absent, state{}, fmt.Errorf("using the builder in %q: %w", d, err)
	}
	setIdle(use, idle)
	touch(use)
	ph, st, err := d.look()
	if err != nil || ph != serving {
		return ph, st, err
	}
	if _, err := ask(ctx, d.addr()); ctx.Err() != nil {
		return ph, st, fmt.Errorf("asking the builder in %q who it is: %w", d, context.Cause(ctx))
	} else if err != nil {
		return silent, st, nil
	}
	return serving, st, nil
}

// launch starts a supervisor and waits until its daemon serves. Its caller holds start.lock, and no supervisor lives.
func (d rootDir) launch(ctx context.Context, want spec, o Options) error {
	os.Remove(d.state()) // of one that was killed: what appears there now is of the new one
	if err := writeJSON(d.spec(), want); err != nil {
		return d.unstarted(err)
	}
	log, err := openLog(d.log())
	if err != nil {
		return d.unstarted(err)
	}
	defer log.Close()

	cmd := exec.Command(o.Serve[0], append(slices.Clone(o.Serve[1:]), string(d))...)
	cmd.Env = append(daemonEnv(o.Env), "TMPDIR="+d.temp())
	cmd.Dir = string(d) // the directory of the build may be removed
	cmd.Stdout, cmd.Stderr = log, log
	// A session of its own: what the user types at this terminal is not for the daemon.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return d.unstarted(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // also later, so that no zombie stays below a long build

	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			_ = cmd.Process.Signal(unix.SIGTERM) // fails if it is gone, which is what is wanted
			select {
			case <-exited:
			case <-time.After(stopGrace + 2*time.Second):
				_ = cmd.Process.Kill()
				<-exited
			}
			d.sweep()
			return fmt.Errorf("starting the builder in %q: %w", d, context.Cause(ctx))
		case err := <-exited:
			if err == nil {
				err = errors.New("exit status 0")
			}
			return d.failed(fmt.Errorf("its supervisor ended: %w", err))
		case <-tick.C:
			if _, err := os.Stat(d.state()); err == nil {
				return nil
			}
		}
	}
}

// unstarted is the error of a daemon that could not even be tried, so that the log tells of another one.
func (d rootDir) unstarted(err error) *StartError {
	if e := full(string(d)); e != nil {
		err = e
	}
	return &StartError{Root: string(d), Log: d.log(), Err: err}
}

// failed is the error of a daemon that was tried.
func (d rootDir) failed(err error) *StartError {
	e := d.unstarted(err)
	e.LogTail = logTail(d.log())
	return e
}

// daemonEnv drops what is meant for the process that starts the daemon, and not for one that outlives it.
func daemonEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "TRACEPARENT", "TRACESTATE":
			return true
		}
		return false
	})
}
