package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/kedge-build/kedge/diff/source"
	"github.com/kedge-build/kedge/drift"
	"github.com/kedge-build/kedge/report"
	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"
)

func (p *process) driftVerb() *cli.Command {
	const image = "\nWithout IMAGE, it is the one that the last build of the Dockerfile made."
	return &cli.Command{
		Name: "drift", Usage: "keep what an image is in git, and judge how far it moves",
		Subcommands: []*cli.Command{
			{
				Name: "record", Usage: "write what an image is to DOCKERFILE.drift", ArgsUsage: "[IMAGE]", Description: imageNames + image,
				Flags:  []cli.Flag{driftFileFlag(), platformFlag(), &cli.BoolFlag{Name: "from-build", Usage: "take the image of the last build, as without IMAGE"}},
				Action: p.driftRecord,
			},
			{
				Name: "check", Usage: "compare an image with the record, by the thresholds of " + drift.SettingsFile, ArgsUsage: "[IMAGE]",
				Description: imageNames + image,
				Flags: []cli.Flag{driftFileFlag(), platformFlag(), formatFlag(), reportFlag(),
					&cli.StringFlag{Name: "against", Usage: "compare with the record of a commit, with the record in a folder, or with an image: `REF|FOLDER|IMAGE`"}},
				Action: p.driftCheck,
			},
			{
				Name: "accept", Usage: "write what an image is to the record, and why it may differ", ArgsUsage: "[REASON]",
				Flags:  []cli.Flag{driftFileFlag(), platformFlag(), &cli.StringFlag{Name: "image", Usage: "the `IMAGE` (default: the one that the last build of the Dockerfile made)"}},
				Action: func(c *cli.Context) error { return p.record(c, c.String("image"), strings.Join(c.Args().Slice(), " ")) },
			},
			{
				Name: "log", Usage: "show the history of the record in git",
				Flags: []cli.Flag{driftFileFlag(), formatFlag(), reportFlag(),
					&cli.IntFlag{Name: "max-count", Aliases: []string{"n"}, Usage: "show the last `N` builds only"}},
				Action: p.driftLog,
			},
		},
	}
}

func driftFileFlag() cli.Flag {
	return &cli.StringFlag{Name: "file", Aliases: []string{"f"}, Value: "Dockerfile", Usage: "the Dockerfile, beside which the record is: `FILE`.drift"}
}

func (p *process) driftRecord(c *cli.Context) error {
	if c.NArg() > 1 || c.NArg() == 1 && c.Bool("from-build") {
		return usagef("record takes one IMAGE, or --from-build")
	}
	return p.record(c, c.Args().First(), "")
}

// record writes the record of an image. Of the image that is recorded already, it keeps the reason.
func (p *process) record(c *cli.Context, name, reason string) error {
	return p.withDriftImage(c, name, func(img *source.Image, name string) error {
		dir := drift.Path(c.String("file"))
		r, err := p.readDrift(c.Context, img)
		if err != nil {
			return err
		}
		st, err := p.openStore(c.Context)
		if err != nil {
			return err
		}
		defer st.Close()
		r.Findings = found(st, r.Digest)
		if err := saveDrift(r, dir, reason); err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, "%s: %s, %s, %s\n", dir, report.Counted(len(r.Files), "path"), report.Counted(len(r.Packages), "package"), r.Digest)
		return nil
	})
}

// found returns what lint found before kedge built an image: nothing if this kedge has not built it.
func found(st *store.Store, dgst string) map[string]int {
	b, err := st.Build(digest.Digest(dgst))
	if err != nil {
		return nil
	}
	return b.Findings
}

// saveDrift writes a record. Without a reason, the record of an image that has not changed keeps its own.
func saveDrift(r *drift.Record, dir, reason string) error {
	r.Reason = reason
	if old, err := drift.Load(dir); err == nil && reason == "" && old.Digest == r.Digest {
		r.Reason = old.Reason
	}
	return r.Save(dir)
}

// readDrift reads what an image is.
func (p *process) readDrift(ctx context.Context, img *source.Image) (*drift.Record, error) {
	r, notes, err := drift.Read(ctx, img, drift.ReadOptions{})
	for _, n := range notes {
		p.say("warning: %s", n)
	}
	return r, err
}

