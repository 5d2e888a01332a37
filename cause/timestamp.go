package cause

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A stamp is a textual form of a time.
type stamp struct {
	format  string
	re      *regexp.Regexp
	layouts []string // of package time; empty if there is parse
	parse   func(s string) (time.Time, bool)
	need    string        // a text that it always has, in lower case; it saves trying the pattern
	unit    time.Duration // its precision, or 14 hours more if it has no zone
	// A sure format is always a time. Another one is a time only near the builds, or if both are near each other.
	sure bool
}

const (
	weekday = `(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)`
	month   = `(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)`
	monthly = `(?:January|February|March|April|May|June|July|August|September|October|November|December)`
	clock24 = `(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d`
	isoDay  = `[12]\d{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])`
	day8    = `(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])`

	zoneless = 14 * time.Hour // the largest difference between a local time and UTC
)

// stamps are tried in this order: one that is a part of another comes after it.
var stamps = []stamp{
	{
		format: "RFC 3339", need: "t", re: regexp.MustCompile(isoDay + `T` + clock24 + `(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)`),
		layouts: []string{time.RFC3339Nano}, unit: 2 * time.Second, sure: true,
	},
	{
		format: "ISO 8601", need: ":", re: regexp.MustCompile(isoDay + `[T _]` + clock24 + `(?:[.,]\d{1,9})?(?: ?(?:UTC|GMT|Z|[+-]\d{4}|[+-]\d\d:\d\d))?`),
		layouts: []string{
			"2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05-0700", "2006-01-02 15:04:05 -07:00", "2006-01-02 15:04:05-07:00",
			"2006-01-02 15:04:05 MST", "2006-01-02 15:04:05Z", "2006-01-02 15:04:05",
		},
		unit: zoneless, sure: true,
	},
	{
		format: "ISO 8601 minutes", need: ":", re: regexp.MustCompile(isoDay + `[T _](?:[01]\d|2[0-3]):[0-5]\d`),
		layouts: []string{"2006-01-02 15:04"}, unit: zoneless, sure: true,
	},
	{
		format: "RFC 2822", need: ",", re: regexp.MustCompile(weekday + `, {1,2}\d{1,2} ` + month + ` \d{4} ` + clock24 + ` [+-]\d{4}`),
		layouts: []string{"Mon, 2 Jan 2006 15:04:05 -0700"}, unit: 2 * time.Second, sure: true,
	},
	{
		format: "RFC 1123", need: ",", re: regexp.MustCompile(weekday + `, \d{1,2} ` + month + ` \d{4} ` + clock24 + ` [A-Z]{3,4}`),
		layouts: []string{"Mon, 2 Jan 2006 15:04:05 MST"}, unit: zoneless, sure: true,
	},
	{
		format: "date", need: ":", re: regexp.MustCompile(weekday + ` ` + month + ` [ \d]\d ` + clock24 + `(?: [AP]M)?(?: [A-Z]{2,5}| [+-]\d{2,4})? \d{4}`),
		layouts: []string{
			"Mon Jan 2 15:04:05 MST 2006", "Mon Jan 2 15:04:05 2006", "Mon Jan 2 03:04:05 PM MST 2006",
			"Mon Jan 2 15:04:05 -0700 2006", "Mon Jan 2 15:04:05 -07 2006", "Mon Jan 2 03:04:05 PM 2006",
		},
		unit: zoneless, sure: true,
	},
	{
		format: "date in en_US", need: ":", re: regexp.MustCompile(weekday + ` [ \d]\d ` + month + ` \d{4} ` + clock24 + `(?: [AP]M)?(?: [A-Z]{2,5})?`),
		layouts: []string{"Mon 2 Jan 2006 03:04:05 PM MST", "Mon 2 Jan 2006 15:04:05 MST", "Mon 2 Jan 2006 03:04:05 PM", "Mon 2 Jan 2006 15:04:05"},
		unit:    zoneless, sure: true,
	},
	{
		format: "common log", need: "/", re: regexp.MustCompile(`\d\d/` + month + `/\d{4}:` + clock24 + ` [+-]\d{4}`),
		layouts: []string{"02/Jan/2006:15:04:05 -0700"}, unit: 2 * time.Second, sure: true,
	},
	{
		format: "PDF", need: "d:", re: regexp.MustCompile(`D:` + day8 + `\d{6}(?:Z|[+-]\d\d'\d\d'?)?`),
		parse: func(s string) (time.Time, bool) {
			t, err := time.Parse("20060102150405", s[2:16])
			return t, err == nil
		},
		unit: zoneless, sure: true,
	},
	{
		format: "C date and time", need: ":", re: regexp.MustCompile(month + ` [ \d]\d (?:19|20)\d\d,? (?:at )?` + clock24),
		layouts: []string{"Jan 2 2006 15:04:05"}, unit: zoneless, sure: true,
	},
	{
		format: "C date", re: regexp.MustCompile(`\b` + month + ` [ \d]\d (?:19|20)\d\d\b`),
		layouts: []string{"Jan 2 2006"}, unit: 24*time.Hour + zoneless, sure: true,
	},
	{
		format: "syslog", need: ":", re: regexp.MustCompile(`\b` + month + ` [ \d]\d ` + clock24 + `\b`),
		layouts: []string{"Jan 2 15:04:05"}, sure: true,
	},
	{
		// At the start of a log of TeX.
		format: "TeX log", need: ":", re: regexp.MustCompile(`\b\d{1,2} (?:JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC) \d{4} (?:[01]\d|2[0-3]):[0-5]\d\b`),
		layouts: []string{"2 Jan 2006 15:04"}, unit: zoneless, sure: true,
	},
	{
		format: "day month year", re: regexp.MustCompile(`\b\d{1,2}(?:st|nd|rd|th)?[ -](?:` + monthly + `|` + month + `),?[ -](?:19|20)\d\d\b`),
		layouts: []string{"2 January 2006", "2 Jan 2006"}, unit: 24*time.Hour + zoneless, sure: true,
	},
	{
		format: "month day, year", re: regexp.MustCompile(`\b(?:` + monthly + `|` + month + `) \d{1,2},? (?:19|20)\d\d\b`),
		layouts: []string{"January 2 2006", "Jan 2 2006"}, unit: 24*time.Hour + zoneless, sure: true,
	},
	{
		format: "month year", re: regexp.MustCompile(`\b(?:` + monthly + `|` + month + `),? (?:19|20)\d\d\b`),
		layouts: []string{"January 2006", "Jan 2006"}, unit: 32 * 24 * time.Hour, sure: true,
	},
	{
		format: "ISO date", need: "-", re: regexp.MustCompile(`\b` + isoDay + `\b`),
		layouts: []string{"2006-01-02"}, unit: 24*time.Hour + zoneless, sure: true,
	},
	{
		format: "date with slashes", need: "/", re: regexp.MustCompile(`\b(?:19|20)\d\d/\d\d/\d\d(?: ` + clock24 + `)?`),
		layouts: []string{"2006/01/02 15:04:05", "2006/01/02"}, unit: 24*time.Hour + zoneless, sure: true,
	},
	{
		format: "date with slashes", need: "/", re: regexp.MustCompile(`\b\d\d/\d\d/(?:20)?\d\d(?: ` + clock24 + `)?`),
		layouts: []string{"01/02/2006 15:04:05", "02/01/2006 15:04:05", "01/02/06 15:04:05", "01/02/2006", "02/01/2006", "01/02/06", "02/01/06"},
		unit:    24*time.Hour + zoneless,
	},
	{
		format: "date with dots", need: ".", re: regexp.MustCompile(`\b\d\d\.\d\d\.(?:19|20)\d\d(?:,? ` + clock24 + `)?`),
		layouts: []string{"02.01.2006 15:04:05", "02.01.2006"}, unit: 24*time.Hour + zoneless,
	},
	{
		// LDAP's generalized time has microseconds.
		format: "compact date and time", re: regexp.MustCompile(`(?:\b|_)` + day8 + `[T_.-]?(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d(?:\.\d{3,6})?)?Z?(?:\b|_)`),
		parse: func(s string) (time.Time, bool) {
			s = digits(s)
			s = s[:min(len(s), 14)]
			t, err := time.Parse("20060102150405"[:len(s)], s)
			return t, err == nil
		},
		unit: zoneless,
	},
	{
		format: "compact date", re: regexp.MustCompile(`(?:\b|_)` + day8 + `(?:\b|_)`),
		parse: func(s string) (time.Time, bool) {
			t, err := time.Parse("20060102", digits(s))
			return t, err == nil
		},
		unit: 24*time.Hour + zoneless,
	},
	{
		format: "epoch nanoseconds", re: regexp.MustCompile(`\b1\d{18}\b`), unit: 2 * time.Second,
		parse: func(s string) (time.Time, bool) { return epochText(s, 1) },
	},
	{
		format: "epoch microseconds", re: regexp.MustCompile(`\b(?:000)?1\d{15}\b`), unit: 2 * time.Second,
		parse: func(s string) (time.Time, bool) { return epochText(s, 1e3) },
	},
	{
		format: "epoch milliseconds", re: regexp.MustCompile(`\b1\d{12}\b`), unit: 2 * time.Second,
		parse: func(s string) (time.Time, bool) { return epochText(s, 1e6) },
	},
	{
		// In the maps of NIS, and so in those of Postfix, it follows its key.
		format: "epoch seconds", re: regexp.MustCompile(`(?:\b|YP_LAST_MODIFIED)1\d{9}(?:\.\d+)?\b`), unit: 2 * time.Second,
		parse: func(s string) (time.Time, bool) {
			s, _, _ = strings.Cut(strings.TrimPrefix(s, "YP_LAST_MODIFIED"), ".")
			return epochText(s, 1e9)
		},
	},
	{
		format: "time of day", need: ":", re: regexp.MustCompile(`\b` + clock24 + `\b`),
		layouts: []string{"15:04:05"}, sure: true,
	},
}

