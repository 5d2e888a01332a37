// Package rig runs a registry on loopback that replaces Docker Hub, and daemons that end with the program
// that started them. The project's own programs (demo, bench, corpus) and tests use it.
//
//	r, err := rig.Start(ctx, "bin", dir, data, os.Stderr)
//	if err != nil {
//		return err
//	}
//	defer r.Stop()
//	out, err := r.Command(ctx, r.Kedge, "build", dir).Output()
package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A Rig is a kedge and a buildkitd for which the rig's registry is Docker Hub.
type Rig struct {
	Kedge, Buildctl, Buildkitd string   // the programs
	Env                        []string // their environment
	Addr                       string   // of the daemon, "unix://…"
	Registry                   *Registry

	daemon *Daemon
}

// Start starts a registry and the buildkitd in the folder bin. They write only below dir, which must exist.
// kedge's store is below data. Start reports slow steps on log.
func Start(ctx context.Context, bin, dir, data string, log io.Writer) (_ *Rig, err error) {
	r := &Rig{
		Kedge:     filepath.Join(bin, "kedge"),
		Buildctl:  filepath.Join(bin, "buildctl"),
		Buildkitd: filepath.Join(bin, "buildkitd"),
		Addr:      "unix://" + filepath.Join(dir, "buildkitd.sock"),
	}
	for _, program := range []string{r.Kedge, r.Buildctl, r.Buildkitd} {
		if _, err := os.Stat(program); err != nil {
			return nil, fmt.Errorf("%w; run `make build` first", err)
		}
	}
	// Variables that change a build, or choose another builder.
	unset := []string{"BUILDKIT_HOST", "BUILDX_BUILDER", "CI", "DOCKER_DEFAULT_PLATFORM", "SOURCE_DATE_EPOCH"}
	r.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(unset, name)
	}),
		"PATH="+bin+":"+os.Getenv("PATH"), // for a runc in bin
		"XDG_DATA_HOME="+data,
		"BUILDX_NO_DEFAULT_LOAD=1", // do not load into the machine's Docker
		"DOCKER_CONFIG="+filepath.Join(dir, "docker"),
	)
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Stop())
		}
	}()
	if r.Registry, err = ServeDebian(ctx, filepath.Join(dir, "registry"), log); err != nil {
		return nil, err
	}
	r.daemon, err = r.daemonBelow(dir, r.Addr)
	return r, err
}

// daemonBelow starts a buildkitd for which the rig's registry is Docker Hub, and which writes only below dir. If
// front is given, that program executes it.
func (r *Rig) daemonBelow(dir, addr string, front ...string) (*Daemon, error) {
	config := filepath.Join(dir, "buildkitd.toml")
	content := "[worker.oci]\n  gc = false\n" + MirrorConfig(r.Registry.Addr)
	if err := os.WriteFile(config, []byte(content), 0o644); err != nil {
		return nil, err
	}
	logFile, err := os.Create(filepath.Join(dir, "buildkitd.log"))
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	words := append(front, r.Buildkitd, "--config="+config, "--root="+filepath.Join(dir, "root"), "--addr="+addr, "--oci-worker-net=host")
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = r.Env, logFile, logFile
	daemon, err := StartDaemon(cmd, func() error {
		conn, err := net.Dial("unix", strings.TrimPrefix(addr, "unix://"))
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		text, _ := os.ReadFile(logFile.Name())
		return nil, fmt.Errorf("%w\n%s", err, Tail(string(text)))
	}
	return daemon, nil
}

// Stop ends the daemon and the registry.
func (r *Rig) Stop() error {
	var err error
	if r.daemon != nil {
		err = r.daemon.Stop(30 * time.Second)
	}
	if r.Registry != nil {
		err = errors.Join(err, r.Registry.Close())
	}
	return err
}

// Command returns a command that is interrupted when ctx ends, and killed if it still runs 15 seconds
// later.
func Command(ctx context.Context, env []string, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 15 * time.Second
	return cmd
}

// Tail returns the last lines of a program's output.
func Tail(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// PrintVersions prints the date, the versions and the machine, on which a measurement depends.
func (r *Rig) PrintVersions(ctx context.Context, w io.Writer) error {
	fmt.Fprintf(w, "date      %s\n", time.Now().UTC().Format("2006-01-02 15:04 MST"))
	for _, program := range []string{r.Kedge, r.Buildkitd} {
		out, err := exec.CommandContext(ctx, program, "--version").Output()
		if err != nil {
			return fmt.Errorf("running %s: %w", filepath.Base(program), err)
		}
		fmt.Fprintf(w, "%-9s %s", filepath.Base(program), out)
	}
	var host syscall.Utsname
	if err := syscall.Uname(&host); err != nil {
		return err
	}
	var release []byte
	for _, c := range host.Release {
		if c == 0 {
			break
		}
		release = append(release, byte(c))
	}
	_, err := fmt.Fprintf(w, "go        %s\nkernel    %s\ncores     %d\n", runtime.Version(), release, runtime.NumCPU())
	return err
}
