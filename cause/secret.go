package cause

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"
)

// The limits for tokens that may be secrets.
const (
	shownOf   = 4  // characters that are shown
	minSecret = 16 // characters that a secret has at least: a shorter one can be guessed
)

// Redact returns copies of two versions of a text in which stars replace all but the first four characters of
// tokens that look random, such as keys and passwords. If the token at the first difference looks random in one
// version, it is redacted in both. The lengths stay.
func Redact(first, second []byte) (a, b []byte) {
	at := common(first, second)
	hide := drawnAt(string(first), at) || drawnAt(string(second), at)
	return redactSide(first, at, hide), redactSide(second, at, hide)
}

// redactSide redacts the tokens of a text that look random, and with hide the one at an offset.
func redactSide(s []byte, at int, hide bool) []byte {
	s = bytes.Clone(s)
	tokens := tokenText.FindAllIndex(s, -1)
	here := tokenAt(tokens, at)
	for i, t := range tokens {
		if hide && i == here || drawn(s[t[0]:t[1]]) {
			for i := t[0] + shownOf; i < t[1]; i++ {
				s[i] = '*'
			}
		}
	}
	return s
}

// shortenedKinds are the kinds whose excerpts may hold a secret.
var shortenedKinds = []Kind{Random, Unknown, Order, HashOrder, LocaleOrder, ParallelOrder}

// shorten returns two excerpts with at most four characters of each token that looks random: the first four,
// or those from the first difference. If the token at the difference looks random on one side, it is shortened
// on both.
func shorten(first, second string) (string, string) {
	at := commonText(first, second)
	hide := drawnAt(first, at) || drawnAt(second, at)
	return shortenSide(first, at, hide), shortenSide(second, at, hide)
}

// drawnAt reports whether the token at an offset looks random.
func drawnAt(s string, at int) bool {
	for _, t := range baseText.FindAllStringIndex(s, -1) {
		if t[0] <= at && at <= t[1] && drawn([]byte(s[t[0]:t[1]])) {
			return true
		}
	}
	return false
}

// tokenAt returns the index of the token that an offset is in or at the end of, -1 for none.
func tokenAt(tokens [][]int, at int) int {
	for i, t := range slices.Backward(tokens) {
		if t[0] <= at && at <= t[1] {
			return i
		}
	}
	return -1
}

// shortenSide shortens the tokens of an excerpt that look random, and with hide the one at an offset.
func shortenSide(s string, at int, hide bool) string {
	var out strings.Builder
	last := 0
	tokens := tokenText.FindAllStringIndex(s, -1)
	index := tokenAt(tokens, at)
	for i, t := range tokens {
		here := i == index
		secret := hide && here || t[1]-t[0] >= minSecret && drawn([]byte(s[t[0]:t[1]]))
		if !secret || t[1]-t[0] <= shownOf {
			continue
		}
		from := t[0]
		out.WriteString(s[last:from])
		if here && at > from && at < t[1] {
			from = at
			out.WriteString("…")
		}
		out.WriteString(s[from:min(from+shownOf, t[1])])
		if from+shownOf < t[1] {
			out.WriteString("…")
		}
		last = t[1]
	}
	return out.String() + s[last:]
}

// commonText returns the length of the common prefix of two texts, in whole runes.
func commonText(first, second string) int {
	n := common([]byte(first), []byte(second))
	for n > 0 && (n < len(first) && !utf8.RuneStart(first[n]) || n < len(second) && !utf8.RuneStart(second[n])) {
		n--
	}
	return n
}

// drawn reports whether a token looks random: capital letters, small letters and digits alternate more often
// than in words and paths.
func drawn(token []byte) bool {
	if len(token) < minSecret {
		return false
	}
	changes, last := 0, 0
	var seen []int
	for _, c := range token {
		now := class(c)
		if now > 0 && last > 0 && now != last {
			changes++
		}
		last = now
		if now > 0 && !slices.Contains(seen, now) {
			seen = append(seen, now)
		}
	}
	return len(seen) > 1 && changes*4 >= len(token)
}

// class returns 1 for a digit, 2 for a small letter, 3 for a capital letter and 0 for anything else.
func class(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return 1
	case c >= 'a' && c <= 'z':
		return 2
	case c >= 'A' && c <= 'Z':
		return 3
	}
	return 0
}
