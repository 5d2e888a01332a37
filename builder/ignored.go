package builder

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// An IgnoredError says that a COPY or ADD failed, and that Ignore leaves Path, which is one of its
// sources, out of the build context. Its text is that of Err.
type IgnoredError struct {
	Path   string // in the context
	Ignore string // the .dockerignore
	Err    error
}

func (e *IgnoredError) Error() string { return e.Err.Error() }

func (e *IgnoredError) Unwrap() error { return e.Err }

// An IgnorePatternError says that an ignore file has a pattern that is none.
type IgnorePatternError struct {
	File, Pattern string
	Err           error
}

func (e *IgnorePatternError) Error() string {
	return fmt.Sprintf("%s: pattern %q: %v", e.File, e.Pattern, e.Err)
}

func (e *IgnorePatternError) Unwrap() error { return e.Err }

// checkIgnore returns an *IgnorePatternError for a pattern that the frontend will refuse without a name.
func (r *Request) checkIgnore() error {
	ig := r.ignore()
	for _, p := range ig.patterns {
		if _, err := patternmatcher.New([]string{p}); err != nil {
			return &IgnorePatternError{File: ig.file, Pattern: p, Err: err}
		}
	}
	return nil
}

// blameIgnore returns err, as an *IgnoredError if an ignore file leaves out a file that the failed instruction
// takes from a folder of this machine. taken has what instructions take, by their lines.
func (r *Request) blameIgnore(err error, taken map[int][]frontend.Take) error {
	sources := errdefs.Sources(err)
	if len(sources) == 0 {
		return err
	}
	ignores := r.ignores()
	for _, src := range sources {
		for _, at := range src.Ranges {
			for _, t := range taken[int(at.GetStart().GetLine())] {
				for _, name := range t.Names() {
					if left := ignores[t.Source].leavesOut(name); left != "" {
						return &IgnoredError{Path: left, Ignore: ignores[t.Source].file, Err: err}
					}
				}
			}
		}
	}
	return err
}

// A LeftOut is a pattern of a COPY or ADD that stands for no file, because Ignore leaves out every match.
type LeftOut struct {
	Line    int    // in the Dockerfile
	Pattern string // with its variables replaced
	Path    string // of the first match, in the context
	Ignore  string // the .dockerignore
}

// LeftOut returns the patterns of a Dockerfile's steps that an ignore file leaves nothing of. The builds
// of others call it no error if the instruction has more patterns or a wildcard.
func (r *Request) LeftOut(steps []frontend.Step) []LeftOut {
	ignores := r.ignores()
	var all []LeftOut
	var add func([]frontend.Step)
	add = func(steps []frontend.Step) {
		for _, s := range steps {
			for _, t := range s.Takes {
				for _, name := range t.Names() {
					path := ignores[t.Source].leavesOut(name)
					if path == "" {
						continue
					}
					l := LeftOut{Line: s.Line, Pattern: name, Path: path, Ignore: ignores[t.Source].file}
					if !slices.Contains(all, l) {
						all = append(all, l)
					}
				}
			}
			add(s.From)
		}
	}
	add(steps)
	return all
}

// An ignore is what an ignore file leaves out of the context in a folder. A nil *ignore leaves out nothing.
type ignore struct {
	dir, file string
	patterns  []string
	matcher   *patternmatcher.PatternMatcher // nil without patterns, and if one of them is none
}

func newIgnore(dockerfile Dockerfile, dir string) ignore {
	ig := ignore{dir: dir}
	if ig.file, ig.patterns = IgnoreFile(dockerfile, dir); len(ig.patterns) > 0 {
		ig.matcher, _ = patternmatcher.New(ig.patterns) // checkIgnore reports it
	}
	return ig
}

// ignore returns the ignore file of the main context, without patterns if the context is not a folder.
func (r *Request) ignore() ignore {
	dir := r.Directories()["context"]
	if dir == "" {
		return ignore{}
	}
	return newIgnore(r.Dockerfile, dir)
}

// ignores returns the ignore files of the contexts that are folders, by the identifiers of their sources.
func (r *Request) ignores() map[string]*ignore {
	all := map[string]*ignore{}
	for mount, dir := range r.Directories() {
		dockerfile := Dockerfile{}
		if mount == "context" {
			dockerfile = r.Dockerfile
		}
		all["local://"+mount] = new(newIgnore(dockerfile, dir))
	}
	return all
}

// leavesOut returns the first of the files that name stands for, if ig leaves out all of them. It returns "" if not, or
// if that cannot be told.
func (ig *ignore) leavesOut(name string) string {
	if ig == nil || ig.matcher == nil {
		return ""
	}
	found, err := filepath.Glob(filepath.Join(ig.dir, path.Clean("/"+name)))
	if err != nil {
		return ""
	}
	first := ""
	for _, file := range found {
		rel, err := filepath.Rel(ig.dir, file)
		if err != nil {
			return ""
		}
		if out, err := ig.matcher.MatchesOrParentMatches(rel); err != nil || !out || ig.bringsBack(rel) {
			return ""
		}
		first = cmp.Or(first, rel)
	}
	return first
}

// bringsBack reports whether a ! pattern may bring back something in the folder rel, as "!src/main" after "*".
func (ig *ignore) bringsBack(rel string) bool {
	if info, err := os.Stat(filepath.Join(ig.dir, rel)); err != nil || !info.IsDir() {
		return false
	}
	return slices.ContainsFunc(ig.patterns, func(p string) bool {
		p, ok := strings.CutPrefix(p, "!")
		if i := strings.IndexAny(p, `*?[\`); i >= 0 && strings.HasPrefix(rel+"/", p[:i]) {
			return ok
		}
		return ok && (rel == "." || strings.HasPrefix(p, rel+"/"))
	})
}

// IgnoreFile returns the name and the patterns of the ignore file of the context in dir, as the frontend
// chooses it for a Dockerfile. It returns none if there is none that it can read.
func IgnoreFile(dockerfile Dockerfile, dir string) (string, []string) {
	names := []string{filepath.Join(dir, ".dockerignore")}
	if p := dockerfile.Path; p != "" {
		names = []string{p + ".dockerignore", names[0]}
	}
	for _, name := range names {
		f, _, err := wholefile.Open(name)
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			return "", nil
		}
		defer f.Close()
		patterns, err := ignorefile.ReadAll(f)
		if err != nil {
			return "", nil
		}
		return name, patterns
	}
	return "", nil
}
