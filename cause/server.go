package cause

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path"
	"regexp"
	"time"
)

var (
	machineIDText = regexp.MustCompile(`^[0-9a-f]{32}\n?$`)
	viewText      = regexp.MustCompile(`^TYPE=VIEW\nquery=`)
	slapdText     = regexp.MustCompile(`^# AUTO-GENERATED FILE - DO NOT EDIT!! Use ldapmodify\.\n# CRC32 ([0-9a-f]{8})\n`)
	poolText      = regexp.MustCompile(`^(?:\d+,\d+\n)+$`)

	// The first lines of the logs of package managers.
	logs = []struct {
		format string
		re     *regexp.Regexp
	}{
		{"apt history", regexp.MustCompile(`^\n?Start-Date: \d{4}-\d\d-\d\d `)},
		{"apt term", regexp.MustCompile(`^\n?Log started: \d{4}-\d\d-\d\d `)},
		{"dpkg", regexp.MustCompile(`^` + isoDay + ` ` + clock24 + ` (?:startup|install|upgrade|remove|purge|configure|trigproc|status|conffile) `)},
		{"update-alternatives", regexp.MustCompile(`^update-alternatives ` + isoDay + ` ` + clock24 + `: `)},
		{"bootstrap", regexp.MustCompile(`^` + isoDay + ` ` + clock24 + ` URL:`)},
		{"dnf", regexp.MustCompile(`^` + isoDay + `T` + clock24 + `[+-]\d{4} (?:INFO|DEBUG|DDEBUG|SUBDEBUG) `)},
		{"npm", regexp.MustCompile(`^\d+ (?:info|verbose|silly|timing|http) `)},
	}
)

// machineID explains /etc/machine-id, by form and name: 32 hex digits may be any hash.
func (f *finder) machineID(p pair, spans []span) bool {
	if p.first.Size() > 64 || p.second.Size() > 64 || path.Base(p.name) != "machine-id" {
		return false
	}
	a, b := readAt(p.first, 0, 64), readAt(p.second, 0, 64)
	if !machineIDText.Match(a) && !machineIDText.Match(b) {
		return false
	}
	f.add(Cause{Kind: MachineID, Where: p.where, Offset: spans[0].a, First: printable(bytes.TrimSpace(a)), Second: printable(bytes.TrimSpace(b))})
	return true
}

// packageLog explains logs of package managers, by the form of their first lines.
func (f *finder) packageLog(p pair, spans []span) bool {
	a, b := readAt(p.first, 0, headSize), readAt(p.second, 0, headSize)
	for _, l := range logs {
		if !l.re.Match(a) || !l.re.Match(b) {
			continue
		}
		x, y := line(p.first, spans[0].a), line(p.second, spans[0].b)
		f.add(Cause{
			Kind: PackageLog, Where: p.where, Offset: spans[0].a, Format: l.format, Count: len(spans),
			First: printable(x), Second: printable(y),
		})
		return true
	}
	return false
}

// statCache explains caches of the metadata of other files.
func (f *finder) statCache(p pair, spans []span) bool {
	a, b := readAt(p.first, 0, headSize), readAt(p.second, 0, headSize)
	for _, c := range []struct{ magic, format, why, fix string }{
		{
			"glibc-ld.so.auxcache-", "ldconfig aux-cache", "ldconfig remembers the inode number and change time of every library.",
			"rm -f /var/cache/ldconfig/aux-cache in the same RUN; ldconfig writes it again.",
		},
		{
			"DIRC", "git index", "git remembers the inode number and times of every file of the checkout.",
			"Remove .git in the same RUN, or list it in .dockerignore.",
		},
		{
			"# ninja log v", "Ninja log", "Ninja records when it wrote each file, and how long that took.", ninjaFix,
		},
		{
			"# ninjadeps\n", "Ninja dependencies", "Ninja records when it wrote each file, in the order in which its jobs finished.", ninjaFix,
		},
		{"\xa2\xab\x0b\xf0", "CDS archive", cdsWhy, cdsFix}, // little-endian, as on amd64 and arm64
		{"\xa8\xab\x0b\xf0", "dynamic CDS archive", cdsWhy, cdsFix},
	} {
		if bytes.HasPrefix(a, []byte(c.magic)) && bytes.HasPrefix(b, []byte(c.magic)) {
			f.add(Cause{Kind: FileStatus, Where: p.where, Offset: spans[0].a, Format: c.format, Why: c.why, Fix: c.fix, Count: len(spans)})
			return true
		}
	}
	return false
}

const (
	ninjaFix = "Build in another stage and copy what is installed, or remove the build directory in the same RUN."
	cdsWhy   = "Java's class data archive holds the times of jar files, and addresses chosen at random."
	cdsFix   = "Create it when the container starts (java -XX:ArchiveClassesAtExit), or omit it: Java does not need it, and ignores it if the times of the jar files differ."
)

