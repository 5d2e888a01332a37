// Command bench compares kedge with BuildKit's own way to a reproducible image,
// buildctl with rewrite-timestamp, on the same buildkitd, and with docker buildx
// build. Run it as root at the root of the repository, as `make bench` does.
// Arguments (small, large, memory, diff, downloads, relay, loop, engine) choose
// parts. docs/performance.md explains the figures.
//
// It writes only to a temporary folder, and leaves no process. It fails if it
// cannot measure, not if a goal is missed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	n := flag.Int("n", 3, "measure everything `N` times")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *n, flag.Args(), os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, n int, parts []string, stdout, stderr io.Writer) (err error) {
	all := []string{"small", "large", "memory", "diff", "downloads", "relay", "loop", "engine"}
	for _, part := range parts {
		if !slices.Contains(all, part) {
			return fmt.Errorf("no part %q: there are %s", part, strings.Join(all, ", "))
		}
	}
	if len(parts) == 0 {
		parts = all
	}
	if n < 1 {
		return errors.New("-n must be 1 or more")
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kedge-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b, err := start(ctx, filepath.Join(root, "bin"), dir, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Stop()) }()
	if err := b.PrintVersions(ctx, stdout); err != nil {
		return err
	}

	before, err := load()
	if err != nil {
		return err
	}
	var rows []row
	for _, part := range parts {
		var more []row
		switch part {
		case "small":
			more, err = b.apt(ctx, n, aptGoals{
				name: "small", pkg: "nginx-light", cold: 0.9, unchanged: 0.4, verify: 1.6, lock: true,
			})
		case "large":
			more, err = b.apt(ctx, n, aptGoals{
				name: "large", pkg: "build-essential", cold: 0.6, unchanged: 0.04, verify: 1.0,
			})
		case "memory":
			more, err = b.memory(ctx, n)
		case "diff":
			more, err = b.diff(ctx, n)
		case "downloads":
			more, err = b.downloads(ctx, n)
		case "relay":
			more, err = b.relay(ctx, n)
		case "loop":
			more, err = b.loop(ctx, n)
		case "engine":
			more, err = b.engine(ctx, n)
		}
		if err != nil {
			return err
		}
		rows = append(rows, more...)
	}
	after, err := load()
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "load      %s before, %s after\n\n", before, after)
	return printTable(stdout, rows)
}

// load returns the machine's average load of the last minute. Other programs
// distort the figures.
func load() (string, error) {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	one, _, _ := strings.Cut(string(content), " ")
	return one, nil
}
