package main

import (
	"errors"
	"fmt"

	"github.com/kedge-build/kedge/network"
	"github.com/kedge-build/kedge/report"
	"github.com/urfave/cli/v2"
)

func (p *process) cacheVerifyVerb() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "read every kept download, and fetch again those that are damaged or missing",
		Flags: append(downloadFlags(), offlineFlag()), Action: p.cacheVerify,
	}
}

func (p *process) cacheVerify(c *cli.Context) error {
	cache, err := p.openDownloads(c)
	if err != nil {
		return err
	}
	defer cache.Close()
	damaged, err := cache.Damaged(c.Context)
	if err != nil {
		return err
	}
	for _, d := range damaged {
		p.say("%s is damaged", d)
	}
	records, err := cache.Records()
	restored, missing := 0, &network.MissingError{}
	for _, k := range records {
		fetched, restoreErr := p.restore(c, cache, k.Record)
		for _, e := range fetched {
			p.note("fetched %s again", e.URL)
		}
		restored += len(fetched)
		var lost *network.MissingError
		if errors.As(restoreErr, &lost) {
			missing.Add(lost)
		} else if err = errors.Join(err, restoreErr); c.Err() != nil {
			return err
		}
	}
	if len(missing.Entries) > 0 {
		err = errors.Join(err, missing)
	}
	if err == nil {
		fmt.Fprintf(p.stdout, "%s, %s fetched again\n", report.Counted(len(records), "record"), report.Counted(restored, "download"))
	}
	return err
}

// restore fetches the bodies of a record that the cache lacks.
func (p *process) restore(c *cli.Context, cache *network.Cache, record *network.Record) ([]network.Entry, error) {
	o, release, err := p.networkOptions(c, cache, record)
	if err != nil {
		return nil, err
	}
	defer release()
	proxy := network.NewReplayer(o)
	fetched, err := proxy.Restore(c.Context)
	return fetched, errors.Join(err, proxy.Close(c.Context))
}
