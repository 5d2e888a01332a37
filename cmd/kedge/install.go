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
		Name: "install", Usage: "install kedge as a docker command, and with --alias as docker build",
		Description: "It links kedge into docker's folder of plugins, so that docker kedge build runs kedge build.\n" +
			"With --alias, docker build, docker builder build and docker image build run kedge, too;\n" +
			"docker buildx stays as it is. --undo restores the earlier state.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "alias", Usage: "make docker build run kedge"},
			&cli.BoolFlag{Name: "undo", Usage: "undo the installation"},
		},
		Action: func(c *cli.Context) error {
			if c.Bool("alias") && c.Bool("undo") {
				return usagef("--undo removes the alias, too: leave --alias out")
			}
			program, err := os.Executable()
			if err != nil {
				return err
			}
			if c.Bool("undo") {
				return p.uninstall(program)
			}
			return p.install(program, c.Bool("alias"))
		},
	}
}

func (p *process) install(program string, alias bool) error {
	link, aliased, err := plugin.Install(docker.Dir(p.env), program, alias)
	if link != (plugin.Change{}) {
		p.say("linked %s to %s", link.Path, link.New)
		if link.Old != "" {
			p.say("it was a link to %s", link.Old)
		}
	}
	if aliased != (plugin.Change{}) {
		p.say("set the alias builder in %s to %s", aliased.Path, aliased.New)
		if aliased.Old != "" {
			p.say("it was %s", aliased.Old)
		}
	}
	if err != nil {
		return err
	}
	if link == aliased {
		p.say("nothing to do: it is installed")
	}
	if alias {
		_, err = fmt.Fprintln(p.stdout, "docker build runs kedge; kedge install --undo undoes this")
	} else {
		_, err = fmt.Fprintln(p.stdout, "docker kedge runs kedge; with kedge install --alias, docker build does, too")
	}
	return err
}

func (p *process) uninstall(program string) error {
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
	if err == nil && link == aliased {
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
