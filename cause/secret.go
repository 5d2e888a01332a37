package cause

import (
	"bytes"
	"slices"
)

// What is shown of a token that may be a secret.
const (
	shownOf   = 4  // characters
	minSecret = 16 // characters of what may be one: shorter ones are guessed, or no secrets
)

// Redact returns text in which tokens that look as if they were drawn, such as keys and passwords, are
// stars but for their first four characters. It is as long as before.
func Redact(b []byte) []byte {
	b = bytes.Clone(b)
	for _, at := range baseText.FindAllIndex(b, -1) {
		if drawn(b[at[0]:at[1]]) {
			for i := at[0] + shownOf; i < at[1]; i++ {
				b[i] = '*'
			}
		}
	}
	return b
}

// shortenedIn are the kinds whose excerpts may have a secret in them.
var shortenedIn = []Kind{Random, Unknown, Order, HashOrder, LocaleOrder, ParallelOrder}

// shorten is an excerpt with no more of such tokens than their first four characters.
func shorten(s string) string {
	return string(baseText.ReplaceAllFunc([]byte(s), func(token []byte) []byte {
		if !drawn(token) {
			return token
		}
		return append(token[:shownOf:shownOf], "…"...)
	}))
}

// drawn reports whether a token looks as if it was made by chance: capital and small letters and digits
// change all the time, as they do in no word and no path.
func drawn(token []byte) bool {
	if len(token) < minSecret {
		return false
	}
	changes, last := 0, 0
	var seen []int
	for _, c := range token {
		class := 0
		switch {
		case c >= '0' && c <= '9':
			class = 1
		case c >= 'a' && c <= 'z':
			class = 2
		case c >= 'A' && c <= 'Z':
			class = 3
		}
		if class > 0 && last > 0 && class != last {
			changes++
		}
		last = class
		if class > 0 && !slices.Contains(seen, class) {
			seen = append(seen, class)
		}
	}
	return len(seen) > 1 && changes*4 >= len(token)
}
