package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/verify"
)

// maxPaths is how many paths of a layer a person is shown; JSON has all.
const maxPaths = 20

func printDifferences(w io.Writer, v *verify.Verdict) {
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
				fmt.Fprintf(w, ", Dockerfile:%d: %s", l.Line, shortened(l.Instruction, 80))
			}
			fmt.Fprintln(w)
			for i, path := range l.Paths {
				if i == maxPaths {
					fmt.Fprintf(w, "    and %d more (--format json has all)\n", len(l.Paths)-i)
					break
				}
				fmt.Fprintf(w, "    %-8s /%s", path.Change, strings.TrimPrefix(path.Path, "/"))
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

func shortened(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// sayChanges tells what moved in a lock.
func (p *process) sayChanges(verb string, changes []lock.Change) {
	for _, c := range changes {
		switch {
		case c.Old == "":
			p.say("%s %s %s at %s", verb, c.Source.Kind, c.Source.Ref, c.New)
		case c.New == "":
			p.say("dropped %s %s, which nothing uses", c.Source.Kind, c.Source.Ref)
		default:
			p.say("moved %s %s: %s -> %s", c.Source.Kind, c.Source.Ref, c.Old, c.New)
		}
	}
}
