package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/secret"
	"github.com/urfave/cli/v2"
)

func (p *process) buildVerb() *cli.Command {
	return &cli.Command{
		Name: "build", Usage: "build an image from a Dockerfile", ArgsUsage: "PATH | URL | -",
		Flags: slices.Concat(sourceFlags(), []cli.Flag{p.lockedFlag()}, solveFlags(), callFlags(), outputFlags(), attestFlags(), []cli.Flag{
			&cli.StringSliceFlag{Name: "tag", Aliases: []string{"t"}, Usage: "name the image `NAME[:TAG]`, and NAME:[TAG-]args-HASH"},
			&cli.BoolFlag{Name: "verify", Usage: "build a second time and compare"},
			&cli.BoolFlag{Name: "no-cache", Usage: "take no step from the builder's cache"},
			&cli.StringFlag{Name: "format", Value: "text", Usage: "text, or json for a value on stdout"},
			reportFlag(), varyFlag(),
		}),
		Action: func(c *cli.Context) error {
			asked, err := parseCall(c)
			if err != nil {
				return err
			}
			return p.withBuilder(c, func(env kedge.Env, o kedge.Options) error {
				if asked.name != "" {
					return p.call(c, env, o, asked)
				}
				return p.build(c, env, o, c.Bool("verify"))
			})
		},
	}
}

func (p *process) verifyVerb() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "build twice and say whether it is the same, bit for bit", ArgsUsage: "PATH | URL | -",
		Flags: append(slices.Concat(sourceFlags(), []cli.Flag{p.lockedFlag()}, solveFlags()),
			&cli.BoolFlag{Name: "no-cache", Usage: "take no step of the first build from the builder's cache; the second never does"},
			&cli.StringFlag{Name: "format", Value: "text", Usage: "text, or json for a value on stdout"},
			reportFlag(), varyFlag(), secretCheckFlag()),
		Action: func(c *cli.Context) error {
			return p.withBuilder(c, func(env kedge.Env, o kedge.Options) error { return p.build(c, env, o, true) })
		},
	}
}

func varyFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "vary", Usage: "have the second build differ in `RESPECTS`: time, hostname, cpus, umask, locale, order"}
}

