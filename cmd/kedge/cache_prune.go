package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/docker/go-units"
	"github.com/kedge-build/kedge/report"
	"github.com/urfave/cli/v2"
)

func (p *process) cachePruneVerb() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "remove downloads that are damaged or that no record needs",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "remove every download"}},
		Action: func(c *cli.Context) error {
			cache, err := p.openDownloads(c)
			if err != nil {
				return err
			}
			defer cache.Close()
			pruned, err := cache.Prune(c.Context, c.Bool("all"))
			if err != nil {
				return err
			}
			for _, path := range pruned.Records {
				p.note("forgot %s", path)
			}
			fmt.Fprintf(p.stdout, "removed %s, %s\n", report.Counted(pruned.Files, "file"), units.HumanSize(float64(pruned.Bytes)))
			return nil
		},
	}
}

func (p *process) cacheUsageVerb() *cli.Command {
	return &cli.Command{Name: "du", Usage: "print the size of each record, and how much of it no other record shares", Action: p.cacheUsage}
}

func (p *process) cacheUsage(c *cli.Context) error {
	cache, err := p.openDownloads(c)
	if err != nil {
		return err
	}
	defer cache.Close()
	records, total, unused, err := cache.Usage()
	w := tabwriter.NewWriter(p.stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "RECORD\tDOWNLOADS\tSIZE\tNOT SHARED\tMISSING")
	size := func(n int64) string { return units.HumanSize(float64(n)) }
	for _, u := range records {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%d\n", harmless(u.Path), u.Downloads, size(u.Bytes), size(u.Only), u.Missing)
	}
	fmt.Fprintf(w, "all files\t\t%s\t\t\n", size(total))
	fmt.Fprintf(w, "kedge cache prune frees\t\t%s\t\t\n", size(unused))
	if flushErr := w.Flush(); flushErr != nil {
		return flushErr
	}
	return err
}
