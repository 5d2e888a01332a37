// Package pyc reads and rewrites the header of compiled Python files.
//
// The formats are those of CPython: Lib/importlib/_bootstrap_external.py lists the magic numbers, and
// PEP 552 (https://peps.python.org/pep-0552/) defines today's header.
package pyc

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// The first magic numbers of the versions that changed the header, and of Python 1.5. Those of Python 3
// begin at 3000 and grow by 50 a version; those of Python 1 and 2 are 20121 and above.
const (
	python3  = 3000
	withSize = 3210 // 3.3 added the size of the source
	pep552   = 3392 // 3.7 added flags
	python1  = 20121
)

// codeType is how the marshal format marks a code object; the high bit marks an object that is referred
// to again.
const (
	codeType = 'c'
	flagRef  = 0x80
)

// A Header is what a compiled file says about its source.
type Header struct {
	Magic  uint16 // identifies the version of the byte code
	Flags  uint32 // 0: checked by time; 1 and 3: checked by hash; always 0 before Python 3.7
	Time   uint32 // modification time of the source in seconds since 1970, if Flags is 0
	Length int    // of the header, in bytes
	Code   bool   // a code object follows the header, as in every file that Python wrote
}

// Parse reads the header at the start of content. It reports false if there is none.
func Parse(content []byte) (Header, bool) {
	if len(content) < 4 || content[2] != '\r' || content[3] != '\n' {
		return Header{}, false
	}
	le := binary.LittleEndian
	h := Header{Magic: le.Uint16(content), Length: 16}
	switch {
	case h.Magic < python3:
		return Header{}, false // PyPy, whose headers are not documented
	case h.Magic < withSize || h.Magic >= python1:
		h.Length = 8
	case h.Magic < pep552:
		h.Length = 12
	}
	if len(content) < h.Length {
		return Header{}, false
	}
	fields := content[4:h.Length]
	if h.Length == 16 {
		if h.Flags, fields = le.Uint32(fields), fields[4:]; h.Flags > 3 || h.Flags == 2 {
			return Header{}, false
		}
	}
	if h.Flags == 0 {
		h.Time = le.Uint32(fields)
	}
	h.Code = len(content) > h.Length && content[h.Length]&^flagRef == codeType
	return h, true
}

// WithTime returns content with another modification time of the source, in seconds since 1970. It
// returns content itself if that has no header with a time, or has this time already.
func WithTime(content []byte, seconds uint32) []byte {
	h, ok := Parse(content)
	if !ok || h.Flags != 0 || h.Time == seconds {
		return content
	}
	content = bytes.Clone(content)
	offset := 4
	if h.Length == 16 {
		offset = 8
	}
	binary.LittleEndian.PutUint32(content[offset:], seconds)
	return content
}

// OnlyRefs reports whether two marshalled codes of equal length differ only in which objects are marked
// as referred to again.
func OnlyRefs(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && a[i]^b[i] != flagRef {
			return false
		}
	}
	return true
}

// Source returns the path of the file that the compiled file at path name was made from, as PEP 3147
// defines it: NAME.py beside NAME.pyc, or one folder above __pycache__/NAME.TAG.pyc.
func Source(name string) string {
	i := strings.LastIndexByte(name, '/') + 1
	dir, module := name[:i], strings.TrimSuffix(name[i:], ".pyc")
	if outer, ok := strings.CutSuffix(dir, "__pycache__/"); ok {
		dir = outer
		module, _, _ = strings.Cut(module, ".")
	}
	return dir + module + ".py"
}
