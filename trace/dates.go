package trace

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// reach is how many bytes a date can have before its year and behind it.
const reach = 48

// A form is one way to write a day down.
type form struct {
	name string
	day  time.Time      // midnight in UTC, of the day that re matches
	re   *regexp.Regexp // its groups are hour, minute and second, if there are any
	// asked is what the step must do: the form is short, or of a day that only a time zone far away has.
	asked asked
}

// dates finds the days of the builds.
type dates struct {
	anchors [][]byte // every date has one of them
	forms   []form
	// numbers are the first digits of the seconds since 1970.
	numbers [][]byte
	exact   []exact
	windows []Window
	zones   []*time.Location
	parts   map[string]part // by what date prints for them
	not     time.Time
}

// exact is the beginning of a day in the form of an archive or a binary format.
type exact struct {
	name  string
	bytes []byte
	asked asked
}

// addExact adds how formats write a midnight and a day.
func (d *dates) addExact(midnight time.Time) {
	s := midnight.Unix()
	le, be := binary.LittleEndian.AppendUint32(nil, uint32(s)), binary.BigEndian.AppendUint32(nil, uint32(s))
	y, m, day := midnight.Date()
	number := uint32(y*10000 + int(m)*100 + day)
	for _, e := range []exact{
		{"octal seconds", fmt.Appendf(nil, "%011o", s), reads}, {"hexadecimal seconds", fmt.Appendf(nil, "%08x", s), reads}, {"hexadecimal seconds", fmt.Appendf(nil, "%08X", s), reads},
		{"binary seconds", le, reads}, {"binary seconds", be, reads},
		{"binary date", binary.LittleEndian.AppendUint32(nil, number), reads}, {"binary date", binary.BigEndian.AppendUint32(nil, number), reads},
		{"date of a PNG", append(binary.BigEndian.AppendUint16([]byte("tIME"), uint16(y)), byte(m), byte(day)), notAsked},
	} {
		d.addBytes(e)
	}
	// NTP's seconds, those of old Macs and of Cocoa, and intervals of 100 ns of Windows and .NET.
	for _, n := range []int64{s + 2208988800, s + 2082844800, s - 978307200, (s + 11644473600) * 1e7, (s + 62135596800) * 1e7} {
		d.addBytes(exact{"seconds of another epoch", strconv.AppendInt(nil, n, 10), reads})
	}
}

func (d *dates) addBytes(e exact) {
	if !slices.ContainsFunc(d.exact, func(have exact) bool { return bytes.Equal(have.bytes, e.bytes) }) {
		d.exact = append(d.exact, e)
	}
}

// part is a month, a week or the like of the builds.
type part struct {
	name  string
	asked asked // the epoch's, too, counts only if it is printed
}

// newDates looks for the days of windows, except for the day not.
func newDates(windows []Window, zone *time.Location, not time.Time) *dates {
	d := &dates{zones: []*time.Location{time.UTC}, parts: map[string]part{}, not: not}
	if zone != nil && zone != time.UTC {
		d.zones = append(d.zones, zone)
	}
	seen := map[string]bool{}
	for _, w := range windows {
		if w.From.IsZero() || w.To.Before(w.From) {
			continue
		}
		d.windows = append(d.windows, w)
		for _, zone := range d.zones {
			for _, t := range []time.Time{w.From.In(zone), w.To.In(zone)} {
				day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
				if key := day.Format(time.DateOnly); !seen[key] && !sameDay(not, day) {
					seen[key] = true
					d.add(day, false)
					d.addParts(t)
				}
				if !sameDay(not, day) {
					midnight := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, zone)
					d.addExact(midnight)
					for _, when := range []time.Time{midnight, t.Truncate(time.Hour)} {
						d.numbers = appendNew(d.numbers, []byte(strconv.FormatInt(when.Unix()/1000, 10)))
					}
				}
			}
		}
		for _, t := range []time.Time{w.From.Add(-west), w.To.Add(east)} {
			day := t.UTC().Truncate(24 * time.Hour)
			if key := day.Format(time.DateOnly); !seen[key] && !sameDay(not, day) {
				seen[key] = true
				d.add(day, true)
			}
		}
		if sameDay(not, w.From) || sameDay(not, w.To) {
			continue
		}
		for t := w.From.Unix() / 1000; t <= w.To.Unix()/1000; t++ {
			if prefix := []byte(strconv.FormatInt(t, 10)); len(d.numbers) < 100 {
				d.numbers = appendNew(d.numbers, prefix)
			}
		}
	}
	return d
}

