package testenv

import (
	"bufio"
	"os/exec"
	"strconv"
	"testing"
)

// A Namespace is a network of its own: a loopback device, and no route to anywhere.
type Namespace struct{ pid int }

// NewNamespace makes a namespace that ends with the test.
func NewNamespace(t testing.TB) *Namespace {
	t.Helper()
	Require(t, "unshare", "nsenter", "ip")
	// It lives as long as this process, which waits for the end of its input.
	holder := exec.Command("unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat")
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatalf("making a network namespace: %v", err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = holder.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "up\n" {
		t.Fatalf("making a network namespace: %q, %v", line, err)
	}
	n := &Namespace{pid: holder.Process.Pid}
	if routes, err := n.Command("ip", "route").CombinedOutput(); err != nil || len(routes) > 0 {
		t.Fatalf("routes of a new network namespace: %s, %v", routes, err)
	}
	return n
}

// Command returns a command that runs in the namespace.
func (n *Namespace) Command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--target", strconv.Itoa(n.pid), "--net", "--"}, args...)...)
}
