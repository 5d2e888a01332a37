package trace

import (
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// A date command of the step printed the whole text, in whatever form.
func TestPrinted(t *testing.T) {
	now := time.Date(2026, 11, 30, 14, 3, 5, 0, time.UTC)
	d := newDates([]Window{{now.Add(-time.Second), now.Add(2 * time.Minute)}}, nil, time.Time{})
	for _, test := range []struct{ step, text, format string }{
		{"RUN date +%d%m%Y > /f", "30112026\n", "date +%d%m%Y"},
		{"RUN date '+%A, %d %B' > /f", "Monday, 30 November\n", "date +%A, %d %B"},
		{`RUN date -u +"%H" > /f`, "14\n", "date +%H"},
		{"RUN date +%H > /f", "13\n", ""},
		{"RUN date +%-d/%-m > /f", "30/11", "date +%-d/%-m"},
		{"RUN date +%p > /f", "PM\n", "date +%p"},
		{"RUN echo built=$(date +%b-%Y) > /f", "built=Nov-2026", "date +%b-%Y"},
		{"RUN date -d '+30 days' +%F > /f", "2026-12-30\n", "date +%F"},
		{"RUN date -d tomorrow '+%d %b %Y' > /f", "01 Dec 2026\n", "date +%d %b %Y"},
		{"RUN date --date='2 weeks ago' +%F > /f", "2026-11-16\n", "date +%F"},
		{"RUN echo expires $(date -d '+1 year' +%Y) > /f", "expires 2027\n", "date +%Y"},
		{"RUN date +%F | md5sum > /f", "4bd5045e930ece53e1ff7ff5194a6679  -\n", "date +%F, as a hash"},
		{"RUN date +%F | base64 > /f", "MjAyNi0xMS0zMAo=\n", "date +%F, as a hash"},
		{"RUN date +%F | md5sum > /f", "00000000000000000000000000000000  -\n", ""},
		{"RUN date +%F | rev > /f", "03-11-6202\n", "date +%F, as a hash"},
		{"RUN date +%F | md5sum | cut -c1-8 > /f", "4bd5045e\n", "date +%F, as a hash"},
		{"RUN echo bust=$(date +%F | md5sum | head -c 10) > /f", "bust=4bd5045e93\n", "date +%F, as a hash"},
		{"RUN date +%F | md5sum | cut -c1-4 > /f", "4bd5\n", ""},
		{`RUN echo "{\"d\":\"$(date +%d%m%Y)\"}" > /f`, `{"d":"30112026"}`, "date +%d%m%Y"},
		{"RUN date +d=%d%m%y >> /f", "a=b\nd=301126\n", "date +d=%d%m%y"},
		{"RUN date | cut -c1-10 > /f", "Mon Nov 30\n", "date +%a %b %e %T UTC %Y, cut"},
		{"RUN date | cut -d' ' -f4 | cut -c1-5 > /f", "14:03\n", "date +%a %b %e %T UTC %Y, cut"},
		{"RUN date | awk '{print $3}' > /f", "30\n", "date +%a %b %e %T UTC %Y, cut"},
		{"RUN date +%T | cut -c1-5 > /f", "14:03\n", "date +%T, cut"},
		{"RUN date +%T | cut -c1-5 > /f", "13:03\n", ""},
		{"RUN date +%T > /f", "14:03\n", ""},
		{"RUN date | awk '{print $3}' > /f", "31\n", ""},
		{"RUN date | awk '{print $3}' > /f", "3\n", ""},
		{"RUN date +%F | awk x > /f", "a=b\nc=30\n", ""},
		{"RUN date +%Y; openssl version > /f", "OpenSSL 3.0.17 1 Jul 2026 (Library: OpenSSL 3.0.17 1 Jul 2026)\n", ""},
		{"RUN date +%Y; x > /f", "x, 7 April 2026\n", ""},
		{"RUN echo since $(date +%Y) > /f", "since 2026\n", "date +%Y"},
		// The epoch's date, a fixed one, and what no command of the step prints.
		{`RUN date -d "@$SOURCE_DATE_EPOCH" +%d > /f`, "30\n", ""},
		{"RUN date -d 2026-11-30 +%d > /f", "30\n", ""},
		{"RUN date -u -r /etc/passwd +%d > /f", "30\n", ""},
		{"RUN echo 30 > /f", "30\n", ""},
		{"RUN date +%d > /f", "3.30\nand more\n", ""},
		{"RUN date +%d > /f", "130\n", ""},
		{"RUN date +%d > /f", "1.30\n", ""},
		{"RUN date +%d%m%y > /f", "1.301126\n", "date +%d%m%y"},
		{"RUN date +%T > /f", "14:03:05\n", ""}, // no two builds have it in common
	} {
		format, _, _, ok := printedBy(d.outputs(commands(test.step)), []byte(test.text), cuts.MatchString(test.step))
		if format != test.format || ok != (format != "") {
			t.Errorf("%s: %q is of %q, want %q", test.step, test.text, format, test.format)
		}
	}
}

// What date prints is what date(1) prints.
func TestPrintedAsDate(t *testing.T) {
	for _, format := range []string{"%Y %y %m %d %e %H %I %M", "%a %A %b %h %B", "%j %p %P %F %D %R", "%C %u %w %G %V %q %%", "%-d/%-m %-H %-I %-j"} {
		for _, seconds := range []string{"1796047385", "1798761600", "1583020805"} {
			cmd := exec.Command("date", "-u", "-d@"+seconds, "+"+format)
			cmd.Env = []string{"LC_ALL=C"}
			want, err := cmd.Output()
			if err != nil {
				t.Skip(err)
			}
			n, err := strconv.ParseInt(seconds, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := strftime(format, time.Unix(n, 0).UTC()); !ok || got+"\n" != string(want) {
				t.Errorf("%s: %q, want %q", format, got, want)
			}
		}
	}
}
