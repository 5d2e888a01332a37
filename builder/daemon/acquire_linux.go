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

// Lease keeps a daemon running until Release or the end of the process.
type Lease struct {
	addr        string
	hostNetwork bool
	use         *os.File
	once        sync.Once
}

// Addr returns the address of the daemon, unix:///....
func (l *Lease) Addr() string { return l.addr }

// HostNetwork reports whether the daemon runs in this machine's network, rather than one of its own.
func (l *Lease) HostNetwork() bool { return l.hostNetwork }

// Release ends the lease, and the daemon's idle time begins. It may be called more than once.
func (l *Lease) Release() {
	l.once.Do(func() {
		touch(l.use)
		release(l.use)
	})
}

// Acquire returns a Lease of the daemon that o describes, and starts it if it does not run. It replaces an idle daemon
// that has another buildkitd, runtime or configuration.
//
// The error is a *RootError, *SetupError, *MissingError or *StartError, an *InUseError if another daemon is in use, or
// the cause if ctx ends. In that case Acquire stops a daemon that it was starting.
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
	if o.Config == "" {
		if o.Config, err = d.keptConfig(); err != nil {
			return nil, err
		}
	}
	want, err := o.find()
	if err != nil {
		return nil, err
	}
	use, err := openLock(d.use())
	if err != nil {
		return nil, fmt.Errorf("using the builder: %w", err)
	}
	l := &Lease{addr: d.addr(), hostNetwork: want.Rootless == nil || want.Rootless.Network == "host", use: use}
	err = d.acquire(ctx, use, want, o)
	if err == nil && o.Keep {
		err = d.keepConfig(want.Config)
	}
	if err != nil {
		release(use)
		return nil, err
	}
	return l, nil
}

// acquire takes a shared lock of use and makes sure that the daemon runs.
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
			// The shared lock is kept, so that the new daemon does not count as idle.
			if err := d.launch(ctx, want, o); err != nil {
				return err
			}
		case ph == changing: // it is stopping, or the process that started it died
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
				// If it was killed just now, it is gone soon, even with a lease on it.
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

// join takes the shared lock of use, and then returns the state of the daemon. Without the lock the state could change.
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

// launch starts a supervisor and waits until its daemon serves. The caller must hold start.lock, and no supervisor lives.
func (d rootDir) launch(ctx context.Context, want spec, o Options) error {
	os.Remove(d.state()) // left by a killed supervisor; the new one writes it when the daemon serves
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
	cmd.Dir = string(d) // the current folder may be removed
	cmd.Stdout, cmd.Stderr = log, log
	// In a session of its own, the daemon gets no signals from this terminal.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return d.unstarted(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // even after launch returns, so that no zombie remains

	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			_ = cmd.Process.Signal(unix.SIGTERM) // fails only if it is gone
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

// unstarted returns the error for a daemon that was not executed. The log belongs to an earlier one.
func (d rootDir) unstarted(err error) *StartError {
	if e := full(string(d)); e != nil {
		err = e
	}
	return &StartError{Root: string(d), Log: d.log(), Err: err}
}

// failed returns the error for a daemon that was executed and did not serve.
func (d rootDir) failed(err error) *StartError {
	e := d.unstarted(err)
	e.LogTail = logTail(d.log())
	return e
}

// daemonEnv drops the variables that only concern the process that starts the daemon.
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