func (p *process) build(c *cli.Context, env kedge.Env, o kedge.Options, verified bool) error {
	ctx := c.Context
	want, err := p.wanted(c)
	if err != nil {
		return err
	}
	o.Annotations = want.annotations
	if len(c.StringSlice("vary")) > 0 && !verified {
		return usagef("--vary is about a second build: --verify makes one")
	}
	to, err := p.whereTo(c, want)
	if err != nil {
		return err
	}
	if to.Engine != nil {
		defer to.Close()
	}
	if env.Store, err = p.openStore(ctx); err != nil {
		return err
	}
	defer env.Store.Close()
	if err := want.clear(); err != nil {
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
	if path := c.String("report"); path != "" {
		if err := p.writeReport(path, buildReport(res)); err != nil {
			return err
		}
	}
	if v := res.Verdict; v != nil && !v.Reproducible {
		return p.sayNo(ctx, want, res)
	}
	if res.Lockfile == "" {
		p.say("warning: nothing holds the lock, and the next build may be made from something else: --lockfile FILE names a place for it")
	}
	names, err := want.deliver(ctx, p, env.Store, res, to, env.Auth)
	if err != nil {
		return err
	}
	id := to.id(ctx, res).String()
	if path := want.iidfile; path != "" {
		if err := writeFile(path, func(w io.Writer) error { _, err := io.WriteString(w, id); return err }); err != nil {
			return err
		}
	}
	if err := want.writeMetadata(p, res, names); err != nil {
		return err
	}
	if err := p.writeLock(ctx, res); err != nil {
		return err
	}
	if want.quiet {
		_, err := fmt.Fprintln(want.answer(p), id)
		return err
	}
	return p.print(want.answer(p), want.format, res, names)
}

// tell says what a person may want to know of a build besides its answer.
func (p *process) tell(res *kedge.Result, pull bool) {
	if rules := normalised(res.Image); rules != "" {
		p.note("normalised %s", rules)
	}
	for _, m := range res.Moved {
		p.say("%s %s has moved: %s -> %s; kedge lock --refresh=%s takes it", m.Source.Kind, m.Source.Ref, m.Old, m.New, m.Source.Ref)
	}
	switch {
	case res.NotLookedUp != nil:
		p.say("warning: whether newer images exist is not known: %v", res.NotLookedUp)
	case pull && len(res.Moved) == 0:
		p.note("every image is what the lock says")
	}
	if len(res.NotSought) > 0 {
		p.note("not looked for in the image, since fewer than %d bytes are found everywhere: secret %s", secret.MinSecret, enumerated(res.NotSought, 5))
	}
	if res.NotChecked != nil {
		p.say("warning: what git ignores is not known: %v", res.NotChecked)
	}
	if len(res.Ignored) > 0 {
		p.say("warning: the build was sent %s, which git ignores: another checkout lacks them", enumerated(res.Ignored, 5))
	}
	if len(res.Untracked) > 0 {
		p.say("warning: the build was sent %s, which git does not track: another checkout lacks them", enumerated(res.Untracked, 5))
	}
	if len(res.Modes) > 0 {
		p.say("warning: the build was sent %s executable or not as git records it, and not as it is here: git add it, or --context-modes=keep", enumerated(res.Modes, 5))
	}
	if res.NotReleased != nil {
		p.say("%v", res.NotReleased)
	}
}

// sayNo gives the answer that two builds differ, and delivers no image.
func (p *process) sayNo(ctx context.Context, want *wanted, res *kedge.Result) error {
	answer := want.answer(p)
	if want.quiet {
		answer = p.stderr // stdout is the digest's
	}
	if err := want.writeMetadata(p, res, nil); err != nil {
		return err
	}
	if err := p.print(answer, want.format, res, nil); err != nil {
		return err
	}
	// That the lock could not be written does not change the answer.
	if err := p.writeLock(ctx, res); err != nil {
		p.say("%v", err)
	}
	return errNo
}

func (p *process) writeLock(ctx context.Context, res *kedge.Result) error {
	if err := res.WriteLock(ctx); err != nil {
		return err
	}
	p.sayChanges(false, res.Added)
	return nil
}

// print prints the answer of build and verify.
func (p *process) print(w io.Writer, format string, res *kedge.Result, names []string) error {
	if format == "json" {
		if names == nil {
			names = []string{}
		}
		return printJSON(w, struct {
			Digest   string   `json:"digest"`
			Index    string   `json:"index,omitempty"` // with attestations
			Args     string   `json:"args"`
			Names    []string `json:"names"`
			Lockfile string   `json:"lockfile,omitempty"`
			// Normalised are the paths that rules dropped or changed, by platform and rule.
			Normalised map[string]map[string][]string `json:"normalised,omitempty"`
			Verdict    any                            `json:"verdict,omitempty"`
		}{res.Image.Descriptor.Digest.String(), res.Image.Attested.Digest.String(), res.ArgsHash, names, res.Lockfile, res.Image.Normalised(), res.Verdict})
	}
	if v := res.Verdict; v != nil {
		if v.Reproducible {
			fmt.Fprintln(w, verified(v))
		} else {
			printDifferences(w, res.Dockerfile, v)
		}
	}
	if res.Lockfile != "" {
		fmt.Fprintf(w, "lock    %s\n", res.Lockfile)
	}
	fmt.Fprintf(w, "digest  %s\n", res.Image.Descriptor.Digest)
	if index := res.Image.Attested.Digest; index != "" {
		fmt.Fprintf(w, "index   %s, with attestations\n", index)
	}
	for _, name := range names {
		fmt.Fprintf(w, "tag     %s\n", name)
	}
	return nil
}
