package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/image"
	"github.com/kedge-build/kedge/publish"
	"github.com/kedge-build/kedge/report"
	"github.com/moby/buildkit/client"
	"github.com/urfave/cli/v2"
)

// An answer says where the result of a build goes, and how it is reported.
type answer struct {
	wanted      publish.Wanted
	annotations []image.Annotation
	out         io.Writer // stdout, or stderr if stdout is for an archive
	format      report.Format
	// Paths of files to write, empty for none.
	idFile, metadata, report string
}

// answer reads the flags of build and verify that say so.
func (p *process) answer(c *cli.Context) (*answer, error) {
	a := &answer{out: p.stdout, idFile: c.String("iidfile"), metadata: c.String("metadata-file"), report: c.String("report")}
	a.wanted = publish.Wanted{
		Tags: c.StringSlice("tag"), Push: c.Bool("push"), Load: c.Bool("load"), Platforms: len(p.askedPlatforms(c)),
		LoadDefault: c.Command.Name == "build" && !c.IsSet("load") && !p.isOn("BUILDX_NO_DEFAULT_LOAD"),
	}
	var err error
	if a.format, err = answerFormat(c); err != nil {
		return nil, err
	}
	if a.wanted.Outputs, a.annotations, err = p.parseOutputs(c.StringSlice("output")); err != nil {
		return nil, err
	}
	for i := range a.wanted.Outputs {
		a.wanted.Outputs[i].DeleteAnywhere = slices.Contains(c.StringSlice("allow"), allowDelete)
	}
	annotations, err := parseAnnotations(c.StringSlice("annotation"))
	if err != nil {
		return nil, err
	}
	a.annotations = append(a.annotations, annotations...)
	if a.wanted.Stdout() {
		a.out = p.stderr
	}
	return a, a.check(p.view)
}

// check returns an error that would otherwise be found when the image is built.
func (a *answer) check(v view) error {
	if v.quiet && a.format != report.Text {
		return usagef("-q prints the digest alone, and --format %s a value: which?", a.format)
	}
	if a.idFile != "" && a.wanted.Files() {
		return usagef("--iidfile is about an image, and type=local and type=tar write its files")
	}
	for _, path := range []string{a.report, a.metadata, a.idFile} {
		if path != "" {
			if err := publish.CheckFile(path); err != nil {
				return err
			}
		}
	}
	return a.wanted.Check()
}

// clear removes the ID file of an earlier build. If this build fails, it must not look like its result.
func (a *answer) clear() error {
	if a.idFile == "" || !publish.Replaceable(a.idFile) {
		return nil
	}
	if err := os.Remove(a.idFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing what an earlier build wrote: %w", err)
	}
	return nil
}

func (a *answer) writeID(ctx context.Context, id string) error {
	if a.idFile == "" {
		return nil
	}
	return publish.WriteFile(ctx, a.idFile, func(w io.Writer) error { _, err := io.WriteString(w, id); return err })
}

// writeMetadata writes the keys of buildx, and kedge's own below kedge. There is no buildx.build.ref: what it names in
// the history of a builder would be the builder's export to kedge, under another digest than the image.
func (p *process) writeMetadata(ctx context.Context, a *answer, res *kedge.Result, names []string) error {
	if a.metadata == "" {
		return nil
	}
	metadata := map[string]any{
		"containerimage.digest":     res.Image.Top().Digest,
		"kedge.digest":              res.Image.Descriptor.Digest,
		"containerimage.descriptor": res.Image.Described(),
		"kedge.args":                res.ArgsHash,
		"kedge.epoch":               res.Epoch.Unix(),
		"kedge.normalised":          res.Image.Normalised(),
	}
	if res.Lockfile != "" {
		metadata["kedge.lockfile"] = res.Lockfile
	}
	if len(res.Image.Manifests) == 1 {
		metadata["containerimage.config.digest"] = res.Image.Manifests[0].Config
	}
	if len(names) > 0 {
		metadata["image.name"] = strings.Join(names, ",")
	}
	if res.Verdict != nil {
		metadata["kedge.verdict"] = report.NewVerdict(res.Verdict)
	}
	if p.isOn("BUILDX_METADATA_WARNINGS") && len(res.Warnings) > 0 {
		metadata["buildx.build.warnings"] = res.Warnings // with texts in base64, like buildx
		metadata["kedge.warnings"] = warningTexts(res.Warnings)
	}
	return publish.WriteFile(ctx, a.metadata, func(out io.Writer) error { return printJSON(out, metadata) })
}

// warningTexts returns warnings as FILE:LINE: TEXT.
func warningTexts(warnings []*client.VertexWarning) []string {
	var texts []string
	for _, w := range warnings {
		text := string(w.Short)
		if len(w.Range) > 0 && w.SourceInfo != nil {
			text = fmt.Sprintf("%s:%d: %s", w.SourceInfo.Filename, w.Range[0].GetStart().GetLine(), text)
		}
		texts = append(texts, text)
	}
	return texts
}
