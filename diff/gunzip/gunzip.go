// Package gunzip reads gzip (RFC 1952): what a comparison of images spends most of its time on. A
// layer of build-essential, 300 MB, took half the time that github.com/klauspost/compress needs.
package gunzip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ErrFormat is what is no gzip, or is damaged.
var ErrFormat = errors.New("malformed gzip")

const (
	window  = 32 << 10  // how far back DEFLATE refers
	outSize = 160 << 10 // the window and what has been decoded after it
	outRoom = 258 + 32  // the longest match, and what a copy in words writes beyond it
	inSize  = 128 << 10
	// inRoom is how much of the input, or of zeros after its end, is at hand when a block begins. The
	// longest head of a block has less than 600 bytes.
	inRoom = 1024

	maxName = 510 // bytes of a file's name or comment, as others take them
)

// Reader is an io.Reader of what a gzip stream holds, of all its members. It reads ahead in its
// source. It needs a constant 300 KiB.
type Reader struct {
	src io.Reader
	err error // what follows when out has been read

	in       []byte // inSize + inRoom
	pos, end int
	eof      bool
	buf      uint64 // bits taken from in
	bits     uint   // how many of them count

	out    []byte
	lo     int // where the member's own output begins in out
	r, w   int // what of out is to be read
	member bool
	crc    uint32
	size   uint32

	block  blockKind
	final  bool
	stored int // bytes of a stored block to come

	lit  [litEnough]uint32
	dist [distEnough]uint32
}

type blockKind byte

const (
	noBlock blockKind = iota
	storedBlock
	codedBlock
)

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader {
	return &Reader{src: r, in: make([]byte, inSize+inRoom), out: make([]byte, outSize)}
}

// Read implements io.Reader.
func (z *Reader) Read(p []byte) (int, error) {
	for z.r == z.w {
		if z.err != nil {
			return 0, z.err
		}
		z.more()
	}
	n := copy(p, z.out[z.r:z.w])
	z.r += n
	return n, nil
}

// WriteTo implements io.WriterTo.
func (z *Reader) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if z.r < z.w {
			n, err := w.Write(z.out[z.r:z.w])
			z.r += n
			if total += int64(n); err != nil {
				return total, err
			}
		}
		if z.r == z.w && z.err != nil {
			if errors.Is(z.err, io.EOF) {
				return total, nil
			}
			return total, z.err
		}
		if z.r == z.w {
			z.more()
		}
	}
}

// more decodes until there is something to read, or an error.
func (z *Reader) more() {
	if z.w > window {
		n := copy(z.out, z.out[z.w-window:z.w])
		z.lo = max(0, z.lo-(z.w-n))
		z.w = n
	}
	z.r = z.w
	for z.err == nil && z.w < outSize-outRoom {
		before := z.w
		z.err = z.step()
		z.crc = crc32.Update(z.crc, crc32.IEEETable, z.out[before:z.w])
		z.size += uint32(z.w - before)
		if z.err == nil && z.block == noBlock && z.final {
			z.err = z.trailer()
		}
	}
}

// step goes on with the block, or begins the next one or the next member.
func (z *Reader) step() error {
	if err := z.fill(); err != nil {
		return err
	}
	var err error
	switch {
	case !z.member:
		err = z.header()
	case z.block == storedBlock:
		err = z.copyStored()
	case z.block == codedBlock:
		err = z.decode()
	default:
		err = z.begin()
	}
	if err == nil && z.pos-int(z.bits/8) > z.end {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// fill makes sure that there are inRoom bytes at pos: of the source, or after its end zeros.
func (z *Reader) fill() error {
	if z.eof || z.end-z.pos >= inRoom {
		return nil
	}
	if z.pos > z.end {
		return io.ErrUnexpectedEOF
	}
	// The bytes that are still in buf stay, so that they can be given back.
	keep := max(0, z.pos-8)
	z.end = copy(z.in, z.in[keep:z.end])
	z.pos -= keep
	for empty := 0; z.end < inSize; {
		n, err := z.src.Read(z.in[z.end:inSize])
		z.end += n
		if errors.Is(err, io.EOF) {
			z.eof = true
			clear(z.in[z.end:])
			return nil
		}
		if err != nil {
			return err
		}
		if n > 0 {
			empty = 0
		} else if empty++; empty == 100 {
			return io.ErrNoProgress
		}
		if z.end-z.pos >= inRoom {
			return nil
		}
	}
	return nil
}

// giveBack returns to whole bytes: those in buf are the next ones of in again.
func (z *Reader) giveBack() {
	z.pos -= int(z.bits / 8)
	z.buf, z.bits = 0, 0
}

// header reads the header of a member, whose first two bytes may be missing after the last one.
func (z *Reader) header() error {
	sum := uint32(0)
	next := func() (byte, error) {
		if z.end-z.pos == 0 {
			if err := z.fill(); err != nil {
				return 0, err
			}
		}
		if z.pos >= z.end {
			return 0, io.ErrUnexpectedEOF
		}
		b := z.in[z.pos]
		z.pos++
		sum = crc32.Update(sum, crc32.IEEETable, []byte{b})
		return b, nil
	}
	skip := func(n int) error {
		for range n {
			if _, err := next(); err != nil {
				return err
			}
		}
		return nil
	}
	var h [10]byte
	for i := range h {
		b, err := next()
		if err != nil {
			return err
		}
		h[i] = b
	}
	const hcrc, extra, name, comment = 2, 4, 8, 16
	flags := h[3]
	if h[0] != 0x1f || h[1] != 0x8b || h[2] != 8 || flags&0xe0 != 0 {
		return fmt.Errorf("%w: no header", ErrFormat)
	}
	if flags&extra != 0 {
		a, err := next()
		if err != nil {
			return err
		}
		b, err := next()
		if err != nil {
			return err
		}
		if err := skip(int(a) | int(b)<<8); err != nil {
			return err
		}
	}
	for _, flag := range []byte{name, comment} {
		for n := 0; flags&flag != 0; n++ {
			b, err := next()
			if err != nil {
				return err
			}
			if b == 0 {
				break
			}
			if n == maxName {
				return fmt.Errorf("%w: a name without end", ErrFormat)
			}
		}
	}
	if flags&hcrc != 0 {
		want := uint16(sum)
		a, err := next()
		if err != nil {
			return err
		}
		b, err := next()
		if err != nil {
			return err
		}
		if uint16(a)|uint16(b)<<8 != want {
			return fmt.Errorf("%w: the header's checksum is another", ErrFormat)
		}
	}
	z.member, z.final, z.block = true, false, noBlock
	z.crc, z.size, z.lo = 0, 0, z.w
	return nil
}

// trailer checks what a member says of itself, and finds out whether another follows.
func (z *Reader) trailer() error {
	z.giveBack()
	if err := z.fill(); err != nil {
		return err
	}
	if z.end-z.pos < 8 {
		return io.ErrUnexpectedEOF
	}
	crc, size := binary.LittleEndian.Uint32(z.in[z.pos:]), binary.LittleEndian.Uint32(z.in[z.pos+4:])
	z.pos += 8
	if crc != z.crc || size != z.size {
		return fmt.Errorf("%w: the checksum or the size is another", ErrFormat)
	}
	if err := z.fill(); err != nil {
		return err
	}
	z.member, z.final = false, false
	if z.pos == z.end {
		return io.EOF
	}
	return nil
}

// errShort is a source that ends too early.
func errShort(z *Reader) error {
	if z.eof {
		return io.ErrUnexpectedEOF
	}
	return nil
}
