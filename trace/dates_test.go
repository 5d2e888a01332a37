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
		name, from, to, ok := d.find([]byte(test.text))
		if ok != (test.form != "") || name != test.form {
			t.Errorf("%s: %q is %q", test.name, test.text, name)
		}
		if ok && (from < 0 || to > len(test.text) || from >= to) {
			t.Errorf("%s: %d to %d", test.name, from, to)
		}
	}
	if _, _, _, ok := newDates([]Window{night}, tokyo, time.Time{}).find([]byte("2026-11-10 05:00:03")); !ok {
		t.Error("the day of the image's time zone is not found")
	}
	for _, text := range []string{"2026-11-09", "1794233001"} {
		if _, _, _, ok := newDates([]Window{window1}, nil, built).find([]byte(text)); ok {
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
			if _, _, _, ok := d.find([]byte(text)); !ok {
				t.Errorf("%s is not found on %s", text, day.Format(time.DateOnly))
			}
		}
		other := day.AddDate(0, 0, 8)
		for _, text := range []string{other.Format(time.DateOnly), other.Format("20060102"), other.Format(time.RFC1123Z), other.Format(time.UnixDate)} {
			if name, _, _, ok := d.find([]byte(text)); ok {
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
		_, from, to, ok := d.find(data)
		if ok && (from < 0 || from >= to || to > len(data)) {
			t.Fatalf("%d to %d of %d", from, to, len(data))
		}
		if ok {
			line(data, from, to)
		}
	})
}
