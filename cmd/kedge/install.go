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
		Name: "install", Usage: "become a docker command, and docker build itself with --alias",
		Description: "It links kedge into docker's folder of plugins: docker kedge build is kedge build then.\n" +
			"--alias has docker build, docker builder build and docker image build run kedge, too;\n" +
			"docker buildx stays what it is. --undo brings back what was there before.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "alias", Usage: "have docker build run kedge"},
			&cli.BoolFlag{Name: "undo", Usage: "take back what install did"},
		},
		Action: func(c *cli.Context) error {
			if c.Bool("alias") && c.Bool("undo") {
				return usagef("--undo takes back all, the alias included: leave --alias out")
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
		_, err = fmt.Fprintln(p.stdout, "docker build runs kedge; kedge install --undo takes it back")
	} else {
		_, err = fmt.Fprintln(p.stdout, "docker kedge runs kedge; kedge install --alias has docker build do so, too")
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

// pluginMetadataVerb is what docker asks a plugin first.
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
