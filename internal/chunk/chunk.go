// Package chunk writes gzip in chunks, which can be compressed side by side, compared as they are, and
// decompressed each on its own.
//
// To every reader of gzip it is one member without anything in its header (RFC 1952). A chunk is a run of deflate
// blocks that ends with a byte and refers to nothing before it (RFC 1951). In front of it stand six stored blocks
// without content. Each has five bits of padding, which readers skip (RFC 1951, section 3.2.4), 30 in all. The
// lowest first, they are:
//
//	20 bits  the length of the chunk behind these blocks, in bytes
//	 4 bits  Flags
//	 6 bits  101101
//
// Behind the last chunk are a last stored block without content and the end of the member.
package chunk

import "bytes"

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

// maxLength bounds the length of a chunk, in bytes: what cannot be compressed becomes a little longer.
const maxLength = Size + Size/8

// header is that of the member: no time, no name, and a system that is not known.
var header = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// trailerSize is that of what follows the last chunk: a block, a CRC-32 and a length.
const trailerSize = blockSize + 8

// A stored block without content: three bits, which are zero unless it is the last, padding, and the length, 0, twice.
const blockSize = 5

var (
	emptyEnd  = []byte{0, 0, 0xff, 0xff}
	lastBlock = append([]byte{1}, emptyEnd...)
)

const (
	markBlocks = 6
	markSize   = markBlocks * blockSize
	magic      = 0b101101
)

// mark returns what stands in front of a chunk.
func mark(length int, f Flags) []byte {
	bits := uint32(length) | uint32(f)<<20 | magic<<24
	var b []byte
	for i := range markBlocks {
		b = append(append(b, byte(bits>>(5*i)&31)<<3), emptyEnd...)
	}
	return b
}

// parseMark returns the length and the flags of the chunk behind b, if b begins with a mark.
func parseMark(b []byte) (length int, f Flags, ok bool) {
	if len(b) < markSize {
		return 0, 0, false
	}
	var bits uint32
	for i := range markBlocks {
		block := b[i*blockSize:][:blockSize]
		if block[0]&7 != 0 || !bytes.Equal(block[1:], emptyEnd) {
			return 0, 0, false
		}
		bits |= uint32(block[0]>>3) << (5 * i)
	}
	length, f = int(bits&(1<<20-1)), Flags(bits>>20&15)
	return length, f, bits>>24 == magic && length > 0 && length <= maxLength
}
