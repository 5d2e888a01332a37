package report

import (
	"fmt"
	"slices"
)

// dated reports whether the builds agree, and the verdict is no because of a date.
func (v *Verdict) dated() bool {
	return !v.Reproducible && !slices.ContainsFunc(v.Platforms, func(p Platform) bool { return !p.Same })
}

// words says what the file has.
func (t *Trace) words() string {
	switch {
	case t.Kind == "machine":
		return "has the " + t.What + " of the machine that built it"
	case t.Certain:
		return fmt.Sprintf("has the day of the build: %s (%s)", quoted(t.Text), t.What)
	}
	return fmt.Sprintf("has a date, %s (%s), that may be the day of the build: %s", quoted(t.Text), t.What, t.Why)
}

// advice says what to do about it.
func (t *Trace) advice() string {
	if t.Kind == "machine" {
		return "Another machine gives another image. Read the value when the container starts."
	}
	return "Another day gives another image. Leave the date out, or take it from SOURCE_DATE_EPOCH, which every RUN has."
}

// origin names the instruction behind a trace, or its layer.
func (t *Trace) origin(dockerfile string) string {
	return (&Layer{Index: t.Layer, Line: t.Line, Instruction: t.Instruction}).title(dockerfile)
}

// certain returns the traces that make the verdict no, or the others.
func (p *Platform) certain(yes bool) []Trace {
	return slices.DeleteFunc(slices.Clone(p.Traces), func(t Trace) bool { return t.Certain != yes })
}

// traces prints what would change on another day or another machine.
func (t *printer) traces(dockerfile string, p Platform) {
	last := ""
	for i, tr := range p.certain(true) {
		if i == maxPaths {
			t.printf("    and %d more (--format json has all)\n", len(p.certain(true))-i)
			break
		}
		if origin := tr.origin(dockerfile); origin != last {
			t.printf("%s\n  %s\n    %s: %s\n", p.Platform, origin, tr.Kind, tr.advice())
			last = origin
		}
		t.printf("    %s %s\n", tr.Path, tr.words())
	}
	for i, tr := range p.certain(false) {
		if i == maxPaths {
			t.printf("warning: and %d more (--format json has all)\n", len(p.certain(false))-i)
			break
		}
		t.printf("warning: %s %s\n  %s\n", tr.Path, tr.words(), tr.origin(dockerfile))
	}
}

// traceSections returns the traces of a platform as lists.
func (r *Report) traceSections(p Platform) []section {
	var list []section
	for _, s := range []struct {
		title string
		yes   bool
	}{{"the day of the build", true}, {"warnings", false}} {
		rows := section{title: plain(p.Platform) + ", " + s.title}
		for _, t := range p.certain(s.yes) {
			rows.items = append(rows.items, item{change: t.Kind, name: t.Path, what: plain(t.words() + "; " + t.origin(r.Dockerfile) + ". " + t.advice())})
		}
		list = append(list, rows)
	}
	return list
}
