package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"golang.org/x/sys/unix"
)

// The test binary plays every program that the tests need, chosen by its first argument.
const (
	argServe   = "daemon-test-serve"   // ROOT: what kedge's hidden verb does
	argAcquire = "daemon-test-acquire" // OPTIONS: holds a lease until standard input ends
	argHang    = "--root"              // a buildkitd that never answers
)

func TestMain(m *testing.M) {
	if len(os.Args) < 3 {
		os.Exit(m.Run())
	}
	switch os.Args[1] {
	case argServe:
		ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
		defer stop()
		if err := Serve(ctx, os.Args[2], os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, "kedge:", err)
			os.Exit(1)
		}
	case argAcquire:
		if err := acquireUntilEOF(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "acquire:", err)
			os.Exit(1)
		}
	case argHang:
		time.Sleep(time.Minute)
	default:
		os.Exit(m.Run())
	}
}

func acquireUntilEOF(options string) error {
	var o Options
	if err := json.Unmarshal([]byte(options), &o); err != nil {
		return err
	}
	l, err := Acquire(context.Background(), o)
	if err != nil {
		return err
	}
	defer l.Release()
	st, err := Stat(o.Root)
	if err != nil {
		return err
	}
	fmt.Println(st.PID)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// newOptions returns the options for a daemon of one test. At the end of the test the daemon is stopped, and any process
// that remains is an error.
func newOptions(t testing.TB) Options {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "needs root")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	o := Options{
		Root:      filepath.Join(dir, "builder"),
		Serve:     []string{exe, argServe},
		Env:       append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME=", "BUILDKITD_CONFIG="),
		Buildkitd: findBuildkitd(t),
		Config:    filepath.Join(dir, "buildkitd.toml"),
		Idle:      time.Minute,
	}
	writeFile(t, o.Config, "[cdi]\ndisabled = true\n")
	t.Cleanup(func() {
		if err := Stop(context.Background(), o.Root, true); err != nil {
			t.Error(err)
		}
		wantGone(t, dir)
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(o.Root, "buildkitd.log"))
			t.Logf("end of the daemon's log:\n%s", log[max(0, len(log)-2000):])
		}
	})
	return o
}

func findBuildkitd(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts buildkitd: not in short mode")
	}
	if path := os.Getenv("KEDGE_TEST_BUILDKITD"); path != "" {
		return path
	}
	if path, err := filepath.Abs("../../bin/buildkitd"); err == nil && executable(path) {
		return path
	}
	path, err := exec.LookPath("buildkitd")
	if err != nil {
		skip(t, "needs buildkitd: set KEDGE_TEST_BUILDKITD")
	}
	return path
}

func skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("KEDGE_TEST_REQUIRE") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func acquire(t testing.TB, o Options) *Lease {
	t.Helper()
	l, err := Acquire(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Release)
	return l
}

// status returns the status of a daemon, which must run and answer.
func status(t testing.TB, o Options) Status {
	t.Helper()
	st, err := Stat(o.Root)
	if err != nil {
		t.Fatal(err)
	}
	if !st.Running {
		t.Fatalf("no daemon runs in %q", o.Root)
	}
	if _, err := ask(t.Context(), st.Addr); err != nil {
		t.Fatalf("the daemon does not answer: %v", err)
	}
	return st
}

// patience is how long a test waits for what has to happen, on any machine.
const patience = time.Minute

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// wantGone fails if a process with dir in its command line remains.
func wantGone(t testing.TB, dir string) {
	t.Helper()
	var left []string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		left = nil
		files, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, _ := os.ReadFile(f)
			if strings.Contains(string(data), dir+"/") {
				left = append(left, f+": "+strings.ReplaceAll(string(data), "\x00", " "))
			}
		}
		if left == nil {
			return
		}
	}
	t.Errorf("processes left:\n%s", strings.Join(left, "\n"))
}

func wantStopped(t testing.TB, o Options) {
	t.Helper()
	st, err := Stat(o.Root)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Status{Log: filepath.Join(o.Root, "buildkitd.log")}, st); diff != "" {
		t.Errorf("status of a stopped daemon (-want +got):\n%s", diff)
	}
	d := rootDir(o.Root)
	for _, path := range []string{d.state(), d.socket(), d.telemetry(), d.dataLock()} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%q was left", path)
		}
	}
}

