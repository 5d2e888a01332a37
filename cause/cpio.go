package cause

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

const (
	cpioHeader  = 110
	cpioTrailer = "TRAILER!!!"
)

var errCpio = errors.New("it is not a well-formed cpio archive")

// cpioMembers lists a cpio archive in the new ASCII format, with or without checksums: see cpio(5).
// What follows the trailer, such as another archive of an initramfs, is not read.
func cpioMembers(r *io.SectionReader, limit int) ([]member, error) {
	var list []member
	pad := func(n int64) int64 { return (n + 3) &^ 3 }
	for off := int64(0); ; {
		h := readAt(r, off, cpioHeader)
		if len(h) < cpioHeader || !bytes.HasPrefix(h, []byte("07070")) || h[5] != '1' && h[5] != '2' {
			return nil, errCpio
		}
		var v [13]int64 // ino mode uid gid nlink mtime size devmajor devminor rdevmajor rdevminor namesize check
		for i := range v {
			n, err := strconv.ParseUint(string(h[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				return nil, errCpio
			}
			v[i] = int64(n)
		}
		size, length := v[6], v[11]
		if length < 1 || length > maxName {
			return nil, errCpio
		}
		name := string(bytes.TrimRight(readAt(r, off+cpioHeader, length), "\x00"))
		if name == cpioTrailer {
			return list, nil
		}
		content := pad(off + cpioHeader + length)
		if content > r.Size() || size > r.Size()-content {
			return nil, errCpio
		}
		if len(list) == limit {
			return nil, errMembers
		}
		mtime := time.Unix(v[5], 0)
		list = append(list, member{
			name: name, time: mtime, raw: io.NewSectionReader(r, content, size),
			fields: []field{
				{"inode", strconv.FormatInt(v[0], 10)}, {"mode", fmt.Sprintf("%06o", v[1])}, {"owner", fmt.Sprintf("%d:%d", v[2], v[3])},
				{"link count", strconv.FormatInt(v[4], 10)}, {"mtime", stampOf(mtime)},
				{"device", fmt.Sprintf("%d, %d, %d, %d", v[7], v[8], v[9], v[10])},
			},
		})
		off = pad(content + size)
	}
}
