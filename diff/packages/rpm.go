package packages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/kedge-build/kedge/internal/format/sqlite"
)

// maxHeader bounds the header of one rpm package, in bytes; a kernel's is about 3 MiB.
const maxHeader = 32 << 20

// rpm reads the package database of rpm, in any of its forms: sqlite (Fedora, RHEL 9), ndb (SUSE)
// and Berkeley DB (RHEL 8 and before). Each form holds one header a package.
//
// These readers are kedge's own. Those of github.com/knqyf263/go-rpmdb crash the process if a database is
// damaged (they index pages unchecked in another goroutine) and never stop at a page that points to itself, and
// SQLite itself would run the queries that a hostile schema hides in a view.
func rpm(r io.ReaderAt, size int64) ([]Package, error) {
	l := list{kind: "rpm"}
	add := func(header []byte) error { return l.rpmHeader(header) }
	magic := make([]byte, 16)
	if _, err := r.ReadAt(magic, 0); err != nil {
		return nil, fmt.Errorf("reading the start of an rpm database: %w", err)
	}
	var err error
	switch {
	case sqlite.Has(magic):
		err = sqliteBlobs(r, size, add)
	case string(magic[:4]) == "RpmP":
		err = ndbBlobs(r, size, add)
	default:
		err = bdbBlobs(r, size, add)
	}
	return l.all, err
}

// rpmHeader adds the package of a header
// (https://rpm-software-management.github.io/rpm/manual/format_header.html), which in a database
// begins with its two counts.
func (l *list) rpmHeader(b []byte) error {
	if len(b) < 8 {
		return errors.New("rpm header is cut short")
	}
	entries, data := int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:]))
	if entries*16+data > int64(len(b)-8) {
		return fmt.Errorf("rpm header of %d bytes is too short for %d entries and %d bytes of data", len(b), entries, data)
	}
	index, store := b[8:8+entries*16], b[8+entries*16:8+entries*16+data]
	const name, version, release, epoch = 1000, 1001, 1002, 1003
	tags := map[uint32]string{}
	for ; len(index) >= 16; index = index[16:] {
		tag, kind, offset := binary.BigEndian.Uint32(index), binary.BigEndian.Uint32(index[4:]), binary.BigEndian.Uint32(index[8:])
		if tag < name || tag > epoch || int64(offset) >= int64(len(store)) {
			continue
		}
		value := store[offset:]
		switch {
		case kind == 4 && len(value) >= 4: // a number
			tags[tag] = fmt.Sprint(binary.BigEndian.Uint32(value))
		case kind == 6: // a string
			s, _, _ := bytes.Cut(value[:min(len(value), maxField)], []byte{0})
			tags[tag] = string(s)
		}
	}
	v := tags[version] + "-" + tags[release]
	if e := tags[epoch]; e != "" && e != "0" {
		v = e + ":" + v
	}
	return l.add(tags[name], v)
}

// sqliteBlobs calls fn for the last column of every row of the table Packages, a blob.
func sqliteBlobs(r io.ReaderAt, size int64, fn func([]byte) error) error {
	db, err := sqlite.Open(r, size)
	if err != nil {
		return err
	}
	return db.Rows("Packages", func(_ int64, row []byte) error {
		columns, ok := sqlite.Columns(row)
		if !ok || len(columns) == 0 {
			return errors.New("rpm database: a malformed row")
		}
		return fn(columns[len(columns)-1])
	})
}

