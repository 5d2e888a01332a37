package testenv

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/kedge-build/kedge/internal/rig"
)

// A Buildkitd is a running BuildKit daemon.
type Buildkitd struct {
	Addr   string // "unix://…"
	Config string // the path of its buildkitd.toml
	Root   string // the folder of its state
	TCP    string // "tcp://127.0.0.1:…", if asked for
	TLS    TLS    // of a client, for TCP

	daemon *daemon
}

// BuildkitdOptions are options of [StartBuildkitd]. The zero value is a daemon
// without a registry.
type BuildkitdOptions struct {
	Registry    *Registry // replaces docker.io, over plain http
	Snapshotter string    // "overlayfs" or "native"; the daemon's choice if empty
	Config      string    // lines for buildkitd.toml, before the registries
	TCP         bool      // also listen on TCP, with mutual TLS
	Args        []string  // additional arguments
	// Namespace is the network of the daemon and of its steps; nil: this process's.
	Namespace *Namespace
}

// StartBuildkitd starts a daemon for the test, from $KEDGE_TEST_BUILDKITD, the
// repository's bin or PATH, in that order.
func StartBuildkitd(t testing.TB, opts BuildkitdOptions) *Buildkitd {
	t.Helper()
	path := program(t, "buildkitd")
	dir := shortTempDir(t, unmount)
	socket := filepath.Join(dir, "buildkitd.sock")
	b := &Buildkitd{
		Addr:   "unix://" + socket,
		Config: filepath.Join(dir, "buildkitd.toml"),
		Root:   filepath.Join(dir, "root"),
	}
	writeConfig(t, b.Config, opts.Config, opts.Registry)
	args := []string{"--config=" + b.Config, "--root=" + b.Root, "--addr=" + b.Addr, "--oci-worker-net=host"}
	if opts.Snapshotter != "" {
		args = append(args, "--oci-worker-snapshotter="+opts.Snapshotter)
	}
	addr := socket
	network := "unix"
	if opts.TCP {
		network, addr = "tcp", freePort(t)
		b.TCP = "tcp://" + addr
		server, client := certificates(t, dir)
		b.TLS = client
		args = append(args, "--addr="+b.TCP,
			"--tlscacert="+server.CA, "--tlscert="+server.Cert, "--tlskey="+server.Key)
	}
	cmd := exec.Command(path, append(args, opts.Args...)...)
	if opts.Namespace != nil {
		cmd = opts.Namespace.Command(append([]string{path}, cmd.Args[1:]...)...)
	}
	b.daemon = start(t, func() error {
		conn, err := net.Dial(network, addr)
		if err != nil {
			return err
		}
		return conn.Close()
	}, cmd)
	return b
}

// Config writes a buildkitd.toml in which r replaces docker.io, for another daemon,
// and returns its path.
func Config(t testing.TB, r *Registry) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "buildkitd.toml")
	writeConfig(t, path, "", r)
	return path
}

func writeConfig(t testing.TB, path, more string, r *Registry) {
	t.Helper()
	var b strings.Builder
	if more != "" {
		b.WriteString(strings.TrimSpace(more) + "\n")
	}
	if r != nil {
		b.WriteString(rig.MirrorConfig(r.Addr))
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// freePort returns an unused address on loopback.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// unmount removes the mounts of a killed daemon below dir.
func unmount(dir string) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return
	}
	defer f.Close()
	var points []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			points = append(points, fields[1])
		}
	}
	slices.Reverse(points) // the innermost first
	for _, point := range points {
		_ = syscall.Unmount(point, syscall.MNT_DETACH)
	}
}
