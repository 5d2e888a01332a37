package chunk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/flate"
)

// A Writer compresses content in chunks. Only the content and calls of Cut decide where a chunk ends, not
// the size of writes or the number of chunks in progress.
type Writer struct {
	filling *work
	idle    chan *work
	begun   chan *work // in progress, in the order of the content
	crc     uint32     // of the content
	size    uint32     // of the content, modulo 2^32
	source  Source

	w      io.Writer // used by drain until ended is closed, as are the following
	parts  []Part
	offset int64
	ended  chan struct{} // closed when drain ends
	failed chan struct{} // closed when err is set
	err    error
}

// work compresses one chunk at a time.
type work struct {
	deflate *flate.Writer
	content []byte
	flags   Flags
	chunk   bytes.Buffer
	part    Part
	done    chan error
}

// NewWriter returns a Writer to w that compresses with a gzip level, up to n chunks in parallel. It must be
// closed, even after an error.
func NewWriter(w io.Writer, level, n int) (*Writer, error) {
	c := &Writer{
		idle: make(chan *work, n+1), begun: make(chan *work, n+1),
		w: w, ended: make(chan struct{}), failed: make(chan struct{}),
	}
	for range n + 1 { // the additional one is being filled
		fw, err := flate.NewWriter(nil, level)
		if err != nil {
			return nil, err
		}
		c.idle <- &work{deflate: fw, content: make([]byte, 0, Size), done: make(chan error, 1)}
	}
	c.filling = <-c.idle
	c.filling.flags = Start
	go c.drain()
	return c, nil
}

// Reuse makes c take chunks from src, and list its own as Parts. It must be called before Write.
func (c *Writer) Reuse(src Source) { c.source = src }

// Parts returns the chunks that c has written. It must be called after Close.
func (c *Writer) Parts() []Part { return c.parts }

// drain writes the header and the chunks.
func (c *Writer) drain() {
	defer close(c.ended)
	write := func(b []byte, err error) {
		if err == nil && c.err == nil {
			_, err = c.w.Write(b)
			c.offset += int64(len(b))
		}
		if err != nil && c.err == nil {
			c.err = err
			close(c.failed)
		}
	}
	write(header, nil)
	for k := range c.begun {
		err := <-k.done
		if c.source != nil {
			k.part.Offset = c.offset + markSize
			c.parts = append(c.parts, k.part)
		}
		write(k.chunk.Bytes(), err)
		c.idle <- k
	}
}

// Write adds content. The error can be that of an earlier Write.
func (c *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if len(c.filling.content) == Size {
			if err := c.next(0); err != nil {
				return n, err
			}
		}
		k := min(len(p), Size-len(c.filling.content))
		c.filling.content = append(c.filling.content, p[:k]...)
		c.crc, c.size = crc32.Update(c.crc, crc32.IEEETable, p[:k]), c.size+uint32(k)
		p, n = p[k:], n+k
	}
	return n, nil
}

// Cut ends the current chunk unless it is empty. The next Write must begin with an entry of the archive.
func (c *Writer) Cut() error {
	if len(c.filling.content) == 0 {
		return nil
	}
	return c.next(Start)
}

// Pending returns the number of bytes in the current chunk, at most Size.
func (c *Writer) Pending() int { return len(c.filling.content) }

// Mark sets flags of the current chunk.
func (c *Writer) Mark(f Flags) { c.filling.flags |= f }

// next starts the compression of the current chunk, and begins a chunk with flags f.
func (c *Writer) next(f Flags) error {
	select {
	case <-c.failed:
		return c.err
	default:
	}
	k := c.filling
	go func() { k.done <- k.compress(c.source) }()
	c.begun <- k
	c.filling = <-c.idle
	c.filling.content, c.filling.flags = c.filling.content[:0], f
	return nil
}

// compress compresses the content into a chunk with its mark, unless src has that chunk.
func (k *work) compress(src Source) error {
	k.chunk.Reset()
	k.chunk.Write(make([]byte, markSize))
	if src == nil {
		return k.deflated()
	}
	k.part = Part{Content: sha256.Sum256(k.content)}
	if !k.reused(src) {
		if err := k.deflated(); err != nil {
			return err
		}
		k.part.Chunk = sha256.Sum256(k.chunk.Bytes()[markSize:])
	}
	k.part.Length = k.chunk.Len() - markSize
	return nil
}

// reused takes the chunk from src.
func (k *work) reused(src Source) bool {
	blob, part, ok := src(k.part.Content)
	if !ok || part.Length <= 0 || part.Length > maxLength {
		return false
	}
	k.chunk.Grow(part.Length)
	old := k.chunk.AvailableBuffer()[:part.Length]
	if n, _ := blob.ReadAt(old, part.Offset); n < len(old) || sha256.Sum256(old) != part.Chunk {
		return false
	}
	k.chunk.Write(old)
	k.part.Chunk = part.Chunk
	copy(k.chunk.Bytes(), mark(part.Length, k.flags))
	return true
}

// deflated compresses the content.
func (k *work) deflated() error {
	k.deflate.Reset(&k.chunk)
	if _, err := k.deflate.Write(k.content); err != nil {
		return err
	}
	// Flush ends the chunk at a byte boundary.
	if err := k.deflate.Flush(); err != nil {
		return err
	}
	length := k.chunk.Len() - markSize
	if length > maxLength {
		return fmt.Errorf("%d bytes were compressed to %d", len(k.content), length)
	}
	copy(k.chunk.Bytes(), mark(length, k.flags))
	return nil
}

// Close writes the remaining content and waits until everything is written. It does not close the
// underlying writer. It must be called exactly once.
func (c *Writer) Close() error {
	err := c.Cut()
	close(c.begun)
	<-c.ended
	if c.err != nil {
		return c.err
	}
	if err != nil {
		return err
	}
	end := binary.LittleEndian.AppendUint32(bytes.Clone(lastBlock), c.crc)
	_, err = c.w.Write(binary.LittleEndian.AppendUint32(end, c.size))
	return err
}
