package cause

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kedge-build/kedge/internal/decompress"
	"github.com/kedge-build/kedge/internal/format"
	"github.com/kedge-build/kedge/internal/format/ar"
	"github.com/kedge-build/kedge/internal/format/cpio"
	"github.com/kedge-build/kedge/internal/format/zip"
)

const (
	maxInflated = 1 << 30  // bytes that the containers of one file decompress to
	maxMemory   = 64 << 20 // of these bytes in memory at once; the rest is in temporary files
	maxMembers  = 100_000  // of all archives in one file
)

var (
	errInflated = fmt.Errorf("it is more than %d MiB, unpacked", maxInflated>>20)
	errMembers  = fmt.Errorf("it has more than %d members", maxMembers)
	errDepth    = fmt.Errorf("it is more than %d containers deep", maxDepth)
)

// A container is a format that holds other contents.
type container struct {
	name string
	is   func(head []byte) bool
	open func(f *finder, p pair) error // explains the pair; an error says why it cannot be opened
}

var containers []container

func init() {
	containers = []container{
		{"gzip", magic("\x1f\x8b\x08"), (*finder).gzip},
		{"bzip2", magic("BZh"), compressed(decompress.Bzip2)},
		{"xz", magic("\xfd7zXZ\x00"), compressed(decompress.XZ)},
		{"zstd", magic("\x28\xb5\x2f\xfd"), compressed(decompress.Zstd)},
		{"zip", magic("PK\x03\x04"), members(zipMembers)},
		{"ar", magic(ar.Magic), members(arMembers)},
		{"cpio", cpio.Has, members(cpioMembers)},
		{"tar", func(h []byte) bool { return len(h) >= 262 && string(h[257:262]) == "ustar" }, members(tarMembers)},
	}
}

func magic(m string) func([]byte) bool {
	return func(head []byte) bool { return bytes.HasPrefix(head, []byte(m)) }
}

// A spool is content from a container, in memory or in an unlinked file.
type spool struct {
	*io.SectionReader
	f      *finder
	memory int64
	file   *os.File
}

func (s *spool) close() {
	s.f.memory -= s.memory
	if s.file != nil {
		_ = s.file.Close() // closing it deletes it
	}
}

