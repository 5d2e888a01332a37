package testenv

import (
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
)

// A User is an ordinary user who exists for one test. The machine's files are not changed: the user's commands see a
// copy of /etc in a mount namespace.
type User struct {
	Name string
	ID   int    // user and group id; the subordinate ids begin at 100000 times it
	Home string // readable only by the user
	Bin  string // the repository's bin, with the test binary as kedge
	Etc  string // the user's /etc

	t   testing.TB
	dir string
}

const userIDs = 65536

// NewUser returns a user who has subordinate ids, and can make network devices if the machine can. The test binary
// must act as kedge if its name is kedge. Cleanup fails the test if a process of the user remains.
func NewUser(t testing.TB) *User {
	t.Helper()
	Require(t, "buildkitd", "rootlesskit", "newuidmap", "unshare", "setpriv")
	u := &User{Name: "kedge-test", ID: 20000 + os.Getpid()%10000, t: t}
	u.dir = shortTempDir(t, func(string) { u.gone() })
	u.Home, u.Bin, u.Etc = filepath.Join(u.dir, "home"), filepath.Join(u.dir, "bin"), filepath.Join(u.dir, "etc")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("making a user: %v", err)
		}
	}
	check(os.Chmod(u.dir, 0o755))
	for _, dir := range []string{u.Bin, u.Home, filepath.Join(u.dir, "parts"), filepath.Join(u.dir, "tun")} {
		check(os.Mkdir(dir, 0o755))
	}
	check(os.Chmod(u.Home, 0o700))
	u.Own(u.Home)
	exe, err := os.Executable()
	check(err)
	for _, args := range [][]string{{"-a", "/etc", u.Etc}, {exe, filepath.Join(u.Bin, "kedge")}} {
		if out, err := exec.Command("cp", args...).CombinedOutput(); err != nil {
			t.Fatalf("cp %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	// Links into folders that are mounted for the user's commands, since the repository may not be readable.
	for _, name := range []string{"buildkitd", "rootlesskit", "runc"} {
		if _, err := os.Stat(bin(t, name)); err != nil {
			continue // the machine's own
		}
		check(os.Symlink(filepath.Join(u.dir, "parts", name), filepath.Join(u.Bin, name)))
	}
	u.Append("passwd", fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh", u.Name, u.ID, u.ID, u.Home))
	for _, name := range []string{"subuid", "subgid"} {
		check(os.RemoveAll(filepath.Join(u.Etc, name)))
		u.Append(name, fmt.Sprintf("%s:%d:%d", u.Name, u.firstID(), userIDs))
	}
	return u
}

func (u *User) firstID() int { return u.ID * 100000 }

// Append adds a line to a file in the user's /etc.
func (u *User) Append(name, line string) {
	u.t.Helper()
	f, err := os.OpenFile(filepath.Join(u.Etc, name), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		u.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(line + "\n"); err != nil {
		u.t.Fatal(err)
	}
}

// Own makes the user the owner of a file or a tree.
func (u *User) Own(path string) {
	u.t.Helper()
	if out, err := exec.Command("chown", "-R", fmt.Sprintf("%d:%d", u.ID, u.ID), path).CombinedOutput(); err != nil {
		u.t.Fatalf("chown: %v\n%s", err, out)
	}
}

// Command returns a command that the user runs at home, without a login session. Its environment has PATH, HOME and env.
func (u *User) Command(env []string, args ...string) *exec.Cmd {
	const script = `set -e
mount --bind "$1/etc" /etc
mount --bind "$2" "$1/parts"
if [ -e /dev/net/tun ]; then # a machine may keep it from users
	mount -t tmpfs -o mode=755 none "$1/tun"
	mknod -m 666 "$1/tun/tun" c 10 200
	mount --bind "$1/tun/tun" /dev/net/tun
fi
id=$3
shift 3
exec setpriv --reuid="$id" --regid="$id" --clear-groups -- env -i "$@"`
	env = append([]string{"PATH=" + u.Bin + ":/usr/local/bin:/usr/bin:/bin", "HOME=" + u.Home}, env...)
	cmd := exec.Command("unshare", slices.Concat([]string{"--mount", "--propagation", "private",
		"sh", "-c", script, "sh", u.dir, filepath.Dir(program(u.t, "rootlesskit")), strconv.Itoa(u.ID)}, env, args)...)
	cmd.Dir = u.Home
	return cmd
}

// Processes returns the command lines of the user's processes, including those of the subordinate ids.
func (u *User) Processes() []string {
	u.t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		u.t.Fatal(err)
	}
	var found []string
	for _, dir := range dirs {
		fi, err := os.Stat(dir)
		if err != nil {
			continue // it has ended
		}
		uid := int(fi.Sys().(*syscall.Stat_t).Uid)
		if uid == u.ID || uid >= u.firstID() && uid < u.firstID()+userIDs {
			line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
			found = append(found, filepath.Base(dir)+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// gone waits until the user's processes have ended, and fails the test if they do not.
func (u *User) gone() {
	var left []string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if left = u.Processes(); left == nil {
			return
		}
	}
	u.t.Errorf("processes left:\n%s", strings.Join(left, "\n"))
}
