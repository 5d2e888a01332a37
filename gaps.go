package kedge

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/trace"
	"github.com/kedge-build/kedge/verify"
	"github.com/moby/patternmatcher"
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
	for _, gap := range p.downloadGaps(r) {
		add(gap.Kind, gap.Line, "%s", gap.Text)
	}
	for _, platform := range r.Platforms {
		for _, run := range platform.Runs {
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
	for _, platform := range r.Platforms {
		for _, step := range platform.Steps {
			for _, s := range append(step.From, step) {
				for _, text := range p.repoGaps(r, s) {
					add(verify.GitDir, s.Line, "%s", text)
				}
				if native := nativeCPU.FindString(s.Text); native != "" && s.Run {
					add(verify.Common, s.Line, "may have compiled for the CPU of the builder: %s", native)
				}
				if s.Run && seeds.MatchString(s.Text) && trace.ReadsClock(s.Text) {
					add(verify.Common, s.Line, "sets a random seed and reads the clock: another day may have another seed")
				}
			}
		}
	}
	slices.SortStableFunc(gaps, func(a, b verify.Gap) int { return cmp.Compare(a.Line, b.Line) })
	return gaps
}

var (
	// nativeCPU is an option of a compiler that chooses the instructions of the machine's own CPU.
	nativeCPU = regexp.MustCompile(`-m(?:arch|cpu|tune)=native\b|target-cpu=native\b|-xHost\b|-mcpu=host\b`)
	// seeds are calls that set the seed of random numbers.
	seeds = regexp.MustCompile(`\bsrand(?:om)?\s*\(|[.\w]*\bseed\s*[(=]|\bRANDOM=|--random-source|\b(?:default_rng|Random|mt_srand|RandomState|set\.seed)\s*\(`)
)

// downloadGaps returns which RUNs may have downloaded what the lock does not hold.
func (p *plan) downloadGaps(r *builder.Result) []verify.Gap {
	var gaps []verify.Gap
	if d := p.request.Downloads; d != nil {
		for _, host := range d.Record.Allowed() {
			gaps = append(gaps, verify.Gap{Kind: verify.Download, Text: fmt.Sprintf("what RUN steps get from %s is not locked", host)})
		}
		return gaps
	}
	for _, platform := range r.Platforms {
		for _, run := range platform.Runs {
			if programs := frontend.Downloads(run.Args); run.Network && len(programs) > 0 {
				gap := verify.Gap{Kind: verify.Download, Line: run.Line, Text: "may have downloaded what is not locked: " + strings.Join(programs, ", ")}
				if !slices.Contains(gaps, gap) {
					gaps = append(gaps, gap)
				}
			}
		}
	}
	return gaps
}

// cacheGap says which contents of a cache mount the two builds had.
func (p *plan) cacheGap(target string) string {
	return fmt.Sprintf("cache mount %s: it was empty when the second build began, and had what this builder keeps when the first one did; no other content was tried", target)
}

// repoGaps says for each .git folder that a step copies from a context what another clone may have otherwise.
func (p *plan) repoGaps(r *builder.Result, step frontend.Step) []string {
	var gaps []string
	for _, take := range step.Takes {
		mount, folder := strings.CutPrefix(take.Source, "local://")
		dir := p.request.Directories()[mount]
		if !folder {
			if !p.context.Uploads(take.Source) {
				continue
			}
			dir = ""
		}
		for _, name := range r.Sent[dir] {
			if path.Base(name) == ".git" && takesPath(take, name) && leadsOut(dir, name) {
				gaps = append(gaps, fmt.Sprintf("copies %s, which names the place of this checkout's repository: another checkout has it elsewhere. A line %s in .dockerignore leaves it out", name, name))
			}
		}
		for _, repo := range r.Repos[dir] {
			if !takesPath(take, repo.Path) {
				continue
			}
			own := ""
			if len(repo.Own) > 0 {
				own = " Of this one, " + strings.Join(repo.Own, "; ") + "."
			}
			gaps = append(gaps, fmt.Sprintf("copies %s: another clone of the commit gives the same image if it has the same packs, branches, tags and configuration.%s A line %s in .dockerignore leaves it out", repo.Path, own, repo.Path))
		}
	}
	return gaps
}

// leadsOut reports whether a file says that a repository is outside of dir, as the .git of a work tree does.
func leadsOut(dir, name string) bool {
	content, err := readStart(filepath.Join(dir, name))
	target, ok := strings.CutPrefix(string(content), "gitdir:")
	target = strings.TrimSpace(target)
	return err == nil && ok && (filepath.IsAbs(target) || !filepath.IsLocal(filepath.Join(filepath.Dir(name), target)))
}

// takesPath reports whether a take includes a path, a part of it, or all around it.
func takesPath(take frontend.Take, name string) bool {
	if out, err := patternmatcher.Matches(name, take.Excluded); err == nil && out {
		return false
	}
	if take.Path == "" {
		return true
	}
	pattern, parts := strings.Split(take.Path, "/"), strings.Split(name, "/")
	n := min(len(pattern), len(parts))
	ok, err := path.Match(strings.Join(pattern[:n], "/"), strings.Join(parts[:n], "/"))
	return ok && err == nil
}

// credentials returns the settings of .git folders that were sent, and that hold a password or a token.
func credentials(r *builder.Result) []string {
	var found []string
	for dir, repos := range r.Repos {
		for _, repo := range repos {
			config := path.Join(repo.Path, "config")
			if dir != "" && !slices.Contains(r.Sent[dir], config) {
				continue
			}
			for _, setting := range repo.Credentials {
				found = append(found, fmt.Sprintf("%s in %s", setting, filepath.Join(dir, config)))
			}
		}
	}
	slices.Sort(found)
	return found
}
