// Package cause finds out why two versions of a file differ, by their content: it opens archives, and knows
// the formats in which builds write times, names and random numbers. If it finds no cause, it says so.
// Files are hostile input: the package bounds everything it does with them, and runs nothing.
package cause

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A File is one version of a file with its metadata, as in a tar header.
type File struct {
	Content      io.ReaderAt // nil if there is none, as for a directory
	Size         int64       // of Content
	Type         byte        // as tar.TypeReg; 0 is a regular file
	Mode         int64       // permissions, setuid, setgid and sticky
	UID, GID     int
	Xattrs       map[string]string
	Linkname     string
	ModTime      time.Time
	Major, Minor int64 // of a device
}

// FileOf returns the File that a tar header describes.
func FileOf(h *tar.Header, content io.ReaderAt) *File {
	const prefix = "SCHILY.xattr."
	f := &File{
		Content: content, Size: h.Size, Type: h.Typeflag, Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid,
		Linkname: h.Linkname, ModTime: h.ModTime, Major: h.Devmajor, Minor: h.Devminor,
	}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, prefix); ok {
			if f.Xattrs == nil {
				f.Xattrs = map[string]string{}
			}
			f.Xattrs[name] = v
		}
	}
	return f
}

// Hints are facts about the two builds. Each of them may be missing; with them, fewer causes are missed.
type Hints struct {
	First, Second Window
	Hostnames     [2]string // of the first and the second build
	Varied        Varied
	// Caches are the targets of the cache mounts that the step had, and that were empty when the second build
	// began.
	Caches []string
}

// Varied says what kedge changed for the second build. The zero value is nothing.
type Varied struct {
	CPUs   int      // the number of processors, fewer than before
	Umasks [2]int64 // of the first and the second build
	Locale string   // LC_ALL, a locale in UTF-8
}

// A Window is the time in which a build ran. The zero value is an unknown one.
type Window struct {
	From time.Time
	To   time.Time
}

func (w Window) known() bool { return !w.From.IsZero() && !w.To.IsZero() }

// holds reports whether t is in w, or at most slack away from it.
func (w Window) holds(t time.Time, slack time.Duration) bool {
	return w.known() && !t.Before(w.From.Add(-slack)) && !t.After(w.To.Add(slack))
}

// A Clock is the origin of a time.
type Clock string

// The clocks of a Cause.
const (
	BuildClock Clock = "build" // the time is in the window of each build, or a whole number of days from it
	FileClock  Clock = "file"  // the modification time of the file that holds it
)

// A Cause is one reason why two versions differ.
type Cause struct {
	Kind Kind
	// Where is the path of a member within nested containers, as in "data.tar.xz!/usr/bin/x" for a
	// .deb; empty for the file itself. Compression alone adds nothing to it.
	Where string
	// Offset is the first byte that differs for this cause, in the first version of what Where names,
	// uncompressed; -1 if the cause is not in the content.
	Offset int64
	// First and Second are short printable excerpts of both versions: nothing of a private key, and at most
	// four characters of anything else that looks like a secret.
	First  string
	Second string
	Why    string // one sentence
	Fix    string // how to avoid it, one sentence
	// Format is the form of what differs: "RFC 3339" of a time, "tar mtime" of an archive. For a name that only
	// one build has, it is what the name holds: "date", "uuid", "hex" or "temporary".
	Format string
	Clock  Clock // of a time; empty if unknown
	Count  int   // places with this cause, at least 1; the other fields describe the first
}

const (
	maxDepth  = 8        // of nested containers
	maxCauses = 100      // the others add to the Count of their kind
	maxSpans  = 64       // differing ranges to explain in one file
	maxPlaces = 10_000   // to explain in a file and all that it contains
	maxWhole  = 16 << 20 // bytes of a file that a detector may read at once
)

