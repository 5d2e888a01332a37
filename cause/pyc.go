package cause

import (
	"slices"
	"strings"
	"time"

	"github.com/kedge-build/kedge/internal/format/pyc"
)

// pyc explains compiled Python: a header with the time and size of the source, or its hash, and the code.
func (f *finder) pyc(p pair, spans []span) bool {
	const maxHeader = 16
	first, second := readAt(p.first, 0, maxHeader+1), readAt(p.second, 0, maxHeader+1)
	a, ok1 := pyc.Parse(first)
	b, ok2 := pyc.Parse(second)
	if !ok1 || !ok2 || !a.Code || !b.Code {
		return false
	}
	c := Cause{Kind: Pyc, Where: p.where, Offset: spans[0].a}
	if a.Magic != b.Magic {
		c.Why = "Two versions of Python compiled the file."
		c.Fix = "Pin the version of Python, or the digest of its image."
		c.First, c.Second = printable(first[:4]), printable(second[:4])
		f.add(c)
		return true
	}
	length := int64(a.Length)
	code := slices.DeleteFunc(slices.Clone(spans), func(s span) bool { return s.aEnd <= length && s.bEnd <= length })
	if a != b {
		f.add(f.pycHeader(p, a, b, int64(common(first, second)), len(code) == 0))
	}
	if len(code) == 0 {
		return true
	}
	x, ok1 := whole(p.first)
	y, ok2 := whole(p.second)
	if ok1 && ok2 && len(x) == len(y) {
		x, y = x[length:], y[length:]
		c.Offset = code[0].a
		switch {
		case pyc.OnlyRefs(x, y):
			c.Why = "The code is the same; only the marks of shared objects differ, which depend on what the compiling process had in memory."
			c.Fix = "Compile all files in one process as the last step: python -m compileall -f."
			f.add(c)
			return true
		case slices.Equal(stringsIn(x), stringsIn(y)):
			c.Kind, c.Why = HashOrder, "The strings in the code are the same in another order, which is that of a frozenset."
			c.Fix = "Set PYTHONHASHSEED=0 for the step that compiles."
			f.add(c)
			return true
		}
	}
	f.explain(p, code)
	return true
}

// pycHeader explains a difference between two headers of one version of Python.
func (f *finder) pycHeader(p pair, a, b pyc.Header, offset int64, sameCode bool) Cause {
	c := Cause{Kind: Pyc, Where: p.where, Offset: offset}
	switch {
	case a.Flags != b.Flags:
		c.Why = "One file is checked against its source by time, the other by hash."
	case a.Flags != 0:
		c.Why = "The Python source differs: its hash is in the header."
	case a.Time == b.Time:
		c.Why = "The size of the Python source differs."
	default:
		s, t := time.Unix(int64(a.Time), 0), time.Unix(int64(b.Time), 0)
		c.Format, c.First, c.Second = "u32 seconds LE", stampOf(s), stampOf(t)
		c.Clock = f.clock(s, t, 2*time.Second, p.times)
		c.Why = "The time of the Python source is in the header."
		if sameCode {
			c.Why = "The time of the Python source is in the header; the code is the same."
		}
	}
	return c
}

// stringsIn returns the runs of at least four printable bytes, sorted.
func stringsIn(b []byte) []string {
	list := strings.FieldsFunc(string(b), func(r rune) bool { return r < ' ' || r > '~' })
	list = slices.DeleteFunc(list, func(s string) bool { return len(s) < 4 })
	slices.Sort(list)
	return list
}
