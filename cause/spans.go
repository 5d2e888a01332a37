package cause

import (
	"bytes"
	"encoding/binary"
	"io"
)

// A span is a differing range: [a, aEnd) of the first version and [b, bEnd) of the second. One of them may be
// empty.
type span struct{ a, aEnd, b, bEnd int64 }

const (
	chunk   = 256 << 10
	near    = 64       // bytes in which a replacement of equal length is searched for first
	far     = 16 << 10 // bytes in which an insertion or a deletion is searched for
	anchor  = 16       // equal bytes that end a difference
	minSame = 8        // equal bytes that end a difference near its start
)

// spans returns the first ranges in which two contents differ; none if they are equal. A range ends where the
// contents agree again, even if one side has more bytes than the other.
func (f *finder) spans(first, second *io.SectionReader) []span {
	var spans []span
	n, m := first.Size(), second.Size()
	x, y := make([]byte, chunk), make([]byte, chunk)
	for i, j := int64(0), int64(0); len(spans) < maxSpans && !f.stopped(); {
		same := f.same(first, second, i, j, x, y)
		i, j = i+same, j+same
		if i >= n || j >= m {
			if i < n || j < m {
				spans = append(spans, span{i, n, j, m})
			}
			break
		}
		di, dj, ok := resync(readInto(first, i, x[:far]), readInto(second, j, y[:far]))
		if !ok {
			if skip, found := f.alike(first, second, i, j, x, y); found {
				di, dj = skip, skip
			} else {
				tail := f.tail(first, second, i, j, x, y)
				di, dj = n-tail-i, m-tail-j
			}
		}
		spans = append(spans, span{i, i + di, j, j + dj})
		i, j = i+di, j+dj
	}
	return spans
}

// same returns the number of bytes that agree from i and j on.
func (f *finder) same(first, second *io.SectionReader, i, j int64, x, y []byte) (n int64) {
	for !f.stopped() {
		a, b := readInto(first, i+n, x), readInto(second, j+n, y)
		k := common(a, b)
		n += int64(k)
		if k < len(x) || k == 0 {
			return n
		}
	}
	return n
}

// common returns the length of the common prefix.
func common(a, b []byte) int {
	l := min(len(a), len(b))
	if bytes.Equal(a[:l], b[:l]) {
		return l
	}
	i := 0
	for ; i+8 <= l; i += 8 {
		if binary.LittleEndian.Uint64(a[i:]) != binary.LittleEndian.Uint64(b[i:]) {
			break
		}
	}
	for ; i < l && a[i] == b[i]; i++ {
	}
	return i
}

// resync returns how many bytes differ on each side of two windows that begin with a difference.
func resync(a, b []byte) (di, dj int64, ok bool) {
	for k := 1; k < near && k+minSame <= min(len(a), len(b)); k++ {
		if bytes.Equal(a[k:k+minSame], b[k:k+minSame]) {
			return int64(k), int64(k), true
		}
	}
	// Find the nearest place at which both sides have the same bytes.
	at := make(map[[anchor]byte]int, len(b))
	for j := 0; j+anchor <= len(b); j++ {
		k := [anchor]byte(b[j:])
		if _, ok := at[k]; !ok {
			at[k] = j
		}
	}
	best := -1
	for i := 0; i+anchor <= len(a) && (best < 0 || i < best); i++ {
		k := [anchor]byte(a[i:])
		j := -1
		if i+anchor <= len(b) && k == [anchor]byte(b[i:]) {
			j = i
		} else if found, ok := at[k]; ok && !plain(a[i:i+anchor]) {
			j = found
		}
		if j >= 0 && (best < 0 || i+j < best) {
			best, di, dj, ok = i+j, int64(i), int64(j), true
		}
	}
	return di, dj, ok
}

// plain reports whether all bytes are the same: padding cannot be an anchor.
func plain(b []byte) bool {
	return len(b) == 0 || bytes.Count(b, b[:1]) == len(b)
}

// alike returns the end of a long replacement of equal length.
func (f *finder) alike(first, second *io.SectionReader, i, j int64, x, y []byte) (int64, bool) {
	const step = chunk - anchor
	for n := int64(0); !f.stopped(); n += step {
		a, b := readInto(first, i+n, x), readInto(second, j+n, y)
		run := 0
		for k := range min(len(a), len(b)) {
			if a[k] != b[k] {
				run = 0
			} else if run++; run == anchor {
				return n + int64(k) + 1 - anchor, true
			}
		}
		if len(a) < chunk || len(b) < chunk {
			return 0, false
		}
	}
	return 0, false
}

// tail returns the length of the common suffix of the rest.
func (f *finder) tail(first, second *io.SectionReader, i, j int64, x, y []byte) (n int64) {
	for !f.stopped() {
		l := min(first.Size()-i-n, second.Size()-j-n, chunk)
		if l <= 0 {
			return n
		}
		a := readInto(first, first.Size()-n-l, x[:l])
		b := readInto(second, second.Size()-n-l, y[:l])
		if len(a) != len(b) {
			return n
		}
		k := 0
		for k < len(a) && a[len(a)-1-k] == b[len(b)-1-k] {
			k++
		}
		n += int64(k)
		if int64(k) < l {
			return n
		}
	}
	return n
}

// readInto reads at most len(b) bytes at off.
func readInto(r io.ReaderAt, off int64, b []byte) []byte {
	n, err := r.ReadAt(b, off)
	if err != nil && n < 0 {
		return nil
	}
	return b[:n]
}

// readAt returns at most n bytes at off. If off is negative, it returns those of them from 0 on.
func readAt(r *io.SectionReader, off, n int64) []byte {
	if off < 0 {
		n, off = n+off, 0
	}
	n = min(n, r.Size()-off)
	if n <= 0 {
		return nil
	}
	return readInto(r, off, make([]byte, n))
}

// whole returns a content of at most maxWhole bytes.
func whole(r *io.SectionReader) ([]byte, bool) {
	if r.Size() > maxWhole {
		return nil, false
	}
	b := readAt(r, 0, r.Size())
	return b, int64(len(b)) == r.Size()
}

func sectionOf(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}
