package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/builder/daemon"
	"github.com/kedge-build/kedge/rules"
	"github.com/kedge-build/kedge/store"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/urfave/cli/v2"
)

func sourceFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "the Dockerfile: a `FILE`, an http(s) URL, or - for standard input (default: PATH/Dockerfile)"},
		&cli.StringSliceFlag{Name: "build-arg", Usage: "set a build arg `NAME=VALUE`; NAME alone takes the environment's"},
		&cli.StringSliceFlag{Name: "build-context", Usage: "a named context `NAME=VALUE`: a directory, git or http URL, docker-image://REF or oci-layout://DIR[:TAG]"},
		&cli.StringFlag{Name: "target", Usage: "the target `STAGE`, which the lock declares"},
		&cli.StringSliceFlag{Name: "platform", Usage: "the `PLATFORM` to build for, such as linux/arm64", EnvVars: []string{"DOCKER_DEFAULT_PLATFORM"}},
		&cli.StringFlag{Name: "lockfile", Usage: "the lockfile `PATH` (default: DOCKERFILE.lock)"},
		&cli.StringFlag{Name: "source-date-epoch", Usage: "SOURCE_DATE_EPOCH: a `NUMBER`, git (the commit's time) or base (the newest base image's)"},
		&cli.StringFlag{Name: "context-modes", Value: "git", Usage: "the modes of a context's files: git for those that it records, keep for those on this machine"},
		&cli.StringSliceFlag{Name: "normalize", Usage: "normalisation `RULES`: all, none, or -RULE,+RULE"},
		&cli.StringFlag{Name: "progress", Value: "auto", Usage: "auto, tty, plain, rawjson, none or quiet", EnvVars: []string{"BUILDKIT_PROGRESS"}},
	}, append(sessionFlags(), builderFlags()...)...)
}

// builderFlags say which builder, and how to reach it.
func builderFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "builder", Usage: "a builder of buildx by `NAME`, a docker context or BuildKit's address ($BUILDX_BUILDER, $BUILDKIT_HOST)"},
		&cli.StringFlag{Name: "tlscacert", Usage: "CA certificate `FILE` for a tcp:// builder"},
		&cli.StringFlag{Name: "tlscert", Usage: "client certificate `FILE` for a tcp:// builder"},
		&cli.StringFlag{Name: "tlskey", Usage: "client key `FILE` for a tcp:// builder"},
	}, ownBuilderFlags()...)
}

func ownBuilderFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "buildkitd-config", Usage: "buildkitd.toml `FILE` for kedge's own builder"},
		&cli.DurationFlag{Name: "builder-idle", Value: 10 * time.Minute, Usage: "how long kedge's own builder stays after its last use; 0 keeps it"},
	}
}

// lockedFlag is for the verbs that build: in CI nothing is added to a lock unasked.
func (p *process) lockedFlag() cli.Flag {
	ci := p.env["CI"] != ""
	if value, err := strconv.ParseBool(p.env["CI"]); err == nil {
		ci = value
	}
	return &cli.BoolFlag{Name: "locked", Value: ci, Usage: "add nothing to the lock; what $CI says, unless it is given"}
}

// options reads the flags that say what to build.
func (p *process) options(c *cli.Context, auth *configfile.ConfigFile) (kedge.Options, error) {
	if c.NArg() != 1 {
		return kedge.Options{}, usagef("%s takes one PATH, URL or - (standard input), the build context, and got %d", c.Command.Name, c.NArg())
	}
	o := kedge.Options{
		Context: c.Args().First(), Dockerfile: c.String("file"), Lockfile: c.String("lockfile"),
		Target: c.String("target"), Locked: c.Bool("locked"), NoCache: c.Bool("no-cache"), Pull: c.Bool("pull"),
	}
	var err error
	if o.Platforms, err = linuxPlatforms(askedPlatforms(c)); err != nil {
		return kedge.Options{}, err
	}
	if o.Args, err = p.buildArgs(c.StringSlice("build-arg")); err != nil {
		return kedge.Options{}, err
	}
	if o.Contexts, err = namedContexts(c.StringSlice("build-context")); err != nil {
		return kedge.Options{}, err
	}
	epoch := c.String("source-date-epoch")
	if arg, ok := o.Args["SOURCE_DATE_EPOCH"]; ok && epoch == "" {
		epoch = arg // docker's own way to say it
	}
	delete(o.Args, "SOURCE_DATE_EPOCH")
	if err := refuseArgs(o.Args); err != nil {
		return kedge.Options{}, err
	}
	if epoch == "" && c.Command.Name != "lock" { // what is to be locked is said by a flag
		epoch = p.env["SOURCE_DATE_EPOCH"]
	}
	if o.Epoch, err = kedge.ParseEpoch(epoch); err != nil {
		return kedge.Options{}, usageError{err}
	}
	words := c.StringSlice("normalize")
	if len(words) == 0 {
		words = []string{"all"}
	}
	if o.Normalize, err = rules.Parse(strings.Join(words, ",")); err != nil {
		return kedge.Options{}, usageError{fmt.Errorf("--normalize: %w", err)}
	}
	if o.Vary, err = p.varied(c.StringSlice("vary")); err != nil {
		return kedge.Options{}, err
	}
	switch modes := c.String("context-modes"); modes {
	case "git", "keep":
		o.KeepModes = modes == "keep"
	default:
		return kedge.Options{}, usagef("context-modes %q is not git or keep", modes)
	}
	o.NoSecretCheck = !c.Bool("secret-check")
	if o.Attest, err = attest(c); err != nil {
		return kedge.Options{}, err
	}
	if o.Settings, err = p.settings(c, auth); err != nil {
		return kedge.Options{}, err
	}
	if err := p.refuse(c, &o); err != nil {
		return kedge.Options{}, err
	}
	return o, nil
}

