package cause

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"slices"
	"strings"
)

const (
	sqliteMagic = "SQLite format 3\x00"
	maxPages    = 1 << 18  // of a database whose rows are compared
	maxPayload  = 16 << 20 // of one row
	maxTables   = 1000
	maxRows     = 200_000 // of a table whose differing rows are looked for
)

var errSQLite = errors.New("it is not a well-formed SQLite database")

// sqlite compares two databases row by row, so that pages in another order are told from other
// content. The format is https://www.sqlite.org/fileformat2.html.
func (f *finder) sqlite(p pair, spans []span) bool {
	if string(readAt(p.first, 0, 16)) != sqliteMagic || string(readAt(p.second, 0, 16)) != sqliteMagic {
		return false
	}
	c := Cause{Kind: SQLite, Where: p.where, Offset: spans[0].a, Format: "SQLite"}
	c.First, c.Second = sqliteHeader(p.first), sqliteHeader(p.second)
	if c.First == c.Second {
		c.First, c.Second = "", ""
	}
	x, err1 := openSQLite(p.first)
	y, err2 := openSQLite(p.second)
	if err1 != nil || err2 != nil {
		c.Why = "An SQLite database differs, and its rows could not be read to compare them."
		f.add(c)
		return true
	}
	var differing []string
	for _, name := range slices.Sorted(maps.Keys(x.tables)) {
		if y.tables[name] == 0 {
			differing = append(differing, name)
			continue
		}
		a, err1 := f.rows(x, name)
		b, err2 := f.rows(y, name)
		if f.stopped() {
			return true
		}
		if err1 != nil || err2 != nil {
			c.Why = "An SQLite database differs, and its rows could not be read to compare them."
			f.add(c)
			return true
		}
		if a != b {
			differing = append(differing, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(y.tables)) {
		if x.tables[name] == 0 {
			differing = append(differing, name)
		}
	}
	if len(differing) == 0 {
		c.Why = "The tables and rows are the same; the pages that hold them are laid out otherwise, or the counters in the header differ."
		f.add(c)
		return true
	}
	for _, name := range differing {
		if x.tables[name] != 0 && y.tables[name] != 0 {
			f.row(p, x, y, name)
		}
	}
	c.Count = len(differing)
	c.Format = "SQLite rows"
	c.Why = "The rows of the table " + printable([]byte(differing[0])) + " differ."
	f.add(c)
	return true
}

func sqliteHeader(r *io.SectionReader) string {
	h := readAt(r, 0, 100)
	if len(h) < 100 {
		return ""
	}
	n := func(at int) uint32 { return binary.BigEndian.Uint32(h[at:]) }
	return fmt.Sprintf("change %d, %d pages, %d free, valid for %d", n(24), n(28), n(36), n(92))
}

// database is an open SQLite database.
type sqliteDB struct {
	r      *io.SectionReader
	page   int64
	usable int64
	pages  int64
	tables map[string]int64 // root pages
}

func openSQLite(r *io.SectionReader) (*sqliteDB, error) {
	h := readAt(r, 0, 100)
	if len(h) < 100 {
		return nil, errSQLite
	}
	db := &sqliteDB{r: r, page: int64(binary.BigEndian.Uint16(h[16:])), tables: map[string]int64{"sqlite_schema": 1}}
	if db.page == 1 {
		db.page = 65536
	}
	if db.page < 512 || db.page&(db.page-1) != 0 {
		return nil, errSQLite
	}
	db.usable = db.page - int64(h[20])
	db.pages = r.Size() / db.page
	if db.usable < 480 || db.pages > maxPages {
		return nil, errSQLite
	}
	err := db.walk(1, func(_ int64, payload []byte) error {
		columns, ok := record(payload)
		if !ok || len(columns) < 5 {
			return errSQLite
		}
		root := int64(0)
		for _, b := range columns[3] {
			root = root<<8 | int64(b)
		}
		if string(columns[0]) != "table" || len(columns[3]) > 6 || root == 0 {
			return nil
		}
		if len(db.tables) > maxTables {
			return errSQLite
		}
		db.tables[string(columns[1])] = root
		return nil
	})
	return db, err
}

// sqliteRows is what rows says of a table.
type sqliteRows struct {
	sum   uint64
	count int
}

// rows hashes the rows of a table. Those of sqlite_schema name pages, which do not count.
func (f *finder) rows(db *sqliteDB, table string) (rows sqliteRows, err error) {
	err = db.walk(db.tables[table], func(id int64, payload []byte) error {
		if f.stopped() {
			return errSQLite
		}
		rows.count++
		rows.sum += rowHash(table, id, payload)
		return nil
	})
	return rows, err
}

func rowHash(table string, id int64, payload []byte) uint64 {
	if table == "sqlite_schema" {
		if columns, ok := record(payload); ok && len(columns) >= 5 {
			payload = columns[4]
		}
		id = 0
	}
	return mix("row", uint64(id), maphash.Bytes(seed, payload))
}

// row explains the first rows that differ.
func (f *finder) row(p pair, x, y *sqliteDB, table string) {
	const maxPairs, maxRow = 8, 64 << 10
	sums := map[int64]uint64{}
	err := x.walk(x.tables[table], func(id int64, payload []byte) error {
		if len(sums) == maxRows {
			return errSQLite
		}
		sums[id] = rowHash(table, id, payload)
		return nil
	})
	if err != nil {
		return
	}
	other := map[int64][]byte{}
	_ = y.walk(y.tables[table], func(id int64, payload []byte) error { // as many as there are before an error
		if sum, ok := sums[id]; ok && sum != rowHash(table, id, payload) && len(payload) <= maxRow && len(other) < maxPairs {
			other[id] = slices.Clone(payload)
		}
		return nil
	})
	_ = x.walk(x.tables[table], func(id int64, payload []byte) error { // as above
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
				continue // that rows differ is said in any case
			}
			c.Where, c.Offset = join(p.where, strings.ReplaceAll(table, "/", "_")), -1
			f.add(c)
		}
		return nil
	})
}

