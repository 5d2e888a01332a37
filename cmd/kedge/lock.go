package main

import (
	"fmt"
	"time"

	"github.com/kedge-build/kedge"
	"github.com/urfave/cli/v2"
)

func (p *process) lockVerb() *cli.Command {
	refresh := &refreshValue{}
	return &cli.Command{
		Name: "lock", Usage: "write the sources of a build into its lockfile", ArgsUsage: "PATH | URL | -",
		Flags: append(append(sourceFlags(), attestFlags()...),
			&cli.GenericFlag{Name: "refresh", Value: refresh, Usage: "look up every source again; --refresh=REF only that one, repeatable"},
			&cli.BoolFlag{Name: "check", Usage: "change nothing, and exit with 4 if the lock would change"}),
		Action: func(c *cli.Context) error {
			return p.withBuilder(c, func(env kedge.Env, o kedge.Options) error {
				return p.lock(c, env, o, refresh.Refresh)
			})
		},
	}
}

func (p *process) lock(c *cli.Context, env kedge.Env, o kedge.Options, refresh kedge.Refresh) error {
	check := c.Bool("check")
	locked, err := kedge.Lock(c.Context, env, o, refresh, check)
	if err != nil {
		return err
	}
	p.sayChanges(check, locked.Changes)
	moved := "moved"
	if check {
		moved = "would move"
	}
	if locked.OldTarget != locked.Target && locked.OldTarget != "" {
		p.say("%s target: %s -> %s", moved, locked.OldTarget, locked.Target)
	}
	if !locked.OldEpoch.Equal(locked.Epoch) && !locked.OldEpoch.IsZero() {
		p.say("%s epoch: %s -> %s", moved, locked.OldEpoch.Format(time.RFC3339), locked.Epoch.Format(time.RFC3339))
	}
	if locked.OldRules != locked.Rules && locked.OldRules != 0 {
		p.say("%s normalisation rules: %d -> %d", moved, locked.OldRules, locked.Rules)
	}
	if check && locked.Changed {
		p.say("%s: is not up to date", locked.Lockfile)
		fmt.Fprintln(p.stderr, "hint: run the same without --check, and commit the lockfile")
		return errForbidden
	}
	fmt.Fprintf(p.stdout, "%s: %s, target %s\n", locked.Lockfile, counted(locked.Sources, "source"), locked.Target)
	return nil
}

// A refreshValue collects --refresh and --refresh=REF.
type refreshValue struct{ kedge.Refresh }

func (r *refreshValue) IsBoolFlag() bool { return true }

func (r *refreshValue) String() string { return "" }

func (r *refreshValue) Set(s string) error {
	if s == "true" {
		r.All = true
	} else {
		r.Refs = append(r.Refs, s)
	}
	return nil
}
