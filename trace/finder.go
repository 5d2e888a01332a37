package trace

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	gopath "path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/internal/decompress"
	"github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/store"
)

const (
	window   = 1 << 20 // bytes that are searched at once
	overlap  = 1 << 10 // bytes of them that are searched again, with those that follow
	small    = 4 << 10 // a text of this size is a note rather than a document
	maxLine  = 512     // bytes of a line that are compared with the build's inputs
	maxValue = overlap / 2
)

// An origin is what the text of the instructions says about the files of a layer.
type origin struct {
	line        int
	instruction string
	text        string   // of all of them
	clock       asked    // whether an instruction reads the clock
	day         bool     // an instruction has date print a day in a form that inputs have, too
	loads       bool     // an instruction downloads, or reads a repository
	facts       []Fact   // to look for
	outputs     []output // of its date commands
	cuts        bool     // it takes parts of lines
}

// clockCalls are calls in programs that read the clock.
const clockCalls = "[\"']date(?:[\"'] *, *[\"']| )[-+]|strftime|\\bdatetime\\b|\\bdate\\.today|\\bDate\\(|\\bDate\\.(?:now|today)|\\bTime\\.now|\\b(?:Local|Zoned|Offset)Date(?:Time)?\\.now|\\bInstant\\.now|\\bSys\\.(?:time|Date)\\(|\\bos\\.date|\\bdate\\([\"']|\\bsystime\\(|__DATE__|__TIMESTAMP__|[^/\\w]localtime\\b|\\bgmtime\\b|\\btime\\.(?:Now|time|now|ctime)\\b|\\bctime\\b|EPOCH(?:SECONDS|REALTIME)|\\btime\\((?:0|NULL|nullptr|None|undef|&|\\))|\\bperl\\b[^;&|]*\\btime\\b|\\bnew Date\\b|\\bos\\.time\\b|(?i:\\bcurrent_(?:date|time))|[\"']now[\"']|\\bnow\\(\\)|printf +-v|%\\(.*\\)T"

var (
	// A word "date" is a command if it has an option or is the last word of a substitution, or if a command begins there.
	readsClock = regexp.MustCompile("(?:^|[\\s;&|`(])(?:/usr)?(?:/bin/)?g?date(?:\\s*[`)]|\\s+(?:\\\\\n\\s*)?[\"']?(?:\\+|-[a-zA-Z-]))|" +
		"(?:^|[;&|`(\n{!]|\\bRUN(?:\\s+--\\S+)*|\\b(?:then|do|else|exec|env|sudo|time|command|busybox)\\b|-c[\\s\"',]+)\\s*" +
		"(?:\\w+=\\S*\\s+)*(?:/usr)?(?:/bin/)?g?date(?:$|[\\s;&|`)<>\"'])|" + clockCalls)
	// sourceReads is readsClock for a file, which may have the word in its text.
	sourceReads = regexp.MustCompile("[`(](?:/bin/|/usr/bin/)?g?date[ )`]|\\bdate +[\"']?[-+]|shell date|" + clockCalls)
	fetches     = regexp.MustCompile(`\b(?:curl|wget|git|apt|apt-get|aptitude|apk|dnf|yum|microdnf|zypper|npm|npx|yarn|pnpm|bun|pip3?|pipx|uv|poetry|conda|mamba|gem|bundle|cargo|go|mvn|gradle|composer|cpan|cpanm|luarocks|dotnet|nuget|svn|hg|rsync|scp|aria2c|fetch|helm)\b|https?://|ftp://`)
)

func newOrigin(step frontend.Step) origin {
	texts := []string{step.Text}
	for _, s := range step.From {
		texts = append(texts, s.Text)
	}
	text := strings.Join(texts, "\n")
	// If a stage made the file, the instruction that reads the clock is more telling than the COPY.
	line, instruction := step.Line, step.Text
	for _, s := range step.From {
		if s.Run && readsClock.MatchString(s.Text) {
			line, instruction = s.Line, s.Text
		}
	}
	return origin{line: line, instruction: instruction, text: text, clock: asksClock(text), day: printsDay.MatchString(text), loads: fetches.MatchString(text)}
}

