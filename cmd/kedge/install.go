package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/kedge-build/kedge/docker"
	"github.com/kedge-build/kedge/plugin"
	"github.com/urfave/cli/v2"
)

func (p *process) installVerb() *cli.Command {
	return &cli.Command{
		Name: "install", Usage: "install kedge as a docker command, as docker build or as docker buildx",
		Description: "It links kedge into docker's folder of plugins, so that docker kedge build runs kedge build.\n" +
			"With --alias, docker build, docker builder build and docker image build run kedge, too.\n" +
			"With --buildx, so do docker buildx build, docker buildx bake and docker compose build; every other\n" +
			"verb of docker buildx goes to the docker-buildx that was there. --undo restores the earlier state.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "alias", Usage: "make docker build run kedge"},
			&cli.BoolFlag{Name: "buildx", Usage: "make docker build, docker buildx build and bake, and docker compose run kedge"},
			&cli.BoolFlag{Name: "undo", Usage: "undo the installation"},
		},
		Action: func(c *cli.Context) error {
			for _, name := range []string{"alias", "buildx"} {
				if c.Bool(name) && c.Bool("undo") {
					return usagef("--undo undoes that, too: leave --%s out", name)
				}
			}
			program, err := os.Executable()
			if err != nil {
				return err
			}
			if c.Bool("undo") {
				return p.uninstall(program)
			}
			return p.install(program, c.Bool("alias"), c.Bool("buildx"))
		},
	}
}

func (p *process) install(program string, alias, buildx bool) error {
	var front plugin.Change
	var kept string
	if buildx {
		var err error
		if front, kept, err = plugin.InstallBuildx(docker.Dir(p.env), program, extraDirs(p.env)); err != nil {
			return err
		}
		p.sayLinked(front)
		if kept != "" {
			p.say("the docker-buildx that was there is %s now", kept)
		}
	}
	link, aliased, err := plugin.Install(docker.Dir(p.env), program, alias)
	p.sayLinked(link)
	if aliased != (plugin.Change{}) {
		p.say("set the alias builder in %s to %s", aliased.Path, aliased.New)
		if aliased.Old != "" {
			p.say("it was %s", aliased.Old)
		}
	}
	if err != nil {
		return err
	}
	if link == aliased && front == link {
		p.say("nothing to do: it is installed")
	}
	line := "docker kedge runs kedge; with kedge install --alias, docker build does, too"
	switch {
	case buildx:
		line = "docker build, docker buildx build, docker buildx bake and docker compose build run kedge; kedge install --undo undoes this"
	case alias:
		line = "docker build runs kedge; docker buildx build, bake, docker compose and dev containers do not (kedge install --buildx); kedge install --undo undoes this"
	}
	_, err = fmt.Fprintln(p.stdout, line)
	return err
}

func (p *process) sayLinked(link plugin.Change) {
	if link == (plugin.Change{}) {
		return
	}
	p.say("linked %s to %s", link.Path, link.New)
	if link.Old != "" {
		p.say("it was a link to %s", link.Old)
	}
}

func (p *process) uninstall(program string) error {
	front, restored, err := plugin.UndoBuildx(docker.Dir(p.env), program)
	if err != nil {
		return err
	}
	if restored != "" {
		p.say("put back %s", restored)
	}
	link, aliased, err := plugin.Undo(docker.Dir(p.env), program)
	if aliased != (plugin.Change{}) {
		if aliased.New != "" {
			p.say("set the alias builder in %s back to %s", aliased.Path, aliased.New)
		} else {
			p.say("removed the alias builder from %s", aliased.Path)
		}
	}
	if link != (plugin.Change{}) {
		p.say("removed %s", link.Path)
	}
	if front != (plugin.Change{}) && restored == "" {
		p.say("removed %s", front.Path)
	}
	if err == nil && link == aliased && front == link {
		p.say("nothing to do: it is not installed")
	}
	return err
}

// pluginMetadataVerb answers the first question that docker asks a plugin.
func (p *process) pluginMetadataVerb() *cli.Command {
	return &cli.Command{
		Name: metadataVerb, Hidden: true, Usage: "tell docker what this plugin is",
		Action: func(*cli.Context) error {
			return json.NewEncoder(p.stdout).Encode(struct {
				SchemaVersion, Vendor, Version, ShortDescription, URL string
			}{"0.1.0", "kedge", version, "Build container images that come out the same, bit for bit", "https://github.com/kedge-build/kedge"})
		},
	}
}

const metadataVerb = "docker-cli-plugin-metadata"
