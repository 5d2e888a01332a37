package main

import (
	"context"

	"github.com/kedge-build/kedge/cause"
	"github.com/kedge-build/kedge/diff"
	"github.com/kedge-build/kedge/diff/source"
	"github.com/kedge-build/kedge/explain"
	"github.com/kedge-build/kedge/report"
	ocidigest "github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"
)

func (p *process) explainVerb() *cli.Command {
	return &cli.Command{
		Name: "explain", Usage: "say why two images differ, or what normalisation did to one", ArgsUsage: "A B|NAME",
		Description: imageNames + "\nA NAME alone is one of kedge's store.",
		Flags: []cli.Flag{
			platformFlag(), reportFlag(), formatFlag(),
		},
		Action: func(c *cli.Context) error {
			if _, err := answerFormat(c); err != nil {
				return err
			}
			if c.NArg() == 1 {
				if c.String("platform") != "" {
					return usagef("--platform is for two images")
				}
				return p.explainRules(c)
			}
			return p.withImages(c, func(first, second *source.Image) error { return p.compare(c, first, second, diff.Options{}) })
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
	return p.report(c, report.NewImage(c.Command.Name, desc.Digest.String(), img.Normalised()))
}

// explainFiles explains each file that differs.
func explainFiles(ctx context.Context, first, second *source.Image, result *diff.Result) ([]explain.File, error) {
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
	return explain.Files(ctx, a, b, paths, cause.Hints{})
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
