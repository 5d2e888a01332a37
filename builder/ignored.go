package builder

import (
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
	dir := r.Directories()["context"]
	if dir == "" {
		return nil
	}
	file, patterns := r.ignoreFile(dir)
	for _, p := range patterns {
		if _, err := patternmatcher.New([]string{p}); err != nil {
			return &IgnorePatternError{File: file, Pattern: p, Err: err}
		}
	}
	return nil
}

// blameIgnore returns err, as an *IgnoredError if an ignore file leaves out a file that the failed instruction
// copies from a folder of this machine.
func (r *Request) blameIgnore(err error) error {
	dir := r.Directories()["context"]
	if dir == "" {
		return err
	}
	for _, src := range errdefs.Sources(err) {
		for _, at := range src.Ranges {
			for _, name := range frontend.Copied(src.Info.GetData(), int(at.GetStart().GetLine())) {
				if e := r.ignored(name, dir); e != nil {
					e.Err = err
					return e
				}
			}
		}
	}
	return err
}

// A LeftOut is a pattern of a COPY or ADD that stands for no file, because Ignore leaves out every match.
type LeftOut struct {
	Line    int // of the Dockerfile
	Pattern string
	Path    string // of one match
	Ignore  string // the .dockerignore
}

// LeftOut returns the patterns of a Dockerfile's steps that an ignore file leaves nothing of. The builds
// succeed: BuildKit copies nothing then.
func (r *Request) LeftOut(dockerfile []byte, steps []frontend.Step) []LeftOut {
	dir := r.Directories()["context"]
	if dir == "" {
		return nil
	}
	var all []LeftOut
	for _, s := range steps {
		for _, name := range frontend.Copied(dockerfile, s.Line) {
			if e := r.ignored(name, dir); e != nil {
				all = append(all, LeftOut{Line: s.Line, Pattern: name, Path: e.Path, Ignore: e.Ignore})
			}
		}
		for _, l := range r.LeftOut(dockerfile, s.From) {
			if !slices.Contains(all, l) {
				all = append(all, l)
			}
		}
	}
	return all
}

// ignored returns an error without Err if an ignore file leaves all files out of dir that name stands for.
// It returns nil if not, or if that cannot be told.
func (r *Request) ignored(name, dir string) *IgnoredError {
	ignore, patterns := r.ignoreFile(dir)
	matcher, err := patternmatcher.New(patterns)
	if err != nil || len(patterns) == 0 {
		return nil
	}
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	found, err := filepath.Glob(filepath.Join(dir, name))
	if err != nil {
		return nil
	}
	var first *IgnoredError
	for _, file := range found {
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return nil
		}
		if out, err := matcher.MatchesOrParentMatches(rel); err != nil || !out || bringsBack(patterns, dir, rel) {
			return nil
		}
		if first == nil {
			first = &IgnoredError{Path: rel, Ignore: ignore}
		}
	}
	return first
}

// bringsBack reports whether a ! pattern may bring back something in the folder rel of dir, as "!src/main" after "*".
func bringsBack(patterns []string, dir, rel string) bool {
	if info, err := os.Stat(filepath.Join(dir, rel)); err != nil || !info.IsDir() {
		return false
	}
	return slices.ContainsFunc(patterns, func(p string) bool {
		p, ok := strings.CutPrefix(p, "!")
		if i := strings.IndexAny(p, `*?[\`); i >= 0 && strings.HasPrefix(rel+"/", p[:i]) {
			return ok
		}
		return ok && (rel == "." || strings.HasPrefix(p, rel+"/"))
	})
}

// ignoreFile returns IgnoreFile for the context in dir.
func (r *Request) ignoreFile(dir string) (string, []string) { return IgnoreFile(r.Dockerfile, dir) }

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
