package report

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/aymanbagabas/go-udiff/lcs"
)

// around is how many equal rows are shown before and after a difference.
const around = 3

// comparison shows two contents side by side.
type comparison struct {
	Hex   bool
	One   string // "first" or "second" if there is only that side, else ""
	Rows  []row
	Notes []string
}

type row struct {
	Kind          string // "eq", "ch", "del", "ins", "gap"
	Gap           int    // how many equal rows are left out
	First, Second cell
}

type cell struct {
	Number string // of the line, or the offset
	Text   text   // or the bytes
	Chars  text   // the bytes as characters
}

// compare compares two excerpts. Either may be nil.
func compare(first, second *Excerpt) *comparison {
	a, b := cut(first), cut(second)
	c := &comparison{}
	switch {
	case second == nil:
		c.One = "first"
	case first == nil:
		c.One = "second"
	}
	unit := "lines"
	if c.Hex = !readable(a.Data) || !readable(b.Data); c.Hex {
		unit = "rows"
		c.Rows = hexRows(a, b)
	} else {
		c.Rows = textRows(a, b)
	}
	if c.One == "" {
		if bytes.Equal(a.Data, b.Data) {
			c.Notes = append(c.Notes, "These parts are the same. The difference lies outside them.")
		}
		c.Rows = fold(c.Rows)
	}
	if more := len(c.Rows) - maxRows; more > 0 {
		c.Rows = c.Rows[:maxRows]
		c.Notes = append(c.Notes, fmt.Sprintf("%d more %s are not shown.", more, unit))
	}
	var parts []string
	for _, side := range []struct {
		name  string
		shown bool
		x     Excerpt
	}{{"first", first != nil, a}, {"second", second != nil, b}} {
		if side.shown && (side.x.Offset > 0 || side.x.Truncated) {
			parts = append(parts, fmt.Sprintf("bytes %d to %d of the %s", side.x.Offset, side.x.Offset+int64(len(side.x.Data)), side.name))
		}
	}
	if len(parts) > 0 {
		c.Notes = append(c.Notes, "Shown: "+strings.Join(parts, ", ")+".")
	}
	return c
}

// cut limits e to the part that is shown.
func cut(e *Excerpt) Excerpt {
	if e == nil {
		return Excerpt{}
	}
	x := *e
	x.Offset, x.Line = max(x.Offset, 0), max(x.Line, 0)
	if len(x.Data) > maxExcerpt {
		x.Data, x.Truncated = x.Data[:maxExcerpt], true
	}
	return x
}

// readable reports whether data is text. It may begin or end within a character.
func readable(data []byte) bool {
	for i := 0; i < utf8.UTFMax-1 && len(data) > 0 && !utf8.RuneStart(data[0]); i++ {
		data = data[1:]
	}
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			return !utf8.FullRune(data[i:])
		case unicode.IsControl(r) && !strings.ContainsRune("\t\n\v\f\r\b\x1b", r):
			return false
		}
		i += n
	}
	return true
}

func textRows(a, b Excerpt) []row {
	first, second := lines(a), lines(b)
	var rows []row
	i, j := 0, 0
	equal := func(to int) {
		for ; i < to; i, j = i+1, j+1 {
			rows = append(rows, row{Kind: "eq", First: line(a, first, i, nil), Second: line(b, second, j, nil)})
		}
	}
	for _, d := range lcs.DiffLines(first, second) {
		equal(d.Start)
		for i < d.End || j < d.ReplEnd {
			switch {
			case j == d.ReplEnd:
				rows = append(rows, row{Kind: "del", First: line(a, first, i, nil)})
				i++
			case i == d.End:
				rows = append(rows, row{Kind: "ins", Second: line(b, second, j, nil)})
				j++
			default:
				x, y := marks(first[i], second[j])
				rows = append(rows, row{Kind: "ch", First: line(a, first, i, x), Second: line(b, second, j, y)})
				i, j = i+1, j+1
			}
		}
	}
	equal(len(first))
	return rows
}

// lines splits an excerpt after each newline.
func lines(e Excerpt) []string {
	if len(e.Data) == 0 {
		return nil
	}
	s := strings.SplitAfter(string(e.Data), "\n")
	if s[len(s)-1] == "" {
		s = s[:len(s)-1]
	}
	return s
}

// line returns the cell of line i of e, marked as parts say. Nil parts mark nothing.
func line(e Excerpt, lines []string, i int, parts []part) cell {
	var c cell
	if e.Line > 0 {
		c.Number = fmt.Sprint(e.Line + i)
	} else if e.Offset == 0 {
		c.Number = fmt.Sprint(1 + i)
	}
	if parts == nil {
		parts = []part{{text: lines[i]}}
	}
	for _, p := range parts {
		s, ended := strings.CutSuffix(p.text, "\n")
		for k, field := range strings.Split(s, "\t") {
			if k > 0 { // show a tab inside a line as it is
				c.Text = append(c.Text, span{Text: "\t", Marked: p.marked})
			}
			c.Text = appendVisible(c.Text, field, p.marked)
		}
		if ended && p.marked {
			c.Text = append(c.Text, span{Text: `\n`, Escaped: true, Marked: true})
		}
	}
	return c
}

