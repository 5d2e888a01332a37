package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/kedge-build/kedge/build"
	"github.com/kedge-build/kedge/builder"
	"github.com/urfave/cli/v2"
)

func (p *process) buildVerb() *cli.Command {
	return &cli.Command{
		Name: "build", Usage: "build an image from a Dockerfile", ArgsUsage: "PATH",
		Flags: append(append(sourceFlags(), p.lockedFlag()), []cli.Flag{
			&cli.StringSliceFlag{Name: "tag", Aliases: []string{"t"}, Usage: "name the image `NAME[:TAG]`, and NAME:[TAG-]args-HASH"},
			&cli.BoolFlag{Name: "verify", Usage: "build a second time and compare"},
			&cli.BoolFlag{Name: "no-cache", Usage: "take no step from the builder's cache"},
			&cli.StringSliceFlag{Name: "output", Aliases: []string{"o"}, Usage: "also write `type=oci|docker,dest=FILE`"},
			&cli.BoolFlag{Name: "load", Usage: "load the image into Docker"},
			&cli.BoolFlag{Name: "push", Usage: "push the image to the registries of its names"},
			&cli.StringFlag{Name: "format", Value: "text", Usage: "text, or json for a value on stdout"},
			&cli.StringFlag{Name: "metadata-file", Usage: "write what was built, as JSON, to `FILE`"},
			reportFlag(), varyFlag(),
		}...),
		Action: func(c *cli.Context) error {
			return p.withBuilder(c, func(b *builder.Builder, o build.Options) error {
				return p.build(c, b, o, c.Bool("verify"))
			})
		},
	}
}

func (p *process) verifyVerb() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "build twice and say whether it is the same, bit for bit", ArgsUsage: "PATH",
		Flags: append(append(sourceFlags(), p.lockedFlag()),
			&cli.BoolFlag{Name: "no-cache", Usage: "take no step of the first build from the builder's cache; the second never does"},
			&cli.StringFlag{Name: "format", Value: "text", Usage: "text, or json for a value on stdout"},
			reportFlag(), varyFlag()),
		Action: func(c *cli.Context) error {
			return p.withBuilder(c, func(b *builder.Builder, o build.Options) error { return p.build(c, b, o, true) })
		},
	}
}

func varyFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "vary", Usage: "have the second build differ in `RESPECTS`: time, hostname, cpus, umask, locale, order"}
}

