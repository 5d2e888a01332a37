package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kedge-build/kedge/internal/wholefile"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"golang.org/x/sys/unix"
)

const (
	// maxSocket is the longest socket path that buildkitd takes: containerd's limit, below Linux's own 107.
	maxSocket = 104
	// stopGrace is how long buildkitd may take to stop before it is killed, and busyGrace where it is in use: it waits for
	// its builds then, which is not what whoever stops it by force wants, and no call of its API ends one.
	stopGrace = 10 * time.Second
	busyGrace = 500 * time.Millisecond
	// answerTime is how long a healthy daemon may take to say who it is.
	answerTime = 10 * time.Second
)

// A rootDir is the path of a root, absolute.
type rootDir string

func newRootDir(path string) (rootDir, error) {
	if path == "" {
		return "", errors.New("no directory for the builder given")
	}
	abs, err := filepath.Abs(path)
	return rootDir(abs), err
}

func (d rootDir) file(name string) string { return filepath.Join(string(d), name) }

func (d rootDir) use() string       { return d.file("use.lock") }
func (d rootDir) start() string     { return d.file("start.lock") }
func (d rootDir) serve() string     { return d.file("serve.lock") }
func (d rootDir) spec() string      { return d.file("spec.json") }
func (d rootDir) state() string     { return d.file("state.json") }
func (d rootDir) log() string       { return d.file("buildkitd.log") }
func (d rootDir) data() string      { return d.file("buildkit") }
func (d rootDir) dataLock() string  { return filepath.Join(d.data(), "buildkitd.lock") }
func (d rootDir) socket() string    { return filepath.Join(d.sockets(), "buildkitd.sock") }
func (d rootDir) telemetry() string { return filepath.Join(d.sockets(), "otel.sock") }
func (d rootDir) kit() string       { return filepath.Join(d.sockets(), "rk") } // no longer than a socket's name
func (d rootDir) runtime() string   { return filepath.Join(d.sockets(), "runtime") }
func (d rootDir) addr() string      { return "unix://" + d.socket() }

// sockets returns the directory of the sockets: below the root, or in /tmp where that path is too long for a socket or
// does not survive being a URL. Not $TMPDIR, which two users of one daemon may not agree on.
func (d rootDir) sockets() string {
	dir := d.file("run")
	addr := "unix://" + filepath.Join(dir, "buildkitd.sock")
	if u, err := url.Parse(addr); err == nil && "unix://"+u.Path == addr && len(u.Path) <= maxSocket {
		return dir
	}
	sum := sha256.Sum256([]byte(d))
	return fmt.Sprintf("/tmp/kedge-%d-%x", os.Geteuid(), sum[:8])
}

// maxTemp is the longest path below a temporary directory that buildkitd listens at: it forwards an ssh agent there.
const maxTemp = len("/.buildkit-ssh-sock4294967295/ssh_auth_sock")

// temp returns the daemon's temporary directory. It is not $TMPDIR of whoever started the daemon, who may remove that while
// it runs. Empty: /tmp, where the path is too long for a socket.
func (d rootDir) temp() string {
	if dir := d.file("tmp"); len(dir)+maxTemp <= maxSocket {
		return dir
	}
	return ""
}

// prepare makes the root, or checks the one that is there.
func (d rootDir) prepare() error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return &RootError{Root: string(d), Err: err}
	}
	fi, err := os.Stat(string(d))
	if err != nil {
		return fmt.Errorf("looking at the builder's directory: %w", err)
	}
	return private(string(d), fi, 0o022)
}

// prepareSockets makes the directories of the sockets, which nobody else may even look into, and of temporary files. In
// /tmp somebody else may have made the first.
func (d rootDir) prepareSockets() error {
	dir := d.sockets()
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the directory of the builder's socket: %w", err)
	}
	if err := checkSockets(dir); err != nil {
		return err
	}
	if temp := d.temp(); temp != "" {
		if err := os.Mkdir(temp, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("making the builder's temporary directory: %w", err)
		}
	}
	if os.Geteuid() == 0 {
		return nil
	}
	if err := os.Mkdir(d.runtime(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the builder's runtime directory: %w", err)
	}
	return nil
}

func checkSockets(dir string) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("looking at the directory of the builder's socket: %w", err)
	}
	return private(dir, fi, 0o077)
}

// private fails unless a directory is the user's, and others have none of the permissions.
func private(path string, fi fs.FileInfo, others fs.FileMode) error {
	if !fi.IsDir() {
		return fmt.Errorf("%q is not a directory", path)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%q belongs to user id %d, not to %d", path, st.Uid, os.Geteuid())
	}
	if p := fi.Mode().Perm(); p&others != 0 {
		return fmt.Errorf("%q has mode %04o, which lets other users in", path, p)
	}
	return nil
}

