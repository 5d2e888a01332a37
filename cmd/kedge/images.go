package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"
)

func (p *process) imagesVerb() *cli.Command {
	return &cli.Command{Name: "images", Usage: "list the images in kedge's store", Action: p.images}
}

func (p *process) images(c *cli.Context) error {
	store, err := p.openStore(c.Context)
	if err != nil {
		return err
	}
	defer store.Close()
	entries, err := store.Images(c.Context)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tDIGEST\tPLATFORMS\tCREATED\tSIZE")
	damaged := false
	for _, e := range entries {
		names := e.Names
		if len(names) == 0 {
			names = []string{"<none>"}
		}
		id := e.Descriptor.Digest.Encoded()[:12]
		if e.Err != nil {
			damaged = true
			p.say("warning: %s, %s, is left out: %v", strings.Join(names, ", "), id, e.Err)
			continue
		}
		for _, name := range names {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", name, id,
				strings.Join(e.Platforms, ","), e.Created.UTC().Format(time.DateOnly), units.HumanSize(float64(e.Size)))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if damaged {
		p.hint(damagedHint)
	}
	return nil
}
