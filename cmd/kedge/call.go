package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/publish"
	"github.com/moby/buildkit/frontend/subrequests/lint"
	"github.com/tonistiigi/go-csvvalue"
	"github.com/urfave/cli/v2"
)

func callFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "call", Value: "build", Usage: "build, or print the frontend's answer: `check|outline|targets`[,format=json]"},
		&cli.BoolFlag{Name: "check", Usage: "look for mistakes in the Dockerfile; short for --call=check"},
		&cli.StringFlag{Name: "print", Hidden: true},
	}
}

// A call is a question to the frontend.
type call struct {
	name         string // of BuildKit's subrequest; empty for a build
	json         bool
	ignoreStatus bool
}

// parseCall reads --call, --check and --print.
func parseCall(c *cli.Context) (call, error) {
	value := c.String("call")
	switch {
	case c.Bool("check") && c.IsSet("call") && value != "check":
		return call{}, usagef("--check is --call=check, and there is --call=%s: which?", value)
	case c.Bool("check"):
		value = "check"
	case !c.IsSet("call") && c.IsSet("print"):
		value = c.String("print")
	}
	if value == "" {
		return call{}, nil // a build, as with docker
	}
	fields, err := csvvalue.Fields(value, nil)
	if err != nil {
		return call{}, usagef("call %q: %v", value, err)
	}
	var asked call
	for _, field := range fields {
		key, v, ok := strings.Cut(field, "=")
		switch {
		case !ok && asked.name == "":
			asked.name = field
		case ok && key == "format" && (v == "json" || v == "text"):
			asked.json = v == "json"
		case ok && key == "ignorestatus":
			if asked.ignoreStatus, err = strconv.ParseBool(v); err != nil {
				return call{}, usagef("call %q: ignorestatus is true or false", value)
			}
		default:
			return call{}, usagef("call %q: %q is not format=json, format=text or ignorestatus=true", value, field)
		}
	}
	switch asked.name {
	case "build":
		asked.name = ""
	case "check":
		asked.name = "lint"
	}
	return asked, nil
}

// call asks the frontend and prints the answer as docker build does.
func (p *process) call(c *cli.Context, env kedge.Env, o kedge.Options, asked call) error {
	a, err := kedge.Call(c.Context, env, o, asked.name)
	if err != nil {
		return err
	}
	if path := c.String("metadata-file"); path != "" {
		said := map[string]any{"result.json": json.RawMessage(a.JSON), "result.txt": a.Text, "version": a.Version}
		if !json.Valid([]byte(a.JSON)) {
			said["result.json"] = a.JSON
		}
		if err := publish.WriteFile(c.Context, path, func(w io.Writer) error { return printJSON(w, said) }); err != nil {
			return err
		}
	}
	switch {
	case asked.json:
		fmt.Fprintln(p.stdout, a.JSON)
	case asked.name == "lint":
		if err := p.printLint(a); err != nil {
			return err
		}
	default:
		fmt.Fprint(p.stdout, a.Text)
	}
	if a.Status != 0 && !asked.ignoreStatus {
		return statusError(a.Status)
	}
	return nil
}

func (p *process) printLint(a *builder.Answer) error {
	var found lint.LintResults
	if a.JSON != "" {
		if err := json.Unmarshal([]byte(a.JSON), &found); err != nil {
			return fmt.Errorf("reading the answer of the frontend: %w", err)
		}
	}
	switch n := len(found.Warnings); {
	case n == 1:
		fmt.Fprintln(p.stdout, "Check complete, 1 warning has been found!")
	case n > 1:
		fmt.Fprintf(p.stdout, "Check complete, %d warnings have been found!\n", n)
	case found.Error == nil:
		fmt.Fprintln(p.stdout, "Check complete, no warnings found.")
	}
	if err := found.PrintTo(p.stdout, a.Dockerfile.Named); err != nil {
		return fmt.Errorf("reading the answer of the frontend: %w", err)
	}
	if found.Error != nil {
		var text bytes.Buffer
		found.PrintErrorTo(&text, a.Dockerfile.Named)
		p.say("%s", strings.TrimSuffix(text.String(), "\n"))
		return statusError(exitFailed)
	}
	return nil
}
