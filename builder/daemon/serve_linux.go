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

// startTime is how long buildkitd may take to answer: it opens, and may repair, the databases of a large cache.
const startTime = time.Minute

// Serve is the supervisor: it runs the daemon of root, as the Acquire that started this process has left word there, and
// returns nil when it has stopped it, because ctx ended or because nobody used it for its idle time. What buildkitd
// prints goes to log; make it os.Stderr, which Acquire has connected to the log file. End ctx by SIGTERM.
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
	// Released before use: who waits for that one must not find a supervisor that is about to end.
	lock, err := openLock(d.serve())
	if err != nil {
		return err
	}
	defer release(lock)
	if ok, err := lockWithin(ctx, lock, unix.LOCK_EX, 2*time.Second); err != nil {
		return err
	} else if !ok {
		return fmt.Errorf("%q has a supervisor already", d)
	}
	if err := sign(lock); err != nil {
		return err
	}

	var old state
	_ = readJSON(d.state(), &old) // if there is none there was no daemon
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
			os.Remove(d.state()) // first, so that nobody joins
			c.stop(grace)
			d.clear()
			d.sweep()
			return
		}
		// The root was removed, and there may be a new one. Stopped gently, the daemon would remove its socket by
		// name, and that may be the new one's.
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

// busy says whether somebody uses the daemon, or builds on it without a lease.
func (d rootDir) busy(use *os.File) bool {
	free, err := tryLock(use, unix.LOCK_EX)
	if err != nil || !free {
		return true
	}
	defer unlock(use)
	n, err := builds(context.Background(), d.addr())
	return err != nil || n > 0
}

// sign leaves in serve.lock who holds it, for those who want to end him.
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

// command returns the command line that runs buildkitd. What it sets the configuration cannot.
func (d rootDir) command(s spec) []string {
	var wrapper []string
	group := os.Getegid()
	if s.Rootless != nil {
		wrapper = append([]string{s.Rootless.Kit}, s.Rootless.flags(d)...)
		group = 0 // which in there is the user's own
	}
	command := append(wrapper,
		s.Buildkitd,
		"--root", d.data(),
		"--addr", d.addr(),
		"--group", strconv.Itoa(group),
		"--otel-socket-path", d.telemetry(),
		"--debugaddr=", // a port that the machine's own buildkitd, with the same configuration, may have
	)
	for _, e := range s.Entitlements {
		command = append(command, "--allow-insecure-entitlement", e)
	}
	return append(command, s.Flags...)
}

// has says whether lock is still the file that goes by its name.
func (d rootDir) has(lock *os.File) bool {
	named, err := os.Stat(lock.Name())
	if err != nil {
		return false
	}
	held, err := lock.Stat()
	return err == nil && os.SameFile(named, held)
}

// expel waits until no buildkitd has the data, and kills the one of a supervisor that was killed: by then that one has
// the signal anyway, and only its end is to be waited for.
func (d rootDir) expel(ctx context.Context, old proc) error {
	f, err := os.Open(d.dataLock())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	free, err := lockWithin(ctx, f, unix.LOCK_EX, time.Second)
	if err == nil && !free {
		if h := old.find(); h != nil {
			_ = h.Kill()
			h.Release()
		}
		free, err = lockWithin(ctx, f, unix.LOCK_EX, 4*time.Second)
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

// publish waits until buildkitd answers, and then tells the world.
func (d rootDir) publish(ctx context.Context, c *child, s spec) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("buildkitd does not answer after %v", startTime))
	defer cancel()
	version, err := c.answer(ctx, d.socket())
	if err != nil {
		return err
	}
	// buildkitd lets its group in, and a configuration may name another owner.
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

// watch returns when the daemon has to stop, nil if that is what was wanted: after its idle time it returns with the
// exclusive lock of use, so that whoever comes now waits, and starts the next one.
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
			// Noted here, too: a client that is killed does not note its end.
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

// idleFor returns how long nobody has used the daemon.
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

// A child is a running buildkitd.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed at its end
	err  error         // of cmd.Wait, once done is closed
}

// startChild starts buildkitd, which does not outlive this process, however that ends.
func startChild(command []string, log io.Writer) (*child, error) {
	c := &child{cmd: exec.Command(command[0], command[1:]...), done: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.WaitDelay = time.Second
	// Not SIGTERM: nobody would be there to see that it stops.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// The signal comes when the thread that forked ends, and not the process. This goroutine keeps its thread
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
		// buildkitd listens some time before it answers, and a gRPC client that is refused waits a second before it
		// tries again. So knock first.
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

// failure says how buildkitd ended, which it should not have.
func (c *child) failure() error {
	if c.err == nil {
		return errors.New("exit status 0")
	}
	return c.err
}

// stop ends buildkitd, by force after the grace.
func (c *child) stop(grace time.Duration) {
	if grace > 0 {
		_ = c.cmd.Process.Signal(unix.SIGTERM) // fails if it is gone
		select {
		case <-c.done:
			return
		case <-time.After(grace):
		}
	}
	_ = c.cmd.Process.Kill()
	<-c.done
}
