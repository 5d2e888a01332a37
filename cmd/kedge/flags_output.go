package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kedge-build/kedge/image"
	"github.com/kedge-build/kedge/publish"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/tonistiigi/go-csvvalue"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// outputFlags say where the result of a build goes, and what is said of it.
func outputFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "output", Aliases: []string{"o"}, Usage: "write the result to `DIR`, - or type=TYPE,dest=PATH: oci, docker, image, registry, local, tar or cacheonly"},
		&cli.BoolFlag{Name: "load", Usage: "load the image into Docker, as -o type=docker; the default where that answers, without -o and --push"},
		&cli.BoolFlag{Name: "push", Usage: "push the image to the registries of its names; short for -o type=registry"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "show no progress, and print the image's digest alone"},
		&cli.StringFlag{Name: "iidfile", Usage: "write the image's digest to `FILE`"},
		secretCheckFlag(),
		&cli.StringFlag{Name: "metadata-file", Usage: "write what was built, as JSON, to `FILE`"},
		&cli.StringSliceFlag{Name: "annotation", Usage: "annotate the image's manifest with `[TYPE:]KEY=VALUE`, where TYPE may also be index"},
	}
}

func secretCheckFlag() cli.Flag {
	return &cli.BoolFlag{Name: "secret-check", Value: true, Usage: "fail if the value of a secret is in the image"}
}

// progressMode returns how a build is shown. To build, -q and --progress=quiet mean the same, as docker has
// it; --progress=none and $BUILDKIT_PROGRESS are about the display alone.
func (p *process) progressMode(c *cli.Context) (progressui.DisplayMode, error) {
	mode := progressui.DisplayMode(c.String("progress"))
	fromEnv := string(mode) == p.env["BUILDKIT_PROGRESS"]
	p.quiet = c.Bool("quiet")
	switch mode {
	case progressui.AutoMode:
	case progressui.TtyMode, progressui.PlainMode, progressui.RawJSONMode:
		if p.quiet && !fromEnv {
			return "", usagef("-q shows no progress, and --progress=%s does: which?", mode)
		}
	case progressui.QuietMode:
		p.quiet = p.quiet || !fromEnv && c.Command.Name == "build"
	case "none":
		mode = progressui.QuietMode
	default:
		return "", usagef("progress %q is not auto, tty, plain, rawjson, none or quiet", mode)
	}
	if p.quiet {
		mode = progressui.QuietMode
	}
	p.rawjson = mode == progressui.RawJSONMode
	return mode, nil
}

// The types of an output, as docker has them.
const (
	typeOCI       = "oci"
	typeDocker    = "docker"
	typeImage     = "image"
	typeRegistry  = "registry"
	typeLocal     = "local"
	typeTar       = "tar"
	typeCacheOnly = "cacheonly"
)

// output is one -o.
type output struct {
	kind  string
	dest  string // "-" is stdout
	dir   bool   // dest is a directory
	names []string
	push  push
	root  publish.RootOptions // for local and tar

	annotations []image.Annotation
}

// push is how an output of type image or registry is pushed.
type push struct {
	on       bool
	byDigest bool
}

// files reports whether an output is the files of an image, and not the image.
func (o output) files() bool { return o.kind == typeLocal || o.kind == typeTar }

// load reports whether an output is loaded into Docker.
func (o output) load() bool { return o.kind == typeDocker && o.dest == "" }

func toStdout(outputs []output) bool {
	return slices.ContainsFunc(outputs, func(o output) bool { return o.dest == "-" })
}

// parseOutputs reads each -o as docker does.
func (p *process) parseOutputs(values []string) ([]output, error) {
	var outputs []output
	for _, value := range values {
		if value == "" {
			continue
		}
		o, err := parseOutput(value)
		if err != nil {
			return nil, err
		}
		if o.dest == "-" {
			if toStdout(outputs) {
				return nil, usagef("output %q: there is one stdout", value)
			}
			if isTerminal(p.stdout) {
				return nil, usagef("output %q: refusing to write an archive to the terminal: dest=FILE, or redirect it", value)
			}
		}
		if err := o.check(); err != nil {
			return nil, err
		}
		outputs = append(outputs, o)
	}
	return outputs, nil
}

