package gunzip

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// The decoder is built as libdeflate's is (https://github.com/ebiggers/libdeflate): 64 bits are taken
// from the input at once, one look at a table yields a symbol with its length and how many bits
// follow it, and matches are copied in words.
//
// An entry of a table has the bits to take in its lowest byte, and otherwise
//
//	literal   litFlag, the byte from bit 16
//	length    the base from bit 16, the length of the code alone from bit 8; so for a distance
//	further   otherFlag and moreFlag, where the second table begins from bit 16, its bits from bit 8
//	end       otherFlag and endFlag
//	none      otherFlag alone
const (
	litFlag   = 1 << 31
	otherFlag = 1 << 15
	moreFlag  = 1 << 14
	endFlag   = 1 << 13

	litBits  = 11
	distBits = 8
	maxBits  = 15 // of a code
	maxLit   = 288
	maxDist  = 32
	// The most entries that a table of so many symbols and bits can need, second tables included, as
	// zlib's examples/enough.c finds, rounded up to a power of two.
	litEnough  = 4096
	distEnough = 1024
)

var (
	litEntry  [maxLit]uint32
	distEntry [maxDist]uint32
)

func init() {
	for i := range 256 {
		litEntry[i] = litFlag | uint32(i)<<16
	}
	litEntry[256] = otherFlag | endFlag
	base := uint32(3)
	for i := range uint32(29) {
		extra := uint32(0)
		if i >= 8 && i < 28 {
			extra = i/4 - 1
		}
		if i == 28 {
			base = 258
		}
		litEntry[257+i] = base<<16 | extra
		base += 1 << extra
	}
	litEntry[286], litEntry[287] = otherFlag, otherFlag
	base = 1
	for i := range uint32(30) {
		extra := uint32(0)
		if i >= 4 {
			extra = i/2 - 1
		}
		distEntry[i] = base<<16 | extra
		base += 1 << extra
	}
	distEntry[30], distEntry[31] = otherFlag, otherFlag
}

// take returns the next n bits, at most 16, of which there are enough: see fill.
func (z *Reader) take(n uint) uint32 {
	z.refill()
	v := uint32(z.buf) & (1<<n - 1)
	z.buf >>= n
	z.bits -= n
	return v
}

// refill leaves at least 56 bits in buf.
func (z *Reader) refill() {
	if z.pos+8 <= len(z.in) {
		z.buf |= binary.LittleEndian.Uint64(z.in[z.pos:]) << (z.bits & 63)
	}
	z.pos += int((63 - z.bits) >> 3)
	z.bits |= 56
}

// begin reads the head of a block.
func (z *Reader) begin() error {
	z.final = z.take(1) == 1
	switch z.take(2) {
	case 0:
		return z.beginStored()
	case 1:
		return z.fixed()
	case 2:
		return z.dynamic()
	}
	return fmt.Errorf("%w: a block of an unknown type", ErrFormat)
}

func (z *Reader) beginStored() error {
	z.bits -= z.bits % 8 // the rest of a byte has no meaning
	z.giveBack()
	if z.pos+4 > z.end {
		return errShort(z)
	}
	n, not := binary.LittleEndian.Uint16(z.in[z.pos:]), binary.LittleEndian.Uint16(z.in[z.pos+2:])
	if n != ^not {
		return fmt.Errorf("%w: a stored block's length", ErrFormat)
	}
	z.pos += 4
	if z.stored = int(n); n > 0 {
		z.block = storedBlock
	}
	return nil
}

func (z *Reader) copyStored() error {
	n := copy(z.out[z.w:outSize-outRoom], z.in[z.pos:min(z.end, z.pos+z.stored)])
	if n == 0 && z.pos >= z.end {
		return errShort(z)
	}
	z.pos += n
	z.w += n
	if z.stored -= n; z.stored == 0 {
		z.block = noBlock
	}
	return nil
}

func (z *Reader) fixed() error {
	var lengths [maxLit]uint8
	for i := range lengths {
		switch {
		case i < 144, i >= 280:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		default:
			lengths[i] = 7
		}
	}
	// The codes for 256 to 279 have 7 bits, those from 280 on 8.
	if !build(z.lit[:], lengths[:], litEntry[:], litBits) {
		return fmt.Errorf("%w: the fixed codes", ErrFormat)
	}
	for i := range maxDist {
		lengths[i] = 5
	}
	if !build(z.dist[:], lengths[:maxDist], distEntry[:], distBits) {
		return fmt.Errorf("%w: the fixed codes", ErrFormat)
	}
	z.block = codedBlock
	return nil
}

