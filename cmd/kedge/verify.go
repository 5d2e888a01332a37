package main

import (
	"slices"

	"github.com/urfave/cli/v2"
)

func (p *process) verifyVerb() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "build twice and compare, bit for bit", ArgsUsage: "PATH | URL | -",
		Flags: slices.Concat(sourceFlags(), []cli.Flag{p.lockedFlag()}, solveFlags(), downloadFlags(), []cli.Flag{
			offlineFlag(),
			&cli.BoolFlag{Name: "no-cache", Usage: "take no step of the first build from the builder's cache, and keep its cache mounts; the second has neither"},
			&cli.StringFlag{Name: "second-builder", Usage: "run the second build on another builder, by `NAME` or address as with --builder; empty: kedge's own"},
			formatFlag(), reportFlag(), varyFlag(), secretCheckFlag(),
		}),
		Action: func(c *cli.Context) error { return p.build(c, true) },
	}
}