// sweep removes what tells of a daemon that is no more. Its caller knows that by serve.lock.
func (d rootDir) sweep() {
	os.Remove(d.state())
	dir := d.sockets()
	if checkSockets(dir) != nil {
		return // not there, or not ours
	}
	os.Remove(d.socket())
	os.Remove(d.telemetry())
	os.RemoveAll(d.kit()) // what rootlesskit and runc leave when they are killed
	os.RemoveAll(d.runtime())
	if dir != d.file("run") {
		os.Remove(dir) // leave nothing in /tmp
	}
}

// A proc is a process, which its start time tells from a later one with the same id.
type proc struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot
}

func newProc(pid int) (proc, error) {
	p := proc{PID: pid}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, err
	}
	// proc(5): the name, field 2, may hold anything, also parentheses; starttime is field 22.
	i := strings.LastIndexByte(string(data), ')')
	fields := strings.Fields(string(data[i+1:]))
	if i < 0 || len(fields) < 20 {
		return p, fmt.Errorf("/proc/%d/stat: cannot be parsed", pid)
	}
	p.Start, err = strconv.ParseUint(fields[19], 10, 64)
	return p, err
}

// find returns a handle of p that stays its own when the id is given to another process, nil when p is gone.
func (p proc) find() *os.Process {
	if p.PID <= 1 {
		return nil
	}
	h, err := os.FindProcess(p.PID)
	if err != nil {
		return nil
	}
	// Only now, when the handle pins the process, does its start time say which one was pinned.
	if now, err := newProc(p.PID); err != nil || now != p {
		h.Release()
		return nil
	}
	return h
}

// state is what the supervisor tells of the daemon, once that answers.
type state struct {
	Spec    spec      `json:"spec"`
	Daemon  proc      `json:"daemon"`
	Addr    string    `json:"addr"`
	Version string    `json:"version"`
	Since   time.Time `json:"since"`
}

type phase int

const (
	absent   phase = iota // no supervisor lives
	changing              // one does, and its daemon is starting or stopping
	serving               // and its daemon runs, as far as it knows
	silent                // and yet does not answer; only who asks can tell
)

// look returns what there is. A state file that cannot be read is the empty state: another daemon than any wanted.
func (d rootDir) look() (phase, state, error) {
	var st state
	alive, err := d.supervised()
	if err != nil || !alive {
		return absent, st, err
	}
	err = readJSON(d.state(), &st)
	if errors.Is(err, fs.ErrNotExist) {
		return changing, st, nil
	}
	if err != nil {
		st = state{}
	}
	return serving, st, nil
}

// supervised says whether a supervisor lives. The lock is tried shared, so that two who look do not see each other.
func (d rootDir) supervised() (bool, error) {
	f, err := os.Open(d.serve())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for the builder: %w", err)
	}
	defer f.Close()
	free, err := tryLock(f, unix.LOCK_SH)
	if free {
		unlock(f)
	}
	return !free, err
}

// terminate ends the supervisor, and the daemon with it, and waits for that. Its caller holds start.lock.
func (d rootDir) terminate(ctx context.Context) error {
	var p proc
	var h *os.Process
	// A supervisor signs a moment after it has taken the lock.
	for end := time.Now().Add(settle); h == nil; {
		if alive, err := d.supervised(); err != nil || !alive {
			return err
		}
		err := readJSON(d.serve(), &p)
		if h = p.find(); err == nil && h != nil {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("stopping the builder in %q: its supervisor is no process that can be seen from here", d)
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("stopping the builder in %q: %w", d, err)
		}
	}
	defer h.Release()
	for _, try := range []struct {
		sig  os.Signal
		wait time.Duration
	}{{unix.SIGTERM, stopGrace + 2*time.Second}, {unix.SIGKILL, 5 * time.Second}} {
		if err := h.Signal(try.sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stopping the builder in %q: %w", d, err)
		}
		for end := time.Now().Add(try.wait); time.Now().Before(end); {
			if alive, err := d.supervised(); err != nil || !alive {
				return err
			}
			if err := sleep(ctx, 5*time.Millisecond); err != nil {
				return fmt.Errorf("stopping the builder in %q: %w", d, err)
			}
		}
	}
	return fmt.Errorf("stopping the builder in %q: supervisor %d does not end", d, p.PID)
}

// touch notes that the daemon is used now.
func touch(use *os.File) {
	now := time.Now()
	// If that fails, because the root was removed, nobody waits for it.
	_ = os.Chtimes(use.Name(), now, now)
}

// setIdle leaves the wanted idle time for the supervisor. The form has one width, so that writers who meet do not mix.
func setIdle(use *os.File, idle time.Duration) {
	if was, ok := readIdle(use); ok && was == max(idle, 0) {
		return
	}
	// On a full disk the time that was wanted before stays. That is no reason not to build.
	_, _ = use.WriteAt(fmt.Appendf(nil, "%020d\n", max(idle, 0)), 0)
}