var (
	// prints matches a date command that prints a year or a month.
	prints    = regexp.MustCompile(`\bdate [^;&|]*\+[^;&|]*%[YyGCmbBF]`)
	printsDay = regexp.MustCompile(prints.String() + `|\bdate [^;&|]*(?:-\w*I|--iso)`)
)

// asked says whether a step reads the clock.
type asked int

const (
	notAsked asked = iota
	reads          // it does
	printed        // it has date print the clock's year or month, and not the epoch's
)

// ReadsClock reports whether an instruction reads the clock.
func ReadsClock(text string) bool { return asksClock(text) != notAsked }

func asksClock(text string) asked {
	switch {
	case !readsClock.MatchString(text):
		return notAsked
	case prints.MatchString(text) && !strings.Contains(text, "SOURCE_DATE_EPOCH") && !strings.Contains(text, " -d") && !strings.Contains(text, "--date") && !strings.Contains(text, " -r"):
		return printed
	}
	return reads
}

// A candidate is a finding that has not been weighed.
type candidate struct {
	Finding
	origin  origin
	line    []byte // with the date
	note    bool   // the file is a small text that has no other date
	weak    bool   // the form may also be another number
	binary  bool
	inName  bool
	dropped bool
}

type finder struct {
	search Search
	dates  *dates
	facts  []Fact
	buf    []byte
}

func newFinder(s Search) *finder {
	f := &finder{search: s, dates: newDates(s.Builds, s.Zone, s.Epoch), buf: make([]byte, window)}
	for _, fact := range s.Machine {
		if len(fact.Value) > 0 && len(fact.Value) <= maxValue || fact.Digits > 0 {
			f.facts = append(f.facts, fact)
		}
	}
	return f
}

// layer searches the files of a layer.
func (f *finder) layer(ctx context.Context, st *store.Store, l store.Layer, o origin) ([]*candidate, error) {
	o.facts = slices.DeleteFunc(slices.Clone(f.facts), func(fact Fact) bool { return !o.asks(fact.Asked) })
	o.outputs, o.cuts = f.dates.outputs(commands(o.text)), cuts.MatchString(o.text)
	var found []*candidate
	count := map[string]int{}
	err := st.ReadLayer(ctx, l, func(h *tar.Header, r io.Reader) error {
		path := "/" + layer.Clean(h.Name)
		if described(path, o) {
			return nil
		}
		seen := map[string]bool{}
		add := func(c *candidate) {
			key := c.What
			if c.Kind == Timestamp {
				key = "date " + c.Text
			}
			// Warnings are counted apart: no number of them hides a date.
			class := fmt.Sprint(c.Kind, downloaded(path))
			if !seen[key] && len(seen) < maxInFile && count[class] < maxFindings {
				seen[key] = true
				count[class]++
				c.Path, c.origin = path, o
				found = append(found, c)
			}
		}
		base := gopath.Base(path)
		if name, from, to, ok := f.dates.find([]byte(base), o.clock); ok && h.Typeflag != tar.TypeLink {
			add(&candidate{Finding: Finding{Kind: Timestamp, What: name + " in its name", Text: base[from:to]}, line: []byte(base), inName: true, weak: short(name)})
		}
		if name, from, to, ok := f.dates.find([]byte(path), o.clock); ok && to == len(path) && from < len(path)-len(base) && o.clock != notAsked {
			add(&candidate{Finding: Finding{Kind: Timestamp, What: name + " in its path", Text: path[from:to]}, line: []byte(path), inName: true, weak: short(name)})
		}
		if format, part, ok := printedIn(o.outputs, base); ok {
			add(&candidate{Finding: Finding{Kind: Timestamp, What: "output of date +" + format + " in its name", Text: part}, line: []byte(base), inName: true, weak: true})
		}
		for _, fact := range o.facts {
			if len(fact.Asked) == 0 && fact.names(base) {
				add(&candidate{Finding: Finding{Kind: Machine, What: fact.Name}, inName: true})
			}
		}
		if h.Typeflag == tar.TypeSymlink {
			f.scan([]byte(h.Linkname), true, o, add)
			return nil
		}
		if h.Typeflag != tar.TypeReg || h.Size == 0 {
			return nil
		}
		return f.file(h.Size, r, o, add)
	})
	return found, err
}

