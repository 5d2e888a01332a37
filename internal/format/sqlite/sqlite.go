// Package sqlite reads the rows of SQLite databases. It knows no SQL, and no write-ahead log: rows that
// only the log holds are not in the tables yet.
//
// The format is https://www.sqlite.org/fileformat2.html.
package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

const (
	magic      = "SQLite format 3\x00"
	headerSize = 100
	maxDepth   = 20       // of a tree; SQLite's own limit
	maxColumns = 32767    // of a row; SQLite's own limit
	maxRow     = 32 << 20 // bytes of a row
	maxTables  = 10_000
)

// The types of pages.
const (
	indexInterior = 2
	tableInterior = 5
	indexLeaf     = 10
	tableLeaf     = 13
)

// Schema is the table that names all others.
const Schema = "sqlite_schema"

// errMalformed is wrapped by the errors about what a database holds.
var errMalformed = errors.New("malformed SQLite database")

// A DB is an open database.
type DB struct {
	r      io.ReaderAt
	size   int64
	page   int64 // bytes of a page
	usable int64 // of them, those that SQLite uses
	roots  map[string]int64
}

// Has reports whether the file that begins with head is a database.
func Has(head []byte) bool { return strings.HasPrefix(string(head), magic) }

// Open opens a database of size bytes.
func Open(r io.ReaderAt, size int64) (*DB, error) {
	db := &DB{r: r, size: size, roots: map[string]int64{Schema: 1}}
	h, err := db.read(0, headerSize)
	if err != nil {
		return nil, err
	}
	db.page = int64(binary.BigEndian.Uint16(h[16:]))
	if db.page == 1 {
		db.page = 65536
	}
	db.usable = db.page - int64(h[20])
	if !Has(h) || db.page < 512 || db.page&(db.page-1) != 0 || db.usable < 480 {
		return nil, fmt.Errorf("%w: pages of %d bytes", errMalformed, db.page)
	}
	roots := map[string]int64{Schema: 1}
	err = db.Rows(Schema, func(_ int64, row []byte) error {
		columns, ok := Columns(row)
		if !ok || len(columns) < 5 {
			return fmt.Errorf("%w: a malformed row of the schema", errMalformed)
		}
		root := number(columns[3])
		if string(columns[0]) != "table" || root == 0 {
			return nil // an index, a view or a virtual table
		}
		if len(roots) > maxTables {
			return fmt.Errorf("%w: more than %d tables", errMalformed, maxTables)
		}
		roots[string(columns[1])] = root
		return nil
	})
	db.roots = roots
	return db, err
}

// Tables returns the names of the tables, Schema among them, sorted.
func (db *DB) Tables() []string { return slices.Sorted(maps.Keys(db.roots)) }

// Has reports whether there is a table of a name.
func (db *DB) Has(table string) bool { return db.roots[table] != 0 }

// Rows calls each for the rows of a table, in the order of their keys, until it returns an error, and returns
// that. id is the rowid, 0 in a table without rowids. The row, which Columns reads, is valid during the call.
func (db *DB) Rows(table string, each func(id int64, row []byte) error) error {
	root := db.roots[table]
	if root == 0 {
		return fmt.Errorf("%w: no table %q", errMalformed, table)
	}
	w := &walk{DB: db, each: each, pages: db.size / db.page, bytes: db.size}
	return w.tree(root, 0)
}

// walk goes through a tree. A page belongs to one place of one tree, and rows do not overlap: a tree that
// needs more pages or bytes than the file has is hostile.
type walk struct {
	*DB
	each         func(id int64, row []byte) error
	pages, bytes int64 // that may still be read
}

// readPage reads page n, whose numbers begin at 1.
func (w *walk) readPage(n int64) ([]byte, error) {
	if w.pages--; w.pages < 0 {
		return nil, fmt.Errorf("%w: pages in a circle", errMalformed)
	}
	page, err := w.read((n-1)*w.page, w.page)
	if err != nil {
		return nil, fmt.Errorf("%w: page %d: %w", errMalformed, n, err)
	}
	return page[:w.usable], nil
}