// order is that of the lengths of the codes for lengths.
var order = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

func (z *Reader) dynamic() error {
	const codeBits = 7
	nlit, ndist, ncode := int(z.take(5))+257, int(z.take(5))+1, int(z.take(4))+4
	if nlit > 286 || ndist > 30 {
		return fmt.Errorf("%w: too many codes", ErrFormat)
	}
	var (
		codes   [19]uint8
		entries [19]uint32
		table   [1 << codeBits]uint32
		lengths [maxLit + maxDist]uint8
	)
	for _, i := range order[:ncode] {
		codes[i] = uint8(z.take(3))
	}
	for i := range entries {
		entries[i] = uint32(i) << 16
	}
	if !build(table[:], codes[:], entries[:], codeBits) {
		return fmt.Errorf("%w: the codes of codes", ErrFormat)
	}
	for i := 0; i < nlit+ndist; {
		z.refill()
		e := table[z.buf&(1<<codeBits-1)]
		if e&otherFlag != 0 {
			return fmt.Errorf("%w: a code for a length", ErrFormat)
		}
		z.take(uint(e & 0xff))
		repeat, value := 0, uint8(0)
		switch symbol := e >> 16; symbol {
		case 16:
			if i == 0 {
				return fmt.Errorf("%w: nothing to repeat", ErrFormat)
			}
			repeat, value = 3+int(z.take(2)), lengths[i-1]
		case 17:
			repeat = 3 + int(z.take(3))
		case 18:
			repeat = 11 + int(z.take(7))
		default:
			lengths[i] = uint8(symbol)
			i++
			continue
		}
		if i+repeat > nlit+ndist {
			return fmt.Errorf("%w: too many lengths", ErrFormat)
		}
		for range repeat {
			lengths[i] = value
			i++
		}
	}
	if lengths[256] == 0 {
		return fmt.Errorf("%w: a block without an end", ErrFormat)
	}
	if !build(z.lit[:], lengths[:nlit], litEntry[:], litBits) || !build(z.dist[:], lengths[nlit:nlit+ndist], distEntry[:], distBits) {
		return fmt.Errorf("%w: codes", ErrFormat)
	}
	z.block = codedBlock
	return nil
}

// build makes the table of a code that is given by the lengths of its symbols' codes. It returns
// false for lengths that are those of no code, but one symbol alone may have a code of one bit, and
// there may be none.
func build(table []uint32, lengths []uint8, entries []uint32, tableBits uint) bool {
	var count, next [maxBits + 2]int
	for _, n := range lengths {
		count[n]++
	}
	left, used := 1, 0
	for n := 1; n <= maxBits; n++ {
		if left = left<<1 - count[n]; left < 0 {
			return false
		}
		next[n+1] = next[n] + count[n]
		used += count[n]
	}
	if left > 0 && (used > 1 || used == 1 && count[1] != 1) {
		return false
	}
	for i := range 1 << tableBits {
		table[i] = otherFlag // what no code begins with
	}
	// Symbols in the order of their codes.
	var sorted [maxLit]uint16
	for symbol, n := range lengths {
		if n > 0 {
			sorted[next[n]] = uint16(symbol)
			next[n]++
		}
	}
	code, last := uint(0), uint(0)
	free := 1 << tableBits // where the next second table begins
	prefix, sub, start := -1, uint(0), 0
	for _, symbol := range sorted[:used] {
		n := uint(lengths[symbol])
		code <<= n - last
		last = n
		reversed := int(bits.Reverse16(uint16(code)) >> (16 - n))
		code++
		e := entries[symbol]
		if n <= tableBits {
			count[n]--
			e = entry(e, n)
			for i := reversed; i < 1<<tableBits; i += 1 << n {
				table[i] = e
			}
			continue
		}
		if p := reversed & (1<<tableBits - 1); p != prefix {
			// A second table is as large as the codes that begin so need.
			prefix, sub, start = p, n-tableBits, free
			for room := 1 << sub; sub+tableBits < maxBits; sub++ {
				if room -= count[sub+tableBits]; room <= 0 {
					break
				}
				room <<= 1
			}
			if free += 1 << sub; free > len(table) {
				return false
			}
			for i := start; i < free; i++ {
				table[i] = otherFlag
			}
			table[p] = otherFlag | moreFlag | uint32(start)<<16 | uint32(sub)<<8 | uint32(tableBits)
		}
		count[n]--
		e = entry(e, n-tableBits)
		for i := reversed >> tableBits; i < 1<<sub; i += 1 << (n - tableBits) {
			table[start+i] = e
		}
	}
	return true
}

