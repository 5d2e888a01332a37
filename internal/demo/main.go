// Command demo shows kedge's main job from end to end: it locks, builds and
// verifies examples/hello with the kedge and the BuildKit in bin, which `make
// build` makes. Run it at the root of the repository, as `make demo` does.
//
// It writes only below bin/demo, and leaves no process.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/kedge-build/kedge/internal/rig"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, os.Stderr)
	stop()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode()) // kedge has printed the reason
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// A demo is one run.
type demo struct {
	kedge          string // the program
	dir            string // for all files of the run
	env            []string
	stdout, stderr io.Writer
}

func run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	d := &demo{
		kedge:  filepath.Join(root, "bin", "kedge"),
		dir:    filepath.Join(root, "bin", "demo"),
		stdout: stdout,
		stderr: stderr,
	}
	if _, err := os.Stat(d.kedge); err != nil {
		return fmt.Errorf("%w; run `make build` first", err)
	}
	d.env = append(os.Environ(),
		"BUILDX_NO_DEFAULT_LOAD=1",                          // not into the machine's Docker
		"PATH="+filepath.Dir(d.kedge)+":"+os.Getenv("PATH"), // bin has buildkitd and sometimes runc
		"XDG_DATA_HOME="+filepath.Join(d.dir, "data"),
		"XDG_CONFIG_HOME="+filepath.Join(d.dir, "config"),
	)

	d.say("Copying examples/hello, an ordinary Dockerfile with a floating tag and an apt-get install, to bin/demo/hello.")
	build := filepath.Join(d.dir, "hello")
	if err := os.RemoveAll(build); err != nil {
		return err
	}
	if err := os.CopyFS(build, os.DirFS(filepath.Join(root, "examples", "hello"))); err != nil {
		return err
	}
	args := []string{"build", "--verify", "-t", "hello"}
	if hubAnswers(ctx) {
		d.say("Docker Hub answers: the base image comes from there.")
	} else {
		d.say("Docker Hub does not answer: debian:bookworm-slim is made here from Debian's packages instead (once; half a minute).")
		config, closeMirror, err := d.mirror(ctx)
		if err != nil {
			return err
		}
		defer closeMirror()
		args = append(args, "--buildkitd-config", config)
	}

	d.say("Locking the sources, building, and building again to compare.")
	defer func() {
		d.say("Stopping the builder.")
		// Even after an interrupt, so that no process is left.
		err = errors.Join(err, d.run(context.WithoutCancel(ctx), "builder", "stop"))
	}()
	if err := d.run(ctx, append(args, build)...); err != nil {
		return err
	}
	lockfile := filepath.Join(build, "Dockerfile.lock")
	content, err := os.ReadFile(lockfile)
	if err != nil {
		return err
	}
	d.say("This is the lockfile, " + lockfile + ":")
	_, err = stdout.Write(content)
	return err
}

func (d *demo) say(step string) { fmt.Fprintf(d.stderr, "\n==> %s\n", step) }

// run runs kedge. After an interrupt it waits for kedge's own end.
func (d *demo) run(ctx context.Context, args ...string) error {
	cmd := rig.Command(ctx, d.env, d.kedge, args...)
	cmd.Stdout, cmd.Stderr = d.stdout, d.stderr
	fmt.Fprintf(d.stderr, "$ %s\n", cmd)
	return cmd.Run()
}

// hubAnswers reports whether Docker Hub returns the base image's digest.
func hubAnswers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ref, err := name.ParseReference("debian:bookworm-slim")
	if err != nil {
		return false
	}
	_, err = remote.Head(ref, remote.WithContext(ctx))
	return err == nil
}

// mirror makes a Debian image and serves it from a registry on loopback. It
// returns a buildkitd.toml in which that registry replaces Docker Hub.
func (d *demo) mirror(ctx context.Context) (config string, stop func(), err error) {
	registry, err := rig.ServeDebian(ctx, filepath.Join(d.dir, "registry"), d.stderr)
	if err != nil {
		return "", nil, err
	}
	config = filepath.Join(d.dir, "buildkitd.toml")
	if err := os.WriteFile(config, []byte(rig.MirrorConfig(registry.Addr)), 0o644); err != nil {
		return "", nil, errors.Join(err, registry.Close())
	}
	return config, func() { registry.Close() }, nil
}