// Find returns why two versions of the file called name differ, the causes that explain most first; none if
// the versions are equal. A nil File is an absent one. Find explains the first 64 differing ranges of a file
// (of each page of a table in pages) and 10,000 ranges in all. It opens containers up to a depth of 8 and
// 1 GiB in all; others have the cause Unopened. An error means that a file could not be read or ctx ended: no
// content of a file makes Find fail.
func Find(ctx context.Context, name string, first, second *File, h Hints) ([]Cause, error) {
	f := &finder{ctx: ctx, hints: h, seen: map[key]int{}}
	switch {
	case first == nil && second == nil:
		return nil, nil
	case first == nil || second == nil:
		f.oneBuildOnly(name, "", first != nil)
	default:
		f.file(name, first, second)
	}
	if f.err != nil {
		return nil, fmt.Errorf("looking for the cause in %q: %w", name, f.err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("looking for the cause in %q: %w", name, err)
	}
	f.cacheMounts()
	// Causes that explain nothing come last.
	slices.SortStableFunc(f.causes, func(a, b Cause) int { return cmp.Compare(rank(a.Kind), rank(b.Kind)) })
	return f.causes, nil
}

// cacheMounts blames the cache mounts of the step, which may have held files in the first build alone, for
// differences without another cause.
func (f *finder) cacheMounts() {
	unexplained := func(c Cause) bool { return c.Kind == Unknown || c.Kind == OneBuildOnly && c.Format == "" }
	known := slices.ContainsFunc(f.causes, func(c Cause) bool { return rank(c.Kind) == 0 && !unexplained(c) })
	if len(f.hints.Caches) == 0 || known {
		return
	}
	for i, c := range f.causes {
		if unexplained(c) {
			d := describe(CacheMount)
			c.Kind, c.Format, c.Fix = CacheMount, strings.Join(f.hints.Caches, " "), d.Fix
			c.Why = "The step has the cache mount " + printable([]byte(c.Format)) + ", which was empty when the second build began; no other known cause explains the difference."
			f.causes[i] = c
		}
	}
}

func rank(k Kind) int {
	switch k {
	case Unknown:
		return 2
	case Unopened, BuildID, FileTime:
		return 1
	}
	return 0
}

// finder collects the causes of one pair of files.
type finder struct {
	ctx    context.Context //nolint:containedctx // a finder lives as long as one Find
	hints  Hints
	causes []Cause
	seen   map[key]int
	err    error // of reading the two files

	inflated int64 // bytes that came out of containers
	memory   int64 // of these bytes, those in memory now
	members  int   // of all containers
	places   int   // that were explained
}

// A key identifies a cause: causes with the same key are counted as one.
type key struct {
	kind               Kind
	where, format, why string
	clock              Clock
}

// add records a cause. If its Why or Fix is empty, that of its kind replaces it.
func (f *finder) add(c Cause) {
	d := describe(c.Kind)
	c.Why, c.Fix = cmp.Or(c.Why, d.Why), cmp.Or(c.Fix, d.Fix)
	c.Count = max(c.Count, 1)
	if slices.Contains(shortenedKinds, c.Kind) {
		c.First, c.Second = shorten(c.First, c.Second)
	}
	k := key{c.Kind, c.Where, c.Format, c.Why, c.Clock}
	if len(f.causes) >= maxCauses {
		k = key{kind: c.Kind}
	}
	if i, ok := f.seen[k]; ok {
		f.causes[i].Count += c.Count
		return
	}
	f.seen[k] = len(f.causes)
	if _, ok := f.seen[key{kind: c.Kind}]; !ok {
		f.seen[key{kind: c.Kind}] = len(f.causes)
	}
	f.causes = append(f.causes, c)
}

// stopped reports whether the search has ended with an error.
func (f *finder) stopped() bool { return f.err != nil || f.ctx.Err() != nil }

func (f *finder) oneBuildOnly(name, where string, first bool) {
	c := Cause{Kind: OneBuildOnly, Where: where, Offset: -1}
	which := "second"
	if first {
		which = "first"
		c.First = printable([]byte(name))
	} else {
		c.Second = printable([]byte(name))
	}
	c.Why = "Only the " + which + " build has this file."
	switch base := path.Base(name); {
	case uuidName.MatchString(base):
		c.Format, c.Why = "uuid", "Only the "+which+" build has this file; its name holds a UUID."
	case dateName.MatchString(base):
		c.Format, c.Why = "date", "Only the "+which+" build has this file; its name holds a date."
	case tempName.MatchString(name):
		c.Format, c.Why = "temporary", "Only the "+which+" build has this file; its name is that of a temporary file."
	case hexName.MatchString(base):
		c.Format, c.Why = "hex", "Only the "+which+" build has this file; its name holds a hash or a random number."
	}
	f.add(c)
}

// file compares the metadata and then the content of a file.
func (f *finder) file(name string, a, b *File) {
	if kindOf(a) != kindOf(b) {
		f.add(Cause{Kind: FileType, Offset: -1, First: kindOf(a), Second: kindOf(b)})
		return
	}
	for _, m := range []struct {
		kind          Kind
		first, second string
	}{
		{LinkTarget, a.Linkname, b.Linkname},
		{Mode, strconv.FormatInt(a.Mode, 8), strconv.FormatInt(b.Mode, 8)},
		{Owner, fmt.Sprintf("%d:%d", a.UID, a.GID), fmt.Sprintf("%d:%d", b.UID, b.GID)},
		{Xattrs, xattrs(a.Xattrs, b.Xattrs), xattrs(b.Xattrs, a.Xattrs)},
		{Device, fmt.Sprintf("%d, %d", a.Major, a.Minor), fmt.Sprintf("%d, %d", b.Major, b.Minor)},
	} {
		if m.first == m.second && (m.kind != Xattrs || maps.Equal(a.Xattrs, b.Xattrs)) {
			continue
		}
		c := Cause{Kind: m.kind, Offset: -1, First: printable([]byte(m.first)), Second: printable([]byte(m.second))}
		switch {
		case m.kind == LinkTarget:
			f.linkTarget(&c, a.Linkname, b.Linkname)
		case m.kind == Mode && f.masked(a.Mode, b.Mode):
			f.ofUmask(&c)
		}
		f.add(c)
	}
	if a.Content != nil && b.Content != nil {
		f.content(pair{
			name: name, first: f.section(a), second: f.section(b),
			times: [2]time.Time{a.ModTime, b.ModTime},
		})
	}
	if !a.ModTime.Equal(b.ModTime) {
		c := Cause{
			Kind: FileTime, Offset: -1, Format: "mtime",
			First: a.ModTime.UTC().Format(time.RFC3339Nano), Second: b.ModTime.UTC().Format(time.RFC3339Nano),
			Clock: f.clock(a.ModTime, b.ModTime, 2*time.Second, [2]time.Time{}),
		}
		if len(f.causes) > 0 {
			c.Why = "Each build wrote the file at another time."
		}
		f.add(c)
	}
}

// linkTarget adds to c what differs in the target of a link, if it is known.
func (f *finder) linkTarget(c *Cause, first, second string) {
	g := &finder{ctx: f.ctx, hints: f.hints, seen: map[key]int{}}
	g.content(pair{first: sectionOf([]byte(first)), second: sectionOf([]byte(second))})
	if len(g.causes) > 0 && g.causes[0].Kind != Unknown {
		c.Format = string(g.causes[0].Kind)
		c.Why = "The target of the link holds something that differs: " + lowerFirst(describe(g.causes[0].Kind).What)
	}
}

func kindOf(f *File) string {
	switch f.Type {
	case 0, tar.TypeReg, '7', tar.TypeGNUSparse:
		return "file"
	case tar.TypeDir:
		return "directory"
	case tar.TypeSymlink:
		return "symbolic link"
	case tar.TypeLink:
		return "hard link"
	case tar.TypeChar:
		return "character device"
	case tar.TypeBlock:
		return "block device"
	case tar.TypeFifo:
		return "fifo"
	}
	return "type " + strconv.Quote(string(rune(f.Type)))
}

// xattrs lists the attributes of a that b has not.
func xattrs(a, b map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if v, ok := b[k]; !ok || v != a[k] {
			list = append(list, k+"="+strconv.Quote(a[k]))
		}
	}
	return strings.Join(list, " ")
}