// database explains files of database servers.
func (f *finder) database(p pair, spans []span) bool {
	a, b := readAt(p.first, 0, headSize), readAt(p.second, 0, headSize)
	for _, d := range databases {
		if !d.is(a, p.first.Size()) || !d.is(b, p.second.Size()) {
			continue
		}
		c := Cause{Kind: Database, Where: p.where, Offset: spans[0].a, Format: d.format, Count: len(spans)}
		if d.detail != nil {
			d.detail(f, p, &c, a, b)
		}
		f.add(c)
		return true
	}
	return false
}

var databases = []struct {
	format string
	is     func(head []byte, size int64) bool
	detail func(f *finder, p pair, c *Cause, a, b []byte) // may be nil
}{
	{format: "PostgreSQL control file", is: pgControl, detail: func(f *finder, p pair, c *Cause, a, b []byte) {
		x, y := binary.LittleEndian.Uint64(a), binary.LittleEndian.Uint64(b)
		if x == y {
			return
		}
		// initdb puts the seconds into the upper 32 bits.
		s, t := time.Unix(int64(x>>32), 0), time.Unix(int64(y>>32), 0)
		c.First, c.Second = fmt.Sprintf("%d, of %s", x, stampOf(s)), fmt.Sprintf("%d, of %s", y, stampOf(t))
		c.Clock = f.clock(s, t, 2*time.Second, p.times)
		c.Why = "initdb derives the system identifier from the time and its process ID."
	}},
	{format: "PostgreSQL page", is: func(h []byte, size int64) bool {
		// The size and layout version of a page, and offsets in it that are in order.
		return size >= 8192 && size%8192 == 0 && len(h) >= 24 && h[18] <= 5 && h[18] >= 3 && h[19] == 0x20 &&
			binary.LittleEndian.Uint16(h[12:]) >= 24 && binary.LittleEndian.Uint16(h[12:]) <= binary.LittleEndian.Uint16(h[14:]) &&
			binary.LittleEndian.Uint16(h[14:]) <= binary.LittleEndian.Uint16(h[16:]) && binary.LittleEndian.Uint16(h[16:]) <= 8192
	}},
	{format: "PostgreSQL WAL", is: func(h []byte, size int64) bool {
		return size >= 1<<20 && size&(size-1) == 0 && len(h) >= 40 && h[1] == 0xd1 && binary.LittleEndian.Uint32(h[32:]) == uint32(size) &&
			binary.LittleEndian.Uint32(h[36:]) == 8192
	}},
	{format: "PostgreSQL statistics", is: func(h []byte, _ int64) bool {
		// PGSTAT_FILE_FORMAT_ID, whose lowest byte is a version.
		return len(h) > 4 && bytes.Equal(h[1:4], []byte{0xbc, 0xa5, 0x01})
	}},
	{format: "InnoDB tablespace", is: func(h []byte, size int64) bool {
		// Page 0 of a tablespace, of the type FIL_PAGE_TYPE_FSP_HDR, which has its space id twice.
		return size >= 16<<10 && size%4096 == 0 && len(h) >= 42 && binary.BigEndian.Uint32(h[4:]) == 0 &&
			binary.BigEndian.Uint16(h[24:]) == 8 && bytes.Equal(h[34:38], h[38:42])
	}},
	{format: "InnoDB redo log", is: func(h []byte, size int64) bool {
		return size >= 4096 && len(h) >= 48 && (bytes.HasPrefix(h, []byte("Phys")) || bytes.HasPrefix(h[16:], []byte("MariaDB ")) ||
			bytes.HasPrefix(h[16:], []byte("MySQL ")) || bytes.HasPrefix(h[16:], []byte("Backup ")))
	}},
	{format: "MySQL table definition", is: func(h []byte, _ int64) bool {
		return len(h) >= 64 && h[0] == 0xfe && h[1] == 1 && h[2] >= 6 && h[2] <= 12 // dot-frm
	}, detail: func(_ *finder, _ pair, c *Cause, a, b []byte) {
		// A version is the first of what MariaDB adds: its type, its length, and the UUID.
		const at, end = 66, 82
		added := []byte{0, end - at}
		if len(a) < end || len(b) < end || !bytes.Equal(a[at-2:at], added) || !bytes.Equal(b[at-2:at], added) || bytes.Equal(a[at:end], b[at:end]) {
			return
		}
		c.First, c.Second = uuidOf(a[at:end]), uuidOf(b[at:end])
		c.Why = "The server gives each new table a version, a UUID made from the time and the network address."
	}},
	{format: "MySQL binary log", is: func(h []byte, _ int64) bool { return bytes.HasPrefix(h, []byte("\xfebin")) }},
	{format: "Aria", is: func(h []byte, _ int64) bool {
		return len(h) > 3 && h[0] == 0xfe && h[1] == 0xfe && h[2] >= 8 && h[2] <= 12 // its log is 11
	}},
	{format: "Berkeley DB", is: func(h []byte, size int64) bool {
		if size < 512 || len(h) < 72 {
			return false
		}
		switch m := binary.LittleEndian.Uint32(h[12:]); m {
		case 0x61561, 0x53162, 0x42253, 0x74582: // hash, btree, queue, heap
			return true
		}
		return false
	}, detail: func(_ *finder, _ pair, c *Cause, a, b []byte) {
		c.Fix = "Remove it in the same RUN, and create it when the container starts: newaliases creates aliases.db, postmap and makemap create others."
		if !bytes.Equal(a[52:72], b[52:72]) {
			c.First, c.Second = printable(a[52:72]), printable(b[52:72])
			c.Why = "Berkeley DB derives the ID of each file from its inode, the time and a random number."
		}
	}},
	{format: "LMDB", is: func(h []byte, size int64) bool {
		return size >= 8192 && len(h) >= 20 && binary.LittleEndian.Uint32(h[16:]) == 0xbeefc0de
	}},
	{format: "GDBM", is: func(h []byte, _ int64) bool {
		if len(h) < 4 {
			return false
		}
		m := binary.LittleEndian.Uint32(h)
		return m >= 0x13579acd && m <= 0x13579ad1
	}},
	{format: "systemd journal", is: func(h []byte, _ int64) bool { return bytes.HasPrefix(h, []byte("LPKSHHRH")) }},
}

