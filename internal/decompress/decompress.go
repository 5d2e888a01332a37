// Package decompress opens compressed streams with the program's own decoders: it never runs another
// program, and bounds the memory of each decoder.
package decompress

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// A Format is a set of compression formats.
type Format int

// The formats that Open recognises.
const (
	Gzip Format = 1 << iota
	Zstd
	Bzip2
	XZ
)

// maxWindow bounds the window of zstd and the dictionary of xz, in bytes. It is what `zstd -19 --long`
// needs. Decoders allocate it at once, so streams that ask for more are refused.
const maxWindow = 128 << 20

// A Stream is a decompressed stream.
type Stream struct {
	io.Reader
	// Format is how the stream was compressed; zero for a stream that was not.
	Format  Format
	release func()
}

// Close frees the decoder. It does not close what was opened.
func (s *Stream) Close() {
	if s.release != nil {
		s.release()
	}
}

// Open returns the content of r, which may be compressed in one of the formats or not at all. It goes by
// the first bytes, because media types and names of files are often wrong. The caller must close the
// Stream.
func Open(r io.Reader, formats Format) (*Stream, error) {
	br := bufio.NewReaderSize(r, 256<<10)
	magic, err := br.Peek(8)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	s := &Stream{Reader: br, Format: Detect(magic) & formats}
	switch s.Format {
	case Gzip:
		zr, err := gzip.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		s.Reader = zr
	case Zstd:
		zr, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		s.Reader, s.release = zr, zr.Close
	case Bzip2:
		s.Reader = bzip2.NewReader(br)
	case XZ:
		if s.Reader, err = xz.NewReader(br, maxWindow); err != nil {
			return nil, fmt.Errorf("xz: %w", err)
		}
	}
	return s, nil
}

// Detect returns the format of a stream that starts with magic, zero for none. A zstd stream may start
// with a skippable frame (https://datatracker.ietf.org/doc/html/rfc8878#section-3.1.2).
func Detect(magic []byte) Format {
	has := func(prefix string) bool { return bytes.HasPrefix(magic, []byte(prefix)) }
	switch {
	case has("\x1f\x8b\x08"):
		return Gzip
	case has("\x28\xb5\x2f\xfd"), len(magic) >= 8 && magic[0]&0xf0 == 0x50 && string(magic[1:4]) == "\x2a\x4d\x18":
		return Zstd
	case has("BZh"):
		return Bzip2
	case has("\xfd7zXZ\x00"):
		return XZ
	}
	return 0
}
