package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kedge-build/kedge/explain"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/store"
	"github.com/kedge-build/kedge/verify"
)

// maxPaths is how many paths of a layer a person is shown; JSON has all.
const maxPaths = 20

// verified says in words that two builds are the same, or that they are not, and in what they differed
// on purpose.
func verified(v *verify.Verdict) string {
	words := "verified: two builds, the same bit for bit"
	if !v.Reproducible {
		words = "not reproducible: two builds differ"
	}
	if len(v.Varied) > 0 {
		words += " (the second varied in " + strings.Join(v.Varied, ", ") + ")"
	}
	return words
}

func printDifferences(w io.Writer, dockerfile string, v *verify.Verdict) {
	fmt.Fprintln(w, verified(v))
	for _, p := range v.Platforms {
		if p.Same {
			continue
		}
		fmt.Fprintf(w, "%s\n  first   %s\n  second  %s\n", p.Platform, p.First, p.Second)
		if len(p.Layers) == 0 {
			fmt.Fprintln(w, "  the layers are the same: the image configs differ")
		}
		for _, l := range p.Layers {
			fmt.Fprintf(w, "  layer %d", l.Index)
			if l.Line > 0 {
				fmt.Fprintf(w, ", %s:%d: %s", dockerfile, l.Line, shortened(plain(l.Instruction), 80))
			}
			fmt.Fprintln(w)
			for i, path := range l.Paths {
				if i == maxPaths {
					fmt.Fprintf(w, "    and %d more (--format json has all)\n", len(l.Paths)-i)
					break
				}
				printFile(w, path)
			}
			if len(l.Paths) == 0 {
				fmt.Fprintln(w, "    the same paths in another order")
			}
			for i, from := range l.From {
				if i == 0 {
					fmt.Fprintln(w, "    what it copies was made by")
				}
				fmt.Fprintf(w, "      %s:%d: %s\n", dockerfile, from.Line, shortened(plain(from.Instruction), 80))
			}
			if len(l.Caches) > 0 {
				fmt.Fprintf(w, "    the second build began with these cache mounts empty: %s\n", enumerated(l.Caches, maxPrinted))
			}
		}
	}
	if v.Patch != "" {
		fmt.Fprintf(w, "write instead:\n%s", indented(v.Patch, "  "))
	}
}

// maxPrinted is how many causes of a file are printed.
const maxPrinted = 3

// printFile prints a path that differs, and why.
func printFile(w io.Writer, f explain.File) {
	fmt.Fprintf(w, "    %-8s %s", f.Change, plain(f.Path.Path))
	if len(f.What) > 0 {
		fmt.Fprintf(w, " (%s)", strings.Join(f.What, ", "))
	}
	fmt.Fprintln(w)
	for i, c := range f.Causes {
		if i == maxPrinted {
			fmt.Fprintf(w, "             and %s\n", counted(len(f.Causes)-i, "more cause"))
			break
		}
		fmt.Fprintf(w, "             %s", c.Kind)
		if c.Where != "" {
			fmt.Fprintf(w, " in %s", plain(c.Where))
		}
		if c.First != "" || c.Second != "" {
			fmt.Fprintf(w, ": %s -> %s", quoted(c.First), quoted(c.Second))
		}
		fmt.Fprintf(w, "\n               %s\n", plain(c.Why))
		if c.Fix != "" {
			fmt.Fprintf(w, "               fix: %s\n", plain(c.Fix))
		}
	}
}

func quoted(s string) string { return shortened(strconv.Quote(s), 60) }

func indented(s, by string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(by + plain(strings.TrimSuffix(line, "\n")) + "\n")
	}
	return b.String()
}

// printJSON prints v for programs.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// plain returns what an image or a Dockerfile says so that a terminal takes no order from it.
func plain(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(s) {
		return strconv.Quote(s)
	}
	return s
}

// harmless returns a text of lines, such as an error, so that a terminal takes no order from it.
func harmless(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) || r == '\t' || r == '\n' {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// ruleCounts returns how many paths each rule was about, for all platforms together.
func ruleCounts(img store.Image) map[string]int {
	counts := map[string]int{}
	for _, rules := range img.Normalised() {
		for rule, paths := range rules {
			counts[rule] += len(paths)
		}
	}
	return counts
}

// normalised says what rules did to an image; it is empty where they did nothing.
func normalised(img store.Image) string {
	counts := ruleCounts(img)
	var words []string
	for _, rule := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%d by %s", counts[rule], rule))
	}
	return strings.Join(words, ", ")
}

// enumerated returns "a, b and 3 more".
func enumerated(names []string, most int) string {
	if len(names) <= most {
		return plain(strings.Join(names, ", "))
	}
	return plain(strings.Join(names[:most], ", ")) + fmt.Sprintf(" and %d more", len(names)-most)
}

// counted returns "1 image" and "2 images".
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func shortened(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// sayChanges says what a lock became, or would become.
func (p *process) sayChanges(would bool, changes []lock.Change) {
	locked, dropped, moved := "locked", "dropped", "moved"
	if would {
		locked, dropped, moved = "would lock", "would drop", "would move"
	}
	for _, c := range changes {
		switch {
		case c.Old == "":
			p.note("%s %s %s at %s", locked, c.Source.Kind, c.Source.Ref, c.New)
		case c.New == "":
			p.note("%s %s %s, which nothing uses", dropped, c.Source.Kind, c.Source.Ref)
		default:
			p.note("%s %s %s: %s -> %s", moved, c.Source.Kind, c.Source.Ref, c.Old, c.New)
		}
	}
}
