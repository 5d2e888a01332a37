package cause

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

const (
	arMagic  = "!<arch>\n"
	arHeader = 60
	maxName  = 4096
)

var errAr = errors.New("it is not a well-formed ar archive")

// arMembers lists an ar archive, with the long names of GNU and of BSD: see ar(5).
func arMembers(r *io.SectionReader, limit int) ([]member, error) {
	var list []member
	var long []byte // GNU's table of long names
	for off := int64(len(arMagic)); off < r.Size(); {
		h := readAt(r, off, arHeader)
		if len(h) < arHeader || h[58] != '`' || h[59] != '\n' {
			return nil, errAr
		}
		text := func(from, to int) string { return strings.TrimRight(string(h[from:to]), " ") }
		size, err := strconv.ParseInt(text(48, 58), 10, 64)
		off += arHeader
		if err != nil || size < 0 || size > r.Size()-off {
			return nil, errAr
		}
		if len(list) == limit {
			return nil, errMembers
		}
		name, content, length := text(0, 16), off, size
		off += size + size&1
		switch {
		case name == "//":
			if length > maxWhole {
				return nil, errAr
			}
			long = readAt(r, content, length)
			continue
		case strings.HasPrefix(name, "#1/"):
			n, err := strconv.ParseInt(name[3:], 10, 32)
			if err != nil || n < 0 || n > maxName || n > length {
				return nil, errAr
			}
			name = string(bytes.TrimRight(readAt(r, content, n), "\x00"))
			content, length = content+n, length-n
		case len(name) > 1 && name[0] == '/' && name[1] >= '0' && name[1] <= '9':
			n, err := strconv.ParseInt(name[1:], 10, 32)
			if err != nil || n < 0 || n >= int64(len(long)) {
				return nil, errAr
			}
			s := long[n:]
			if i := bytes.IndexByte(s, '\n'); i >= 0 {
				s = s[:i]
			}
			name = strings.TrimSuffix(string(s[:min(len(s), maxName)]), "/")
		case name != "/" && name != "/SYM64/":
			name = strings.TrimSuffix(name, "/")
		}
		m := member{name: name, raw: io.NewSectionReader(r, content, length)}
		if t, err := strconv.ParseInt(text(16, 28), 10, 64); err == nil {
			m.time = time.Unix(t, 0)
		}
		m.fields = []field{
			{"mtime", stampOf(m.time)}, {"owner", fmt.Sprintf("%s:%s", text(28, 34), text(34, 40))}, {"mode", text(40, 48)},
		}
		list = append(list, m)
	}
	return list, nil
}