// walk calls each for every row of the b-tree at a root page, with the rowid, or 0 in a table
// without rowids. The payload is valid during the call.
func (db *sqliteDB) walk(root int64, each func(id int64, payload []byte) error) error {
	todo := []int64{root}
	total := int64(0) // of the payloads, which the file has to hold
	for seen := int64(0); len(todo) > 0; seen++ {
		if seen > db.pages {
			return errSQLite // a page is in the tree twice
		}
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if n < 1 || n > db.pages {
			return errSQLite
		}
		page := readAt(db.r, (n-1)*db.page, db.page)
		if int64(len(page)) != db.page {
			return errSQLite
		}
		at := 0
		if n == 1 {
			at = 100
		}
		kind, cells := page[at], int(binary.BigEndian.Uint16(page[at+3:]))
		head := 8
		interior := kind == 2 || kind == 5
		if interior {
			head = 12
			todo = append(todo, int64(binary.BigEndian.Uint32(page[at+8:])))
		} else if kind != 10 && kind != 13 {
			return errSQLite
		}
		if at+head+2*cells > len(page) || interior && int64(len(todo)+cells) > db.pages+1 {
			return errSQLite
		}
		for i := range cells {
			cell := int(binary.BigEndian.Uint16(page[at+head+2*i:]))
			if cell > len(page)-4 {
				return errSQLite
			}
			b := page[cell:]
			if interior {
				todo = append(todo, int64(binary.BigEndian.Uint32(b)))
				b = b[4:]
			}
			if kind == 5 {
				continue
			}
			size, k := varint(b)
			b = b[k:]
			id := int64(0)
			if kind == 13 {
				id, k = varint(b)
				b = b[k:]
			}
			if total += max(size, 0); total > db.r.Size() {
				return errSQLite
			}
			payload, err := db.payload(b, size, kind == 13)
			if err != nil {
				return err
			}
			if err := each(id, payload); err != nil {
				return err
			}
		}
	}
	return nil
}

// payload puts together what a cell holds and its overflow pages.
func (db *sqliteDB) payload(b []byte, size int64, leaf bool) ([]byte, error) {
	if size < 0 || size > maxPayload {
		return nil, errSQLite
	}
	most := (db.usable-12)*64/255 - 23
	least := (db.usable-12)*32/255 - 23
	if leaf {
		most = db.usable - 35
	}
	local := size
	if size > most {
		if local = least + (size-least)%(db.usable-4); local > most {
			local = least
		}
	}
	if local > int64(len(b)) {
		return nil, errSQLite
	}
	if local == size {
		return b[:size], nil
	}
	if local+4 > int64(len(b)) || size > db.r.Size() {
		return nil, errSQLite
	}
	payload := append(make([]byte, 0, size), b[:local]...)
	for next := int64(binary.BigEndian.Uint32(b[local:])); int64(len(payload)) < size; {
		if next < 1 || next > db.pages {
			return nil, errSQLite
		}
		page := readAt(db.r, (next-1)*db.page, db.usable)
		if int64(len(page)) != db.usable {
			return nil, errSQLite
		}
		payload = append(payload, page[4:min(db.usable, 4+size-int64(len(payload)))]...)
		next = int64(binary.BigEndian.Uint32(page))
	}
	return payload, nil
}

// varint reads a big-endian number of up to nine bytes, and its length; 0, 0 of nothing.
func varint(b []byte) (n int64, length int) {
	for i, c := range b {
		if i == 8 {
			return n<<8 | int64(c), 9
		}
		n = n<<7 | int64(c&0x7f)
		if c < 0x80 {
			return n, i + 1
		}
	}
	return 0, len(b)
}

// record splits a row into the bytes of its columns.
func record(b []byte) ([][]byte, bool) {
	size, k := varint(b)
	if size < int64(k) || size > int64(len(b)) || k == 0 {
		return nil, false
	}
	head, body := b[k:size], b[size:]
	var columns [][]byte
	for len(head) > 0 {
		serial, k := varint(head)
		if k == 0 || serial < 0 {
			return nil, false
		}
		head = head[k:]
		n := int64(0)
		switch {
		case serial <= 4:
			n = serial
		case serial == 5:
			n = 6
		case serial == 6 || serial == 7:
			n = 8
		case serial >= 12:
			n = (serial - 12) / 2
		}
		if n > int64(len(body)) {
			return nil, false
		}
		columns = append(columns, body[:n])
		body = body[n:]
	}
	return columns, true
}
