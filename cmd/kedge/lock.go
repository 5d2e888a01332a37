package main

import (
	"fmt"
	"slices"

	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/report"
	"github.com/urfave/cli/v2"
)

func (p *process) lockVerb() *cli.Command {
	refresh, downloads := &refreshValue{}, &downloadsValue{}
	return &cli.Command{
		Name: "lock", Usage: "write the sources of a build into its lockfile", ArgsUsage: "PATH | URL | -",
		Flags: append(slices.Concat(sourceFlags(), stepFlags(), downloadFlags(), attestFlags()),
			&cli.GenericFlag{Name: "refresh", Value: refresh, Usage: "look up every source again; --refresh=REF only that one, repeatable"},
			&cli.GenericFlag{Name: "downloads", Value: downloads, Usage: "execute every RUN, and lock what it downloads; --downloads=off takes that out of the lock again"},
			&cli.StringSliceFlag{Name: "downloads-allow", Usage: "let what RUN downloads from `HOST` through, without locking it"},
			&cli.BoolFlag{Name: "check", Usage: "change nothing, and exit with 4 if the lock would change"},
			&cli.BoolFlag{Name: "strict-target", Usage: "declare that no other target can be built with this lock; --strict-target=false allows it again"},
			&cli.StringFlag{Name: "export", Usage: "also write the lock as a policy that others enforce, in a `FORM`: source-policy or rego"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "the `FILE` that --export writes, or - (default: - for source-policy, DOCKERFILE.rego for rego)"},
			formatFlag()),
		Action: func(c *cli.Context) error {
			if _, err := answerFormat(c); err != nil {
				return err
			}
			if err := checkExport(c); err != nil {
				return err
			}
			return p.withBuilder(c, func(env kedge.Env, o kedge.Options) error {
				o.LockDownloads, o.AllowDownloads = downloads.LockDownloads, c.StringSlice("downloads-allow")
				var err error
				if o.DownloadsRepo, err = sharedRepo(c); err != nil {
					return err
				}
				if (len(o.AllowDownloads) > 0 || o.DownloadsRepo != nil) && o.LockDownloads == kedge.DropDownloads {
					return usagef("--downloads-allow and --cache-repo are about downloads that are locked")
				}
				return p.lock(c, env, o, refresh.Refresh)
			})
		},
	}
}

func (p *process) lock(c *cli.Context, env kedge.Env, o kedge.Options, refresh kedge.Refresh) error {
	check := c.Bool("check")
	if c.IsSet("strict-target") {
		strict := c.Bool("strict-target")
		o.StrictTarget = &strict
	}
	locked, err := kedge.Lock(c.Context, env, o, refresh, check)
	if err != nil {
		return err
	}
	p.tellDownloads(locked)
	r := report.NewLock(locked, check)
	if f := report.Format(c.String("format")); f == report.JSON || f == report.Markdown {
		r.Images = p.imageMoves(c.Context, env, slices.Concat(o.Platforms, []string{""})[0], locked.Changes)
	}
	p.sayChanges(check, r.Changes)
	export, err := newExport(c, locked)
	if err != nil {
		return err
	}
	if export.path != "-" || check {
		if err := p.report(c, r); err != nil {
			return err
		}
	}
	old := ""
	switch {
	case !check:
		err = p.writeExport(c.Context, export, locked.Lock)
	case export.stale():
		old = export.path
	}
	if err != nil {
		return err
	}
	if check && locked.Changed {
		old = locked.Lockfile
	}
	if old != "" {
		p.say("%s: is not up to date", old)
		fmt.Fprintln(p.stderr, "hint: run the same without --check, and commit the lockfile")
		return errForbidden
	}
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
