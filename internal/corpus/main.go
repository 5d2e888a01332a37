// Command corpus measures how many images are reproducible: with kedge, and with BuildKit alone. Run it as
// root at the root of the repository, as `make corpus` does:
//
//	corpus [flags] DIR|packages[:RELEASE]...
//
// DIR stands for every folder in it with a Dockerfile. "packages" stands for one image for each Debian
// package in packages.txt, on bookworm or on another RELEASE. The base images are made on this machine (see
// [rig.ServeDebian]). A Dockerfile is built on the release that its FROM names, and on bookworm if that is
// none of bullseye, trixie and sid. The folder apps has small applications, each typical of its language.
// The one called planted must differ.
//
// The program does not change the contexts. It writes only to a temporary folder, the FILE of -out and the
// DIR of -keep, and leaves no process. It fails if it cannot measure, not if images differ.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/kedge-build/kedge/internal/rig"
)

// options are the flags.
type options struct {
	bin      string // the folder of the programs
	buildkit bool
	keep     string
	offline  bool
	out      string
	resume   bool
	timeout  time.Duration
	vary     string
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "the `DIR` of kedge, buildkitd and buildctl")
	flag.BoolVar(&o.buildkit, "buildkit", true, "also measure BuildKit's own means")
	flag.StringVar(&o.keep, "keep", "", "keep what kedge has built, in $XDG_DATA_HOME `DIR`")
	flag.BoolVar(&o.offline, "offline", false, "also record what is identical with kedge, and replay it on a builder that has nothing, without a network")
	flag.StringVar(&o.out, "out", "", "write a line of JSON to `FILE` for every context, as soon as it is done")
	flag.BoolVar(&o.resume, "resume", false, "continue what -out FILE has the beginning of")
	flag.DurationVar(&o.timeout, "timeout", 15*time.Minute, "how long two builds of a context may take")
	flag.StringVar(&o.vary, "vary", "", "vary `WHAT` between kedge's two builds, as kedge verify --vary does")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, flag.Args(), os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "corpus:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, args []string, stdout, stderr io.Writer) (err error) {
	switch {
	case len(args) == 0:
		return errors.New("no contexts: name a folder, or packages")
	case o.resume && o.out == "":
		return errors.New("-resume needs -out")
	case o.timeout <= 0:
		return errors.New("-timeout must be more than 0")
	}
	dir, err := os.MkdirTemp("", "kedge-corpus-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	contexts, err := findContexts(args, filepath.Join(dir, "packages"))
	if err != nil {
		return err
	}
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	if o.keep != "" {
		if data, err = filepath.Abs(o.keep); err != nil {
			return err
		}
	}
	r, err := rig.Start(ctx, bin, dir, data, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Stop()) }()

	with, err := versions(ctx, r)
	if err != nil {
		return err
	}
	done, record, err := openRecord(o.out, o.resume, with)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, record.Close()) }()
	m := &measurement{Rig: r, dir: dir, data: data, buildkit: o.buildkit, keep: o.keep != "", vary: o.vary, offline: o.offline, log: stderr}
	var results []result
	for i, c := range contexts {
		res, ok := done[c.name]
		if !ok || o.buildkit && res.BuildKit == nil || o.offline && res.Kedge.same() && res.Offline == nil {
			if res, err = m.measure(ctx, c, o.timeout); err != nil {
				return fmt.Errorf("measuring %q: %w", c.name, err)
			}
			if err := record.append(res); err != nil {
				return err
			}
			if err := m.clean(ctx); err != nil {
				return fmt.Errorf("after %q: %w", c.name, err)
			}
		}
		fmt.Fprintf(stderr, "%d/%d %s: %s\n", i+1, len(contexts), c.name, res)
		results = append(results, res)
	}
	if err := r.PrintVersions(ctx, stdout); err != nil {
		return err
	}
	fmt.Fprintln(stdout)
	return printTable(stdout, results)
}

// versions returns the versions that all results of a record share.
func versions(ctx context.Context, r *rig.Rig) (map[string]string, error) {
	with := map[string]string{}
	for _, program := range []string{r.Kedge, r.Buildkitd} {
		out, err := exec.CommandContext(ctx, program, "--version").Output()
		if err != nil {
			return nil, fmt.Errorf("running %q: %w", program, err)
		}
		with[filepath.Base(program)] = strings.TrimSpace(string(out))
	}
	return with, nil
}
