package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/user"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/build"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/builder/daemon"
	"github.com/kedge-build/kedge/diff/source"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/image"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/plugin"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/stack"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
)

// The exit codes, the same for every verb.
const (
	exitOK        = 0
	exitFailed    = 1   // could not
	exitUsage     = 2   // does not make sense
	exitNo        = 3   // the answer is no
	exitForbidden = 4   // the lock forbids it
	exitInterrupt = 130 // interrupted
)

const exitCodes = "It ends with 0 when done, 1 if it could not, 2 for wrong usage, 3 if the answer is no,\n" +
	"4 if the lock forbids it, and 130 when interrupted."

// errNo ends a verb whose answer is no, and which has said so.
var errNo = errors.New("no")

// errForbidden ends a verb that a lock forbids, and which has said why.
var errForbidden = errors.New("forbidden")

// usageError is a command line that does not make sense.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// process is what a verb knows of the process that it runs in.
type process struct {
	env            map[string]string
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
	quiet          bool // only what went wrong is said, and the answer is one digest
	rawjson        bool // stderr is read by a program: only what went wrong is said besides
	debug          bool // say more of warnings and errors
	plugin         bool // of the docker CLI
	verbs          []string
}

// say tells the person at the terminal something; stdout is for the answer.
func (p *process) say(format string, args ...any) {
	fmt.Fprintf(p.stderr, "kedge: "+format+"\n", args...)
}

// note tells the person at the terminal what went as it should.
func (p *process) note(format string, args ...any) {
	if !p.quiet && !p.rawjson {
		p.say(format, args...)
	}
}

func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// Libraries log what kedge says itself, or what nobody can act on.
	logrus.SetOutput(io.Discard)
	answer := &checkedWriter{w: stdout}
	p := &process{env: map[string]string{}, environ: environ, stdin: stdin, stdout: answer, stderr: stderr, plugin: isPlugin(args[0])}
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		p.env[k] = v
	}
	if p.env["HOME"] == "" { // as cron and init have it
		if u, err := user.Current(); err == nil {
			p.env["HOME"] = u.HomeDir
		}
	}
	code := p.exitCode(ctx, p.runVerb(ctx, args[1:]))
	if answer.err != nil && code == exitOK {
		return p.exitCode(ctx, fmt.Errorf("writing the answer: %w", answer.err))
	}
	return code
}

// runVerb runs what the words after the program's name say.
func (p *process) runVerb(ctx context.Context, words []string) error {
	app := p.app()
	if len(words) > 0 && strings.HasPrefix(words[0], completeVerb) { // docker's has a suffix where it wants no texts
		return p.complete(ctx, rootOf(app), words[1:])
	}
	line, err := parse(rootOf(app), words)
	p.verbs = line.verbs
	if p.plugin && slices.Equal(line.verbs, []string{"prune"}) && !line.help {
		return &pruneError{}
	}
	if err != nil {
		return err
	}
	if line.version {
		return p.version()
	}
	if line.help || len(line.command.Subcommands) > 0 {
		return newPage(append([]string{"kedge"}, line.verbs...), line.command).write(p.stdout)
	}
	return app.RunContext(ctx, line.argv())
}

// app returns the verbs and their flags.
func (p *process) app() *cli.App {
	app := &cli.App{
		Name:      "kedge",
		Usage:     "build container images that come out the same, bit for bit",
		Writer:    p.stdout,
		ErrWriter: p.stderr,
		HideHelp:  true, // help.go has it
		// A value may hold a comma.
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {},
		Commands: []*cli.Command{
			p.buildVerb(), p.lockVerb(), p.verifyVerb(), p.diffVerb(), p.explainVerb(), p.tagVerb(),
			p.imagesVerb(), p.exportVerb(), p.pruneVerb(), p.builderVerb(), p.installVerb(), p.completionVerb(), helpVerb(), p.versionVerb(),
			p.pluginMetadataVerb(),
		},
	}
	strict(app.Commands)
	return app
}

