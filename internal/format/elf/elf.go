// Package elf lists the sections of ELF files. It hands files to debug/elf, which is not hardened against
// hostile ones, and contains its panics.
package elf

import (
	"cmp"
	"debug/elf"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/internal/format"
)

// Magic begins every file.
const Magic = elf.ELFMAG

const maxSections = 1 << 16

// A Section is a part of a file with a name.
type Section struct {
	Name       string
	Offset     int64 // in the file
	Size       int64 // in the file, at least 1
	Compressed bool
	section    *elf.Section
}

// Has reports whether head begins an ELF file.
func Has(head []byte) bool { return strings.HasPrefix(string(head), Magic) }

// Sections returns the sections that have bytes in the file, in the order of their offsets.
func Sections(r io.ReaderAt) (sections []Section, err error) {
	err = format.Contain(func() error {
		file, err := elf.NewFile(r)
		if err != nil {
			return err
		}
		if len(file.Sections) > maxSections {
			return fmt.Errorf("%w: the ELF file has more than %d sections", format.ErrTooLarge, maxSections)
		}
		for _, s := range file.Sections {
			if s.Type == elf.SHT_NOBITS || s.FileSize == 0 || s.Offset > 1<<62 || s.FileSize > 1<<62 {
				continue
			}
			sections = append(sections, Section{
				Name: s.Name, Offset: int64(s.Offset), Size: int64(s.FileSize),
				Compressed: s.Flags&elf.SHF_COMPRESSED != 0, section: s,
			})
		}
		return nil
	})
	slices.SortStableFunc(sections, func(a, b Section) int { return cmp.Compare(a.Offset, b.Offset) })
	return sections, err
}

// Open reads the section, decompressed.
func (s Section) Open() io.Reader {
	r := &contained{}
	r.err = format.Contain(func() error {
		r.r = s.section.Open()
		return nil
	})
	return r
}

// contained is a reader whose panics are errors.
type contained struct {
	r   io.Reader
	err error
}

func (c *contained) Read(p []byte) (n int, err error) {
	if c.err != nil {
		return 0, c.err
	}
	c.err = format.Contain(func() (err error) {
		n, err = c.r.Read(p)
		return err
	})
	return n, c.err
}
