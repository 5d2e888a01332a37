package cause

import (
	"io"

	"github.com/kedge-build/kedge/internal/format/elf"
)

// elf explains the build ID of a program apart from the rest, and names the sections that differ.
func (f *finder) elf(p pair, spans []span) bool {
	if !elf.Has(readAt(p.first, 0, 4)) || !elf.Has(readAt(p.second, 0, 4)) {
		return false
	}
	sections, err := elf.Sections(p.first)
	if err != nil {
		return false
	}
	// Each section of debug information may be compressed.
	others, _ := elf.Sections(p.second) // without the others, compressed sections are compared as they are
	compressed := map[string]*elf.Section{}
	for i, s := range others {
		if s.Compressed {
			compressed[s.Name] = &others[i]
		}
	}
	opened := map[string]bool{}
	sectionAt := func(offset int64) (s elf.Section) {
		for _, s := range sections {
			if offset >= s.Offset && offset-s.Offset < s.Size {
				return s
			}
		}
		return s
	}
	name := func(offset int64) string { return safeName(sectionAt(offset).Name) }
	var id *span
	var rest []span
	for _, s := range spans {
		in := sectionAt(s.a)
		other := compressed[in.Name]
		switch n := name(s.a); {
		case n == ".note.gnu.build-id", n == ".note.go.buildid", n == ".gnu_debuglink":
			if id == nil {
				id = &s
			}
		case opened[n]:
		case in.Compressed && other != nil && p.depth < maxDepth && f.unpack(p, in, *other):
			opened[n] = true
		default:
			rest = append(rest, s)
		}
	}
	f.explainIn(p, rest, name)
	if id != nil {
		// The span is in the description of the note.
		c := Cause{Kind: BuildID, Where: p.where, Offset: id.a, Format: name(id.a)}
		c.First, c.Second = printable(readAt(p.first, id.a, min(id.aEnd-id.a, 20))), printable(readAt(p.second, id.b, min(id.bEnd-id.b, 20)))
		c.Why = "The build ID follows from the other differences in the program."
		if len(rest) == 0 && len(opened) == 0 {
			c.Why = "Only the build ID of the program differs: it is random, or the hash of something that was stripped, such as debug information."
		}
		f.add(c)
	}
	return true
}

// unpack compares the contents of two compressed sections. It reports false if they cannot be read.
func (f *finder) unpack(p pair, first, second elf.Section) bool {
	sides, err := f.both([2]func() (io.Reader, error){
		func() (io.Reader, error) { return first.Open(), nil },
		func() (io.Reader, error) { return second.Open(), nil },
	})
	if err != nil {
		return false
	}
	defer sides[0].close()
	defer sides[1].close()
	inner := pair{
		name: first.Name, where: join(p.where, first.Name), times: p.times, depth: p.depth + 1,
		first: sides[0].SectionReader, second: sides[1].SectionReader,
	}
	f.explain(inner, f.spans(inner.first, inner.second))
	return true
}
