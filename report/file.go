package report

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// file is a row of the tree, and what opens below it.
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
	Patch      int // its number
	Comparison *comparison
	Open       bool
	Omitted    bool // there is an excerpt, which the page has no room for
}

// Body says whether there is anything to open.
func (f *file) Body() bool {
	return len(f.Facts) > 0 || len(f.Both) > 0 || len(f.Causes) > 0 || f.Patch > 0 || f.Comparison != nil || f.Omitted
}

// versionFact is something that two versions differ in.
type versionFact struct {
	Name          string
	First, Second text
}

type cause struct {
	Kind, Where, Why, Fix, First, Second text
	Link                                 string
}

// file makes the view of a file, or nil where the page is full.
func (p *page) file(l leaf) *file {
	in := l.file
	f := &file{Patch: p.patch(in.Patch)}
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

// describe fills in all but the content; brief leaves out what the summary says of the causes.
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
			v.Why, v.Fix, v.Link = visible(c.Why, maxText), visible(c.Fix, maxText), link(c.Link)
		}
		f.Causes = append(f.Causes, v)
		if !slices.ContainsFunc(f.Kinds, func(k text) bool { return slices.Equal(k, v.Kind) }) {
			f.Kinds = append(f.Kinds, v.Kind)
		}
	}
}

// cost is about how many bytes of HTML f takes, without its content.
func (f *file) cost() int {
	n := 200 + f.Name.cost() + f.What.cost() + f.Both.cost()
	for _, k := range f.Kinds {
		n += 30 + k.cost()
	}
	for _, x := range f.Facts {
		n += 80 + x.First.cost() + x.Second.cost()
	}
	for _, c := range f.Causes {
		n += 200 + len(c.Link)
		for _, t := range []text{c.Kind, c.Where, c.Why, c.Fix, c.First, c.Second} {
			n += t.cost()
		}
	}
	return n
}

func excerpt(v *Version) *Excerpt {
	if v == nil {
		return nil
	}
	return v.Excerpt
}

// versionFacts returns what is known of two versions, of which one may be nil: what differs, one by
// one, and what does not, in one line.
func versionFacts(first, second *Version) (differ []versionFact, same text) {
	var a, b Version
	if first != nil {
		a = *first
	}
	if second != nil {
		b = *second
	}
	one := first == nil || second == nil
	var both []string
	for _, f := range []struct{ name, first, second string }{
		{"type", a.Type, b.Type},
		{"mode", a.Mode, b.Mode},
		{"owner", a.Owner, b.Owner},
		{"size", size(a.Size), size(b.Size)},
		{"time", moment(a.Time), moment(b.Time)},
		{"link", a.Link, b.Link},
	} {
		switch {
		case one && f.first+f.second != "":
			both = append(both, f.first+f.second)
		case f.first != f.second:
			differ = append(differ, versionFact{f.name, visible(f.first, maxText), visible(f.second, maxText)})
		case f.first != "":
			both = append(both, f.first)
		}
	}
	return differ, visible(strings.Join(both, " · "), maxText)
}

// moment is a time to the second, or with all that is known below it.
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

// grouped is a number with a comma between thousands.
func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// link returns an https URL as it can be followed, or nothing.
func link(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || len(s) > maxText {
		return ""
	}
	return u.String()
}
