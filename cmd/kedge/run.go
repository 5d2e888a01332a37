package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os/user"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/plugin"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
)

// run runs kedge and returns its exit code.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// Libraries log errors that they also return, and details that are of no use to the user.
	logrus.SetOutput(io.Discard)
	log.SetOutput(io.Discard)
	answer := &checkedWriter{w: stdout}
	p := &process{env: map[string]string{}, environ: environ, stdin: stdin, stdout: answer, stderr: stderr, plugin: pluginName(args[0])}
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		p.env[k] = v
	}
	if p.env["HOME"] == "" { // cron and init do not set it
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

// runVerb parses the words after the name of the program, and runs the verb.
func (p *process) runVerb(ctx context.Context, words []string) error {
	app := p.app()
	if len(words) > 0 && strings.HasPrefix(words[0], completeVerb) { // the variant of docker without descriptions has a suffix
		return p.complete(ctx, rootOf(app), words[1:])
	}
	line, err := parse(rootOf(app), words)
	p.verbs = line.verbs
	if p.plugin == plugin.Name && slices.Equal(line.verbs, []string{"prune"}) && !line.help {
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
		// A value may contain a comma.
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {},
		Commands: []*cli.Command{
			p.buildVerb(), p.bakeVerb(), p.lockVerb(), p.lintVerb(), p.verifyVerb(), p.diffVerb(), p.explainVerb(), p.driftVerb(), p.promoteVerb(), p.tagVerb(),
			p.imagesVerb(), p.exportVerb(), p.pruneVerb(), p.cacheVerb(), p.builderVerb(), p.installVerb(), p.completionVerb(), helpVerb(), p.versionVerb(),
			p.pluginMetadataVerb(),
		},
	}
	p.strict(app.Commands)
	return app
}

// rootOf returns kedge itself as the verb that has all others.
func rootOf(app *cli.App) *cli.Command {
	return &cli.Command{Name: app.Name, Usage: app.Usage, Description: exitCodes, Subcommands: app.Commands}
}

// helpVerb exists for the list of verbs: parse handles the word help.
func helpVerb() *cli.Command {
	return &cli.Command{Name: "help", Usage: "describe a verb and its flags", ArgsUsage: "[VERB]"}
}

// A checkedWriter keeps the first error, so that a verb fails if its answer cannot be written.
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

// strict makes urfave/cli accept flags and arguments as they are, because parse has checked them, and sets the
// view before a verb runs.
func (p *process) strict(commands []*cli.Command) {
	for _, c := range commands {
		c.HideHelp = true // a build context may be called help
		c.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return usageError{err} }
		for _, f := range c.Flags {
			if list, ok := f.(*cli.StringSliceFlag); ok {
				list.KeepSpace = true
			}
		}
		p.strict(c.Subcommands)
		if action := c.Action; action != nil {
			c.Action = func(c *cli.Context) (err error) {
				if c.Args().Present() && c.Command.ArgsUsage == "" {
					return usagef("%s takes no arguments, and got %q", c.Command.Name, c.Args().First())
				}
				if p.view, err = p.parseView(c); err != nil {
					return err
				}
				return action(c)
			}
		}
	}
}
