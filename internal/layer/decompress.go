package layer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxZstdWindow is what `zstd -19 --long` needs. The decoder allocates the window at once, so a frame
// that asks for more is refused.
const maxZstdWindow = 128 << 20

// Decompress returns what r holds, which may be gzip, zstd or not compressed, and a function that frees
// the decompressor. It goes by the first bytes, because media types are often wrong, and runs no other
// program.
func Decompress(r io.Reader) (_ io.Reader, release func(), _ error) {
	br := bufio.NewReaderSize(r, 256<<10)
	magic, err := br.Peek(8)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b, 8}):
		zr, err := gzip.NewReader(br)
		if err != nil {
			return nil, nil, fmt.Errorf("gzip: %w", err)
		}
		return zr, func() { zr.Close() }, nil
	case isZstd(magic):
		zr, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, nil, fmt.Errorf("zstd: %w", err)
		}
		return zr, zr.Close, nil
	default:
		return br, func() {}, nil
	}
}

// isZstd recognises a frame, and a skippable frame, with which estargz and zstd:chunked layers may start
// (https://datatracker.ietf.org/doc/html/rfc8878#section-3.1).
func isZstd(magic []byte) bool {
	return bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(magic) >= 8 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:4], []byte{0x2a, 0x4d, 0x18})
}
