package cause

import (
	"bytes"
	"io"
	"regexp"
	"slices"
	"strings"
)

// list finds the same elements in another order between brackets, in which programs print maps, sets and
// lists. The opening bracket is before the difference.
func (f *finder) list(w *window) (found, bool) {
	if w.bytes {
		return found{}, false
	}
	for i := w.at - 1; i >= 0 && w.at-i <= w.bt; i-- {
		j := w.bt - (w.at - i)
		if w.a[i] != w.b[j] || closing(w.a[i]) == 0 {
			continue
		}
		// A bracket that closes before the difference does not count.
		m, n := bracketed(w.a, i), bracketed(w.b, j)
		if m != n || m <= w.at-i {
			continue
		}
		if kind := sameElements(w.a[:i+m], w.b[:j+n], i, j); kind != "" {
			return found{Cause{Kind: kind, Format: "list"}, [2]int{i, i + m}, [2]int{j, j + n}}, true
		}
	}
	return found{}, false
}

// bracketOrder returns the kind for two texts that differ only in the order of elements between brackets;
// "" for others.
func bracketOrder(first, second *io.SectionReader) Kind {
	if first.Size() > maxListed {
		return ""
	}
	a, ok1 := whole(first)
	b, ok2 := whole(second)
	if !ok1 || !ok2 {
		return ""
	}
	return sameElements(a, b, 0, 0)
}

// sameElements returns the kind if a from i and b from j differ only in the order of elements between
// brackets: HashOrder for maps and sets, Order if lists differ, too; "" otherwise.
func sameElements(a, b []byte, i, j int) Kind {
	for _, all := range []bool{false, true} {
		x, ok1 := canonical(a, i, all)
		y, ok2 := canonical(b, j, all)
		switch {
		case !ok1 || !ok2:
			return ""
		case x != y:
		case all:
			return Order
		default:
			return HashOrder
		}
	}
	return ""
}

const (
	maxBrackets = 32      // nested brackets
	maxListed   = 1 << 20 // bytes of a file whose brackets are all read
	maxSteps    = 4 * maxListed
)

func closing(c byte) byte {
	switch c {
	case '{':
		return '}'
	case '[':
		return ']'
	case '(':
		return ')'
	case '<':
		return '>'
	}
	return 0
}

// beforeHash matches the text before the brackets of a map or set that are not braces, in Go, Python, Ruby and Java.
var beforeHash = regexp.MustCompile(`(?:\bmap|\b(?:frozen)?set\(|\bdict_(?:keys|values|items)\(|(?:Map|Set|Hash)\(?|(?:Map|Set)[ :=]+)$`)

// bracketed returns the length from the bracket at s[i] to its closing bracket, both included; 0 if there is
// none.
func bracketed(s []byte, i int) int {
	t := text{s: s, all: true}
	end, _, ok := t.group(i, 0)
	if !ok {
		return 0
	}
	return end - i
}

// canonical returns s from i with the elements of maps and sets sorted; with all, those of lists as well.
func canonical(s []byte, i int, all bool) (string, bool) {
	t := text{s: s, all: all}
	var out strings.Builder
	for i < len(s) {
		if closing(s[i]) == 0 {
			out.WriteByte(s[i])
			i++
			continue
		}
		end, group, ok := t.group(i, 0)
		if !ok { // it has no closing bracket
			out.WriteByte(s[i])
			i++
			continue
		}
		out.WriteString(group)
		i = end
	}
	return out.String(), t.steps < maxSteps
}

// A text is parsed for brackets.
type text struct {
	s     []byte
	all   bool
	steps int // bytes that were read, some of them more than once: at most maxSteps
}

// group reads from the bracket at i to its closing bracket. It returns the end and the canonical form.
func (t *text) group(i, depth int) (end int, form string, ok bool) {
	if depth == maxBrackets {
		return 0, "", false
	}
	begin, last := i, closing(t.s[i])
	var words []string
	var seps []byte // after each word but the last
	var word []byte
	for i++; i < len(t.s); i++ {
		if t.steps++; t.steps > maxSteps {
			return 0, "", false
		}
		switch c := t.s[i]; {
		case c == last:
			return i + 1, t.form(begin, append(words, string(word)), seps), true
		case closing(c) != 0 && (c != '<' || last == '>'):
			next, form, ok := t.group(i, depth+1)
			if !ok {
				return 0, "", false
			}
			word = append(word, form...)
			i = next - 1
		case c == '}' || c == ']' || c == ')':
			return 0, "", false
		case c == '"' || c == '\'' && !letter(t.s[i-1]):
			n := quotedLen(t.s[i:])
			t.steps += n
			word = append(word, t.s[i:i+n]...)
			i += n - 1
		case strings.IndexByte(separators, c) >= 0:
			words, seps, word = append(words, string(word)), append(seps, c), word[:0]
		default:
			word = append(word, c)
		}
	}
	return 0, "", false
}

const separators = ",;\n " // the strongest first

// form returns the canonical form of the bracket at begin. The strongest separator in it separates its
// elements.
func (t *text) form(begin int, words []string, seps []byte) string {
	strongest := byte(' ')
	for i := len(separators) - 1; i >= 0; i-- {
		if bytes.IndexByte(seps, separators[i]) >= 0 {
			strongest = separators[i]
		}
	}
	var elements []string
	var element strings.Builder
	for i, w := range words {
		element.WriteString(w)
		if i < len(seps) && seps[i] != strongest {
			element.WriteByte(seps[i])
			continue
		}
		if e := strings.TrimSpace(element.String()); e != "" {
			elements = append(elements, e)
		}
		element.Reset()
	}
	c := t.s[begin]
	if t.all || c == '{' && strongest == ',' || beforeHash.Match(t.s[max(begin-16, 0):begin]) {
		slices.Sort(elements)
	}
	return string(c) + strings.Join(elements, string(strongest)) + string(closing(c))
}

func letter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// quotedLen returns the length of the quoted string at the start of s; 1 if it does not end.
func quotedLen(s []byte) int {
	for i := 1; i < len(s) && s[i] != '\n'; i++ {
		switch s[i] {
		case '\\':
			i++
		case s[0]:
			return i + 1
		}
	}
	return 1
}
