// Package chunk cuts gzip into chunks, which can be compressed side by side, compared as they are, and
// decompressed each on its own.
//
// A chunk is a member of a gzip file (RFC 1952, section 2.2), so that every reader of gzip reads all of
// them as one. Its header has an extra field (section 2.3.1.1) with the subfield "KD" of 5 bytes: the
// length of the whole member in bytes, as 4 bytes in little-endian order, and a byte of Flags.
package chunk

import (
	"bytes"
	"encoding/binary"
)

// Flags say what a chunk is.
type Flags byte

// The flags of a chunk.
const (
	// Start is set on a chunk whose content begins with an entry of the archive. One without it goes on
	// with what the chunk before it ends with.
	Start Flags = 1 << iota
	// Apart is set on a chunk that means something to other chunks: two that are equal may lead to
	// contents that are not.
	Apart
)

// Size is the most that a chunk holds of the content, in bytes.
const Size = 512 << 10

// maxMember bounds the length of a member, in bytes: what cannot be compressed becomes a little longer.
const maxMember = Size + Size/8

// The header of a member: ID1, ID2, CM, FLG with FEXTRA alone, MTIME, XFL, OS, XLEN, then the subfield.
const (
	subfieldAt  = 12
	lengthAt    = subfieldAt + 4
	flagsAt     = lengthAt + 4
	headerSize  = flagsAt + 1
	extraLength = headerSize - subfieldAt
)

// extra is the extra field of a member whose length and flags are not known yet.
var extra = []byte{'K', 'D', 5, 0, 0, 0, 0, 0, 0}

// parseHeader returns the length and the flags of the member that begins with head.
func parseHeader(head []byte) (length int, flags Flags, ok bool) {
	if len(head) < headerSize || !bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8, 4}) ||
		binary.LittleEndian.Uint16(head[10:]) != uint16(extraLength) || !bytes.HasPrefix(head[subfieldAt:], extra[:4]) {
		return 0, 0, false
	}
	n := binary.LittleEndian.Uint32(head[lengthAt:])
	if n <= headerSize || n > maxMember {
		return 0, 0, false
	}
	return int(n), Flags(head[flagsAt]), true
}
