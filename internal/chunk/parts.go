package chunk

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
)

// Sum is the SHA-256 of something.
type Sum = [sha256.Size]byte

// A Part says where in a stream a chunk is. The chunk is without its mark.
type Part struct {
	Content, Chunk Sum   // of the content and of the chunk itself
	Offset         int64 // of the chunk, in bytes
	Length         int   // of the chunk, in bytes
}

// A Source returns where the chunk with a content is that a Writer of the same level wrote. A chunk that does not
// have its sum any more is not used. Several goroutines call it at the same time.
type Source func(content Sum) (stream io.ReaderAt, p Part, ok bool)

// partSize is the size of an encoded Part: the sums, the offset and the length, in big endian.
const partSize = 2*sha256.Size + 8 + 4

// EncodeParts returns parts in the form that DecodeParts reads.
func EncodeParts(parts []Part) []byte {
	b := make([]byte, 0, len(parts)*partSize)
	for _, p := range parts {
		b = append(append(b, p.Content[:]...), p.Chunk[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(p.Offset))
		b = binary.BigEndian.AppendUint32(b, uint32(p.Length))
	}
	return b
}

// DecodeParts returns what EncodeParts encoded. It ignores an incomplete part at the end.
func DecodeParts(b []byte) []Part {
	parts := make([]Part, 0, len(b)/partSize)
	for ; len(b) >= partSize; b = b[partSize:] {
		const offset = 2 * sha256.Size
		parts = append(parts, Part{
			Sum(b), Sum(b[sha256.Size:]), int64(binary.BigEndian.Uint64(b[offset:])), int(binary.BigEndian.Uint32(b[offset+8:])),
		})
	}
	return parts
}
