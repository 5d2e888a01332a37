// Package testenv gives tests the real systems that kedge works with: a
// buildkitd, a registry, Debian base images, git and file servers, a Docker
// Engine. Each is private to the test binary, listens only on loopback, and ends
// with the test or, if it is shared, with the binary.
//
//	registry, buildkitd := testenv.Shared(t)
//
// If this machine lacks a program that a test needs, the test is skipped. With
// KEDGE_TEST_REQUIRE=1 it fails instead. Short mode starts no daemon and skips
// the tests that need one.
package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/kedge-build/kedge/internal/rig"
)

// Require skips the test if one of the programs is missing, does not work for
// this user, or would be started in short mode. With KEDGE_TEST_REQUIRE=1 a
// missing program fails the test. "buildkitd", "dockerd" and "dockerd-modern" are
// found as [StartBuildkitd] and [StartDockerd] find them; "kedge", "buildctl",
// "buildx" and "rootlesskit" in the repository's bin or on PATH, and others on
// PATH.
func Require(t testing.TB, programs ...string) {
	t.Helper()
	for _, name := range programs {
		program(t, name)
	}
}

// Program returns the path of a program that [Require] requires.
func Program(t testing.TB, name string) string {
	t.Helper()
	return program(t, name)
}

// program returns the path of a program as Require finds it.
func program(t testing.TB, name string) string {
	t.Helper()
	var candidates []string
	root := false
	switch name {
	case "buildkitd":
		root = true
		candidates = []string{os.Getenv("KEDGE_TEST_BUILDKITD"), bin(t, name), name}
	case "dockerd":
		root = true
		candidates = []string{os.Getenv("KEDGE_TEST_DOCKERD"), bin(t, "docker.io/dockerd"), name}
	case "dockerd-modern":
		root = true
		candidates = []string{os.Getenv("KEDGE_TEST_DOCKERD_MODERN"), bin(t, "engine/dockerd")}
	case "docker-modern":
		candidates = []string{bin(t, "engine/docker")}
	case "docker":
		candidates = []string{bin(t, "docker.io/docker"), name}
	case "compose":
		candidates = []string{bin(t, "docker-compose"), "docker-compose"}
	case "docker-registry", "busybox":
		candidates = []string{bin(t, "docker-registry/"+name), name}
	case "buildctl", "buildx", "kedge", "rootlesskit", "runc":
		candidates = []string{bin(t, name), name}
	default:
		candidates = []string{name}
	}
	if root && testing.Short() {
		t.Skipf("starts %s: not in short mode", name)
	}
	if root && os.Geteuid() != 0 {
		missing(t, "%s needs root", name)
	}
	for _, candidate := range candidates {
		if candidate == "" {
			continue
		}
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	missing(t, "%s is not here; `make deps build engines testdeps` installs it", name)
	return ""
}

// missing skips or fails a test whose requirement is not met.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("KEDGE_TEST_REQUIRE") == "1" {
		t.Fatalf("required (KEDGE_TEST_REQUIRE=1): "+format, args...)
	}
	t.Skipf(format, args...)
}

// bin returns the path at which the Makefile builds a program.
func bin(t testing.TB, name string) string {
	t.Helper()
	return filepath.Join(Repository(t), "bin", name)
}

// Repository returns the root of the repository, which is a parent of the
// working directory.
func Repository(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = up
	}
}

// shortTempDir is t.TempDir with a path that is short enough for a unix socket
// (108 bytes). It calls remove before it removes the folder.
func shortTempDir(t testing.TB, remove func(dir string)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kedge-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if remove != nil {
			remove(dir)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the files of a daemon: %v", err)
		}
	})
	return dir
}

// A daemon is a program that runs until the test ends.
type daemon struct {
	*rig.Daemon
	path string
	log  buffer
}

// start runs a daemon and returns when ready succeeds. Cleanup stops the daemon.
// If the test has failed, cleanup keeps the daemon's log and prints its path.
func start(t testing.TB, ready func() error, cmd *exec.Cmd) *daemon {
	t.Helper()
	d := &daemon{path: cmd.Path}
	cmd.Stdout, cmd.Stderr = &d.log, &d.log
	// Its helpers, such as containerd and runc, are next to it or in bin.
	cmd.Env = append(append(os.Environ(), cmd.Env...), "PATH="+filepath.Dir(cmd.Path)+":"+bin(t, "")+":"+os.Getenv("PATH"))
	var err error
	if d.Daemon, err = rig.StartDaemon(cmd, ready); err != nil {
		t.Fatalf("%v\n%s", err, d.log.tail())
	}
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Log(d.keepLog())
		}
	})
	return d
}

// keepLog writes the daemon's log to a permanent temporary file and returns a line
// with its path. A failed test should end with the difference, not with a log.
func (d *daemon) keepLog() string {
	name := filepath.Base(d.path)
	f, err := os.CreateTemp("", "kedge-"+name+"-*.log")
	if err == nil {
		_, err = f.WriteString(d.log.String())
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Sprintf("the log of %s is lost: %v", name, err)
	}
	return fmt.Sprintf("log of %s: %s", name, f.Name())
}

// stop terminates the daemon, and kills it if that fails.
func (d *daemon) stop() { _ = d.Stop(10 * time.Second) }

// A buffer holds a daemon's log, and can be read while it grows.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// tail returns the last 16 KiB, from the start of a line.
func (b *buffer) tail() string {
	const most = 16 << 10
	s := b.String()
	if len(s) <= most {
		return s
	}
	cut := s[len(s)-most:]
	if i := bytes.IndexByte([]byte(cut), '\n'); i >= 0 {
		cut = cut[i+1:]
	}
	return fmt.Sprintf("(%d bytes left out)\n%s", len(s)-len(cut), cut)
}