// maxInFile bounds what is weighed of a file, which may have a date that counts beside some that do not.
const maxInFile = 16

// Limits on what is read of compressed files.
const (
	maxInside  = 64 << 20
	maxZip     = 16 << 20
	maxMembers = 10_000
)

// formats are those of a compressed file.
const formats = decompress.Gzip | decompress.Zstd | decompress.Bzip2 | decompress.XZ

// file searches the content of a file, which has size bytes. It looks into a compressed one; what cannot be read
// of it is left out.
func (f *finder) file(size int64, r io.Reader, o origin, add func(*candidate)) error {
	br := bufio.NewReaderSize(r, 4<<10)
	head, err := br.Peek(8)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch {
	case isZip(head) && size <= maxZip:
		content, err := io.ReadAll(br)
		if err != nil {
			return err
		}
		f.scan(content, false, o, add)
		f.memberDates(content, o, add)
		members(content, func(name string, r io.Reader) { f.inside(r, "in "+name, o, add) })
		return nil
	case decompress.Detect(head)&formats != 0:
		f.scan(bytes.Clone(head), false, o, add)
		s, err := decompress.Open(br, formats)
		if err != nil {
			return nil
		}
		defer s.Close()
		f.inside(io.LimitReader(s, maxInside), "compressed", o, add)
		return nil
	}
	return f.content(size, br, o, add)
}

// unknownSize stands for the size of decompressed content.
const unknownSize = 1 << 62

// inside searches the decompressed content of a file, until it cannot be read.
func (f *finder) inside(r io.Reader, where string, o origin, add func(*candidate)) {
	_ = f.content(unknownSize, r, o, func(c *candidate) {
		if c.Kind == Timestamp {
			c.What += ", " + where
		}
		c.binary = true
		add(c)
	})
}

// memberDates looks at the times of the members of a zip archive that begin a day, in a step that reads the clock.
func (f *finder) memberDates(content []byte, o origin, add func(*candidate)) {
	z, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil || o.clock == notAsked {
		return
	}
	for _, m := range z.File[:min(len(z.File), maxMembers)] {
		text := m.Modified.Format(time.DateOnly)
		if _, _, _, ok := f.dates.find([]byte(text), notAsked); ok && m.Modified.Equal(m.Modified.Truncate(24*time.Hour)) {
			add(&candidate{Finding: Finding{Kind: Timestamp, What: "date of " + m.Name, Text: text}, line: []byte(text), binary: true})
			return
		}
	}
}

// members calls fn for each member of a zip archive, such as a jar, within the limits.
func members(content []byte, fn func(name string, r io.Reader)) {
	z, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return
	}
	left := int64(maxInside)
	for _, m := range z.File[:min(len(z.File), maxMembers)] {
		r, err := m.Open()
		if err != nil {
			continue
		}
		counted := &io.LimitedReader{R: r, N: left}
		fn(m.Name, counted)
		left = counted.N
		r.Close()
	}
}

// unpacked calls fn with the content of a file, and with what it has inside if it is compressed.
func unpacked(content []byte, fn func([]byte)) {
	fn(content)
	open := func(r io.Reader) {
		if part, _ := io.ReadAll(io.LimitReader(r, maxInput)); len(part) > 0 {
			fn(part)
		}
	}
	switch {
	case isZip(content):
		members(content, func(_ string, r io.Reader) { open(r) })
	case decompress.Detect(content[:min(len(content), 8)])&formats != 0:
		if s, err := decompress.Open(bytes.NewReader(content), formats); err == nil {
			open(s)
			s.Close()
		}
	}
}

func isZip(content []byte) bool { return bytes.HasPrefix(content, []byte("PK\x03\x04")) }

