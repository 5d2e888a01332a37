package cause

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// texFormat explains formats, into which TeX dumps its memory. They hold the time at which TeX started, at an
// offset that depends on what it loaded: minutes, day, month and year, each next to the same four bytes, which
// mark a number. The formats of LuaTeX hold tables of Lua, too.
func (f *finder) texFormat(p pair, spans []span) bool {
	const magic = "W2TX"
	if !bytes.HasPrefix(readAt(p.first, 0, headSize), []byte(magic)) || !bytes.HasPrefix(readAt(p.second, 0, headSize), []byte(magic)) {
		return false
	}
	left := slices.DeleteFunc(slices.Clone(spans), func(s span) bool {
		first, ok1 := texTime(p.first, s.a)
		second, ok2 := texTime(p.second, s.b)
		if !ok1 || !ok2 {
			return false
		}
		f.add(Cause{
			Kind: Timestamp, Where: p.where, Offset: s.a, Format: "TeX format", First: first, Second: second,
			Why: "TeX stored the time at which it made the format.",
			Fix: "TeX uses the clock whatever the environment says: run fmtutil-sys --byfmt tex when the container starts, or remove tex.fmt in the same RUN if nothing uses it.",
		})
		return true
	})
	left = f.texTrees(p, left)
	for i, s := range left {
		if f.sameWords(p, left[i:]) {
			f.add(Cause{
				Kind: HashOrder, Where: p.where, Offset: s.a, Format: "LuaTeX format", Count: len(left) - i,
				First: excerptAt(p.first, s.a), Second: excerptAt(p.second, s.b),
				Why: "LuaTeX dumps tables of Lua in the order of their hashes, whose seed is random in each process.",
				Fix: "Run fmtutil-sys --byengine luatex when the container starts, or remove the formats of LuaTeX in the same RUN if nothing uses them.",
			})
			left = left[:i]
			break
		}
	}
	if len(left) > 0 {
		f.explain(p, left)
	}
	return true
}

// texTime reads the time around a difference at off, which may be in any of its four numbers.
func texTime(r interface {
	ReadAt(b []byte, off int64) (int, error)
	Size() int64
}, off int64) (string, bool) {
	const size = 8 // of a word
	b := readInto(r, max(off-4*size, 0), make([]byte, 8*size))
	for i := 0; i+4*size <= len(b); i++ {
		var n [4]uint32 // minutes since midnight, day, month, year
		same := true
		for k := range n {
			word := b[i+k*size:]
			same = same && bytes.Equal(word[:4], b[i:i+4])
			n[k] = binary.BigEndian.Uint32(word[4:])
		}
		if same && n[0] < 24*60 && n[1] >= 1 && n[1] <= 31 && n[2] >= 1 && n[2] <= 12 && n[3] >= 1980 && n[3] < 2100 {
			return fmt.Sprintf("%04d-%02d-%02d %02d:%02d", n[3], n[2], n[1], n[0]/60, n[0]%60), true
		}
	}
	return "", false
}

// sameWords reports whether both sides of the ranges hold the same words in another order.
func (f *finder) sameWords(p pair, spans []span) bool {
	first, last := spans[0], spans[len(spans)-1]
	if last.aEnd-first.a > maxJSON || last.bEnd-first.b > maxJSON {
		return false
	}
	// Extend the ranges to the zero bytes around them, which no word contains.
	const more = 64
	a, b := readAt(p.first, first.a-more, last.aEnd-first.a+2*more), readAt(p.second, first.b-more, last.bEnd-first.b+2*more)
	x, y := wordsOf(a), wordsOf(b)
	return len(x) > 3 && slices.Equal(x, y)
}

// wordsOf returns the words of binary data, sorted.
func wordsOf(b []byte) []string {
	words := strings.FieldsFunc(string(b), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-'
	})
	words = slices.DeleteFunc(words, func(w string) bool { return len(w) < 3 })
	slices.Sort(words)
	return words
}
