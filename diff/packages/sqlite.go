package packages

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// sqlite reads the tables of a SQLite database (https://www.sqlite.org/fileformat2.html), row by
// row. It knows no SQL, and no write-ahead log: what a log holds is not in the table yet.
type sqlite struct {
	r            io.ReaderAt
	size         int64
	page, usable int64
	left         int64 // pages that may still be read: each belongs to one table
}

var errSQLite = errors.New("malformed SQLite database")

// sqliteBlobs calls fn for the last column, a blob, of every row of a table.
func sqliteBlobs(r io.ReaderAt, size int64, table string, fn func([]byte) error) error {
	head, err := readAt(r, size, 0, 100)
	if err != nil {
		return err
	}
	db := sqlite{r: r, size: size, page: int64(binary.BigEndian.Uint16(head[16:]))}
	if db.page == 1 {
		db.page = 65536
	}
	db.usable = db.page - int64(head[20])
	if db.page < 512 || db.usable < 480 {
		return fmt.Errorf("%w: pages of %d bytes", errSQLite, db.page)
	}
	db.left = 2 * (size/db.page + 1)
	root := int64(0)
	err = db.rows(1, 0, func(columns [][]byte) error {
		if len(columns) >= 4 && string(columns[0]) == "table" && string(columns[1]) == table && len(columns[3]) <= 4 {
			root = 0
			for _, b := range columns[3] {
				root = root<<8 | int64(b)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if root == 0 {
		return fmt.Errorf("%w: no table %q", errSQLite, table)
	}
	return db.rows(root, 0, func(columns [][]byte) error {
		if len(columns) == 0 {
			return nil
		}
		return fn(columns[len(columns)-1])
	})
}

// rows calls fn for the rows of the table whose tree begins at page no.
func (db *sqlite) rows(no int64, depth int, fn func(columns [][]byte) error) error {
	const interior, leaf, maxDepth = 5, 13, 20
	if db.left--; db.left < 0 || depth > maxDepth {
		return fmt.Errorf("%w: pages in a circle", errSQLite)
	}
	page, err := readAt(db.r, db.size, (no-1)*db.page, db.page)
	if err != nil {
		return fmt.Errorf("%w: page %d: %w", errSQLite, no, err)
	}
	head := page
	if no == 1 {
		head = page[100:]
	}
	cells := int64(binary.BigEndian.Uint16(head[3:]))
	kind, pointers := head[0], head[8:]
	if kind == interior {
		pointers = head[12:]
	}
	if kind != interior && kind != leaf || 2*cells > int64(len(pointers)) {
		return fmt.Errorf("%w: page %d is of no table", errSQLite, no)
	}
	for i := range cells {
		at := int64(binary.BigEndian.Uint16(pointers[2*i:]))
		if at+4 > db.usable {
			return fmt.Errorf("%w: a cell beyond page %d", errSQLite, no)
		}
		cell := page[at:db.usable]
		if kind == interior {
			err = db.rows(int64(binary.BigEndian.Uint32(cell)), depth+1, fn)
		} else {
			err = db.row(cell, fn)
		}
		if err != nil {
			return err
		}
	}
	if kind == interior {
		return db.rows(int64(binary.BigEndian.Uint32(head[8:])), depth+1, fn)
	}
	return nil
}

// row reads the cell of a row, and the overflow pages that it goes on to.
func (db *sqlite) row(cell []byte, fn func(columns [][]byte) error) error {
	size, cell, ok := varint(cell)
	if !ok || size < 0 || size > min(db.size, maxHeader) {
		return fmt.Errorf("%w: a row of %d bytes", errSQLite, size)
	}
	_, cell, ok = varint(cell) // the row's number
	if !ok {
		return fmt.Errorf("%w: a row is cut short", errSQLite)
	}
	local := size
	if limit := db.usable - 35; size > limit {
		least := (db.usable-12)*32/255 - 23
		if local = least + (size-least)%(db.usable-4); local > limit {
			local = least
		}
	}
	if local > int64(len(cell)) {
		return fmt.Errorf("%w: a row is cut short", errSQLite)
	}
	payload := cell[:local:local]
	if local < size {
		if int64(len(cell)) < local+4 {
			return fmt.Errorf("%w: a row is cut short", errSQLite)
		}
		next := int64(binary.BigEndian.Uint32(cell[local:]))
		for int64(len(payload)) < size {
			if db.left--; db.left < 0 {
				return fmt.Errorf("%w: pages in a circle", errSQLite)
			}
			page, err := readAt(db.r, db.size, (next-1)*db.page, db.page)
			if err != nil {
				return fmt.Errorf("%w: overflow page %d: %w", errSQLite, next, err)
			}
			payload = append(payload, page[4:4+min(db.usable-4, size-int64(len(payload)))]...)
			next = int64(binary.BigEndian.Uint32(page))
		}
	}
	columns, ok := record(payload)
	if !ok {
		return fmt.Errorf("%w: a malformed row", errSQLite)
	}
	return fn(columns)
}

// record splits a record into its columns. A number is its bytes, big-endian.
func record(payload []byte) (columns [][]byte, ok bool) {
	n, rest, ok := varint(payload)
	used := int64(len(payload) - len(rest))
	if !ok || n < used || n > int64(len(payload)) {
		return nil, false
	}
	types, body := payload[used:n], payload[n:]
	for len(types) > 0 {
		var t int64
		if t, types, ok = varint(types); !ok || t < 0 {
			return nil, false
		}
		var size int64
		switch {
		case t < 5:
			size = t
		case t == 5:
			size = 6
		case t < 8:
			size = 8
		case t >= 12:
			size = (t - 12) / 2
		}
		if t == 8 || t == 9 { // the numbers 0 and 1 take no room
			size = 0
		}
		if size > int64(len(body)) || len(columns) == 64 {
			return nil, false
		}
		columns, body = append(columns, body[:size]), body[size:]
	}
	return columns, true
}

// varint reads SQLite's number of variable length, big-endian.
func varint(b []byte) (n int64, rest []byte, ok bool) {
	for i := range min(len(b), 9) {
		if i == 8 {
			return n<<8 | int64(b[i]), b[9:], true
		}
		n = n<<7 | int64(b[i]&0x7f)
		if b[i] < 0x80 {
			return n, b[i+1:], true
		}
	}
	return 0, nil, false
}
