// Package ar lists the members of ar archives: static libraries and Debian packages.
//
// The format, with the long names of GNU and of BSD, is that of ar(5).
package ar

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/kedge-build/kedge/internal/format"
)

// Magic begins every archive.
const Magic = "!<arch>\n"

const (
	headerSize   = 60
	maxName      = 4096
	maxNameTable = 16 << 20
)

var errMalformed = errors.New("malformed ar archive")

// A Member is a file in an archive.
type Member struct {
	Name    string
	Time    time.Time // zero if the header has none
	UID     string    // as the header has it, in decimal
	GID     string
	Mode    string // in octal
	Content *io.SectionReader
}

// List returns the members of an archive, among them the symbol table of GNU, whose name is "/". It takes at
// most limit members; the error for more wraps format.ErrTooLarge.
func List(r *io.SectionReader, limit int) ([]Member, error) {
	var members []Member
	var names []byte // GNU's table of long names
	for offset := int64(len(Magic)); offset < r.Size(); {
		var header [headerSize]byte
		if n, _ := r.ReadAt(header[:], offset); n < headerSize || header[58] != '`' || header[59] != '\n' {
			return nil, errMalformed
		}
		field := func(from, to int) string { return strings.TrimRight(string(header[from:to]), " ") }
		size, err := strconv.ParseInt(field(48, 58), 10, 64)
		offset += headerSize
		if err != nil || size < 0 || size > r.Size()-offset {
			return nil, errMalformed
		}
		if len(members) == limit {
			return nil, fmt.Errorf("%w: the ar archive has more than %d members", format.ErrTooLarge, limit)
		}
		m := Member{Name: field(0, 16), UID: field(28, 34), GID: field(34, 40), Mode: field(40, 48)}
		content := io.NewSectionReader(r, offset, size)
		offset += size + size&1
		if m.Name == "//" {
			if size > maxNameTable {
				return nil, errMalformed
			}
			if names, err = io.ReadAll(content); err != nil {
				return nil, err
			}
			continue
		}
		if m.Name, m.Content, err = named(m.Name, content, names); err != nil {
			return nil, err
		}
		if seconds, err := strconv.ParseInt(field(16, 28), 10, 64); err == nil {
			m.Time = time.Unix(seconds, 0)
		}
		members = append(members, m)
	}
	return members, nil
}

// named returns the name of a member whose header has field as its name, and the content behind the name.
func named(field string, content *io.SectionReader, names []byte) (string, *io.SectionReader, error) {
	if digits, ok := strings.CutPrefix(field, "#1/"); ok { // BSD: the name begins the content
		n, err := strconv.ParseInt(digits, 10, 32)
		if err != nil || n < 0 || n > maxName || n > content.Size() {
			return "", nil, errMalformed
		}
		name := make([]byte, n)
		if _, err := content.ReadAt(name, 0); err != nil && !errors.Is(err, io.EOF) {
			return "", nil, err
		}
		return string(bytes.TrimRight(name, "\x00")), io.NewSectionReader(content, n, content.Size()-n), nil
	}
	switch {
	case field == "/", field == "/SYM64/":
		return field, content, nil
	case len(field) > 1 && field[0] == '/' && field[1] >= '0' && field[1] <= '9': // GNU: an offset into the table
		n, err := strconv.ParseInt(field[1:], 10, 32)
		if err != nil || n >= int64(len(names)) {
			return "", nil, errMalformed
		}
		name, _, _ := bytes.Cut(names[n:], []byte("\n"))
		field = string(name[:min(len(name), maxName)])
	}
	return strings.TrimSuffix(field, "/"), content, nil
}
