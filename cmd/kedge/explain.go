package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/kedge-build/kedge/cause"
	"github.com/kedge-build/kedge/diff"
	"github.com/kedge-build/kedge/diff/source"
	"github.com/kedge-build/kedge/explain"
	"github.com/kedge-build/kedge/rules"
	ocidigest "github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"
)

func (p *process) explainVerb() *cli.Command {
	return &cli.Command{
		Name: "explain", Usage: "say why two images differ, or what normalisation did to one", ArgsUsage: "A B|NAME",
		Description: imageNames + "\nA NAME alone is one of kedge's store.",
		Flags: []cli.Flag{
			platformFlag(), reportFlag(),
			&cli.StringFlag{Name: "format", Value: "text", Usage: "text or json"},
		},
		Action: func(c *cli.Context) error {
			if format := c.String("format"); format != "text" && format != "json" {
				return usagef("format %q is not text or json", format)
			}
			if c.NArg() == 1 {
				if c.String("report") != "" || c.String("platform") != "" {
					return usagef("--report and --platform are for two images")
				}
				return p.explainRules(c)
			}
			return p.withImages(c, func(first, second *source.Image) error { return p.explain(c, first, second) })
		},
	}
}

// explainRules lists what normalisation did to an image of kedge's store.
func (p *process) explainRules(c *cli.Context) error {
	store, err := p.openStore(c.Context)
	if err != nil {
		return err
	}
	defer store.Close()
	desc, err := store.Resolve(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	img, err := store.Image(c.Context, desc)
	if err != nil {
		return err
	}
	all := img.Normalised()
	if len(all) == 0 && c.String("format") == "text" {
		fmt.Fprintln(p.stdout, "no rule did anything")
	}
	if c.String("format") == "json" {
		return printJSON(p.stdout, struct {
			Digest     string                         `json:"digest"`
			Normalised map[string]map[string][]string `json:"normalised"`
		}{desc.Digest.String(), all})
	}
	for _, platform := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintln(p.stdout, platform)
		for _, rule := range slices.Sorted(maps.Keys(all[platform])) {
			what, why := rules.Describe(rule)
			fmt.Fprintf(p.stdout, "  %s: %s %s\n", rule, what, why)
			for _, path := range all[platform][rule] {
				fmt.Fprintf(p.stdout, "    %s\n", plain(path))
			}
		}
	}
	return nil
}

func (p *process) explain(c *cli.Context, first, second *source.Image) error {
	result, err := diff.Images(c.Context, first, second, diff.Options{})
	if err != nil {
		return err
	}
	result.First.Name, result.Second.Name = c.Args().Get(0), c.Args().Get(1)
	files, err := explainFiles(c, first, second, result)
	if err != nil {
		return err
	}
	if path := c.String("report"); path != "" {
		if err := p.writeReport(path, diffReport(result, files)); err != nil {
			return err
		}
	}
	if c.String("format") == "json" {
		err = printJSON(p.stdout, struct {
			*diff.Result
			Files []explain.File `json:"files"`
		}{result, files})
	} else {
		p.printExplained(result, files)
	}
	if err == nil && !result.Same {
		err = errNo
	}
	return err
}

func explainFiles(c *cli.Context, first, second *source.Image, result *diff.Result) ([]explain.File, error) {
	paths := make([]diff.Path, len(result.Files))
	for i, f := range result.Files {
		paths[i] = f.Path
	}
	a, err := layersOf(first)
	if err != nil {
		return nil, err
	}
	b, err := layersOf(second)
	if err != nil {
		return nil, err
	}
	return explain.Files(c.Context, a, b, paths, cause.Hints{})
}

func layersOf(img *source.Image) ([]diff.Blob, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	var blobs []diff.Blob
	for _, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return nil, err
		}
		diffID, err := l.DiffID()
		if err != nil {
			return nil, err
		}
		blobs = append(blobs, diff.Blob{Open: l.Compressed, Digest: ocidigest.Digest(digest.String()), DiffID: ocidigest.Digest(diffID.String())})
	}
	return blobs, nil
}

func (p *process) printExplained(d *diff.Result, files []explain.File) {
	if d.Same {
		fmt.Fprintln(p.stdout, "same")
		return
	}
	fmt.Fprintf(p.stdout, "different: %s, %s, %s\n", counted(len(files), "file"), counted(len(d.Packages), "package"), counted(len(d.Config), "setting"))
	for i, f := range files {
		if i == maxExplained {
			fmt.Fprintf(p.stdout, "    and %d more (--format json has all)\n", len(files)-i)
			break
		}
		printFile(p.stdout, f)
	}
	for _, s := range d.Config {
		fmt.Fprintf(p.stdout, "    config   %s: %s -> %s\n", plain(s.Key), quoted(s.First), quoted(s.Second))
	}
}

// maxExplained is how many files are printed.
const maxExplained = 100
