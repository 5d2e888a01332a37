package report

import (
	"fmt"
	"strings"

	"github.com/kedge-build/kedge/lint"
)

// Lint is what lint found.
type Lint struct {
	Findings []Finding `json:"findings"`
}

// Finding is a place that a rule of lint is about.
type Finding struct {
	Rule    string `json:"rule"`
	Level   string `json:"level"` // error, warning or info
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"` // 0 for the whole file
	Excerpt string `json:"excerpt,omitempty"`
	Message string `json:"message"`
	Fix     string `json:"fix"`
	Edit    *Edit  `json:"edit,omitempty"` // makes the fix; nil if that needs thought
}

// Edit replaces a part of a line of the finding's file.
type Edit struct {
	Line   int    `json:"line"`
	Column int    `json:"column"` // of the first character of Old, from 1
	Old    string `json:"old"`
	New    string `json:"new"`
}

// NewLint reports findings about a Dockerfile.
func NewLint(dockerfile string, found []lint.Finding) *Report {
	out := &Lint{Findings: []Finding{}}
	for _, f := range found {
		finding := Finding{Rule: f.Rule, Level: string(f.Level), File: f.File, Line: f.Line, Excerpt: f.Excerpt, Message: f.Message, Fix: f.Fix}
		if e := f.Edit; e != nil {
			finding.Edit = &Edit{e.Line, e.Column, e.Old, e.New}
		}
		out.Findings = append(out.Findings, finding)
	}
	return &Report{Version: Version, Verb: "lint", Dockerfile: dockerfile, Lint: out}
}

// at returns the place of a finding.
func (f Finding) at() string {
	if f.Line > 0 {
		return fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	return f.File
}

// count returns the number of findings of a level.
func (l *Lint) count(level lint.Level) int {
	n := 0
	for _, f := range l.Findings {
		if f.Level == string(level) {
			n++
		}
	}
	return n
}

// headline is the answer of lint in a line.
func (l *Lint) headline() string {
	var parts []string
	for _, level := range []lint.Level{lint.Error, lint.Warning} {
		if n := l.count(level); n > 0 {
			parts = append(parts, Counted(n, string(level)))
		}
	}
	if n := l.count(lint.Info); n > 0 {
		parts = append(parts, Counted(n, "remark"))
	}
	if len(parts) == 0 {
		return "lint: nothing found"
	}
	return "lint: " + strings.Join(parts, ", ")
}

// maxAlike bounds the findings of one rule that the text shows.
const maxAlike = 3

func (t *printer) lint(r *Report) {
	shown := map[string]int{}
	for _, f := range r.Findings {
		if shown[f.Rule]++; shown[f.Rule] > maxAlike {
			continue
		}
		t.printf("%s: %s: %s [%s]\n", f.at(), f.Level, f.Message, f.Rule)
		if f.Excerpt != "" {
			t.printf("    %s\n", shortened(f.Excerpt, 120))
		}
		if shown[f.Rule] == 1 {
			t.printf("    fix: %s\n", f.Fix)
		}
	}
	more := 0
	for _, n := range shown {
		more += max(n-maxAlike, 0)
	}
	if more > 0 {
		t.printf("and %s of the same rules: --format=json lists all\n", Counted(more, "more finding"))
	}
	t.printf("%s\n", r.Lint.headline())
}
