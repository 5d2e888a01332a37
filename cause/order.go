package cause

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

const (
	headSize = 512     // bytes that hold every magic number
	maxJSON  = 4 << 20 // bytes; a value takes several times as much memory
)

// order finds text with the same lines, or the same JSON, in another order.
func (f *finder) order(p pair, spans []span) bool {
	if !isText(readAt(p.first, 0, headSize)) || !isText(readAt(p.second, 0, headSize)) {
		return false
	}
	at := spans[0]
	c := Cause{Where: p.where, Offset: at.a}
	if kind, why, ok := jsonOrder(p.first, p.second); ok {
		c.Kind, c.Why, c.Format = kind, why, "JSON"
		c.First, c.Second = excerptAt(p.first, at.a), excerptAt(p.second, at.b)
		f.add(c)
		return true
	}
	if p.first.Size() != p.second.Size() {
		return false
	}
	if kind := bracketOrder(p.first, p.second); kind != "" {
		c.Kind, c.Format = kind, "list"
		c.First, c.Second = excerptAt(p.first, at.a), excerptAt(p.second, at.b)
		f.add(c)
		return true
	}
	a, n, err1 := f.bag(p.first)
	b, m, err2 := f.bag(p.second)
	if err1 != nil || err2 != nil || n != m {
		return false
	}
	if n == 1 {
		return f.lineOfWords(p, c)
	}
	if a != b {
		return false
	}
	x, y := line(p.first, at.a), line(p.second, at.b)
	c.Kind, c.First, c.Second = f.lineOrder(p.first, p.second), printable(x), printable(y)
	f.add(c)
	return true
}

// lineOfWords finds one line with the same words in another order.
func (f *finder) lineOfWords(p pair, c Cause) bool {
	a, b := readAt(p.first, 0, maxLine+1), readAt(p.second, 0, maxLine+1)
	if len(a) > maxLine {
		return false
	}
	x, y := strings.Fields(string(a)), strings.Fields(string(b))
	slices.Sort(x)
	slices.Sort(y)
	if len(x) < 2 || !slices.Equal(x, y) {
		return false
	}
	c.Kind, c.First, c.Second, c.Why = Order, printable(a), printable(b), "The same words are in another order."
	f.add(c)
	return true
}

// maxLine is the length of the longest line whose words are compared.
const maxLine = 64 << 10

// seed is the seed of all hashes, which no other process sees.
var seed = maphash.MakeSeed()

// bag returns a hash of the lines of r that does not depend on their order, and their number.
func (f *finder) bag(r io.ReaderAt) (sum uint64, n int, err error) {
	var h maphash.Hash
	h.SetSeed(seed)
	br := bufio.NewReaderSize(io.NewSectionReader(r, 0, 1<<62), chunk)
	for open := false; !f.stopped(); {
		b, err := br.ReadSlice('\n')
		if len(b) > 0 {
			open = true
			_, _ = h.Write(bytes.TrimSuffix(b, []byte("\n")))
		}
		if err == bufio.ErrBufferFull { //nolint:errorlint // ReadSlice returns it as it is
			continue
		}
		if open {
			sum += h.Sum64()
			n++
			h.Reset()
			open = false
		}
		if err == io.EOF { //nolint:errorlint // as above
			return sum, n, nil
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return 0, 0, f.ctx.Err()
}

var buildLine = regexp.MustCompile(`(?m)^\s*(?:\[\s*\d+%\]|\[\d+/\d+\]|(?:\S+-)?(?:gcc|g\+\+|cc|c\+\+|clang|ld|ar) |(?:CC|CXX|LD|AR|AS|LINK|CCLD|GEN)\s+\S|libtool:|Compiling |Building |make(?:\[\d+\])?:)`)

// lineOrder returns the kind of order in which the same lines differ.
func (f *finder) lineOrder(first, second *io.SectionReader) Kind {
	a, ok1 := whole(first)
	b, ok2 := whole(second)
	if !ok1 || !ok2 {
		return Order
	}
	x, y := strings.Split(strings.TrimSuffix(string(a), "\n"), "\n"), strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if slices.IsSorted(x) && collated(y) || slices.IsSorted(y) && collated(x) {
		return LocaleOrder
	}
	if f.hints.Varied.Locale != "" && slices.IsSorted(y) && !slices.IsSorted(x) {
		return LocaleOrder // the locale of the second build sorts by bytes
	}
	if len(buildLine.FindAllIndex(a, 3)) >= min(3, len(x)) {
		return ParallelOrder
	}
	return Order
}

// collated reports whether lines are sorted as languages sort: by letters and digits, ignoring case and
// punctuation.
func collated(lines []string) bool {
	keys := make([]string, len(lines))
	for i, l := range lines {
		keys[i] = strings.Map(func(r rune) rune {
			if unicode.IsLetter(r) || unicode.IsDigit(r) {
				return unicode.ToLower(r)
			}
			return -1
		}, l)
	}
	return slices.IsSorted(keys)
}

// jsonOrder returns the kind for two JSON texts that differ only in order.
func jsonOrder(first, second *io.SectionReader) (kind Kind, why string, ok bool) {
	if first.Size() > maxJSON || second.Size() > maxJSON {
		return "", "", false
	}
	a, ok1 := whole(first)
	b, ok2 := whole(second)
	if !ok1 || !ok2 {
		return "", "", false
	}
	v, ok1 := jsonValue(a)
	w, ok2 := jsonValue(b)
	if !ok1 || !ok2 {
		return "", "", false
	}
	if reflect.DeepEqual(v, w) {
		if bytes.Equal(sortedText(a), sortedText(b)) {
			return HashOrder, "The keys of a JSON object are in another order; the value is the same.", true
		}
		return "", "", false
	}
	if unordered(v) == unordered(w) {
		return Order, "The elements of a JSON array are in another order.", true
	}
	return "", "", false
}

func jsonValue(b []byte) (any, bool) {
	if t := bytes.TrimLeft(b, " \t\r\n"); len(t) == 0 || t[0] != '{' && t[0] != '[' {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil || d.More() {
		return nil, false
	}
	return v, true
}

// sortedText returns the bytes of b that are not spaces, sorted.
func sortedText(b []byte) []byte {
	s := slices.DeleteFunc(slices.Clone(b), func(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' })
	slices.Sort(s)
	return s
}

// unordered returns a hash of a value that does not depend on the order of keys and elements.
func unordered(v any) uint64 {
	switch v := v.(type) {
	case map[string]any:
		sum := uint64(1)
		for k, e := range v {
			sum += mix("key", maphash.String(seed, k), unordered(e))
		}
		return mix("object", sum, uint64(len(v)))
	case []any:
		sum := uint64(1)
		for _, e := range v {
			sum += mix("element", unordered(e), 0)
		}
		return mix("array", sum, uint64(len(v)))
	case string:
		return mix("string", maphash.String(seed, v), 0)
	}
	return mix("scalar", maphash.String(seed, fmt.Sprint(v)), 0)
}

func mix(what string, a, b uint64) uint64 {
	buf := binary.LittleEndian.AppendUint64([]byte(what), a)
	return maphash.Bytes(seed, binary.LittleEndian.AppendUint64(buf, b))
}
