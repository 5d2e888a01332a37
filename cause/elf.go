package cause

import (
	"cmp"
	"debug/elf"
	"io"
	"slices"
)

// elf tells the build id of a program from the rest, and names the sections that differ.
func (f *finder) elf(p pair, spans []span) bool {
	const magic = "\x7fELF"
	if string(readAt(p.first, 0, 4)) != magic || string(readAt(p.second, 0, 4)) != magic {
		return false
	}
	sections, ok := elfSections(p.first)
	if !ok {
		return false
	}
	// Debug information may be compressed, section by section.
	others, _ := elfSections(p.second)
	packed := map[string][2]*elfSection{}
	for i, s := range sections {
		for j, o := range others {
			if s.name == o.name && s.packed != nil && o.packed != nil {
				packed[s.name] = [2]*elfSection{&sections[i], &others[j]}
			}
		}
	}
	opened := map[string]bool{}
	name := func(off int64) string {
		for _, s := range sections {
			if off >= s.from && off < s.to {
				return s.name
			}
		}
		return ""
	}
	var id *span
	var rest []span
	for _, s := range spans {
		switch n := name(s.a); {
		case n == ".note.gnu.build-id", n == ".note.go.buildid", n == ".gnu_debuglink":
			if id == nil {
				id = &s
			}
		case opened[n]:
		case packed[n][0] != nil && p.depth < maxDepth && f.unpack(p, packed[n]):
			opened[n] = true
		default:
			rest = append(rest, s)
		}
	}
	f.explainIn(p, rest, name)
	if id != nil {
		// The description of the note, which both versions have at the same place.
		c := Cause{Kind: BuildID, Where: p.where, Offset: id.a, Format: name(id.a)}
		c.First, c.Second = printable(readAt(p.first, id.a, min(id.aEnd-id.a, 20))), printable(readAt(p.second, id.b, min(id.bEnd-id.b, 20)))
		c.Why = "The build id follows from the other differences in the program."
		if len(rest) == 0 && len(opened) == 0 {
			c.Why = "Nothing in the program differs but its build id: what was hashed differed, such as debug information that was stripped, or the id is random."
		}
		f.add(c)
	}
	return true
}

// unpack compares what is in two compressed sections; false if they cannot be read.
func (f *finder) unpack(p pair, s [2]*elfSection) bool {
	sides, err := f.both([2]func() (io.Reader, error){
		func() (io.Reader, error) { return s[0].packed.Open(), nil },
		func() (io.Reader, error) { return s[1].packed.Open(), nil },
	})
	if err != nil {
		return false
	}
	defer sides[0].close()
	defer sides[1].close()
	inner := pair{
		name: s[0].name, where: join(p.where, s[0].name), times: p.times, depth: p.depth + 1,
		first: sides[0].SectionReader, second: sides[1].SectionReader,
	}
	f.explain(inner, f.spans(inner.first, inner.second))
	return true
}

type elfSection struct {
	name     string
	from, to int64
	packed   *elf.Section // where it is compressed
}

func elfSections(r *io.SectionReader) ([]elfSection, bool) {
	file, err := elf.NewFile(r)
	if err != nil || len(file.Sections) > 1<<12 {
		return nil, false
	}
	var list []elfSection
	for _, s := range file.Sections {
		if s.Type == elf.SHT_NOBITS || s.FileSize == 0 || s.Offset > 1<<62 || s.FileSize > 1<<62 {
			continue
		}
		e := elfSection{name: safeName(s.Name), from: int64(s.Offset), to: int64(s.Offset + s.FileSize)}
		if s.Flags&elf.SHF_COMPRESSED != 0 {
			e.packed = s
		}
		list = append(list, e)
	}
	slices.SortStableFunc(list, func(a, b elfSection) int { return cmp.Compare(a.from, b.from) })
	return list, true
}