// part is a piece of a line.
type part struct {
	text   string
	marked bool
}

// marks compares two lines word by word.
func marks(x, y string) (a, b []part) {
	first, second := words(x), words(y)
	i, j := 0, 0
	add := func(parts []part, words []string, marked bool) []part {
		if len(words) == 0 {
			return parts
		}
		return append(parts, part{strings.Join(words, ""), marked})
	}
	for _, d := range lcs.DiffLines(first, second) {
		a, b = add(a, first[i:d.Start], false), add(b, second[j:d.ReplStart], false)
		a, b = add(a, first[d.Start:d.End], true), add(b, second[d.ReplStart:d.ReplEnd], true)
		i, j = d.End, d.ReplEnd
	}
	return add(a, first[i:], false), add(b, second[j:], false)
}

// words splits a line into runs of letters and digits, and single other characters.
func words(s string) []string {
	var w []string
	start := -1 // of a run
	for i, r := range s {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			if start < 0 {
				start = i
			}
			continue
		}
		if start >= 0 {
			w = append(w, s[start:i])
			start = -1
		}
		_, n := utf8.DecodeRuneInString(s[i:])
		w = append(w, s[i:i+n])
	}
	if start >= 0 {
		w = append(w, s[start:])
	}
	return w
}

// perRow is how many bytes a row of a dump shows. Two sides of eight fit on a small screen.
const perRow = 8

func hexRows(a, b Excerpt) []row {
	var rows []row
	for i := 0; i < max(len(a.Data), len(b.Data)); i += perRow {
		x, y := chunk(a.Data, i), chunk(b.Data, i)
		r := row{Kind: "ch"}
		switch {
		case bytes.Equal(x, y):
			r.Kind = "eq"
		case len(x) == 0:
			r.Kind = "ins"
		case len(y) == 0:
			r.Kind = "del"
		}
		if len(x) > 0 {
			r.First = dump(a.Offset+int64(i), x, y)
		}
		if len(y) > 0 {
			r.Second = dump(b.Offset+int64(i), y, x)
		}
		rows = append(rows, r)
	}
	return rows
}

func chunk(data []byte, i int) []byte {
	if i >= len(data) {
		return nil
	}
	return data[i:min(i+perRow, len(data))]
}

// dump returns a cell of bytes. It marks those that differ from other, unless other is empty.
func dump(offset int64, data, other []byte) cell {
	c := cell{Number: fmt.Sprintf("%08x", offset)}
	for i := 0; i < len(data); {
		differs := func(k int) bool { return len(other) > 0 && (k >= len(other) || data[k] != other[k]) }
		end, marked := i, differs(i)
		var digits, chars strings.Builder
		for ; end < len(data) && differs(end) == marked; end++ {
			if end > i {
				digits.WriteByte(' ')
			}
			fmt.Fprintf(&digits, "%02x", data[end])
			if data[end] >= ' ' && data[end] < 0x7f {
				chars.WriteByte(data[end])
			} else {
				chars.WriteByte('.')
			}
		}
		if i > 0 {
			c.Text = append(c.Text, span{Text: " "})
		}
		c.Text = append(c.Text, span{Text: digits.String(), Marked: marked})
		c.Chars = append(c.Chars, span{Text: chars.String(), Marked: marked})
		i = end
	}
	return c
}

// fold leaves out equal rows that are far from a difference.
func fold(rows []row) []row {
	near := make([]bool, len(rows))
	last := -1 - around
	for i, r := range rows {
		if r.Kind != "eq" {
			last = i
		}
		near[i] = i-last <= around
	}
	last = len(rows) + around
	for i := len(rows) - 1; i >= 0; i-- {
		if rows[i].Kind != "eq" {
			last = i
		}
		near[i] = near[i] || last-i <= around
	}
	var kept []row
	for i := 0; i < len(rows); {
		gap := i
		for gap < len(rows) && !near[gap] {
			gap++
		}
		if gap-i > 1 {
			kept = append(kept, row{Kind: "gap", Gap: gap - i})
			i = gap
			continue
		}
		kept = append(kept, rows[i])
		i++
	}
	return kept
}

func (c *comparison) cost() int {
	n := 200
	for _, r := range c.Rows {
		n += 80
		for _, x := range []cell{r.First, r.Second} {
			n += len(x.Number) + x.Text.cost() + x.Chars.cost()
		}
	}
	return n
}
