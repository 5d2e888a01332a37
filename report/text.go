package report

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// How much of a list is printed. JSON has all of it.
const (
	maxPaths     = 20  // rows of a section, and paths of a layer
	maxExplained = 100 // files that explain prints
	maxReasons   = 3   // causes of a file
	maxCaches    = 3   // cache mounts of a layer
)

// writeText writes r for a terminal.
func writeText(w io.Writer, r *Report) error {
	t := &printer{}
	r = r.compared()
	switch {
	case r.Lint != nil:
		t.lint(r)
	case r.DriftLog != nil:
		t.driftLog(r.DriftLog)
	case r.Promotion != nil:
		t.promotion(r.Promotion)
	case r.Diff != nil && r.Verb == "explain":
		t.explained(r)
	case r.Diff != nil:
		t.differences(r)
	case r.Lock != nil:
		if !r.Check || !r.Changed { // otherwise stderr says that the lockfile is not up to date
			t.printf("%s\n", r.headline())
		}
		t.sections(slices.DeleteFunc(r.Downloads.sections(), section.empty)) // stderr says what else changed
	case r.Image != nil && r.Verb == "explain":
		t.rules(r)
	case r.Image != nil:
		t.build(r)
	}
	_, err := w.Write(t.Bytes())
	return err
}

// printer collects text.
type printer struct{ bytes.Buffer }

// printf prints like fmt.Fprintf, and makes every string harmless to a terminal.
func (t *printer) printf(format string, args ...any) {
	for i, a := range args {
		if v := reflect.ValueOf(a); v.Kind() == reflect.String {
			args[i] = plain(v.String())
		}
	}
	fmt.Fprintf(t, format, args...)
}

// headline is the answer in a line.
func (r *Report) headline() string {
	switch {
	case r.Lint != nil:
		return r.Lint.headline()
	case r.Drift != nil:
		return r.Drift.headline()
	case r.DriftLog != nil:
		return Counted(len(r.DriftLog.Builds), "build") + " of " + plain(r.DriftLog.Record)
	case r.Promotion != nil:
		return r.Promotion.headline()
	case r.Diff != nil && r.Same && r.First.Digest == r.Second.Digest:
		return "same: one and the same image"
	case r.Diff != nil && r.Same:
		return "same: nothing that was compared differs"
	case r.Diff != nil:
		return "different"
	case r.Lock != nil:
		return fmt.Sprintf("%s: %s, target %s", plain(r.Lockfile), Counted(r.Sources, "source"), plain(r.Target))
	case r.Image == nil || r.Verdict == nil:
		return "built once: nothing was compared"
	}
	words := "verified: two builds, the same bit for bit"
	switch {
	case r.Verdict.dated():
		words = "not reproducible: two builds agree, but files have the date of the build"
	case !r.Verdict.Reproducible:
		words = "not reproducible: two builds differ"
	}
	if len(r.Verdict.Varied) > 0 {
		words += " (the second varied in " + strings.Join(r.Verdict.Varied, ", ") + ")"
	}
	return words
}

func (t *printer) build(r *Report) {
	if r.Verdict != nil {
		t.printf("%s\n", r.headline())
		for _, p := range r.Verdict.Platforms {
			if !p.Same {
				t.platform(r.Dockerfile, p)
			}
			t.traces(r.Dockerfile, p)
		}
		if r.Verdict.Patch != "" {
			t.printf("write instead:\n")
			for line := range strings.Lines(r.Verdict.Patch) {
				t.printf("  %s\n", strings.TrimSuffix(line, "\n"))
			}
		}
		t.gaps(r)
	}
	for _, f := range r.facts() {
		t.printf("%-7s %s\n", f.title, f.text)
	}
}

// gaps prints what the verdict does not cover.
func (t *printer) gaps(r *Report) {
	for i, g := range r.Verdict.NotCovered {
		switch i {
		case 0:
			t.printf("not covered:\n")
		case maxPaths:
			t.printf("  and %d more (--format json has all)\n", len(r.Verdict.NotCovered)-i)
			return
		}
		t.printf("  %s\n", g.words(r.Dockerfile))
	}
}