// content searches bytes as they are.
func (f *finder) content(size int64, r io.Reader, o origin, add func(*candidate)) error {
	have := 0
	for {
		n, err := io.ReadFull(r, f.buf[have:])
		have += n
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return err
		}
		f.scan(f.buf[:have], end && size <= window, o, add)
		if end {
			return nil
		}
		copy(f.buf, f.buf[have-overlap:have])
		have = overlap
	}
}

// scan searches bytes. whole says that they are a whole file.
func (f *finder) scan(buf []byte, whole bool, o origin, add func(*candidate)) {
	text := whole && len(buf) <= small && bytes.IndexByte(buf, 0) < 0
	found := 0
	if whole && o.clock != notAsked {
		for _, number := range numbersIn(buf) {
			name, part, ok := f.dates.part([]byte(number), o.clock)
			if !ok && len(number) >= len("1000000000") {
				name, _ = f.dates.number([]byte(number), 0)
				part, ok = number, name != ""
			}
			if ok {
				add(&candidate{Finding: Finding{Kind: Timestamp, What: name + ", in binary", Text: part}, line: []byte(part), note: true, weak: true, binary: true})
				found++
				break
			}
		}
	}
	for at := 0; found < maxInFile; found++ {
		name, from, to, ok := f.dates.find(buf[at:], o.clock)
		if !ok {
			break
		}
		from, to, at = at+from, at+to, at+to
		isBinary := bytes.IndexByte(buf[max(0, from-small):min(len(buf), to+small)], 0) >= 0
		add(&candidate{
			Finding: Finding{Kind: Timestamp, What: name, Text: printable(buf[from:to])},
			line:    line(buf, from, to), binary: isBinary,
			note: text && !f.dates.otherDays(buf), weak: short(name),
		})
	}
	if found == 0 && text {
		name, part, ok := f.dates.part(buf, o.clock)
		short := false
		if !ok || (name == "week" || name == "day of the year") && !asksDay.MatchString(o.text) {
			name, part, short, ok = printedBy(o.outputs, buf, o.cuts)
			name = "output of " + name
		}
		if ok {
			at := max(0, bytes.Index(buf, []byte(part)))
			add(&candidate{Finding: Finding{Kind: Timestamp, What: name, Text: part}, line: line(buf, at, min(len(buf), at+len(part))), note: !short, weak: true})
		}
	}
	for _, fact := range o.facts {
		if fact.matches(buf, whole, o.text) {
			add(&candidate{Finding: Finding{Kind: Machine, What: fact.Name}})
		}
	}
}

// asksDay matches a step that may ask for a week or a day of the year: a short number may be anything.
var asksDay = regexp.MustCompile(`%|yday|localtime|gmtime|isocalendar|timetuple|DAYOFYEAR|\bWEEK\b`)

// printable returns a date as text, or in hexadecimal.
func printable(date []byte) string {
	if bytes.ContainsFunc(date, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f }) {
		return hex.EncodeToString(date)
	}
	return strings.TrimSpace(string(date))
}

// numbersIn returns what a few bytes mean as an integer or a floating-point number, in decimal.
func numbersIn(buf []byte) []string {
	var all []string
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch len(buf) {
		case 2:
			all = append(all, fmt.Sprint(order.Uint16(buf)))
		case 4:
			all = append(all, fmt.Sprint(order.Uint32(buf)))
		case 8:
			all = append(all, fmt.Sprint(order.Uint64(buf)), fmt.Sprintf("%.0f", math.Float64frombits(order.Uint64(buf))))
		}
	}
	return slices.DeleteFunc(all, func(s string) bool { return len(s) < len("1000") })
}

// line returns the line that buf[from:to] is in, or a part of it.
func line(buf []byte, from, to int) []byte {
	start := bytes.LastIndexByte(buf[:from], '\n') + 1
	end := len(buf)
	if i := bytes.IndexByte(buf[to:], '\n'); i >= 0 {
		end = to + i
	}
	start, end = max(start, from-maxLine/2), min(end, to+maxLine/2)
	return bytes.Clone(bytes.TrimSpace(buf[start:end]))
}

