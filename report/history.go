package report

import (
	"bufio"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:embed history.html.tmpl
var historyMarkup string

//go:embed history.css
var historyStyle string

var parsedHistory = sync.OnceValues(func() (*template.Template, error) {
	return template.New("history").Funcs(template.FuncMap{"n": grouped}).Parse(historyMarkup)
})

// Limits of the page of a history.
const (
	maxBuilds = 2000 // builds that the page lists; charts have all
	maxBars   = 1000 // builds that a chart names
	maxSparks = 60   // layers
)

// historyPage is the value that the template shows.
type historyPage struct {
	Policy string
	Style  template.CSS
	Title  text
	Span   string
	Total  int
	Charts []chart
	Often  table
	Found  table
	Layers []spark
	Builds []historyBuild
	More   int
}

// chart draws one number over all builds.
type chart struct {
	Title, First, Last, Change, Min, Max string
	Line, Area                           string // of an SVG path
	Bars                                 []bar
}

// bar is the part of a chart that belongs to one build.
type bar struct {
	X, Width string
	Text     text
}

// spark draws the size of one layer over all builds.
type spark struct {
	By          text
	Line        string
	Size, Moved string
}

type historyBuild struct {
	Time, Date              string
	Commit, Subject, Digest text
	Base, Reason            text
	Size, Download          string
	Files, Packages         int
	Most, Moved             []text
	MoreMoved               int
	Found                   text
}

// writeHistory writes the history of a record as a page without a script.
func writeHistory(w io.Writer, l *DriftLog) error {
	t, err := parsedHistory()
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(w, 64<<10)
	if err := t.Execute(b, newHistoryPage(l)); err != nil {
		return err
	}
	return b.Flush()
}

func newHistoryPage(l *DriftLog) *historyPage {
	all := style + historyStyle
	p := &historyPage{
		Policy: "default-src 'none'; style-src " + sourceHash(all) + "; base-uri 'none'; form-action 'none'",
		Style:  template.CSS(all), Title: visible(l.Record, maxName), Total: len(l.Builds),
	}
	if len(l.Builds) == 0 {
		p.Span = "git has no build of it"
		return p
	}
	first, last := l.Builds[0], l.Builds[len(l.Builds)-1]
	p.Span = fmt.Sprintf("%s, %s to %s", Counted(len(l.Builds), "build"), first.Time.Format(time.DateOnly), last.Time.Format(time.DateOnly))
	p.Charts = []chart{
		newChart("Size", l.Builds, human, func(b *DriftBuild) int64 { return b.Size }),
		newChart("Download", l.Builds, human, func(b *DriftBuild) int64 { return b.Download }),
		newChart("Files", l.Builds, whole, func(b *DriftBuild) int64 { return int64(b.Files) }),
		newChart("Packages", l.Builds, whole, func(b *DriftBuild) int64 { return int64(b.Packages) }),
	}
	p.Often = tabulate(l.Often, func(o DriftOften) entry {
		last := lastMove(l.Builds, o)
		if with := o.with(); with != "" {
			last += "; lint: " + with
		}
		return newEntry(o.Kind, o.Name, grouped(o.Builds), last)
	})
	p.Found = tabulate(l.found(), func(f ruleBuilds) entry {
		return newEntry(strconv.Itoa(f.practice), f.rule, grouped(f.builds), grouped(f.now))
	})
	p.Layers = sparks(l.Builds)
	left := budget(maxListing)
	for i := range slices.Backward(l.Builds) {
		b := newHistoryBuild(&l.Builds[i])
		if len(p.Builds) == maxBuilds || !left.take(b.cost()) {
			p.More = i + 1
			break
		}
		p.Builds = append(p.Builds, b)
	}
	return p
}

func whole(n int64) string { return grouped(int(n)) }

// newChart draws a number of each build. The axis begins at the smallest, with some room, because an image is never
// near zero.
func newChart(title string, builds []DriftBuild, words func(int64) string, value func(*DriftBuild) int64) chart {
	values := make([]int64, len(builds))
	for i := range builds {
		values[i] = value(&builds[i])
	}
	lowest, highest := slices.Min(values), slices.Max(values)
	c := chart{
		Title: title, First: words(values[0]), Last: words(values[len(values)-1]), Min: words(lowest), Max: words(highest),
		Line: curve(values, lowest, highest, 160),
	}
	if delta := values[len(values)-1] - values[0]; delta != 0 {
		sign := "+"
		if delta < 0 {
			sign, delta = "-", -delta
		}
		c.Change = sign + words(delta)
	}
	c.Area = c.Line + "L1000 160L0 160Z"
	if len(builds) <= maxBars {
		width := 1000 / float64(len(builds))
		for i := range builds {
			text := fmt.Sprintf("%s: %s, %s", builds[i].Time.Format(time.DateOnly), words(values[i]), builds[i].Subject)
			c.Bars = append(c.Bars, bar{fmt.Sprintf("%.2f", float64(i)*width), fmt.Sprintf("%.2f", width), visible(text, maxName)})
		}
	}
	return c
}

// curve returns the SVG path through values, in a box 1000 wide.
func curve(values []int64, lowest, highest int64, height float64) string {
	const room = 12
	var b strings.Builder
	for i, v := range values {
		y := height / 2
		if highest > lowest {
			y = height - room - (height-2*room)*float64(v-lowest)/float64(highest-lowest)
		}
		x := 1000 * (float64(i) + .5) / float64(len(values))
		if i == 0 {
			fmt.Fprintf(&b, "M0 %.1f", y)
		}
		fmt.Fprintf(&b, "L%.1f %.1f", x, y)
		if i == len(values)-1 {
			fmt.Fprintf(&b, "L1000 %.1f", y)
		}
	}
	return b.String()
}

// lastMove says how something moved last.
func lastMove(builds []DriftBuild, o DriftOften) string {
	for i := range slices.Backward(builds) {
		for _, m := range builds[i].Moved {
			if m.Kind == o.Kind && m.Name == o.Name {
				return builds[i].Time.Format(time.DateOnly) + ": " + m.change()
			}
		}
	}
	return ""
}

// change says how it moved, without its name.
func (m DriftMove) change() string {
	switch {
	case (m.Kind == "folder" || m.Kind == "layer") && m.Bytes == 0:
		return "changed"
	case m.Kind == "folder" || m.Kind == "layer":
		return signed(m.Bytes)
	case m.First == "":
		return m.Second + " added"
	case m.Second == "":
		return "removed"
	}
	return m.First + " -> " + m.Second
}

// sparks draws the layers of the last build. Layers of one instruction are told apart by their order.
func sparks(builds []DriftBuild) []spark {
	type step struct {
		by string
		nr int
	}
	last := builds[len(builds)-1].Layers
	series := map[step][]int64{}
	moved := map[step]int{}
	before := map[step]string{}
	for i := range builds {
		seen := map[string]int{}
		for _, l := range builds[i].Layers {
			k := step{l.By, seen[l.By]}
			seen[l.By]++
			series[k] = append(series[k], l.Size)
			if old, ok := before[k]; ok && old != l.DiffID {
				moved[k]++
			}
			before[k] = l.DiffID
		}
	}
	var list []spark
	seen := map[string]int{}
	for _, l := range last[:min(len(last), maxSparks)] {
		k := step{l.By, seen[l.By]}
		seen[l.By]++
		values := series[k]
		name := l.By
		if name == "" {
			name = "(no instruction)"
		}
		list = append(list, spark{visible(name, maxName), curve(values, slices.Min(values), slices.Max(values), 100), human(l.Size), "moved " + Counted(moved[k], "time")})
	}
	return list
}

func newHistoryBuild(b *DriftBuild) historyBuild {
	out := historyBuild{
		Time: b.Time.Format(time.RFC3339), Date: b.Time.Format(time.DateOnly),
		Commit: visible(b.Commit, maxName), Subject: visible(b.Subject, maxName), Digest: visible(b.Digest, maxName),
		Base: visible(b.Base, maxName), Reason: visible(b.Reason, maxText),
		Size: human(b.Size), Download: human(b.Download), Files: b.Files, Packages: b.Packages,
	}
	for _, words := range b.most() {
		out.Most = append(out.Most, visible(words, maxName))
	}
	var found []string
	for _, f := range b.Findings {
		found = append(found, fmt.Sprintf("%s (%d)", f.Rule, f.Count))
	}
	out.Found = visible(strings.Join(found, ", "), maxText)
	const most = 40
	for i, m := range b.Moved {
		if i == most {
			out.MoreMoved = len(b.Moved) - i
			break
		}
		out.Moved = append(out.Moved, visible(m.words(), maxName))
	}
	return out
}

// cost is about how many bytes of HTML the build takes.
func (b *historyBuild) cost() int {
	n := 900 + b.Subject.cost() + b.Reason.cost() + b.Found.cost()
	for _, t := range append(slices.Clone(b.Most), b.Moved...) {
		n += 30 + t.cost()
	}
	return n
}
