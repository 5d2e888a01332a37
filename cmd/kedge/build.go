package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/diff/source"
	"github.com/kedge-build/kedge/drift"
	"github.com/kedge-build/kedge/publish"
	"github.com/kedge-build/kedge/report"
	"github.com/kedge-build/kedge/secret"
	"github.com/kedge-build/kedge/store"
	"github.com/urfave/cli/v2"
)

func (p *process) buildVerb() *cli.Command {
	return &cli.Command{
		Name: "build", Usage: "build an image from a Dockerfile", ArgsUsage: "PATH | URL | -",
		Flags: slices.Concat(sourceFlags(), []cli.Flag{p.lockedFlag()}, solveFlags(), downloadFlags(), callFlags(), outputFlags(), attestFlags(), []cli.Flag{
			offlineFlag(),
			&cli.StringSliceFlag{Name: "tag", Aliases: []string{"t"}, Usage: "name the image `NAME[:TAG]`, and NAME:[TAG-]args-HASH"},
			&cli.BoolFlag{Name: "verify", Usage: "build a second time and compare"},
			&cli.BoolFlag{Name: "declare-target", Hidden: true, Usage: "a lock that declares no target declares this one"},
			&cli.BoolFlag{Name: "no-cache", Usage: "take no step from the builder's cache"},
			&cli.BoolFlag{Name: "drift", Usage: "record the image in DOCKERFILE.drift, as kedge drift record does"},
			&cli.StringFlag{Name: "lint", Value: string(kedge.LintWarn), Usage: "run kedge lint first: off, `warn`, or error, which builds nothing if lint finds an error"},
			formatFlag(), reportFlag(), varyFlag(),
		}),
		Action: func(c *cli.Context) error {
			if _, ok := lintModes[c.String("lint")]; !ok {
				return usagef("--lint=%s is not off, warn or error", c.String("lint"))
			}
			asked, err := parseCall(c)
			if err != nil {
				return err
			}
			if asked.name != "" {
				return p.withBuilder(c, func(env kedge.Env, o kedge.Options) error { return p.call(c, env, o, asked) })
			}
			if len(c.StringSlice("vary")) > 0 && !c.Bool("verify") {
				return usagef("--vary is about a second build: --verify makes one")
			}
			if c.Bool("drift") {
				if fi, err := os.Stat(localDockerfile(c)); err != nil || !fi.Mode().IsRegular() {
					return usagef("--drift writes beside the Dockerfile, and %q is no file of this machine", localDockerfile(c))
				}
			}
			return p.build(c, c.Bool("verify"))
		},
	}
}

// lintModes are the values of --lint. Verbs without the flag do not lint.
var lintModes = map[string]kedge.LintMode{"": kedge.LintOff, "off": kedge.LintOff, "warn": kedge.LintWarn, "error": kedge.LintRefuse}

func varyFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "vary", Usage: "make the second build differ in `RESPECTS`: time (or time=+400d), hostname, cpus, umask, locale, order; or none"}
}

// build builds once, or twice if verified is set, delivers the image and prints the answer.
func (p *process) build(c *cli.Context, verified bool) error {
	a, err := p.answer(c)
	if err != nil {
		return err
	}
	return p.withBuilder(c, func(env kedge.Env, o kedge.Options) error {
		ctx := c.Context
		o.Annotations, o.Ships = a.annotations, a.wanted.Ships()
		delivery, err := publish.Prepare(ctx, a.wanted, p.publishEnv(env.Auth))
		if err != nil {
			return err
		}
		defer delivery.Close()
		if env.Store, err = p.openStore(ctx); err != nil {
			return err
		}
		defer env.Store.Close()
		if err := a.clear(); err != nil {
			return err
		}
		build := kedge.Build
		if verified {
			build = kedge.Verify
		}
		res, err := build(ctx, env, o)
		if err != nil {
			return err
		}
		p.tell(res, o.Pull)
		r := report.NewBuild(c.Command.Name, res)
		if err := p.writeReport(c, r); err != nil {
			return err
		}
		if !r.Yes() {
			return p.sayNo(ctx, a, res, r)
		}
		receipt, err := delivery.Deliver(ctx, env.Store, res.Image, res.ArgsHash)
		p.tellDelivery(res, receipt)
		if err != nil {
			return err
		}
		r.Names = append(r.Names, receipt.Names...)
		if c.Bool("drift") {
			if err := p.recordBuilt(ctx, env.Store, res, drift.Path(localDockerfile(c))); err != nil {
				return err
			}
		}
		return p.sayDone(ctx, a, res, r, receipt.ID.String())
	})
}

// tellNormalised says what rules did to an image: to how many paths, and to which ones, ten at most without --debug.
func (p *process) tellNormalised(img store.Image) {
	const most = 10
	counts, paths := normalised(img)
	if counts == "" {
		return
	}
	p.note("normalised %s", counts)
	rest := 0
	if len(paths) > most && !p.view.debug {
		paths, rest = paths[:most], len(paths)-most
	}
	for _, path := range paths {
		p.note("  %s", path)
	}
	if rest > 0 {
		p.note("  and %s more: --debug, --metadata-file and --format=json list all", report.Counted(rest, "path"))
	}
}

