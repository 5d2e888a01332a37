package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

func (p *process) versionVerb() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version",
		Action: func(*cli.Context) error { return p.version() },
	}
}

func (p *process) version() error {
	_, err := fmt.Fprintln(p.stdout, "kedge version", version)
	return err
}
