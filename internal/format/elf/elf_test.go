package elf

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"
)

// program returns an ELF file with a section of text, a compressed one, one without bytes and a string table.
func program(t testing.TB, text, packed string) []byte {
	t.Helper()
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	if _, err := io.WriteString(w, packed); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	write := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	const names, head, chdr = "\x00.text\x00.debug\x00.bss\x00.shstrtab\x00", 64, 24
	end := uint64(head + len(text) + chdr + z.Len() + len(names))
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: head, Shentsize: 64, Shnum: 5, Shstrndx: 4, Shoff: end,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	write(h)
	b.WriteString(text)
	write(elf.Chdr64{Type: uint32(elf.COMPRESS_ZLIB), Size: uint64(len(packed)), Addralign: 1})
	b.Write(z.Bytes())
	b.WriteString(names)
	write(elf.Section64{})
	write(elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: head, Size: uint64(len(text))})
	write(elf.Section64{Name: 7, Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_COMPRESSED), Off: uint64(head + len(text)), Size: uint64(chdr + z.Len())})
	write(elf.Section64{Name: 14, Type: uint32(elf.SHT_NOBITS), Off: head, Size: 1 << 40})
	write(elf.Section64{Name: 19, Type: uint32(elf.SHT_STRTAB), Off: end - uint64(len(names)), Size: uint64(len(names))})
	return b.Bytes()
}

func TestSections(t *testing.T) {
	const text, packed = "the text", "the debug information"
	content := program(t, text, packed)
	sections, err := Sections(bytes.NewReader(content))
	if err != nil || !Has(content) {
		t.Fatal(err)
	}
	var names []string
	for _, s := range sections {
		names = append(names, s.Name)
	}
	if want := []string{".text", ".debug", ".shstrtab"}; !slices.Equal(names, want) {
		t.Fatalf("%q, want %q", names, want)
	}
	for i, want := range []string{text, packed} {
		s := sections[i]
		if got, err := io.ReadAll(s.Open()); err != nil || string(got) != want || s.Compressed != (i == 1) {
			t.Errorf("%s: %q, %v", s.Name, got, err)
		}
	}
	if s := sections[0]; s.Offset != 64 || s.Size != int64(len(text)) {
		t.Errorf("%+v", sections)
	}
	for n := range content[:len(content)-1] {
		if _, err := Sections(bytes.NewReader(content[:n])); err == nil {
			t.Errorf("the first %d bytes are taken", n)
		}
	}
}

// faulty panics when it is read, as debug/elf may with a hostile file.
type faulty struct{}

func (faulty) ReadAt([]byte, int64) (int, error) { panic("hostile") }
func (faulty) Read([]byte) (int, error)          { panic("hostile") }

func TestPanicsAreErrors(t *testing.T) {
	if _, err := Sections(faulty{}); err == nil || !strings.Contains(err.Error(), "hostile") {
		t.Errorf("sections: %v", err)
	}
	if _, err := io.ReadAll(&contained{r: faulty{}}); err == nil || !strings.Contains(err.Error(), "hostile") {
		t.Errorf("reading: %v", err)
	}
}

func FuzzSections(f *testing.F) {
	f.Add(program(f, "text", strings.Repeat("debug", 100)))
	f.Add([]byte(Magic + "\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, content []byte) {
		sections, err := Sections(bytes.NewReader(content))
		if err != nil {
			return
		}
		for _, s := range sections {
			if s.Offset < 0 || s.Size < 1 {
				t.Fatalf("%+v", s)
			}
			n, _ := io.Copy(io.Discard, io.LimitReader(s.Open(), 1<<20)) // an error is as good as an end
			if !s.Compressed && n > int64(len(content)) {
				t.Fatalf("%+v has %d bytes", s, n)
			}
		}
	})
}
