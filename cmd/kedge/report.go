package main

import (
	"archive/tar"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/diff"
	"github.com/kedge-build/kedge/explain"
	"github.com/kedge-build/kedge/publish"
	"github.com/kedge-build/kedge/report"
	"github.com/kedge-build/kedge/rules"
	"github.com/urfave/cli/v2"
)

func reportFlag() cli.Flag {
	return &cli.StringFlag{Name: "report", Usage: "also write a page about it to `FILE.html`"}
}

// writeReport writes a page.
func (p *process) writeReport(path string, r *report.Report) error {
	r.Created = time.Now().UTC().Truncate(time.Second)
	if err := publish.WriteFile(path, func(w io.Writer) error { return report.HTML(w, r) }); err != nil {
		return err
	}
	p.say("wrote %s", path)
	return nil
}

// buildReport is the page about a build.
func buildReport(res *kedge.Result) *report.Report {
	r := &report.Report{
		Title: "kedge: " + res.Dockerfile, Outcome: report.Unverified, Sentence: "built once: nothing was compared",
		First: "first build", Second: "second build",
		Dockerfile: res.Dockerfile, Lockfile: res.Lockfile, Epoch: res.Epoch, ArgsHash: res.ArgsHash,
	}
	for _, s := range res.Lock.Sources() {
		pin, _ := res.Lock.Pin(s)
		r.Pins = append(r.Pins, report.Pin{Kind: string(s.Kind), Ref: s.Ref, Digest: pin})
	}
	counts := ruleCounts(res.Image)
	for _, rule := range slices.Sorted(maps.Keys(counts)) {
		_, why := rules.Describe(rule)
		r.Normalised = append(r.Normalised, report.Normalised{Rule: rule, Count: counts[rule], Why: why})
	}
	if res.Verdict == nil {
		for _, m := range res.Image.Manifests {
			r.Platforms = append(r.Platforms, report.Platform{Platform: platforms.Format(m.Platform), First: m.Descriptor.Digest.String()})
		}
		return r
	}
	r.Outcome, r.Sentence = report.Same, verified(res.Verdict)
	if !res.Verdict.Reproducible {
		r.Outcome = report.Different
	}
	for _, p := range res.Verdict.Platforms {
		platform := report.Platform{Platform: p.Platform, First: p.First.String(), Second: p.Second.String(), Same: p.Same}
		for _, l := range p.Layers {
			patch := ""
			if l.Patch != "" {
				patch = res.Verdict.Patch // of which its own is a part
			}
			platform.Layers = append(platform.Layers, report.Layer{
				Index: l.Index, Line: l.Line, Instruction: l.Instruction, First: l.First.String(), Second: l.Second.String(),
				Files: reportFiles(l.Paths, patch),
			})
		}
		r.Platforms = append(r.Platforms, platform)
	}
	return r
}

// diffReport is the page about two images.
func diffReport(d *diff.Result, files []explain.File) *report.Report {
	r := &report.Report{
		Title: "kedge: " + d.First.Name + " and " + d.Second.Name, Outcome: report.Same, Sentence: "the two images are the same",
		First: d.First.Name, Second: d.Second.Name,
	}
	if !d.Same {
		r.Outcome, r.Sentence = report.Different, "the two images differ"
	}
	p := report.Platform{Platform: d.First.Platform, First: d.First.Digest, Second: d.Second.Digest, Same: d.First.Digest == d.Second.Digest}
	if len(files) > 0 {
		p.Layers = []report.Layer{{Index: -1, Files: reportFiles(files, "")}}
	}
	r.Platforms = []report.Platform{p}
	for _, pkg := range d.Packages {
		r.Packages = append(r.Packages, report.Package{Kind: pkg.Kind, Name: pkg.Name, First: pkg.First, Second: pkg.Second})
	}
	for _, s := range d.Config {
		r.Config = append(r.Config, report.Setting{Key: s.Key, First: s.First, Second: s.Second})
	}
	return r
}

// reportFiles shows the patch of a layer with the first file that it may be about.
func reportFiles(files []explain.File, patch string) []report.File {
	var out []report.File
	for _, f := range files {
		rf := report.File{
			Path: f.Path.Path, Change: report.Change(f.Change), What: f.What,
			First: reportVersion(f.First), Second: reportVersion(f.Second),
		}
		for _, c := range f.Causes {
			rf.Causes = append(rf.Causes, report.Cause{Kind: string(c.Kind), Where: c.Where, Why: c.Why, Fix: c.Fix, First: c.First, Second: c.Second})
		}
		if patch != "" && len(f.Causes) > 0 {
			rf.Patch = patch
		}
		out = append(out, rf)
	}
	return out
}

var typeNames = map[byte]string{
	tar.TypeReg: "file", tar.TypeDir: "directory", tar.TypeSymlink: "symlink", tar.TypeLink: "hard link",
	tar.TypeChar: "character device", tar.TypeBlock: "block device", tar.TypeFifo: "pipe",
}

func reportVersion(v *explain.Version) *report.Version {
	if v == nil {
		return nil
	}
	h := v.Header
	out := &report.Version{
		Type: typeNames[h.Typeflag], Mode: strconv.FormatInt(h.Mode&0o7777, 8), Owner: fmt.Sprintf("%d:%d", h.Uid, h.Gid),
		Size: h.Size, Time: h.ModTime.UTC(), Link: h.Linkname,
	}
	if v.Excerpt != nil {
		out.Excerpt = &report.Excerpt{Data: v.Excerpt, Offset: v.Offset, Line: v.Line, Truncated: v.Truncated}
	}
	return out
}
