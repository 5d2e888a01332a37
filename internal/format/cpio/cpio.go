// Package cpio lists the members of cpio archives in the new ASCII format, as rpm packages and the file
// systems of Linux's start have them.
//
// The format is that of cpio(5).
package cpio

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

const (
	headerSize = 110
	maxName    = 4096
	trailer    = "TRAILER!!!"
)

var errMalformed = errors.New("malformed cpio archive")

// A Member is a file in an archive.
type Member struct {
	Name     string
	Inode    int64
	Mode     int64
	UID, GID int64
	Links    int64
	Time     time.Time
	Device   [4]int64 // major and minor of the file system, then those of the file
	Content  *io.SectionReader
}

// Has reports whether the file that begins with head is an archive, without or with checksums.
func Has(head []byte) bool {
	return strings.HasPrefix(string(head), "070701") || strings.HasPrefix(string(head), "070702")
}

// List returns the members up to the trailer: it does not read an archive that follows, as those for
// Linux's start have. It takes at most limit members; the error for more wraps format.ErrTooLarge.
func List(r *io.SectionReader, limit int) ([]Member, error) {
	var members []Member
	for offset := int64(0); ; {
		var header [headerSize]byte
		if n, _ := r.ReadAt(header[:], offset); n < headerSize || !Has(header[:]) {
			return nil, errMalformed
		}
		var v [13]int64 // inode mode uid gid links mtime size devmajor devminor rdevmajor rdevminor namesize check
		for i := range v {
			n, err := strconv.ParseUint(string(header[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				return nil, errMalformed
			}
			v[i] = int64(n)
		}
		size, nameSize := v[6], v[11]
		if nameSize < 1 || nameSize > maxName {
			return nil, errMalformed
		}
		name := make([]byte, nameSize)
		if _, err := r.ReadAt(name, offset+headerSize); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		m := Member{
			Name: string(bytes.TrimRight(name, "\x00")), Inode: v[0], Mode: v[1], UID: v[2], GID: v[3], Links: v[4],
			Time: time.Unix(v[5], 0), Device: [4]int64(v[7:11]),
		}
		if m.Name == trailer {
			return members, nil
		}
		content := pad(offset + headerSize + nameSize)
		if content > r.Size() || size > r.Size()-content {
			return nil, errMalformed
		}
		if len(members) == limit {
			return nil, fmt.Errorf("%w: the cpio archive has more than %d members", format.ErrTooLarge, limit)
		}
		m.Content = io.NewSectionReader(r, content, size)
		members = append(members, m)
		offset = pad(content + size)
	}
}

// pad returns the multiple of four at or after n.
func pad(n int64) int64 { return (n + 3) &^ 3 }
