package pyc

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// The magic numbers of Python 3.8 to 3.10. Later versions write sets in one order by themselves; earlier ones have
// other code objects.
const (
	python38   = 3413
	sortedSets = 3450
)

// Bounds for what Canonical reads. CPython's own limit of nesting is 2000.
const (
	maxDepth   = 200
	maxObjects = 1 << 20
)

// Canonical returns content with its code in one form: the elements of a frozenset are sorted, and an object is
// marked as referred to if it is. CPython 3.8 to 3.10 write them in an order that depends on the seed of hashes,
// and the marks depend on who else holds an object. The code means the same. It returns content itself if another
// version wrote it, or if it is not understood as a whole.
func Canonical(content []byte) []byte {
	h, ok := Parse(content)
	if !ok || !HasCanonical(h) {
		return content
	}
	r := &reader{rest: content[h.Length:], interned: map[string]*object{}}
	root := r.object(0)
	if root == nil || len(r.rest) > 0 {
		return content
	}
	w := &writer{seen: map[*object]int{}}
	w.sort(root)
	w.count(root)
	w.out = bytes.Clone(content[:h.Length])
	w.object(root)
	return w.out
}

// HasCanonical reports whether the code behind a header has one form that Canonical knows.
func HasCanonical(h Header) bool { return h.Code && h.Magic >= python38 && h.Magic < sortedSets }

// An object is a node of marshalled data (Python/marshal.c).
type object struct {
	kind  byte
	data  []byte // what follows the kind, before the parts
	parts []*object
	tail  []byte // what follows the fixed parts of a code object
	done  bool   // it is complete: a reference to it may follow
	set   string // its parts, written without references; for the order of a set
}

// A reader reads marshalled data. It returns nil for what it does not understand.
type reader struct {
	rest     []byte
	refs     []*object
	interned map[string]*object
	objects  int
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.rest) {
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// sized takes a length of some bytes, and as many units as it says.
func (r *reader) sized(width, unit int) (data []byte, n int) {
	if width > len(r.rest) {
		return nil, 0
	}
	if width == 1 {
		n = int(r.rest[0])
	} else {
		n = int(int32(binary.LittleEndian.Uint32(r.rest)))
	}
	return r.take(width + max(n, -n)*unit), n
}

func (r *reader) object(depth int) *object {
	if r.objects++; depth > maxDepth || r.objects > maxObjects || len(r.rest) == 0 {
		return nil
	}
	first := r.take(1)[0]
	kind, ref := first&^flagRef, first&flagRef != 0
	if kind == 'r' {
		b := r.take(4)
		if b == nil || ref {
			return nil
		}
		if i := binary.LittleEndian.Uint32(b); uint64(i) < uint64(len(r.refs)) && r.refs[i].done {
			return r.refs[i]
		}
		return nil
	}
	o := &object{kind: kind}
	at := len(r.refs)
	if ref {
		r.refs = append(r.refs, o)
	}
	parts, ok := r.head(o)
	if !ok {
		return nil
	}
	for range parts {
		p := r.object(depth + 1)
		if p == nil {
			return nil
		}
		o.parts = append(o.parts, p)
	}
	if kind == codeType && !r.code(o, depth) {
		return nil
	}
	o.done = true
	if strings.IndexByte("ZAt", kind) >= 0 { // Python has one object for each such string
		key := string(kind) + string(o.data)
		if other := r.interned[key]; other != nil {
			o = other
		}
		r.interned[key] = o
		if ref {
			r.refs[at] = o
		}
	}
	return o
}

// head reads what precedes the parts of an object, and returns how many there are.
func (r *reader) head(o *object) (parts int, ok bool) {
	n := 0
	switch o.kind {
	case 'N', 'F', 'T', 'S', '.':
		return 0, true
	case 'i':
		o.data = r.take(4)
	case 'g':
		o.data = r.take(8)
	case 'y':
		o.data = r.take(16)
	case 'l':
		o.data, _ = r.sized(4, 2)
	case 's', 'u', 'a', 'A', 't':
		if o.data, n = r.sized(4, 1); n < 0 {
			return 0, false
		}
	case 'z', 'Z':
		o.data, _ = r.sized(1, 1)
	case ')':
		o.data, parts = r.sized(1, 0)
	case '(', '>':
		o.data, parts = r.sized(4, 0)
	case codeType:
		o.data = r.take(6 * 4) // the numbers of arguments, of locals and of the stack, and flags
		return 0, o.data != nil
	}
	return parts, o.data != nil && parts >= 0 && parts <= len(r.rest)
}

// code reads the parts of a code object: eight, the first line, and the table of lines.
func (r *reader) code(o *object, depth int) bool {
	for i := range 9 {
		if i == 8 {
			if o.tail = r.take(4); o.tail == nil {
				return false
			}
		}
		p := r.object(depth + 1)
		if p == nil {
			return false
		}
		o.parts = append(o.parts, p)
	}
	return true
}

// A writer writes objects.
type writer struct {
	out  []byte
	seen map[*object]int // how often an object occurs
	refs map[*object]uint32
	size int // of all that sort wrote
}

// sort sorts the elements of sets.
func (w *writer) sort(o *object) {
	if _, ok := w.seen[o]; ok {
		return
	}
	w.seen[o] = 0
	for _, p := range o.parts {
		w.sort(p)
	}
	if o.kind != '>' {
		return
	}
	for _, p := range o.parts {
		if p.set == "" {
			p.set = w.key(p)
		}
	}
	slices.SortStableFunc(o.parts, func(a, b *object) int { return strings.Compare(a.set, b.set) })
}

// key returns an object as bytes without references, or their beginning.
func (w *writer) key(o *object) string {
	var b []byte
	var add func(*object)
	add = func(o *object) {
		if w.size++; w.size > maxObjects {
			return
		}
		b = append(append(b, o.kind), o.data...)
		for _, p := range o.parts {
			add(p)
		}
		b = append(b, o.tail...)
	}
	add(o)
	return string(b)
}

func (w *writer) count(o *object) {
	if w.seen[o]++; w.seen[o] > 1 {
		return
	}
	for _, p := range o.parts {
		w.count(p)
	}
}

func (w *writer) object(o *object) {
	if i, ok := w.refs[o]; ok {
		w.out = binary.LittleEndian.AppendUint32(append(w.out, 'r'), i)
		return
	}
	kind := o.kind
	if w.seen[o] > 1 && strings.IndexByte("NFTS.", kind) < 0 {
		if w.refs == nil {
			w.refs = map[*object]uint32{}
		}
		w.refs[o] = uint32(len(w.refs))
		kind |= flagRef
	}
	w.out = append(append(w.out, kind), o.data...)
	for i, p := range o.parts {
		if o.kind == codeType && i == 8 {
			w.out = append(w.out, o.tail...)
		}
		w.object(p)
	}
}
