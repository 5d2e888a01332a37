package cause

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/internal/format/sqlite"
)

// errStopped ends reading rows.
var errStopped = errors.New("stopped")

// sqlite compares two databases row by row, to distinguish another layout of pages from other content.
func (f *finder) sqlite(p pair, spans []span) bool {
	if !sqlite.Has(readAt(p.first, 0, headSize)) || !sqlite.Has(readAt(p.second, 0, headSize)) {
		return false
	}
	c := Cause{Kind: SQLite, Where: p.where, Offset: spans[0].a, Format: "SQLite"}
	c.First, c.Second = sqliteHeader(p.first), sqliteHeader(p.second)
	if c.First == c.Second {
		c.First, c.Second = "", ""
	}
	switch differing, err := f.tables(p); {
	case f.stopped():
		return true
	case err != nil:
		c.Why = "An SQLite database differs, and kedge cannot read its rows."
	case len(differing) == 0:
		c.Why = "The tables and rows are the same; the layout of the pages or the counters in the header differ."
	default:
		c.Count = len(differing)
		c.Format = "SQLite rows"
		c.Why = "The rows of the table " + printable([]byte(differing[0])) + " differ."
	}
	f.add(c)
	return true
}

// tables explains rows that differ, and returns the tables that have some.
func (f *finder) tables(p pair) ([]string, error) {
	first, err1 := sqlite.Open(p.first, p.first.Size())
	second, err2 := sqlite.Open(p.second, p.second.Size())
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	var differing, both []string
	names := append(first.Tables(), second.Tables()...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if !first.Has(name) || !second.Has(name) {
			differing = append(differing, name)
			continue
		}
		a, err1 := f.rows(first, name)
		b, err2 := f.rows(second, name)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		if a != b {
			differing, both = append(differing, name), append(both, name)
		}
	}
	for _, name := range both {
		f.row(p, first, second, name)
	}
	return differing, nil
}

func sqliteHeader(r *io.SectionReader) string {
	h := readAt(r, 0, 100)
	if len(h) < 100 {
		return ""
	}
	n := func(at int) uint32 { return binary.BigEndian.Uint32(h[at:]) }
	return fmt.Sprintf("change %d, %d pages, %d free, valid for %d", n(24), n(28), n(36), n(92))
}

// sqliteRows is a hash of the rows of a table, and their number.
type sqliteRows struct {
	sum   uint64
	count int
}

// rows hashes the rows of a table, without the page numbers in those of the schema.
func (f *finder) rows(db *sqlite.DB, table string) (rows sqliteRows, err error) {
	err = db.Rows(table, func(id int64, payload []byte) error {
		if f.stopped() {
			return errStopped
		}
		rows.count++
		rows.sum += rowHash(table, id, payload)
		return nil
	})
	return rows, err
}

func rowHash(table string, id int64, payload []byte) uint64 {
	if table == sqlite.Schema {
		if columns, ok := sqlite.Columns(payload); ok && len(columns) >= 5 {
			payload = columns[4]
		}
		id = 0
	}
	return mix("row", uint64(id), maphash.Bytes(seed, payload))
}

// row explains the first rows that differ.
func (f *finder) row(p pair, x, y *sqlite.DB, table string) {
	const maxPairs, maxRows, maxRow = 8, 200_000, 64 << 10
	sums := map[int64]uint64{}
	err := x.Rows(table, func(id int64, payload []byte) error {
		if len(sums) == maxRows {
			return errStopped
		}
		sums[id] = rowHash(table, id, payload)
		return nil
	})
	if err != nil {
		return
	}
	other := map[int64][]byte{}
	_ = y.Rows(table, func(id int64, payload []byte) error { // up to an error
		if sum, ok := sums[id]; ok && sum != rowHash(table, id, payload) && len(payload) <= maxRow && len(other) < maxPairs {
			other[id] = slices.Clone(payload)
		}
		return nil
	})
	_ = x.Rows(table, func(id int64, payload []byte) error { // up to an error
		second, ok := other[id]
		if !ok || id == 0 || len(payload) > maxRow || f.stopped() {
			return nil
		}
		delete(other, id)
		g := &finder{ctx: f.ctx, hints: f.hints, seen: map[key]int{}}
		in := pair{first: sectionOf(payload), second: sectionOf(second), times: p.times, depth: maxDepth}
		g.explain(in, g.spans(in.first, in.second))
		for _, c := range g.causes {
			if c.Kind == Unknown {
				continue // the caller adds a cause for the rows
			}
			c.Where, c.Offset = join(p.where, strings.ReplaceAll(table, "/", "_")), -1
			f.add(c)
		}
		return nil
	})
}
