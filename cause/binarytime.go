package cause

import (
	"encoding/binary"
	"math"
	"time"
)

// A number is a binary form of a time.
type number struct {
	format string
	size   int
	read   func(b []byte) (time.Time, bool) // of exactly size bytes
}

const (
	epoch1601 = -11644473600 // the epoch of Windows in Unix time
	epoch1904 = -2082844800  // the epoch of the Macintosh and of fonts in Unix time
)

// numbers are tried in this order: longer ones first, because they rarely match by chance.
var numbers = []number{
	{"u64 seconds LE", 8, func(b []byte) (time.Time, bool) { return unix(binary.LittleEndian.Uint64(b), 1) }},
	{"u64 seconds BE", 8, func(b []byte) (time.Time, bool) { return unix(binary.BigEndian.Uint64(b), 1) }},
	{"u64 milliseconds LE", 8, func(b []byte) (time.Time, bool) { return unix(binary.LittleEndian.Uint64(b), 1e3) }},
	{"u64 milliseconds BE", 8, func(b []byte) (time.Time, bool) { return unix(binary.BigEndian.Uint64(b), 1e3) }},
	{"u64 microseconds LE", 8, func(b []byte) (time.Time, bool) { return unix(binary.LittleEndian.Uint64(b), 1e6) }},
	{"u64 microseconds BE", 8, func(b []byte) (time.Time, bool) { return unix(binary.BigEndian.Uint64(b), 1e6) }},
	{"u64 nanoseconds LE", 8, func(b []byte) (time.Time, bool) { return unix(binary.LittleEndian.Uint64(b), 1e9) }},
	{"u64 nanoseconds BE", 8, func(b []byte) (time.Time, bool) { return unix(binary.BigEndian.Uint64(b), 1e9) }},
	{"FILETIME LE", 8, func(b []byte) (time.Time, bool) {
		n := binary.LittleEndian.Uint64(b) / 1e7
		return time.Unix(int64(n)+epoch1601, 0).UTC(), n < 1<<40
	}},
	{"u64 seconds since 1904 BE", 8, func(b []byte) (time.Time, bool) {
		n := binary.BigEndian.Uint64(b)
		return time.Unix(int64(n&math.MaxInt64)+epoch1904, 0).UTC(), n < 1<<40
	}},
	{"double seconds LE", 8, func(b []byte) (time.Time, bool) { return double(binary.LittleEndian.Uint64(b)) }},
	{"double seconds BE", 8, func(b []byte) (time.Time, bool) { return double(binary.BigEndian.Uint64(b)) }},
	{"u32 seconds LE", 4, func(b []byte) (time.Time, bool) { return unix(uint64(binary.LittleEndian.Uint32(b)), 1) }},
	{"u32 seconds BE", 4, func(b []byte) (time.Time, bool) { return unix(uint64(binary.BigEndian.Uint32(b)), 1) }},
	{"DOS date LE", 4, func(b []byte) (time.Time, bool) { return dos(binary.LittleEndian.Uint32(b)) }},
}

func unix(n, perSecond uint64) (time.Time, bool) {
	if n/perSecond > 1<<33 {
		return time.Time{}, false
	}
	return time.Unix(int64(n/perSecond), 0).UTC(), true
}

func double(bits uint64) (time.Time, bool) {
	d := math.Float64frombits(bits)
	if !(d >= 1e9 && d < 1e10) {
		return time.Time{}, false
	}
	return time.Unix(int64(d), 0).UTC(), true
}

// dos reads the date and time of MS-DOS: local time, in steps of two seconds.
func dos(n uint32) (time.Time, bool) {
	d, t := n>>16, n&0xffff
	month, day, hour, minute, second := int(d>>5&15), int(d&31), int(t>>11), int(t>>5&63), int(t&31)*2
	if month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59 {
		return time.Time{}, false
	}
	return time.Date(1980+int(d>>9), time.Month(month), day, hour, minute, second, 0, time.UTC), true
}

// binaryTime explains a difference in binary data as a time. If the windows of the builds are known, the times
// must lie in them; otherwise they must be within 30 days of each other.
func (f *finder) binaryTime(w *window) (found, bool) {
	for _, n := range numbers {
		slack := 2 * time.Second
		if n.format == "DOS date LE" {
			slack = zoneless
		}
		// Aligned values first: most fields are.
		for _, aligned := range []bool{true, false} {
			for back := range n.size {
				i, j := w.at-back, w.bt-back
				if i < 0 || j < 0 || i+n.size > len(w.a) || j+n.size > len(w.b) {
					continue
				}
				if (int64(i)+w.off)%4 == 0 != aligned {
					continue
				}
				a, ok1 := n.read(w.a[i : i+n.size])
				b, ok2 := n.read(w.b[j : j+n.size])
				if !ok1 || !ok2 || a.Equal(b) && n.size == 4 || !f.plausible(a, b, slack) {
					continue
				}
				if f.clock(a, b, slack, w.times) != BuildClock && !w.alone(n.size, a, b, aligned) {
					continue
				}
				c := Cause{
					Kind: Timestamp, Format: n.format, Clock: f.clock(a, b, slack, w.times),
					First: a.Format(time.RFC3339), Second: b.Format(time.RFC3339),
				}
				c.Why = stampWhy(n.format, c.Clock, f.hints)
				return found{c, [2]int{i, i + n.size}, [2]int{j, j + n.size}}, true
			}
		}
	}
	return found{}, false
}

// alone reports whether two values outside the windows may still be times: the difference is that of one
// number, and the times are close to each other.
func (w *window) alone(size int, a, b time.Time, aligned bool) bool {
	return w.bytes && w.spanA == w.spanB && w.spanA <= size && aligned && a.Unix() != b.Unix() &&
		b.Sub(a).Abs() <= 30*24*time.Hour && a.Year() < 2040
}