// The time zones that differ most from UTC.
const west, east = 12 * time.Hour, 14 * time.Hour

// addParts adds what date prints for a part of a date. What it prints for the epoch, too, counts only if it is printed.
func (d *dates) addParts(t time.Time) {
	for text, name := range parts(t) {
		d.parts[text] = part{name, reads}
	}
	if d.not.IsZero() {
		return
	}
	for text := range parts(d.not.UTC()) {
		if p, ok := d.parts[text]; ok {
			d.parts[text] = part{p.name, printed}
		}
	}
}

// parts returns the names of the parts of a date, by what date prints for them.
func parts(t time.Time) map[string]string {
	_, week := t.ISOWeek()
	days := t.Unix() / (24 * 60 * 60)
	all := map[string]string{
		fmt.Sprintf("%03d", t.YearDay()): "day of the year", fmt.Sprintf("%02d", week): "week", strconv.FormatInt(days, 10): "days since 1970",
		strconv.FormatInt(t.Unix()/60, 10): "minutes since 1970", strconv.FormatInt(t.Unix()/3600, 10): "hours since 1970",
	}
	for _, first := range []int64{719163, 2440588, 40587, 25569, -10957} { // Python's, Julian, modified Julian, spreadsheets', PostgreSQL's
		all[strconv.FormatInt(days+first, 10)] = "number of the day"
	}
	for seconds := strconv.FormatInt(t.Unix(), 10); len(seconds) > 5; {
		seconds = seconds[:len(seconds)-1]
		all[seconds] = "first digits of epoch seconds"
	}
	for name, layouts := range map[string][]string{
		"year": {"2006"}, "month": {"Jan 2006", "January 2006", "01/2006", "200601", "2006/01", "January", "Jan"},
		"weekday": {"Monday", "Mon"}, "day": {"01-02", "01/02", "02.01.", "02/01", "January 02", "January 2", "02 January", "2 January", "Jan 02", "Jan 2", "Jan _2", "02 Jan", "2 Jan"},
	} {
		for _, layout := range layouts {
			all[t.Format(layout)] = name
		}
	}
	year, quarter := t.Format("2006"), fmt.Sprintf("Q%d", (int(t.Month())-1)/3+1)
	for _, text := range []string{year + quarter, year + "-" + quarter, quarter + " " + year, quarter} {
		all[text] = "quarter"
	}
	return all
}

// part returns the part of a date that a whole text is, or that of the line that ends with it after = or :.
func (d *dates) part(text []byte, by asked) (name, found string, ok bool) {
	s := strings.TrimSpace(string(text))
	if i := strings.LastIndexAny(s, "=:"); i >= 0 && !strings.ContainsAny(s, "\n") {
		s = s[i+1:]
	}
	s = strings.Trim(s, closing)
	p := d.parts[s]
	return p.name, s, p.name != "" && by >= p.asked
}

// closing are characters around a value.
const closing = " \"'[]{},;"

func sameDay(a, b time.Time) bool {
	return !a.IsZero() && a.UTC().Format(time.DateOnly) == b.UTC().Format(time.DateOnly)
}

func appendNew(list [][]byte, b []byte) [][]byte {
	for _, have := range list {
		if bytes.Equal(have, b) {
			return list
		}
	}
	return append(list, b)
}

