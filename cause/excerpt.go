package cause

import (
	"encoding/hex"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

const maxExcerpt = 80 // bytes of an excerpt

// printable returns a short excerpt of b that is safe on a terminal: text as it is, other data as hex digits.
func printable(b []byte) string {
	cut := len(b) > maxExcerpt
	if cut {
		b = b[:maxExcerpt]
		for len(b) > maxExcerpt-utf8.UTFMax && !utf8.Valid(b) {
			b = b[:len(b)-1] // it may be in the middle of a rune
		}
	}
	bad := 0
	for _, r := range string(b) {
		if r == utf8.RuneError || !unicode.IsPrint(r) && r != '\n' && r != '\t' {
			bad++
		}
	}
	if bad*4 > len(b) {
		if len(b) > 24 {
			b, cut = b[:24], true
		}
		s := hex.EncodeToString(b)
		if cut {
			s += "…"
		}
		return s
	}
	s := strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '·'
		}
		return r
	}, string(b))
	if cut {
		s += "…"
	}
	return s
}

// excerpts returns excerpts of two tokens that differ. If the tokens are too long to show the difference, the
// excerpts begin at it.
func excerpts(first, second []byte) (a, b string) {
	a, b = printable(first), printable(second)
	if a == b {
		n := commonText(string(first), string(second))
		a, b = "…"+printable(first[n:]), "…"+printable(second[n:])
	}
	return a, b
}

// excerptAt returns an excerpt of the content at off.
func excerptAt(r *io.SectionReader, off int64) string {
	return printable(readAt(r, off, maxExcerpt+1))
}

func lowerFirst(s string) string {
	if s == "" || len(s) > 1 && unicode.IsUpper(rune(s[1])) {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
