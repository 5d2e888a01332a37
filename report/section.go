package report

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// point is a fact in a word and a text.
type point struct{ title, text string }

// section is a list in words.
type section struct {
	title string
	items []item
}

// item is an entry of a section. Renderers escape name, first and second, which may be hostile.
type item struct {
	change        string
	kind          string // of a package or a source
	name          string
	first, second string
	what          string // in kedge's own words
	causes        []Cause
}

// summary returns counts and bytes of what differs between two images.
func (d *Diff) summary() []point {
	var lines []point
	tally := func(title, more string, changes []Change) {
		if len(changes) == 0 {
			return
		}
		count := map[Change]int{}
		for _, c := range changes {
			count[c]++
		}
		var parts []string
		for _, c := range []Change{Added, Removed, Changed} {
			if count[c] > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", count[c], c))
			}
		}
		lines = append(lines, point{title, strings.Join(parts, ", ") + more})
	}
	var packages, settings, paths []Change
	for _, p := range d.Packages {
		packages = append(packages, p.Change)
	}
	for _, s := range d.Config {
		settings = append(settings, s.Change)
	}
	var bytes int64
	for _, f := range d.Files {
		paths = append(paths, f.Change)
		if f.Second != nil {
			bytes += f.Second.Size
		}
		if f.First != nil {
			bytes -= f.First.Size
		}
	}
	tally("packages", "", packages)
	tally("config", "", settings)
	tally("files", ", "+signed(bytes), paths)
	if len(d.History) > 0 {
		lines = append(lines, point{"history", fmt.Sprintf("%d differ", len(d.History))})
	}
	if s := d.Sizes; s != nil && (s.First != s.Second || !d.Same) {
		lines = append(lines, point{"size", fmt.Sprintf("%s -> %s (%s, compressed)", human(s.First), human(s.Second), signed(s.Second-s.First))})
	}
	if len(d.Layers) > 0 || !d.Same && len(d.Shared) > 0 {
		text := fmt.Sprintf("%d shared", len(d.Shared))
		if len(d.Layers) > 0 { // none may also mean that layers were not compared
			text += fmt.Sprintf(", %d differ", len(d.Layers))
		}
		lines = append(lines, point{"layers", text})
	}
	return lines
}

func human(n int64) string { return units.HumanSize(float64(n)) }

func signed(n int64) string {
	if n < 0 {
		return "-" + human(-n)
	}
	return "+" + human(n)
}

// sections returns the lists of a report that have an entry.
func (r *Report) sections() []section {
	var list []section
	switch {
	case r.Diff != nil:
		list = r.Diff.sections()
	case r.Lock != nil:
		list = append(r.Downloads.sections(), section{"changes", lockRows(r.Changes)})
		for _, move := range r.Images {
			list = append(list, section{"packages of " + plain(move.Ref), packageRows(move.Packages)})
		}
	case r.Image != nil && r.Verdict != nil:
		for _, p := range r.Verdict.Platforms {
			for _, l := range p.Layers {
				s := section{plain(p.Platform) + ", " + l.title(r.Dockerfile), layerRows(l.Files)}
				for _, from := range l.From {
					s.items = append(s.items, item{change: "-", what: "made by an earlier stage: " + from.words(r.Dockerfile)})
				}
				if len(l.Caches) > 0 {
					s.items = append(s.items, item{change: "-", what: l.caches()})
				}
				list = append(list, s)
			}
			list = append(list, r.traceSections(p)...)
		}
		gaps := section{title: "not covered"}
		for _, g := range r.Verdict.NotCovered {
			gaps.items = append(gaps.items, item{change: g.Kind, what: g.words(r.Dockerfile)})
		}
		list = append(list, gaps)
	case r.Image != nil && r.Verb == "explain":
		for _, platform := range slices.Sorted(maps.Keys(r.Normalised)) {
			s := section{title: plain(platform)}
			for _, rule := range slices.Sorted(maps.Keys(r.Normalised[platform])) {
				for _, path := range r.Normalised[platform][rule] {
					s.items = append(s.items, item{change: rule, name: path, what: strings.TrimSpace(r.Rules[rule] + r.madeBy(platform, path))})
				}
			}
			list = append(list, s)
		}
	}
	return slices.DeleteFunc(list, section.empty)
}

func (s section) empty() bool { return len(s.items) == 0 }

// sections returns what differs, the most telling first.
func (d *Diff) sections() []section {
	var packages, config, history, sizes []item
	packages = packageRows(d.Packages)
	for _, s := range d.Config {
		config = append(config, item{change: string(s.Change), name: s.Key, first: s.First, second: s.Second})
	}
	for _, s := range d.History {
		change := Changed
		if s.First == nil {
			change = Added
		} else if s.Second == nil {
			change = Removed
		}
		history = append(history, item{change: string(change), name: strconv.Itoa(s.Index), first: s.First.words(), second: s.Second.words()})
	}
	if d.Sizes != nil && len(d.Layers) > 0 {
		for _, l := range d.Sizes.Layers {
			sizes = append(sizes, item{change: string(Changed), name: "layer " + strconv.Itoa(l.Index), what: human(l.First) + " -> " + human(l.Second)})
		}
	}
	list := []section{{"packages", packages}, {"config", config}, {"files", fileRows(d.Files)}, {"history", history}, {"sizes", sizes}}
	for _, l := range d.Layers {
		if rows := layerRows(l.Files); len(d.Layers) > 1 || !reflect.DeepEqual(rows, fileRows(d.Files)) { // or it would say the same again
			list = append(list, section{l.title(""), rows})
		}
	}
	return list
}

