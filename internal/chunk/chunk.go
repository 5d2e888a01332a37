// Package chunk writes gzip in chunks, which can be compressed in parallel, compared without decompression, and
// decompressed independently.
//
//	w, err := chunk.NewWriter(file, 6, runtime.NumCPU())
//	…
//	for s := chunk.NewScanner(file); s.Scan(); {
//		io.Copy(content, chunk.NewReader(bytes.NewReader(s.Bytes())))
//	}
//
// Every gzip reader sees one member with an empty header (RFC 1952). A chunk is a run of deflate blocks that ends at
// a byte boundary and does not refer to earlier data (RFC 1951). Six empty stored blocks precede it. Each has five bits
// of padding, which readers ignore (RFC 1951, section 3.2.4). Together these 30 bits hold, lowest first:
//
//	20 bits  the length of the chunk after these blocks, in bytes
//	 4 bits  Flags
//	 6 bits  101101
//
// After the last chunk there are a final empty stored block and the end of the member.
package chunk

import "bytes"

// Flags are properties of a chunk.
type Flags byte

// The flags of a chunk.
const (
	// Start says that the content of the chunk begins with an entry of the archive. Otherwise it continues
	// the entry at the end of the previous chunk.
	Start Flags = 1 << iota
	// Apart says that the chunk affects how other chunks are read. Archives with equal chunks of this kind
	// can differ in content.
	Apart
)

// Size is the maximal size of the content of a chunk, in bytes.
const Size = 512 << 10

// maxLength bounds the length of a chunk, in bytes. Incompressible content becomes a little longer.
const maxLength = Size + Size/8

// header is the member's header, with no time, no name and an unknown system.
var header = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// trailerSize is the size of the data after the last chunk: a block, a CRC-32 and a length.
const trailerSize = blockSize + 8

// blockSize is the size of an empty stored block: three bits, which are zero unless the block is final, padding, and twice
// the length 0.
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

// mark returns the six blocks before a chunk.
func mark(length int, f Flags) []byte {
	bits := uint32(length) | uint32(f)<<20 | magic<<24
	var b []byte
	for i := range markBlocks {
		b = append(append(b, byte(bits>>(5*i)&31)<<3), emptyEnd...)
	}
	return b
}

// parseMark returns the length and the flags in a mark, if b begins with one.
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