// facts are what a build made.
func (r *Report) facts() []point {
	var facts []point
	if r.Verdict != nil && len(r.Verdict.Builders) == 2 {
		facts = append(facts, point{"first", r.Verdict.Builders[0].words()}, point{"second", r.Verdict.Builders[1].words()})
	}
	if r.Lockfile != "" {
		facts = append(facts, point{"lock", r.Lockfile})
	}
	facts = append(facts, point{"digest", r.Digest})
	if r.Index != "" {
		facts = append(facts, point{"index", r.Index + ", with attestations"})
	}
	for _, name := range r.Names {
		facts = append(facts, point{"tag", name})
	}
	return facts
}

func (t *printer) platform(dockerfile string, p Platform) {
	t.printf("%s\n  first   %s\n  second  %s\n", p.Platform, p.First, p.Second)
	if len(p.Layers) == 0 {
		t.printf("  the layers are the same: the image configs differ\n")
	}
	for _, l := range p.Layers {
		t.printf("  %s\n", l.title(dockerfile))
		t.files(l.Files, maxPaths)
		if len(l.Files) == 0 {
			t.printf("    %s\n", sameFiles)
		}
		for i, from := range l.From {
			if i == 0 {
				t.printf("    made by an earlier stage:\n")
			}
			t.printf("      %s\n", from.words(dockerfile))
		}
		if len(l.Caches) > 0 {
			t.printf("    %s\n", l.caches())
		}
	}
}

// sameFiles is said of a layer that differs in none of its files.
const sameFiles = "the same paths in another order"

// title names a layer, and the instruction that made it.
func (l *Layer) title(dockerfile string) string {
	s := "layer " + strconv.Itoa(l.Index)
	if l.Line > 0 {
		s += ", " + Origin{l.Line, l.Instruction}.words(dockerfile)
	}
	return s
}

func (o Origin) words(dockerfile string) string {
	return fmt.Sprintf("%s:%d: %s", plain(dockerfile), o.Line, shortened(plain(o.Instruction), 80))
}

func (l *Layer) caches() string {
	names, more := l.Caches, ""
	if n := len(names) - maxCaches; n > 0 {
		names, more = names[:maxCaches], fmt.Sprintf(" and %d more", n)
	}
	return "these cache mounts were empty in the second build: " + plain(strings.Join(names, ", ")) + more
}

// files prints paths that differ, at most so many, and why.
func (t *printer) files(files []File, most int) {
	for i, f := range files {
		if i == most {
			t.printf("    and %d more (--format json has all)\n", len(files)-i)
			return
		}
		t.printf("    %-8s %s", f.Change, f.Path)
		if f.below > 0 {
			t.printf(" and %s below it", Counted(f.below, "path"))
		}
		if len(f.What) > 0 {
			t.printf(" (%s)", strings.Join(f.What, ", "))
		}
		t.printf("\n")
		for i, c := range f.Causes {
			if i == maxReasons {
				t.printf("             and %s\n", Counted(len(f.Causes)-i, "more cause"))
				break
			}
			t.printf("             %s", c.Kind)
			if c.Where != "" {
				t.printf(" in %s", c.Where)
			}
			if c.First != "" || c.Second != "" {
				t.printf(": %s -> %s", quoted(c.First), quoted(c.Second))
			}
			t.printf("\n               %s\n", c.Why)
			if c.Fix != "" {
				t.printf("               fix: %s\n", c.Fix)
			}
		}
	}
}

func (t *printer) explained(r *Report) {
	if r.Same {
		t.printf("same\n")
		return
	}
	t.printf("different: %s, %s, %s\n", Counted(len(r.Files), "file"), Counted(len(r.Packages), "package"), Counted(len(r.Config), "setting"))
	files, paths := r.unpackaged()
	for i, row := range packageRows(r.Packages) {
		if i == maxExplained {
			t.printf("    and %s (--format json has all)\n", Counted(len(r.Packages)-i, "more package"))
			break
		}
		t.printf("    %-8s %s", row.change, row.text())
		if n := paths[r.Packages[i]]; n > 0 {
			t.printf("  (%s)", Counted(n, "path"))
		}
		t.printf("\n")
	}
	t.files(folded(files), maxExplained)
	for _, s := range r.Config {
		t.printf("    config   %s: %s -> %s\n", s.Key, quoted(s.First), quoted(s.Second))
	}
}

