package diff

import (
	"fmt"
	"io"
	"strings"
)

// WriteMarkdown writes a result as GitHub's Markdown, for a pull request: a summary, and the
// differences of each kind in a part that unfolds, at most 20 of them. Names from the images are
// escaped: none becomes markup, a link or a mention.
func (r *Result) WriteMarkdown(w io.Writer) error {
	t := &text{w: w}
	t.printf("**%s**\n\n| | digest | platform | image |\n| --- | --- | --- | --- |\n", r.verdict())
	for i, s := range []Side{r.First, r.Second} {
		t.printf("| %s | %s | %s | %s |\n", [...]string{"first", "second"}[i], code(s.Digest), code(s.Platform), code(s.Name))
	}
	if lines := r.summary(); len(lines) > 0 {
		t.printf("\n")
		for _, l := range lines {
			t.printf("- %s: %s\n", l.title, l.text)
		}
	}
	for _, s := range r.sections() {
		if len(s.rows) == 0 {
			continue
		}
		t.printf("\n<details>\n<summary>%s: %d</summary>\n\n| change | name | first | second | |\n| --- | --- | --- | --- | --- |\n", s.title, len(s.rows))
		for i, row := range s.rows {
			if i == maxShown {
				t.printf("\nand %d more\n", len(s.rows)-i)
				break
			}
			t.printf("| %s | %s | %s | %s | %s |\n", strings.TrimSpace(row.change+" "+row.kind), code(row.name), code(row.old), code(row.new), escape(row.what))
		}
		t.printf("\n</details>\n")
	}
	for _, n := range r.Notes {
		t.printf("\n%s\n", escape(n))
	}
	return t.err
}

// code returns a string as code, in a cell of a table. It is HTML, since no number of backticks is
// safe in a cell.
func code(s string) string {
	if s == "" {
		return ""
	}
	return "<code>" + escape(short(s)) + "</code>"
}

// escape returns a string as text: whatever Markdown or GitHub might make something of becomes a
// character reference, which they take as text.
func escape(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == ' ', r == '/', r == ',', r == '+', r > 127:
			b.WriteRune(r)
		case r == '-' && i > 0:
			b.WriteRune(r)
		case r == '.' && !strings.HasSuffix(strings.ToLower(s[:i]), "www"): // no link
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "&#%d;", r)
		}
	}
	return b.String()
}