// A pair is two versions of one content.
type pair struct {
	name          string // the path, or the name of the member
	where         string
	first, second *io.SectionReader
	times         [2]time.Time // modification times of the file that holds it; zero if unknown
	depth         int
}

// content explains why two contents differ, if they do.
func (f *finder) content(p pair) {
	if f.stopped() {
		return
	}
	spans := f.spans(p.first, p.second)
	if len(spans) == 0 || f.stopped() {
		return
	}
	head1, head2 := readAt(p.first, 0, headSize), readAt(p.second, 0, headSize)
	for _, c := range containers {
		if !c.is(head1) || !c.is(head2) {
			continue
		}
		before := len(f.causes)
		counts := f.total()
		if err := c.open(f, p); err != nil && !f.stopped() {
			f.unopened(p, spans[0], err)
		} else if len(f.causes) == before && f.total() == counts && !f.stopped() {
			f.add(Cause{
				Kind: ArchiveHeader, Where: p.where, Offset: spans[0].a, Format: c.name,
				First: excerptAt(p.first, spans[0].a), Second: excerptAt(p.second, spans[0].b),
				Why: "All members and their metadata are equal; the form of the " + c.name + " itself differs.",
			})
		}
		return
	}
	for _, detect := range formats {
		if detect(f, p, spans) || f.stopped() {
			return
		}
	}
	f.explain(p, spans)
}

// total returns the number of places that have a cause.
func (f *finder) total() (n int) {
	for _, c := range f.causes {
		n += c.Count
	}
	return n
}

func (f *finder) unopened(p pair, at span, err error) {
	f.add(Cause{
		Kind: Unopened, Where: p.where, Offset: at.a,
		Why: "kedge did not open it: " + strings.TrimSuffix(printable([]byte(err.Error())), ".") + ".",
	})
}

// formats are the detectors that know a whole format, in the order in which they are tried. A detector that
// returns true has explained all differences.
var formats []func(f *finder, p pair, spans []span) bool

func init() {
	// The detectors call content, which uses formats: a variable cannot be initialised that way.
	formats = []func(f *finder, p pair, spans []span) bool{
		(*finder).keys, (*finder).keystore, (*finder).machineID, (*finder).pyc, (*finder).sqlite,
		(*finder).database, (*finder).ariaData, (*finder).view, (*finder).slapdConfig, (*finder).bufferPool,
		(*finder).texFormat, (*finder).texLog, (*finder).texFiles, (*finder).statCache, (*finder).elf, (*finder).packageLog, (*finder).order,
	}
}

// section returns the content of a file; an error in reading it ends the search.
func (f *finder) section(file *File) *io.SectionReader {
	return io.NewSectionReader(&checked{file.Content, f}, 0, max(file.Size, 0))
}

type checked struct {
	r io.ReaderAt
	f *finder
}

func (c *checked) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) && c.f.err == nil {
		c.f.err = err
	}
	return n, err
}
