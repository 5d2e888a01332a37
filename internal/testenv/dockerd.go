package testenv

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A Dockerd is a running Docker Engine. Its containers have no network.
type Dockerd struct {
	Host string // "unix://…", for $DOCKER_HOST
	TCP  string // "tcp://127.0.0.1:…", if asked for
	TLS  TLS    // of a client, for TCP

	cli    string
	daemon *daemon
}

// DockerdOptions are options of [StartDockerd]. The zero value is an old engine.
type DockerdOptions struct {
	// Modern chooses a current engine, which keeps images in containerd's
	// store: $KEDGE_TEST_DOCKERD_MODERN or the repository's bin/engine. The old
	// one, which keeps images in graphdrivers, is $KEDGE_TEST_DOCKERD, Debian's
	// in bin/docker.io, or the one on PATH.
	Modern bool
	// Graphdriver makes a current engine keep its images in graphdrivers.
	Graphdriver bool
	TCP         bool      // also listen on TCP, with mutual TLS
	Registry    *Registry // replaces docker.io
}

// StartDockerd starts an engine for the test. It shares nothing with the
// machine's engine: not the socket, the images or the packet filter.
func StartDockerd(t testing.TB, opts DockerdOptions) *Dockerd {
	t.Helper()
	name, config := "dockerd", "{}" // not the machine's /etc/docker/daemon.json
	var env []string
	if opts.Modern {
		// The repository's runc has no seccomp, since that needs a C library. Builds have a profile in any
		// case, and do not need a current runc.
		name = "dockerd-modern"
		config = fmt.Sprintf(`{"features":{"containerd-snapshotter":%v},"seccomp-profile":"unconfined"}`, !opts.Graphdriver)
		env = []string{"DOCKER_BUILDKIT_RUNC_COMMAND=" + program(t, "runc")}
	}
	path := program(t, name)
	dir := shortTempDir(t, unmount)
	socket := filepath.Join(dir, "docker.sock")
	d := &Dockerd{Host: "unix://" + socket, cli: program(t, "docker")}
	file := filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--config-file=" + file,
		"--host=" + d.Host,
		"--data-root=" + filepath.Join(dir, "data"),
		"--exec-root=" + filepath.Join(dir, "exec"),
		"--pidfile=" + filepath.Join(dir, "docker.pid"),
		"--iptables=false", "--ip6tables=false", "--bridge=none", "--userland-proxy=false",
	}
	if opts.Registry != nil {
		args = append(args, "--registry-mirror=http://"+opts.Registry.Addr)
	}
	if opts.TCP {
		server, client := certificates(t, dir)
		d.TCP, d.TLS = "tcp://"+freePort(t), client
		args = append(args, "--host="+d.TCP, "--tlsverify",
			"--tlscacert="+server.CA, "--tlscert="+server.Cert, "--tlskey="+server.Key)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = env
	d.daemon = start(t, func() error {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return err
		}
		conn.Close()
		_, err = d.command("version").Output() // the socket exists before the engine answers
		return err
	}, cmd)
	return d
}

// Docker runs the docker command and returns its output. An error ends the test.
// The command is Debian's, which is old enough for both engines.
func (d *Dockerd) Docker(t testing.TB, args ...string) string {
	t.Helper()
	out, err := d.command(args...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Fatalf("docker %q: %v\n%s", args, err, exit.Stderr)
	}
	if err != nil {
		t.Fatalf("docker %q: %v", args, err)
	}
	return string(out)
}

func (d *Dockerd) command(args ...string) *exec.Cmd {
	cmd := exec.Command(d.cli, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+d.Host)
	return cmd
}