// spool reads r to its end, within the limits.
func (f *finder) spool(r io.Reader) (*spool, error) {
	s := &spool{f: f}
	var buf []byte
	block := make([]byte, 64<<10)
	for size := int64(0); ; {
		if f.stopped() {
			s.close()
			return nil, f.ctx.Err()
		}
		n, err := io.ReadFull(r, block)
		size += int64(n)
		if f.inflated += int64(n); f.inflated > maxInflated {
			s.close()
			return nil, errInflated
		}
		if s.file == nil && f.memory+int64(n) > maxMemory {
			if ferr := s.spill(buf); ferr != nil {
				s.close()
				return nil, ferr
			}
			buf = nil
		}
		if s.file == nil {
			buf = append(buf, block[:n]...)
			s.memory += int64(n)
			f.memory += int64(n)
		} else if _, werr := s.file.Write(block[:n]); werr != nil {
			s.close()
			return nil, werr
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && n < len(block) && ended(r) {
			if s.file != nil {
				s.SectionReader = io.NewSectionReader(s.file, 0, size)
			} else {
				s.SectionReader = sectionOf(buf)
			}
			return s, nil
		}
		if err != nil {
			s.close()
			return nil, err
		}
	}
}

// ended reports whether r is at its end: io.ReadFull returns one error for an end and for a truncated stream.
func ended(r io.Reader) bool {
	var b [1]byte
	_, err := r.Read(b[:])
	return errors.Is(err, io.EOF)
}

// spill moves what is in memory to a file.
func (s *spool) spill(buf []byte) error {
	file, err := os.CreateTemp("", "kedge-cause-")
	if err != nil {
		return err
	}
	s.file = file
	if err := os.Remove(file.Name()); err != nil {
		return err
	}
	s.f.memory -= s.memory
	s.memory = 0
	_, err = file.Write(buf)
	return err
}

// both reads the contents of the two sides.
func (f *finder) both(open [2]func() (io.Reader, error)) (sides [2]*spool, err error) {
	for i, o := range open {
		r, err := o()
		if err == nil {
			sides[i], err = f.spool(r)
		}
		switch c := r.(type) {
		case io.Closer:
			_ = c.Close() // it has been read
		case *decompress.Stream:
			c.Close()
		}
		if err != nil {
			if i == 1 {
				sides[0].close()
			}
			return sides, err
		}
	}
	return sides, nil
}

// compressed returns what opens a compressed content without a header of its own.
func compressed(format decompress.Format) func(*finder, pair) error {
	return func(f *finder, p pair) error { return f.inflate(p, format, nil) }
}

// inflate compares the decompressed contents, and calls equal if they are equal.
func (f *finder) inflate(p pair, format decompress.Format, equal func() bool) error {
	if p.depth >= maxDepth {
		return errDepth
	}
	open := func(r *io.SectionReader) func() (io.Reader, error) {
		return func() (io.Reader, error) {
			s, err := decompress.Open(io.NewSectionReader(r, 0, r.Size()), format)
			if err != nil {
				return nil, err
			}
			return s, nil
		}
	}
	sides, err := f.both([2]func() (io.Reader, error){open(p.first), open(p.second)})
	if err != nil {
		return err
	}
	defer sides[0].close()
	defer sides[1].close()
	inner := p
	inner.first, inner.second, inner.depth = sides[0].SectionReader, sides[1].SectionReader, p.depth+1
	before := f.total()
	f.content(inner)
	if f.total() == before && !f.stopped() && (equal == nil || !equal()) {
		f.add(Cause{Kind: Compression, Where: p.where, Offset: 0, Format: formatOf(p)})
	}
	return nil
}

func formatOf(p pair) string {
	head := readAt(p.first, 0, headSize)
	for _, c := range containers {
		if c.is(head) {
			return c.name
		}
	}
	return ""
}

func (f *finder) gzip(p pair) error {
	headers := [2]gzip.Header{}
	for i, r := range []*io.SectionReader{p.first, p.second} {
		z, err := gzip.NewReader(io.NewSectionReader(r, 0, r.Size()))
		if err != nil {
			return err
		}
		headers[i] = z.Header
	}
	differs := false
	fields := func(h gzip.Header) []field {
		return []field{
			{"mtime", stampOf(h.ModTime)}, {"OS byte", strconv.Itoa(int(h.OS))}, {"name", h.Name}, {"comment", h.Comment},
			{"extra field", string(h.Extra)},
		}
	}
	a, b := fields(headers[0]), fields(headers[1])
	for i := range a {
		if a[i] != b[i] {
			differs = true
			f.header(p.where, "gzip", a[i], b[i], [2]time.Time{headers[0].ModTime, headers[1].ModTime})
		}
	}
	return f.inflate(p, decompress.Gzip, func() bool { return differs })
}

// A field is metadata of a member.
type field struct{ name, value string }

// header records that a field differs.
func (f *finder) header(where, format string, a, b field, times [2]time.Time) {
	c := Cause{
		Kind: ArchiveHeader, Where: where, Offset: -1, Format: format + " " + a.name,
		First: printable([]byte(a.value)), Second: printable([]byte(b.value)),
		Why: "The " + a.name + " in the header of the " + format + " differs.",
	}
	if a.name == "mtime" {
		slack := 2 * time.Second
		if format == "zip" {
			slack = zoneless
		}
		c.Clock = f.clock(times[0], times[1], slack, [2]time.Time{})
	}
	switch format {
	case "gzip":
		c.Fix = "gzip -n stores neither time nor name."
	case "tar":
		c.Fix = "tar --sort=name --mtime=@$SOURCE_DATE_EPOCH --owner=0 --group=0 --numeric-owner."
	case "zip":
		c.Fix = "touch the files with -d @$SOURCE_DATE_EPOCH, then TZ=UTC zip -X."
	case "ar":
		c.Fix = "ar rcD omits times and owners."
	case "cpio":
		c.Fix = "touch the files with -d @$SOURCE_DATE_EPOCH, then cpio --reproducible -R 0:0."
	}
	f.add(c)
}

func stampOf(t time.Time) string {
	if t.IsZero() {
		return "none"
	}
	return t.UTC().Format(time.RFC3339)
}

// A member is one entry of an archive.
type member struct {
	name   string
	time   time.Time
	fields []field
	sum    string            // a checksum of the content; empty if the archive has none
	raw    *io.SectionReader // the content, if it is stored as it is
	open   func() (io.Reader, error)
}

// A lister returns the members of an archive, at most limit.
type lister func(r *io.SectionReader, limit int) ([]member, error)

// members returns what opens an archive.
func members(list lister) func(*finder, pair) error {
	return func(f *finder, p pair) error {
		if p.depth >= maxDepth {
			return errDepth
		}
		var sides [2][]member
		for i, r := range []*io.SectionReader{p.first, p.second} {
			m, err := list(io.NewSectionReader(r, 0, r.Size()), maxMembers-f.members)
			if errors.Is(err, format.ErrTooLarge) {
				return errMembers
			}
			if err != nil {
				return err
			}
			f.members += len(m)
			sides[i] = m
		}
		f.archive(p, sides[0], sides[1])
		return nil
	}
}

// archive compares the members of two archives by their names.
func (f *finder) archive(p pair, first, second []member) {
	format := formatOf(p)
	type nth struct {
		name string
		n    int
	}
	index := func(list []member) ([]nth, map[nth]*member) {
		keys, byName, count := make([]nth, len(list)), make(map[nth]*member, len(list)), map[string]int{}
		for i := range list {
			k := nth{list[i].name, count[list[i].name]}
			count[k.name]++
			keys[i], byName[k] = k, &list[i]
		}
		return keys, byName
	}
	keys1, byName1 := index(first)
	keys2, byName2 := index(second)

	var common1, common2 []nth
	for _, k := range keys2 {
		if byName1[k] == nil {
			f.oneBuildOnly(k.name, join(p.where, k.name), false)
		} else {
			common2 = append(common2, k)
		}
	}
	for _, k := range keys1 {
		a, b := byName1[k], byName2[k]
		if b == nil {
			f.oneBuildOnly(k.name, join(p.where, k.name), true)
			continue
		}
		common1 = append(common1, k)
		if f.stopped() {
			return
		}
		f.member(p, format, a, b)
	}
	for i := range common1 {
		if common1[i] != common2[i] {
			kind := Order
			if format == "ar" && strings.HasSuffix(common1[i].name, ".o") {
				kind = ParallelOrder
			}
			f.add(Cause{
				Kind: kind, Where: p.where, Offset: -1, Format: format + " members",
				First: safeName(common1[i].name), Second: safeName(common2[i].name),
				Why: "The members of the " + format + " are in another order.",
			})
			break
		}
	}
}

// member compares two members of the same name.
func (f *finder) member(p pair, format string, a, b *member) {
	for i := range a.fields {
		if i < len(b.fields) && a.fields[i] != b.fields[i] {
			f.header(p.where, format, a.fields[i], b.fields[i], [2]time.Time{a.time, b.time})
		}
	}
	if a.sum != "" && a.sum == b.sum {
		return
	}
	inner := pair{name: a.name, where: join(p.where, a.name), times: [2]time.Time{a.time, b.time}, depth: p.depth + 1}
	if a.raw != nil && b.raw != nil {
		inner.first, inner.second = a.raw, b.raw
		f.content(inner)
		return
	}
	if a.open == nil || b.open == nil {
		return
	}
	sides, err := f.both([2]func() (io.Reader, error){a.open, b.open})
	if err != nil {
		if !f.stopped() {
			f.unopened(inner, span{a: -1}, err)
		}
		return
	}
	defer sides[0].close()
	defer sides[1].close()
	inner.first, inner.second = sides[0].SectionReader, sides[1].SectionReader
	f.content(inner)
}

// join returns the Where of a member.
func join(where, name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(safeName(name), "./"), "/")
	if where == "" {
		return name
	}
	return where + "!/" + name
}

