package diff

import (
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// maxShown is how many differences of a kind a person is shown; JSON has all.
const maxShown = 20

// WriteText writes a result for people to read: a summary, then at most 20 differences of a kind.
// Names from the images are escaped, so that none reaches a terminal as a command.
func (r *Result) WriteText(w io.Writer) error {
	t := &text{w: w}
	t.summary(r)
	for _, s := range r.sections() {
		if len(s.rows) == 0 {
			continue
		}
		t.printf("\n%s\n", s.title)
		for i, row := range s.rows {
			if i == maxShown {
				t.printf("  and %d more (--format json has all)\n", len(s.rows)-i)
				break
			}
			t.printf("  %-8s %s\n", row.change, row.text())
		}
	}
	for _, n := range r.Notes {
		t.printf("\nnote: %s\n", safe(n))
	}
	return t.err
}

// text keeps the first error.
type text struct {
	w   io.Writer
	err error
}

func (t *text) printf(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format, args...)
	}
}

func (t *text) summary(r *Result) {
	t.printf("%s\n", r.verdict())
	for i, s := range []Side{r.First, r.Second} {
		name := ""
		if s.Name != "" {
			name = "  " + safe(s.Name)
		}
		t.printf("  %-9s %s  %s%s\n", [...]string{"first", "second"}[i], s.Digest, safe(s.Platform), name)
	}
	for _, l := range r.summary() {
		t.printf("  %-9s %s\n", l.title, l.text)
	}
}

// verdict is the result in a line.
func (r *Result) verdict() string {
	switch {
	case r.Same && r.First.Digest == r.Second.Digest:
		return "same: one and the same image"
	case r.Same:
		return "same: in what was compared"
	}
	return "different"
}

type summaryLine struct{ title, text string }

// summary returns counts and bytes, for what there is to say.
func (r *Result) summary() []summaryLine {
	var lines []summaryLine
	counted := func(title, more string, changes []Change) {
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
		lines = append(lines, summaryLine{title, strings.Join(parts, ", ") + more})
	}
	var packages, settings, paths []Change
	for _, p := range r.Packages {
		packages = append(packages, p.Change)
	}
	for _, s := range r.Config {
		settings = append(settings, s.Change)
	}
	var bytes int64
	for _, f := range r.Files {
		paths = append(paths, f.Change)
		if f.Second != nil {
			bytes += f.Second.Size
		}
		if f.First != nil {
			bytes -= f.First.Size
		}
	}
	counted("packages", "", packages)
	counted("config", "", settings)
	counted("files", ", "+signed(bytes), paths)
	if len(r.History) > 0 {
		lines = append(lines, summaryLine{"history", fmt.Sprintf("%d differ", len(r.History))})
	}
	if s := r.Sizes; s != nil && (s.First != s.Second || !r.Same) {
		lines = append(lines, summaryLine{"size", fmt.Sprintf("%s -> %s (%s, compressed)", size(s.First), size(s.Second), signed(s.Second-s.First))})
	}
	if len(r.Layers) > 0 || !r.Same && len(r.Shared) > 0 {
		text := fmt.Sprintf("%d shared", len(r.Shared))
		if len(r.Layers) > 0 { // none may also be: not compared
			text += fmt.Sprintf(", %d differ", len(r.Layers))
		}
		lines = append(lines, summaryLine{"layers", text})
	}
	return lines
}

func size(n int64) string { return units.HumanSize(float64(n)) }

func signed(n int64) string {
	if n < 0 {
		return "-" + size(-n)
	}
	return "+" + size(n)
}

// section is a part of a result, in the words for people.
type section struct {
	title string
	rows  []row
}

// row is a difference: name and values are from the images, and are to be escaped.
type row struct {
	change   string
	kind     string // of a package
	name     string
	old, new string
	what     string // kedge's own words
}

func (r row) text() string {
	var b strings.Builder
	if r.kind != "" {
		fmt.Fprintf(&b, "%-5s ", r.kind)
	}
	b.WriteString(safe(r.name))
	switch {
	case r.old != "" && r.new != "":
		fmt.Fprintf(&b, "  %s -> %s", short(r.old), short(r.new))
	case r.old != "" || r.new != "":
		fmt.Fprintf(&b, "  %s", short(r.old+r.new))
	}
	if r.what != "" {
		fmt.Fprintf(&b, "  (%s)", r.what)
	}
	return b.String()
}