// buildEnv returns what a build takes from this process, but no builder and no store.
func (p *process) buildEnv(c *cli.Context) (kedge.Env, error) {
	p.debug = c.Bool("debug")
	mode, err := p.progressMode(c)
	if err != nil {
		return kedge.Env{}, err
	}
	return kedge.Env{
		Now: time.Now, Environ: p.environ, Stdin: p.stdin, Auth: config.LoadDefaultConfigFile(io.Discard),
		Progress: func(title string) (chan *client.SolveStatus, func()) { return p.display(mode, title) },
	}, nil
}

// linuxPlatforms returns those platforms, if kedge can build for each.
func linuxPlatforms(asked []string) ([]string, error) {
	for _, platform := range asked {
		parsed, err := platforms.Parse(platform)
		if err != nil {
			return nil, usagef("platform %q: %v", platform, err)
		}
		if parsed.OS != "linux" {
			return nil, usagef("platform %q: kedge builds images for linux", platform)
		}
	}
	return asked, nil
}

// buildArgs reads --build-arg. A name that the environment lacks is left out, as docker does.
func (p *process) buildArgs(values []string) (map[string]string, error) {
	args := map[string]string{}
	for _, arg := range values {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			if value, ok = p.env[name]; !ok {
				continue
			}
		}
		if name == "" {
			return nil, usagef("build arg %q is not NAME=VALUE", arg)
		}
		args[name] = value
	}
	return args, nil
}

// namedContexts reads --build-context.
func namedContexts(values []string) (map[string]builder.Context, error) {
	contexts := map[string]builder.Context{}
	for _, context := range values {
		name, value, ok := strings.Cut(context, "=")
		if !ok || name == "" || value == "" {
			return nil, usagef("build context %q is not NAME=VALUE", context)
		}
		known, parsed, err := builder.ParseNamed(name, value)
		if err != nil {
			return nil, err
		}
		contexts[known] = parsed
	}
	return contexts, nil
}

// varied reads --vary.
func (p *process) varied(values []string) (kedge.Vary, error) {
	if len(values) == 0 {
		return kedge.Vary{}, nil
	}
	vary, cannot, err := kedge.ParseVary(strings.Join(values, ","))
	if err != nil {
		return kedge.Vary{}, usageError{fmt.Errorf("--vary: %w", err)}
	}
	for _, what := range cannot {
		p.say("warning: %s is not varied: %s", what, kedge.CannotVary(what))
	}
	if vary.Time {
		p.say("the second build begins in another minute: a builder's clock cannot be moved further")
	}
	return vary, nil
}

// display shows a build as BuildKit does.
func (p *process) display(mode progressui.DisplayMode, title string) (chan *client.SolveStatus, func()) {
	status := make(chan *client.SolveStatus)
	done := make(chan struct{})
	var warnings []client.VertexWarning
	d, err := progressui.NewDisplay(p.stderr, mode, progressui.WithPhase(title))
	if err != nil {
		d, err = progressui.NewDisplay(p.stderr, progressui.PlainMode, progressui.WithPhase(title))
	}
	go func() {
		defer close(done)
		if err == nil {
			// It ends when status is closed: an interrupt is to be shown to its end.
			warnings, _ = d.UpdateFrom(context.Background(), status)
		}
		for range status { // a build must not wait for a display that has ended
		}
	}()
	return status, func() {
		<-done
		if title == "" { // the other builds warn of the same
			p.warn(mode, warnings)
			warnings = nil
		}
	}
}

func (p *process) dataDir() string {
	if dir := p.env["XDG_DATA_HOME"]; filepath.IsAbs(dir) {
		return filepath.Join(dir, "kedge")
	}
	return filepath.Join(p.env["HOME"], ".local", "share", "kedge")
}

func (p *process) builderRoot() string { return filepath.Join(p.dataDir(), "builder") }

func (p *process) storeDir() string { return filepath.Join(p.dataDir(), "store") }

func (p *process) openStore(ctx context.Context) (*store.Store, error) {
	return store.Open(ctx, p.storeDir())
}

// withBuilder runs a verb that needs a builder.
func (p *process) withBuilder(c *cli.Context, verb func(kedge.Env, kedge.Options) error) error {
	env, err := p.buildEnv(c)
	if err != nil {
		return err
	}
	o, err := p.options(c, env.Auth)
	if err != nil {
		return err
	}
	if env.Builder, err = p.openBuilder(c.Context, c); err != nil {
		return err
	}
	defer env.Builder.Close()
	return verb(env, o)
}

func (p *process) daemonOptions(c *cli.Context) (daemon.Options, error) {
	exe, err := os.Executable()
	if err != nil {
		return daemon.Options{}, err
	}
	if c.Duration("builder-idle") < 0 {
		return daemon.Options{}, usagef("builder-idle %v is negative", c.Duration("builder-idle"))
	}
	if name, by := p.namedBuilder(c); name != "" && c.String("buildkitd-config") != "" {
		return daemon.Options{}, usagef("--buildkitd-config is for kedge's own builder, and %s names another", by)
	}
	network := p.env["KEDGE_ROOTLESS_NET"]
	if !slices.Contains([]string{"", "host", "slirp4netns"}, network) {
		return daemon.Options{}, usagef("KEDGE_ROOTLESS_NET %q is not host or slirp4netns", network)
	}
	return daemon.Options{
		Network: network,
		Root:    p.builderRoot(), Serve: []string{exe, "builder", "serve"}, Env: p.environ,
		Buildkitd: p.env["KEDGE_BUILDKITD"], Config: c.String("buildkitd-config"), Idle: c.Duration("builder-idle"),
	}, nil
}