// safeName returns a name with unprintable characters escaped, no longer than a path may be.
func safeName(name string) string {
	const maxName = 4096
	if len(name) > maxName {
		name = name[:maxName]
	}
	quoted := strconv.Quote(name)
	return strings.ReplaceAll(strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`), `\\`, `\`)
}

func tarMembers(r *io.SectionReader, limit int) ([]member, error) {
	var list []member
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		if len(list) == limit {
			return nil, errMembers
		}
		at, err := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		m := member{name: h.Name, time: h.ModTime, raw: io.NewSectionReader(r, at, min(h.Size, r.Size()-at))}
		var attrs []string
		for _, k := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			switch k {
			case "mtime", "atime", "ctime", "path", "linkpath", "size":
			default:
				attrs = append(attrs, k+"="+h.PAXRecords[k])
			}
		}
		m.fields = []field{
			{"type", string(rune(h.Typeflag))}, {"link target", h.Linkname}, {"mode", strconv.FormatInt(h.Mode, 8)},
			{"owner", fmt.Sprintf("%d:%d", h.Uid, h.Gid)}, {"owner name", h.Uname + ":" + h.Gname}, {"mtime", stampOf(h.ModTime)},
			{"access time", stampOf(h.AccessTime)}, {"change time", stampOf(h.ChangeTime)},
			{"device", fmt.Sprintf("%d, %d", h.Devmajor, h.Devminor)}, {"records", strings.Join(attrs, " ")},
		}
		list = append(list, m)
	}
}

func zipMembers(r *io.SectionReader, limit int) ([]member, error) {
	z, err := zip.Open(r, r.Size(), limit)
	if err != nil {
		return nil, err
	}
	list := make([]member, 0, len(z.File))
	for _, file := range z.File {
		m := member{
			name: file.Name, time: file.Modified,
			sum: fmt.Sprintf("%08x/%d", file.CRC32, file.UncompressedSize64),
		}
		m.open = func() (io.Reader, error) {
			if file.Flags&1 != 0 {
				return nil, errors.New("it is encrypted")
			}
			return file.Open()
		}
		m.fields = []field{
			{"mtime", stampOf(file.Modified)}, {"mode", fmt.Sprintf("%08x", file.ExternalAttrs)},
			{"extra field", string(zip.WithoutTimes(file.Extra))}, {"comment", file.Comment}, {"method", strconv.Itoa(int(file.Method))},
			{"version", fmt.Sprintf("%d/%d", file.CreatorVersion, file.ReaderVersion)}, {"flags", fmt.Sprintf("%04x", file.Flags)},
		}
		list = append(list, m)
	}
	return list, nil
}

func arMembers(r *io.SectionReader, limit int) ([]member, error) {
	files, err := ar.List(r, limit)
	list := make([]member, 0, len(files))
	for _, m := range files {
		list = append(list, member{
			name: m.Name, time: m.Time, raw: m.Content,
			fields: []field{{"mtime", stampOf(m.Time)}, {"owner", m.UID + ":" + m.GID}, {"mode", m.Mode}},
		})
	}
	return list, err
}

func cpioMembers(r *io.SectionReader, limit int) ([]member, error) {
	files, err := cpio.List(r, limit)
	list := make([]member, 0, len(files))
	for _, m := range files {
		list = append(list, member{
			name: m.Name, time: m.Time, raw: m.Content,
			fields: []field{
				{"inode", strconv.FormatInt(m.Inode, 10)}, {"mode", fmt.Sprintf("%06o", m.Mode)}, {"owner", fmt.Sprintf("%d:%d", m.UID, m.GID)},
				{"link count", strconv.FormatInt(m.Links, 10)}, {"mtime", stampOf(m.Time)},
				{"device", fmt.Sprintf("%d, %d, %d, %d", m.Device[0], m.Device[1], m.Device[2], m.Device[3])},
			},
		})
	}
	return list, err
}
