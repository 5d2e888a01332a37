package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A result is the measurement of one context.
type result struct {
	Context  string    `json:"context"`
	Date     time.Time `json:"date"`
	Seconds  float64   `json:"seconds"`
	BuildKit *outcome  `json:"buildkit,omitempty"` // nil if it was not measured
	Kedge    *outcome  `json:"kedge,omitempty"`
}

// An outcome is the result of two builds.
type outcome struct {
	Error   string          `json:"error,omitempty"` // why a build failed
	Same    bool            `json:"same"`
	Digests []string        `json:"digests,omitempty"` // of BuildKit's images
	Verdict json.RawMessage `json:"verdict,omitempty"` // kedge's JSON
}

// builds reports whether the context can be built, by kedge or by BuildKit.
func (r result) builds() bool {
	return r.BuildKit != nil && r.BuildKit.Error == "" || r.Kedge != nil && r.Kedge.Error == ""
}

// same reports whether both builds gave the same image.
func (o *outcome) same() bool { return o != nil && o.Error == "" && o.Same }

func (o *outcome) String() string {
	switch {
	case o == nil:
		return ""
	case o.Error != "":
		return "failed: " + o.Error
	case o.Same:
		return "yes"
	}
	return "no"
}

func (r result) String() string {
	s := fmt.Sprintf("identical with kedge: %s; %.0f s", r.Kedge, r.Seconds)
	if r.BuildKit != nil {
		s = fmt.Sprintf("identical with BuildKit: %s; %s", r.BuildKit, s)
	}
	return s
}

// left returns the paths in a verdict, each once, with other names in parentheses. It also returns the kinds
// of its causes with their numbers of paths, most frequent first.
func left(verdict json.RawMessage) (paths, causes []string, err error) {
	if len(verdict) == 0 {
		return nil, nil, nil
	}
	var v struct {
		Platforms []struct {
			Same   bool
			Layers []struct {
				Paths []struct {
					Path   string
					Causes []struct{ Kind string }
				}
			}
		}
	}
	if err := json.Unmarshal(verdict, &v); err != nil {
		return nil, nil, fmt.Errorf("reading a verdict: %w", err)
	}
	count := map[string]int{}
	for _, p := range v.Platforms {
		if !p.Same && len(p.Layers) == 0 {
			paths = append(paths, "(config)")
		}
		for _, l := range p.Layers {
			if len(l.Paths) == 0 {
				paths = append(paths, "(order)")
			}
			for _, path := range l.Paths {
				paths = append(paths, path.Path)
				kinds := map[string]bool{}
				for _, c := range path.Causes {
					kinds[c.Kind] = true
				}
				for kind := range kinds {
					count[kind]++
				}
			}
		}
	}
	slices.Sort(paths)
	kinds := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
	for _, kind := range kinds {
		causes = append(causes, fmt.Sprintf("%s %d", kind, count[kind]))
	}
	return slices.Compact(paths), causes, nil
}

// shownPaths is the number of paths of a context that a table shows.
const shownPaths = 3

// printTable prints results as a Markdown table with aligned columns, and the totals.
func printTable(w io.Writer, results []result) error {
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintln(t, "| context\t| builds\t| identical with BuildKit's own means\t| identical with kedge\t| what is left\t| causes\t|")
	fmt.Fprintln(t, "| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t|")
	var built, tried, buildkit, kedge int
	for _, r := range results {
		builds, withBuildKit, withKedge, rest, why := "yes", r.BuildKit.String(), r.Kedge.String(), "", ""
		if r.builds() {
			built++
			if r.BuildKit != nil {
				tried++
			}
			if r.BuildKit.same() {
				buildkit++
			}
			if r.Kedge.same() {
				kedge++
			}
			if r.Kedge != nil {
				paths, causes, err := left(r.Kedge.Verdict)
				if err != nil {
					return fmt.Errorf("%s: %w", r.Context, err)
				}
				rest, why = listed(paths), strings.Join(causes, ", ")
			}
		} else {
			reason := ""
			for _, o := range []*outcome{r.Kedge, r.BuildKit} {
				if o != nil {
					reason = o.Error
				}
			}
			builds, withBuildKit, withKedge = "no: "+reason, "", ""
		}
		fmt.Fprintf(t, "| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n", cell(r.Context), cell(builds), cell(withBuildKit), cell(withKedge), cell(rest), cell(why))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%d contexts, %d build. Identical, of what builds:\n\n", len(results), built)
	if tried > 0 {
		fmt.Fprintf(w, "- with BuildKit's own means: %s\n", share(buildkit, tried))
	}
	_, err := fmt.Fprintf(w, "- with kedge: %s\n", share(kedge, built))
	return err
}

// listed returns the number of paths and the first few.
func listed(paths []string) string {
	if len(paths) == 0 {
		return ""
	}
	s := fmt.Sprintf("%d: %s", len(paths), strings.Join(paths[:min(len(paths), shownPaths)], ", "))
	if len(paths) > shownPaths {
		s += ", …"
	}
	return s
}

func share(n, of int) string {
	if of == 0 {
		return "none builds"
	}
	return fmt.Sprintf("%d of %d, %.1f %%", n, of, 100*float64(n)/float64(of))
}

// cell escapes text for a cell of a table.
func cell(s string) string {
	if r := []rune(s); len(r) > 160 {
		s = string(r[:159]) + "…"
	}
	return strings.NewReplacer("|", `\|`, "\t", " ", "\r", " ", "\n", " ").Replace(s)
}
