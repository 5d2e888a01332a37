// Package gitindex writes the index of a git work tree without what it remembers of the files' stat data.
//
// The format is that of https://git-scm.com/docs/index-format.
package gitindex

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // git's
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// Of an index, in bytes.
const (
	headerSize = 12
	statSize   = 40 // of an entry, what comes before the hash
	modeAt     = 24 // within that: type and permissions, which are content

	maxPath  = 16 << 20
	maxPlain = 256 << 20 // of what Plain writes: version 4 may say a long path in a few bytes
)

// The flags of an entry, and those that follow them if extended is set.
const (
	extended = 1 << 14
	lengths  = 1<<12 - 1

	intentToAdd, skipWorktree = 1 << 13, 1 << 14
)

// index is an index that is understood as a whole.
type index struct {
	version    uint32
	entries    []entry
	extensions [][]byte
	sum        hash.Hash
	hashed     bool // index.skipHash leaves the hash zero
	end        []byte
	content    []byte
}

// entry is an entry of an index. Its slices are parts of the index.
type entry struct {
	fixed []byte // stat data, hash and flags
	kept  int    // bytes that its path shares with that of the entry before; 0 but in version 4
	rest  []byte // of the path
	whole []byte // the entry as it is
}

// Neutral returns an index whose entries are as git read-tree writes them, without stat data: git looks at the
// content of the files. Extensions that depend on the file system are left out. It reports whether content is an
// index that is understood as a whole, and leaves content as it is.
func Neutral(content []byte) (neutral []byte, ok bool) {
	x, ok := parse(content)
	if !ok {
		return nil, false
	}
	neutral = append(neutral, x.content[:headerSize]...)
	for _, e := range x.entries {
		neutral = append(neutral, e.whole...)
	}
	for _, e := range x.extensions {
		neutral = append(neutral, e...)
	}
	if !x.hashed {
		return append(neutral, x.end...), true
	}
	x.sum.Reset()
	x.sum.Write(neutral)
	return x.sum.Sum(neutral), true
}

// IDs returns the ids of the files that an index lists: the hash of each in the repository.
func IDs(content []byte) [][]byte {
	x, ok := parse(content)
	if !ok {
		return nil
	}
	var ids [][]byte
	for _, e := range x.entries {
		ids = append(ids, e.fixed[statSize:statSize+x.sum.Size()])
	}
	return ids
}

// Plain returns the one form of an index: its entries without stat data, in version 2, or 3 if one has a mark
// that needs it, with no extension and with a hash. Two indexes have the same form if they list the same files. It
// reports whether there is one: content must be understood as a whole, and hold no folder of a sparse index.
func Plain(content []byte) (plain []byte, ok bool) {
	x, ok := parse(content)
	if !ok {
		return nil, false
	}
	version := uint32(2)
	var path []byte
	plain = append(plain, x.content[:headerSize]...)
	for _, e := range x.entries {
		if binary.BigEndian.Uint32(e.fixed[modeAt:])>>12 == 0o04 {
			return nil, false
		}
		flags := statSize + x.sum.Size()
		if binary.BigEndian.Uint16(e.fixed[flags:])&extended != 0 {
			version = 3
		}
		path = append(path[:e.kept], e.rest...)
		size := (len(e.fixed) + len(path) + 8) &^ 7
		if len(plain)+size > maxPlain {
			return nil, false
		}
		plain = append(append(plain, e.fixed...), path...)
		plain = append(plain, make([]byte, size-len(e.fixed)-len(path))...)
	}
	binary.BigEndian.PutUint32(plain[4:], version)
	x.sum.Reset()
	x.sum.Write(plain)
	return x.sum.Sum(plain), true
}

// parse tries both hashes that a repository may have: an index does not say which.
func parse(content []byte) (*index, bool) {
	if !bytes.HasPrefix(content, []byte("DIRC")) {
		return nil, false
	}
	bySHA1, ok1 := parseBy(content, sha1.New()) //nolint:gosec // git's
	bySHA256, ok2 := parseBy(content, sha256.New())
	switch {
	case ok1 == ok2:
		return nil, false
	case ok1:
		return bySHA1, true
	}
	return bySHA256, true
}

func parseBy(content []byte, sum hash.Hash) (*index, bool) {
	end := len(content) - sum.Size()
	if end < headerSize {
		return nil, false
	}
	sum.Write(content[:end])
	x := &index{sum: sum, end: content[end:], hashed: bytes.Equal(content[end:], sum.Sum(nil))}
	if !x.hashed && len(bytes.Trim(content[end:], "\x00")) > 0 {
		return nil, false
	}
	x.content = bytes.Clone(content[:end])
	at, ok := x.readEntries()
	if !ok {
		return nil, false
	}
	for rest := x.content[at:]; len(rest) > 0; {
		if len(rest) < 8 {
			return nil, false
		}
		size := int64(binary.BigEndian.Uint32(rest[4:]))
		if size > int64(len(rest)-8) {
			return nil, false
		}
		switch string(rest[:4]) {
		case "TREE", "REUC", "sdir":
			x.extensions = append(x.extensions, rest[:8+size])
		case "UNTR", "FSMN", "EOIE", "IEOT":
			// Optional: stat data of folders, what a monitor saw, and for how many CPUs the entries are split.
		default:
			return nil, false // such as the link to an index that this one adds to
		}
		rest = rest[8+size:]
	}
	return x, true
}

// readEntries reads the entries, clears their stat data, and returns where they end.
func (x *index) readEntries() (end int, ok bool) {
	be := binary.BigEndian
	x.version = be.Uint32(x.content[4:])
	if x.version < 2 || x.version > 4 {
		return 0, false
	}
	at, path := headerSize, 0 // the length of the path before
	for range be.Uint32(x.content[8:]) {
		e := x.content[at:]
		n := statSize + x.sum.Size() + 2
		if len(e) < n {
			return 0, false
		}
		switch mode := be.Uint32(e[modeAt:]); mode >> 12 {
		case 0o04, 0o10, 0o12, 0o16: // folder of a sparse index, file, symbolic link, submodule
		default:
			return 0, false
		}
		flags := be.Uint16(e[n-2:])
		if flags&extended != 0 {
			if x.version == 2 || len(e) < n+2 || be.Uint16(e[n:])&^(intentToAdd|skipWorktree) != 0 {
				return 0, false
			}
			n += 2
		}
		fixed, kept := n, 0
		if x.version == 4 {
			strip, size := varint(e[n:])
			if size == 0 || strip > path {
				return 0, false
			}
			n, kept = n+size, path-strip
		}
		rest := bytes.IndexByte(e[n:], 0)
		if rest < 0 || kept+rest == 0 || min(kept+rest, lengths) != int(flags&lengths) {
			return 0, false
		}
		path = kept + rest
		size := n + rest + 1
		if x.version < 4 {
			size = (n + rest + 8) &^ 7
			if size > len(e) || len(bytes.Trim(e[n+rest:size], "\x00")) > 0 {
				return 0, false
			}
		}
		clear(e[:modeAt])
		clear(e[modeAt+4 : statSize])
		x.entries = append(x.entries, entry{fixed: e[:fixed], kept: kept, rest: e[n : n+rest], whole: e[:size]})
		at += size
	}
	return at, true
}

// varint reads a number as git's decode_varint does. size is 0 if there is none that a path could have.
func varint(b []byte) (n, size int) {
	for i, c := range b {
		if i > 0 {
			n++
		}
		n = n<<7 | int(c&0x7f)
		if n > maxPath {
			return 0, 0
		}
		if c&0x80 == 0 {
			return n, i + 1
		}
	}
	return 0, 0
}
