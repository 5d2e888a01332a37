package cause

import (
	"bytes"
	"io"
	"regexp"
	"time"
	"unicode/utf8"
)

// A window is the content around a difference in both versions.
type window struct {
	a, b         []byte
	at, bt       int   // start of the difference in a and b
	ae, be       int   // its end
	off          int64 // offset of a in the first version
	spanA, spanB int   // length of the difference, also beyond the window
	binary       bool  // the content is not text
	compiled     bool  // it comes from a content that is not text
	bytes        bool  // the differing bytes are not text
	times        [2]time.Time
	name         string
	lower        []byte // the cache of near
}

// A found is a cause and the ranges of the two windows that it explains.
type found struct {
	cause Cause
	a, b  [2]int
}

const (
	before = 192 // bytes of a window before the difference
	after  = 320
)

// match returns the matches of re that cover the start of the difference in both windows.
func (w *window) match(re *regexp.Regexp) (a, b [2]int, ok bool) {
	a, ok = covering(re, w.a, w.at)
	if !ok {
		return a, b, false
	}
	b, ok = covering(re, w.b, w.bt)
	if !ok || bytes.Equal(w.a[a[0]:a[1]], w.b[b[0]:b[1]]) {
		return a, b, false
	}
	// The matches must begin at the same place, at or before the difference.
	return a, b, w.at-a[0] == w.bt-b[0] && (a[1] > w.at || b[1] > w.bt)
}

// reach is how far a match may extend to both sides of the start of the difference.
const reach = 112

func covering(re *regexp.Regexp, s []byte, at int) ([2]int, bool) {
	from, to := max(at-reach, 0), min(at+reach, len(s))
	for from < to {
		m := re.FindIndex(s[from:to])
		if m == nil || from+m[0] > at {
			break
		}
		if from+m[1] >= at {
			return [2]int{from + m[0], from + m[1]}, true
		}
		from += max(m[1], 1)
	}
	return [2]int{}, false
}

// near reports whether one of the strings, which are in lower case, occurs around the difference in any case.
// It saves trying patterns, which are slow.
func (w *window) near(list ...string) bool {
	if w.lower == nil {
		w.lower = bytes.ToLower(w.a[max(w.at-reach, 0):min(w.at+reach, len(w.a))])
	}
	for _, s := range list {
		if bytes.Contains(w.lower, []byte(s)) {
			return true
		}
	}
	return false
}

// digits counts the digits around the difference.
func (w *window) digits() (n int) {
	for _, c := range w.a[max(w.at-32, 0):min(w.at+32, len(w.a))] {
		if c >= '0' && c <= '9' {
			n++
		}
	}
	return n
}

// tokens are the detectors that explain one place, in the order in which they are tried. One that is surer
// than another, or whose matches contain those of another, comes first.
var tokens = []func(f *finder, w *window) (found, bool){
	(*finder).hinted,
	(*finder).secretKey,
	(*finder).list,
	(*finder).uuid,
	(*finder).stamp,
	(*finder).temp,
	(*finder).duration,
	(*finder).varied,
	(*finder).documentID,
	(*finder).processID,
	(*finder).inode,
	(*finder).cpu,
	(*finder).hostname,
	(*finder).address,
	(*finder).url,
	(*finder).random,
	(*finder).path,
	(*finder).locale,
}

// explain explains each differing range of two contents of an unknown format.
func (f *finder) explain(p pair, spans []span) {
	f.explainIn(p, spans, func(int64) string { return "" })
}

// explainIn is explain for a content with parts: section returns the name of the part at an offset.
func (f *finder) explainIn(p pair, spans []span, section func(off int64) string) {
	binary := !isText(readAt(p.first, 0, headSize)) || !isText(readAt(p.second, 0, headSize))
	known := false
	var rest []span
	for n, s := range spans {
		if f.stopped() {
			return
		}
		for steps := 0; s.a < s.aEnd || s.b < s.bEnd; steps++ {
			if f.places++; f.places > maxPlaces {
				rest = append(rest, s)
				break
			}
			w := f.windowAt(p, s, binary)
			hit, ok := f.token(w)
			if !ok || steps == maxSpans {
				rest = append(rest, s)
				break
			}
			known = true
			c := hit.cause
			if c.First == "" && c.Second == "" && moved(p, c.Kind, w.a[hit.a[0]:hit.a[1]], w.b[hit.b[0]:hit.b[1]]) {
				c = Cause{Kind: Order, Format: "records", Why: "The same records are in another order."}
			}
			c.Where, c.Offset = p.where, s.a+int64(hit.a[0]-w.at)
			if c.First == "" && c.Second == "" {
				c.First, c.Second = excerpts(w.a[hit.a[0]:hit.a[1]], w.b[hit.b[0]:hit.b[1]])
			}
			if name := section(c.Offset); name != "" && c.Why == "" {
				c.Why = describe(c.Kind).Why
			}
			f.add(c)
			s = f.after(p, s, w, hit)
		}
		// The token may extend into the ranges that follow.
		for m := n + 1; m < len(spans); m++ {
			if spans[m].a < s.a && spans[m].aEnd > s.a {
				d := s.a - spans[m].a
				spans[m].a, spans[m].b = s.a, min(spans[m].b+d, spans[m].bEnd)
			} else if spans[m].aEnd <= s.a && spans[m].bEnd <= s.b {
				spans[m].a, spans[m].b = spans[m].aEnd, spans[m].bEnd
			}
		}
	}
	f.unknown(p, rest, known, section)
}