func readIdle(use *os.File) (time.Duration, bool) {
	var b [21]byte
	if _, err := use.ReadAt(b[:], 0); err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(string(b[:20]), 10, 64)
	return time.Duration(n), err == nil && n >= 0
}

// ask returns the version of the daemon at addr.
func ask(ctx context.Context, addr string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	c, err := client.New(ctx, addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	info, err := c.Info(ctx)
	if err != nil {
		return "", err
	}
	return info.BuildkitVersion.Version, nil
}

// builds returns how many builds the daemon at addr runs, whoever started them.
func builds(ctx context.Context, addr string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	c, err := client.New(ctx, addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	events, err := c.ControlClient().ListenBuildHistory(ctx, &controlapi.BuildHistoryRequest{ActiveOnly: true, EarlyExit: true})
	if err != nil {
		return 0, err
	}
	for n := 0; ; n++ {
		if _, err := events.Recv(); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return 0, err
		}
	}
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("reading %q: %w", path, err)
	}
	return nil
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return wholefile.WriteBytes(path, append(data, '\n'), 0o600)
}

// Stat returns what is known of the daemon of root, without asking it.
func Stat(root string) (Status, error) {
	d, err := newRootDir(root)
	if err != nil {
		return Status{}, err
	}
	s := Status{Root: string(d), Log: d.log()}
	ph, st, err := d.look()
	if err != nil || ph != serving {
		return s, err
	}
	s.Running = true
	s.PID, s.Addr, s.Version, s.Since = st.Daemon.PID, st.Addr, st.Version, st.Since
	s.Buildkitd, s.Config = st.Spec.Buildkitd, st.Spec.Config
	if st.Spec.Rootless != nil {
		s.Network = st.Spec.Rootless.Network
	}
	var p proc
	if err := readJSON(d.serve(), &p); err == nil {
		s.Supervisor = p.PID
	}
	use, err := os.Open(d.use())
	if err != nil {
		return s, fmt.Errorf("looking at the builder: %w", err)
	}
	defer use.Close()
	free, err := tryLock(use, unix.LOCK_EX)
	if err != nil {
		return s, err
	}
	if free {
		unlock(use)
	}
	s.InUse = !free
	s.Idle, _ = readIdle(use)
	if fi, err := use.Stat(); err == nil && free && s.Idle > 0 {
		s.StopAt = fi.ModTime().Add(s.Idle)
	}
	return s, nil
}

// Stop stops the daemon of root and waits until it is gone; one that does not run is no error. While somebody holds a
// Lease, or a build of anybody runs, it fails with an *InUseError, unless force is set.
func Stop(ctx context.Context, root string, force bool) error {
	d, err := newRootDir(root)
	if err != nil {
		return err
	}
	if _, err := os.Stat(d.serve()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	start, err := openLock(d.start())
	if err != nil {
		return fmt.Errorf("stopping the builder: %w", err)
	}
	defer release(start)
	use, err := openLock(d.use())
	if err != nil {
		return fmt.Errorf("stopping the builder: %w", err)
	}
	defer release(use)
	if err := waitLock(ctx, start, unix.LOCK_EX); err != nil {
		return fmt.Errorf("stopping the builder in %q: %w", d, err)
	}
	for {
		ph, _, err := d.look()
		if err != nil {
			return err
		}
		if ph == absent {
			if d.expel(ctx, proc{}) == nil {
				d.clear() // of one that was killed
			}
			d.sweep()
			return nil
		}
		if force {
			if err := d.terminate(ctx); err != nil {
				return err
			}
			continue
		}
		if ph == changing {
			if err := sleep(ctx, 10*time.Millisecond); err != nil {
				return fmt.Errorf("stopping the builder in %q: %w", d, err)
			}
			continue
		}
		if err := d.evict(ctx, use, nil); err != nil {
			return err
		}
	}
}

// evict terminates the daemon if nobody uses it; otherwise it fails with an *InUseError. Its caller holds start.lock,
// and no lock of use.
func (d rootDir) evict(ctx context.Context, use *os.File, changed []string) error {
	free, err := lockWithin(ctx, use, unix.LOCK_EX, settle)
	if err != nil {
		return err
	}
	if free {
		defer unlock(use)
	}
	// One that cannot say what it builds, and that nobody holds, is of no use to anybody: an error counts as none.
	n, _ := builds(ctx, d.addr())
	if ctx.Err() != nil {
		return fmt.Errorf("asking the builder in %q for its builds: %w", d, context.Cause(ctx))
	}
	if !free || n > 0 {
		return &InUseError{Root: string(d), Builds: n, Changed: changed}
	}
	return d.terminate(ctx)
}
