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
		Name: "drift", Usage: "record images in git, and limit how far they drift",
		Subcommands: []*cli.Command{
			{
				Name: "record", Usage: "record an image in DOCKERFILE.drift", ArgsUsage: "[IMAGE]", Description: imageNames + image,
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
				Name: "accept", Usage: "record an image, with the reason why it may differ", ArgsUsage: "[REASON]",
				Flags:  []cli.Flag{driftFileFlag(), platformFlag(), &cli.StringFlag{Name: "image", Usage: "the `IMAGE` (default: the one that the last build of the Dockerfile made)"}},
				Action: func(c *cli.Context) error { return p.record(c, c.String("image"), strings.Join(c.Args().Slice(), " ")) },
			},
			{
				Name: "log", Usage: "show the history of the record in git",
				Flags: []cli.Flag{driftFileFlag(), platformFlag(), formatFlag(), reportFlag(),
					&cli.IntFlag{Name: "max-count", Aliases: []string{"n"}, Usage: "show the last `N` builds only"}},
				Action: p.driftLog,
			},
		},
	}
}

func driftFileFlag() cli.Flag {
	return &cli.StringFlag{Name: "file", Aliases: []string{"f"}, Value: "Dockerfile", Usage: "the Dockerfile; the record is `FILE`.drift"}
}

func (p *process) driftRecord(c *cli.Context) error {
	if c.NArg() > 1 || c.NArg() == 1 && c.Bool("from-build") {
		return usagef("record takes one IMAGE, or --from-build")
	}
	return p.record(c, c.Args().First(), "")
}

// record writes the record of an image, or of each platform of an index. Of the image that is recorded already, it
// keeps the reason.
func (p *process) record(c *cli.Context, name, reason string) error {
	st, err := p.openStore(c.Context)
	if err != nil {
		return err
	}
	defer st.Close()
	images, done, err := p.driftImages(c, name)
	if err != nil {
		return err
	}
	defer done()
	if c.String("platform") == "" {
		if err := images.arrange(drift.Path(c.String("file"))); err != nil {
			return err
		}
	}
	for _, img := range images {
		r, err := p.recordImage(c.Context, st, img, reason)
		if err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, "%s: %s, %s, %s\n", img.record, report.Counted(len(r.Files), "path"), report.Counted(len(r.Packages), "package"), r.Digest)
	}
	return nil
}

// recordImage writes the record of an image of one platform. Without a reason, the record of an image that has not
// changed keeps its own.
func (p *process) recordImage(ctx context.Context, st *store.Store, img driftImage, reason string) (*drift.Record, error) {
	r, err := p.readDrift(ctx, img)
	if err != nil {
		return nil, err
	}
	r.Findings, r.Reason = found(st, r.Digest), reason
	if old, err := drift.Load(img.record); err == nil && reason == "" && old.Digest == r.Digest {
		r.Reason = old.Reason
	}
	return r, r.Save(img.record)
}

// found returns what lint found before kedge built an image: nothing if this kedge has not built it.
func found(st *store.Store, dgst string) map[string]int {
	b, err := st.Build(digest.Digest(dgst))
	if err != nil {
		return nil
	}
	return b.Findings
}

// readDrift reads what an image is.
func (p *process) readDrift(ctx context.Context, image driftImage) (r *drift.Record, err error) {
	img, err := image.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	r, notes, err := drift.Read(ctx, img)
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
	reports, err := p.judgeImage(c, c.Args().First())
	if err != nil {
		return err
	}
	return p.reports(c, reports)
}

// reports prints the reports about an image, one for each platform. JSON and a page are about a single one.
func (p *process) reports(c *cli.Context, reports []*report.Report) error {
	if len(reports) > 1 && (c.String("format") == string(report.JSON) || c.String("report") != "") {
		return usagef("there are %d platforms: --platform says which one JSON and a page are about", len(reports))
	}
	var no error
	for _, r := range reports {
		if len(reports) > 1 {
			var name string
			if r.DriftLog != nil {
				name = filepath.Base(r.DriftLog.Record)
			} else {
				name = r.Drift.Diff.Second.Platform
			}
			if c.String("format") == string(report.Markdown) {
				name = "### " + name
			}
			fmt.Fprintf(p.stdout, "%s\n\n", name)
		}
		if err := p.report(c, r); err != nil && !errors.Is(err, errNo) {
			return err
		} else if err != nil {
			no = err
		}
	}
	return no
}

// judgeImage judges each platform of an image, as driftImages names it.
func (p *process) judgeImage(c *cli.Context, name string) ([]*report.Report, error) {
	path, err := drift.FindSettings(filepath.Dir(c.String("file")))
	if err != nil {
		return nil, err
	}
	settings, err := drift.LoadSettings(path)
	if err != nil {
		return nil, err
	}
	images, done, err := p.driftImages(c, name)
	if err != nil {
		return nil, err
	}
	defer done()
	var reports []*report.Report
	for _, img := range images {
		first, against, err := p.driftAgainst(c, img)
		if err != nil {
			return nil, err
		}
		second, err := p.readDrift(c.Context, img)
		if err != nil {
			return nil, err
		}
		d := drift.Compare(first, second, settings.Tmpfs)
		reports = append(reports, report.NewDrift(d, drift.Judge(d, settings, time.Now()), path, against, img.name))
	}
	return reports, nil
}

