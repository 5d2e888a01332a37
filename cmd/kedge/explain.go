package main

import (
	"context"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/cause"
	"github.com/kedge-build/kedge/diff"
	"github.com/kedge-build/kedge/diff/source"
	"github.com/kedge-build/kedge/explain"
	"github.com/kedge-build/kedge/report"
	"github.com/kedge-build/kedge/store"
	ocidigest "github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"
)

func (p *process) explainVerb() *cli.Command {
	return &cli.Command{
		Name: "explain", Usage: "show why two images differ, or what normalisation changed in one", ArgsUsage: "A B|NAME",
		Description: imageNames + "\nA single NAME is an image in kedge's store.",
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
	desc, err := store.Resolve(c.Context, strings.TrimPrefix(c.Args().First(), "store:"))
	if err != nil {
		return err
	}
	img, err := store.Image(c.Context, desc)
	if err != nil {
		return err
	}
	r := report.NewImage(c.Command.Name, desc.Digest.String(), img.Normalised())
	r.Touched = touched(img)
	return p.report(c, r)
}

// touched returns the layers of an image that rules changed.
func touched(img store.Image) []report.TouchedLayer {
	var layers []report.TouchedLayer
	for _, m := range img.Manifests {
		for i, l := range m.Layers {
			var paths []string
			for _, normalised := range l.Normalised {
				for _, path := range normalised {
					paths = append(paths, "/"+path)
				}
			}
			slices.Sort(paths)
			if len(paths) > 0 {
				layers = append(layers, report.TouchedLayer{
					Platform: platforms.Format(m.Platform), Index: i, CreatedBy: l.CreatedBy, Paths: slices.Compact(paths),
				})
			}
		}
	}
	return layers
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
