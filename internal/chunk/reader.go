package chunk

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/flate"
)

// ErrNone says that a stream does not consist of chunks, or not up to its end.
var ErrNone = errors.New("not in chunks")

// A Scanner reads the compressed chunks of a stream in order. It does not verify their flags.
type Scanner struct {
	r      *bufio.Reader
	data   []byte
	offset int64
	flags  Flags
	err    error
}

// NewScanner returns a Scanner of r.
func NewScanner(r io.Reader) *Scanner {
	return &Scanner{r: bufio.NewReaderSize(r, 256<<10)}
}

// Scan advances to the next chunk. It returns false at the end of the stream and after an error.
func (s *Scanner) Scan() bool {
	if s.err != nil {
		return false
	}
	s.offset += int64(len(s.data))
	if s.offset == 0 {
		if s.err = s.expect(header); s.err != nil {
			return false
		}
		s.offset = int64(len(header))
	}
	head, err := s.r.Peek(markSize)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
		return false
	}
	length, flags, ok := parseMark(head)
	if !ok {
		s.data = nil
		if len(head) != trailerSize || !bytes.HasPrefix(head, lastBlock) {
			s.err = ErrNone
		}
		return false
	}
	length += markSize
	if cap(s.data) < length {
		s.data = make([]byte, length, markSize+maxLength)
	}
	s.data, s.flags = s.data[:length], flags
	if _, err := io.ReadFull(s.r, s.data); errors.Is(err, io.ErrUnexpectedEOF) {
		s.err = ErrNone
	} else if err != nil {
		s.err = err
	}
	return s.err == nil
}

// expect reads bytes that must come next.
func (s *Scanner) expect(want []byte) error {
	got, err := s.r.Peek(len(want))
	if !bytes.Equal(got, want) {
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		return ErrNone
	}
	_, err = s.r.Discard(len(want))
	return err
}

// Bytes returns the compressed chunk with its mark. The next call of Scan overwrites it.
func (s *Scanner) Bytes() []byte { return s.data }

// Offset returns the offset of Bytes in the stream.
func (s *Scanner) Offset() int64 { return s.offset }

// Flags returns the flags of the chunk.
func (s *Scanner) Flags() Flags { return s.flags }

// Err returns why Scan stopped before the end of the stream: ErrNone, or an error of the stream's reader.
func (s *Scanner) Err() error { return s.err }

// NewReader returns a reader of the content of the chunks in r, which has the form of Scanner.Bytes. It fails with
// ErrNone if r does not end with a whole chunk.
func NewReader(r io.Reader) io.Reader {
	br := bufio.NewReaderSize(io.MultiReader(r, bytes.NewReader(lastBlock)), 64<<10)
	return &reader{content: flate.NewReader(br), chunks: br}
}

type reader struct {
	content io.Reader
	chunks  *bufio.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.content.Read(p)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return n, ErrNone
	case errors.Is(err, io.EOF):
		if _, more := r.chunks.Peek(1); !errors.Is(more, io.EOF) {
			return n, ErrNone
		}
	}
	return n, err
}
