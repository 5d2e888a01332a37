package kedge

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/verify"
)

// gaps returns what a comparison of r with a second build does not show, in the order of the Dockerfile.
func (p *plan) gaps(r *builder.Result) []verify.Gap {
	var gaps []verify.Gap
	add := func(kind verify.GapKind, line int, format string, args ...any) {
		gap := verify.Gap{Kind: kind, Line: line, Text: fmt.Sprintf(format, args...)}
		if !slices.Contains(gaps, gap) { // as each platform has it
			gaps = append(gaps, gap)
		}
	}
	for _, platform := range r.Platforms {
		for _, run := range platform.Runs {
			if programs := frontend.Downloads(run.Args); run.Network && len(programs) > 0 {
				add(verify.Download, run.Line, "may have downloaded what is not locked: %s", strings.Join(programs, ", "))
			}
			for _, target := range run.Caches {
				add(verify.CacheMount, run.Line, "%s", p.cacheGap(target))
			}
			if len(run.Secrets) > 0 {
				add(verify.Secret, run.Line, "read the same secrets in both builds: %s", strings.Join(run.Secrets, ", "))
			}
			if run.SSH {
				add(verify.Secret, run.Line, "had an SSH agent, and what it fetched is not locked")
			}
		}
	}
	slices.SortStableFunc(gaps, func(a, b verify.Gap) int { return cmp.Compare(a.Line, b.Line) })
	return gaps
}

// cacheGap says which contents of a cache mount the two builds had.
func (p *plan) cacheGap(target string) string {
	return fmt.Sprintf("cache mount %s: it was empty when the second build began, and had what this builder keeps when the first one did; no other content was tried", target)
}
