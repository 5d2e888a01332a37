package sqlite

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// schema makes a table with ids, one without, whose rows are in an index, and one of long rows.
const schema = `pragma page_size = 512;
create table t (id integer primary key, v text);
create table u (k text primary key, v) without rowid;
create table big (v blob);
create view w as select * from t;
with recursive n(i) as (select 1 union all select i+1 from n where i < 500) insert into t select i, 'row ' || i from n;
with recursive n(i) as (select 1 union all select i+1 from n where i < 500) insert into u select printf('%04d', i), 'row ' || i from n;
insert into big values (zeroblob(100)), (zeroblob(477)), (zeroblob(478)), (zeroblob(70000));`

// database returns what SQLite itself makes of some SQL.
func database(t testing.TB, sql string) []byte {
	t.Helper()
	sqlite, err := exec.LookPath("sqlite3")
	if err != nil && os.Getenv("KEDGE_TEST_REQUIRE") == "1" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	file := filepath.Join(t.TempDir(), "x.db")
	c := exec.Command(sqlite, "-bail", file)
	c.Stdin = strings.NewReader(sql)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rows returns what a table holds, a row as its id and its columns.
func rows(t testing.TB, db *DB, table string) (list []string, err error) {
	t.Helper()
	err = db.Rows(table, func(id int64, row []byte) error {
		columns, ok := Columns(row)
		if !ok {
			return errMalformed
		}
		list = append(list, fmt.Sprintf("%d %s", id, bytes.Join(columns, []byte("|"))))
		return nil
	})
	return list, err
}

func TestRows(t *testing.T) {
	for _, reserved := range []byte{0, 32} {
		sql := schema
		if reserved > 0 {
			sql = ".filectrl reserve_bytes 32\n" + schema
		}
		content := database(t, sql)
		if content[20] != reserved {
			t.Fatalf("this SQLite reserves %d bytes of a page", content[20])
		}
		db, err := Open(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := db.Tables(), []string{"big", Schema, "t", "u"}; !slices.Equal(got, want) {
			t.Errorf("tables %q, want %q", got, want)
		}
		for table, want := range map[string][3]string{"t": {"1 |row 1", "2 |row 2", "500 |row 500"}, "u": {"0 0001|row 1", "0 0002|row 2", "0 0500|row 500"}} {
			got, err := rows(t, db, table)
			if err != nil || len(got) != 500 || got[0] != want[0] || got[1] != want[1] || got[499] != want[2] {
				t.Errorf("%s: %d rows, %v", table, len(got), err)
			}
		}
		var sizes []int
		got, err := rows(t, db, "big")
		for _, row := range got {
			sizes = append(sizes, len(row)-2)
		}
		if err != nil || !slices.Equal(sizes, []int{100, 477, 478, 70000}) {
			t.Errorf("rows of %d bytes, %v", sizes, err)
		}
		if _, err := rows(t, db, "w"); err == nil {
			t.Error("a view has rows")
		}
	}
}

// TestHostile damages a database in ways that a reader without bounds would follow.
func TestHostile(t *testing.T) {
	content := database(t, schema)
	be := binary.BigEndian
	root := func(b []byte, table string) int64 {
		db, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		return (db.roots[table] - 1) * 512
	}
	t500 := root(content, "t")
	for name, damage := range map[string]func(b []byte){
		"a page that leads to itself":   func(b []byte) { be.PutUint32(b[t500+8:], uint32(t500/512)+1) },
		"a page beyond the file":        func(b []byte) { be.PutUint32(b[t500+8:], 1<<31) },
		"page 0":                        func(b []byte) { be.PutUint32(b[t500+8:], 0) },
		"more cells than fit":           func(b []byte) { be.PutUint16(b[t500+3:], 60000) },
		"a cell beyond the page":        func(b []byte) { be.PutUint16(b[t500+12:], 600) },
		"a page that is not of a tree":  func(b []byte) { b[t500] = 7 },
		"a page that is read two times": func(b []byte) { copy(b[t500+12:], bytes.Repeat(b[t500+12:t500+14], int(be.Uint16(b[t500+3:])))) },
	} {
		b := bytes.Clone(content)
		damage(b)
		db, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := rows(t, db, "t"); err == nil && len(got) == 500 {
			t.Errorf("%s: %d rows, no error", name, len(got))
		}
	}
	for _, size := range []int64{0, 99, 100, 511, int64(len(content)) - 512} {
		if db, err := Open(bytes.NewReader(content), size); err == nil {
			if _, err = rows(t, db, "big"); err == nil {
				t.Errorf("the first %d bytes are read as the whole", size)
			}
		}
	}
	for name, b := range map[string][]byte{
		"a page of 513 bytes": append([]byte(magic+"\x02\x01"), make([]byte, 2000)...),
		"a page of 256 bytes": append([]byte(magic+"\x01\x00"), make([]byte, 2000)...),
	} {
		if _, err := Open(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestColumns(t *testing.T) {
	for row, want := range map[string]string{
		"\x05\x01\x08\x0f\x13\x2aabcd": "2a||61|626364",
		"":                             "malformed",
		"\x05\x01":                     "malformed",
		"\x02\x0fa":                    "61",
		"\x02\x11a":                    "malformed",
	} {
		columns, ok := Columns([]byte(row))
		got := "malformed"
		if ok {
			var list []string
			for _, c := range columns {
				list = append(list, fmt.Sprintf("%x", c))
			}
			got = strings.Join(list, "|")
		}
		if got != want {
			t.Errorf("%q: %s, want %s", row, got, want)
		}
	}
	if _, ok := Columns(append([]byte("\x84\x80\x04"), make([]byte, 1<<16)...)); ok {
		t.Error("a row of more columns than SQLite has is taken")
	}
}

func FuzzRows(f *testing.F) {
	f.Add(database(f, schema))
	f.Add(database(f, "create table t (v); insert into t values (1);"))
	f.Add([]byte(magic + "\x10\x00\x01\x01\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		db, err := Open(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			return
		}
		for _, table := range db.Tables()[:min(len(db.Tables()), 5)] {
			total := 0
			err := db.Rows(table, func(_ int64, row []byte) error {
				total += len(row)
				columns, _ := Columns(row)
				for _, c := range columns {
					total -= len(c)
				}
				return nil
			})
			if total < 0 || total > len(content) {
				t.Fatalf("%s: %d bytes more than its columns, %v", table, total, err)
			}
		}
	})
}