// rootOf returns kedge itself as the verb above all others.
func rootOf(app *cli.App) *cli.Command {
	return &cli.Command{Name: app.Name, Usage: app.Usage, Description: exitCodes, Subcommands: app.Commands}
}

// helpVerb is only looked at: parse knows the word help.
func helpVerb() *cli.Command {
	return &cli.Command{Name: "help", Usage: "say what a verb does, and its flags", ArgsUsage: "[VERB]"}
}

func (p *process) versionVerb() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version",
		Action: func(*cli.Context) error { return p.version() },
	}
}

func (p *process) version() error {
	_, err := fmt.Fprintln(p.stdout, "kedge version", version)
	return err
}

// checkedWriter keeps the first error: an answer that did not arrive is none.
type checkedWriter struct {
	w   io.Writer
	err error
}

func (c *checkedWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	if c.err == nil {
		c.err = err
	}
	return n, err
}

// strict has urfave/cli take flags and arguments as they are given: parse has looked at them.
func strict(commands []*cli.Command) {
	for _, c := range commands {
		c.HideHelp = true // a build context may be called help
		c.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return usageError{err} }
		for _, f := range c.Flags {
			if list, ok := f.(*cli.StringSliceFlag); ok {
				list.KeepSpace = true
			}
		}
		strict(c.Subcommands)
		if action := c.Action; action != nil {
			c.Action = func(c *cli.Context) error {
				if c.Args().Present() && c.Command.ArgsUsage == "" {
					return usagef("%s takes no arguments, and got %q", c.Command.Name, c.Args().First())
				}
				return action(c)
			}
		}
	}
}

// advisedError is an error of the command line that knows what to do about it.
type advisedError interface {
	error
	advice() (code int, hint string)
}

// exitCode says what went wrong and what to do, once.
func (p *process) exitCode(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errNo) {
		return exitNo
	}
	if errors.Is(err, errForbidden) {
		return exitForbidden
	}
	if status := statusError(0); errors.As(err, &status) {
		return int(status)
	}
	if ctx.Err() != nil {
		p.say("interrupted")
		return exitInterrupt
	}
	for _, src := range errdefs.Sources(err) {
		src.Print(p.stderr)
	}
	code, hint := advice(err, p.verbs)
	for line := range strings.SplitSeq(withoutPolicy(err.Error()), "\n") {
		p.say("%s", line)
	}
	if hint != "" {
		fmt.Fprintf(p.stderr, "hint: %s\n", hint)
	}
	if p.debug {
		fmt.Fprintf(p.stderr, "%+v\n", stack.Formatter(err))
	}
	return code
}

// withoutPolicy returns an error's text without BuildKit's words for how it came to look something up: that the lock is what
// it calls a policy says nothing about an image that is not there.
func withoutPolicy(text string) string {
	return strings.ReplaceAll(text, "could not resolve image due to policy: error resolving source metadata from policy request: ", "")
}

// install says how a program that kedge's own builder needs comes onto the machine.
func install(program string) string {
	switch program {
	case "newuidmap", "newgidmap":
		return "apt-get install uidmap (Debian, Ubuntu), or dnf install shadow-utils (Fedora)"
	case "slirp4netns":
		return "install slirp4netns, or set KEDGE_ROOTLESS_NET=host"
	}
	return fmt.Sprintf("install %s, or run make build in kedge's repository", program)
}

// setUp says what root has to do for a user.
func setUp(e *daemon.SetupError) string {
	switch e.Lacks {
	case daemon.UserNamespaces:
		if e.Setting == "user.max_user_namespaces" {
			return "as root: sysctl -w user.max_user_namespaces=65536"
		}
		return fmt.Sprintf("as root: sysctl -w %s=1", e.Setting)
	case daemon.Privileges:
		return "run kedge where they can be gained: without setpriv --no-new-privs, systemd's NoNewPrivileges= or a container's no-new-privileges"
	case daemon.UserName:
		return "run kedge as a user who has a name"
	}
	return fmt.Sprintf("as root: echo %s | tee -a %s", e.Line, strings.Join(e.Files, " "))
}

