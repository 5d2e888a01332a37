package main

import (
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/kedge-build/kedge/publish"
	"github.com/kedge-build/kedge/report"
	"github.com/urfave/cli/v2"
)

func formatFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Value: string(report.Text), Usage: "print the answer as text, json or markdown"}
}

// answerFormat reads --format.
func answerFormat(c *cli.Context) (report.Format, error) {
	f := report.Format(c.String("format"))
	if !slices.Contains([]report.Format{report.Text, report.JSON, report.Markdown}, f) {
		return "", usagef("format %q is not text, json or markdown", f)
	}
	return f, nil
}

func reportFlag() cli.Flag {
	return &cli.StringFlag{Name: "report", Usage: "also write the answer to `FILE.html`, or to FILE.md or FILE.json"}
}

// writeReport writes the file that --report names, if it does.
func (p *process) writeReport(c *cli.Context, r *report.Report) error {
	path := c.String("report")
	if path == "" {
		return nil
	}
	dated := *r
	dated.Created = time.Now().UTC().Truncate(time.Second)
	format := report.FileFormat(path)
	if r.Lint != nil && filepath.Ext(path) == ".sarif" {
		format = report.SARIF
	}
	if err := publish.WriteFile(c.Context, path, func(w io.Writer) error { return report.Write(w, format, &dated) }); err != nil {
		return err
	}
	p.say("wrote %s", path)
	return nil
}

// report writes the report of a verb to stdout and to the file that --report names. It returns errNo if the
// answer is no.
func (p *process) report(c *cli.Context, r *report.Report) error {
	if err := p.writeReport(c, r); err != nil {
		return err
	}
	if err := report.Write(p.stdout, report.Format(c.String("format")), r); err != nil {
		return err
	}
	if !r.Yes() {
		return errNo
	}
	return nil
}
