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
	// Offline compares the image that kedge has built with the one that was replayed without a network.
	Offline *outcome `json:"offline,omitempty"`
}

// An outcome is the result of two builds.
type outcome struct {
	Error   string          `json:"error,omitempty"` // why a build failed
	Same    bool            `json:"same"`
	Digests []string        `json:"digests,omitempty"` // of the images; kedge verify has that of the first
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
	if r.Offline != nil {
		s = fmt.Sprintf("%s; offline: %s", s, r.Offline)
	}
	return s
}

// A rest is what differs according to a verdict.
type rest struct {
	paths  []string // each once, sorted, with other names in parentheses
	causes []string // kinds with their numbers of paths, most frequent first
	// design says that nothing differs but keys, passwords, certificates and databases that two builds do not
	// share.
	design bool
}

// secrets are the kinds of causes that no two builds share, and that no rule may remove.
var secrets = []string{"certificate", "database", "keystore", "private-key", "secret-key", "ssh-key"}

// left reads the rest from a verdict.
func left(verdict json.RawMessage) (rest, error) {
	var r rest
	if len(verdict) == 0 {
		return r, nil
	}
	var v struct {
		Platforms []struct {
			Same   bool
			Layers []struct {
				Paths []struct {
					Path   string
					Causes []struct{ Kind, Format string }
				}
			}
		}
	}
	if err := json.Unmarshal(verdict, &v); err != nil {
		return r, fmt.Errorf("reading a verdict: %w", err)
	}
	count := map[string]int{}
	designed, databases := map[string]bool{}, map[string]bool{}
	for _, p := range v.Platforms {
		if !p.Same && len(p.Layers) == 0 {
			r.paths = append(r.paths, "(config)")
		}
		for _, l := range p.Layers {
			if len(l.Paths) == 0 {
				r.paths = append(r.paths, "(order)")
			}
			for _, path := range l.Paths {
				r.paths = append(r.paths, path.Path)
				kinds := map[string]bool{}
				for _, c := range path.Causes {
					kinds[c.Kind] = true
					if c.Format == "password hash" {
						designed[path.Path] = true
					}
				}
				for kind := range kinds {
					count[kind]++
					if slices.Contains(secrets, kind) {
						designed[path.Path] = true
					}
				}
				if kinds["database"] {
					databases[parent(path.Path)] = true
				}
			}
		}
	}
	slices.Sort(r.paths)
	r.paths = slices.Compact(r.paths)
	r.design = len(r.paths) > 0 && !slices.ContainsFunc(r.paths, func(path string) bool {
		return !designed[path] && !within(path, databases)
	})
	kinds := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
	for _, kind := range kinds {
		r.causes = append(r.causes, fmt.Sprintf("%s %d", kind, count[kind]))
	}
	return r, nil
}

func parent(name string) string { return name[:strings.LastIndexByte(name, '/')+1] }

// within reports whether a path is in one of the folders, which end in a slash, or below it.
func within(path string, folders map[string]bool) bool {
	for dir := parent(path); len(dir) > 1; dir = parent(dir[:len(dir)-1]) {
		if folders[dir] {
			return true
		}
	}
	return false
}

// shownPaths is the number of paths of a context that a table shows.
const shownPaths = 3

// A tally counts the contexts of one corpus, or of all.
type tally struct{ contexts, built, tried, buildkit, kedge, design, replayed, offline int }

func (t *tally) add(r result, design bool) {
	t.contexts++
	if !r.builds() {
		return
	}
	t.built++
	if r.BuildKit != nil {
		t.tried++
	}
	if r.BuildKit.same() {
		t.buildkit++
	}
	if r.Offline != nil {
		t.replayed++
	}
	if r.Offline.same() {
		t.offline++
	}
	switch {
	case r.Kedge.same():
		t.kedge++
	case design:
		t.design++
	}
}

func (t *tally) rate() string {
	s := share(t.kedge, t.built)
	if t.design > 0 {
		s += fmt.Sprintf("; by design different: %d", t.design)
	}
	if t.replayed > 0 {
		s += "; replayed offline: " + share(t.offline, t.replayed)
	}
	return s
}

// corpus returns the part of a context's name that its corpus gave it.
func (r result) corpus() string {
	name, _, _ := strings.Cut(r.Context, "/")
	return name
}

// printTable prints results as a Markdown table with aligned columns, and the totals.
func printTable(w io.Writer, results []result) error {
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintln(t, "| context\t| builds\t| identical with BuildKit's own means\t| identical with kedge\t| replayed offline\t| differs by design\t| what is left\t| causes\t|")
	fmt.Fprintln(t, "| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t|")
	var all tally
	var names []string
	corpora := map[string]*tally{}
	for _, r := range results {
		builds, withBuildKit, withKedge, design := "yes", r.BuildKit.String(), r.Kedge.String(), ""
		var differs rest
		if !r.builds() {
			reason := ""
			for _, o := range []*outcome{r.Kedge, r.BuildKit} {
				if o != nil {
					reason = o.Error
				}
			}
			builds, withBuildKit, withKedge = "no: "+reason, "", ""
		} else if r.Kedge != nil {
			var err error
			if differs, err = left(r.Kedge.Verdict); err != nil {
				return fmt.Errorf("%s: %w", r.Context, err)
			}
			if differs.design {
				design = "yes"
			}
		}
		name := r.corpus()
		if corpora[name] == nil {
			corpora[name] = &tally{}
			names = append(names, name)
		}
		corpora[name].add(r, differs.design)
		all.add(r, differs.design)
		fmt.Fprintf(t, "| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n", cell(r.Context), cell(builds), cell(withBuildKit),
			cell(withKedge), cell(r.Offline.String()), design, cell(listed(differs.paths)), cell(strings.Join(differs.causes, ", ")))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%d contexts, %d build. Identical, of what builds:\n\n", all.contexts, all.built)
	if all.tried > 0 {
		fmt.Fprintf(w, "- with BuildKit's own means: %s\n", share(all.buildkit, all.tried))
	}
	fmt.Fprintf(w, "- with kedge: %s\n", all.rate())
	if len(names) > 1 {
		for _, name := range names {
			fmt.Fprintf(w, "  - %s: %s\n", name, corpora[name].rate())
		}
	}
	return nil
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
