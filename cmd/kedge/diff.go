package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/kedge-build/kedge/diff"
	"github.com/kedge-build/kedge/diff/source"
	"github.com/kedge-build/kedge/explain"
	"github.com/kedge-build/kedge/report"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"
)

const imageNames = "Name an image by a path, a name in kedge's store or the Docker Engine, or a registry\nreference, tried in this order, or with a prefix:\n" +
	"docker://REF, docker-daemon:NAME, oci:DIR[:NAME], oci-archive:FILE[:NAME],\ndocker-archive:FILE[:NAME], store:NAME."

func platformFlag() cli.Flag {
	return &cli.StringFlag{Name: "platform", Usage: "the `PLATFORM` to choose from an index (default: linux on this machine's architecture)"}
}

func (p *process) diffVerb() *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "show how two images differ", ArgsUsage: "A B",
		Description: imageNames,
		Flags: []cli.Flag{
			platformFlag(), reportFlag(),
			formatFlag(),
			&cli.StringSliceFlag{Name: "type", Usage: "compare only `TYPE,...`: " + strings.Join(diff.Types(), ", ")},
		},
		Action: p.diff,
	}
}

func (p *process) diff(c *cli.Context) error {
	if _, err := answerFormat(c); err != nil {
		return err
	}
	var o diff.Options
	for _, list := range c.StringSlice("type") {
		for t := range strings.SplitSeq(list, ",") {
			if alias, ok := map[string]string{"apt": "deb", "pip": "pypi", "node": "npm"}[t]; ok { // as container-diff calls them
				t = alias
			}
			if !slices.Contains(diff.Types(), t) {
				return usagef("type %q is not one of %s", t, strings.Join(diff.Types(), ", "))
			}
			o.Types = append(o.Types, t)
		}
	}
	return p.withImages(c, func(first, second *source.Image) error { return p.compare(c, first, second, o) })
}

// withImages opens the two images that a verb is given, and passes them on.
func (p *process) withImages(c *cli.Context, verb func(first, second *source.Image) error) error {
	if c.NArg() != 2 {
		return usagef("%s takes two images, A and B, and got %d", c.Command.Name, c.NArg())
	}
	sources, done, err := p.imageSources(c)
	if err != nil {
		return err
	}
	defer done()
	first, err := source.Open(c.Context, c.Args().Get(0), sources)
	if err != nil {
		return err
	}
	defer first.Close()
	second, err := source.Open(c.Context, c.Args().Get(1), sources)
	if err != nil {
		return err
	}
	defer second.Close()
	return verb(first, second)
}

// imagePlatform returns the platform of --platform, or nil.
func imagePlatform(c *cli.Context) (*v1.Platform, error) {
	s := c.String("platform")
	if s == "" {
		return nil, nil
	}
	p, err := platforms.Parse(s)
	if err != nil {
		return nil, usagef("platform %q: %v", s, err)
	}
	return normalPlatform(v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion}), nil
}

// normalPlatform returns a platform in the form that names of platforms are compared in: linux/arm64 is linux/arm64/v8.
func normalPlatform(p v1.Platform) *v1.Platform {
	normal := platforms.Normalize(ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant})
	p.OS, p.Architecture, p.Variant = normal.OS, normal.Architecture, normal.Variant
	return &p
}

// imageSources returns where images can be, for the platform of --platform. The caller must call done.
func (p *process) imageSources(c *cli.Context) (sources source.Options, done func(), err error) {
	sources = source.Options{Keychain: authn.DefaultKeychain, Docker: p.saveFromDocker, InDocker: p.inDocker}
	if sources.Platform, err = imagePlatform(c); err != nil {
		return sources, nil, err
	}
	// Files and registries need no store: do not make one.
	if _, err := os.Stat(p.storeDir()); err != nil {
		return sources, func() {}, nil
	}
	if sources.Store, err = p.openStore(c.Context); err != nil {
		return sources, nil, err
	}
	return sources, func() { sources.Store.Close() }, nil
}

// compare compares two images. It explains the files only for a page.
func (p *process) compare(c *cli.Context, first, second *source.Image, o diff.Options) error {
	// The garbage of a large layer's headers must not double what the comparison takes.
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	result, err := diff.Images(c.Context, first, second, o)
	if err != nil {
		return err
	}
	if result.Same && len(o.Types) == 0 {
		// Equal digests say that what they name is the same, and not that it is there.
		for i, img := range []*source.Image{first, second} {
			if err := img.Check(c.Context); err != nil {
				return fmt.Errorf("image %q: %w", c.Args().Get(i), err)
			}
		}
	}
	result.First.Name, result.Second.Name = c.Args().Get(0), c.Args().Get(1)
	var files []explain.File
	if c.Command.Name == "explain" || c.String("report") != "" {
		if files, err = explainFiles(c.Context, first, second, result); err != nil {
			return err
		}
	}
	return p.report(c, report.NewDiff(c.Command.Name, result, files))
}
