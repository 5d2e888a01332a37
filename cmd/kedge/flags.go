package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/credentials"
	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/docker"
	"github.com/kedge-build/kedge/rules"
	"github.com/urfave/cli/v2"
)

func sourceFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "the Dockerfile: a `FILE`, an http(s) URL, or - for standard input (default: PATH/Dockerfile)"},
		&cli.StringSliceFlag{Name: "build-arg", Usage: "set a build arg `NAME=VALUE`; NAME alone takes the environment's"},
		&cli.StringSliceFlag{Name: "build-context", Usage: "a named context `NAME=VALUE`: a directory, git or http URL, docker-image://REF or oci-layout://DIR[:TAG]"},
		&cli.StringFlag{Name: "target", Usage: "the target `STAGE` (default: the one that the lock declares, which ships)"},
		&cli.StringSliceFlag{Name: "platform", Usage: "the `PLATFORM` to build for, such as linux/arm64 ($DOCKER_DEFAULT_PLATFORM)"},
		&cli.StringFlag{Name: "lockfile", Usage: "the lockfile `PATH` (default: DOCKERFILE.lock)"},
		&cli.StringFlag{Name: "source-date-epoch", Usage: "SOURCE_DATE_EPOCH: a `NUMBER`, git (the commit's time), base (the newest base image's) or context"},
		&cli.StringFlag{Name: "context-modes", Value: "git", Usage: "file modes in a context: git for those that git records, keep for those on this machine"},
		&cli.StringSliceFlag{Name: "normalize", Usage: "normalisation `RULES`: all, none, or -RULE,+RULE"},
		&cli.StringFlag{Name: "progress", Value: "auto", Usage: "auto, tty, plain, rawjson, none or quiet", EnvVars: []string{"BUILDKIT_PROGRESS"}},
	}, append(sessionFlags(), builderFlags()...)...)
}

// builderFlags say which builder to use, and how to connect to it.
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

// lockedFlag is for the verbs that build. In CI its default is true, so that a build there changes no lock.
func (p *process) lockedFlag() cli.Flag {
	ci := p.env["CI"] != ""
	if value, err := strconv.ParseBool(p.env["CI"]); err == nil {
		ci = value
	}
	return &cli.BoolFlag{Name: "locked", Value: ci, Usage: "add nothing to the lock; the default is true if $CI is set"}
}

// options reads the flags of the verbs that read a Dockerfile.
func (p *process) options(c *cli.Context, auth *configfile.ConfigFile) (kedge.Options, error) {
	if c.NArg() != 1 {
		return kedge.Options{}, usagef("%s takes one PATH, URL or - (standard input), the build context, and got %d", c.Command.Name, c.NArg())
	}
	o := kedge.Options{
		Context: c.Args().First(), Dockerfile: c.String("file"), Lockfile: c.String("lockfile"),
		Target: c.String("target"), Locked: c.Bool("locked"), NoCache: c.Bool("no-cache"), Pull: c.Bool("pull"),
		DeclaresTarget: c.Bool("declare-target"),
		KeepModes:      c.String("context-modes") == "keep", NoSecretCheck: !c.Bool("secret-check"), Lint: lintModes[c.String("lint")],
	}
	if modes := c.String("context-modes"); modes != "git" && modes != "keep" {
		return o, usagef("context-modes %q is not git or keep", modes)
	}
	var err error
	if o.Platforms, err = linuxPlatforms(p.askedPlatforms(c)); err != nil {
		return o, err
	}
	if err := p.args(c, &o); err != nil {
		return o, err
	}
	if o.Contexts, err = namedContexts(given(c, "build-context")); err != nil {
		return o, err
	}
	if o.Normalize, err = parseRules(c.StringSlice("normalize")); err != nil {
		return o, err
	}
	if o.Vary, err = p.varied(c.StringSlice("vary")); err != nil {
		return o, err
	}
	if o.Attest, err = attest(c); err != nil {
		return o, err
	}
	if o.Settings, err = p.settings(c, auth); err != nil {
		return o, err
	}
	if err := readOffline(c, &o); err != nil {
		return o, err
	}
	o.GitLabels.On = p.env["BUILDX_GIT_LABELS"] == "full" || p.isOn("BUILDX_GIT_LABELS")
	o.GitLabels.Dirty = p.isOn("BUILDX_GIT_CHECK_DIRTY")
	return o, p.refuse(c, &o)
}

// isOn reports whether a variable of the environment is true.
func (p *process) isOn(name string) bool {
	on, _ := strconv.ParseBool(p.env[name])
	return on
}

// dockerConfig reads docker's configuration. As docker does, it warns and goes on if that cannot be read.
func (p *process) dockerConfig() *configfile.ConfigFile {
	file, err := docker.Load(docker.Dir(p.env))
	if err != nil {
		p.say("warning: docker's configuration, and with it logins, is not read: %v", err)
	}
	if !file.ContainsAuth() {
		file.CredentialsStore = credentials.DetectDefaultStore(file.CredentialsStore)
	}
	return file
}

// args reads --build-arg and the epoch, which a build arg may be.
func (p *process) args(c *cli.Context, o *kedge.Options) (err error) {
	if o.Args, err = p.buildArgs(c.StringSlice("build-arg")); err != nil {
		return err
	}
	const name = "SOURCE_DATE_EPOCH"
	epoch := c.String("source-date-epoch")
	value, given := o.Args[name]
	if epoch == "" {
		epoch = value
	}
	if epoch != "" || !given { // an empty value stays, and overrides the Dockerfile's
		delete(o.Args, name)
	}
	if epoch == "" && !given && c.Command.Name != "lock" { // the environment must not change a lock
		epoch = p.env[name]
	}
	if o.Epoch, err = kedge.ParseEpoch(epoch); err != nil {
		return usageError{err}
	}
	const inline = "BUILDKIT_INLINE_CACHE"
	if on, err := strconv.ParseBool(o.Args[inline]); err == nil && on {
		p.leaveOutInline("build arg " + inline)
		delete(o.Args, inline)
	}
	return refuseArgs(o.Args)
}

// parseRules reads --normalize.
func parseRules(words []string) (rules.Set, error) {
	if len(words) == 0 {
		words = []string{"all"}
	}
	parsed, err := rules.Parse(strings.Join(words, ","))
	if err != nil {
		err = usageError{fmt.Errorf("--normalize: %w", err)}
	}
	return parsed, err
}

// linuxPlatforms returns the platforms if kedge can build for each of them.
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

// buildArgs reads --build-arg. As docker does, it ignores a name that the environment does not have.
func (p *process) buildArgs(values []string) (map[string]string, error) {
	args := map[string]string{}
	for _, arg := range values {
		name, value, ok := strings.Cut(arg, "=")
		if name == "" {
			return nil, usagef("--build-arg: invalid key-value pair %q: empty key", arg)
		}
		if !ok {
			if value, ok = p.env[name]; !ok {
				continue
			}
		}
		args[name] = value
	}
	return args, nil
}

// given returns the values of a flag. As docker does, it ignores empty ones, such as those of an unset variable.
func given(c *cli.Context, flag string) []string {
	return slices.DeleteFunc(slices.Clone(c.StringSlice(flag)), func(value string) bool { return value == "" })
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
	return vary, nil
}
