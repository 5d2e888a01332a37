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
	return &cli.Command{
		Name: "images", Usage: "list the images in kedge's store",
		Action: func(c *cli.Context) error {
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
			damaged := 0
			for _, e := range entries {
				names := e.Names
				if len(names) == 0 {
					names = []string{"<none>"}
				}
				if e.Err != nil {
					damaged++
					p.say("warning: %s, %s, is left out: %v", strings.Join(names, ", "), e.Descriptor.Digest.Encoded()[:12], e.Err)
					continue
				}
				for _, name := range names {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", name, e.Descriptor.Digest.Encoded()[:12],
						strings.Join(e.Platforms, ","), e.Created.UTC().Format(time.DateOnly), units.HumanSize(float64(e.Size)))
				}
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if damaged > 0 {
				fmt.Fprintf(p.stderr, "hint: %s\n", damagedHint)
			}
			return nil
		},
	}
}

// damagedHint says what to do about an image that is damaged.
const damagedHint = "kedge prune removes images that are damaged; build them again then"

func (p *process) exportVerb() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write an image of kedge's store to a file or folder", ArgsUsage: "NAME|DIGEST",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "output", Aliases: []string{"o"}, Usage: "`type=oci|docker|tar|local,dest=PATH`"},
		},
		Action: func(c *cli.Context) error {
			outputs, err := p.parseOutputs(c.StringSlice("output"))
			if err != nil {
				return err
			}
			if c.NArg() != 1 || len(outputs) == 0 {
				return usagef("export takes one NAME or DIGEST, and -o type=oci|docker|tar|local,dest=PATH")
			}
			for _, o := range outputs {
				if o.dest == "" {
					return usagef("export writes files, and -o type=%s has no dest=PATH", o.kind)
				}
			}
			store, err := p.openStore(c.Context)
			if err != nil {
				return err
			}
			defer store.Close()
			desc, err := store.Resolve(c.Context, c.Args().First())
			if err != nil {
				return err
			}
			entries, err := store.Images(c.Context)
			if err != nil {
				return err
			}
			out := delivery{store: store, desc: desc}
			for _, e := range entries {
				if e.Descriptor.Digest == desc.Digest {
					out.names = e.Names
				}
			}
			for _, o := range outputs {
				if err := out.write(c.Context, p, o); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (p *process) pruneVerb() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "remove images without a name, or damaged, from kedge's store",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "remove every image"}},
		Action: func(c *cli.Context) error {
			store, err := p.openStore(c.Context)
			if err != nil {
				return err
			}
			defer store.Close()
			pruned, err := store.Prune(c.Context, c.Bool("all"))
			if err != nil {
				return err
			}
			for _, e := range pruned.Damaged {
				p.say("%s was damaged: %v", strings.Join(e.Names, ", "), e.Err)
			}
			fmt.Fprintf(p.stdout, "removed %s, %s\n", counted(len(pruned.Images), "image"), units.HumanSize(float64(pruned.Bytes)))
			return nil
		},
	}
}
