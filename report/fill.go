package report

import (
	"archive/tar"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/diff"
	"github.com/kedge-build/kedge/explain"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/rules"
	"github.com/kedge-build/kedge/verify"
)

// NewBuild reports a build, and the verdict if there was a second one. The image has no names yet.
func NewBuild(verb string, res *kedge.Result) *Report {
	r := NewImage(verb, res.Image.Descriptor.Digest.String(), res.Image.Normalised())
	r.Dockerfile, r.Lockfile, r.Args, r.Epoch = res.Dockerfile, res.Lockfile, res.ArgsHash, res.Epoch
	r.Index = res.Image.Attested.Digest.String()
	for _, s := range res.Lock.Sources() {
		pin, _ := res.Lock.Pin(s)
		r.Pins = append(r.Pins, Pin{Kind: string(s.Kind), Ref: s.Ref, Digest: pin})
	}
	if res.Verdict != nil {
		r.Verdict = NewVerdict(res.Verdict)
	}
	return r
}

// NewImage reports what normalisation did to an image: the paths, by platform and rule.
func NewImage(verb, digest string, normalised map[string]map[string][]string) *Report {
	if normalised == nil {
		normalised = map[string]map[string][]string{}
	}
	out := &Image{Digest: digest, Names: []string{}, Pins: []Pin{}, Normalised: normalised, Rules: map[string]string{}}
	for _, byRule := range normalised {
		for rule := range byRule {
			what, why := rules.Describe(rule)
			out.Rules[rule] = what + " " + why
		}
	}
	return &Report{Version: Version, Verb: verb, Image: out}
}

// NewVerdict returns v as a report has it.
func NewVerdict(v *verify.Verdict) *Verdict {
	out := &Verdict{Reproducible: v.Reproducible, Varied: v.Varied, Platforms: []Platform{}, Patch: v.Patch}
	for _, b := range v.Builders {
		out.Builders = append(out.Builders, Builder{b.Name, b.Version, b.Platform, b.Kernel})
	}
	for _, g := range v.NotCovered {
		out.NotCovered = append(out.NotCovered, Gap{string(g.Kind), g.Line, g.Text})
	}
	for _, p := range v.Platforms {
		platform := Platform{Platform: p.Platform, First: p.First.String(), Second: p.Second.String(), Same: p.Same}
		for _, l := range p.Layers {
			layer := Layer{
				Index: l.Index, First: l.First.String(), Second: l.Second.String(), Line: l.Line, Instruction: l.Instruction,
				Caches: l.Caches, Files: []File{}, Patch: l.Patch,
			}
			for _, from := range l.From {
				layer.From = append(layer.From, Origin(from))
			}
			for _, f := range l.Paths {
				layer.Files = append(layer.Files, newFile(f.Path).explained(f))
			}
			platform.Layers = append(platform.Layers, layer)
		}
		for _, t := range p.Traces {
			platform.Traces = append(platform.Traces, Trace{t.Layer, t.Line, t.Instruction, t.Path, string(t.Kind), t.What, t.Text, t.Certain, t.Why})
		}
		out.Platforms = append(out.Platforms, platform)
	}
	return out
}

// NewDiff reports how two images differ. Files explain those of d, in their order; nil explains none.
func NewDiff(verb string, d *diff.Result, files []explain.File) *Report {
	out := &Diff{
		Same: d.Same, First: Side(d.First), Second: Side(d.Second), Files: newFiles(d.Files), Shared: d.Shared, Notes: d.Notes,
		Packages: []Package{}, Config: []Setting{}, History: []Step{}, Layers: []Layer{},
	}
	for i, f := range files {
		out.Files[i] = out.Files[i].explained(f)
	}
	for _, p := range d.Packages {
		out.Packages = append(out.Packages, Package{p.Kind, p.Name, Change(p.Change), p.First, p.Second})
	}
	for _, s := range d.Config {
		out.Config = append(out.Config, Setting{s.Key, Change(s.Change), s.First, s.Second})
	}
	for _, s := range d.History {
		out.History = append(out.History, Step{s.Index, (*StepState)(s.First), (*StepState)(s.Second)})
	}
	if d.Sizes != nil {
		out.Sizes = &Sizes{First: d.Sizes.First, Second: d.Sizes.Second, Layers: []LayerSize{}}
		for _, l := range d.Sizes.Layers {
			out.Sizes.Layers = append(out.Sizes.Layers, LayerSize(l))
		}
	}
	for _, l := range d.Layers {
		out.Layers = append(out.Layers, Layer{Index: l.Index, First: l.First, Second: l.Second, Files: newFiles(l.Files)})
	}
	return &Report{Version: Version, Verb: verb, Diff: out}
}

