package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// A Closed is a buildkitd that has nothing yet, in a network namespace with a loopback device and no route.
type Closed struct {
	Addr string // of the daemon, "unix://…"

	dir    string
	env    []string
	daemon *Daemon
}

// StartClosed starts another buildkitd, which writes only below dir. dir must not exist.
func (r *Rig) StartClosed(ctx context.Context, dir string) (_ *Closed, err error) {
	c := &Closed{Addr: "unix://" + filepath.Join(dir, "buildkitd.sock"), dir: dir, env: r.Env}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	c.daemon, err = r.daemonBelow(dir, c.Addr, "unshare", "--net", "sh", "-c", `ip link set lo up && exec "$@"`, "sh")
	if err != nil {
		return nil, err
	}
	routes, err := c.Command(ctx, "ip", "route").Output()
	if err == nil && len(routes) > 0 {
		err = errors.New(string(routes))
	}
	if err != nil {
		return nil, fmt.Errorf("routes of a new network namespace: %w", err)
	}
	return c, nil
}

// Command is like the function Command, for a program that runs in the daemon's network namespace with the
// rig's environment.
func (c *Closed) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	pid := strconv.Itoa(c.daemon.cmd.Process.Pid)
	return Command(ctx, c.env, "nsenter", append([]string{"--target=" + pid, "--net", "--", program}, args...)...)
}

// Stop ends the daemon and removes its files.
func (c *Closed) Stop() error {
	var err error
	if c.daemon != nil {
		err = c.daemon.Stop(30 * time.Second)
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}
