package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kedge-build/kedge/internal/testenv"
)

// An asUser runs kedge as an ordinary user, whose builder uses a registry as docker.io.
type asUser struct {
	*testenv.User
	config string
}

func newUser(t *testing.T, registry *testenv.Registry) asUser {
	t.Helper()
	u := asUser{User: testenv.NewUser(t)}
	u.config = filepath.Join(u.Home, "buildkitd.toml")
	data, err := os.ReadFile(testenv.Config(t, registry))
	if err != nil {
		t.Fatal(err)
	}
	u.put(t, "buildkitd.toml", string(data))
	t.Cleanup(func() { u.kedge(t, nil, exitOK, "builder", "stop", "--force") })
	return u
}

// put writes a file in the user's home.
func (u asUser) put(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(u.Home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	u.Own(filepath.Join(u.Home, strings.Split(name, "/")[0]))
}

func (u asUser) command(env []string, args ...string) *exec.Cmd {
	return u.Command(append([]string{"BUILDKITD_CONFIG=" + u.config, "BUILDKIT_PROGRESS=plain"}, env...), append([]string{"kedge"}, args...)...)
}

func (u asUser) kedge(t *testing.T, env []string, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := u.command(env, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Fatalf("kedge %s: exit code %d, not %d\n%s%s\nlog:\n%s", strings.Join(args, " "), got, want, &out, &errs, u.log())
	}
	return out.String(), errs.String()
}

func (u asUser) builder(name string) string {
	return filepath.Join(u.Home, ".local/share/kedge/builder", name)
}

func (u asUser) log() string {
	data, _ := os.ReadFile(u.builder("buildkitd.log"))
	return string(data)
}

// A builder without root starts, reports its status and stops, on command and when idle. It leaves nothing behind,
// whichever of its processes is killed. The user is logged in by su, which keeps variables of root.
func TestRootless(t *testing.T) {
	registry, _ := testenv.Shared(t)
	u := newUser(t, registry)
	su := []string{"USER=root", "XDG_RUNTIME_DIR=/run/user/0"}
	u.put(t, "host/Dockerfile", "FROM debian:bookworm-slim\nRUN test $(id -u) = 0 && ! grep -q tap0 /proc/net/dev\n")
	u.kedge(t, su, exitOK, "build", "host")
	u.wantStatus(t, "rootless network host")

	// A file that the user may not read ends the build, unless it is left out.
	u.put(t, "unreadable/Dockerfile", "FROM scratch\nCOPY . /\n")
	u.put(t, "unreadable/file", "content")
	if err := os.Chmod(filepath.Join(u.Home, "unreadable/file"), 0); err != nil {
		t.Fatal(err)
	}
	if _, errs := u.kedge(t, su, exitFailed, "build", "unreadable"); !strings.Contains(errs, "reading the build context: open ") || !strings.Contains(errs, "hint: docker would put an empty file") {
		t.Error(errs)
	}
	u.put(t, "unreadable/.dockerignore", "file\n")
	u.kedge(t, su, exitOK, "build", "unreadable")

	// With its own network, steps may listen on any port.
	testenv.Require(t, "slirp4netns")
	slirp := append(su, "KEDGE_ROOTLESS_NET=slirp4netns")
	u.put(t, "slirp/Dockerfile", "FROM debian:bookworm-slim\nRUN grep -q tap0 /proc/net/dev && grep -q '^nameserver 10.0.2.3' /etc/resolv.conf\nRUN touch /started; sleep 60\n")
	lock, err := os.ReadFile(filepath.Join(u.Home, "host/Dockerfile.lock"))
	if err != nil {
		t.Fatal(err)
	}
	u.put(t, "slirp/Dockerfile.lock", string(lock)) // the registry cannot be reached, and the builder has the image
	for i, victim := range []string{"supervisor", "rootlesskit", "buildkitd"} {
		var out bytes.Buffer
		build := u.command(slirp, "build", "slirp")
		build.Stdout, build.Stderr = &out, &out
		if err := build.Start(); err != nil {
			t.Fatal(err)
		}
		u.eventually(t, "a step runs", func() bool { return u.process("sleep 60") != 0 })
		if i == 0 {
			u.wantStatus(t, "rootless network slirp4netns")
		}
		pattern := map[string]string{"supervisor": "kedge builder serve", "rootlesskit": "rootlesskit --state-dir", "buildkitd": "buildkitd --root"}[victim]
		if err := syscall.Kill(u.process(pattern), syscall.SIGKILL); err != nil {
			t.Fatalf("killing the %s: %v", victim, err)
		}
		if err := build.Wait(); err == nil {
			t.Fatalf("a build without its %s ended well\n%s", victim, &out)
		}
		u.eventually(t, "nothing runs without the "+victim, func() bool { return u.Processes() == nil })
	}

	u.kedge(t, su, exitOK, "builder", "start")
	u.kedge(t, su, exitOK, "builder", "stop")
	u.wantNothing(t)
	u.kedge(t, su, exitOK, "builder", "start", "--builder-idle", "100ms")
	u.eventually(t, "it stops when idle", func() bool { return u.Processes() == nil })
	u.wantNothing(t)
}

// If a builder without root lacks something, one line says what, and another what to do.
func TestRootlessSetup(t *testing.T) {
	u := newUser(t, testenv.NewRegistry(t))
	u.put(t, "app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
	ids := fmt.Sprintf("%s:%d:", u.Name, 5000000)
	for _, test := range []struct {
		name    string
		subids  string // of /etc/subuid
		env     []string
		wrapper []string
		code    int
		want    string
		hint    string
	}{
		{name: "none", subids: "ada:100000:65536", code: exitFailed,
			want: `user "kedge-test" has no ids in /etc/subuid`, hint: "as root: echo kedge-test:165536:65536 | tee -a /etc/subuid"},
		{name: "few", subids: ids + "1000", code: exitFailed,
			want: `user "kedge-test" has only 1000 ids in /etc/subuid, and an image may use 65536`, hint: "as root: echo kedge-test:100000:65536 | tee -a /etc/subuid"},
		{name: "no newuidmap", subids: ids + "65536", env: []string{"PATH=" + u.Bin}, code: exitFailed,
			want: "newuidmap not found in ", hint: "apt-get install uidmap (Debian, Ubuntu), or dnf install shadow-utils (Fedora)"},
		{name: "no privileges", subids: ids + "65536", wrapper: []string{"setpriv", "--no-new-privs"}, code: exitFailed,
			want: "newuidmap may not gain privileges: no_new_privs is set for this process", hint: "run kedge where they can be gained"},
		{name: "network", subids: ids + "65536", env: []string{"KEDGE_ROOTLESS_NET=bridge"}, code: exitUsage,
			want: `KEDGE_ROOTLESS_NET "bridge" is not host or slirp4netns`, hint: "kedge"},
		{name: "home", subids: ids + "65536", env: []string{"HOME=/root"}, code: exitFailed,
			want: "making the builder's directory: mkdir /root/", hint: "set XDG_DATA_HOME to a folder that you may write in"},
		// The user by number, in two lines. The home is that of /etc/passwd.
		{name: "enough", subids: fmt.Sprintf("%d:5000000:30000\n%[1]d:6000000:40000", u.ID), env: []string{"HOME=", "TMPDIR=/root"}, code: exitOK},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(u.Etc, "subuid"), []byte(test.subids+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			args := append(slices.Clone(test.wrapper), "kedge", "build", "app")
			out, err := u.Command(append([]string{"BUILDKIT_PROGRESS=quiet"}, test.env...), args...).CombinedOutput()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) || exit != nil && exit.ExitCode() != test.code || exit == nil && test.code != exitOK {
				t.Fatalf("%v, and not exit code %d\n%s", err, test.code, out)
			}
			if test.code == exitOK {
				return
			}
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "kedge: warning: docker's configuration") })
			if len(lines) != 2 || !strings.Contains(lines[0], test.want) || !strings.HasPrefix(lines[1], "hint: "+test.hint) {
				t.Errorf("said:\n%s", out)
			}
			if left := u.Processes(); left != nil {
				t.Errorf("started %q", left)
			}
		})
	}
	if err := os.Remove(filepath.Join(u.Bin, "rootlesskit")); err != nil {
		t.Fatal(err)
	}
	u.kedge(t, nil, exitOK, "builder", "stop")
	if _, errs := u.kedge(t, nil, exitFailed, "build", "app"); !strings.Contains(errs, "running buildkitd without root: rootlesskit not found in ") ||
		!strings.Contains(errs, "\nhint: install rootlesskit, or run make build in kedge's repository") {
		t.Errorf("without rootlesskit: %s", errs)
	}
}

// process returns the lowest PID of the user's processes whose command line has the words, or 0.
func (u asUser) process(words string) int {
	least := 0
	for _, p := range u.Processes() {
		pid, line, _ := strings.Cut(p, " ")
		if n, err := strconv.Atoi(pid); err == nil && strings.Contains(line, words) && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}

func (u asUser) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s\n%s\n%s", what, strings.Join(u.Processes(), "\n"), u.log())
		}
	}
}

func (u asUser) wantStatus(t *testing.T, line string) {
	t.Helper()
	if status, _ := u.kedge(t, nil, exitOK, "builder", "status"); !strings.Contains(status, "\n"+line+"\n") {
		t.Errorf("status: %s", status)
	}
}

// wantNothing fails the test if a process of the builder runs, or a file is left that could mislead the next one.
func (u asUser) wantNothing(t *testing.T) {
	t.Helper()
	u.eventually(t, "all processes end", func() bool { return u.Processes() == nil })
	run, err := os.ReadDir(u.builder("run"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range run {
		t.Errorf("left: %s", f.Name())
	}
	if _, err := os.Stat(u.builder("state.json")); err == nil {
		t.Error("left: state.json")
	}
}
