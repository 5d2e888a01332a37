package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// group collects the causes of one kind.
type group struct {
	Kind      text
	Files     int
	Fixes     []*fix
	MoreFixes int

	last *File // the file counted last
}

type fix struct {
	Why, Fix text
	Files    int
	Samples  []*sample

	key  [2]string
	last *File
}

// More returns how many files have the cause besides the samples.
func (f *fix) More() int { return f.Files - len(f.Samples) }

type sample struct {
	ID   int // 0 if the file is not in the tree
	Path text
}

type patchLine struct {
	Kind string // "ins", "del", "at" or ""
	Text text
}

// explain counts the causes of a file, and reports whether the summary shows all of them. It leaves the samples
// that stand for the file in p.samples.
func (p *page) explain(f *File) (all bool) {
	p.samples = p.samples[:0]
	if len(f.Causes) == 0 {
		p.Unexplained++
	}
	all = true
	for _, c := range f.Causes {
		g := p.groups[c.Kind]
		if g == nil {
			if len(p.groups) == maxKinds {
				p.MoreCauses++
				all = false
				continue
			}
			g = &group{Kind: visible(c.Kind, maxName)}
			p.groups[c.Kind] = g
		}
		if g.last != f {
			g.Files++
			g.last = f
		}
		x := g.fix(c)
		if x == nil {
			g.MoreFixes++
			all = false
			continue
		}
		if x.last == f {
			continue
		}
		x.last = f
		x.Files++
		if len(x.Samples) < maxSamples {
			n := &sample{Path: visible("/"+strings.TrimLeft(f.Path, "/"), maxName)}
			x.Samples, p.samples = append(x.Samples, n), append(p.samples, n)
		}
	}
	return all
}

// fix returns the entry of g with the reason and fix of c, or nil if g is full.
func (g *group) fix(c Cause) *fix {
	key := [2]string{c.Why, c.Fix}
	for _, x := range g.Fixes {
		if x.key == key {
			return x
		}
	}
	if len(g.Fixes) == maxFixes {
		return nil
	}
	x := &fix{key: key, Why: visible(c.Why, maxText), Fix: visible(c.Fix, maxText)}
	g.Fixes = append(g.Fixes, x)
	return x
}

func patchLines(s string) []patchLine {
	more := 0
	if len(s) > maxPatch {
		s, more = s[:maxPatch], len(s)-maxPatch
	}
	var lines []patchLine
	for l := range strings.SplitSeq(strings.TrimSuffix(s, "\n"), "\n") {
		kind := ""
		switch {
		case strings.HasPrefix(l, "+++"), strings.HasPrefix(l, "---"), strings.HasPrefix(l, "@@"):
			kind = "at"
		case strings.HasPrefix(l, "+"):
			kind = "ins"
		case strings.HasPrefix(l, "-"):
			kind = "del"
		}
		lines = append(lines, patchLine{kind, visible(l, maxText)})
	}
	if more > 0 {
		lines = append(lines, patchLine{"at", text{{Text: fmt.Sprintf("%d more bytes", more), Escaped: true}}})
	}
	return lines
}

// summarise sorts the kinds of causes, and the fixes of each, by how many files they have.
func (p *page) summarise() {
	for _, g := range p.groups {
		slices.SortStableFunc(g.Fixes, func(a, b *fix) int { return cmp.Compare(b.Files, a.Files) })
		p.Causes = append(p.Causes, g)
	}
	slices.SortFunc(p.Causes, func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.Files, a.Files), cmp.Compare(a.Kind.String(), b.Kind.String()))
	})
}