func parseOutput(value string) (output, error) {
	fields, err := csvvalue.Fields(value, nil)
	if err != nil {
		return output{}, usagef("output %q: %v", value, err)
	}
	var o output
	attrs := map[string]string{}
	switch {
	case value == "-":
		o.kind, o.dest = typeTar, "-"
	case len(fields) == 1 && fields[0] == value && !strings.HasPrefix(value, "type="):
		o.kind, o.dest = typeLocal, value
	default:
		for _, field := range fields {
			key, v, ok := strings.Cut(field, "=")
			if !ok {
				return output{}, usagef("output %q: %q is not KEY=VALUE", value, field)
			}
			switch key = strings.TrimSpace(strings.ToLower(key)); key {
			case "type":
				o.kind = v
			case "dest":
				o.dest = v
			default:
				attrs[key] = v
			}
		}
	}
	switch o.kind {
	case typeOCI, typeDocker, typeImage, typeRegistry, typeLocal, typeTar, typeCacheOnly:
	case "":
		return output{}, usagef("output %q has no type=", value)
	default:
		return output{}, usagef("output %q: type=%s is not oci, docker, image, registry, local, tar or cacheonly", value, o.kind)
	}
	for _, key := range slices.Sorted(maps.Keys(attrs)) {
		if err := o.attr(key, attrs[key]); err != nil {
			return output{}, usagef("output %q: %v", value, err)
		}
	}
	if o.kind == typeRegistry {
		o.kind, o.push.on = typeImage, true
	}
	return o, o.place(value)
}

// place checks that what is written has a place, and that what is not has none.
func (o *output) place(value string) error {
	switch {
	case o.kind == typeLocal:
		o.dir = true
	case o.dest == "" && (o.kind == typeTar || o.kind == typeOCI && !o.dir):
		o.dest = "-"
	case o.dest != "" && (o.kind == typeImage || o.kind == typeCacheOnly):
		return usagef("output %q: type=%s has no dest", value, o.kind)
	}
	if o.dir && o.dest == "" {
		return usagef("output %q: dest=DIR is missing", value)
	}
	if o.dir && o.dest == "-" {
		return usagef("output %q: a directory cannot go to stdout", value)
	}
	if o.dir && o.kind == typeDocker {
		return usagef("output %q: tar=false is for type=oci", value)
	}
	return nil
}

// fixed are attributes that change the bytes of an image, with the value that kedge's always has and
// why it has no other. docs/outputs.md lists them.
var fixed = map[string]struct{ value, why string }{
	"compression":           {"gzip", "layers are compressed in one way, so that they have one digest"},
	"force-compression":     {"false", "the layers of a base image are taken as they are"},
	"oci-mediatypes":        {"true", "an image is written in one form, OCI's"},
	"oci-artifact":          {"false", "attestations are written in one form, the one that every registry takes"},
	"rewrite-timestamp":     {"true", "the times in new layers are never after the epoch"},
	"prefer-nondist-layers": {"false", "an image is written in one form"},
	"unpack":                {"false", "no builder unpacks the image: Docker does, when it starts a container"},
	"registry.insecure":     {"false", "a registry on loopback is spoken to without TLS, any other with it"},
	"buildinfo":             {"false", "build info changes from build to build"},
}

