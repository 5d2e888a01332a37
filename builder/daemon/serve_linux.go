package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// startTime is how long buildkitd may take to answer. It opens the databases of a large cache, and may repair them.
const startTime = time.Minute

// Serve is the supervisor, which Acquire starts as a process. It runs the daemon that Acquire described in root, and stops
// it when ctx ends or when it has been idle for its idle time. It returns nil if it stopped the daemon.
//
// buildkitd's output goes to log, which should be os.Stderr: Acquire connects that to the log file. SIGTERM should end
// ctx.
func Serve(ctx context.Context, root string, log io.Writer) error {
	d, err := newRootDir(root)
	if err != nil {
		return err
	}
	var s spec
	if err := readJSON(d.spec(), &s); err != nil {
		return fmt.Errorf("reading what to serve: %w", err)
	}
	use, err := openLock(d.use())
	if err != nil {
		return err
	}
	defer release(use)
	// Released before use, so that a process that waits for use does not find a supervisor that is about to end.
	lock, err := openLock(d.serve())
	if err != nil {
		return err
	}
	defer release(lock)
	if ok, err := lockWithin(ctx, lock, 2*time.Second); err != nil {
		return err
	} else if !ok {
		return fmt.Errorf("%q has a supervisor already", d)
	}
	if err := sign(lock); err != nil {
		return err
	}

	var old state
	_ = readJSON(d.state(), &old) // without a state there was no daemon
	d.sweep()
	if err := d.expel(ctx, old.Daemon); err != nil {
		return err
	}
	d.clear()
	if err := d.prepareSockets(); err != nil {
		return err
	}
	c, err := startChild(d.command(s), log)
	if err != nil {
		return fmt.Errorf("starting buildkitd: %w", err)
	}
	serving := false
	defer func() {
		if d.has(lock) {
			grace := stopGrace
			if serving && d.busy(use) {
				grace = busyGrace
			}
			os.Remove(d.state()) // first, so that no process joins
			c.stop(grace)
			d.clear()
			d.sweep()
			return
		}
		// The root was removed, and there may be a new one. A daemon that stops gently would remove the socket of the
		// new one, which has the same name.
		c.stop(0)
	}()
	if err := d.publish(ctx, c, s); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	serving = true
	return d.watch(ctx, c, lock, use)
}

// busy reports whether the daemon has a lease or a build.
func (d rootDir) busy(use *os.File) bool {
	free, err := tryLock(use, unix.LOCK_EX)
	if err != nil || !free {
		return true
	}
	defer unlock(use)
	n, err := builds(context.Background(), d.addr())
	return err != nil || n > 0
}

// sign writes this process to serve.lock, for a process that wants to end it.
func sign(lock *os.File) error {
	p, err := newProc(os.Getpid())
	if err != nil {
		return err
	}
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := lock.Truncate(0); err != nil {
		return err
	}
	_, err = lock.WriteAt(append(data, '\n'), 0)
	return err
}

// command returns the command line of buildkitd. Its flags override the configuration.
func (d rootDir) command(s spec) []string {
	var wrapper []string
	group := os.Getegid()
	if s.Rootless != nil {
		wrapper = append([]string{s.Rootless.Kit}, s.Rootless.flags(d)...)
		group = 0 // in the namespace, that is the user's own
	}
	command := append(wrapper,
		s.Buildkitd,
		"--root", d.data(),
		"--addr", d.addr(),
		"--group", strconv.Itoa(group),
		"--otel-socket-path", d.telemetry(),
		"--debugaddr=", // the machine's own buildkitd may use the port in the configuration
	)
	for _, e := range s.Entitlements {
		command = append(command, "--allow-insecure-entitlement", e)
	}
	return append(command, s.Flags...)
}

// has reports whether lock is still the file at its path.
func (d rootDir) has(lock *os.File) bool {
	named, err := os.Stat(lock.Name())
	if err != nil {
		return false
	}
	held, err := lock.Stat()
	return err == nil && os.SameFile(named, held)
}

// expel waits until no buildkitd uses the data. It kills old, the daemon of a killed supervisor, which the kernel has
// already signaled.
func (d rootDir) expel(ctx context.Context, old proc) error {
	f, err := os.Open(d.dataLock())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	free, err := lockWithin(ctx, f, time.Second)
	if err == nil && !free {
		if h := old.find(); h != nil {
			_ = h.Kill()
			h.Release()
		}
		free, err = lockWithin(ctx, f, 4*time.Second)
	}
	if err != nil {
		return err
	}
	if !free {
		return fmt.Errorf("another buildkitd uses %q", d.data())
	}
	unlock(f)
	return nil
}

