// Package zip opens zip archives within bounds, and rewrites the times in them.
//
// The format is APPNOTE.TXT of PKWARE (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT).
package zip

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/kedge-build/kedge/internal/format"
)

// maxDirectory bounds the bytes that Open reads: the directory of an archive and the search for it.
const maxDirectory = 16 << 20

// Open opens an archive of size bytes with at most members members. archive/zip reads the whole directory
// at once, whatever the archive says about it, so Open bounds what it can read. The error for an archive
// beyond the bounds wraps format.ErrTooLarge.
func Open(r io.ReaderAt, size int64, members int) (*zip.Reader, error) {
	b := &bounded{r: r, left: maxDirectory}
	z, err := zip.NewReader(b, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return nil, err
	}
	if len(z.File) > members {
		return nil, fmt.Errorf("%w: the zip archive has more than %d members", format.ErrTooLarge, members)
	}
	b.left = math.MaxInt64
	return z, nil
}

// bounded is a ReaderAt that refuses to read more than left bytes.
type bounded struct {
	r    io.ReaderAt
	left int64
}

func (b *bounded) ReadAt(p []byte, off int64) (int, error) {
	if b.left != math.MaxInt64 {
		if b.left -= int64(len(p)); b.left < 0 {
			return 0, fmt.Errorf("%w: the directory of the zip archive has more than %d MiB", format.ErrTooLarge, maxDirectory>>20)
		}
	}
	return b.r.ReadAt(p, off)
}

// Records of an archive, by their signatures, and the sizes of their fixed parts in bytes (4.3).
const (
	localMagic, localSize     = 0x04034b50, 30
	centralMagic, centralSize = 0x02014b50, 46
	endMagic, endSize         = 0x06054b50, 22
)

// Clamp returns the archive with no time after latest: DOS times, which are taken for UTC, and those of
// the extended timestamp. It reports false, and returns content itself, if content is not an archive or
// has a form that Clamp does not understand as a whole: zip64, NTFS times. An encrypted member may check its password by
// the time.
func Clamp(content []byte, latest time.Time) ([]byte, bool) {
	end := endOf(content)
	if end < 0 {
		return content, false
	}
	le := binary.LittleEndian
	entries, at := int(le.Uint16(content[end+10:])), int64(le.Uint32(content[end+16:]))
	if entries == math.MaxUint16 || at == math.MaxUint32 {
		return content, false // zip64
	}
	clamped := bytes.Clone(content)
	for range entries {
		if at > int64(end-centralSize) {
			return content, false
		}
		h := clamped[at:end]
		size, ok := clampHeader(h, centralMagic, centralSize, h[8:10], h[12:16], h[28:32], latest)
		size += int(le.Uint16(h[32:])) // the comment
		local := int64(le.Uint32(h[42:]))
		if !ok || size > len(h) || local > int64(len(clamped)-localSize) {
			return content, false
		}
		l := clamped[local:]
		if _, ok := clampHeader(l, localMagic, localSize, l[6:8], l[10:14], l[26:30], latest); !ok {
			return content, false
		}
		at += int64(size)
	}
	return clamped, true
}

// endOf returns the offset of the end of the directory, the last record of an archive, or -1. The record's
// signature may occur in the comment that follows it, too.
func endOf(content []byte) int {
	for end := len(content) - endSize; end >= max(0, len(content)-endSize-math.MaxUint16); end-- {
		if binary.LittleEndian.Uint32(content[end:]) == endMagic && len(content)-end-endSize == int(binary.LittleEndian.Uint16(content[end+20:])) {
			return end
		}
	}
	return -1
}

// clampHeader clamps the times of a header, unless its flags say that the member is encrypted: those of dos, time and
// date, and those of the extra fields behind the name. lengths holds the lengths of both. It returns the size of the header up to the end of
// the extra fields.
func clampHeader(header []byte, magic uint32, fixed int, flags, dos, lengths []byte, latest time.Time) (size int, ok bool) {
	const encrypted = 1
	le := binary.LittleEndian
	extra := fixed + int(le.Uint16(lengths))
	size = extra + int(le.Uint16(lengths[2:]))
	if le.Uint32(header) != magic || le.Uint16(flags)&encrypted != 0 || size > len(header) || !clampExtra(header[extra:size], latest) {
		return 0, false
	}
	clock, date := le.Uint16(dos), le.Uint16(dos[2:])
	t := time.Date(1980+int(date>>9), time.Month(date>>5&15), int(date&31), int(clock>>11), int(clock>>5&63), int(clock&31)*2, 0, time.UTC)
	limit := latest.UTC()
	if first := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC); limit.Before(first) {
		limit = first
	}
	if t.After(limit) {
		le.PutUint16(dos, uint16(limit.Hour()<<11|limit.Minute()<<5|limit.Second()/2))
		le.PutUint16(dos[2:], uint16((limit.Year()-1980)<<9|int(limit.Month())<<5|limit.Day()))
	}
	return size, true
}

// clampExtra clamps the times among extra fields (4.5).
func clampExtra(extra []byte, latest time.Time) bool {
	const extendedTimestamp, ntfs = 0x5455, 0x000a
	le := binary.LittleEndian
	for len(extra) >= 4 {
		id, size := le.Uint16(extra), int(le.Uint16(extra[2:]))
		if size > len(extra)-4 || id == ntfs {
			return false
		}
		for field := extra[4 : 4+size]; id == extendedTimestamp && len(field) >= 5; field = field[4:] {
			if int64(int32(le.Uint32(field[1:]))) > latest.Unix() {
				le.PutUint32(field[1:], uint32(latest.Unix()))
			}
		}
		extra = extra[4+size:]
	}
	return true
}

// WithoutTimes returns extra fields without those that repeat the modification time.
func WithoutTimes(extra []byte) []byte {
	const extendedTimestamp, ntfs, infoZIP = 0x5455, 0x000a, 0x5855
	var rest []byte
	for len(extra) >= 4 {
		id, end := binary.LittleEndian.Uint16(extra), 4+int(binary.LittleEndian.Uint16(extra[2:]))
		if end > len(extra) {
			break
		}
		if id != extendedTimestamp && id != ntfs && id != infoZIP {
			rest = append(rest, extra[:end]...)
		}
		extra = extra[end:]
	}
	return append(rest, extra...)
}