// attr takes an attribute of an output.
func (o *output) attr(key, value string) error {
	isImage := o.kind == typeImage || o.kind == typeRegistry || o.kind == typeOCI || o.kind == typeDocker
	if isImage {
		if f, ok := fixed[key]; ok {
			if same(value, f.value) {
				return nil
			}
			return fmt.Errorf("%s=%s is not possible: %s; leave it out", key, value, f.why)
		}
		if a, ok, err := annotationAttr(key, value); ok {
			o.annotations = append(o.annotations, a)
			return err
		}
	}
	flag := func(to *bool) (err error) {
		if *to, err = strconv.ParseBool(value); err != nil {
			return fmt.Errorf("%s=%s is neither true nor false", key, value)
		}
		return nil
	}
	switch {
	case key == "compression-level" && isImage:
		return errors.New("compression-level is not possible: layers are compressed in one way, so that they have one digest; leave it out")
	case key == "source-date-epoch":
		return errors.New("source-date-epoch is said for the whole build: --source-date-epoch")
	case key == "name" && isImage:
		for name := range strings.SplitSeq(value, ",") {
			if name != "" {
				o.names = append(o.names, name)
			}
		}
		return nil
	case key == "tar" && (o.kind == typeOCI || o.kind == typeDocker):
		tar := true
		err := flag(&tar)
		o.dir = !tar
		return err
	case key == "push" && (o.kind == typeImage || o.kind == typeRegistry):
		return flag(&o.push.on)
	case key == "push-by-digest" && (o.kind == typeImage || o.kind == typeRegistry):
		return flag(&o.push.byDigest)
	case (key == "store" || key == "name-canonical") && isImage:
		return flag(new(bool)) // of the builder's own images: kedge's are in its store, and are found by digest
	case key == "platform-split" && o.files():
		o.root.Split = new(bool)
		return flag(o.root.Split)
	case key == "src" && o.files():
		if value == "" {
			return errors.New("src= is empty; leave it out for all files")
		}
		o.root.Source = value
		return nil
	case key == "mode" && o.kind == typeLocal:
		if value == "copy" {
			return nil
		}
		if value == "delete" {
			return errors.New("mode=delete is not supported: kedge removes nothing that it did not write; remove the directory before the build")
		}
		return fmt.Errorf("mode=%s is not copy", value)
	}
	return fmt.Errorf("type=%s has no %s", o.kind, key)
}

// same reports whether two values of an attribute mean the same.
func same(a, b string) bool {
	x, errA := strconv.ParseBool(a)
	y, errB := strconv.ParseBool(b)
	return a == b || errA == nil && errB == nil && x == y
}

// check finds what would only be found once the image is built.
func (o output) check() error {
	if o.dest == "-" || o.dest == "" {
		return nil
	}
	info, err := os.Stat(o.dest)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("writing %q: %w", o.dest, err)
	case err == nil && info.IsDir() && !o.dir:
		return usagef("output %q is a directory", o.dest)
	case err == nil && !info.IsDir() && o.dir:
		return usagef("output %q is a file", o.dest)
	}
	dir := filepath.Dir(o.dest)
	if o.kind == typeLocal {
		dir = filepath.Clean(o.dest)
	}
	// What is missing of the path is made.
	for _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir); _, err = os.Stat(dir) {
		dir = filepath.Dir(dir)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return fmt.Errorf("writing %q: directory %q: %w", o.dest, dir, err)
	}
	return nil
}

// isTerminal reports whether what is written to w is read by a person.
func isTerminal(w io.Writer) bool {
	if c, ok := w.(*checkedWriter); ok {
		w = c.w
	}
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// write writes the image to where o says, and pushes it if o says that.
func (d *delivery) write(ctx context.Context, p *process, o output) error {
	to := func(w io.Writer) error {
		return publish.Export(ctx, d.store, w, d.desc, d.names, publish.Format(o.kind))
	}
	switch o.kind {
	case typeCacheOnly, typeImage:
		return nil
	case typeLocal:
		return publish.ExportFolder(ctx, d.store, o.dest, d.desc, o.root)
	case typeTar:
		to = func(w io.Writer) error { return publish.ExportTar(ctx, d.store, w, d.desc, o.root) }
	case typeOCI:
		if o.dir {
			return publish.ExportDir(ctx, d.store, o.dest, d.desc, d.names)
		}
	}
	if o.dest == "-" {
		return to(p.stdout)
	}
	if err := os.MkdirAll(filepath.Dir(o.dest), 0o755); err != nil {
		return fmt.Errorf("writing %q: %w", o.dest, err)
	}
	return writeFile(o.dest, to)
}