func (p *process) driftCheck(c *cli.Context) error {
	if _, err := answerFormat(c); err != nil {
		return err
	}
	if c.NArg() > 1 {
		return usagef("check takes one IMAGE, and got %d", c.NArg())
	}
	r, err := p.judgeImage(c, c.Args().First())
	if err != nil {
		return err
	}
	return p.report(c, r)
}

// judgeImage judges an image, as withDriftImage names it.
func (p *process) judgeImage(c *cli.Context, name string) (r *report.Report, err error) {
	err = p.withDriftImage(c, name, func(img *source.Image, name string) error {
		second, err := p.readDrift(c.Context, img)
		if err != nil {
			return err
		}
		r, err = p.judge(c, second, name)
		return err
	})
	return r, err
}

// judge compares a record with the one that --against names, or with that of the Dockerfile.
func (p *process) judge(c *cli.Context, second *drift.Record, name string) (*report.Report, error) {
	path, err := drift.FindSettings(filepath.Dir(c.String("file")))
	if err != nil {
		return nil, err
	}
	settings, err := drift.LoadSettings(path)
	if err != nil {
		return nil, err
	}
	first, against, err := p.driftAgainst(c)
	if err != nil {
		return nil, err
	}
	d := drift.Compare(first, second, settings.Tmpfs)
	return report.NewDrift(d, drift.Judge(d, settings, time.Now()), path, against, name), nil
}

// driftAgainst returns the record to compare with, and its name.
func (p *process) driftAgainst(c *cli.Context) (r *drift.Record, name string, err error) {
	dir := drift.Path(c.String("file"))
	name = c.String("against")
	if name == "" {
		r, err := drift.Load(dir)
		if errors.Is(err, fs.ErrNotExist) {
			err = &noRecordError{dir}
		}
		return r, dir, err
	}
	if r, err := drift.Load(name); !errors.Is(err, fs.ErrNotExist) {
		return r, name, err
	}
	if r, ok, err := drift.LoadCommit(c.Context, p.environ, dir, name); ok || err != nil {
		return r, name + ":" + dir, err
	}
	err = p.withDriftImage(c, name, func(img *source.Image, _ string) (err error) {
		r, err = p.readDrift(c.Context, img)
		return err
	})
	if err != nil {
		err = fmt.Errorf("%q is no folder with a record, and no commit that has one: %w", name, err)
	}
	return r, name, err
}

// A noRecordError says that nothing has been recorded beside the Dockerfile.
type noRecordError struct{ dir string }

func (e *noRecordError) Error() string { return fmt.Sprintf("there is no record %q", e.dir) }

// withDriftImage opens an image. If name is empty, it is the one that the last build of the Dockerfile made.
func (p *process) withDriftImage(c *cli.Context, name string, verb func(img *source.Image, name string) error) error {
	sources, done, err := p.imageSources(c)
	if err != nil {
		return err
	}
	defer done()
	if name == "" {
		path, err := filepath.Abs(c.String("file"))
		if err != nil {
			return err
		}
		if sources.Store == nil {
			return &notBuiltError{path}
		}
		last, err := sources.Store.LastBuild(path)
		if errors.Is(err, fs.ErrNotExist) {
			return &notBuiltError{path}
		}
		if err != nil {
			return err
		}
		name = "store:" + last.Digest.String()
	}
	img, err := source.Open(c.Context, name, sources)
	if err != nil {
		return err
	}
	defer img.Close()
	return verb(img, name)
}

// A notBuiltError says that kedge's store knows no build of a Dockerfile.
type notBuiltError struct{ dockerfile string }

func (e *notBuiltError) Error() string {
	return fmt.Sprintf("no IMAGE is given, and kedge has no build of %q", e.dockerfile)
}

func (p *process) driftLog(c *cli.Context) error {
	if _, err := answerFormat(c); err != nil {
		return err
	}
	if c.Int("max-count") < 0 {
		return usagef("max-count %d is negative", c.Int("max-count"))
	}
	dir := drift.Path(c.String("file"))
	h, err := drift.Log(c.Context, p.environ, dir, c.Int("max-count"))
	if err != nil {
		return err
	}
	if h.Shallow {
		p.say("warning: the clone is shallow, so older builds are missing: git fetch --unshallow")
	}
	return p.report(c, report.NewDriftLog(dir, h))
}