// tree reads the tree whose root is page n.
func (w *walk) tree(n int64, depth int) error {
	page, err := w.readPage(n)
	if err != nil {
		return err
	}
	head := page
	if n == 1 {
		head = page[headerSize:]
	}
	kind, count, pointers := head[0], int(binary.BigEndian.Uint16(head[3:])), head[8:]
	interior := kind == tableInterior || kind == indexInterior
	if interior {
		pointers = head[12:]
	}
	if !interior && kind != tableLeaf && kind != indexLeaf || 2*count > len(pointers) || depth > maxDepth {
		return fmt.Errorf("%w: page %d is no page of a tree", errMalformed, n)
	}
	for i := range count {
		at := int(binary.BigEndian.Uint16(pointers[2*i:]))
		if at > len(page)-4 {
			return fmt.Errorf("%w: a cell beyond page %d", errMalformed, n)
		}
		cell := page[at:]
		if interior {
			if err := w.tree(int64(binary.BigEndian.Uint32(cell)), depth+1); err != nil {
				return err
			}
			cell = cell[4:]
		}
		if kind != tableInterior {
			if err := w.row(cell, kind == tableLeaf); err != nil {
				return err
			}
		}
	}
	if interior {
		return w.tree(int64(binary.BigEndian.Uint32(head[8:])), depth+1)
	}
	return nil
}

// row reads the row of a cell, with the overflow pages that it continues on. The rows of a table have ids,
// those of an index (and of a table without rowids) do not.
func (w *walk) row(cell []byte, table bool) error {
	size, cell, ok := varint(cell)
	id, most := int64(0), (w.usable-12)*64/255-23
	if table && ok {
		id, cell, ok = varint(cell)
		most = w.usable - 35
	}
	if w.bytes -= max(size, 0); !ok || size < 0 || size > maxRow || w.bytes < 0 {
		return fmt.Errorf("%w: a row of %d bytes", errMalformed, size)
	}
	local := size // how much of it the cell holds
	if size > most {
		least := (w.usable-12)*32/255 - 23
		if local = least + (size-least)%(w.usable-4); local > most {
			local = least
		}
	}
	rest := int64(len(cell)) - local
	if rest < 0 || rest < 4 && local < size {
		return fmt.Errorf("%w: a row is cut short", errMalformed)
	}
	row := cell[:local:local]
	for next := cell[local:]; int64(len(row)) < size; {
		page, err := w.readPage(int64(binary.BigEndian.Uint32(next)))
		if err != nil {
			return err
		}
		row = append(row, page[4:min(w.usable, 4+size-int64(len(row)))]...)
		next = page
	}
	return w.each(id, row)
}

// read reads n bytes at an offset, if the file has them.
func (db *DB) read(offset, n int64) ([]byte, error) {
	if offset < 0 || offset > db.size-n {
		return nil, fmt.Errorf("%w: it ends before %d bytes at %d", errMalformed, n, offset)
	}
	b := make([]byte, n)
	if _, err := db.r.ReadAt(b, offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// Columns splits a row into the bytes of its columns, a number into its big-endian bytes; the numbers 0 and 1
// may have none. It reports false for a malformed row.
func Columns(row []byte) (columns [][]byte, ok bool) {
	size, rest, ok := varint(row)
	if used := int64(len(row) - len(rest)); !ok || size < used || size > int64(len(row)) {
		return nil, false
	}
	types, body := row[len(row)-len(rest):size], row[size:]
	for len(types) > 0 {
		var kind, n int64
		if kind, types, ok = varint(types); !ok || kind < 0 || len(columns) == maxColumns {
			return nil, false
		}
		switch {
		case kind >= 12:
			n = (kind - 12) / 2
		case kind >= 8: // the numbers 0 and 1, and two reserved types
		case kind >= 6:
			n = 8
		case kind == 5:
			n = 6
		default:
			n = kind
		}
		if n > int64(len(body)) {
			return nil, false
		}
		columns, body = append(columns, body[:n]), body[n:]
	}
	return columns, true
}

// number returns the value of a column that is an integer.
func number(b []byte) (n int64) {
	for i, c := range b {
		if i == 0 {
			n = int64(int8(c))
			continue
		}
		n = n<<8 | int64(c)
	}
	return n
}

// varint reads a big-endian number of up to nine bytes.
func varint(b []byte) (n int64, rest []byte, ok bool) {
	for i, c := range b[:min(len(b), 9)] {
		if i == 8 {
			return n<<8 | int64(c), b[9:], true
		}
		n = n<<7 | int64(c&0x7f)
		if c < 0x80 {
			return n, b[i+1:], true
		}
	}
	return 0, nil, false
}