// driftAgainst returns the record to compare an image with, and its name.
func (p *process) driftAgainst(c *cli.Context, img driftImage) (r *drift.Record, name string, err error) {
	name = c.String("against")
	if name == "" {
		r, err := drift.Load(img.record)
		if errors.Is(err, fs.ErrNotExist) {
			err = &noRecordError{img.record}
		}
		return r, img.record, err
	}
	folder := name
	if len(drift.Platforms(name)) > 0 {
		folder = filepath.Join(name, filepath.Base(img.record))
	}
	if r, err := drift.Load(folder); !errors.Is(err, fs.ErrNotExist) {
		return r, folder, err
	}
	if r, ok, err := drift.LoadCommit(c.Context, p.environ, img.record, name); ok || err != nil {
		return r, name + ":" + img.record, err
	}
	img.name = name
	if r, err = p.readDrift(c.Context, img); err != nil {
		err = fmt.Errorf("%q is no folder with a record, and no commit that has one: %w", name, err)
	}
	return r, name, err
}

// A noRecordError says that nothing has been recorded beside the Dockerfile.
type noRecordError struct{ dir string }

func (e *noRecordError) Error() string { return fmt.Sprintf("there is no record %q", e.dir) }

// A driftImage is an image of one platform, and the path of its record.
type driftImage struct {
	name, platform string
	record         string
	sources        source.Options
}

func (i driftImage) open(ctx context.Context) (*source.Image, error) {
	return source.Open(ctx, i.name, i.sources)
}

type driftImages []driftImage

// arrange makes room for the records of the images in the folder of a Dockerfile's record.
func (images driftImages) arrange(dir string) error {
	var platforms []string
	for _, img := range images {
		if img.record != dir {
			platforms = append(platforms, img.platform)
		}
	}
	return drift.Arrange(dir, platforms...)
}

// driftImages returns the images of a name: one for each platform, or the one that --platform chooses. An empty name
// stands for what the last build of the Dockerfile made.
func (p *process) driftImages(c *cli.Context, name string) (images driftImages, done func(), err error) {
	sources, done, err := p.imageSources(c)
	if err != nil {
		return nil, nil, err
	}
	if name == "" {
		name, err = lastBuild(c.String("file"), sources.Store)
	}
	if err == nil {
		images, err = imagesOf(c.Context, name, drift.Path(c.String("file")), sources)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return images, done, nil
}

// lastBuild returns the name of the image that the last build of a Dockerfile made.
func lastBuild(dockerfile string, st *store.Store) (string, error) {
	path, err := filepath.Abs(dockerfile)
	if err != nil {
		return "", err
	}
	if st == nil {
		return "", &notBuiltError{path}
	}
	last, err := st.LastBuild(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", &notBuiltError{path}
	}
	return "store:" + last.Digest.String(), err
}

// imagesOf returns the images of a name. Those of an index have a record each, in a folder of dir.
func imagesOf(ctx context.Context, name, dir string, sources source.Options) (driftImages, error) {
	if p := sources.Platform; p != nil {
		img := driftImage{name: name, platform: p.String(), record: dir, sources: sources}
		if len(drift.Platforms(dir)) > 0 {
			img.record = drift.PlatformPath(dir, img.platform)
		}
		return driftImages{img}, nil
	}
	platforms, err := source.Platforms(ctx, name, sources)
	if err != nil {
		return nil, err
	}
	if len(platforms) < 2 {
		return driftImages{{name: name, record: dir, sources: sources}}, nil
	}
	var images driftImages
	for i := range platforms {
		of := sources
		of.Platform = &platforms[i]
		platform := normalPlatform(platforms[i]).String()
		images = append(images, driftImage{name, platform, drift.PlatformPath(dir, platform), of})
	}
	return images, nil
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
	platform, err := imagePlatform(c)
	if err != nil {
		return err
	}
	dirs := []string{drift.Path(c.String("file"))}
	if records := drift.Platforms(dirs[0]); len(records) > 0 {
		if dirs = records; platform != nil {
			dirs = []string{drift.PlatformPath(drift.Path(c.String("file")), platform.String())}
		}
	}
	var reports []*report.Report
	for _, dir := range dirs {
		h, err := drift.Log(c.Context, p.environ, dir, c.Int("max-count"))
		if err != nil {
			return err
		}
		if h.Shallow && len(reports) == 0 {
			p.say("warning: the clone is shallow, so older builds are missing: git fetch --unshallow")
		}
		reports = append(reports, report.NewDriftLog(dir, h))
	}
	return p.reports(c, reports)
}
