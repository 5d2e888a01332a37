package rules

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"strconv"
	"strings"
)

// neutralIndex returns a git index without what it remembers of files' stat data: each is as git read-tree
// writes it, for which git looks at the content. What is no index, or one that is not understood as a whole,
// stays as it is. See https://git-scm.com/docs/index-format.
func neutralIndex(content []byte, _ Facts) []byte {
	if neutral, ok := neutralisedIndex(content); ok {
		return neutral
	}
	return content
}

func isGitIndex(content []byte) bool {
	_, ok := neutralisedIndex(content)
	return ok
}

// Of an index, in bytes.
const (
	indexHeader = 12
	indexStat   = 40 // of an entry, what comes before the hash
	indexMode   = 24 // within that: type and permissions, which are content
)

// neutralisedIndex tries both hashes that a repository may have: an index does not say which.
func neutralisedIndex(content []byte) (neutral []byte, ok bool) {
	if !bytes.HasPrefix(content, []byte("DIRC")) {
		return nil, false
	}
	bySHA1, ok1 := neutralisedBy(content, sha1.New())
	bySHA256, ok2 := neutralisedBy(content, sha256.New())
	switch {
	case ok1 == ok2:
		return nil, false
	case ok1:
		return bySHA1, true
	}
	return bySHA256, true
}

func neutralisedBy(content []byte, sum hash.Hash) (neutral []byte, ok bool) {
	end := len(content) - sum.Size()
	if end < indexHeader {
		return nil, false
	}
	sum.Write(content[:end])
	hashed := bytes.Equal(content[end:], sum.Sum(nil))
	if !hashed && len(bytes.Trim(content[end:], "\x00")) > 0 { // index.skipHash leaves it zero
		return nil, false
	}
	body := bytes.Clone(content[:end])
	at, ok := neutraliseEntries(body, sum.Size())
	if !ok {
		return nil, false
	}
	neutral = bytes.Clone(body[:at])
	for rest := body[at:]; len(rest) > 0; {
		if len(rest) < 8 {
			return nil, false
		}
		size := int64(binary.BigEndian.Uint32(rest[4:]))
		if size > int64(len(rest)-8) {
			return nil, false
		}
		switch string(rest[:4]) {
		case "TREE", "REUC", "sdir":
			neutral = append(neutral, rest[:8+size]...)
		case "UNTR", "FSMN", "EOIE", "IEOT":
			// Optional: stat data of folders, what a monitor saw, and for how many CPUs the entries are split.
		default:
			return nil, false // such as the link to an index that this one adds to
		}
		rest = rest[8+size:]
	}
	if !hashed {
		return append(neutral, content[end:]...), true
	}
	sum.Reset()
	sum.Write(neutral)
	return sum.Sum(neutral), true
}

// neutraliseEntries clears the stat data in the entries of an index without its hash, and returns where they end.
func neutraliseEntries(body []byte, hashSize int) (end int, ok bool) {
	be := binary.BigEndian
	version, entries := be.Uint32(body[4:]), be.Uint32(body[8:])
	if version < 2 || version > 4 {
		return 0, false
	}
	at, path := indexHeader, 0 // the length of the path before
	for range entries {
		e := body[at:]
		n := indexStat + hashSize + 2
		if len(e) < n {
			return 0, false
		}
		switch mode := be.Uint32(e[indexMode:]); mode >> 12 {
		case 0o04, 0o10, 0o12, 0o16: // folder of a sparse index, file, symbolic link, submodule
		default:
			return 0, false
		}
		flags := be.Uint16(e[n-2:])
		const extended, intentToAdd, skipWorktree, lengths = 1 << 14, 1 << 13, 1 << 14, 1<<12 - 1
		if flags&extended != 0 {
			if version == 2 || len(e) < n+2 || be.Uint16(e[n:])&^(intentToAdd|skipWorktree) != 0 {
				return 0, false
			}
			n += 2
		}
		kept := 0 // of the path before
		if version == 4 {
			strip, size := gitVarint(e[n:])
			if size == 0 || strip > path {
				return 0, false
			}
			n, kept = n+size, path-strip
		}
		rest := bytes.IndexByte(e[n:], 0)
		if rest < 0 || kept+rest == 0 || min(kept+rest, lengths) != int(flags&lengths) {
			return 0, false
		}
		path = kept + rest
		size := n + rest + 1
		if version < 4 {
			size = (n + rest + 8) &^ 7
			if size > len(e) || len(bytes.Trim(e[n+rest:size], "\x00")) > 0 {
				return 0, false
			}
		}
		clear(e[:indexMode])
		clear(e[indexMode+4 : indexStat])
		at += size
	}
	return at, true
}

// gitVarint reads a number as git's decode_varint does; size is 0 where there is none that a path could have.
func gitVarint(b []byte) (n, size int) {
	for i, c := range b {
		if i > 0 {
			n++
		}
		n = n<<7 | int(c&0x7f)
		if n > MaxRead {
			return 0, 0
		}
		if c&0x80 == 0 {
			return n, i + 1
		}
	}
	return 0, 0
}

// clampReflog returns a log of a git reference in which no time is after the epoch. What is none stays as it is.
// See https://git-scm.com/docs/git-reflog and refs/files-backend.c, log_ref_write_fd.
func clampReflog(content []byte, f Facts) []byte {
	if f.Epoch < 0 {
		return content
	}
	lines := strings.SplitAfter(string(content), "\n")
	for i, line := range lines {
		start, end, ok := reflogTime(line)
		if !ok {
			if line == "" && i > 0 && i == len(lines)-1 {
				break
			}
			return content
		}
		if when, err := strconv.ParseInt(line[start:end], 10, 64); err != nil || when > f.Epoch {
			lines[i] = line[:start] + strconv.FormatInt(f.Epoch, 10) + line[end:]
		}
	}
	return []byte(strings.Join(lines, ""))
}

// reflogTime returns where in a line of a reflog the time is, in seconds since 1970: old hash, new hash, name <address>,
// time, zone, and after a tab what happened.
func reflogTime(line string) (start, end int, ok bool) {
	head, whole := strings.CutSuffix(line, "\n")
	head, _, _ = strings.Cut(head, "\t")
	before, rest, _ := strings.Cut(head, " ")
	after, rest, _ := strings.Cut(rest, " ")
	address := strings.LastIndex(head, "> ")
	if address < 0 {
		return 0, 0, false
	}
	start = address + len("> ")
	when, zone, _ := strings.Cut(head[start:], " ")
	ok = whole && (len(before) == 40 || len(before) == 64) && len(before) == len(after) && only(before+after, "0123456789abcdef") &&
		strings.Contains(rest, " <") &&
		when != "" && len(when) <= 18 && only(when, "0123456789") &&
		len(zone) == 5 && (zone[0] == '+' || zone[0] == '-') && only(zone[1:], "0123456789")
	return start, start + len(when), ok
}

// only reports whether s has no other characters than those.
func only(s, characters string) bool { return strings.Trim(s, characters) == "" }