func (f Fact) matches(buf []byte, whole bool, instruction string) bool {
	if len(f.Asked) > 0 {
		return whole && len(buf) <= small && f.alone(string(buf), instruction)
	}
	for start := 0; ; {
		i := bytes.Index(buf[start:], []byte(f.Value))
		if i < 0 {
			return false
		}
		i += start
		end := i + len(f.Value)
		if (!wordAt(buf, i-1) || bytes.HasSuffix(buf[:i], []byte("Linux-"))) && (!wordAt(buf, end) || architecture.Match(buf[end:])) {
			return true
		}
		start = end
	}
}

// architecture is what Python writes behind the kernel's release.
var architecture = regexp.MustCompile(`^-(?:x86_64|aarch64|armv7l|i686|ppc64le|s390x|riscv64)\b`)

// names reports whether a name has the value.
func (f Fact) names(base string) bool {
	before, after, ok := strings.Cut(base, f.Value)
	return ok && !digitAt([]byte(before), len(before)-1) && !digitAt([]byte(after), 0) && !strings.HasSuffix(before, ".")
}

// parallel is an option with which a program runs as many jobs as there are CPUs. Its output has no number.
var parallel = regexp.MustCompile("(?:-j|--jobs|--parallel|-l|-T|--threads|MAKEFLAGS)[ =]?[\"']?(?:-j)?[\"']?(?:\\$\\(|`)[^)`]*[)`]")

// asks reports whether one of some regular expressions matches an instruction, or there are none.
func (o origin) asks(words []string) bool {
	text := parallel.ReplaceAllString(o.text, "")
	return len(words) == 0 || slices.ContainsFunc(words, func(w string) bool {
		re, err := regexp.Compile(w)
		return err == nil && re.MatchString(text)
	})
}

// alone reports whether a line of a text is the value, or assigns it. A value that is not known must not be in the
// instruction.
func (f Fact) alone(text, instruction string) bool {
	const long = 7
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if f.Digits > 0 && strings.Contains(instruction, line) {
			continue
		}
		if len(f.Value) >= long && slices.ContainsFunc(strings.Fields(line), func(w string) bool { return w == f.Value || strings.HasPrefix(w, f.Value+"/") }) {
			return true
		}
		if f.Digits > 0 {
			if slices.ContainsFunc(strings.Fields(line), func(w string) bool { return len(w) >= f.Digits && strings.Trim(w, "0123456789") == "" }) {
				return true
			}
			continue
		}
		value := line
		if i := strings.LastIndexAny(line, "=:"); i >= 0 {
			value = strings.Trim(line[i+1:], " \"',;")
		}
		if line == f.Value || value == f.Value {
			return true
		}
	}
	return false
}

// wordAt reports whether the byte at an index continues a word or a version.
func wordAt(buf []byte, i int) bool {
	if i < 0 || i >= len(buf) {
		return false
	}
	c := buf[i]
	if c == '.' || c == '-' { // the end of a sentence, or the next part of a version
		return i+1 < len(buf) && buf[i+1] > ' '
	}
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// described reports whether a path belongs to the description of packages, which have dates of their own.
func described(path string, o origin) bool {
	for _, prefix := range []string{"/usr/share/doc/", "/usr/share/man/"} {
		if strings.HasPrefix(path, prefix) {
			return o.clock == notAsked || !strings.Contains(o.text, prefix)
		}
	}
	for _, prefix := range []string{"/var/lib/dpkg/", "/var/lib/apt/", "/var/cache/apt/", "/var/cache/debconf/", "/lib/apk/", "/usr/lib/apk/", "/var/cache/apk/", "/var/lib/rpm/", "/usr/lib/sysimage/", "/var/cache/dnf/", "/var/lib/dnf/"} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// downloaded reports whether a path is in a folder that package managers fill.
func downloaded(path string) bool {
	for _, part := range []string{"/node_modules/", "/site-packages/", "/dist-packages/", "/gems/", "/pkg/mod/", "/registry/src/", "/.git/", "/vendor/", "/.m2/", "/.gradle/", "/.nuget/", "/.rustup/", "/.cargo/", "/.npm/", "/.cache/"} {
		if strings.Contains(path, part) {
			return true
		}
	}
	return false
}
