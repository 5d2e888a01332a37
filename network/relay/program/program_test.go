package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
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

// compiled is the program, which TestMain compiles.
var compiled string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "client" {
		client(os.Args[2])
		return
	}
	dir, err := os.MkdirTemp("", "relay")
	if err != nil {
		panic(err)
	}
	compiled = filepath.Join(dir, "relay")
	build := exec.Command("go", "build", "-o", compiled, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// step runs a command as the relay's, in a network namespace of its own. serve answers each connection that
// reaches kedge's socket.
func step(t *testing.T, serve func(net.Conn), args ...string) (stdout string, err error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Link(compiled, filepath.Join(dir, "relay")); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	for _, program := range []string{"unshare", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("KEDGE_TEST_REQUIRE") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	namespace := []string{"-n", "-p", "-f", "--kill-child", "--mount-proc"}
	if os.Getuid() != 0 {
		namespace = append(namespace, "-r")
	}
	words := append(namespace, "sh", "-c", `ip link set lo up && exec "$@"`, "sh", filepath.Join(dir, "relay"))
	cmd := exec.CommandContext(t.Context(), "unshare", append(words, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = errors.Join(err, errors.New(stderr.String()))
	}
	return string(out), err
}

// client connects to the relay in what its name says.
func client(what string) {
	if what == "dns" { // asks three questions
		c, err := net.Dial("udp", "127.107.101.100:53")
		if err != nil {
			panic(err)
		}
		for _, kind := range []byte{typeA, typeAAAA, typeA} {
			if _, err := c.Write(query("a.bc", kind)); err != nil {
				panic(err)
			}
			if _, err := c.Read(make([]byte, maxPacket)); err != nil {
				panic(err)
			}
		}
		return
	}
	c, err := net.Dial("tcp", "127.107.101.100:3128")
	if err != nil {
		panic(err)
	}
	switch what {
	case "echo": // sends all, and only then says that it has
		go func() {
			io.Copy(c, io.LimitReader(zeros{}, 10<<20))
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		n, err := io.Copy(io.Discard, c)
		os.Stdout.WriteString(strconv.FormatInt(n, 10) + " " + strconv.FormatBool(err == nil))
	case "slow": // reads late, from a server that has gone
		time.Sleep(300 * time.Millisecond)
		sum := sha256.New()
		n, err := io.Copy(sum, c)
		os.Stdout.WriteString(strconv.FormatInt(n, 10) + " " + hex.EncodeToString(sum.Sum(nil)[:4]) + " " + strconv.FormatBool(err == nil))
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestEcho(t *testing.T) {
	out, err := step(t, func(c net.Conn) { io.Copy(c, c); c.Close() }, os.Args[0], "client", "echo")
	if err != nil || out != "10485760 true" {
		t.Errorf("%q, %v", out, err)
	}
}

// TestSlowReader sends more than any buffer holds and goes: nothing is lost.
func TestSlowReader(t *testing.T) {
	const size = 50 << 20
	sum := sha256.New()
	io.Copy(sum, io.LimitReader(zeros{}, size))
	out, err := step(t, func(c net.Conn) { io.Copy(c, io.LimitReader(zeros{}, size)); c.Close() }, os.Args[0], "client", "slow")
	if want := strconv.Itoa(size) + " " + hex.EncodeToString(sum.Sum(nil)[:4]) + " true"; err != nil || out != want {
		t.Errorf("%q, want %q, %v", out, want, err)
	}
}

// TestEnd sends any number of bytes to a relay that reads one at a time. The end follows them, whatever turn it comes in.
func TestEnd(t *testing.T) {
	pair := func() [2]int {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Close(fds[0]); syscall.Close(fds[1]) })
		return fds
	}
	for size := range 40 {
		epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		server, client := pair(), pair()
		a, b := &end{fd: server[1], events: syscall.EPOLLIN}, &end{fd: client[0], events: syscall.EPOLLIN}
		a.other, b.other = b, a
		r := &relay{epoll: epoll, ends: map[int]*end{a.fd: a, b.fd: b}, buffer: make([]byte, 1)}
		for fd := range r.ends {
			if err := r.wait(fd, syscall.EPOLLIN); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := syscall.Write(server[0], make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Shutdown(server[0], syscall.SHUT_WR); err != nil {
			t.Fatal(err)
		}
		for events := make([]syscall.EpollEvent, 8); ; {
			n, err := syscall.EpollWait(epoll, events, 0)
			if err == syscall.EINTR {
				continue
			}
			if err != nil || n == 0 {
				break
			}
			for _, e := range events[:n] {
				r.move(r.ends[int(e.Fd)])
			}
		}
		got := make([]byte, 100)
		n, err := syscall.Read(client[1], got)
		end, endErr := syscall.Read(client[1], got[max(n, 0):])
		if size == 0 {
			end, endErr = n, err
		}
		if n != size || end != 0 || endErr != nil {
			t.Errorf("%d bytes: read %d (%v), and then %d (%v)", size, n, err, end, endErr)
		}
		syscall.Close(epoll)
	}
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

func TestCommand(t *testing.T) {
	none := func(c net.Conn) { c.Close() }
	for _, tt := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"sh", "-c", "exit 3"}, 3, ""},
		{[]string{"no-such-program"}, 1, `exec: "no-such-program": executable file not found in $PATH`},
		{[]string{"/no/such"}, 1, `exec: "/no/such": stat /no/such: no such file or directory`},
		{[]string{"/etc"}, 1, "permission denied"},
	} {
		_, err := step(t, none, tt.args...)
		if exitCode(err) != tt.code || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%q: %v", tt.args, err)
		}
	}
	// The command is the first process, as without the relay: a signal that it does not handle is ignored.
	out, err := step(t, none, "sh", "-c", `kill -TERM $$; echo $$; cat /proc/$$/cmdline | tr '\0' ' '`)
	if err != nil || !strings.HasPrefix(out, "1\nsh -c ") {
		t.Errorf("%q, %v", out, err)
	}
	// Its environment is the step's.
	out, err = step(t, none, "sh", "-c", "tr '\\0' '\\n' </proc/$$/environ")
	got, want := strings.Split(strings.TrimSpace(out), "\n"), os.Environ()
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("environment %q, want %q, %v", got, want, err)
	}
	// It has no descriptor of the relay's, and waits for no child that it did not start.
	out, err = step(t, none, "sh", "-c", "wait; ls -l /proc/self/fd | grep -c socket; true")
	if err != nil || out != "0\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// TestSetuid runs a step of another user: the relay listens on low ports all the same, and the command has no
// rights of root.
func TestSetuid(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip(err)
	}
	old := compiled
	dir, err := os.MkdirTemp("", "relay-setuid")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { compiled = old; os.RemoveAll(dir) }()
	data, err := os.ReadFile(compiled)
	if err != nil {
		t.Fatal(err)
	}
	compiled = filepath.Join(dir, "relay")
	if err := os.WriteFile(compiled, data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Chmod(compiled, 0o4755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// The second column is the local address, in the state of a socket that listens.
	listening := "grep -cE ':0050 00000000:0000 0A' /proc/net/tcp; "
	out, err := asUser(t, "env | grep ^GOTRACEBACK; grep -E '^(Uid|CapEff|CapPrm)' /proc/self/status; "+listening+"exec 3>/dev/udp/127.107.101.100/53; printf '"+escaped(query("a.b", typeA))+"' >&3; head -c 1 <&3 >/dev/null; "+listening)
	want := "Uid:\t65534\t65534\t65534\t65534\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n0\n1\n"
	if err != nil || out != want {
		t.Errorf("%q, want %q, %v", out, want, err)
	}
}

// asUser runs a shell command as the relay's, as a user who is not root.
func asUser(t *testing.T, script string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "unshare", "-n", "-p", "-f", "--mount-proc", "sh", "-c", `ip link set lo up && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$0" bash -c "$1"`, compiled, script)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// escaped writes bytes for the shell's printf.
func escaped(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		fmt.Fprintf(&s, `\x%02x`, c)
	}
	return s.String()
}

func query(name string, kind byte) []byte {
	q := []byte{0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(name, ".") {
		q = append(append(q, byte(len(label))), label...)
	}
	return append(q, 0, 0, kind, 0, 1)
}

func TestRespond(t *testing.T) {
	reply, name := respond(query("Deb.example.ORG", typeA))
	if name != "deb.example.org" || !bytes.HasSuffix(reply, []byte{127, 107, 101, 100}) || reply[7] != 1 || !bytes.HasPrefix(reply, []byte{0xab, 0xcd, 0x81, 0x80}) {
		t.Errorf("%x, %q", reply, name)
	}
	for _, kind := range []byte{typeAAAA, 33} {
		if reply, _ := respond(query("a.b", kind)); reply == nil || reply[7] != 0 || len(reply) != len(query("a.b", kind)) {
			t.Errorf("type %d: %x", kind, reply)
		}
	}
	for _, bad := range [][]byte{nil, make([]byte, 12), query("a", typeA)[:15], append(query("a", typeA)[:12], 64), reply} {
		if got, _ := respond(bad); got != nil {
			t.Errorf("%x: answered %x", bad, got)
		}
	}
}

func FuzzRespond(f *testing.F) {
	f.Add(query("example.com", typeA))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		reply, name := respond(data)
		if len(reply) > len(data)+16 || strings.ContainsAny(name, "\r\n ") {
			t.Errorf("%x, %q", reply, name)
		}
	})
}

// TestName asks for the address of a name, and finds that kedge is told.
func TestName(t *testing.T) {
	told := make(chan string, 10)
	_, err := step(t, func(c net.Conn) {
		line, _ := bufio.NewReader(c).ReadString('\n')
		told <- line
		c.Close()
	}, os.Args[0], "client", "dns")
	if err != nil {
		t.Fatal(err)
	}
	select {
	case line := <-told:
		if line != "KEDGE name a.bc\n" {
			t.Errorf("told %q", line)
		}
	case <-time.After(5 * time.Second):
		t.Error("kedge is not told")
	}
	if len(told) > 0 {
		t.Error("kedge is told twice")
	}
}