// tell tells about a build what is not part of its answer.
func (p *process) tell(res *kedge.Result, pull bool) {
	p.tellNormalised(res.Image)
	if len(res.Linted) > 0 {
		p.note("%s: kedge lint lists them", report.NewLint(res.Dockerfile, res.Linted).Headline())
	}
	if res.Target != res.Declared {
		p.note("target %q is not the one that ships, %q: the image stays on this machine", res.Target, res.Declared)
	}
	for _, m := range res.Moved {
		p.say("%s %s has moved: %s -> %s; kedge lock --refresh=%s takes it", m.Source.Kind, m.Source.Ref, m.Old, m.New, m.Source.Ref)
	}
	switch {
	case res.NotLookedUp != nil:
		p.say("warning: cannot tell whether newer images exist: %v", res.NotLookedUp)
	case pull && len(res.Moved) == 0:
		p.note("no locked tag has moved")
	}
	if len(res.NotSought) > 0 {
		p.note("secrets of fewer than %d bytes are not looked for in the image: %s", secret.MinSecret, enumerated(res.NotSought))
	}
	for _, l := range res.LeftOut {
		p.say("warning: %s:%d: %s takes no file: %s leaves %s out of the build context", res.Dockerfile, l.Line, l.Pattern, l.Ignore, l.Path)
	}
	if res.NotChecked != nil {
		p.say("warning: kedge cannot tell which files git ignores: %v", res.NotChecked)
	}
	if len(res.Ignored) > 0 {
		p.say("warning: the build uses %s, which git ignores: another checkout does not have them", enumerated(res.Ignored))
	}
	if len(res.Untracked) > 0 {
		p.say("warning: the build uses %s, which git does not track: another checkout does not have them", enumerated(res.Untracked))
	}
	for _, setting := range res.Credentials {
		p.say("warning: %s holds a password or a token, and the build has it: a line .git in .dockerignore leaves it out", setting)
	}
	if res.OldPolicy != "" {
		p.say("warning: %s is of another lock: kedge lock --export=rego writes it again", res.OldPolicy)
	}
	if len(res.Modes) > 0 {
		p.say("warning: the build uses the mode that git records, and not the one on this machine, for %s: git add it, or --context-modes=keep", enumerated(res.Modes))
	}
	p.tellRefused(res.Refused, res.Silent)
	p.tellNotKept(res.NotKept)
	if len(res.ClockKept) > 0 {
		p.say("warning: the clock was not moved on %s, only by a minute: this kedge has no library for it (make build compiles it)", enumerated(res.ClockKept))
	}
	if res.NotReleased != nil {
		p.say("%v", res.NotReleased)
	}
}

// tellDelivery tells what became of the image.
func (p *process) tellDelivery(res *kedge.Result, r publish.Receipt) {
	switch {
	case res.NotLocked != nil:
		p.say("warning: %v: what this build added is not locked, so the next build may use other sources", res.NotLocked)
	case res.Lockfile == "" && len(res.Lock.Sources()) > 0:
		p.say("warning: there is no lockfile, so the next build may use other sources: --lockfile FILE names one")
	}
	for _, s := range r.Steps {
		if s.Action == publish.Present {
			p.note("Docker at %q has it already", s.Name)
		} else {
			p.note("%s %s", s.Action, s.Name)
		}
	}
	if r.NotLoaded != nil {
		name := res.Image.Top().Digest.String()
		if len(r.Names) > 0 {
			name = r.Names[0]
		}
		if res.Target != res.Declared {
			p.note("the image is in kedge's store only: %v", r.NotLoaded)
			return
		}
		p.note("the image is in kedge's store only: %v (later: kedge export %s -o type=docker,dest=- | docker load)", r.NotLoaded, name)
	}
}

// localDockerfile returns the path of the Dockerfile if it is a file of this machine.
func localDockerfile(c *cli.Context) string {
	return cmp.Or(c.String("file"), filepath.Join(c.Args().First(), "Dockerfile"))
}

// recordBuilt writes the record of drift of an image that was built, of each platform.
func (p *process) recordBuilt(ctx context.Context, st *store.Store, res *kedge.Result, dir string) error {
	images, err := imagesOf(ctx, "store:"+res.Image.Descriptor.Digest.String(), dir, source.Options{Store: st})
	if err != nil {
		return err
	}
	if err := images.arrange(dir); err != nil {
		return err
	}
	for _, img := range images {
		if _, err := p.recordImage(ctx, st, img, ""); err != nil {
			return err
		}
		p.note("recorded in %s", img.record)
	}
	return nil
}

// sayDone gives the answer that the image was built, and writes the lock.
func (p *process) sayDone(ctx context.Context, a *answer, res *kedge.Result, r *report.Report, id string) error {
	if err := a.writeID(ctx, id); err != nil {
		return err
	}
	if err := p.writeMetadata(ctx, a, res, r.Names); err != nil {
		return err
	}
	if err := p.writeLock(ctx, res); err != nil {
		return err
	}
	if p.view.quiet {
		_, err := fmt.Fprintln(a.out, id)
		return err
	}
	return report.Write(a.out, a.format, r)
}

// sayNo gives the answer that two builds differ. No image is delivered.
func (p *process) sayNo(ctx context.Context, a *answer, res *kedge.Result, r *report.Report) error {
	out := a.out
	if p.view.quiet {
		out = p.stderr // stdout is for a digest
	}
	if err := p.writeMetadata(ctx, a, res, nil); err != nil {
		return err
	}
	// A lock that cannot be written does not change the answer.
	if err := p.writeLock(ctx, res); err != nil {
		p.say("%v", err)
	}
	if err := report.Write(out, a.format, r); err != nil {
		return err
	}
	return errNo
}

func (p *process) writeLock(ctx context.Context, res *kedge.Result) error {
	if err := res.WriteLock(ctx); err != nil {
		return err
	}
	p.sayChanges(false, report.NewLockChanges(res.Added))
	return nil
}
