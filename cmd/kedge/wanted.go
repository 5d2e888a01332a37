package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/image"
	"github.com/kedge-build/kedge/store"
	"github.com/urfave/cli/v2"
)

// wanted is what the command line wants of a build's result.
type wanted struct {
	tags    []string
	outputs []output
	push    bool // under the tags
	toLoad  bool // under the tags
	quiet   bool
	format  string

	iidfile, metadata string
	annotations       []image.Annotation
}

// wanted reads the flags that say where the result goes, and finds what would only be found once the
// image is built. A verb without such flags wants nothing.
func (p *process) wanted(c *cli.Context) (*wanted, error) {
	w := &wanted{
		tags: c.StringSlice("tag"), push: c.Bool("push"), toLoad: c.Bool("load"), quiet: p.quiet, format: c.String("format"),
		iidfile: c.String("iidfile"), metadata: c.String("metadata-file"),
	}
	var err error
	if w.outputs, err = p.parseOutputs(c.StringSlice("output")); err != nil {
		return nil, err
	}
	if w.format != "text" && w.format != "json" {
		return nil, usagef("format %q is not text or json", w.format)
	}
	if w.quiet && w.format == "json" {
		return nil, usagef("-q prints the digest alone, and --format json a value: which?")
	}
	if w.iidfile != "" && slices.ContainsFunc(w.outputs, output.files) {
		return nil, usagef("--iidfile is about an image, and type=local and type=tar write its files")
	}
	for _, path := range []string{c.String("report"), w.metadata, w.iidfile} {
		if path != "" {
			if err := (output{dest: path}).check(); err != nil {
				return nil, err
			}
		}
	}
	for _, names := range w.allNames() {
		if _, err := kedge.Names(names, "0123456789ab"); err != nil {
			return nil, usageError{err}
		}
	}
	if w.push && len(w.tags) == 0 {
		return nil, usagef("--push needs a name: -t NAME")
	}
	for _, o := range w.outputs {
		if o.push.on && len(w.named(o)) == 0 {
			return nil, usagef("an output is to be pushed and has no name: -t NAME, or name=NAME in it")
		}
		w.annotations = append(w.annotations, o.annotations...)
	}
	flags, err := parseAnnotations(c.StringSlice("annotation"))
	if err != nil {
		return nil, err
	}
	w.annotations = append(w.annotations, flags...)
	return w, nil
}

// named returns the names of an output: those of -t, where there are any, as docker has it.
func (w *wanted) named(o output) []string {
	if len(w.tags) > 0 {
		return w.tags
	}
	return o.names
}

func (w *wanted) allNames() [][]string {
	all := [][]string{w.tags}
	for _, o := range w.outputs {
		all = append(all, w.named(o))
	}
	return all
}

// load reports whether the image is loaded into Docker.
func (w *wanted) load() bool { return w.toLoad || slices.ContainsFunc(w.outputs, output.load) }

// answer is where the answer goes: to stdout, unless that is an archive's.
func (w *wanted) answer(p *process) io.Writer {
	if toStdout(w.outputs) {
		return p.stderr
	}
	return p.stdout
}

// clear removes what an earlier build left, which must not be taken for this one's.
func (w *wanted) clear() error {
	if w.iidfile == "" || !replaceable(w.iidfile) {
		return nil
	}
	if err := os.Remove(w.iidfile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing what an earlier build wrote: %w", err)
	}
	return nil
}

// deliver brings the image to all places that are wanted, and returns all its names.
func (w *wanted) deliver(ctx context.Context, p *process, store *store.Store, res *kedge.Result, to destination, auth *configfile.ConfigFile) ([]string, error) {
	var all []string
	for _, names := range w.allNames() {
		full, err := kedge.Names(names, res.ArgsHash)
		if err != nil {
			return nil, usageError{err}
		}
		for _, name := range full {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	if len(all) > 0 {
		if err := store.Tag(ctx, all, res.Image.Top()); err != nil {
			return nil, err
		}
	}
	as := func(names []string) *delivery {
		full, _ := kedge.Names(names, res.ArgsHash) // checked above
		return &delivery{store: store, desc: res.Image.Top(), names: full}
	}
	outputs := w.outputs
	if w.toLoad || to.byDefault {
		outputs = append(slices.Clone(outputs), output{kind: typeDocker})
	}
	if w.push {
		outputs = append(slices.Clone(outputs), output{kind: typeImage, push: push{on: true}})
	}
	for _, o := range outputs {
		d := as(w.named(o))
		if o.load() {
			if err := to.load(ctx, p, d, res); err != nil {
				return nil, err
			}
			continue
		}
		if err := d.write(ctx, p, o); err != nil {
			return nil, err
		}
		if o.push.on {
			if err := d.push(ctx, p, auth, o.push.byDigest); err != nil {
				return nil, err
			}
		}
	}
	if to.why != nil {
		to.sayNowhere(p, as(w.tags))
	}
	return all, nil
}

// writeMetadata writes buildx's keys, and kedge's own below kedge. There is no buildx.build.ref: it
// names a record of docker's build history, and kedge's builds are no such.
func (w *wanted) writeMetadata(p *process, res *kedge.Result, names []string) error {
	if w.metadata == "" {
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
		metadata["kedge.verdict"] = res.Verdict
	}
	if on, _ := strconv.ParseBool(p.env["BUILDX_METADATA_WARNINGS"]); on && len(res.Warnings) > 0 {
		metadata["buildx.build.warnings"] = res.Warnings
	}
	return writeFile(w.metadata, func(out io.Writer) error { return printJSON(out, metadata) })
}
