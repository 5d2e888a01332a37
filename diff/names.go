package diff

import (
	"fmt"
	"hash/maphash"
	"path"
	"strings"
	"sync"

	"github.com/kedge-build/kedge/internal/layer"
)

// A name stands for a clean path, without a leading slash, in a table of names. The root is 0.
type name uint32

// maxPaths bounds the paths of a comparison and the folders above them. A layer's own limits do not: one
// entry may lie two thousand folders deep.
const maxPaths = 32 << 20

// names numbers the paths of a comparison. It keeps each part of a path once. Its methods may be called by
// several goroutines.
type names struct {
	mu    sync.Mutex
	parts slab[namePart]
	text  [][]byte // of all parts, in chunks that do not move
	table []name   // a hash table with open addressing; 0 is an empty slot
	seed  maphash.Seed
	limit int // of the paths
}

type namePart struct {
	parent    name
	chunk     uint32
	pos, size uint16
}

const textChunk = 1 << 16

func newNames() *names {
	t := &names{table: make([]name, 1<<10), seed: maphash.MakeSeed(), limit: maxPaths}
	t.parts.add(namePart{})
	return t
}

// A namer numbers the paths of one reader. It remembers the last folder, because most entries of a layer lie
// in the folder of the one before.
type namer struct {
	names  *names
	dir    string
	folder name
}

// number returns the name of a path, which need not be clean.
func (n *namer) number(p string) (name, error) {
	n.names.mu.Lock()
	defer n.names.mu.Unlock()
	dir, base := path.Split(layer.Clean(p))
	if dir != n.dir {
		folder := name(0)
		for part := range strings.SplitSeq(strings.TrimSuffix(dir, "/"), "/") {
			var err error
			if folder, err = n.names.child(folder, part); err != nil {
				return 0, err
			}
		}
		n.dir, n.folder = strings.Clone(dir), folder
	}
	return n.names.child(n.folder, base)
}

// child returns the name of an entry of a folder, or the folder's if base is empty.
func (t *names) child(folder name, base string) (name, error) {
	if base == "" {
		return folder, nil
	}
	at := t.slot(folder, base)
	if *at != 0 {
		return *at, nil
	}
	if t.parts.size > t.limit {
		return 0, fmt.Errorf("the layers have more than %d paths and folders", t.limit)
	}
	last := len(t.text) - 1
	if last < 0 || len(t.text[last])+len(base) > textChunk {
		t.text = append(t.text, make([]byte, 0, textChunk))
		last++
	}
	*at = name(t.parts.size)
	t.parts.add(namePart{folder, uint32(last), uint16(len(t.text[last])), uint16(len(base))})
	t.text[last] = append(t.text[last], base...)
	added := *at
	if t.parts.size > len(t.table)/4*3 {
		t.grow()
	}
	return added, nil
}

// slot returns the place in the table of an entry of a folder.
func (t *names) slot(folder name, base string) *name {
	for i := t.hash(folder, base); ; i++ {
		at := &t.table[i%uint64(len(t.table))]
		if *at == 0 {
			return at
		}
		if p := t.parts.at(int(*at)); p.parent == folder && string(t.base(p)) == base {
			return at
		}
	}
}

func (t *names) grow() {
	t.table = make([]name, 2*len(t.table))
	for i := 1; i < t.parts.size; i++ {
		p := t.parts.at(i)
		*t.slot(p.parent, string(t.base(p))) = name(i)
	}
}

func (t *names) hash(folder name, base string) uint64 {
	return maphash.String(t.seed, base) ^ uint64(folder)*0x9e3779b97f4a7c15
}

func (t *names) base(p *namePart) []byte { return t.text[p.chunk][p.pos:][:p.size] }

// find returns the name of a path, which need not be clean. ok is false if the table does not have it.
func (t *names) find(p string) (n name, ok bool) {
	for part := range strings.SplitSeq(layer.Clean(p), "/") {
		if part == "" {
			return 0, true
		}
		if n = *t.slot(n, part); n == 0 {
			return 0, false
		}
	}
	return n, true
}

// parent returns the folder of a name, for the root the root.
func (t *names) parent(n name) name { return t.parts.at(int(n)).parent }

// absolute returns the path of a name with a leading slash.
func (t *names) absolute(n name) string {
	if n == 0 {
		return "/"
	}
	size := 0
	for i := n; i != 0; i = t.parent(i) {
		size += 1 + int(t.parts.at(int(i)).size)
	}
	b := make([]byte, size)
	for i := n; i != 0; i = t.parent(i) {
		p := t.parts.at(int(i))
		size -= copy(b[size-int(p.size):], t.base(p)) + 1
		b[size] = '/'
	}
	return string(b)
}

// A slab is a list whose elements do not move.
type slab[T any] struct {
	chunks []*[slabChunk]T
	size   int
}

const slabChunk = 1 << 10

func (s *slab[T]) at(i int) *T { return &s.chunks[i/slabChunk][i%slabChunk] }

func (s *slab[T]) add(v T) {
	if s.size == len(s.chunks)*slabChunk {
		s.chunks = append(s.chunks, new([slabChunk]T))
	}
	s.size++
	*s.at(s.size - 1) = v
}
