package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/kedge-build/kedge/internal/debian"
)

// A bench is where the figures come from: a daemon, a registry, and the programs.
type bench struct {
	kedge, buildctl, buildkitd string // the programs
	dir                        string // all that is written
	data                       string // $XDG_DATA_HOME
	env                        []string
	addr                       string // of the daemon
	epoch                      string // the base image's, in seconds
	requests                   atomic.Int64
	log                        io.Writer

	server *http.Server
	daemon *exec.Cmd
	ended  chan struct{} // closed when it has
}

// start starts the registry and the daemon that takes it for docker.io.
func start(ctx context.Context, bin, dir string, stderr io.Writer) (_ *bench, err error) {
	b := &bench{
		kedge:     filepath.Join(bin, "kedge"),
		buildctl:  filepath.Join(bin, "buildctl"),
		buildkitd: filepath.Join(bin, "buildkitd"),
		dir:       dir,
		data:      filepath.Join(dir, "data"),
		addr:      "unix://" + filepath.Join(dir, "buildkitd.sock"),
		log:       stderr,
	}
	for _, program := range []string{b.kedge, b.buildctl, b.buildkitd} {
		if _, err := os.Stat(program); err != nil {
			return nil, fmt.Errorf("%w; run `make build` first", err)
		}
	}
	b.env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains([]string{"CI", "SOURCE_DATE_EPOCH", "DOCKER_DEFAULT_PLATFORM"}, name)
	}),
		"PATH="+bin+":"+os.Getenv("PATH"), // bin may have a runc
		"XDG_DATA_HOME="+b.data,
		"DOCKER_CONFIG="+filepath.Join(dir, "docker"),
	)
	defer func() {
		if err != nil {
			err = errors.Join(err, b.stop())
		}
	}()
	registry, err := b.startRegistry(ctx)
	if err != nil {
		return nil, err
	}
	return b, b.startDaemon(registry)
}

// startRegistry starts a registry that has the base image and counts its requests.
func (b *bench) startRegistry(ctx context.Context) (addr string, err error) {
	cache, err := debian.CacheDir()
	if err != nil {
		return "", err
	}
	img, err := debian.Slim(ctx, cache, b.log)
	if err != nil {
		return "", err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return "", err
	}
	b.epoch = strconv.FormatInt(config.Created.Unix(), 10)
	blobs := filepath.Join(b.dir, "registry")
	if err := os.Mkdir(blobs, 0o755); err != nil {
		return "", err
	}
	handler := registry.New(
		registry.WithBlobHandler(registry.NewDiskBlobHandler(blobs)),
		registry.Logger(log.New(io.Discard, "", 0)))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	b.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b.requests.Add(1)
		handler.ServeHTTP(w, req)
	})}
	go func() { _ = b.server.Serve(l) }()
	addr = l.Addr().String()
	ref, err := name.ParseReference(addr+"/library/debian:bookworm-slim", name.Insecure)
	if err != nil {
		return "", err
	}
	return addr, remote.Write(ref, img, remote.WithContext(ctx))
}

