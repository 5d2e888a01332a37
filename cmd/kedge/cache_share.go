package main

import (
	"fmt"

	"github.com/kedge-build/kedge/publish"
	"github.com/kedge-build/kedge/report"
	"github.com/urfave/cli/v2"
)

func (p *process) cachePushVerb() *cli.Command {
	return &cli.Command{
		Name: "push", Usage: "share the locked downloads of a Dockerfile in a registry", ArgsUsage: "[REGISTRY/REPO]",
		Flags: lockfileFlags(), Action: p.cachePush,
	}
}

func (p *process) cachePush(c *cli.Context) error {
	if c.NArg() > 1 {
		return usagef("cache push takes one repository, and got %d", c.NArg())
	}
	record, path, err := p.lockedDownloads(c)
	if err != nil {
		return err
	}
	name := c.Args().First()
	if name == "" {
		name = record.Repo()
	}
	if name == "" {
		return usagef("cache push takes a repository, such as registry.example.com/team/app, if the record names none")
	}
	repo, err := publish.NewRepo(name, p.publishEnv(p.dockerConfig()).Credentials)
	if err != nil {
		return err
	}
	defer repo.Close()
	cache, err := p.openDownloads(c)
	if err != nil {
		return err
	}
	defer cache.Close()
	desc, err := cache.Keep(c.Context, path, record)
	if err != nil {
		return err
	}
	if missing := cache.Missing(record); missing != nil {
		return missing
	}
	if err := repo.Push(c.Context, cache, desc, record.Tag()); err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "%s:%s@%s\n", repo, record.Tag(), desc.Digest)
	return nil
}

func (p *process) cachePullVerb() *cli.Command {
	return &cli.Command{
		Name: "pull", Usage: "fetch the locked downloads of a Dockerfile that kedge lacks", ArgsUsage: "[REGISTRY/REPO]",
		Description: "It looks in the registry first, then at the origins, and for Debian's packages in their archive.",
		Flags:       append(lockfileFlags(), downloadFlags()...), Action: p.cachePull,
	}
}

func (p *process) cachePull(c *cli.Context) error {
	if c.NArg() > 1 {
		return usagef("cache pull takes one repository, and got %d", c.NArg())
	}
	if c.NArg() == 1 {
		if err := c.Set("cache-repo", c.Args().First()); err != nil {
			return err
		}
	}
	record, path, err := p.lockedDownloads(c)
	if err != nil {
		return err
	}
	cache, err := p.openDownloads(c)
	if err != nil {
		return err
	}
	defer cache.Close()
	if _, err := cache.Keep(c.Context, path, record); err != nil {
		return err
	}
	fetched, err := p.restore(c, cache, record)
	if err == nil {
		fmt.Fprintf(p.stdout, "%s fetched\n", report.Counted(len(fetched), "download"))
	}
	return err
}