// readAt reads n bytes at off. Bytes beyond size are an error.
func readAt(r io.ReaderAt, size, off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || n > maxHeader || off > size-n {
		return nil, fmt.Errorf("%d bytes at %d are beyond the %d of the database", n, off, size)
	}
	b := make([]byte, n)
	if _, err := r.ReadAt(b, off); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// ndbBlobs calls fn for the blobs of an ndb database
// (https://github.com/rpm-software-management/rpm/blob/rpm-4.19.x/lib/backend/ndb/rpmpkg.c).
func ndbBlobs(r io.ReaderAt, size int64, fn func([]byte) error) error {
	const page, slot = 4096, 16
	le := binary.LittleEndian
	head, err := readAt(r, size, 0, 32)
	if err != nil {
		return err
	}
	slots, err := readAt(r, size, 32, int64(le.Uint32(head[12:]))*page-32)
	if err != nil {
		return fmt.Errorf("reading the slots of an ndb database: %w", err)
	}
	left := size // blobs do not overlap
	for ; len(slots) >= slot; slots = slots[slot:] {
		if string(slots[:4]) != "Slot" {
			return errors.New("ndb database: a slot without its mark")
		}
		if le.Uint32(slots[4:]) == 0 {
			continue // free
		}
		at := int64(le.Uint32(slots[8:])) * 16
		head, err := readAt(r, size, at, 16)
		if err != nil {
			return err
		}
		n := int64(le.Uint32(head[12:]))
		if left -= n; string(head[:4]) != "BlbS" || left < 0 {
			return errors.New("ndb database: a slot that leads to no package")
		}
		blob, err := readAt(r, size, at+16, n)
		if err != nil {
			return err
		}
		if err := fn(blob); err != nil {
			return err
		}
	}
	return nil
}

// The page types and item types of Berkeley DB's hash access method
// (https://github.com/berkeleydb/libdb/blob/master/src/dbinc/db_page.h).
const (
	bdbMagic        = 0x061561
	bdbHashMeta     = 8
	bdbHash         = 13
	bdbHashUnsorted = 2
	bdbOverflow     = 7
	bdbHeader       = 26
	bdbKeyData      = 1
	bdbOffPage      = 3
)

// bdb is a Berkeley DB hash database.
type bdb struct {
	r          io.ReaderAt
	size, page int64
	order      binary.ByteOrder
	left       int64 // overflow pages that may still be read: each belongs to one item
}

// bdbBlobs calls fn for those values of a Berkeley DB hash database that may be headers.
func bdbBlobs(r io.ReaderAt, size int64, fn func([]byte) error) error {
	meta, err := readAt(r, size, 0, 72)
	if err != nil {
		return err
	}
	db := bdb{r: r, size: size, order: binary.LittleEndian}
	if binary.BigEndian.Uint32(meta[12:]) == bdbMagic {
		db.order = binary.BigEndian
	}
	db.page = int64(db.order.Uint32(meta[20:]))
	if db.order.Uint32(meta[12:]) != bdbMagic || meta[25] != bdbHashMeta || db.page < 512 || db.page > 65536 {
		return errors.New("an rpm database of an unknown form")
	}
	db.left = size / db.page
	for n := int64(1); n < size/db.page; n++ {
		page, err := readAt(r, size, n*db.page, db.page)
		if err != nil {
			return err
		}
		if kind := page[25]; kind == bdbHash || kind == bdbHashUnsorted {
			if err := db.values(page, fn); err != nil {
				return fmt.Errorf("page %d of a Berkeley DB: %w", n, err)
			}
		}
	}
	return nil
}

func (db *bdb) values(page []byte, fn func([]byte) error) error {
	entries := int(db.order.Uint16(page[20:]))
	if bdbHeader+2*entries > len(page) {
		return fmt.Errorf("%d entries do not fit", entries)
	}
	at := func(i int) int { return int(db.order.Uint16(page[bdbHeader+2*i:])) }
	for i := 1; i < entries; i += 2 { // the even ones are keys
		start, end := at(i), at(i-1) // items fill the page from its end
		if start >= end || end > len(page) {
			return errors.New("an item out of place")
		}
		item := page[start:end]
		var value []byte
		switch {
		case item[0] == bdbKeyData:
			value = item[1:]
		case item[0] == bdbOffPage && len(item) >= 12:
			var err error
			if value, err = db.overflow(int64(db.order.Uint32(item[4:])), int64(db.order.Uint32(item[8:]))); err != nil {
				return err
			}
		}
		if len(value) < 16 {
			continue // rpm's own count
		}
		if err := fn(value); err != nil {
			return err
		}
	}
	return nil
}

// overflow reads an item of n bytes from overflow pages.
func (db *bdb) overflow(no, n int64) ([]byte, error) {
	if n > min(db.size, maxHeader) {
		return nil, fmt.Errorf("an item of %d bytes", n)
	}
	var value []byte
	for int64(len(value)) < n {
		if db.left--; db.left < 0 {
			return nil, errors.New("overflow pages in a circle")
		}
		page, err := readAt(db.r, db.size, no*db.page, db.page)
		if err != nil {
			return nil, err
		}
		length := int64(db.order.Uint16(page[22:]))
		if page[25] != bdbOverflow || length == 0 || bdbHeader+length > db.page {
			return nil, fmt.Errorf("page %d is no overflow page", no)
		}
		value = append(value, page[bdbHeader:bdbHeader+length]...)
		no = int64(db.order.Uint32(page[16:]))
	}
	return value[:n], nil
}
