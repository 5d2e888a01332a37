package packages

import (
	"bytes"
	"compress/zlib"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
)

// The marks that a program with build info of Go, or one that cargo-auditable made, has somewhere in
// it. A program without them has neither.
var (
	goMark    = []byte("\xff Go buildinf:")
	cargoMark = []byte(".dep-v0")
)

// A Scanner looks for those marks in a file that goes by. The zero value is ready.
type Scanner struct {
	elf, no, found bool
	tail           []byte
}

// Write takes the next part of the file. It never fails.
func (s *Scanner) Write(p []byte) (int, error) {
	if s.no || s.found || len(p) == 0 {
		return len(p), nil
	}
	keep := len(goMark) - 1
	if !s.elf {
		// The first part may be short, but hardly ever is: a file that comes byte by byte is taken in
		// the end, too.
		head := append(s.tail, p[:min(len(p), 4)]...)
		if !bytes.HasPrefix([]byte(elf.ELFMAG), head[:min(len(head), 4)]) {
			s.no = true
			return len(p), nil
		}
		s.elf = len(head) >= 4
	}
	seam := append(s.tail, p[:min(len(p), keep)]...)
	s.found = has(seam) || has(p)
	if len(p) >= keep {
		s.tail = append(s.tail[:0], p[len(p)-keep:]...)
	} else {
		s.tail = append(s.tail[:0], seam[max(0, len(seam)-keep):]...)
	}
	return len(p), nil
}

func has(p []byte) bool { return bytes.Contains(p, goMark) || bytes.Contains(p, cargoMark) }

// Found reports whether the file is an ELF file that may name packages, which Program reads.
func (s *Scanner) Found() bool { return s.found && s.elf }

// Reset makes the Scanner ready for another file.
func (s *Scanner) Reset() { *s = Scanner{tail: s.tail[:0]} }

// Program reads the Go modules and the Rust crates that a program says it was made of.
func Program(r io.ReaderAt, size int64) ([]Package, error) {
	return guard(func(r io.ReaderAt, size int64) ([]Package, error) {
		modules, err := goModules(r)
		if err != nil {
			return nil, err
		}
		crates, err := cargoAuditable(r)
		return append(modules, crates...), err
	})(io.NewSectionReader(r, 0, size), size)
}

// goModules returns the main module, what it depends on, and "stdlib" with Go's version.
func goModules(r io.ReaderAt) ([]Package, error) {
	info, err := buildinfo.Read(r)
	if err != nil {
		return nil, nil // not a Go program, or without build info
	}
	l := list{kind: "go"}
	err = errors.Join(l.add("stdlib", info.GoVersion), l.add(info.Main.Path, info.Main.Version))
	for _, m := range info.Deps {
		if m.Replace != nil && m.Replace.Version != "" {
			m = m.Replace
		}
		if err := l.add(m.Path, m.Version); err != nil {
			return nil, err
		}
	}
	return l.all, err
}

// cargoAuditable reads the section that cargo-auditable writes
// (https://github.com/rust-secure-code/cargo-auditable/blob/master/PARSING.md).
func cargoAuditable(r io.ReaderAt) ([]Package, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, nil
	}
	section := f.Section(string(cargoMark))
	if section == nil || section.Flags&elf.SHF_COMPRESSED != 0 || section.Type == elf.SHT_NOBITS {
		return nil, nil
	}
	zr, err := zlib.NewReader(io.NewSectionReader(section, 0, int64(min(section.FileSize, maxDocument))))
	if err != nil {
		return nil, nil // another's section of that name
	}
	defer zr.Close()
	var deps struct {
		Packages []struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"packages"`
	}
	if err := json.NewDecoder(io.LimitReader(zr, maxDocument)).Decode(&deps); err != nil {
		return nil, err
	}
	l := list{kind: "cargo"}
	for _, p := range deps.Packages {
		if err := l.add(p.Name, p.Version); err != nil {
			return nil, err
		}
	}
	return l.all, nil
}
