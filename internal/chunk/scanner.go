package chunk

import (
	"bufio"
	"errors"
	"io"
)

// ErrNone says that a stream is not, or not to its end, made of chunks.
var ErrNone = errors.New("not in chunks")

// A Scanner reads the chunks of a stream one after the other, as they are. What it says of them is
// the word of whoever wrote them.
type Scanner struct {
	r     *bufio.Reader
	data  []byte
	flags Flags
	err   error
}

// NewScanner returns a Scanner of r.
func NewScanner(r io.Reader) *Scanner {
	return &Scanner{r: bufio.NewReaderSize(r, 256<<10)}
}

// Scan goes on to the next chunk. It returns false at the end, and where Err is not nil.
func (s *Scanner) Scan() bool {
	if s.err != nil {
		return false
	}
	head, err := s.r.Peek(headerSize)
	if len(head) == 0 && errors.Is(err, io.EOF) {
		return false
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
		return false
	}
	length, flags, ok := parseHeader(head)
	if !ok {
		s.err = ErrNone
		return false
	}
	if cap(s.data) < length {
		s.data = make([]byte, length, maxMember)
	}
	s.data, s.flags = s.data[:length], flags
	if _, err := io.ReadFull(s.r, s.data); errors.Is(err, io.ErrUnexpectedEOF) {
		s.err = ErrNone
	} else if err != nil {
		s.err = err
	}
	return s.err == nil
}

// Bytes returns the chunk, compressed. The next call of Scan overwrites it.
func (s *Scanner) Bytes() []byte { return s.data }

// Flags returns those of the chunk.
func (s *Scanner) Flags() Flags { return s.flags }

// Err returns why Scan ended before the end of the stream: ErrNone, or what reading failed with.
func (s *Scanner) Err() error { return s.err }
