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
	// maxSocket bounds a socket path of buildkitd. It is containerd's limit; Linux allows 107.
	maxSocket = 104
	// stopGrace is how long buildkitd may take to stop before it is killed. A busy one only gets busyGrace: it would wait
	// for its builds, which its API cannot cancel.
	stopGrace = 10 * time.Second
	busyGrace = 500 * time.Millisecond
	// answerTime is how long a healthy daemon may take to answer.
	answerTime = 10 * time.Second
)

// rootDir is the absolute path of a root.
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
func (d rootDir) kept() string      { return d.file("config") }
func (d rootDir) data() string      { return d.file("buildkit") }
func (d rootDir) dataLock() string  { return filepath.Join(d.data(), "buildkitd.lock") }
func (d rootDir) socket() string    { return filepath.Join(d.sockets(), "buildkitd.sock") }
func (d rootDir) telemetry() string { return filepath.Join(d.sockets(), "otel.sock") }
func (d rootDir) kit() string       { return filepath.Join(d.sockets(), "rk") } // short, since sockets are in it
func (d rootDir) runtime() string   { return filepath.Join(d.sockets(), "runtime") }
func (d rootDir) addr() string      { return "unix://" + d.socket() }

// sockets returns the folder of the sockets. It is below the root, or in /tmp if that path is too long for a socket or
// cannot be part of a URL. It is not in $TMPDIR, which can differ between the daemon's users.
func (d rootDir) sockets() string {
	dir := d.file("run")
	addr := "unix://" + filepath.Join(dir, "buildkitd.sock")
	if u, err := url.Parse(addr); err == nil && "unix://"+u.Path == addr && len(u.Path) <= maxSocket {
		return dir
	}
	sum := sha256.Sum256([]byte(d))
	return fmt.Sprintf("/tmp/kedge-%d-%x", os.Geteuid(), sum[:8])
}

// maxTemp is the length of the longest socket path that buildkitd uses in its temporary folder, for an ssh agent.
const maxTemp = len("/.buildkit-ssh-sock4294967295/ssh_auth_sock")

// temp returns the daemon's temporary folder, or "" for /tmp if its path would be too long for a socket. It is not the
// $TMPDIR of the process that started the daemon, which may be removed while the daemon runs.
func (d rootDir) temp() string {
	if dir := d.file("tmp"); len(dir)+maxTemp <= maxSocket {
		return dir
	}
	return ""
}

// prepare creates the root, or checks an existing one.
func (d rootDir) prepare() error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return &RootError{err}
	}
	fi, err := os.Stat(string(d))
	if err != nil {
		return fmt.Errorf("looking at the builder's directory: %w", err)
	}
	return private(string(d), fi, 0o022)
}

// prepareSockets creates the folders of sockets and temporary files. Other users must not have access to the sockets. In
// /tmp, another user may already have created that folder.
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

// private returns an error unless a folder belongs to the user and gives other users none of the permissions.
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

// sweep removes the files of a daemon that has ended. The caller knows from serve.lock that it has.
func (d rootDir) sweep() {
	os.Remove(d.state())
	dir := d.sockets()
	if checkSockets(dir) != nil {
		return // missing, or another user's
	}
	os.Remove(d.socket())
	os.Remove(d.telemetry())
	os.RemoveAll(d.kit()) // left by rootlesskit and runc if they are killed
	os.RemoveAll(d.runtime())
	if dir != d.file("run") {
		os.Remove(dir) // leave nothing in /tmp
	}
}

// proc identifies a process. The start time distinguishes it from a later process with the same id.
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
	// proc(5): the name, field 2, can contain any character; starttime is field 22.
	i := strings.LastIndexByte(string(data), ')')
	fields := strings.Fields(string(data[i+1:]))
	if i < 0 || len(fields) < 20 {
		return p, fmt.Errorf("/proc/%d/stat: cannot be parsed", pid)
	}
	p.Start, err = strconv.ParseUint(fields[19], 10, 64)
	return p, err
}

// find returns a handle of p, which never refers to another process with the same id, or nil if p has ended.
func (p proc) find() *os.Process {
	if p.PID <= 1 {
		return nil
	}
	h, err := os.FindProcess(p.PID)
	if err != nil {
		return nil
	}
	// The start time is read after the handle pins the process, so that it belongs to the pinned process.
	if now, err := newProc(p.PID); err != nil || now != p {
		h.Release()
		return nil
	}
	return h
}