func (p *process) build(c *cli.Context, b *builder.Builder, o build.Options, verified bool) error {
	ctx := c.Context
	outputs, err := parseOutputs(c.StringSlice("output"))
	if err != nil {
		return err
	}
	if format := c.String("format"); format != "text" && format != "json" {
		return usagef("format %q is not text or json", format)
	}
	if len(c.StringSlice("vary")) > 0 && !verified {
		return usagef("--vary is about a second build: --verify makes one")
	}
	for _, path := range []string{c.String("report"), c.String("metadata-file")} {
		if path != "" {
			if err := (output{dest: path}).check(); err != nil {
				return err
			}
		}
	}
	tags := c.StringSlice("tag")
	if _, err := build.Names(tags, "0123456789ab"); err != nil {
		return usageError{err}
	}
	if c.Bool("push") && len(tags) == 0 {
		return usagef("--push needs a name: -t NAME")
	}
	var docker *engine
	if c.Bool("load") {
		if docker, err = p.findEngine(ctx); err != nil {
			return err
		}
	}
	store, err := p.openStore(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	res, err := build.Run(ctx, b, store, o, verified)
	if err != nil {
		return err
	}
	if rules := normalised(res.Image); rules != "" {
		p.say("normalised %s", rules)
	}
	if res.NotChecked != nil {
		p.say("warning: what git ignores is not known: %v", res.NotChecked)
	}
	if len(res.Ignored) > 0 {
		p.say("warning: the build was sent %s, which git ignores: another checkout lacks them", enumerated(res.Ignored, 5))
	}
	if res.NotReleased != nil {
		p.say("%v", res.NotReleased)
	}
	if path := c.String("report"); path != "" {
		if err := p.writeReport(path, buildReport(res)); err != nil {
			return err
		}
	}
	answer := p.stdout
	for _, o := range outputs {
		if o.dest == "-" {
			answer = p.stderr // stdout is the archive's
		}
	}
	if v := res.Verdict; v != nil && !v.Reproducible {
		if path := c.String("metadata-file"); path != "" {
			if err := writeMetadata(path, res, nil); err != nil {
				return err
			}
		}
		if err := p.print(answer, c.String("format"), res, nil); err != nil {
			return err
		}
		// That the lock could not be written does not change the answer.
		if err := p.writeLock(ctx, res); err != nil {
			p.say("%v", err)
		}
		return errNo
	}
	names, err := build.Names(tags, res.ArgsHash)
	if err != nil {
		return usageError{err}
	}
	if len(names) > 0 {
		if err := store.Tag(ctx, names, res.Image.Descriptor); err != nil {
			return err
		}
	}
	out := delivery{store: store, desc: res.Image.Descriptor, names: names}
	for _, o := range outputs {
		if err := out.write(ctx, p, o); err != nil {
			return err
		}
	}
	if docker != nil {
		if err := out.load(ctx, p, docker); err != nil {
			return err
		}
	}
	if c.Bool("push") {
		if err := out.push(ctx, p, o.Auth); err != nil {
			return err
		}
	}
	if path := c.String("metadata-file"); path != "" {
		if err := writeMetadata(path, res, names); err != nil {
			return err
		}
	}
	if err := p.writeLock(ctx, res); err != nil {
		return err
	}
	return p.print(answer, c.String("format"), res, names)
}

// writeMetadata writes buildx's keys, and kedge's own below kedge.
func writeMetadata(path string, res *build.Result, names []string) error {
	metadata := map[string]any{
		"containerimage.digest": res.Image.Descriptor.Digest,
		"containerimage.descriptor": map[string]any{
			"mediaType": res.Image.Descriptor.MediaType, "digest": res.Image.Descriptor.Digest, "size": res.Image.Descriptor.Size,
		},
		"kedge.args":       res.ArgsHash,
		"kedge.epoch":      res.Epoch.Unix(),
		"kedge.lockfile":   res.Lockfile,
		"kedge.normalised": res.Image.Normalised(),
	}
	if len(res.Image.Manifests) == 1 {
		metadata["containerimage.config.digest"] = res.Image.Manifests[0].Config
	}
	if len(names) > 0 {
		metadata["image.name"] = strings.Join(names, ",")
	}
	if res.Verdict != nil {
		metadata["kedge.verdict"] = res.Verdict
	}
	return writeFile(path, func(w io.Writer) error { return printJSON(w, metadata) })
}

func (p *process) writeLock(ctx context.Context, res *build.Result) error {
	if err := res.WriteLock(ctx); err != nil {
		return err
	}
	p.sayChanges(false, res.Added)
	return nil
}

// print prints the answer of build and verify.
func (p *process) print(w io.Writer, format string, res *build.Result, names []string) error {
	if format == "json" {
		if names == nil {
			names = []string{}
		}
		return printJSON(w, struct {
			Digest   string   `json:"digest"`
			Args     string   `json:"args"`
			Names    []string `json:"names"`
			Lockfile string   `json:"lockfile"`
			// Normalised are the paths that rules dropped or changed, by platform and rule.
			Normalised map[string]map[string][]string `json:"normalised,omitempty"`
			Verdict    any                            `json:"verdict,omitempty"`
		}{res.Image.Descriptor.Digest.String(), res.ArgsHash, names, res.Lockfile, res.Image.Normalised(), res.Verdict})
	}
	if v := res.Verdict; v != nil {
		if v.Reproducible {
			fmt.Fprintln(w, "verified: two builds, the same bit for bit")
		} else {
			printDifferences(w, res.Dockerfile, v)
		}
	}
	fmt.Fprintf(w, "lock    %s\n", res.Lockfile)
	fmt.Fprintf(w, "digest  %s\n", res.Image.Descriptor.Digest)
	for _, name := range names {
		fmt.Fprintf(w, "tag     %s\n", name)
	}
	return nil
}
