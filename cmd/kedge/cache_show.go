package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/kedge-build/kedge/network"
	"github.com/urfave/cli/v2"
)

func (p *process) cacheShowVerb() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "describe a download, with the steps and records that have it", ArgsUsage: "URL | DIGEST",
		Flags:  []cli.Flag{&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write its bytes to a `FILE`, or to standard output (-)"}},
		Action: p.cacheShow,
	}
}

func (p *process) cacheShow(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef("cache show takes one URL or digest, and got %d", c.NArg())
	}
	cache, err := p.openDownloads(c)
	if err != nil {
		return err
	}
	defer cache.Close()
	uses, err := cache.Uses(c.Args().First())
	if err != nil {
		return err
	}
	if to := c.String("output"); to != "" {
		return p.writeBody(cache, uses, to)
	}
	for _, use := range uses {
		p.printUse(use)
	}
	return nil
}

func (p *process) printUse(use network.Use) {
	e := use.Entry
	fmt.Fprintf(p.stdout, "%s %s\n  record: %s\n  status: %d\n", e.Method, harmless(e.URL), harmless(use.Path), e.Status)
	if e.Digest != "" {
		fmt.Fprintf(p.stdout, "  digest: %s\n  size:   %d\n", e.Digest, e.Size)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Header)) {
		fmt.Fprintf(p.stdout, "  %s: %s\n", name, harmless(e.Header[name]))
	}
	for _, step := range use.Steps {
		fmt.Fprintf(p.stdout, "  step:   %s\n", harmless(step))
	}
}

// writeBody writes the one body that uses have.
func (p *process) writeBody(cache *network.Cache, uses []network.Use, to string) error {
	dgst := uses[0].Entry.Digest
	if dgst == "" || slices.ContainsFunc(uses, func(u network.Use) bool { return u.Entry.Digest != dgst }) {
		return errors.New("the records have no body, or several: name one by its digest")
	}
	if to != "-" {
		return cache.Export(dgst, to)
	}
	body, err := cache.Open(dgst)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(p.stdout, body)
	return err
}