// entry completes an entry, which has the number of extra bits in its lowest byte, for a code of n
// bits.
func entry(e uint32, n uint) uint32 {
	if e&(litFlag|otherFlag) != 0 {
		return e + uint32(n)
	}
	return e + uint32(n)<<8 + uint32(n)
}

// decode decodes symbols until the block ends, the output is full or the input has to be filled.
func (z *Reader) decode() error {
	in, out := z.in, z.out
	pos, w, buf, nbits := z.pos, z.w, z.buf, z.bits
	lit, dist := &z.lit, &z.dist
	// An iteration takes at most two words.
	lastIn := z.end - 32
	if z.eof {
		lastIn = z.end + 8 // zeros follow; step finds that too much was taken
	}
	lastIn = min(lastIn, len(in)-16)
	var err error
	for pos <= lastIn && w < outSize-outRoom {
		buf |= binary.LittleEndian.Uint64(in[pos:]) << (nbits & 63)
		pos += int((63 - nbits) >> 3)
		nbits |= 56

		e := lit[buf&(1<<litBits-1)]
		if e&litFlag != 0 {
			buf >>= e & 63
			nbits -= uint(e & 0xff)
			out[w] = byte(e >> 16)
			w++
			if e = lit[buf&(1<<litBits-1)]; e&litFlag != 0 {
				buf >>= e & 63
				nbits -= uint(e & 0xff)
				out[w] = byte(e >> 16)
				w++
				if e = lit[buf&(1<<litBits-1)]; e&litFlag != 0 {
					buf >>= e & 63
					nbits -= uint(e & 0xff)
					out[w] = byte(e >> 16)
					w++
					continue
				}
			}
		}
		// At least 34 bits are left, and a length takes no more than 20.
		saved := buf
		buf >>= e & 63
		nbits -= uint(e & 0xff)
		if e&otherFlag != 0 {
			if e&moreFlag != 0 {
				e = lit[(e>>16+uint32(buf)&(1<<(e>>8&15)-1))&(litEnough-1)]
				saved = buf
				buf >>= e & 63
				nbits -= uint(e & 0xff)
				if e&litFlag != 0 {
					out[w] = byte(e >> 16)
					w++
					continue
				}
			}
			if e&otherFlag != 0 {
				if e&endFlag == 0 {
					err = fmt.Errorf("%w: no such code", ErrFormat)
				}
				z.block = noBlock
				break
			}
		}
		length := int(e>>16) + int((saved&(1<<(e&63)-1))>>(e>>8&15))

		buf |= binary.LittleEndian.Uint64(in[pos:]) << (nbits & 63)
		pos += int((63 - nbits) >> 3)
		nbits |= 56
		e = dist[buf&(1<<distBits-1)]
		if e&otherFlag != 0 {
			if e&moreFlag == 0 {
				err = fmt.Errorf("%w: no such code of a distance", ErrFormat)
				break
			}
			buf >>= distBits
			nbits -= distBits
			if e = dist[(e>>16+uint32(buf)&(1<<(e>>8&15)-1))&(distEnough-1)]; e&otherFlag != 0 {
				err = fmt.Errorf("%w: no such code of a distance", ErrFormat)
				break
			}
		}
		saved = buf
		buf >>= e & 63
		nbits -= uint(e & 0xff)
		back := int(e>>16&0x7fff) + int((saved&(1<<(e&63)-1))>>(e>>8&15))
		from := w - back
		if from < z.lo {
			err = fmt.Errorf("%w: a distance beyond the beginning", ErrFormat)
			break
		}
		to := w + length
		switch {
		case back >= 8:
			for w < to {
				binary.LittleEndian.PutUint64(out[w:], binary.LittleEndian.Uint64(out[from:]))
				w += 8
				from += 8
			}
		case back == 1:
			v := uint64(out[from]) * 0x0101010101010101
			for w < to {
				binary.LittleEndian.PutUint64(out[w:], v)
				w += 8
			}
		default:
			for ; w < to; w++ {
				out[w] = out[from]
				from++
			}
		}
		w = to
	}
	if err == nil && pos > lastIn && z.eof && z.block == codedBlock {
		err = errShort(z)
	}
	z.pos, z.w, z.buf, z.bits = pos, w, buf, nbits
	return err
}