// state describes a running daemon. The supervisor writes it once the daemon answers.
type state struct {
	Spec    spec      `json:"spec"`
	Daemon  proc      `json:"daemon"`
	Addr    string    `json:"addr"`
	Version string    `json:"version"`
	Since   time.Time `json:"since"`
}

type phase int

const (
	absent   phase = iota // there is no supervisor
	changing              // there is one, and its daemon is starting or stopping
	serving               // there is one, and its daemon runs
	silent                // as serving, but the daemon does not answer; only join finds out
)

// look returns the phase and state of the daemon. A state file that cannot be read is the zero state, which differs from
// every spec.
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

// supervised reports whether there is a supervisor. It tries a shared lock, so that two callers do not see each other.
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

// terminate ends the supervisor and with it the daemon, and waits for their end. The caller must hold start.lock.
func (d rootDir) terminate(ctx context.Context) error {
	var p proc
	var h *os.Process
	// A supervisor writes its pid a moment after it takes the lock.
	for end := time.Now().Add(settle); h == nil; {
		if alive, err := d.supervised(); err != nil || !alive {
			return err
		}
		err := readJSON(d.serve(), &p)
		if h = p.find(); err == nil && h != nil {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("stopping the builder in %q: its supervisor is not visible from here", d)
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

// touch records that the daemon is in use now.
func touch(use *os.File) {
	now := time.Now()
	// It fails only if the root was removed, and then the time does not matter.
	_ = os.Chtimes(use.Name(), now, now)
}

// setIdle writes the idle time for the supervisor. The width is fixed, so that concurrent writes do not mix.
func setIdle(use *os.File, idle time.Duration) {
	if was, ok := readIdle(use); ok && was == max(idle, 0) {
		return
	}
	// On a full disk the previous time stays. That is no reason to fail a build.
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

// builds returns the number of builds that the daemon at addr runs, for all its clients.
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

// maxConfigPath bounds the length of a path; Linux allows 4096 bytes.
const maxConfigPath = 4096

// keepConfig makes path the configuration of a daemon that is started without one. An empty path ends that.
func (d rootDir) keepConfig(path string) error {
	if path == "" {
		if err := os.Remove(d.kept()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return wholefile.WriteBytes(d.kept(), []byte(path), 0o600)
}

// keptConfig returns the path that keepConfig wrote, or "" if there is none.
func (d rootDir) keptConfig() (string, error) {
	path, err := wholefile.Read(d.kept(), maxConfigPath)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading which configuration the builder keeps: %w", err)
	}
	return string(path), nil
}

// Stat returns the status of the daemon of root, without connecting to it.
func Stat(root string) (Status, error) {
	d, err := newRootDir(root)
	if err != nil {
		return Status{}, err
	}
	s := Status{Log: d.log()}
	ph, st, err := d.look()
	if err != nil || ph != serving {
		return s, err
	}
	s.Running = true
	s.PID, s.Addr, s.Version, s.Since = st.Daemon.PID, st.Addr, st.Version, st.Since
	s.Config = st.Spec.Config
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

// Stop stops the daemon of root and waits for its end. It is no error if none runs. Unless force is set, Stop returns an
// *InUseError while there is a Lease or any client's build.
func Stop(ctx context.Context, root string, force bool) error {
	d, err := newRootDir(root)
	if err != nil {
		return err
	}
	if _, err := os.Stat(d.serve()); errors.Is(err, fs.ErrNotExist) {
		return d.keepConfig("")
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
				d.clear() // a killed daemon leaves files
			}
			d.sweep()
			return d.keepConfig("")
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

// evict terminates the daemon, or returns an *InUseError if it is in use. The caller must hold start.lock, and no lock of
// use.
func (d rootDir) evict(ctx context.Context, use *os.File, changed []string) error {
	free, err := lockWithin(ctx, use, settle)
	if err != nil {
		return err
	}
	if free {
		defer unlock(use)
	}
	// A daemon without a lease that does not answer is of no use, so an error counts as no builds.
	n, _ := builds(ctx, d.addr())
	if ctx.Err() != nil {
		return fmt.Errorf("asking the builder in %q for its builds: %w", d, context.Cause(ctx))
	}
	if !free || n > 0 {
		return &InUseError{Root: string(d), Builds: n, Changed: changed}
	}
	return d.terminate(ctx)
}
