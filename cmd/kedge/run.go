package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os/user"
	"slices"
	"strings"

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
	fmt.Fprintf(p.stderr, "kedge: %s\n", harmless(fmt.Sprintf(format, args...)))
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
	log.SetOutput(io.Discard)
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
		fmt.Fprintf(p.stderr, "hint: %s\n", harmless(hint))
	}
	if p.debug {
		fmt.Fprintf(p.stderr, "%+v\n", stack.Formatter(err))
	}
	return code
}
