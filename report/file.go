package report

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// file is a row of the tree, and the details that unfold below it.
type file struct {
	ID         int
	Name       text
	Change     Change
	What       text
	Kinds      []text
	Facts      []versionFact
	Both       text // what is the same in both versions
	Causes     []cause
	MoreCauses int
	Patch      bool // the patch is about its layer
	Comparison *comparison
	Open       bool
	Omitted    bool // the page has no room for its excerpt
}

// Body reports whether there are details to unfold.
func (f *file) Body() bool {
	return len(f.Facts) > 0 || len(f.Both) > 0 || len(f.Causes) > 0 || f.Patch || f.Comparison != nil || f.Omitted
}

// versionFact is a property that differs between two versions.
type versionFact struct {
	Name          string
	First, Second text
}

type cause struct {
	Kind, Where, Why, Fix, First, Second text
}

// file returns the view of a file, or nil if the page is full. The patch is about the file if patched is set.
func (p *page) file(l leaf, patched bool) *file {
	in := l.file
	f := &file{Patch: patched && len(in.Causes) > 0 && len(p.Patch) > 0}
	listed := p.explain(in)
	if p.listing > 0 {
		f.describe(l, p.Many() && listed)
	}
	if p.listing.take(f.cost()) {
		p.listed++
		f.ID = p.listed
	}
	for _, x := range p.samples {
		x.ID = f.ID
	}
	if f.ID == 0 {
		p.Unlisted++
		return nil
	}
	if first, second := excerpt(in.First), excerpt(in.Second); first != nil || second != nil {
		if p.content > 0 {
			f.Comparison = compare(first, second)
		}
		if f.Comparison == nil || !p.content.take(f.Comparison.cost()) {
			f.Comparison, f.Omitted = nil, true
		}
	}
	if f.Comparison == nil && (f.Omitted || slices.Contains(in.What, "content")) {
		p.Unshown++
	}
	f.Open = p.Files <= 3
	return f
}

// describe fills in everything except the content. If brief is set, it leaves out the reasons that the summary
// already gives.
func (f *file) describe(l leaf, brief bool) {
	in := l.file
	f.Name = visible(l.name, maxName)
	f.What = visible(strings.Join(in.What, ", "), maxName)
	if f.Change = Changed; in.Change == Added || in.Change == Removed {
		f.Change = in.Change
	}
	f.Facts, f.Both = versionFacts(in.First, in.Second)
	for i, c := range in.Causes {
		if i == maxCauses {
			f.MoreCauses = len(in.Causes) - i
			break
		}
		v := cause{
			Kind: visible(c.Kind, maxName), Where: visible(c.Where, maxText),
			First: visible(c.First, maxName), Second: visible(c.Second, maxName),
		}
		if !brief {
			v.Why, v.Fix = visible(c.Why, maxText), visible(c.Fix, maxText)
		}
		f.Causes = append(f.Causes, v)
		if !slices.ContainsFunc(f.Kinds, func(k text) bool { return slices.Equal(k, v.Kind) }) {
			f.Kinds = append(f.Kinds, v.Kind)
		}
	}
}

// cost estimates how many bytes of HTML f takes without its content.
func (f *file) cost() int {
	n := 200 + f.Name.cost() + f.What.cost() + f.Both.cost()
	for _, k := range f.Kinds {
		n += 30 + k.cost()
	}
	for _, x := range f.Facts {
		n += 80 + x.First.cost() + x.Second.cost()
	}
	for _, c := range f.Causes {
		n += 200
		for _, t := range []text{c.Kind, c.Where, c.Why, c.Fix, c.First, c.Second} {
			n += t.cost()
		}
	}
	return n
}

func excerpt(v *Stat) *Excerpt {
	if v == nil {
		return nil
	}
	return v.Excerpt
}

// versionFacts returns what differs between two versions, and in one line what does not. Either may be nil.
func versionFacts(first, second *Stat) (differ []versionFact, same text) {
	one := first == nil || second == nil
	a, b := first.facts(), second.facts()
	var both []string
	for i, name := range []string{"type", "mode", "owner", "size", "time", "link", "device"} {
		switch {
		case one && a[i]+b[i] != "":
			both = append(both, a[i]+b[i])
		case a[i] != b[i]:
			differ = append(differ, versionFact{name, visible(a[i], maxText), visible(b[i], maxText)})
		case a[i] != "":
			both = append(both, a[i])
		}
	}
	return differ, visible(strings.Join(both, " · "), maxText)
}

// facts are the type, mode, owner, size, time, target and device of s, in words.
func (s *Stat) facts() [7]string {
	if s == nil {
		return [7]string{}
	}
	return [7]string{s.Type, s.Mode, s.owner(), size(s.Size), s.Time, s.Target, s.Device}
}

// moment writes a time to the second, and its fraction if there is one.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05.999999999 UTC")
}

func size(n int64) string {
	switch {
	case n <= 0:
		return ""
	case n == 1:
		return "1 byte"
	}
	return grouped(int(n)) + " bytes"
}

// grouped writes a number with a comma between thousands.
func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