// moved reports whether each of two tokens occurs in the other content as well: the records that hold them
// are in another order.
func moved(p pair, k Kind, first, second []byte) bool {
	const maxContent, minToken = 256 << 10, 8
	switch k {
	case BuildPath, TempName, UUID, Random:
	default:
		return false
	}
	if len(first) < minToken || len(second) < minToken || p.first.Size() > maxContent || p.second.Size() > maxContent {
		return false
	}
	a, ok1 := whole(p.first)
	b, ok2 := whole(p.second)
	return ok1 && ok2 && bytes.Contains(a, second) && bytes.Contains(b, first)
}

// after returns the rest of a range after a token that was explained.
func (f *finder) after(p pair, s span, w *window, hit found) span {
	i, j := s.a+int64(hit.a[1]-w.at), s.b+int64(hit.b[1]-w.bt)
	if i <= s.a && j <= s.b {
		return span{s.aEnd, s.aEnd, s.bEnd, s.bEnd} // never happens; ends the loop
	}
	for i < s.aEnd && j < s.bEnd {
		x, y := readAt(p.first, i, min(s.aEnd-i, chunk)), readAt(p.second, j, min(s.bEnd-j, chunk))
		k := common(x, y)
		i, j = i+int64(k), j+int64(k)
		if k == 0 || k < len(x) || k < len(y) {
			break
		}
	}
	if i >= s.aEnd && j >= s.bEnd {
		return span{i, i, j, j}
	}
	return span{i, max(i, s.aEnd), j, max(j, s.bEnd)}
}

func (f *finder) token(w *window) (found, bool) {
	if w.bytes {
		if hit, ok := f.address(w); ok {
			return hit, true
		}
		if hit, ok := f.binaryTime(w); ok {
			return hit, true
		}
	}
	for _, detect := range tokens {
		if hit, ok := detect(f, w); ok {
			if (hit.cause.Kind == Timestamp || hit.cause.Kind == BuildPath) && w.near("/.cpanm/work/") {
				hit.cause = Cause{
					Kind: BuildPath,
					Why:  "cpanm builds in a folder that is named after the time, and debug information holds its path.",
					Fix:  "Omit debug information: PERL_MM_OPT=OPTIMIZE=-O2 cpanm.",
				}
			}
			return hit, true
		}
	}
	if w.binary && !w.bytes {
		return f.binaryTime(w) // some numbers look like text
	}
	return found{}, false
}

func (f *finder) windowAt(p pair, s span, binary bool) *window {
	lead := min(s.a, s.b, before)
	w := &window{
		a: readAt(p.first, s.a-lead, lead+after), b: readAt(p.second, s.b-lead, lead+after),
		at: int(lead), bt: int(lead), off: s.a - lead, binary: binary, compiled: binary, times: p.times, name: p.name,
		spanA: int(s.aEnd - s.a), spanB: int(s.bEnd - s.b),
	}
	w.at, w.bt = min(w.at, len(w.a)), min(w.bt, len(w.b))
	w.ae = min(w.at+int(min(s.aEnd-s.a, after)), len(w.a))
	w.be = min(w.bt+int(min(s.bEnd-s.b, after)), len(w.b))
	w.bytes = !isText(w.a[w.at:w.ae]) || !isText(w.b[w.bt:w.be])
	if !w.bytes && binary {
		// The difference may be a few letters in the middle of numbers.
		w.bytes = !lettersAround(w.a, w.at, w.ae) || !lettersAround(w.b, w.bt, w.be)
	}
	return w
}

// lettersAround reports whether the difference is part of at least four printable bytes.
func lettersAround(s []byte, at, end int) bool {
	for at > 0 && graphic(s[at-1]) {
		at--
	}
	for end < len(s) && graphic(s[end]) {
		end++
	}
	return end-at >= 4
}

func graphic(c byte) bool { return c >= ' ' && c < 0x7f || c == '\n' || c == '\t' }

