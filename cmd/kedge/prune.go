package main

import (
	"fmt"
	"strings"

	"github.com/docker/go-units"
	"github.com/kedge-build/kedge/report"
	"github.com/urfave/cli/v2"
)

func (p *process) pruneVerb() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "remove unnamed and damaged images from kedge's store",
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
			if err := (&engineImages{dir: p.engineDir()}).prune(0); err != nil {
				return err
			}
			for _, e := range pruned.Damaged {
				p.say("%s was damaged: %v", strings.Join(e.Names, ", "), e.Err)
			}
			fmt.Fprintf(p.stdout, "removed %s, %s\n", report.Counted(len(pruned.Images), "image"), units.HumanSize(float64(pruned.Bytes)))
			return nil
		},
	}
}
