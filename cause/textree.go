package cause

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"slices"
	"strconv"
)

const (
	fixSeed = "Set PERL_HASH_SEED=0 for the command that has the formats made: PERL_HASH_SEED=0 apt-get install …"
	fixLogs = "Remove the logs in the same RUN: rm -f /var/lib/texmf/web2c/*.log /var/lib/texmf/web2c/*/*.log"
	whyTree = "fmtutil makes the formats in the order of Perl's hashes, whose seed is random in each process; only those that it makes " +
		"after the first find files by the list that it then writes, in another tree."
	whyFiles = "fmtutil writes the list of TeX's files in the order of Perl's hashes, whose seed is random in each process."
)

var (
	texRoot  = regexp.MustCompile(`^(?:/[\w.+@-]+)*?/texmf(?:-[a-z]+)?/`)
	texRoots = regexp.MustCompile(`(?:/[\w.+@-]+)*?/texmf(?:-[a-z]+)?/`)
	texPath  = regexp.MustCompile(`^[\w.+@~/-]+`)

	texLogs     = regexp.MustCompile(`^This is \w*(?:TeX|tex)\w*, Version `)
	updmapLogs  = regexp.MustCompile(`^updmap version r\d+ `)
	texStrings  = regexp.MustCompile(`\d+ strings of total length (\d+)`)
	texFilesTop = []byte("% ls-R -- filename database for kpathsea")
)

// texTrees removes the ranges that are the path of one file in two trees of TeX, and those of the offsets of
// strings, which follow from the lengths of these paths.
func (f *finder) texTrees(p pair, spans []span) []span {
	var all *Cause
	grown := []int64{0} // how much longer the second version is after each path
	left := slices.DeleteFunc(slices.Clone(spans), func(s span) bool {
		x, y, ok := movedTree(p, s)
		if !ok {
			return false
		}
		if all == nil {
			all = &Cause{
				Kind: HashOrder, Where: p.where, Offset: s.a, Format: "TeX tree", Why: whyTree, Fix: fixSeed,
				First: printable(x), Second: printable(y),
			}
		}
		all.Count++
		grown = append(grown, grown[len(grown)-1]+int64(len(y)-len(x)))
		return true
	})
	if all == nil {
		return spans
	}
	left = slices.DeleteFunc(left, func(s span) bool {
		if !shifted(p, s, grown) {
			return false
		}
		all.Count++
		return true
	})
	f.add(*all)
	return left
}

// movedTree returns the roots of two trees, such as /usr/share/texlive/texmf-dist/ and /var/lib/texmf/, if a
// range differs only in them. The length of a path may precede it.
func movedTree(p pair, s span) (x, y []byte, ok bool) {
	const most, name = 128, 8
	lead := min(s.a, s.b, most)
	a, b := readAt(p.first, s.a-lead, lead+2*most), readAt(p.second, s.b-lead, lead+2*most)
	at := int(lead)
	ends := func(from int) bool { // reports whether the range is in the roots that begin at from
		x, y = texRoot.Find(a[from:]), texRoot.Find(b[from:])
		i, j := from+len(x), from+len(y)
		return x != nil && y != nil && !bytes.Equal(x, y) && int64(i) >= lead+s.aEnd-s.a && int64(j) >= lead+s.bEnd-s.b &&
			common(a[i:], b[j:]) >= name
	}
	if at+1 < min(len(a), len(b)) && a[at+1] == '/' && ends(at+1) {
		return x, y, int(a[at]) == len(texPath.Find(a[at+1:])) && int(b[at]) == len(texPath.Find(b[at+1:]))
	}
	for i := min(at, len(a)-1, len(b)-1); i >= 0; i-- {
		if a[i] == '/' && ends(i) {
			return x, y, true
		}
	}
	return nil, nil, false
}

// shifted reports whether a range consists of big-endian numbers that differ by one of grown.
func shifted(p pair, s span, grown []int64) bool {
	const size = 4
	if s.a != s.b || s.aEnd != s.bEnd || s.aEnd-s.a > maxJSON {
		return false
	}
	from, to := s.a/size*size, (s.aEnd+size-1)/size*size
	a, b := readAt(p.first, from, to-from), readAt(p.second, from, to-from)
	for i := 0; i+size <= min(len(a), len(b)); i += size {
		if d := int64(binary.BigEndian.Uint32(b[i:])) - int64(binary.BigEndian.Uint32(a[i:])); !slices.Contains(grown, d) {
			return false
		}
	}
	return len(a) == len(b)
}