// NewLock reports what lock wrote, or would write if check is set.
func NewLock(l *kedge.Locked, check bool) *Report {
	out := &Lock{Check: check, Changed: l.Changed, Target: l.Target, Sources: l.Sources, Changes: NewLockChanges(l.Changes)}
	out.Downloads = newDownloads(l.OldRecord, l.Record)
	if l.OldTarget != l.Target && l.OldTarget != "" {
		out.Changes = append(out.Changes, LockChange{Kind: "target", Old: l.OldTarget, New: l.Target})
	}
	if l.OldStrict != l.Strict {
		out.Changes = append(out.Changes, LockChange{Kind: "strict-target", Old: strconv.FormatBool(l.OldStrict), New: strconv.FormatBool(l.Strict)})
	}
	if !l.OldEpoch.Equal(l.Epoch) && !l.OldEpoch.IsZero() {
		out.Changes = append(out.Changes, LockChange{Kind: "epoch", Old: l.OldEpoch.Format(time.RFC3339), New: l.Epoch.Format(time.RFC3339)})
	}
	if l.OldRules != l.Rules && l.OldRules != 0 {
		out.Changes = append(out.Changes, LockChange{Kind: "rules", Old: strconv.Itoa(l.OldRules), New: strconv.Itoa(l.Rules)})
	}
	for _, c := range l.Environment {
		out.Changes = append(out.Changes, LockChange{Kind: "environment", Ref: c.Variable, Old: strings.Join(c.Old, ", "), New: strings.Join(c.New, ", ")})
	}
	if l.Record != nil {
		out.Downloads = newDownloads(l.OldRecord, l.Record)
	}
	return &Report{Version: Version, Verb: "lock", Lockfile: l.Lockfile, Args: l.ArgsHash, Epoch: l.Epoch, Lock: out}
}

// NewImageMove reports a moved image, whose packages differ as d says.
func NewImageMove(c lock.Change, d *diff.Result) ImageMove {
	move := ImageMove{Ref: c.Source.Ref, Old: c.Old, New: c.New, Packages: []Package{}}
	for _, p := range d.Packages {
		move.Packages = append(move.Packages, Package{p.Kind, p.Name, Change(p.Change), p.First, p.Second})
	}
	return move
}

// NewLockChanges returns changes of pins as a report has them.
func NewLockChanges(changes []lock.Change) []LockChange {
	out := []LockChange{}
	for _, c := range changes {
		out = append(out, LockChange{Kind: string(c.Source.Kind), Ref: c.Source.Ref, Old: c.Old, New: c.New})
	}
	return out
}

func newFile(p diff.Path) File { return File{Path: p.Path, Change: Change(p.Change), What: p.What} }

func newFiles(files []diff.File) []File {
	out := []File{}
	for _, f := range files {
		file := newFile(f.Path)
		file.First, file.Second = newStat(f.First), newStat(f.Second)
		out = append(out, file)
	}
	return out
}

func newStat(s *diff.Stat) *Stat {
	if s == nil {
		return nil
	}
	return &Stat{Type: s.Type, Size: s.Size, Mode: s.Mode, UID: s.UID, GID: s.GID, Time: s.Time, Target: s.Target, Device: s.Device}
}

// explained returns f with the causes and the content of x, which is the same path.
func (f File) explained(x explain.File) File {
	for _, c := range x.Causes {
		f.Causes = append(f.Causes, Cause{string(c.Kind), c.Where, c.Offset, c.First, c.Second, c.Why, c.Fix, c.Format, string(c.Clock), c.Count})
	}
	f.First, f.Second = excerpted(f.First, x.First), excerpted(f.Second, x.Second)
	f.Package = x.Package
	return f
}

// excerpted returns s with the excerpt of v. If s is nil, it starts from the header of v.
func excerpted(s *Stat, v *explain.Version) *Stat {
	if v == nil {
		return s
	}
	if s == nil {
		s = headerStat(&v.Header)
	}
	if v.Excerpt != nil {
		s.Excerpt = &Excerpt{Data: v.Excerpt, Offset: v.Offset, Line: v.Line, Truncated: v.Truncated}
	}
	return s
}

var typeNames = map[byte]string{
	tar.TypeReg: "file", tar.TypeDir: "directory", tar.TypeSymlink: "symlink", tar.TypeLink: "hardlink",
	tar.TypeChar: "char", tar.TypeBlock: "block", tar.TypeFifo: "fifo",
}

func headerStat(h *tar.Header) *Stat {
	s := &Stat{
		Type: typeNames[h.Typeflag], Size: h.Size, Mode: strconv.FormatInt(h.Mode&0o7777, 8), UID: h.Uid, GID: h.Gid,
		Time: h.ModTime.UTC().Format(time.RFC3339Nano), Target: h.Linkname,
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		s.Device = fmt.Sprintf("%d:%d", h.Devmajor, h.Devminor)
	}
	return s
}
