package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"
)

func (p *process) cacheVerb() *cli.Command {
	return &cli.Command{
		Name: "cache", Usage: "manage the downloads of RUN steps that kedge keeps",
		Subcommands: []*cli.Command{
			p.cacheListVerb(), p.cacheShowVerb(), p.cacheVerifyVerb(), p.cachePruneVerb(), p.cacheUsageVerb(), p.cachePushVerb(), p.cachePullVerb(),
		},
	}
}

func (p *process) cacheListVerb() *cli.Command {
	return &cli.Command{
		Name: "ls", Usage: "list what each RUN step of a Dockerfile downloads", Flags: lockfileFlags(), Action: p.cacheList,
	}
}

func (p *process) cacheList(c *cli.Context) error {
	record, _, err := p.lockedDownloads(c)
	if err != nil {
		return err
	}
	cache, err := p.openDownloads(c)
	if err != nil {
		return err
	}
	defer cache.Close()
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	steps := record.Steps()
	for _, use := range record.ByStep() {
		name := steps[use.Step]
		if name == "" {
			name = "no step of this Dockerfile"
		}
		fmt.Fprintf(w, "%s\n", harmless(name))
		for _, e := range use.Entries {
			state := ""
			if e.Digest != "" && !cache.Has(e.Digest) {
				state = "missing"
			}
			fmt.Fprintf(w, "  %s\t%d\t%s\t%s\t%s\n", e.Method, e.Status, units.HumanSize(float64(max(e.Size, 0))), harmless(e.URL), state)
		}
	}
	for _, host := range record.Allowed() {
		fmt.Fprintf(w, "not locked: %s\n", host)
	}
	return w.Flush()
}