func TestColdAndWarm(t *testing.T) {
	o := newOptions(t)
	began := time.Now()
	l := acquire(t, o)
	cold := time.Since(began)
	began = time.Now()
	l2 := acquire(t, o)
	t.Logf("cold %v, warm %v", cold, time.Since(began))

	st := status(t, o)
	if l.Addr() != st.Addr || l2.Addr() != st.Addr {
		t.Errorf("leases of %q and %q, daemon at %q", l.Addr(), l2.Addr(), st.Addr)
	}
	if !st.InUse || !st.StopAt.IsZero() {
		t.Errorf("with two leases: InUse %v, StopAt %v", st.InUse, st.StopAt)
	}
	l.Release()
	l.Release()
	if st = status(t, o); !st.InUse {
		t.Error("with one lease: not in use")
	}
	l2.Release()
	st = status(t, o)
	if left := time.Until(st.StopAt); st.InUse || st.Idle != time.Minute || left < 50*time.Second || left > time.Minute {
		t.Errorf("without a lease: InUse %v, Idle %v, StopAt in %v", st.InUse, st.Idle, left)
	}
	if st.Version == "" || st.Config != o.Config || time.Since(st.Since) > time.Minute {
		t.Errorf("status: %+v", st)
	}

	sid, err := unix.Getsid(st.PID)
	if err != nil {
		t.Fatal(err)
	}
	if sid != st.Supervisor {
		t.Errorf("session of the daemon is %d, not its supervisor's, %d", sid, st.Supervisor)
	}
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	// The configuration has everything that could give others access or collide with the machine's own buildkitd.
	elsewhere := t.TempDir()
	writeFile(t, o.Config, fmt.Sprintf(`
root = "%[1]s/root"
[grpc]
address = ["tcp://127.0.0.1:39471", "unix://%[1]s/sock"]
debugAddress = "127.0.0.1:39472"
uid = 65534
gid = 65534
[otel]
socketPath = "%[1]s/otel"
[worker.oci]
labels = { "kedge.test" = "yes" }
`, elsewhere))
	l := acquire(t, o)
	for path, want := range map[string]fs.FileMode{
		o.Root:                                  fs.ModeDir | 0o700,
		rootDir(o.Root).sockets():               fs.ModeDir | 0o700,
		strings.TrimPrefix(l.Addr(), "unix://"): fs.ModeSocket | 0o600,
		rootDir(o.Root).log():                   0o600,
		rootDir(o.Root).data():                  fs.ModeDir | 0o700,
	} {
		fi, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode() != want {
			t.Errorf("%q has mode %v, want %v", path, fi.Mode(), want)
		}
		if uid := fi.Sys().(*syscall.Stat_t).Uid; int(uid) != os.Geteuid() {
			t.Errorf("%q belongs to %d", path, uid)
		}
	}
	if got, err := os.ReadDir(elsewhere); err != nil || len(got) > 0 {
		t.Errorf("the daemon wrote to the folder in the configuration: %v, %v", got, err)
	}
	tcp, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range []int{39471, 39472} {
		if strings.Contains(string(tcp), fmt.Sprintf("0100007F:%04X 00000000:0000 0A", port)) {
			t.Errorf("the daemon listens at port %d", port)
		}
	}
	c, err := client.New(t.Context(), l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	workers, err := c.ListWorkers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(workers) != 1 || workers[0].Labels["kedge.test"] != "yes" {
		t.Errorf("the rest of the configuration is not honoured: workers %+v", workers)
	}
}

// Many processes with many goroutines each start only one daemon.
func TestConcurrentStart(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	options, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	const n = 6
	pids := make([]string, 2*n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			cmd := exec.Command(o.Serve[0], argAcquire, string(options))
			cmd.Stderr = os.Stderr
			out, err := cmd.Output() // its standard input ends at once
			if err != nil {
				t.Errorf("process %d: %v", i, err)
			}
			pids[i] = strings.TrimSpace(string(out))
		})
		wg.Go(func() {
			l, err := Acquire(t.Context(), o)
			if err != nil {
				t.Errorf("goroutine %d: %v", i, err)
				return
			}
			defer l.Release()
			st, err := Stat(o.Root)
			if err != nil {
				t.Error(err)
			}
			pids[n+i] = fmt.Sprint(st.PID)
		})
	}
	wg.Wait()
	if slices.Sort(pids); len(slices.Compact(pids)) != 1 || pids[0] == "0" {
		t.Errorf("daemons: %v", pids)
	}
	if _, err := os.Stat(rootDir(o.Root).log() + ".1"); err == nil {
		t.Error("a daemon was started twice")
	}
}