// add adds the forms of a day. far says that only a zone far away has it.
func (d *dates) add(day time.Time, far bool) {
	y := day.Format("2006")
	isoYear, week := day.ISOWeek()
	d.anchors = appendNew(d.anchors, []byte(y))
	d.anchors = appendNew(d.anchors, []byte(strconv.Itoa(isoYear)))
	for _, layout := range []string{"Jan _2 ", "Jan 2 ", "Jan 02 ", "01/02/06", "06-01-02", "02.01.06", "02-01-06", "02/01/06", "060102", "02-Jan-06", "02Jan06", "06002"} {
		d.anchors = appendNew(d.anchors, []byte(day.Format(layout)))
	}
	const (
		clock   = `(\d\d)[:.hH-]?(\d\d)(?:[:.-]?(\d\d))?`
		then    = `(?:(?:[T _,:-]| at )` + clock + `|[T_](\d\d)\b)?`
		weekday = `(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? )?`
	)
	month := `(?:` + day.Format("Jan") + `|` + day.Format("January") + `)`
	number := `(?: |0)?` + strconv.Itoa(day.Day())
	number2 := day.Format("02")
	month2 := y + `[-._]?` + day.Format("01")
	for _, f := range []struct{ name, pattern string }{
		{"date", month + ` ` + number + ` (\d\d):(\d\d):(\d\d)(?: [AP]M)?(?: [A-Z]{2,5}| [+-]\d{2,4})? ` + y},
		{"ISO date", y + `-` + day.Format("01-02") + then},
		{"compact date", day.Format("20060102") + `(?:[T_.-]?` + clock + `)?`},
		{"date with slashes", y + `/` + day.Format("01/02") + then},
		{"date with slashes", `(?:` + day.Format("01/02") + `|` + day.Format("02/01") + `)/` + y + then},
		{"date with slashes", day.Format("01/02/06")},
		{"date with dots", `(?:` + day.Format(`02\.01\.2006`) + `|` + day.Format(`2006\.01\.02`) + `|` + day.Format(`2\.1\.2006`) + `|` + day.Format(`2006\.1\.2`) + `)` + then},
		{"date with dashes", `(?:` + day.Format("02-01-2006") + `|` + day.Format("01-02-2006") + `)` + then},
		{"date with underscores", day.Format("2006_01_02") + then},
		{"date with colons", day.Format("2006:01:02") + then},
		{"date in numbers", fmt.Sprintf(`%s[,;] ?0?%d[,;] ?0?%d(?:$|\D)`, y, day.Month(), day.Day())},
		{"date in numbers", fmt.Sprintf(`(?si)year["']?\s*[:=]\s*["']?%s\b.{1,9}mon(?:th)?["']?\s*[:=]\s*["']?0?%d\b.{1,9}day["']?\s*[:=]\s*["']?0?%d(?:$|\D)`, y, day.Month(), day.Day())},
		{"common log", number2 + `/` + day.Format("Jan") + `/` + y + then},
		{"day month year", weekday + number + `(?:st|nd|rd|th)?[ -]?` + month + `,?[ -]?` + y + then},
		{"month day, year", month + `[ -]` + number + `(?:st|nd|rd|th)?,? ` + y + then},
		{"ISO week", fmt.Sprintf(`%d-?W%02d`, isoYear, week)},
		{"short date", `(?:` + strings.Join([]string{day.Format("06-01-02"), day.Format(`02\.01\.06`), day.Format("02-01-06"), day.Format("02/01/06"), day.Format("060102"), day.Format("02-Jan-06"), day.Format("02Jan06"), day.Format("06002")}, "|") + `)`},
		{"listing", month + ` ` + number + ` (\d\d):(\d\d)(?::(\d\d))?(?:$|[^:\d])`},
		{"month", `(?:` + month2 + `)(?:$|[^\d._-]|[._-](?:$|[^\d]))`},
		{"day of the year", fmt.Sprintf(`%s[-.]%03d`, y, day.YearDay())},
	} {
		needs := notAsked
		switch {
		case f.name == "month" && far:
			continue
		case f.name == "month" && !d.not.IsZero() && d.not.UTC().Format("2006-01") == day.Format("2006-01"):
			needs = printed
		case far || short(f.name) || f.name == "date in numbers":
			needs = reads
		}
		d.forms = append(d.forms, form{f.name, day, regexp.MustCompile(f.pattern), needs})
	}
}

// short reports whether a form may also be another number.
func short(name string) bool {
	return name == "short date" || name == "month" || name == "binary seconds" || name == "binary date"
}

// find returns the first date in buf, and its bounds. by says whether the step that wrote buf reads the clock.
func (d *dates) find(buf []byte, by asked) (name string, from, to int, ok bool) {
	for _, anchor := range d.anchors {
		for start, tries := 0, 0; tries < 4096; tries++ {
			i := bytes.Index(buf[start:], anchor)
			if i < 0 {
				break
			}
			i += start
			lo, hi := max(0, i-reach), min(len(buf), i+len(anchor)+reach)
			if name, from, to, ok := d.near(buf[lo:hi], i-lo, by); ok {
				return name, lo + from, lo + to, true
			}
			start = i + len(anchor)
		}
	}
	for _, e := range d.exact {
		if by < e.asked {
			continue
		}
		if i := bytes.Index(buf, e.bytes); i >= 0 {
			if end := i + len(e.bytes); !digitAt(e.bytes, 0) || !digitAt(buf, i-1) && !digitAt(buf, end) {
				return e.name, i, end, true
			}
		}
	}
	for _, number := range d.numbers {
		for start, tries := 0, 0; tries < 4096; tries++ {
			i := bytes.Index(buf[start:], number)
			if i < 0 {
				break
			}
			i += start
			if name, n := d.number(buf, i); n > 0 {
				return name, i, i + n, true
			}
			start = i + len(number)
		}
	}
	return "", 0, 0, false
}