// unknown adds the cause of the ranges that nothing explains.
func (f *finder) unknown(p pair, rest []span, known bool, section func(off int64) string) {
	var left []span
	for _, s := range rest {
		if s.a < s.aEnd || s.b < s.bEnd {
			left = append(left, s)
		}
	}
	if len(left) == 0 {
		return
	}
	if (!isText(readAt(p.first, 0, headSize)) || !isText(readAt(p.second, 0, headSize))) && f.strays(p, left) {
		known = true
	}
	s := left[0]
	c := Cause{Kind: Unknown, Where: p.where, Offset: s.a, Count: len(left)}
	w := f.windowAt(p, s, false)
	lead := min(w.at, w.bt, 8)
	c.First, c.Second = printable(w.a[w.at-lead:max(w.ae, w.at)]), printable(w.b[w.bt-lead:max(w.be, w.bt)])
	if name := section(s.a); name != "" {
		c.Format = name
	}
	switch a, b := p.first.Size(), p.second.Size(); {
	case f.places > maxPlaces:
		c.Why = "So many places differ that kedge did not look at these."
	case known:
		c.Why = "Other bytes differ as well, and no known cause explains them; they may follow from the other causes."
	case a == 0 || b == 0:
		c.Why = "One build left the file empty."
	case s.a == s.aEnd || s.b == s.bEnd:
		c.Why = "One side has something that the other lacks, and no known cause explains it."
	}
	f.add(c)
}

// strays explains strings that only one side has, wherever they are: a linker sorts strings by their hashes.
// It reports whether it found a cause.
func (f *finder) strays(p pair, rest []span) (any bool) {
	const maxRead, maxPairs = 64 << 10, 16
	type stray struct {
		text []byte
		off  int64
	}
	only := func(r *io.SectionReader, from func(span) (int64, int64), other map[string]bool) (list []stray, all map[string]bool) {
		all = map[string]bool{}
		for _, s := range rest {
			at, end := from(s)
			b := readAt(r, at-before, min(end-at, maxRead)+before+after)
			base := max(at-before, 0)
			for _, m := range stringText.FindAllIndex(b, -1) {
				t := b[m[0]:m[1]]
				if all[string(t)] {
					continue
				}
				all[string(t)] = true
				if other != nil && !other[string(t)] {
					list = append(list, stray{t, base + int64(m[0])})
				}
			}
		}
		return list, all
	}
	ofFirst := func(s span) (int64, int64) { return s.a, s.aEnd }
	ofSecond := func(s span) (int64, int64) { return s.b, s.bEnd }
	_, all := only(p.first, ofFirst, nil)
	second, others := only(p.second, ofSecond, all)
	first, _ := only(p.first, ofFirst, others)
	for i := range min(len(first), len(second), maxPairs) {
		g := &finder{ctx: f.ctx, hints: f.hints, seen: map[key]int{}}
		in := pair{first: sectionOf(first[i].text), second: sectionOf(second[i].text), times: p.times, depth: maxDepth}
		spans := g.spans(in.first, in.second)
		for _, s := range spans {
			w := g.windowAt(in, s, false)
			w.compiled = true
			hit, ok := g.token(w)
			if !ok {
				continue
			}
			any = true
			c := hit.cause
			c.Where, c.Offset = p.where, first[i].off+s.a+int64(hit.a[0]-w.at)
			if c.First == "" && c.Second == "" {
				c.First, c.Second = excerpts(w.a[hit.a[0]:hit.a[1]], w.b[hit.b[0]:hit.b[1]])
			}
			f.add(c)
			break
		}
	}
	return any
}

// stringText matches a string in a compiled program.
var stringText = regexp.MustCompile(`[ -~]{6,}`)

// isText reports whether b is UTF-8 without control characters other than those of text.
func isText(b []byte) bool {
	bad := 0
	for _, c := range b {
		switch {
		case c == 0:
			return false
		case c < ' ' && c != '\n' && c != '\t' && c != '\r' && c != '\f' && c != 0x1b:
			bad++
		}
	}
	return bad == 0 && (ascii(b) || utf8.Valid(trimRunes(b)))
}

// trimRunes removes partial runes at both ends.
func trimRunes(b []byte) []byte {
	for i := 0; i < utf8.UTFMax && len(b) > 0 && !utf8.RuneStart(b[0]); i++ {
		b = b[1:]
	}
	for i := 0; i < utf8.UTFMax && len(b) > 0; i++ {
		if r, n := utf8.DecodeLastRune(b); r != utf8.RuneError || n != 1 {
			break
		}
		b = b[:len(b)-1]
	}
	return b
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// line returns the line at off, up to 4 KiB on both sides.
func line(r *io.SectionReader, off int64) []byte {
	const most = 4 << 10
	from := max(off-most, 0)
	b := readAt(r, from, off-from+most)
	at := min(int(off-from), len(b))
	start := bytes.LastIndexByte(b[:at], '\n') + 1
	end := bytes.IndexByte(b[at:], '\n')
	if end < 0 {
		end = len(b) - at
	}
	return b[start : at+end]
}