func TestIdle(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	o.Idle = 400 * time.Millisecond
	l := acquire(t, o)
	first := status(t, o)
	time.Sleep(3 * o.Idle)
	if st := status(t, o); st.PID != first.PID {
		t.Fatal("stopped while in use")
	}
	l.Release()
	released := time.Now()
	eventually(t, "the idle daemon stops", func() bool {
		st, err := Stat(o.Root)
		return err == nil && !st.Running
	})
	if took := time.Since(released); took < o.Idle {
		t.Errorf("stopped after %v of idle time, not %v", took, o.Idle)
	}
	wantGone(t, filepath.Dir(o.Root))
	wantStopped(t, o)
	acquire(t, o)
	if st := status(t, o); st.PID == first.PID {
		t.Error("the next daemon is the previous one")
	}
}

// Clients that come at the moment when the daemon stops get a daemon that serves.
func TestIdleAgain(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	o.Idle = 20 * time.Millisecond
	for i := range 6 {
		l, err := Acquire(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if _, err := ask(t.Context(), l.Addr()); err != nil {
				t.Fatalf("round %d: a leased daemon does not answer: %v", i, err)
			}
		}
		l.Release()
		time.Sleep(o.Idle + time.Duration(i)*5*time.Millisecond)
	}
}

func TestIdleOfLastClient(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	o.Idle = 0
	acquire(t, o).Release()
	if st := status(t, o); st.Idle != 0 || !st.StopAt.IsZero() {
		t.Errorf("a daemon that stays: Idle %v, StopAt %v", st.Idle, st.StopAt)
	}
	o.Idle = time.Hour
	acquire(t, o).Release()
	if st := status(t, o); st.Idle != time.Hour {
		t.Errorf("Idle %v, and the last client wanted an hour", st.Idle)
	}
}