func packageRows(packages []Package) []item {
	var rows []item
	for _, p := range packages {
		rows = append(rows, item{change: string(p.Change), kind: p.Kind, name: p.Name, first: p.First, second: p.Second})
	}
	return rows
}

func lockRows(changes []LockChange) []item {
	var rows []item
	for _, c := range changes {
		rows = append(rows, item{change: c.verb(), kind: c.Kind, name: c.Ref, first: c.Old, second: c.New})
	}
	return rows
}

// verb says in a word what a lock did.
func (c LockChange) verb() string {
	switch {
	case c.Old == "":
		return "locked"
	case c.New == "":
		return "dropped"
	}
	return "moved"
}

// Words says what a lock did, or would do.
func (c LockChange) Words(would bool) string {
	verb := c.verb()
	if would {
		verb = map[string]string{"locked": "would lock", "dropped": "would drop", "moved": "would move"}[verb]
	}
	what := strings.TrimSpace(c.Kind + " " + c.Ref)
	if stage, name, ok := strings.Cut(c.Ref, " "); ok && c.Kind == "environment" {
		what = fmt.Sprintf("%s of stage %s", name, stage)
	}
	switch {
	case c.Kind == "rules":
		what = "normalisation rules"
	case c.Old == "":
		return fmt.Sprintf("%s %s at %s", verb, what, c.New)
	case c.New == "":
		return fmt.Sprintf("%s %s, which nothing uses", verb, what)
	}
	return fmt.Sprintf("%s %s: %s -> %s", verb, what, c.Old, c.New)
}

// layerRows returns a row that says so if no file of a layer differs.
func layerRows(files []File) []item {
	if len(files) == 0 {
		return []item{{change: "-", what: sameFiles}}
	}
	return fileRows(files)
}

func fileRows(files []File) []item {
	var rows []item
	for _, f := range files {
		rows = append(rows, item{change: string(f.Change), name: f.Path, what: f.words(), causes: f.Causes})
	}
	return rows
}

func (s *StepState) words() string {
	if s == nil {
		return ""
	}
	return strings.Join(slices.DeleteFunc([]string{s.CreatedBy, s.Comment, s.Author, s.Created}, func(s string) bool { return s == "" }), ", ")
}

// words says what differs about a path, with short values, and what it is now allowed to do.
func (f *File) words() string {
	var parts []string
	for _, what := range f.What {
		if a, b := f.First, f.Second; a != nil && b != nil {
			switch what {
			case "type":
				what = a.Type + " -> " + b.Type
			case "content":
				if a.Size != b.Size {
					what = "content, " + signed(b.Size-a.Size)
				}
			case "mode":
				what = "mode " + a.Mode + " -> " + b.Mode
			case "owner":
				what = "owner " + a.owner() + " -> " + b.owner()
			case "target":
				what = "target " + short(a.Target) + " -> " + short(b.Target)
			}
		}
		parts = append(parts, what)
	}
	if only := f.only(); only != nil && only.Type == "file" {
		parts = append(parts, human(only.Size))
	} else if only != nil {
		parts = append(parts, only.Type)
	}
	if f.Second != nil {
		parts = append(parts, f.Second.warnings(f.First)...)
	}
	return plain(strings.Join(parts, ", "))
}

// only returns the path in the one image that has it, or nil if both do.
func (f *File) only() *Stat {
	switch f.Change {
	case Added:
		return f.Second
	case Removed:
		return f.First
	}
	return nil
}

func (s *Stat) owner() string { return fmt.Sprintf("%d:%d", s.UID, s.GID) }

// warnings say what a path may do that it could not before.
func (s *Stat) warnings(before *Stat) []string {
	var list []string
	gained := s.bits() &^ before.bits()
	for _, w := range []struct {
		bit  uint64
		name string
		only string
	}{{0o4000, "setuid", "file"}, {0o2000, "setgid", "file"}, {0o002, "world-writable", ""}} {
		if gained&w.bit != 0 && (w.only == "" || w.only == s.Type) {
			list = append(list, w.name)
		}
	}
	return list
}

// bits returns the mode bits that count for a warning.
func (s *Stat) bits() uint64 {
	if s == nil || s.Type == "symlink" || s.Type == "whiteout" {
		return 0
	}
	n, _ := strconv.ParseUint(s.Mode, 8, 32)
	if n&0o1000 != 0 && s.Type == "directory" {
		n &^= 0o002 // as /tmp is
	}
	return n
}
