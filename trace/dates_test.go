package trace

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var (
	built   = time.Date(2026, 11, 9, 14, 3, 20, 0, time.UTC)
	window1 = Window{built, built.Add(40 * time.Second)}
)

// TestAskedDates looks for what only counts in a step that reads the clock.
func TestAskedDates(t *testing.T) {
	for _, test := range []struct{ name, text, form string }{
		{"German", "09.11.26\n", "short date"},
		{"+%y%m%d", "build-261109.log", "short date"},
		{"+%y-%m-%d", "26-11-09", "short date"},
		{"British", "09/11/26", "short date"},
		{"+%Y-%m", "2026-11\n", "month"},
		{"a version of the month", "v=2026.11", "month"},
		{"+%Y%m", "202611", "month"},
		{"a month in a sentence", "as of 2026-11.\n", "month"},
		{"the next day in the east", "2026-11-10", "ISO date"},
		{"the same day in the east", "2026-11-09 23:03", "ISO date"},
		{"without zeros", "9.11.2026", "date with dots"},
		{"underscores", "2026_11_09", "date with underscores"},
		{"US with dashes", "11-09-2026", "date with dashes"},
		{"close together", "09Nov2026", "day month year"},
		{"EXIF's", "2026:11:09 14:03:20", "date with colons"},
		{"Python's repr", "datetime.date(2026, 11, 9)", "date in numbers"},
		{"JSON", "{\"year\": 2026, \"month\": 11, \"day\": 9}", "date in numbers"},
		{"shell", "YEAR=2026\nMONTH=11\nDAY=09\n", "date in numbers"},
		{"RFC 850", "Monday, 09-Nov-26", "short date"},
		{"+%y%j", "26313", "short date"},
		{"NTP's midnight", "4003171200", "seconds of another epoch"},
		{".NET's midnight", "639297792000000000", "seconds of another epoch"},
		{"tar's midnight", "\x0015274206400\x00", "octal seconds"},
		{"another number", "14003171200", ""},
		{"other numbers", "(2026, 11, 19)", ""},
		// Near cases.
		{"a day of the month", "2026-11-05", ""},
		{"a version", "2026.11.3", ""},
		{"the next day there", "2026-11-11", ""},
		{"a number", "1261109", ""},
		{"a number behind", "2611091", ""},
		{"another time", "2026-11-09 23:17", ""},
		{"another month", "2026-12", ""},
	} {
		d := newDates([]Window{window1}, nil, time.Time{})
		name, _, _, ok := d.find([]byte(test.text), reads)
		if ok != (test.form != "") || name != test.form {
			t.Errorf("%s: %q is %q", test.name, test.text, name)
		}
		if name, _, _, ok := d.find([]byte(test.text), notAsked); ok && (short(name) || strings.Contains(test.name, " in the east")) {
			t.Errorf("%s: %q is %q without a step that reads the clock", test.name, test.text, name)
		}
	}
	d := newDates([]Window{window1}, nil, time.Time{})
	for text, want := range map[string]string{
		"2026\n": "year", "November": "month", "Nov 2026": "month", "year=2026": "year", `day: "Monday"`: "weekday", "313": "day of the year", "46": "week",
		"20766": "days since 1970", "11-09": "day", "2025": "", "47": "", "46 x": "", "a=1\nb=2026": "", "": "",
	} {
		if name, _, ok := d.part([]byte(text), reads); ok != (want != "") || name != want {
			t.Errorf("%q is the %s, want %q", text, name, want)
		}
	}
	sameMonth := newDates([]Window{window1}, nil, built.AddDate(0, 0, -3))
	if _, _, _, ok := sameMonth.find([]byte("2026-11"), reads); ok {
		t.Error("the epoch's month is found")
	}
	if _, _, ok := sameMonth.part([]byte("2026"), reads); ok {
		t.Error("the epoch's year is found")
	}
	if _, _, _, ok := sameMonth.find([]byte("2026-11"), printed); !ok {
		t.Error("a month that date printed is not found, since it is the epoch's, too")
	}
	lastYear := newDates([]Window{window1}, nil, time.Date(2025, 11, 10, 3, 0, 0, 0, time.UTC)) // a Monday of the same week, in November
	for _, text := range []string{"Monday", "Mon", "November", "46"} {
		if name, _, ok := lastYear.part([]byte(text), reads); ok {
			t.Errorf("%s is found as the %s, and the epoch has it, too", text, name)
		}
		if _, _, ok := lastYear.part([]byte(text), printed); !ok {
			t.Errorf("%s that date printed is not found", text)
		}
	}
	for text, want := range map[string]asked{
		"RUN date +%Y-%m > /x": printed, "RUN echo \"$(date -u '+%B %Y')\"": printed, "RUN date": reads, "RUN date -d @$SOURCE_DATE_EPOCH +%Y > /x": reads,
		"RUN date -r /f +%Y": reads, "RUN ./update now": notAsked, "RUN apt-get update": notAsked, "RUN echo date-x": notAsked,
		"RUN ln -snf /usr/share/zoneinfo/UTC /etc/localtime": notAsked, "RUN echo Build date $DATE > /x": notAsked, "RUN make || echo 'up to date'": notAsked,
		"RUN apt-get install libdatetime-perl": notAsked, "RUN echo date - $X; update date": notAsked,
		"RUN --network=none TZ=UTC date>/x": reads, "RUN sh -c 'date > /x'": reads, "RUN [\"sh\", \"-c\", \"date > /x\"]": reads, "RUN <<EOF\ndate\nEOF": reads,
		"RUN if true; then date; fi": reads, "RUN x=`date`": reads, "RUN faketime x date -u": reads, "RUN perl -e 'print localtime'": reads,
	} {
		if got := asksClock(text); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func TestDates(t *testing.T) {
	tokyo := time.FixedZone("", 9*3600)
	night := Window{time.Date(2026, 11, 9, 20, 0, 0, 0, time.UTC), time.Date(2026, 11, 9, 20, 0, 9, 0, time.UTC)}
	for _, test := range []struct{ name, text, form string }{
		{"date", "Mon Nov  9 14:03:25 UTC 2026\n", "date"},
		{"date in another zone's words", "Nov  9 14:03:25 2026", "date"},
		{"+%F", "2026-11-09\n", "ISO date"},
		{"-I", "built=2026-11-09", "ISO date"},
		{"-Iminutes", "2026-11-09T14:03+00:00\n", "ISO date"},
		{"hour", "2026-11-09T14\n", "ISO date"},
		{"full hour", "2026-11-09 14:00:00", "ISO date"},
		{"Python's midnight", "2026-11-09 00:00:00", "ISO date"},
		{"Java's LocalDateTime", "2026-11-09T14:03:21.123456", "ISO date"},
		{"Go's time", "2026-11-09 14:03:21.5 +0000 UTC m=+0.01", "ISO date"},
		{"-R", "Mon, 09 Nov 2026 14:03:21 +0000", "day month year"},
		{"git's date", "Date:   Mon Nov 9 14:03:21 2026 +0000", "date"},
		{"+%Y%m%d", "app-20261109.tar", "compact date"},
		{"+%Y%m%d%H%M", "202611091403", "compact date"},
		{"+%D", "11/09/26", "date with slashes"},
		{"US", "11/09/2026", "date with slashes"},
		{"dots", "09.11.2026", "date with dots"},
		{"__DATE__", "\x00Nov  9 2026\x00", "month day, year"},
		{"in words", "on November 9th, 2026.", "month day, year"},
		{"in other words", "9 November 2026", "day month year"},
		{"ISO week", "2026-W46", "ISO week"},
		{"ISO week, compact", "2026W46", "ISO week"},
		{"+%s", "1794233001\n", "epoch seconds"},
		{"JavaScript's", `{"t":1794233001123}`, "epoch milliseconds"},
		{"far in a file", strings.Repeat("x", window-5) + " 2026-11-09", "ISO date"},
		// Near cases.
		{"another day", "2026-11-10", ""},
		{"another year", "2025-11-09", ""},
		{"another time of the day", "2026-11-09T09:12:00Z", ""},
		{"another minute", "2026-11-09 14:05", ""},
		{"a longer number", "120261109", ""},
		{"a longer number behind", "2026110931", ""},
		{"a version", "2026-11-091", ""},
		{"another second", "1794232901", ""},
		{"a longer second", "17942330011", ""},
		{"the year", "Copyright 2026", ""},
		{"the month", "Nov 2026", ""},
		{"another week", "2026-W45", ""},
		{"the zone's day", "2026-11-10 05:00:03", ""},
	} {
		d := newDates([]Window{window1}, nil, time.Time{})
		name, from, to, ok := d.find([]byte(test.text), notAsked)
		if ok != (test.form != "") || name != test.form {
			t.Errorf("%s: %q is %q", test.name, test.text, name)
		}
		if ok && (from < 0 || to > len(test.text) || from >= to) {
			t.Errorf("%s: %d to %d", test.name, from, to)
		}
	}
	if _, _, _, ok := newDates([]Window{night}, tokyo, time.Time{}).find([]byte("2026-11-10 05:00:03"), notAsked); !ok {
		t.Error("the day of the image's time zone is not found")
	}
	for _, text := range []string{"2026-11-09", "1794233001"} {
		if _, _, _, ok := newDates([]Window{window1}, nil, built).find([]byte(text), notAsked); ok {
			t.Errorf("%s is the epoch's day, and found", text)
		}
	}
	if d := newDates([]Window{{}, {From: built, To: built.Add(-time.Second)}}, nil, time.Time{}); len(d.forms) > 0 {
		t.Errorf("no window has %d forms", len(d.forms))
	}
}

// TestEveryDay finds the forms of a year of days, and none of them as another day.
func TestEveryDay(t *testing.T) {
	for day := time.Date(2027, 1, 1, 23, 59, 0, 0, time.UTC); day.Year() == 2027; day = day.AddDate(0, 0, 1) {
		d := newDates([]Window{{day, day.Add(time.Second)}}, nil, time.Time{})
		year, week := day.ISOWeek()
		for _, text := range []string{
			day.Format(time.DateOnly), day.Format("20060102"), day.Format(time.RFC1123Z), day.Format(time.ANSIC), day.Format(time.UnixDate),
			day.Format("Jan _2 2006"), day.Format("2006/01/02"), fmt.Sprintf("%d-W%02d", year, week), fmt.Sprint(day.Unix()), day.Format("2006-002"),
		} {
			if _, _, _, ok := d.find([]byte(text), notAsked); !ok {
				t.Errorf("%s is not found on %s", text, day.Format(time.DateOnly))
			}
		}
		other := day.AddDate(0, 0, 8)
		for _, text := range []string{other.Format(time.DateOnly), other.Format("20060102"), other.Format(time.RFC1123Z), other.Format(time.UnixDate)} {
			if name, _, _, ok := d.find([]byte(text), notAsked); ok {
				t.Errorf("%s is found on %s as %s", text, day.Format(time.DateOnly), name)
			}
		}
	}
}

func FuzzDates(f *testing.F) {
	for _, s := range []string{"2026-11-09T14:03:21Z", "Nov  9 14:03:25 2026", "1794233001", "2026", "11/09/26"} {
		f.Add([]byte(s))
	}
	d := newDates([]Window{window1}, time.FixedZone("", 3600), time.Time{})
	f.Fuzz(func(t *testing.T, data []byte) {
		_, from, to, ok := d.find(data, notAsked)
		if ok && (from < 0 || from >= to || to > len(data)) {
			t.Fatalf("%d to %d of %d", from, to, len(data))
		}
		if ok {
			line(data, from, to)
		}
	})
}
