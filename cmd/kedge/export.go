package main

import (
	"slices"

	"github.com/kedge-build/kedge/publish"
	"github.com/kedge-build/kedge/store"
	"github.com/urfave/cli/v2"
)

func (p *process) exportVerb() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write an image from kedge's store to a file or folder", ArgsUsage: "NAME|DIGEST",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "output", Aliases: []string{"o"}, Usage: "`type=oci|docker|tar|local,dest=PATH`"},
		},
		Action: p.export,
	}
}

func (p *process) export(c *cli.Context) error {
	outputs, _, err := p.parseOutputs(c.StringSlice("output"))
	if err != nil {
		return err
	}
	if c.NArg() != 1 || len(outputs) == 0 {
		return usagef("export takes one NAME or DIGEST, and -o type=oci|docker|tar|local,dest=PATH")
	}
	for _, o := range outputs {
		if o.Dest == "" {
			return usagef("export writes files, and -o type=%s has no dest=PATH", o.Type)
		}
	}
	if err := (publish.Wanted{Outputs: outputs}).Check(); err != nil {
		return err
	}
	st, err := p.openStore(c.Context)
	if err != nil {
		return err
	}
	defer st.Close()
	desc, err := st.Resolve(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	entries, err := st.Images(c.Context)
	if err != nil {
		return err
	}
	var names []string
	if i := slices.IndexFunc(entries, func(e store.Entry) bool { return e.Descriptor.Digest == desc.Digest }); i >= 0 {
		names = entries[i].Names
	}
	for _, o := range outputs {
		if err := o.Write(c.Context, st, desc, names, p.stdout); err != nil {
			return err
		}
	}
	return nil
}