// unpackaged returns the files that did not come or go with a package, and how many did with each.
func (d *Diff) unpackaged() (files []File, paths map[Package]int) {
	paths = map[Package]int{}
	packages := map[[2]string]Package{}
	for _, p := range d.Packages {
		if p.Kind == "deb" {
			packages[[2]string{string(p.Change), p.Name}] = p
		}
	}
	for _, f := range d.Files {
		if p, ok := packages[[2]string{string(f.Change), f.Package}]; ok {
			paths[p]++
		} else {
			files = append(files, f)
		}
	}
	return files, paths
}

// folded returns files, which are sorted, without those below a folder that came or went with them: the folder stands
// for them.
func folded(files []File) []File {
	var list []File
	at := map[string]int{} // of what came or went
next:
	for _, f := range files {
		for dir := path.Dir(f.Path); f.Change != Changed && dir != path.Dir(dir); dir = path.Dir(dir) {
			if i, ok := at[dir]; ok && list[i].Change == f.Change {
				list[i].below++
				continue next
			}
		}
		if f.Change != Changed {
			at[f.Path] = len(list)
		}
		list = append(list, f)
	}
	return list
}

func (t *printer) rules(r *Report) {
	if len(r.Normalised) == 0 {
		t.printf("no rule applied\n")
	}
	for _, platform := range slices.Sorted(maps.Keys(r.Normalised)) {
		t.printf("%s\n", platform)
		for _, rule := range slices.Sorted(maps.Keys(r.Normalised[platform])) {
			t.printf("  %s: %s\n", rule, r.Rules[rule])
			for _, path := range r.Normalised[platform][rule] {
				t.printf("    %s%s\n", path, r.madeBy(platform, path))
			}
		}
	}
}

// madeBy says in which layers a path of an image was that a rule dropped or changed, and what made them.
func (i *Image) madeBy(platform, path string) string {
	text := ""
	for _, l := range i.Touched {
		if _, found := slices.BinarySearch(l.Paths, path); found && l.Platform == platform {
			text += fmt.Sprintf("  layer %d", l.Index)
			if l.CreatedBy != "" {
				text += ": " + plain(shortened(l.CreatedBy, 80))
			}
		}
	}
	return text
}

// sections prints lists, and at most so many rows of each.
func (t *printer) sections(list []section) {
	for _, s := range list {
		t.printf("\n%s\n", s.title)
		for i, row := range s.items {
			if i == maxPaths {
				t.printf("  and %d more (--format json has all)\n", len(s.items)-i)
				break
			}
			t.printf("  %-8s %s\n", row.change, row.text())
		}
	}
}

func (t *printer) differences(r *Report) {
	if r.Drift != nil {
		t.drift(r.Drift)
	} else {
		t.printf("%s\n", r.headline())
	}
	for i, s := range []Side{r.First, r.Second} {
		name := ""
		if s.Name != "" {
			name = "  " + plain(s.Name)
		}
		t.printf("  %-9s %s  %s%s\n", [...]string{"first", "second"}[i], s.Digest, s.Platform, name)
	}
	for _, l := range r.summary() {
		t.printf("  %-9s %s\n", l.title, l.text)
	}
	t.sections(r.sections())
	for _, n := range r.Notes {
		t.printf("\nnote: %s\n", n)
	}
}

func (i item) text() string {
	var b strings.Builder
	if i.kind != "" {
		fmt.Fprintf(&b, "%-5s ", i.kind)
	}
	b.WriteString(plain(i.name))
	switch {
	case i.first != "" && i.second != "":
		fmt.Fprintf(&b, "  %s -> %s", short(i.first), short(i.second))
	case i.first != "" || i.second != "":
		fmt.Fprintf(&b, "  %s", short(i.first+i.second))
	}
	if i.what != "" {
		fmt.Fprintf(&b, "  (%s)", i.what)
	}
	return b.String()
}

// plain returns s so that a terminal takes no part of it for a command: quoted if it has a character that
// cannot be printed.
func plain(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(s) {
		return strconv.Quote(s)
	}
	return s
}

// short is plain for a value that may be long.
func short(s string) string { return plain(shortened(s, 100)) }

func quoted(s string) string { return shortened(strconv.Quote(s), 60) }

func shortened(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// Counted returns "1 image" and "2 images".
func Counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