// near looks for a date in text that includes the anchor at an index.
func (d *dates) near(text []byte, anchor int, by asked) (name string, from, to int, ok bool) {
	for _, f := range d.forms {
		if by < f.asked {
			continue
		}
		for _, m := range f.re.FindAllSubmatchIndex(text, -1) {
			if m[0] > anchor || m[1] <= anchor || digitAt(text, m[0]-1) || digitAt(text, m[1]) {
				continue
			}
			clock := []string{}
			for g := 2; g < len(m); g += 2 {
				if m[g] >= 0 {
					clock = append(clock, string(text[m[g]:m[g+1]]))
				}
			}
			if len(clock) == 0 || d.holds(f.day, clock, by) {
				return f.name, m[0], m[1], true
			}
		}
	}
	return "", 0, 0, false
}

func digitAt(text []byte, i int) bool {
	return i >= 0 && i < len(text) && text[i] >= '0' && text[i] <= '9'
}

// anyZone has a zone for each difference from UTC.
var anyZone = func() (zones []*time.Location) {
	for offset := -west; offset <= east; offset += 15 * time.Minute {
		zones = append(zones, time.FixedZone("", int(offset.Seconds())))
	}
	return zones
}()

// holds reports whether a build can have read a time of day from the clock: hour, minute and second; the
// last may be missing. Midnight stands for the day, and a full hour or minute for the time within it.
func (d *dates) holds(day time.Time, clock []string, by asked) bool {
	var n [3]int
	for i, s := range clock[:min(len(clock), 3)] {
		n[i], _ = strconv.Atoi(s)
	}
	if n == [3]int{} {
		return true
	}
	precision := time.Second
	switch {
	case len(clock) == 1 || n[1] == 0 && n[2] == 0:
		precision = time.Hour
	case len(clock) == 2 || n[2] == 0:
		precision = time.Minute
	}
	zones := d.zones
	if by != notAsked {
		zones = anyZone
	}
	for _, zone := range zones {
		t := time.Date(day.Year(), day.Month(), day.Day(), n[0], n[1], n[2], 0, zone)
		for _, w := range d.windows {
			if !t.Add(precision).Before(w.From) && !t.After(w.To) {
				return true
			}
		}
	}
	return false
}

// number returns the length of the number at an index if it is a time of the builds in seconds since 1970, or
// in smaller units.
func (d *dates) number(buf []byte, i int) (name string, n int) {
	for n = 0; digitAt(buf, i+n) && n <= 19; n++ {
	}
	if digitAt(buf, i-1) {
		return "", 0
	}
	name = map[int]string{10: "epoch seconds", 13: "epoch milliseconds", 16: "epoch microseconds", 19: "epoch nanoseconds"}[n]
	if name == "" {
		return "", 0
	}
	seconds, err := strconv.ParseInt(string(buf[i:i+10]), 10, 64)
	if err != nil {
		return "", 0
	}
	for _, w := range d.windows {
		// The last minute, hour or day has begun at that time.
		for _, unit := range []int64{1, 60, 60 * 60} {
			if seconds%unit == 0 && seconds > w.From.Unix()-unit && seconds <= w.To.Unix() {
				return name, n
			}
		}
		for _, zone := range d.zones {
			for _, t := range []time.Time{w.From.In(zone), w.To.In(zone)} {
				if seconds == time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, zone).Unix() {
					return name, n
				}
			}
		}
	}
	return "", 0
}

var anyDay = regexp.MustCompile(`\b(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])\b`)

// otherDays reports whether text has another date than those of the builds.
func (d *dates) otherDays(text []byte) bool {
	for _, m := range anyDay.FindAll(text, -1) {
		if _, _, _, ok := d.find(m, notAsked); !ok {
			return true
		}
	}
	return false
}
