package main

import (
	"fmt"

	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/publish"
	"github.com/urfave/cli/v2"
)

func (p *process) tagVerb() *cli.Command {
	return &cli.Command{
		Name: "tag", Usage: "print the tag of the build args, args-HASH, without building", ArgsUsage: "PATH | URL | -",
		Flags: append(sourceFlags(), &cli.StringSliceFlag{Name: "tag", Aliases: []string{"t"}, Usage: "print the names for `NAME[:TAG]` instead"}),
		Action: func(c *cli.Context) error {
			return p.withBuilder(c, func(env kedge.Env, o kedge.Options) error { return p.tag(c, env, o) })
		},
	}
}

func (p *process) tag(c *cli.Context, env kedge.Env, o kedge.Options) error {
	hash, err := kedge.ArgsHash(c.Context, env, o)
	if err != nil {
		return err
	}
	names, err := publish.Names(c.StringSlice("tag"), hash)
	if err != nil {
		return usageError{err}
	}
	if len(names) == 0 {
		names = []string{"args-" + hash}
	}
	for _, name := range names {
		fmt.Fprintln(p.stdout, name)
	}
	return nil
}
