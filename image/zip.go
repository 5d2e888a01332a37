package image

import (
	"bytes"
	"encoding/binary"
	"math"
	"time"
)

// Records of a zip archive, by their signatures, and the sizes of their fixed parts in bytes.
// See https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.
const (
	zipLocal, zipLocalSize     = 0x04034b50, 30
	zipCentral, zipCentralSize = 0x02014b50, 46
	zipEnd, zipEndSize         = 0x06054b50, 22
)

// clampZip returns a zip archive in which no time is after the epoch, in seconds since 1970: DOS times,
// which are taken for UTC, and those of the extended timestamp. What is no archive, or one of a form that
// is not understood as a whole, stays as it is.
func clampZip(content []byte, epoch int64) []byte {
	if clamped, ok := clampedZip(content, epoch); ok {
		return clamped
	}
	return content
}

func clampedZip(content []byte, epoch int64) (clamped []byte, ok bool) {
	le := binary.LittleEndian
	end := bytes.LastIndex(content, []byte{'P', 'K', 5, 6})
	if end < 0 || len(content)-end < zipEndSize || len(content)-end-zipEndSize != int(le.Uint16(content[end+20:])) {
		return nil, false
	}
	entries, at := int(le.Uint16(content[end+10:])), int64(le.Uint32(content[end+16:]))
	if entries == math.MaxUint16 || at == math.MaxUint32 {
		return nil, false // zip64
	}
	content = bytes.Clone(content)
	for range entries {
		if at > int64(end-zipCentralSize) {
			return nil, false
		}
		h := content[at:end]
		if le.Uint32(h) != zipCentral {
			return nil, false
		}
		name, extra, comment := int(le.Uint16(h[28:])), int(le.Uint16(h[30:])), int(le.Uint16(h[32:]))
		size := zipCentralSize + name + extra + comment
		if size > len(h) || !clampZipHeader(h[12:16], h[zipCentralSize+name:zipCentralSize+name+extra], epoch) {
			return nil, false
		}
		local := int64(le.Uint32(h[42:]))
		if local > int64(len(content)-zipLocalSize) {
			return nil, false
		}
		l := content[local:]
		if le.Uint32(l) != zipLocal {
			return nil, false
		}
		name, extra = int(le.Uint16(l[26:])), int(le.Uint16(l[28:]))
		if zipLocalSize+name+extra > len(l) || !clampZipHeader(l[10:14], l[zipLocalSize+name:zipLocalSize+name+extra], epoch) {
			return nil, false
		}
		at += int64(size)
	}
	return content, true
}

// clampZipHeader clamps the DOS time and date of a header, and the times among its extra fields.
func clampZipHeader(dos, extra []byte, epoch int64) bool {
	le := binary.LittleEndian
	clock, date := le.Uint16(dos), le.Uint16(dos[2:])
	t := time.Date(1980+int(date>>9), time.Month(date>>5&15), int(date&31), int(clock>>11), int(clock>>5&63), int(clock&31)*2, 0, time.UTC)
	if limit := time.Unix(max(epoch, time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC).Unix()), 0).UTC(); t.After(limit) {
		le.PutUint16(dos, uint16(limit.Hour()<<11|limit.Minute()<<5|limit.Second()/2))
		le.PutUint16(dos[2:], uint16((limit.Year()-1980)<<9|int(limit.Month())<<5|limit.Day()))
	}
	const extendedTimestamp, ntfs = 0x5455, 0x000a
	for len(extra) >= 4 {
		id, size := le.Uint16(extra), int(le.Uint16(extra[2:]))
		if size > len(extra)-4 {
			return false
		}
		field := extra[4 : 4+size]
		switch id {
		case ntfs:
			return false // of Windows
		case extendedTimestamp:
			for i := 1; i+4 <= len(field); i += 4 {
				if int64(int32(le.Uint32(field[i:]))) > epoch {
					le.PutUint32(field[i:], uint32(epoch))
				}
			}
		}
		extra = extra[4+size:]
	}
	return true
}