// view explains definitions of views, which MariaDB and MySQL store as text with the time of their creation.
func (f *finder) view(p pair, _ []span) bool {
	a, ok1 := whole(p.first)
	b, ok2 := whole(p.second)
	if !ok1 || !ok2 || !viewText.Match(a) || !viewText.Match(b) {
		return false
	}
	f.within(p, 0, a, b, func(c *Cause) {
		f.ofDatabase(c)
		if c.Kind == Timestamp {
			c.Why = "The database server stores the time at which each view was created (" + c.Format + ")."
		}
	})
	return true
}

// slapdConfig explains the LDIF files of the configuration of slapd, each with its own checksum.
func (f *finder) slapdConfig(p pair, _ []span) bool {
	a, ok1 := whole(p.first)
	b, ok2 := whole(p.second)
	if !ok1 || !ok2 {
		return false
	}
	at, m := slapdText.FindSubmatchIndex(a), slapdText.FindSubmatchIndex(b)
	sealed := func(b []byte) bool {
		return fmt.Sprintf("%08x", crc32.ChecksumIEEE(b[at[1]:])) == string(b[at[2]:at[3]])
	}
	if at == nil || m == nil || !sealed(a) || !sealed(b) {
		return false
	}
	f.add(Cause{
		Kind: Database, Where: p.where, Offset: int64(at[2]), Format: "slapd's configuration",
		First: string(a[at[2]:at[3]]), Second: string(b[at[2]:at[3]]),
		Why: "slapd stores the CRC-32 of each entry before it; it follows from what differs in the entry.",
	})
	copy(b[at[2]:at[3]], a[at[2]:at[3]])
	f.within(p, 0, a, b, f.ofDatabase)
	return true
}

// bufferPool explains, by form and name, the list of pages that InnoDB had in memory when it stopped.
func (f *finder) bufferPool(p pair, spans []span) bool {
	if path.Base(p.name) != "ib_buffer_pool" {
		return false
	}
	a, ok1 := whole(p.first)
	b, ok2 := whole(p.second)
	if !ok1 || !ok2 || !poolText.Match(a) || !poolText.Match(b) {
		return false
	}
	f.add(Cause{
		Kind: Database, Where: p.where, Offset: spans[0].a, Format: "InnoDB buffer pool", Count: len(spans),
		First: printable(line(p.first, spans[0].a)), Second: printable(line(p.second, spans[0].b)),
		Why: "InnoDB stores the list of pages that it had in memory, the last used first.",
	})
	return true
}

// uuidOf returns the text of a UUID.
func uuidOf(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// pgControl recognises global/pg_control: a system identifier, the version of the file, and the version of
// the catalog, which is a date and a digit.
func pgControl(h []byte, size int64) bool {
	if size != 8192 || len(h) < 16 {
		return false
	}
	version, catalog := binary.LittleEndian.Uint32(h[8:]), binary.LittleEndian.Uint32(h[12:])
	return version >= 900 && version < 3000 && catalog >= 200501010 && catalog < 209912319
}