// publish waits until buildkitd answers, and then writes its state.
func (d rootDir) publish(ctx context.Context, c *child, s spec) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("buildkitd does not answer after %v", startTime))
	defer cancel()
	version, err := c.answer(ctx, d.socket())
	if err != nil {
		return err
	}
	// buildkitd gives its group access, and the configuration can name another owner.
	if err := os.Lchown(d.socket(), os.Geteuid(), os.Getegid()); err != nil {
		return err
	}
	if err := os.Chmod(d.socket(), 0o600); err != nil {
		return err
	}
	p, err := newProc(c.cmd.Process.Pid)
	if err != nil {
		return err
	}
	return writeJSON(d.state(), state{Spec: s, Daemon: p, Addr: d.addr(), Version: version, Since: time.Now()})
}

// watch returns when the daemon must stop, with nil if ctx ended or it was idle. After the idle time, watch returns with
// the exclusive lock of use, so that a new user waits and then starts the next daemon.
func (d rootDir) watch(ctx context.Context, c *child, lock, use *os.File) error {
	idle := 10 * time.Minute
	for {
		if i, ok := readIdle(use); ok {
			idle = i
		}
		tick := 5 * time.Second
		if idle > 0 {
			tick = max(min(tick, idle/10), 10*time.Millisecond)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.done:
			return fmt.Errorf("buildkitd ended: %w", c.failure())
		case <-time.After(tick):
		}
		if !d.has(lock) || !d.has(use) {
			return fmt.Errorf("%q was removed", d)
		}
		free, err := tryLock(use, unix.LOCK_EX)
		if err != nil {
			return err
		}
		if !free {
			// A killed client does not record the end of its use.
			touch(use)
			continue
		}
		if idleFor(use) >= idle && idle > 0 {
			if n, err := builds(ctx, d.addr()); err == nil && n == 0 {
				return nil
			}
			touch(use)
		}
		unlock(use)
	}
}

// idleFor returns how long the daemon has been idle.
func idleFor(use *os.File) time.Duration {
	fi, err := use.Stat()
	if err != nil {
		return 0
	}
	age := time.Since(fi.ModTime())
	if age < 0 {
		touch(use) // the clock was set back
	}
	return age
}

// child is a running buildkitd.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed at its end
	err  error         // of cmd.Wait; valid after done is closed
}

// startChild starts buildkitd. The kernel ends it when this process ends.
func startChild(command []string, log io.Writer) (*child, error) {
	c := &child{cmd: exec.Command(command[0], command[1:]...), done: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.WaitDelay = time.Second
	// Not SIGTERM, since this process could no longer make sure that it stops.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// The kernel sends the signal when the forking thread ends, not the process. So this goroutine keeps its thread
		// until buildkitd has ended.
		runtime.LockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.err = c.cmd.Wait()
			close(c.done)
		}
	}()
	return c, <-started
}

// answer waits until buildkitd answers, and returns its version.
func (c *child) answer(ctx context.Context, socket string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		// A gRPC client that is refused waits a second before it tries again, so test the socket first.
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			type reply struct {
				version string
				err     error
			}
			replies := make(chan reply, 1)
			go func() {
				v, err := ask(ctx, "unix://"+socket)
				replies <- reply{v, err}
			}()
			select {
			case <-c.done:
				return "", fmt.Errorf("buildkitd ended: %w", c.failure())
			case r := <-replies:
				if r.err == nil {
					return r.version, nil
				}
			}
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-c.done:
			return "", fmt.Errorf("buildkitd ended: %w", c.failure())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// failure returns how buildkitd ended. Any end is a failure.
func (c *child) failure() error {
	if c.err == nil {
		return errors.New("exit status 0")
	}
	return c.err
}

// stop ends buildkitd, and kills it after grace.
func (c *child) stop(grace time.Duration) {
	if grace > 0 {
		_ = c.cmd.Process.Signal(unix.SIGTERM) // fails only if it is gone
		select {
		case <-c.done:
			return
		case <-time.After(grace):
		}
	}
	_ = c.cmd.Process.Kill()
	<-c.done
}
