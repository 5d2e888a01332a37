package image

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
)

// clampShadow rewrites the third field of shadow(5), in days since 1970.
func clampShadow(content []byte, f facts) []byte {
	latest := f.epoch / (24 * 60 * 60)
	lines := strings.SplitAfter(string(content), "\n")
	for i, line := range lines {
		fields := strings.Split(line, ":")
		if len(fields) != 9 {
			continue
		}
		if day, err := strconv.ParseInt(fields[2], 10, 64); err == nil && day > latest {
			fields[2] = strconv.FormatInt(latest, 10)
			lines[i] = strings.Join(fields, ":")
		}
	}
	return []byte(strings.Join(lines, ""))
}

// isMachineID says whether a file has 128 bits in hexadecimal, as machine-id(5) has it.
func isMachineID(content []byte) bool {
	id := bytes.TrimSuffix(content, []byte("\n"))
	return len(id) == 32 && len(bytes.Trim(id, "0123456789abcdef")) == 0
}

// pycTime returns the offset of the source's modification time in a compiled Python file: 32 bits,
// little-endian. Files that go by a hash of their source, and others, have none.
// See https://peps.python.org/pep-0552/ and Lib/importlib/_bootstrap_external.py.
func pycTime(content []byte) (offset int, ok bool) {
	if len(content) < 16 || content[2] != '\r' || content[3] != '\n' {
		return 0, false
	}
	const python37, python3 = 3390, 3000
	magic := binary.LittleEndian.Uint16(content)
	if magic < python37 || magic >= 20000 { // Python 2 has 20121 and above
		return 4, magic >= python3
	}
	return 8, binary.LittleEndian.Uint32(content[4:]) == 0
}

func isPyc(content []byte) bool {
	_, ok := pycTime(content)
	return ok
}

func rewritePyc(content []byte, f facts) []byte {
	offset, ok := pycTime(content)
	if !ok {
		return content
	}
	was := binary.LittleEndian.Uint32(content[offset:])
	now := was
	switch {
	case f.neutral:
		now = 0
	case f.source.final != 0 && was == uint32(f.source.raw):
		now = uint32(f.source.final)
	case int64(was) > f.epoch && was != uint32(f.source.final):
		now = uint32(f.epoch)
	}
	if now == was {
		return content
	}
	content = bytes.Clone(content)
	binary.LittleEndian.PutUint32(content[offset:], now)
	return content
}

// pycSource returns the path of the file that a .pyc was compiled from, as PEP 3147 has it.
func pycSource(name string) string {
	dir, base := "", name
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		dir, base = name[:i+1], name[i+1:]
	}
	module := strings.TrimSuffix(base, ".pyc")
	if outer, ok := strings.CutSuffix(dir, "__pycache__/"); ok {
		dir = outer
		module, _, _ = strings.Cut(module, ".")
	}
	return dir + module + ".py"
}

// isGzip wants a header that a time can be changed in: without a checksum over it.
func isGzip(content []byte) bool {
	const headerCRC = 1 << 1
	return len(content) >= 18 && content[0] == 0x1f && content[1] == 0x8b && content[2] == 8 && content[3]&headerCRC == 0
}

func clampGzip(content []byte, f facts) []byte {
	if !isGzip(content) || int64(binary.LittleEndian.Uint32(content[4:])) <= f.epoch || f.epoch < 0 || f.epoch > math.MaxUint32 {
		return content
	}
	content = bytes.Clone(content)
	binary.LittleEndian.PutUint32(content[4:], uint32(f.epoch))
	return content
}

// isErlangCookie wants the 20 capital letters that Erlang makes up, and none that somebody chose.
func isErlangCookie(content []byte) bool {
	return len(content) == 20 && len(bytes.Trim(content, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")) == 0
}

// clampTar rewrites the times of a tar whose entries are small. One that is broken stays as it is.
func clampTar(content []byte, f facts) []byte {
	var out bytes.Buffer
	tr, tw := tar.NewReader(bytes.NewReader(content)), tar.NewWriter(&out)
	changed := false
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || isSparse(h) {
			return content
		}
		if h.ModTime.Unix() > f.epoch {
			h.ModTime, changed = unix(f.epoch), true
		}
		if err := tw.WriteHeader(h); err != nil {
			return content
		}
		if _, err := io.Copy(tw, tr); err != nil {
			return content
		}
	}
	if !changed || tw.Close() != nil {
		return content
	}
	return out.Bytes()
}