// texLog explains logs of TeX and updmap. Two trees of TeX change paths in a log, and the total length of all
// strings.
func (f *finder) texLog(p pair, _ []span) bool {
	a, ok1 := whole(p.first)
	b, ok2 := whole(p.second)
	known := func(b []byte) bool { return texLogs.Match(b) || updmapLogs.Match(b) }
	if !ok1 || !ok2 || !known(a) || !known(b) {
		return false
	}
	x, y := unbroken(a), unbroken(b)
	roots1, roots2 := x.all(texRoots), y.all(texRoots)
	var grown []int64
	all := Cause{Kind: HashOrder, Where: p.where, Format: "TeX tree", Why: whyTree, Fix: fixSeed}
	if len(roots1) == len(roots2) {
		for i, m := range roots1 {
			n := roots2[i]
			if bytes.Equal(x.b[m[0]:m[1]], y.b[n[0]:n[1]]) {
				continue
			}
			if len(grown) == 0 {
				all.Offset = x.at[m[0]]
				all.First, all.Second = printable(x.b[m[0]:m[1]]), printable(y.b[n[0]:n[1]])
			}
			grown = append(grown, int64(n[1]-n[0])-int64(m[1]-m[0]))
		}
	}
	if len(grown) > 0 {
		all.Count = len(grown)
		x, y = x.without(roots1), y.without(roots2)
		lengths1, lengths2 := x.all(texStrings), y.all(texStrings)
		if len(lengths1) == 1 && len(lengths2) == 1 && totals(x.b, y.b, grown[0]) {
			all.Count++
			x, y = x.without(lengths1), y.without(lengths2)
		}
		f.add(all)
	}
	f.explainText(p, x, y)
	return true
}

// totals reports whether the total lengths of all strings differ by a multiple of the growth of a path.
func totals(a, b []byte, grown int64) bool {
	const copies = 64
	m, n := texStrings.FindSubmatch(a), texStrings.FindSubmatch(b)
	x, err1 := strconv.ParseInt(string(m[1]), 10, 64)
	y, err2 := strconv.ParseInt(string(n[1]), 10, 64)
	if err1 != nil || err2 != nil || grown == 0 {
		return false
	}
	k := (y - x) / grown
	return k*grown == y-x && k > 0 && k <= copies
}

// explainText explains the rest of two logs, which no program needs.
func (f *finder) explainText(p pair, x, y logText) {
	f.within(p, 0, x.b, y.b, func(c *Cause) {
		if c.Offset >= 0 && c.Offset < int64(len(x.at)) {
			c.Offset = x.at[c.Offset]
		}
		c.Fix = fixLogs
	})
}

// A logText is text without some of its parts, with the original offset of each byte.
type logText struct {
	b  []byte
	at []int64
}

// unbroken joins the lines that TeX broke because they were full.
func unbroken(b []byte) logText {
	const full, fuller = 79, 80 // max_print_line, and one more if LuaTeX prints for Lua
	t := logText{make([]byte, 0, len(b)), make([]int64, 0, len(b))}
	n := 0
	for i, c := range b {
		if c == '\n' && (n == full || n == fuller) {
			n = 0
			continue
		}
		if n++; c == '\n' {
			n = 0
		}
		t.b, t.at = append(t.b, c), append(t.at, int64(i))
	}
	return t
}

func (t logText) all(re *regexp.Regexp) [][]int { return re.FindAllIndex(t.b, -1) }

// without returns t without the ranges.
func (t logText) without(ranges [][]int) logText {
	var left logText
	last := 0
	for _, r := range ranges {
		left.b, left.at = append(left.b, t.b[last:r[0]]...), append(left.at, t.at[last:r[0]]...)
		last = r[1]
	}
	return logText{append(left.b, t.b[last:]...), append(left.at, t.at[last:]...)}
}

// texFiles explains ls-R, the list of the files in a tree of TeX.
func (f *finder) texFiles(p pair, spans []span) bool {
	if !bytes.HasPrefix(readAt(p.first, 0, headSize), texFilesTop) || !bytes.HasPrefix(readAt(p.second, 0, headSize), texFilesTop) {
		return false
	}
	a, n, err1 := f.bag(p.first)
	b, m, err2 := f.bag(p.second)
	if err1 != nil || err2 != nil || n != m || a != b {
		return false
	}
	f.add(Cause{
		Kind: HashOrder, Where: p.where, Offset: spans[0].a, Format: "TeX file list", Why: whyFiles,
		Fix:   fixSeed + "; or run mktexlsr as the last command of the RUN, which sorts.",
		First: printable(line(p.first, spans[0].a)), Second: printable(line(p.second, spans[0].b)),
	})
	return true
}