// A build of a client without a lease, such as buildctl, keeps the daemon running.
func TestForeignBuild(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	o.Idle = 200 * time.Millisecond
	l := acquire(t, o)
	c, err := client.New(t.Context(), l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	building, finish, done := make(chan bool), make(chan bool), make(chan error)
	go func() {
		_, err := c.Build(context.Background(), client.SolveOpt{}, "", func(context.Context, gateway.Client) (*gateway.Result, error) {
			close(building)
			<-finish
			return gateway.NewResult(), nil
		}, nil)
		done <- err
	}()
	<-building
	l.Release()
	time.Sleep(4 * o.Idle)
	status(t, o)

	var inUse *InUseError
	if err := Stop(t.Context(), o.Root, false); !errors.As(err, &inUse) || inUse.Builds != 1 {
		t.Errorf("stopping while a build runs: %v", err)
	}
	close(finish)
	if err := <-done; err != nil {
		t.Errorf("the build: %v", err)
	}
	eventually(t, "the daemon stops after the build", func() bool {
		st, err := Stat(o.Root)
		return err == nil && !st.Running
	})
}

func TestKilled(t *testing.T) {
	for name, victims := range map[string]func(Status) []int{
		"daemon":     func(s Status) []int { return []int{s.PID} },
		"supervisor": func(s Status) []int { return []int{s.Supervisor} },
		"both":       func(s Status) []int { return []int{s.Supervisor, s.PID} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOptions(t)
			held := acquire(t, o)
			st := status(t, o)
			for _, pid := range victims(st) {
				if err := unix.Kill(pid, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			// The kernel ends processes a moment after the signal, and until then the daemon still answers.
			eventually(t, "the killed daemon does not answer", func() bool {
				_, err := ask(t.Context(), st.Addr)
				return err != nil
			})
			acquire(t, o) // while another client still holds the daemon that is gone
			if now := status(t, o); now.PID == st.PID || now.Supervisor == st.Supervisor {
				t.Errorf("daemon %d and supervisor %d, killed, still serve: %+v", st.PID, st.Supervisor, now)
			}
			held.Release()
		})
	}
}

// A client that is killed does not call Release.
func TestKilledClient(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	o.Idle = 300 * time.Millisecond
	options, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(o.Serve[0], argAcquire, string(options))
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * o.Idle)
	if st := status(t, o); !st.InUse {
		t.Error("not in use")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	eventually(t, "the daemon stops", func() bool {
		st, err := Stat(o.Root)
		return err == nil && !st.Running
	})
}

// The daemon has a temporary folder of its own, and clears it after it was killed while it had a snapshot mounted there.
func TestTemp(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	theirs := filepath.Join(t.TempDir(), "tmp")
	if err := os.Mkdir(theirs, 0o700); err != nil {
		t.Fatal(err)
	}
	o.Env = append(o.Env, "TMPDIR="+theirs)
	acquire(t, o).Release()
	if err := os.Remove(theirs); err != nil {
		t.Errorf("the daemon uses the temporary folder of the process that started it: %v", err)
	}
	st, dir := status(t, o), filepath.Join(o.Root, "tmp")
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", st.PID))
	if err != nil {
		t.Fatal(err)
	}
	vars := strings.Split(string(env), "\x00")
	if slices.Contains(vars, "TMPDIR="+theirs) || !slices.Contains(vars, "TMPDIR="+dir) {
		t.Errorf("the daemon's TMPDIR is not %q: %q", dir, vars)
	}

	snapshot, point := t.TempDir(), filepath.Join(dir, "buildkit-mount1")
	writeFile(t, filepath.Join(snapshot, "file"), "cached")
	writeFile(t, filepath.Join(dir, "left"), "")
	if err := os.Mkdir(point, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(snapshot, point, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(st.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	acquire(t, o).Release()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
	if err := Stop(t.Context(), o.Root, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary directory of a daemon that has ended: %v", err)
	}
	if data, err := os.ReadFile(filepath.Join(snapshot, "file")); err != nil || string(data) != "cached" {
		t.Errorf("the mounted file: %q, %v", data, err)
	}
}

// A frozen daemon accepts connections and does not answer.
func TestFrozen(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	acquire(t, o).Release()
	st := status(t, o)
	if err := unix.Kill(st.PID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the daemon is frozen", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := ask(ctx, st.Addr)
		return err != nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := Acquire(ctx, o); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Acquire of a frozen daemon: %v", err)
	}
	if err := unix.Kill(st.PID, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	acquire(t, o)
	if now := status(t, o); now.PID != st.PID {
		t.Error("a daemon that answers again was replaced")
	}
}

// After a crash of the machine, the pids in the files of the root can be those of foreign processes.
func TestStale(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer other.Process.Kill()
	p, err := newProc(other.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}

	acquire(t, o).Release()
	d := rootDir(o.Root)
	var st state
	if err := readJSON(d.state(), &st); err != nil {
		t.Fatal(err)
	}
	if err := Stop(t.Context(), o.Root, false); err != nil {
		t.Fatal(err)
	}
	st.Daemon = p
	if err := errors.Join(writeJSON(d.state(), st), writeJSON(d.serve(), p)); err != nil {
		t.Fatal(err)
	}
	if err := d.prepareSockets(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: d.socket()}); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	writeFile(t, d.dataLock(), "")
	writeFile(t, d.telemetry(), "")

	if st, err := Stat(o.Root); err != nil || st.Running {
		t.Errorf("a stale state counts as running: %+v, %v", st, err)
	}
	acquire(t, o).Release()
	status(t, o)
	if err := Stop(t.Context(), o.Root, false); err != nil {
		t.Fatal(err)
	}

	// If the supervisor cannot be verified, no process is stopped on a guess.
	if err := writeJSON(d.serve(), proc{PID: p.PID, Start: p.Start + 1}); err != nil {
		t.Fatal(err)
	}
	lock, err := openLock(d.serve())
	if err != nil {
		t.Fatal(err)
	}
	defer release(lock)
	if err := waitLock(t.Context(), lock, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := Stop(t.Context(), o.Root, true); err == nil {
		t.Error("stopping a daemon whose supervisor is another process: no error")
	}
	unlock(lock)
	if now, err := newProc(p.PID); err != nil || now != p {
		t.Errorf("the other process was killed: %v", err)
	}
}

func TestRootRemoved(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	o.Idle = time.Second
	acquire(t, o).Release()
	st := status(t, o)
	if err := os.RemoveAll(o.Root); err != nil {
		t.Fatal(err)
	}
	acquire(t, o)
	if now := status(t, o); now.PID == st.PID {
		t.Error("the daemon of the removed root serves the new root")
	}
	eventually(t, "the daemon of the removed root ends", func() bool {
		return unix.Kill(st.PID, 0) != nil
	})
	status(t, o)
}

func TestBadConfig(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	good := o.Config
	bad := filepath.Join(t.TempDir(), "bad.toml")
	o.Config = bad
	if _, err := Acquire(t.Context(), o); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), bad) {
		t.Errorf("no configuration: %v", err)
	}
	writeFile(t, bad, "\ndebug = \"x\n")
	if _, err := Acquire(t.Context(), o); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a configuration that is not TOML: %v", err)
	}

	// An error that only buildkitd can find is in its log.
	writeFile(t, bad, "[worker.oci]\nsnapshotter = \"nonesuch\"\n")
	_, err := Acquire(t.Context(), o)
	var start *StartError
	if !errors.As(err, &start) {
		t.Fatalf("an unknown snapshotter: %v", err)
	}
	t.Log(err)
	want := []string{
		`buildkitd: unknown snapshotter name: "nonesuch"`,
		"kedge: buildkitd ended: exit status 1",
	}
	if diff := cmp.Diff(want, start.LogTail[max(0, len(start.LogTail)-2):]); diff != "" {
		t.Errorf("end of the log (-want +got):\n%s", diff)
	}
	if start.Log != rootDir(o.Root).log() {
		t.Errorf("log %q", start.Log)
	}
	wantGone(t, filepath.Dir(o.Root))

	o.Config = good
	acquire(t, o)
	old, err := os.ReadFile(start.Log + ".1")
	if err != nil || !strings.Contains(string(old), "nonesuch") {
		t.Errorf("the log before: %q, %v", old, err)
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	real := o.Buildkitd
	empty := t.TempDir()
	var missing *MissingError

	o.Env = append(o.Env, "PATH="+empty)
	_, err := Acquire(t.Context(), o)
	if !errors.As(err, &missing) || missing.What != "runc" || !slices.Contains(missing.Searched, empty) {
		t.Errorf("no runc: %v", err)
	}
	o.Buildkitd = ""
	if _, err = Acquire(t.Context(), o); !errors.As(err, &missing) || missing.What != "buildkitd" {
		t.Errorf("no buildkitd: %v", err)
	}
	o.Buildkitd = filepath.Join(empty, "buildkitd")
	_, err = Acquire(t.Context(), o)
	if !errors.As(err, &missing) || missing.What != "buildkitd" || !slices.Equal(missing.Searched, []string{o.Buildkitd}) {
		t.Errorf("no buildkitd at the given path: %v", err)
	}

	// The file exists and is not a program for this machine.
	if err := os.WriteFile(o.Buildkitd, []byte("\x7fELF"), 0o700); err != nil {
		t.Fatal(err)
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		skip(t, "needs runc")
	}
	if err := os.Symlink(runc, filepath.Join(empty, "runc")); err != nil {
		t.Fatal(err)
	}
	_, err = Acquire(t.Context(), o)
	var start *StartError
	if !errors.As(err, &start) || !strings.Contains(strings.Join(start.LogTail, "\n"), "exec format error") {
		t.Errorf("no program: %v", err)
	}

	o.Buildkitd = real
	acquire(t, o)
}

// The order of the places in which programs are found. The files need not be programs.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	place := func(names ...string) string {
		for _, name := range names {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	place("both/buildkitd", "both/runc", "path/buildkitd", "path/runc", "crun/crun", "none/x")
	for _, tc := range []struct {
		name             string
		beside, path     string
		buildkitd, toml  string
		wantD, wantFlags string
	}{
		{"beside first", "both", "path", "", "", "both/buildkitd", "--oci-worker=true --containerd-worker=false"},
		{"path", "none", "path", "", "", "path/buildkitd", "--oci-worker=true --containerd-worker=false"},
		{"said by name", "both", "path", "buildkitd", "", "path/buildkitd", "--oci-worker=true --containerd-worker=false"},
		{"runc beside", "both", "none", "", "", "both/buildkitd",
			"--oci-worker=true --containerd-worker=false --oci-worker-binary DIR/both/runc"},
		{"crun on path", "none", "crun", "DIR/path/buildkitd", "", "path/buildkitd",
			"--oci-worker=true --containerd-worker=false --oci-worker-binary DIR/crun/crun"},
		{"configured", "none", "path:DIR/crun", "", "[worker.oci]\nbinary = \"crun\"", "path/buildkitd",
			"--oci-worker=true --containerd-worker=false --oci-worker-binary DIR/crun/crun"},
		{"containerd", "none", "none", "DIR/path/buildkitd", "[worker.oci]\nenabled = false", "path/buildkitd", ""},
		{"both workers", "none", "path", "", "[worker.containerd]\nenabled = true", "path/buildkitd", "--oci-worker=true"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := func(s string) string { return strings.ReplaceAll(s, "DIR", dir) }
			o := Options{
				Serve:     []string{filepath.Join(dir, tc.beside, "kedge")},
				Env:       []string{"PATH=relative:" + filepath.Join(dir, in(tc.path))},
				Buildkitd: in(tc.buildkitd),
				Config:    filepath.Join(dir, "c.toml"),
			}
			if tc.path == "path:DIR/crun" {
				o.Env = []string{"PATH=" + dir + "/path:" + dir + "/crun"}
			}
			writeFile(t, o.Config, tc.toml)
			s, err := o.find()
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(s.Flags[2:], " ") // after --config
			if s.Buildkitd != filepath.Join(dir, tc.wantD) || got != in(tc.wantFlags) {
				t.Errorf("got %q %q,\nwant %q %q", s.Buildkitd, got, tc.wantD, in(tc.wantFlags))
			}
		})
	}
}

func TestFindConfig(t *testing.T) {
	dir := t.TempDir()
	user := filepath.Join(dir, ".config", "buildkit", "buildkitd.toml")
	if err := os.MkdirAll(filepath.Dir(user), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, user, "")
	writeFile(t, filepath.Join(dir, "env.toml"), "")
	// This machine may have a system's own, which comes first for root.
	system, found := "", user
	if _, err := os.Stat(systemConfig); err == nil {
		system = systemConfig
		if os.Geteuid() == 0 {
			found = system
		}
	}
	for _, tc := range []struct {
		env  []string
		want string
	}{
		{nil, system},
		{[]string{"HOME=" + dir}, found},
		{[]string{"HOME=/nonexistent", "XDG_CONFIG_HOME=" + dir + "/.config"}, found},
		{[]string{"HOME=" + dir, "BUILDKITD_CONFIG=" + dir + "/env.toml"}, dir + "/env.toml"},
		{[]string{"HOME=" + dir, "BUILDKITD_CONFIG=/nonexistent"}, found},
	} {
		got, _, err := Options{Env: tc.env}.config()
		if err != nil || got != tc.want {
			t.Errorf("%q: got %q, %v, want %q", tc.env, got, err, tc.want)
		}
	}
}

func TestChanged(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	held := acquire(t, o)
	first := status(t, o)
	writeFile(t, o.Config, "[cdi]\ndisabled = true\n[worker.oci]\nmax-parallelism = 1\n")

	_, err := Acquire(t.Context(), o)
	var inUse *InUseError
	if !errors.As(err, &inUse) || !slices.Equal(inUse.Changed, []string{"config"}) {
		t.Fatalf("changed configuration while in use: %v", err)
	}
	t.Log(err)
	if st := status(t, o); st.PID != first.PID {
		t.Error("replaced while in use")
	}
	held.Release()
	acquire(t, o).Release()
	second := status(t, o)
	if second.PID == first.PID {
		t.Error("not replaced")
	}

	// The same program in another place counts as another program.
	copied := filepath.Join(t.TempDir(), "buildkitd")
	if err := os.Link(o.Buildkitd, copied); err != nil {
		if err := os.Symlink(o.Buildkitd, copied); err != nil {
			t.Fatal(err)
		}
		t.Log("on another file system, where only a symlink to the same place can be made")
		return
	}
	o.Buildkitd = copied
	acquire(t, o)
	if st := status(t, o); st.PID == second.PID {
		t.Errorf("not replaced: %+v", st)
	}
}

func TestLongPath(t *testing.T) {
	t.Parallel()
	for _, name := range []string{strings.Repeat("long", 25), "per%zzent"} {
		t.Run(name, func(t *testing.T) {
			o := newOptions(t)
			o.Root = filepath.Join(filepath.Dir(o.Root), name)
			t.Cleanup(func() {
				if err := Stop(context.Background(), o.Root, true); err != nil {
					t.Error(err)
				}
			})
			l := acquire(t, o)
			status(t, o)
			dir := filepath.Dir(strings.TrimPrefix(l.Addr(), "unix://"))
			if !strings.HasPrefix(dir, fmt.Sprintf("/tmp/kedge-%d-", os.Geteuid())) {
				t.Errorf("address %q", l.Addr())
			}
			if fi, err := os.Lstat(dir); err != nil || fi.Mode() != fs.ModeDir|0o700 {
				t.Errorf("directory %q: %v, %v", dir, fi, err)
			}
			l.Release()
			if err := Stop(t.Context(), o.Root, false); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(dir); err == nil {
				t.Errorf("%q was left", dir)
			}

			// Another user was there first.
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(dir)
			if err := os.Chown(dir, 65534, 65534); err != nil {
				t.Fatal(err)
			}
			_, err := Acquire(t.Context(), o)
			var start *StartError
			if !errors.As(err, &start) || !strings.Contains(err.Error(), "belongs to user id 65534") {
				t.Errorf("a folder of another user: %v", err)
			}
		})
	}
}

func TestForeignRoot(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	if err := os.Mkdir(o.Root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(o.Root, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(t.Context(), o); err == nil || !strings.Contains(err.Error(), "0777") {
		t.Errorf("a root that all users can write: %v", err)
	}
	if err := errors.Join(os.Chmod(o.Root, 0o700), os.Chown(o.Root, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(t.Context(), o); err == nil || !strings.Contains(err.Error(), "65534") {
		t.Errorf("a root of another user: %v", err)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	if err := Stop(t.Context(), o.Root, false); err != nil {
		t.Errorf("stopping a daemon that never ran: %v", err)
	}
	if _, err := os.Stat(o.Root); err == nil {
		t.Error("stopping a daemon that never ran made its root")
	}
	l := acquire(t, o)
	var inUse *InUseError
	if err := Stop(t.Context(), o.Root, false); !errors.As(err, &inUse) || inUse.Changed != nil {
		t.Errorf("stopping while in use: %v", err)
	}
	status(t, o)
	if err := Stop(t.Context(), o.Root, true); err != nil {
		t.Errorf("stopping by force: %v", err)
	}
	wantStopped(t, o)
	l.Release()
	acquire(t, o).Release()
	if err := Stop(t.Context(), o.Root, false); err != nil {
		t.Error(err)
	}
	wantStopped(t, o)
	if err := Stop(t.Context(), o.Root, false); err != nil {
		t.Errorf("stopping again: %v", err)
	}
}

// A daemon can be stopped by force in the middle of a build that would not end by itself.
func TestStopInUse(t *testing.T) {
	t.Parallel()
	for name, leased := range map[string]bool{"leased": true, "foreign": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOptions(t)
			l := acquire(t, o)
			c, err := client.New(t.Context(), l.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			building, stopped, done := make(chan bool), make(chan bool), make(chan error)
			go func() {
				_, err := c.Build(context.Background(), client.SolveOpt{}, "", func(context.Context, gateway.Client) (*gateway.Result, error) {
					close(building)
					<-stopped
					return gateway.NewResult(), nil
				}, nil)
				done <- err
			}()
			<-building
			if !leased {
				l.Release()
			}
			began := time.Now()
			if err := Stop(t.Context(), o.Root, true); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > stopGrace/2 {
				t.Errorf("stopping took %v", took)
			}
			close(stopped)
			if err := <-done; err == nil {
				t.Error("the build succeeded")
			}
			if st, err := Stat(o.Root); err != nil || st.Running {
				t.Errorf("%+v, %v", st, err)
			}
			wantGone(t, filepath.Dir(o.Root))
			acquire(t, o)
		})
	}
}

func TestSupervisorTerminated(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	acquire(t, o)
	st := status(t, o)
	if err := unix.Kill(st.Supervisor, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wantGone(t, filepath.Dir(o.Root))
	wantStopped(t, o)
}

// The start of a daemon that never answers can be canceled.
func TestCancel(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	real := o.Buildkitd
	o.Buildkitd = o.Serve[0]
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(300*time.Millisecond, func() { cancel(why) })
	began := time.Now()
	if _, err := Acquire(ctx, o); !errors.Is(err, why) {
		t.Errorf("Acquire: %v", err)
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("took %v", took)
	}
	wantGone(t, filepath.Dir(o.Root))
	wantStopped(t, o)
	o.Buildkitd = real
	acquire(t, o)
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	o := newOptions(t)
	if err := os.Mkdir(o.Root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", o.Root, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		skip(t, fmt.Sprintf("needs to mount a tmpfs: %v", err))
	}
	t.Cleanup(func() {
		if err := errors.Join(Stop(context.Background(), o.Root, true), unix.Unmount(o.Root, unix.MNT_DETACH)); err != nil {
			t.Error(err)
		}
	})
	_, err := Acquire(t.Context(), o)
	var start *StartError
	if !errors.As(err, &start) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("on a full disk: %v", err)
	}
	t.Log(err)
	if err := unix.Mount("", o.Root, "", unix.MS_REMOUNT, "size=256m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	acquire(t, o)
}

func TestRelevant(t *testing.T) {
	log := `time="2026-11-23T09:49:48Z" level=info msg="auto snapshotter: using overlayfs"
{"level":"debug","msg":"x"}
time="2026-11-23T09:49:48Z" level=warning msg="skipping oci worker, as runc does not exist"
buildkitd: toml: basic strings cannot have new lines
failed to parse config
github.com/moby/buildkit/cmd/buildkitd/config.Load
	github.com/moby/buildkit@v0.34.2/cmd/buildkitd/config/load.go:15
main.main
	github.com/moby/buildkit@v0.34.2/cmd/buildkitd/main.go:495

`
	want := []string{
		`time="2026-11-23T09:49:48Z" level=warning msg="skipping oci worker, as runc does not exist"`,
		"buildkitd: toml: basic strings cannot have new lines",
		"failed to parse config",
	}
	if diff := cmp.Diff(want, relevant(log)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := relevant(strings.Repeat("line\n", 100)); len(got) != tailLines {
		t.Errorf("%d lines of 100", len(got))
	}
}

func BenchmarkAcquireWarm(b *testing.B) {
	o := newOptions(b)
	acquire(b, o)
	for b.Loop() {
		l, err := Acquire(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		l.Release()
	}
}

// The configuration that Keep remembers ends with Stop, even if no daemon runs.
func TestKeptConfig(t *testing.T) {
	d := rootDir(t.TempDir())
	if got, err := d.keptConfig(); got != "" || err != nil {
		t.Errorf("at first: %q, %v", got, err)
	}
	for _, want := range []string{"/a/buildkitd.toml", "/b"} {
		if err := d.keepConfig(want); err != nil {
			t.Fatal(err)
		}
		if got, err := d.keptConfig(); got != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	if err := Stop(t.Context(), string(d), false); err != nil {
		t.Fatal(err)
	}
	if got, err := d.keptConfig(); got != "" || err != nil {
		t.Errorf("after Stop: %q, %v", got, err)
	}
}

// A missing folder has no mounts, rather than all.
func TestMountsBelow(t *testing.T) {
	all := func(string) bool { return true }
	for _, dir := range []string{"", ".", "/", filepath.Join(t.TempDir(), "none")} {
		if m := mountsBelow(dir, all); len(m) > 0 {
			t.Errorf("below %q: %v", dir, m)
		}
	}
	if m := mountsBelow("/proc/..", all); len(m) > 0 {
		t.Errorf("below the root: %v", m)
	}
}