func (b *bench) startDaemon(registry string) error {
	config := filepath.Join(b.dir, "buildkitd.toml")
	content := fmt.Sprintf("[worker.oci]\n  gc = false\n[registry.\"docker.io\"]\n  mirrors = [%q]\n[registry.%q]\n  http = true\n",
		registry, registry)
	if err := os.WriteFile(config, []byte(content), 0o644); err != nil {
		return err
	}
	logFile, err := os.Create(filepath.Join(b.dir, "buildkitd.log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	cmd := exec.Command(b.buildkitd, "--config="+config, "--root="+filepath.Join(b.dir, "root"),
		"--addr="+b.addr, "--oci-worker-net=host")
	cmd.Env, cmd.Stdout, cmd.Stderr = b.env, logFile, logFile
	// A group of its own: an interrupt from the keyboard is for the builds first.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting buildkitd: %w", err)
	}
	b.daemon, b.ended = cmd, make(chan struct{})
	go func() {
		defer close(b.ended)
		_ = cmd.Wait()
	}()
	deadline := time.After(30 * time.Second)
	for {
		conn, err := net.Dial("unix", strings.TrimPrefix(b.addr, "unix://"))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-b.ended:
			text, _ := os.ReadFile(logFile.Name())
			return fmt.Errorf("buildkitd has ended: %s\n%s", cmd.ProcessState, tail(string(text)))
		case <-deadline:
			return fmt.Errorf("buildkitd is not ready after 30 seconds: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (b *bench) stop() error {
	if b.server != nil {
		b.server.Close()
	}
	if b.daemon == nil {
		return nil
	}
	_ = b.daemon.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-b.ended:
		return nil
	case <-time.After(30 * time.Second):
		_ = b.daemon.Process.Kill()
		<-b.ended
		return errors.New("buildkitd did not stop within 30 seconds and was killed")
	}
}

// command runs a program to its end; it says how long that took and how much
// memory the process had at its peak, in bytes, also where the program failed.
func (b *bench) command(ctx context.Context, program string, args ...string) (took time.Duration, peak int64, err error) {
	// What earlier runs wrote is not to be brought to disk in the time of this one.
	syscall.Sync()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = b.env, &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 15 * time.Second
	begin := time.Now()
	if err = cmd.Start(); err == nil {
		watched := watchPeak(cmd.Process.Pid)
		err = cmd.Wait()
		took = time.Since(begin)
		peak = watched()
	}
	if ctx.Err() != nil {
		return 0, 0, ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("running %s: %w\n%s", cmd, err, tail(out.String()))
	}
	return took, peak, err
}

// watchPeak reads the peak memory of a process again and again, and returns what
// ends that and says what was read last. (Its rusage would not do: that begins
// with the peak of the process that started it.)
func watchPeak(pid int) func() int64 {
	end, last := make(chan struct{}), make(chan int64)
	go func() {
		var peak int64
		for {
			if now, err := readPeak(pid); err == nil {
				peak = now
			}
			select {
			case <-end:
				last <- peak
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() int64 {
		close(end)
		return <-last
	}
}

// readPeak returns VmHWM of a process, in bytes; see proc_pid_status(5).
func readPeak(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("no VmHWM: the process has ended")
}

func tail(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// runKedge runs a verb of kedge on a folder.
func (b *bench) runKedge(ctx context.Context, verb, context string, args ...string) (time.Duration, int64, error) {
	return b.command(ctx, b.kedge, append([]string{verb, "--builder=" + b.addr, "--progress=plain", context}, args...)...)
}

// runBuildctl builds a folder in BuildKit's own reproducible way.
func (b *bench) runBuildctl(ctx context.Context, context, output string) (time.Duration, error) {
	took, _, err := b.command(ctx, b.buildctl, "--addr="+b.addr, "build", "--progress=plain",
		"--frontend=dockerfile.v0", "--local=context="+context, "--local=dockerfile="+context,
		"--opt=build-arg:SOURCE_DATE_EPOCH="+b.epoch, "--output="+output+",rewrite-timestamp=true")
	return took, err
}

// cool makes the next build a cold one: the daemon has the base image, and
// nothing else; kedge has no store.
func (b *bench) cool(ctx context.Context) error {
	if _, _, err := b.command(ctx, b.buildctl, "--addr="+b.addr, "prune", "--all"); err != nil {
		return err
	}
	if err := os.RemoveAll(b.data); err != nil {
		return err
	}
	warm := filepath.Join(b.dir, "warm")
	if err := writeContext(warm, "FROM debian:bookworm-slim\nRUN true\n", 0); err != nil {
		return err
	}
	_, _, err := b.command(ctx, b.buildctl, "--addr="+b.addr, "build", "--progress=plain",
		"--frontend=dockerfile.v0", "--local=context="+warm, "--local=dockerfile="+warm)
	return err
}
