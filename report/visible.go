package report

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// text is a string that shows all it holds. Characters that are invisible or reorder others, and bytes that are no
// character, are spans of their own, escaped as in Go.
type text []span

type span struct {
	Text    string
	Escaped bool // Text is an escape
	Marked  bool // it differs from the other side
}

// visible returns s as text. It leaves out the middle of a string longer than limit bytes.
func visible(s string, limit int) text {
	if len(s) <= limit {
		return appendVisible(nil, s, false)
	}
	head, tail := limit-limit/4, len(s)-limit/4
	for head > 0 && !utf8.RuneStart(s[head]) {
		head--
	}
	for tail < len(s) && !utf8.RuneStart(s[tail]) {
		tail++
	}
	t := appendVisible(nil, s[:head], false)
	t = append(t, span{Text: fmt.Sprintf(" … %d bytes … ", tail-head), Escaped: true})
	return appendVisible(t, s[tail:], false)
}

// appendVisible appends s to t.
func appendVisible(t text, s string, marked bool) text {
	start := 0 // of the part that is not appended yet
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if visibleRune(r, n) {
			i += n
			continue
		}
		if start < i {
			t = append(t, span{Text: s[start:i], Marked: marked})
		}
		var e strings.Builder
		for ; i < len(s) && !visibleRune(r, n); r, n = utf8.DecodeRuneInString(s[i:]) {
			e.WriteString(escaped(s[i:i+n], r, n))
			i += n
		}
		t = append(t, span{Text: e.String(), Escaped: true, Marked: marked})
		start = i
	}
	if start < len(s) {
		t = append(t, span{Text: s[start:], Marked: marked})
	}
	return t
}

// visibleRune reports whether a rune of n bytes can be shown as it is.
func visibleRune(r rune, n int) bool {
	if r < utf8.RuneSelf {
		return n == 1 && r >= ' ' && r != 0x7f
	}
	return (r != utf8.RuneError || n > 1) && unicode.IsPrint(r) &&
		!unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

func escaped(raw string, r rune, n int) string {
	switch {
	case r == '\n':
		return `\n`
	case r == '\t':
		return `\t`
	case r == '\r':
		return `\r`
	case r == utf8.RuneError && n <= 1, r < utf8.RuneSelf:
		return fmt.Sprintf(`\x%02x`, raw)
	case r > 0xffff:
		return fmt.Sprintf(`\U%08x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// String returns t without its marks, for places where HTML takes no elements.
func (t text) String() string {
	var b strings.Builder
	for _, s := range t {
		b.WriteString(s.Text)
	}
	return b.String()
}

// cost estimates how many bytes of HTML t takes.
func (t text) cost() int {
	n := 0
	for _, s := range t {
		n += len(s.Text) + 24
		for i := range len(s.Text) {
			switch s.Text[i] {
			case '&', '<', '>', '"', '\'', '+':
				n += 4
			}
		}
	}
	return n
}