// sections returns what differs, the most telling first.
func (r *Result) sections() []section {
	var packages, config, history, sizes []row
	for _, p := range r.Packages {
		packages = append(packages, row{change: string(p.Change), kind: p.Kind, name: p.Name, old: p.First, new: p.Second})
	}
	for _, s := range r.Config {
		config = append(config, row{change: string(s.Change), name: s.Key, old: s.First, new: s.Second})
	}
	for _, s := range r.History {
		row := row{change: string(Changed), name: strconv.Itoa(s.Index), old: s.First.words(), new: s.Second.words()}
		switch {
		case s.First == nil:
			row.change = string(Added)
		case s.Second == nil:
			row.change = string(Removed)
		}
		history = append(history, row)
	}
	if r.Sizes != nil && len(r.Layers) > 0 {
		for _, l := range r.Sizes.Layers {
			sizes = append(sizes, row{change: string(Changed), name: "layer " + strconv.Itoa(l.Index), what: size(l.First) + " -> " + size(l.Second)})
		}
	}
	list := []section{{"packages", packages}, {"config", config}, {"files", fileRows(r.Files)}, {"history", history}, {"sizes", sizes}}
	for _, l := range r.Layers {
		if len(r.Layers) == 1 && reflect.DeepEqual(l.Files, r.Files) {
			break // it would say the same again
		}
		rows := fileRows(l.Files)
		if len(rows) == 0 {
			rows = []row{{change: "-", what: "the same paths in another order"}}
		}
		list = append(list, section{"layer " + strconv.Itoa(l.Index), rows})
	}
	return list
}

func fileRows(files []File) []row {
	var rows []row
	for _, f := range files {
		rows = append(rows, row{change: string(f.Change), name: f.Path.Path, what: f.words()})
	}
	return rows
}

func (s *StepState) words() string {
	if s == nil {
		return ""
	}
	var parts []string
	for _, p := range []string{s.CreatedBy, s.Comment, s.Author, s.Created} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, ", ")
}

// words says what differs about a path, with the values where they are short, and what is dangerous
// about it now.
func (f *File) words() string {
	var parts []string
	for _, what := range f.What {
		switch what {
		case "type":
			what = f.First.Type + " -> " + f.Second.Type
		case "content":
			if f.First.Size != f.Second.Size {
				what = fmt.Sprintf("content, %s", signed(f.Second.Size-f.First.Size))
			}
		case "mode":
			what = "mode " + f.First.Mode + " -> " + f.Second.Mode
		case "owner":
			what = fmt.Sprintf("owner %d:%d -> %d:%d", f.First.UID, f.First.GID, f.Second.UID, f.Second.GID)
		case "target":
			what = "target " + short(f.First.Target) + " -> " + short(f.Second.Target)
		}
		parts = append(parts, what)
	}
	if f.Change != Changed {
		if s := f.only(); s.Type == "file" {
			parts = append(parts, size(s.Size))
		} else {
			parts = append(parts, s.Type)
		}
	}
	if f.Second != nil {
		parts = append(parts, f.Second.warnings(f.First)...)
	}
	return strings.Join(parts, ", ")
}

func (f *File) only() *Stat {
	if f.Second != nil {
		return f.Second
	}
	return f.First
}

// warnings are what a path may do that it could not before.
func (s *Stat) warnings(old *Stat) []string {
	bits := func(s *Stat) uint64 {
		if s == nil || s.Type == "symlink" || s.Type == "whiteout" {
			return 0
		}
		n, _ := strconv.ParseUint(s.Mode, 8, 32)
		if n&0o1000 != 0 && s.Type == "directory" {
			n &^= 0o002 // as /tmp is
		}
		return n
	}
	var list []string
	gained := bits(s) &^ bits(old)
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

// safe returns a name as it is, if it is plain, otherwise quoted.
func safe(s string) string {
	if q := strconv.Quote(s); q[1:len(q)-1] != s || s == "" {
		return q
	}
	return s
}

// short is safe, of a value that may be long.
func short(s string) string {
	const n = 100
	if r := []rune(s); len(r) > n {
		s = string(r[:n-1]) + "…"
	}
	return safe(s)
}
