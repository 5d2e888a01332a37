package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/kedge-build/kedge/image"
	"github.com/kedge-build/kedge/publish"
	"github.com/tonistiigi/go-csvvalue"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// outputFlags say where the result of a build goes and how it is reported.
func outputFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "output", Aliases: []string{"o"}, Usage: "write the result to `DIR`, - or type=TYPE,dest=PATH: oci, docker, image, registry, local, tar or cacheonly"},
		&cli.BoolFlag{Name: "load", Usage: "load the image into Docker, as -o type=docker; the default if Docker answers, without -o and --push"},
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

// parseOutputs reads each -o as docker does. An output may annotate the image.
func (p *process) parseOutputs(values []string) (outputs []publish.Output, annotations []image.Annotation, err error) {
	for _, value := range values {
		if value == "" {
			continue
		}
		o, err := parseOutput(value)
		if err != nil {
			return nil, nil, usagef("output %q: %v", value, err)
		}
		if o.Dest == "-" && isTerminal(p.stdout) {
			return nil, nil, usagef("output %q: refusing to write an archive to the terminal: dest=FILE, or redirect it", value)
		}
		outputs, annotations = append(outputs, o.Output), append(annotations, o.annotations...)
	}
	return outputs, annotations, nil
}

// An output is one -o.
type output struct {
	publish.Output
	annotations []image.Annotation
}

// registry is docker's name for a publish.Image that is pushed.
const registry publish.Type = "registry"

func parseOutput(value string) (output, error) {
	fields, err := csvvalue.Fields(value, nil)
	if err != nil {
		return output{}, err
	}
	var o output
	attrs := map[string]string{}
	switch {
	case value == "-":
		o.Type, o.Dest = publish.Tar, "-"
	case len(fields) == 1 && fields[0] == value && !strings.HasPrefix(value, "type="):
		o.Type, o.Dest = publish.Local, value
	default:
		for _, field := range fields {
			key, v, ok := strings.Cut(field, "=")
			if !ok {
				return output{}, fmt.Errorf("%q is not KEY=VALUE", field)
			}
			switch key = strings.TrimSpace(strings.ToLower(key)); key {
			case "type":
				o.Type = publish.Type(v)
			case "dest":
				o.Dest = v
			default:
				attrs[key] = v
			}
		}
	}
	switch o.Type {
	case publish.OCI, publish.Docker, publish.Image, registry, publish.Local, publish.Tar, publish.CacheOnly:
	case "":
		return output{}, errors.New("type= is missing")
	default:
		return output{}, fmt.Errorf("type=%s is not oci, docker, image, registry, local, tar or cacheonly", o.Type)
	}
	for _, key := range slices.Sorted(maps.Keys(attrs)) {
		if err := o.attr(key, attrs[key]); err != nil {
			return output{}, err
		}
	}
	if o.Type == registry {
		o.Type, o.Push = publish.Image, true
	}
	o.Output, err = o.Place()
	return o, err
}

// fixedAttrs are attributes that change the bytes of an image, with their value in every image of kedge's and
// the reason for it. docs/outputs.md lists them.
var fixedAttrs = map[string]struct{ value, why string }{
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

// attr reads an attribute of an output.
func (o *output) attr(key, value string) error {
	switch {
	case key == "source-date-epoch":
		return errors.New("source-date-epoch is said for the whole build: --source-date-epoch")
	case o.Type == publish.Local || o.Type == publish.Tar:
		return o.filesAttr(key, value)
	case o.Type == publish.CacheOnly:
		return o.unknownAttr(key)
	}
	return o.imageAttr(key, value)
}

func (o *output) unknownAttr(key string) error { return fmt.Errorf("type=%s has no %s", o.Type, key) }

// filesAttr reads an attribute of an output with the files of an image.
func (o *output) filesAttr(key, value string) error {
	switch {
	case key == "platform-split":
		o.Root.Split = new(bool)
		return parseBool(key, value, o.Root.Split)
	case key == "src" && value == "":
		return errors.New("src= is empty; leave it out for all files")
	case key == "src":
		o.Root.Source = value
	case key != "mode" || o.Type != publish.Local:
		return o.unknownAttr(key)
	case value != "copy" && value != "delete":
		return fmt.Errorf("mode=%s is neither copy nor delete", value)
	}
	o.Root.Delete = value == "delete"
	return nil
}

// imageAttr reads an attribute of an output with an image.
func (o *output) imageAttr(key, value string) error {
	if f, ok := fixedAttrs[key]; ok {
		if same(value, f.value) {
			return nil
		}
		return fmt.Errorf("%s=%s is not possible: %s; leave it out", key, value, f.why)
	}
	if a, ok, err := annotationAttr(key, value); ok {
		o.annotations = append(o.annotations, a)
		return err
	}
	archive := o.Type == publish.OCI || o.Type == publish.Docker
	switch {
	case key == "compression-level":
		return errors.New("compression-level is not possible: layers are compressed in one way, so that they have one digest; leave it out")
	case key == "name":
		o.Names = append(o.Names, slices.DeleteFunc(strings.Split(value, ","), func(name string) bool { return name == "" })...)
		return nil
	case key == "store" || key == "name-canonical":
		return parseBool(key, value, new(bool)) // these are about images of the builder, not those in kedge's store
	case key == "tar" && archive:
		tar := true
		err := parseBool(key, value, &tar)
		o.Dir = !tar
		return err
	case key == "push" && !archive:
		return parseBool(key, value, &o.Push)
	case key == "push-by-digest" && !archive:
		return parseBool(key, value, &o.ByDigest)
	}
	return o.unknownAttr(key)
}

func parseBool(key, value string, to *bool) (err error) {
	if *to, err = strconv.ParseBool(value); err != nil {
		return fmt.Errorf("%s=%s is neither true nor false", key, value)
	}
	return nil
}

// same reports whether two values of an attribute mean the same.
func same(a, b string) bool {
	x, errA := strconv.ParseBool(a)
	y, errB := strconv.ParseBool(b)
	return a == b || errA == nil && errB == nil && x == y
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	if c, ok := stream.(*checkedWriter); ok {
		stream = c.w
	}
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
