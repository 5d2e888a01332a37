package packages

import (
	"bytes"
	"compress/zlib"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/internal/format/elf"
)

// The marks of Go's build info and of cargo-auditable. A program without them has neither.
var (
	goMark    = []byte("\xff Go buildinf:")
	cargoMark = []byte(".dep-v0")
)

// maxTail is the number of bytes at the end of a file in which the names of its sections are searched for:
// linkers write them last.
const maxTail = 64 << 10

// A Scanner searches the bytes written to it for these marks: Go's at every multiple of 16 bytes, as
// debug/buildinfo does, and cargo's among the names of sections. The zero value is ready for use.
type Scanner struct {
	no, found bool
	size      int64
	head      []byte // at most 4 bytes
	tail      []byte // at most maxTail and what came last
}

// Write takes the next part of the file. It never fails.
func (s *Scanner) Write(p []byte) (int, error) {
	if s.no || len(p) == 0 {
		return len(p), nil
	}
	if n := len(elf.Magic) - len(s.head); n > 0 {
		s.head = append(s.head, p[:min(n, len(p))]...)
		if s.no = !strings.HasPrefix(elf.Magic, string(s.head)); s.no {
			return len(p), nil
		}
	}
	before := len(s.tail)
	if keep := min(before, maxTail); keep < before {
		copy(s.tail, s.tail[before-keep:])
		s.tail, before = s.tail[:keep], keep
	}
	s.tail = append(s.tail, p...)
	// The first multiple of 16 whose mark was not whole before.
	first := max(0, before-len(goMark)+1)
	at := s.size - int64(before) + int64(first) // in the file
	first += int((16 - at%16) % 16)
	for i := first; !s.found && i+len(goMark) <= len(s.tail); i += 16 {
		s.found = s.tail[i] == goMark[0] && bytes.HasPrefix(s.tail[i:], goMark)
	}
	s.size += int64(len(p))
	return len(p), nil
}

// Found reports whether the file is an ELF file that may name packages for Program to read.
func (s *Scanner) Found() bool {
	if s.no || len(s.head) < len(elf.Magic) {
		return false
	}
	return s.found || bytes.Contains(s.tail[max(0, len(s.tail)-maxTail):], cargoMark)
}

// Reset makes the Scanner ready for another file.
func (s *Scanner) Reset() { *s = Scanner{head: s.head[:0], tail: s.tail[:0]} }

// Program returns the Go modules and the Rust crates that a program names as its parts.
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
	l := list{kind: "golang"}
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
	sections, err := elf.Sections(r)
	if err != nil {
		return nil, nil
	}
	i := slices.IndexFunc(sections, func(s elf.Section) bool { return s.Name == string(cargoMark) && !s.Compressed })
	if i < 0 {
		return nil, nil
	}
	zr, err := zlib.NewReader(io.LimitReader(sections[i].Open(), maxDocument))
	if err != nil {
		return nil, nil // another program's section of that name
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