// maxApart is the largest difference of two numbers that are taken for times without a window.
const maxApart = 400 * 24 * time.Hour

func digits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}

func epochText(s string, unit int64) (time.Time, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || unit > 1 && n > math.MaxInt64/unit {
		return time.Time{}, false
	}
	return time.Unix(0, n*unit).UTC(), true
}

var spaces = regexp.MustCompile(` +`)

// time parses a match of re.
func (s *stamp) time(text string) (time.Time, bool) {
	if s.parse != nil {
		return s.parse(text)
	}
	text = spaces.ReplaceAllString(strings.NewReplacer(", ", " ", ",", ".", "_", " ", "at ", "", "-", "-").Replace(text), " ")
	if s.format == "day month year" {
		text = strings.NewReplacer("st", "", "nd", "", "rd", "", "th", "", "-", " ", "Augu", "August").Replace(text)
	}
	for _, layout := range s.layouts {
		layout = strings.Replace(layout, ", ", " ", 1)
		if len(text) > 10 && text[10] == 'T' && layout != time.RFC3339Nano {
			text = text[:10] + " " + text[11:]
		}
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// plausible reports whether two values are times of two builds: in their windows if those are known, otherwise
// near each other and after 2010.
func (f *finder) plausible(a, b time.Time, slack time.Duration) bool {
	if f.clock(a, b, slack, [2]time.Time{}) == BuildClock {
		return true
	}
	if f.hints.First.known() || f.hints.Second.known() {
		return false
	}
	apart := b.Sub(a).Abs()
	return a.Year() >= 2010 && a.Year() < 2100 && b.Year() >= 2010 && b.Year() < 2100 && apart <= maxApart
}

// clock returns the origin of both times, "" if it is unknown.
func (f *finder) clock(a, b time.Time, slack time.Duration, files [2]time.Time) Clock {
	if f.hints.First.holds(a, slack) && f.hints.Second.holds(b, slack) {
		return BuildClock
	}
	same := func(t, file time.Time) bool { return !file.IsZero() && t.Sub(file).Abs() < 2*time.Second }
	if same(a, files[0]) && same(b, files[1]) {
		return FileClock
	}
	return ""
}

// stamp explains a difference in text as a time.
func (f *finder) stamp(w *window) (found, bool) {
	if w.digits() < 3 {
		return found{}, false
	}
	for i := range stamps {
		s := &stamps[i]
		if s.need != "" && !w.near(s.need) {
			continue
		}
		a, b, ok := w.match(s.re)
		if !ok {
			continue
		}
		x, ok1 := s.time(string(w.a[a[0]:a[1]]))
		y, ok2 := s.time(string(w.b[b[0]:b[1]]))
		if !ok1 || !ok2 || !s.sure && !f.plausible(x, y, s.unit) && f.apart(x, y, s.unit) == 0 {
			continue
		}
		c := Cause{Kind: Timestamp, Format: s.format}
		switch s.format {
		case "time of day", "syslog":
			if f.sameClock(x, f.hints.First) && f.sameClock(y, f.hints.Second) {
				c.Clock = BuildClock
			}
		default:
			c.Clock = f.clock(x, y, s.unit, w.times)
		}
		if w.binary && (strings.HasPrefix(s.format, "C date") || s.format == "time of day") {
			c.Kind = CompilerDate
			return found{c, a, b}, true
		}
		c.Why = stampWhy(s.format, c.Clock, f.hints)
		if apart := f.apart(x, y, s.unit); c.Clock == "" && apart != 0 {
			c.Clock = BuildClock
			c.Why = "The time of the build " + distance(apart) + " was written down (" + s.format + "), as the time at which something expires."
		}
		switch {
		case w.near("<!-- generated by javadoc", `<meta name="dc.created"`):
			c.Fix = "javadoc -notimestamp."
		case w.near("built: r "):
			c.Fix = `R CMD INSTALL --built-timestamp="$(date -u -d @$SOURCE_DATE_EPOCH)".`
		}
		return found{c, a, b}, true
	}
	return found{}, false
}

// apart returns the distance of two times from their builds if it is the same for both and a whole number of
// days, or of hours up to two days; 0 if it is not.
func (f *finder) apart(a, b time.Time, slack time.Duration) time.Duration {
	const maxDays = 3660 * 24 * time.Hour
	first, second := f.hints.First, f.hints.Second
	if slack > 2*time.Second || !first.known() || !second.known() {
		return 0 // a date without a time is a whole number of days from everything
	}
	for _, unit := range []time.Duration{24 * time.Hour, time.Hour} {
		d := a.Sub(first.From)
		d = (d - (d%unit+unit)%unit)
		far := maxDays
		if unit == time.Hour {
			far = 48 * time.Hour
		}
		if d != 0 && d.Abs() <= far && first.To.Sub(first.From) < unit/2 && first.holds(a.Add(-d), 0) && second.holds(b.Add(-d), 0) {
			return d
		}
	}
	return 0
}

// distance returns a result of apart in words.
func distance(d time.Duration) string {
	sign, n, unit := "plus", int(d.Abs()/time.Hour), "hours"
	if d < 0 {
		sign = "minus"
	}
	if n%24 == 0 {
		n, unit = n/24, "days"
	}
	return fmt.Sprintf("%s %d %s", sign, n, unit)
}

// sameClock reports whether a time of day is in a window shorter than a day.
func (f *finder) sameClock(t time.Time, w Window) bool {
	if !w.known() || w.To.Sub(w.From) > 24*time.Hour {
		return false
	}
	for _, day := range []time.Time{w.From.UTC(), w.To.UTC()} {
		at := time.Date(day.Year(), day.Month(), day.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
		if w.holds(at, 2*time.Second) {
			return true
		}
	}
	return false
}

func stampWhy(format string, clock Clock, h Hints) string {
	switch {
	case clock == BuildClock:
		return "The time of the build was written down (" + format + ")."
	case clock == FileClock:
		return "The modification time of the file was written down in it (" + format + ")."
	case h.First.known() && h.Second.known():
		return "A time was written down (" + format + "); it is not the time of the builds."
	}
	return "A time was written down (" + format + ")."
}
