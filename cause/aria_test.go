package cause

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ariaTable returns an Aria table: a bitmap and one page of rows.
func ariaTable(size int, lsn byte, row string, at time.Time) []byte {
	bitmap, page := make([]byte, size-ariaCRC), make([]byte, size-ariaCRC)
	bitmap[ariaLSN] = 1
	page[6], page[7] = lsn, 1
	copy(page[16:], row)
	binary.BigEndian.PutUint32(page[200:], uint32(at.Unix()))
	var table []byte
	for n, b := range [][]byte{bitmap, page} {
		table = append(table, b...)
		table = binary.LittleEndian.AppendUint32(table, crc32.Update(uint32(n), crc32.IEEETable, b))
	}
	return table
}

func TestAriaData(t *testing.T) {
	const id1, id2 = "7d444840-9dc0-11d1-b245-5ffdce74fad2", "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
	table := func(lsn byte, row string, at time.Time) []byte { return ariaTable(8192, lsn, row, at) }
	unsealed := func(b []byte) []byte {
		b[len(b)-1] ^= 0x55
		return b
	}
	base := table(1, "row", moment1)
	for _, c := range []struct {
		name          string
		first, second []byte
		want          []Kind
	}{
		{"time", base, table(1, "row", moment2), []Kind{Database, Timestamp}},
		{"log position", base, table(2, "row", moment1), []Kind{Database}},
		{"id", table(1, id1, moment1), table(2, id2, moment1), []Kind{Database, UUID}},
		{"row", base, table(1, "wor", moment1), []Kind{Database, Unknown}},
		{"more pages", append(table(1, "row", moment1), make([]byte, 8192)...), table(2, "row", moment1), []Kind{Database, Database}},
		{"smaller pages", ariaTable(1024, 1, "row", moment1), ariaTable(1024, 1, "row", moment2), []Kind{Database, Timestamp}},
		{"no checksums", unsealed(table(1, "row", moment1)), unsealed(table(2, "row", moment1)), []Kind{Unknown}},
		{"no pages", append([]byte("x"), base...), append([]byte("x"), table(2, "row", moment1)...), []Kind{Unknown}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := find(t, "x.MAD", c.first, c.second, hints)
			if diff := cmp.Diff(c.want, kindsOf(got)); diff != "" {
				t.Errorf("(-want +got):\n%s\n%+v", diff, got)
			}
			for _, g := range got {
				if at := g.Offset; at < 0 || at > int64(len(c.first)) || c.want[0] == Database && !strings.Contains(g.Fix, "entrypoint") {
					t.Errorf("%+v", g)
				}
			}
		})
	}
}

func TestDatabaseText(t *testing.T) {
	const view = "TYPE=VIEW\nquery=select 1 AS `x`\nmd5=91a844b992f5531ded209bb44c10bae7\ntimestamp=0001795444914123456\nsource=SELECT 1\n"
	const pool = "3,45\n3,7\n1,2\n"
	made := func(s string) string { return strings.Replace(s, "1795444914123456", "1795445527123456", 1) }
	const uuid1, uuid2 = "entryUUID: ceea306a-7b99-1041-81eb-53b8f16b2bd6\n", "entryUUID: d6ca34c4-7b99-1041-877f-c35f744e2cc8\n"
	ldif := func(entry string) string {
		return fmt.Sprintf("# AUTO-GENERATED FILE - DO NOT EDIT!! Use ldapmodify.\n# CRC32 %08x\n%s", crc32.ChecksumIEEE([]byte(entry)), entry)
	}
	for _, c := range []struct {
		name, path    string
		first, second string
		want          []Kind
		fixed         bool // what to do is what to do about a database
	}{
		{"view", "v.frm", view, made(view), []Kind{Timestamp}, true},
		{"another view", "v.frm", view, strings.Replace(view, "select 1", "select k", 1), []Kind{Unknown}, true},
		{"no view", "v.frm", "#" + view, "#" + made(view), []Kind{Timestamp}, false},
		{"entry", "cn=config.ldif", ldif("dn: cn=x\n" + uuid1), ldif("dn: cn=x\n" + uuid2), []Kind{Database, UUID}, true},
		{"another entry", "cn=config.ldif", ldif("dn: cn=x\n"), ldif("dn: cn=y\n"), []Kind{Database, Unknown}, true},
		{"no checksum", "cn=config.ldif", ldif("") + uuid1, ldif("") + uuid2, []Kind{UUID}, false},
		{"buffer pool", "var/lib/mysql/ib_buffer_pool", pool, pool + "4,8\n", []Kind{Database}, true},
		{"no buffer pool", "var/lib/mysql/ib_buffer_pool", pool, pool + "4,8,9\n", []Kind{Unknown}, false},
		{"two columns", "numbers.csv", pool, pool + "4,8\n", []Kind{Unknown}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := find(t, c.path, c.first, c.second, hints)
			if diff := cmp.Diff(c.want, kindsOf(got)); diff != "" {
				t.Fatalf("(-want +got):\n%s\n%+v", diff, got)
			}
			if fixed := got[0].Fix == describe(Database).Fix; fixed != c.fixed {
				t.Errorf("%+v", got[0])
			}
		})
	}
}
