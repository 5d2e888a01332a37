package cause

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"time"
)

const pycHeader = 16

// pyc reads compiled Python from 3.7 on (PEP 552): a magic number that ends with CR LF, flags, then
// time and size of the source, or its hash; then the marshalled code.
func (f *finder) pyc(p pair, spans []span) bool {
	a, ok1 := pycOf(readAt(p.first, 0, pycHeader+1))
	b, ok2 := pycOf(readAt(p.second, 0, pycHeader+1))
	if !ok1 || !ok2 {
		return false
	}
	c := Cause{Kind: Pyc, Where: p.where, Offset: spans[0].a}
	if !bytes.Equal(a[:4], b[:4]) {
		c.Why = "Another version of Python compiled it."
		c.Fix = "Name the version of Python, or the digest of its image."
		c.First, c.Second = printable(a[:4]), printable(b[:4])
		f.add(c)
		return true
	}
	var code []span
	for _, s := range spans {
		if s.aEnd > pycHeader || s.bEnd > pycHeader {
			code = append(code, s)
		}
	}
	if !bytes.Equal(a[4:16], b[4:16]) {
		h := c
		h.Offset = int64(common(a[:16], b[:16]))
		x, y := binary.LittleEndian.Uint32(a[4:]), binary.LittleEndian.Uint32(b[4:])
		switch {
		case x != y:
			h.Why = "One was compiled to be checked by time, the other by hash."
		case x == 0:
			m, n := int64(binary.LittleEndian.Uint32(a[8:])), int64(binary.LittleEndian.Uint32(b[8:]))
			s, t := time.Unix(m, 0), time.Unix(n, 0)
			h.Format, h.First, h.Second = "u32 seconds LE", stampOf(s), stampOf(t)
			h.Clock = f.clock(s, t, 2*time.Second, p.times)
			h.Why = "The time of the Python source is in the header"
			switch {
			case m == n:
				h.Why, h.Format, h.First, h.Second = "The size of the Python source is another one.", "", "", ""
			case len(code) == 0:
				h.Why += "; the code is the same."
			default:
				h.Why += "."
			}
		default:
			h.Why = "The Python source is another one: its hash is in the header."
		}
		f.add(h)
	}
	if len(code) == 0 {
		return true
	}
	x, ok1 := whole(p.first)
	y, ok2 := whole(p.second)
	if ok1 && ok2 && len(x) == len(y) {
		x, y = x[pycHeader:], y[pycHeader:]
		c.Offset = code[0].a
		switch {
		case onlyRefs(x, y):
			c.Why = "The code is the same; only the marks of shared objects differ, which depend on what the compiling process had in memory."
			c.Fix = "Compile all of it in a process of its own, as the last step: python -m compileall -f."
			f.add(c)
			return true
		case slices.Equal(stringsIn(x), stringsIn(y)):
			c.Kind, c.Why = HashOrder, "The strings in the code are the same in another order, as those of a frozenset are."
			c.Fix = "Set PYTHONHASHSEED=0 for the step that compiles."
			f.add(c)
			return true
		}
	}
	f.explain(p, code)
	return true
}

func pycOf(b []byte) ([]byte, bool) {
	if len(b) <= pycHeader || b[2] != '\r' || b[3] != '\n' {
		return nil, false
	}
	// 3.7 is 3394; the magic has gone up by less than a hundred a version. Behind the header is a code object.
	magic, flags := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint32(b[4:])
	return b, magic >= 3390 && magic < 5000 && flags <= 3 && b[16]&^0x80 == 'c'
}

// onlyRefs reports whether two marshalled codes differ in nothing but FLAG_REF, the high bit of a type.
func onlyRefs(a, b []byte) bool {
	for i := range a {
		if a[i] != b[i] && a[i]^b[i] != 0x80 {
			return false
		}
	}
	return true
}

// stringsIn returns the runs of at least four printable bytes, sorted.
func stringsIn(b []byte) []string {
	list := strings.FieldsFunc(string(b), func(r rune) bool { return r < ' ' || r > '~' })
	list = slices.DeleteFunc(list, func(s string) bool { return len(s) < 4 })
	slices.Sort(list)
	return list
}
