package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kedge-build/kedge/internal/rig"
)

// A bench runs measurements.
type bench struct {
	*rig.Rig
	bin   string // has the programs
	dir   string // for all files
	data  string // $XDG_DATA_HOME
	epoch string // the base image's, in seconds
	log   io.Writer
}

// start starts the registry and a daemon for which it is docker.io.
func start(ctx context.Context, bin, dir string, stderr io.Writer) (*bench, error) {
	data := filepath.Join(dir, "data")
	r, err := rig.Start(ctx, bin, dir, data, stderr)
	if err != nil {
		return nil, err
	}
	return &bench{
		Rig:   r,
		bin:   bin,
		dir:   dir,
		data:  data,
		epoch: strconv.FormatInt(r.Registry.Created.Unix(), 10),
		log:   stderr,
	}, nil
}

// command runs a program and returns its duration and its peak memory in
// bytes, even if the program fails.
func (b *bench) command(ctx context.Context, program string, args ...string) (took time.Duration, peak int64, err error) {
	return b.commandIn(ctx, b.Env, program, args...)
}

// commandIn is command in another environment.
func (b *bench) commandIn(ctx context.Context, env []string, program string, args ...string) (took time.Duration, peak int64, err error) {
	// Data of earlier runs must not be written to disk during this one.
	syscall.Sync()
	var out bytes.Buffer
	cmd := rig.Command(ctx, env, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
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
		err = fmt.Errorf("running %s: %w\n%s", cmd, err, rig.Tail(out.String()))
	}
	return took, peak, err
}

// watchPeak polls the peak memory of a process. The returned function stops
// that and returns the last value. (The process's rusage would start with the
// peak of its parent.)
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

// runKedge runs a verb of kedge on a folder.
func (b *bench) runKedge(ctx context.Context, verb, context string, args ...string) (time.Duration, int64, error) {
	return b.command(ctx, b.Kedge, append([]string{verb, "--builder=" + b.Addr, "--progress=plain", context}, args...)...)
}

// runBuildctl builds a folder with BuildKit's own options for a reproducible image.
func (b *bench) runBuildctl(ctx context.Context, context, output string) (time.Duration, error) {
	took, _, err := b.command(ctx, b.Buildctl, "--addr="+b.Addr, "build", "--progress=plain",
		"--frontend=dockerfile.v0", "--local=context="+context, "--local=dockerfile="+context,
		"--opt=build-arg:SOURCE_DATE_EPOCH="+b.epoch, "--output="+output+",rewrite-timestamp=true")
	return took, err
}

// cool makes the next build a cold one: the daemon has only the base image, and
// kedge has no store.
func (b *bench) cool(ctx context.Context) error {
	if _, _, err := b.command(ctx, b.Buildctl, "--addr="+b.Addr, "prune", "--all"); err != nil {
		return err
	}
	if err := os.RemoveAll(b.data); err != nil {
		return err
	}
	warm := filepath.Join(b.dir, "warm")
	if err := writeContext(warm, "FROM debian:bookworm-slim\nRUN true\n", 0); err != nil {
		return err
	}
	_, _, err := b.command(ctx, b.Buildctl, "--addr="+b.Addr, "build", "--progress=plain",
		"--frontend=dockerfile.v0", "--local=context="+warm, "--local=dockerfile="+warm)
	return err
}
