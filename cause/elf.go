package cause

import (
	"debug/elf"
	"slices"
	"strings"
)

// elf tells the build id of a program from the rest, and names the sections that differ.
func (f *finder) elf(p pair, spans []span) bool {
	const magic = "\x7fELF"
	if string(readAt(p.first, 0, 4)) != magic || string(readAt(p.second, 0, 4)) != magic {
		return false
	}
	sections, ok := elfSections(p)
	if !ok {
		return false
	}
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
		switch name(s.a) {
		case ".note.gnu.build-id", ".note.go.buildid", ".gnu_debuglink":
			if id == nil {
				id = &s
			}
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
		if len(rest) == 0 {
			c.Why = "Nothing in the program differs but its build id: what was hashed differed, such as debug information that was stripped, or the id is random."
		}
		f.add(c)
	}
	return true
}

type elfSection struct {
	name     string
	from, to int64
}

func elfSections(p pair) ([]elfSection, bool) {
	file, err := elf.NewFile(p.first)
	if err != nil || len(file.Sections) > 1<<16 {
		return nil, false
	}
	var list []elfSection
	for _, s := range file.Sections {
		if s.Type == elf.SHT_NOBITS || s.FileSize == 0 || s.Offset > 1<<62 || s.FileSize > 1<<62 {
			continue
		}
		list = append(list, elfSection{strings.ToValidUTF8(s.Name, "?"), int64(s.Offset), int64(s.Offset + s.FileSize)})
	}
	slices.SortFunc(list, func(a, b elfSection) int { return int(min(max(a.from-b.from, -1), 1)) })
	return list, true
}