// advice returns the exit code of an error of the verbs, "builder" and "prune", and what to do about it.
func advice(err error, verbs []string) (int, string) {
	var (
		usage    usageError
		unlocked *builder.UnlockedError
		target   *build.TargetError
		syntax   lock.Errors
		conflict *lock.ConflictError
		epoch    *build.EpochError
		rules    *build.RulesError
		newer    *image.VersionError
		stage    *frontend.TargetError
		ref      *build.RefError
		missing  *daemon.MissingError
		setup    *daemon.SetupError
		place    *daemon.RootError
		inUse    *daemon.InUseError
		start    *daemon.StartError
		capable  *builder.CapabilityError
		address  *builder.AddressError
		busy     *image.BusyError
		damaged  *image.DamagedError
		nowhere  *build.UnwritableError
		git      *build.GitError
		gone     *builder.LostError
		notFound *image.NotFoundError
		name     *source.UsageError
		own      advisedError
		lost     *source.NowhereError
		note     *image.AnnotationError
		leak     *build.SecretError
		input    *build.InputError
		context  *builder.ContextError
		noLock   *build.NoLockfileError
		missed   *builder.DockerfileError
		needs    *builder.EntitlementError
		refused  *builder.RefusedError
		gateway  *builder.GatewayError
		proxy    *builder.ProxyError
		once     *builder.OnceError
		policy   *build.PolicyError
		foreign  *plugin.ForeignError
		config   *plugin.ConfigError
	)
	if hint := whereAdvice(err); hint != "" {
		return exitFailed, hint
	}
	switch {
	case errors.As(err, &leak):
		return exitFailed, "keep it out of what the step writes, or remove the file in the same RUN; --secret-check=false if it is no secret"
	case errors.As(err, &note):
		return exitUsage, ""
	case errors.As(err, &own):
		return own.advice()
	case errors.As(err, &foreign):
		return exitFailed, "if it is not needed, remove it and run again"
	case errors.As(err, &config):
		return exitFailed, "docker has to be able to read it: repair it and run again"
	case errors.As(err, &name):
		return exitUsage, "kedge diff --help says how an image is named"
	case errors.As(err, &input):
		return exitUsage, input.Hint
	case errors.As(err, &context) && context.Name != "":
		return exitUsage, "a named context is a directory, docker-image://REFERENCE, oci-layout://DIR[:TAG], a git repository or an http(s) URL"
	case errors.As(err, &context) && errors.Is(err, fs.ErrNotExist):
		return exitFailed, ""
	case errors.As(err, &context):
		return exitUsage, "a build context is a directory, a git repository, an http(s) URL, or - for standard input"
	case errors.As(err, &noLock):
		return exitUsage, "--lockfile FILE names a place for the lock; with --locked=false, kedge build does without"
	case errors.As(err, &missed) && missed.Dockerfile.Inside != "":
		return exitFailed, "-f PATH names another Dockerfile in the build context"
	case errors.As(err, &usage):
		return exitUsage, strings.Join(slices.Concat([]string{"kedge"}, verbs, []string{"--help"}), " ") + " says how it is used"
	case errors.As(err, &unlocked):
		for _, s := range unlocked.Sources {
			if s.Locked != "" {
				return exitForbidden, fmt.Sprintf("kedge lock --refresh=%s takes what it is now, once you know why it changed", s.Source.Ref)
			}
		}
		return exitForbidden, "kedge lock adds what is missing; commit the lockfile then"
	case errors.As(err, &target) && target.Moved && target.Gone:
		return exitForbidden, fmt.Sprintf("kedge lock --target %s builds that from now on; to go on as before, name the stage: FROM ... AS NAME", target.Asked)
	case errors.As(err, &target) && target.Moved:
		return exitForbidden, fmt.Sprintf("kedge lock --target %s builds that from now on, kedge lock --target %s the other; to build both, one needs a lock of its own: --lockfile FILE", target.Asked, target.Declared)
	case errors.As(err, &target):
		return exitForbidden, fmt.Sprintf("kedge lock --target %s declares that; to build both, one needs a lock of its own: --lockfile FILE", target.Asked)
	case errors.As(err, &syntax):
		return exitForbidden, "take the version of the file that was committed last, or resolve its conflict; docs/lockfile.md says what a lockfile is"
	case errors.As(err, &conflict):
		return exitForbidden, "another command changed the lockfile, or the Dockerfile names another checksum: run again, or kedge lock --refresh=" + conflict.Source.Ref
	case errors.As(err, &newer):
		return exitForbidden, "use the kedge that wrote the lock, or a later one"
	case errors.As(err, &epoch), errors.As(err, &rules):
		return exitForbidden, "run again: the lock that is there now is used then"
	case errors.As(err, &stage):
		if stage.Unnamed > 0 {
			return exitUsage, ""
		}
		var names []string
		for i, s := range stage.Stages {
			if s.Name == "" {
				s.Name = fmt.Sprint(i)
			}
			names = append(names, s.Name)
		}
		return exitUsage, "its stages are " + strings.Join(names, ", ")
	case errors.As(err, &ref):
		return exitUsage, "a reference to refresh is written as in the lockfile, or as in the Dockerfile"
	case errors.As(err, &missing):
		return exitFailed, install(missing.What) + ", or name a builder with --builder"
	case errors.As(err, &setup):
		return exitFailed, setUp(setup) + ", or name a builder with --builder"
	case errors.As(err, &place) && errors.Is(err, fs.ErrPermission):
		return exitFailed, "set XDG_DATA_HOME to a folder that you may write in"
	case errors.As(err, &inUse):
		return exitFailed, "wait until it is free, or kedge builder stop --force"
	case errors.As(err, &start):
		return exitFailed, "the whole log: " + start.Log
	case errors.As(err, &capable):
		return exitFailed, "upgrade the builder, or leave --builder out to use kedge's own"
	case errors.As(err, &address):
		return exitFailed, "is the address right, and does BuildKit listen there? Without --builder kedge starts its own"
	case errors.As(err, &busy):
		return exitFailed, "wait until the build has ended"
	case errors.As(err, &git):
		return exitFailed, "--context-modes=keep does without git, and takes the modes on this machine"
	case errors.As(err, &nowhere):
		return exitFailed, "--lockfile PATH names another place"
	case errors.As(err, &lost):
		return exitFailed, "kedge images lists the store; docker-daemon:" + lost.Name + " is an image of the Docker Engine"
	case errors.As(err, &damaged):
		return exitFailed, "the store holds only what can be built again: remove " + damaged.Dir
	case errors.As(err, &gone):
		if gone.Own {
			return exitFailed, "kedge builder logs may say why; the next build starts it again"
		}
		return exitFailed, "does BuildKit still run there?"
	case errors.As(err, &needs):
		return exitFailed, "--allow " + needs.Entitlement + " allows it"
	case errors.As(err, &refused) && refused.Own:
		return exitFailed, "insecure-entitlements in buildkitd.toml allows it; --buildkitd-config names the file"
	case errors.As(err, &refused):
		return exitFailed, "insecure-entitlements in that builder's buildkitd.toml allows it"
	case errors.As(err, &once):
		return exitFailed, "without it the build can be verified; with it, build on two builders and compare: kedge diff"
	case errors.As(err, &proxy):
		return exitFailed, "--provenance=mode=min leaves out how steps were run"
	case errors.As(err, &gateway):
		return exitFailed, "give the address: --add-host " + gateway.Host + ":IP"
	case errors.As(err, &policy):
		return exitFailed, "kedge's lock says what a build may fetch; --policy disabled=true builds without the policy, as with docker"
	case errors.As(err, &notFound):
		return exitFailed, "kedge images lists what there is"
	}
	return exitFailed, ""
}
