// Package lint finds in a Dockerfile, its build context and its lockfile what lets two builds differ. It
// builds nothing, runs nothing and reads nothing from the network.
//
//	in := lint.Input{Name: "Dockerfile", Dockerfile: data, Context: os.DirFS(".")}
//	findings, err := lint.Check(ctx, in)
//
// A rule is a row of [Rules]. Shell commands are parsed; a script that is neither POSIX shell nor bash has no
// findings. What a variable holds only at build time stays unknown, and unknown is no finding.
package lint

import (
	"bytes"
	"cmp"
	"context"
	"io/fs"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Level says how much a finding matters.
type Level string

// The levels. Only an error fails a run.
const (
	Error   Level = "error"
	Warning Level = "warning"
	Info    Level = "info"
)

// Input is what the rules read.
type Input struct {
	Name       string // of the Dockerfile, as the user gave it
	Dockerfile []byte
	Target     string            // the stage that ships; empty: the last
	Args       map[string]string // build args
	Platform   string            // "linux/amd64"; empty: unknown

	Dir     string   // the folder of the context, as the user gave it; for the names of its files in findings
	Context fs.FS    // the build context; nil: none, or one that is not a folder
	Ignore  []string // the patterns of its .dockerignore

	// Tracked are the files of the context that git tracks; nil if it is not in a checkout.
	Tracked  map[string]bool
	Lockfile string     // the name of the lockfile; empty if the Dockerfile has no place for one
	Lock     *lock.File // nil if there is none
	// LockUntracked says that git neither tracks nor will take the lockfile: "untracked" or "ignored".
	LockUntracked string
	// DownloadsLocked says that RUN is served from a record of its downloads.
	DownloadsLocked bool

	Now time.Time // decides which releases have reached their end of life
}

// A Rule is one way in which builds drift.
type Rule struct {
	ID       string
	Practice int // 1 to 7, as docs/practices.md numbers them
	Level    Level
	What     string // what it finds
	Why      string // how two builds then differ
	Fix      string // what to write instead
	Link     string // to the documentation of the tool, or empty

	hadolint []string // the ids of hadolint's rules for the same matter
	check    func(*project, func(Finding))
}

// A Finding is a place that a rule is about.
type Finding struct {
	Rule    string `json:"rule"`
	Level   Level  `json:"level"`
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"` // from 1; 0 for the whole file
	Excerpt string `json:"excerpt,omitempty"`
	Message string `json:"message"`
	Fix     string `json:"fix"`
	Edit    *Edit  `json:"edit,omitempty"` // makes the fix; nil if it needs thought
}

// An Edit replaces text that stands once in a line of the Dockerfile.
type Edit struct {
	Line     int
	Column   int // of the first character of Old, from 1
	Old, New string
}

// Check returns the findings of all rules, in the order of the Dockerfile. What is found about the steps of a stage
// that the one that ships does not come from is an [Info]: it is not built. The error is a
// *frontend.ParseError if the Dockerfile cannot be parsed, or that of reading the context, as of a file that is too
// large.
func Check(ctx context.Context, in Input) ([]Finding, error) {
	p, err := newProject(ctx, in)
	if err != nil {
		return nil, err
	}
	var found []Finding
	behind := p.sources(p.ships)
	for i := range Rules {
		r := &Rules[i]
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if r.Practice == 4 && in.DownloadsLocked {
			continue
		}
		r.check(p, func(f Finding) {
			f.Rule, f.Level, f.File = r.ID, cmp.Or(f.Level, r.Level), cmp.Or(f.File, in.Name)
			f.Fix = cmp.Or(f.Fix, r.Fix)
			if s := p.stageAt(f.Line); r.Practice > 3 && f.File == in.Name && s != nil && !behind[s] {
				f.Level = Info
			}
			if f.File == in.Name && p.ignored(f.Line, r) {
				return
			}
			f.Edit = p.placed(f.Edit)
			if f.File == in.Name {
				f.Excerpt = cmp.Or(f.Excerpt, p.line(f.Line))
			}
			found = append(found, f)
		})
		if p.large != nil {
			return nil, p.large
		}
	}
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Rule, b.Rule))
	})
	return slices.CompactFunc(found, func(a, b Finding) bool {
		return a.File == b.File && a.Line == b.Line && a.Rule == b.Rule && a.Message == b.Message
	}), nil
}

// Find returns the rule with an id, or nil.
func Find(id string) *Rule {
	for i := range Rules {
		if Rules[i].ID == id {
			return &Rules[i]
		}
	}
	return nil
}

// Failed reports whether a finding is an error.
func Failed(found []Finding) bool {
	return slices.ContainsFunc(found, func(f Finding) bool { return f.Level == Error })
}

// placed returns an edit with its column, or nil if its text does not stand in its line once.
func (p *project) placed(e *Edit) *Edit {
	if e == nil || e.Line < 1 || e.Line > len(p.lines) || strings.Count(p.lines[e.Line-1], e.Old) != 1 {
		return nil
	}
	before, _, _ := strings.Cut(p.lines[e.Line-1], e.Old)
	placed := *e
	placed.Column = utf8.RuneCountInString(before) + 1
	return &placed
}

// Apply returns the Dockerfile with the edits of findings in it, and how many were made. An edit whose text does
// not stand once in its line, because another one has changed it, is left out.
func Apply(dockerfile []byte, found []Finding) ([]byte, int) {
	lines := bytes.SplitAfter(dockerfile, []byte("\n"))
	made := 0
	for _, f := range found {
		if f.Edit == nil || f.Edit.Line < 1 || f.Edit.Line > len(lines) {
			continue
		}
		line := lines[f.Edit.Line-1]
		if bytes.Count(line, []byte(f.Edit.Old)) == 1 {
			lines[f.Edit.Line-1] = bytes.Replace(line, []byte(f.Edit.Old), []byte(f.Edit.New), 1)
			made++
		}
	}
	return bytes.Join(lines, nil), made
}

// line returns a line of the Dockerfile without the space around it.
func (p *project) line(n int) string {
	if n < 1 || n > len(p.lines) {
		return ""
	}
	return strings.TrimSpace(p.lines[n-1])
}

// ignored reports whether a comment above the instruction at a line allows what a rule finds.
func (p *project) ignored(line int, r *Rule) bool {
	for _, i := range p.instructions {
		if i.start <= line && line <= i.end {
			return slices.ContainsFunc(i.ignore, func(id string) bool { return id == r.ID || slices.Contains(r.hadolint, id) })
		}
	}
	return false
}

// ignores returns the ids that the comments above an instruction name.
func ignores(n *parser.Node) []string {
	var ids []string
	for _, comment := range n.PrevComment {
		comment = strings.TrimSpace(comment)
		if rest, ok := strings.CutPrefix(comment, "kedge: ignore="); ok {
			id, _, _ := strings.Cut(rest, " ")
			ids = append(ids, strings.Split(id, ",")...)
		} else if rest, ok := strings.CutPrefix(comment, "hadolint ignore="); ok {
			ids = append(ids, strings.FieldsFunc(rest, func(r rune) bool { return r == ',' || r == ' ' })...)
		}
	}
	return ids
}
