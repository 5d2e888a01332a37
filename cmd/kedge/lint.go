package main

import (
	"cmp"
	"io"
	"slices"
	"time"

	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/report"
	"github.com/urfave/cli/v2"
)

func (p *process) lintVerb() *cli.Command {
	return &cli.Command{
		Name: "lint", Usage: "find causes of drift, without building", ArgsUsage: "[PATH | -]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "the Dockerfile: a `FILE`, or - for standard input (default: PATH/Dockerfile)"},
			&cli.StringSliceFlag{Name: "build-arg", Usage: "set a build arg `NAME=VALUE`; NAME alone takes the environment's"},
			&cli.StringFlag{Name: "target", Usage: "the `STAGE` that ships (default: the one that the lock declares)"},
			&cli.StringSliceFlag{Name: "platform", Usage: "the `PLATFORM` that the image is for ($DOCKER_DEFAULT_PLATFORM)"},
			&cli.StringFlag{Name: "lockfile", Usage: "the lockfile `PATH` (default: DOCKERFILE.lock)"},
			&cli.BoolFlag{Name: "diff", Usage: "print the patch that --fix would write"},
			&cli.BoolFlag{Name: "fix", Usage: "write what is safe to write into the Dockerfile"},
			&cli.StringFlag{Name: "format", Value: string(report.Text), Usage: "print the answer as text, json, markdown, sarif or github"}, reportFlag(),
		},
		Action: func(c *cli.Context) error {
			if f := report.Format(c.String("format")); !slices.Contains(lintFormats, f) {
				return usagef("format %q is not text, json, markdown, sarif or github", f)
			}
			if c.NArg() > 1 {
				return usagef("lint takes one PATH or - (standard input), the build context, and got %d", c.NArg())
			}
			switch {
			case c.Bool("fix") && c.Bool("diff"):
				return usagef("--diff prints the patch that --fix writes: give one of them")
			case c.Bool("fix") && (c.Args().First() == "-" || c.String("file") == "-"):
				return usagef("--fix cannot write into standard input; --diff prints the patch")
			}
			platforms, err := linuxPlatforms(p.askedPlatforms(c))
			if err != nil {
				return err
			}
			o := kedge.Options{
				Context: cmp.Or(c.Args().First(), "."), Dockerfile: c.String("file"), Lockfile: c.String("lockfile"), Target: c.String("target"), Platforms: platforms,
			}
			if err := p.args(c, &o); err != nil {
				return err
			}
			l, err := kedge.Lint(c.Context, kedge.Env{Now: time.Now, Environ: p.environ, Stdin: p.stdin}, o)
			if err != nil {
				return err
			}
			return p.lint(c, l)
		},
	}
}

var lintFormats = []report.Format{report.Text, report.JSON, report.Markdown, report.SARIF, report.GitHub}

// lint prints the findings or the patch, or writes the patch.
func (p *process) lint(c *cli.Context, l *kedge.Linted) error {
	if c.Bool("fix") {
		made, err := l.Fix()
		if err != nil {
			return err
		}
		p.say("%s in %s", report.Counted(made, "edit"), l.Dockerfile)
	}
	r := report.NewLint(l.Dockerfile, l.Findings)
	if !c.Bool("diff") {
		return p.report(c, r)
	}
	if _, err := io.WriteString(p.stdout, l.Patch); err != nil {
		return err
	}
	if l.Patch == "" && len(l.Findings) > 0 {
		p.say("no finding has a fix that is safe to write: kedge lint lists them")
	}
	if !r.Yes() {
		return errNo
	}
	return nil
}
