package report

import (
	"fmt"
	"io"
	"strings"
)

// writeMarkdown writes r as GitHub's Markdown, for a pull request: the answer, a summary, and each list in a part
// that unfolds. No string becomes markup, a link or a mention.
func writeMarkdown(w io.Writer, r *Report) error {
	t := &printer{}
	r = r.compared()
	t.printf("**%s**\n", escape(r.headline()))
	var lines []point
	switch {
	case r.DriftLog != nil:
		t.driftTable(r.DriftLog)
	case r.Promotion != nil:
		for _, c := range r.Promotion.Conditions {
			lines = append(lines, point{c.answer(), c.Name + ": " + c.Text})
		}
	case r.Diff != nil:
		if r.Drift != nil {
			t.reasons(r.Drift)
		}
		t.printf("\n| | digest | platform | image |\n| --- | --- | --- | --- |\n")
		for i, s := range []Side{r.First, r.Second} {
			t.printf("| %s | %s | %s | %s |\n", [...]string{"first", "second"}[i], code(s.Digest), code(s.Platform), code(s.Name))
		}
		lines = r.summary()
	case r.Lint != nil && len(r.Findings) > 0:
		t.printf("\n| where | level | rule | what | fix |\n| --- | --- | --- | --- | --- |\n")
		for _, f := range r.Findings {
			t.printf("| %s | %s | %s | %s | %s |\n", code(f.at()), f.Level, f.Rule, escape(f.Message), escape(f.Fix))
		}
	case r.Image != nil:
		if r.Verdict != nil && !r.Verdict.Reproducible {
			t.printf("\n| platform | first | second |\n| --- | --- | --- |\n")
			for _, p := range r.Verdict.Platforms {
				t.printf("| %s | %s | %s |\n", code(p.Platform), code(p.First), code(p.Second))
			}
		}
		lines = r.facts()
	}
	if len(lines) > 0 {
		t.printf("\n")
	}
	for _, l := range lines {
		t.printf("- %s: %s\n", l.title, escape(l.text))
	}
	for _, s := range r.sections() {
		t.printf("\n<details>\n<summary>%s: %d</summary>\n\n| change | name | first | second | |\n| --- | --- | --- | --- | --- |\n", escape(s.title), len(s.items))
		for i, row := range s.items {
			if i == maxPaths {
				t.printf("\nand %d more\n", len(s.items)-i)
				break
			}
			t.printf("| %s | %s | %s | %s | %s |\n", escape(strings.TrimSpace(row.change+" "+row.kind)), code(row.name), code(row.first), code(row.second), escape(row.what))
			for i, c := range row.causes {
				if i == maxReasons {
					t.printf("| | | | | and %s |\n", Counted(len(row.causes)-i, "more cause"))
					break
				}
				t.printf("| %s | %s | %s | %s | %s |\n", escape(c.Kind), code(c.Where), code(c.First), code(c.Second), escape(strings.TrimSpace(c.Why+" "+c.Fix)))
			}
		}
		t.printf("\n</details>\n")
	}
	if r.Image != nil && r.Verdict != nil && r.Verdict.Patch != "" {
		t.printf("\nWrite instead:\n\n<pre>\n")
		for line := range strings.Lines(r.Verdict.Patch) {
			t.printf("%s\n", escape(strings.TrimSuffix(line, "\n")))
		}
		t.printf("</pre>\n")
	}
	if r.Diff != nil {
		for _, n := range r.Notes {
			t.printf("\n%s\n", escape(n))
		}
	}
	t.printf("\n") // another report may follow, in a summary of several steps
	_, err := w.Write(t.Bytes())
	return err
}

// code returns a string as code in a cell of a table. It is HTML, since no number of backticks is safe in a cell.
func code(s string) string {
	if s == "" {
		return ""
	}
	return "<code>" + escape(short(s)) + "</code>"
}

// escape returns a string as text. Whatever Markdown or GitHub might take for markup becomes a character
// reference.
func escape(s string) string {
	var b strings.Builder
	s = plain(s)
	for i, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == ' ', r == '/', r == ',', r == '+', r > 127:
			b.WriteRune(r)
		case (r == '-' || r == '>' || r == '(' || r == ')') && i > 0, r == ':' && strings.HasPrefix(s[i:], ": "):
			b.WriteRune(r)
		case r == '.' && !strings.HasSuffix(strings.ToLower(s[:i]), "www"): // no link
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "&#%d;", r)
		}
	}
	return b.String()
}
