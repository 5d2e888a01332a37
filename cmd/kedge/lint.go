package main

import (
	"cmp"
	"time"

	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/report"
	"github.com/urfave/cli/v2"
)

func (p *process) lintVerb() *cli.Command {
	return &cli.Command{
		Name: "lint", Usage: "find what lets images drift, without building", ArgsUsage: "[PATH | -]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "the Dockerfile: a `FILE`, or - for standard input (default: PATH/Dockerfile)"},
			&cli.StringSliceFlag{Name: "build-arg", Usage: "set a build arg `NAME=VALUE`; NAME alone takes the environment's"},
			&cli.StringFlag{Name: "target", Usage: "the `STAGE` that ships (default: the one that the lock declares)"},
			&cli.StringSliceFlag{Name: "platform", Usage: "the `PLATFORM` that the image is for", EnvVars: []string{"DOCKER_DEFAULT_PLATFORM"}},
			&cli.StringFlag{Name: "lockfile", Usage: "the lockfile `PATH` (default: DOCKERFILE.lock)"},
			formatFlag(), reportFlag(),
		},
		Action: func(c *cli.Context) error {
			if _, err := answerFormat(c); err != nil {
				return err
			}
			if c.NArg() > 1 {
				return usagef("lint takes one PATH or - (standard input), the build context, and got %d", c.NArg())
			}
			platforms, err := linuxPlatforms(askedPlatforms(c))
			if err != nil {
				return err
			}
			o := kedge.Options{
				Context: cmp.Or(c.Args().First(), "."), Dockerfile: c.String("file"), Lockfile: c.String("lockfile"), Target: c.String("target"), Platforms: platforms,
			}
			if err := p.args(c, &o); err != nil {
				return err
			}
			found, err := kedge.Lint(c.Context, kedge.Env{Now: time.Now, Environ: p.environ, Stdin: p.stdin}, o)
			if err != nil {
				return err
			}
			return p.report(c, report.NewLint(o.Dockerfile, found))
		},
	}
}
