package main

import (
	"fmt"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/progress/progressui"
)

// warn says what BuildKit warns of, once a build is done.
func (p *process) warn(mode progressui.DisplayMode, warnings []client.VertexWarning) {
	if mode == progressui.QuietMode || mode == progressui.RawJSONMode {
		return
	}
	// The frontend is asked more than once, and repeats itself.
	seen := map[string]bool{}
	var all []client.VertexWarning
	for _, w := range warnings {
		key := fmt.Sprint(string(w.Short), w.URL, w.Range)
		if !seen[key] {
			seen[key] = true
			all = append(all, w)
		}
	}
	if len(all) == 0 {
		return
	}
	if p.debug {
		p.say("%s:", counted(len(all), "warning"))
	} else {
		p.say("%s (-D says more):", counted(len(all), "warning"))
	}
	for _, w := range all {
		fmt.Fprintf(p.stderr, " - %s\n", w.Short)
		if !p.debug {
			continue
		}
		for _, line := range w.Detail {
			fmt.Fprintf(p.stderr, "   %s\n", line)
		}
		if w.URL != "" {
			fmt.Fprintf(p.stderr, "   %s\n", w.URL)
		}
		if w.SourceInfo != nil && w.Range != nil {
			src := errdefs.Source{Info: w.SourceInfo, Ranges: w.Range}
			_ = src.Print(p.stderr) // where it cannot be shown, the rest is said
		}
	}
}
