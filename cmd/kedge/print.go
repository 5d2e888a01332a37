package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kedge-build/kedge/image"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/verify"
)

// maxPaths is how many paths of a layer a person is shown; JSON has all.
const maxPaths = 20

func printDifferences(w io.Writer, dockerfile string, v *verify.Verdict) {
	fmt.Fprintln(w, "not reproducible: two builds differ")
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
				fmt.Fprintf(w, "    %-8s %s", path.Change, plain("/"+strings.TrimPrefix(path.Path, "/")))
				if len(path.What) > 0 {
					fmt.Fprintf(w, " (%s)", strings.Join(path.What, ", "))
				}
				fmt.Fprintln(w)
			}
			if len(l.Paths) == 0 {
				fmt.Fprintln(w, "    the same paths in another order")
			}
		}
	}
}

// plain returns what an image or a Dockerfile says so that a terminal takes no order from it.
func plain(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(s) {
		return strconv.Quote(s)
	}
	return s
}

// normalised says how many paths each rule was about, for all platforms together.
func normalised(img image.Image) string {
	counts := map[string]int{}
	for _, rules := range img.Normalised() {
		for rule, paths := range rules {
			counts[rule] += len(paths)
		}
	}
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

// sayChanges tells what moved in a lock.
// sayChanges says what a lock became, or would become.
func (p *process) sayChanges(would bool, changes []lock.Change) {
	locked, dropped, moved := "locked", "dropped", "moved"
	if would {
		locked, dropped, moved = "would lock", "would drop", "would move"
	}
	for _, c := range changes {
		switch {
		case c.Old == "":
			p.say("%s %s %s at %s", locked, c.Source.Kind, c.Source.Ref, c.New)
		case c.New == "":
			p.say("%s %s %s, which nothing uses", dropped, c.Source.Kind, c.Source.Ref)
		default:
			p.say("%s %s %s: %s -> %s", moved, c.Source.Kind, c.Source.Ref, c.Old, c.New)
		}
	}
}
