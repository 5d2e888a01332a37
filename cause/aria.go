package cause

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	ariaLSN = 7 // bytes of the log position at the start of a page
	ariaCRC = 4 // bytes of the checksum at its end
)

// ariaData explains tables of MariaDB's Aria. Each page ends in a CRC-32 of the rest, whose seed is the number
// of the page (storage/maria/ma_pagecrc.c); the rows between are explained as any content.
func (f *finder) ariaData(p pair, spans []span) bool {
	size := ariaPage(p, spans[0].a)
	if size == 0 {
		return false
	}
	for n := int64(0); n*size < min(p.first.Size(), p.second.Size()) && f.places <= maxPlaces && !f.stopped(); n++ {
		off := n * size
		a, b := readAt(p.first, off, size), readAt(p.second, off, size)
		if bytes.Equal(a, b) {
			continue
		}
		if ariaSealed(a, n) && ariaSealed(b, n) {
			end := size - ariaCRC
			f.add(Cause{
				Kind: Database, Where: p.where, Offset: off + end, Format: "Aria page",
				First: fmt.Sprintf("checksum %08x", binary.LittleEndian.Uint32(a[end:])), Second: fmt.Sprintf("checksum %08x", binary.LittleEndian.Uint32(b[end:])),
				Why: "Each page of an Aria table holds a log position and a checksum, which follow from what was written to it.",
			})
			copy(b[end:], a[end:])
			copy(b[:ariaLSN], a)
		}
		if !bytes.Equal(a, b) {
			f.within(p, off, a, b, f.ofDatabase)
		}
	}
	if x, y := p.first.Size(), p.second.Size(); x != y {
		f.add(Cause{
			Kind: Database, Where: p.where, Offset: min(x, y), Format: "Aria page",
			Why: "The table of one build has more pages.",
		})
	}
	return true
}

// ariaPage returns the size of the pages of an Aria table, by the page at off, or 0 for any other file.
func ariaPage(p pair, off int64) int64 {
	for _, size := range []int64{8 << 10, 16 << 10, 32 << 10, 4 << 10, 2 << 10, 1 << 10} { // the first is the usual one
		n := off / size
		if p.first.Size()%size == 0 && p.second.Size()%size == 0 &&
			ariaSealed(readAt(p.first, n*size, size), n) && ariaSealed(readAt(p.second, n*size, size), n) {
			return size
		}
	}
	return 0
}

// ariaSealed reports whether b is the nth page of an Aria table.
func ariaSealed(b []byte, n int64) bool {
	const most = 0xfffffffd // higher values mark pages without a checksum
	if len(b) < 1<<10 {
		return false
	}
	end := len(b) - ariaCRC
	return binary.LittleEndian.Uint32(b[end:]) == min(crc32.Update(uint32(n), crc32.IEEETable, b[:end]), most)
}

// within explains a part of both versions, which begins at off in the first, and adds the causes after fit
// has changed them.
func (f *finder) within(p pair, off int64, a, b []byte, fit func(c *Cause)) {
	g := &finder{ctx: f.ctx, hints: f.hints, seen: map[key]int{}, places: f.places}
	in := pair{name: p.name, where: p.where, first: sectionOf(a), second: sectionOf(b), times: p.times, depth: p.depth}
	g.explain(in, g.spans(in.first, in.second))
	f.places = g.places
	for _, c := range g.causes {
		if c.Offset >= 0 {
			c.Offset += off
		}
		fit(&c)
		f.add(c)
	}
}

// ofDatabase gives a cause the fix for databases.
func (f *finder) ofDatabase(c *Cause) { c.Fix = describe(Database).Fix }
