package trace

import (
	"crypto/md5"  //nolint:gosec // the builds'
	"crypto/sha1" //nolint:gosec // the builds'
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A command is a date command whose output follows from the clock alone.
type command struct {
	format string
	at     func(time.Time) time.Time // what -d makes of the clock
}

var (
	dateCommand = regexp.MustCompile(`\bdate((?:\s+(?:-u|--utc|-d\s*(?:"[^"]*"|'[^']*'|[^\s"']+)|--date[= ](?:"[^"]*"|'[^']*'|[^\s"']+)))*)\s+(?:\+"([^"]*)"|\+'([^']*)'|"\+([^"]*)"|'\+([^']*)'|\+([^\s"'` + "`" + `();|&<>]+))`)
	dateShift   = regexp.MustCompile(`(?:-d|--date)[= ]*["']?(?:(now|today|yesterday|tomorrow)|([+-]?\s*\d+|next|last)\s*(second|sec|minute|min|hour|day|week|month|year)s?( ago)?)["']?\s*(?:-u|--utc)?$`)
)

// commands returns the date commands of an instruction. One with a date of its own, such as the epoch, is none.
func commands(text string) []command {
	var all []command
	for _, m := range dateCommand.FindAllStringSubmatch(text, -1) {
		c := command{strings.Join(m[2:], ""), func(t time.Time) time.Time { return t }}
		if options := strings.TrimSpace(m[1]); strings.Contains(options, "-d") {
			s := dateShift.FindStringSubmatch(options)
			if s == nil {
				continue
			}
			c.at = shift(s[1], s[2], s[3], s[4] != "")
		}
		all = append(all, c)
	}
	return all
}

// shift returns what date makes of a word, or of a number of units.
func shift(word, number, unit string, ago bool) func(time.Time) time.Time {
	n, _ := strconv.Atoi(strings.ReplaceAll(strings.TrimPrefix(number, "+"), " ", ""))
	switch {
	case word == "yesterday" || number == "last":
		n = -1
	case word == "tomorrow" || number == "next":
		n = 1
	}
	if ago {
		n = -n
	}
	return func(t time.Time) time.Time {
		switch unit {
		case "second", "sec":
			return t.Add(time.Duration(n) * time.Second)
		case "minute", "min":
			return t.Add(time.Duration(n) * time.Minute)
		case "hour":
			return t.Add(time.Duration(n) * time.Hour)
		case "week":
			return t.AddDate(0, 0, 7*n)
		case "month":
			return t.AddDate(0, n, 0)
		case "year":
			return t.AddDate(n, 0, 0)
		}
		return t.AddDate(0, 0, n)
	}
}

// conversions are layouts for what date knows by a letter.
var conversions = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'e': "_2", 'H': "15", 'I': "03", 'M': "04", 'a': "Mon", 'A': "Monday", 'b': "Jan", 'h': "Jan", 'B': "January",
	'j': "002", 'p': "PM", 'P': "pm", 'F': "2006-01-02", 'D': "01/02/06", 'x': "01/02/06", 'R': "15:04",
}

// strftime returns what date prints for a format. It knows no seconds, which two builds do not have in common.
func strftime(format string, t time.Time) (text string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		bare := false
		for i++; i < len(format) && strings.IndexByte("-_0", format[i]) >= 0; i++ {
			bare = format[i] == '-'
		}
		if i == len(format) {
			return "", false
		}
		year, week := t.ISOWeek()
		part := ""
		switch c := format[i]; c {
		case 'C':
			part = fmt.Sprintf("%02d", t.Year()/100)
		case 'u':
			part = strconv.Itoa((int(t.Weekday())+6)%7 + 1)
		case 'w':
			part = strconv.Itoa(int(t.Weekday()))
		case 'G':
			part = strconv.Itoa(year)
		case 'V':
			part = fmt.Sprintf("%02d", week)
		case 'q':
			part = strconv.Itoa((int(t.Month())-1)/3 + 1)
		case '%':
			part = "%"
		default:
			layout, known := conversions[c]
			if !known {
				return "", false
			}
			part = t.Format(layout)
		}
		if bare {
			if part = strings.TrimLeft(part, "0 "); part == "" {
				part = "0"
			}
		}
		b.WriteString(part)
	}
	return b.String(), strings.Contains(format, "%")
}

// hashes returns what md5sum, sha1sum, sha256sum and base64 make of a text.
func hashes(text string) []string {
	m, s1, s256 := md5.Sum([]byte(text)), sha1.Sum([]byte(text)), sha256.Sum256([]byte(text))
	return []string{hex.EncodeToString(m[:]), hex.EncodeToString(s1[:]), hex.EncodeToString(s256[:]), base64.StdEncoding.EncodeToString([]byte(text))}
}

// maxMinutes bounds the times of a build that are tried.
const maxMinutes = 24 * 60

// An output is what a date command may have printed during the builds.
type output struct {
	format, text string
	hashes       []string
}

// outputs returns what commands may have printed during the builds.
func (d *dates) outputs(commands []command) []output {
	var all []output
	seen := map[[2]string]bool{}
	for _, c := range commands {
		for _, w := range d.windows {
			for t, n := w.From, 0; n < maxMinutes && !t.After(w.To.Add(time.Minute)); t, n = t.Add(time.Minute), n+1 {
				for _, zone := range d.zones {
					p, ok := strftime(c.format, c.at(t.In(zone)))
					p = strings.TrimSpace(p)
					if key := [2]string{c.format, p}; ok && p != "" && !seen[key] {
						seen[key] = true
						all = append(all, output{c.format, p, hashes(p + "\n")})
					}
				}
			}
		}
	}
	return all
}

// printedBy returns the command whose output is a whole text, or the end of its line after a space, = or :, and that
// part.
func printedBy(outputs []output, text []byte) (format, part string, ok bool) {
	s := strings.TrimSpace(string(text))
	if strings.Contains(s, "\n") {
		return "", "", false
	}
	for _, o := range outputs {
		if slices.Contains(o.hashes, strings.TrimSuffix(s, "  -")) {
			return "date +" + o.format + ", as a hash", s, true
		}
		between := " =:"
		if len(o.text) >= len("261130") {
			between += "-_.v"
		}
		if before, found := strings.CutSuffix(s, o.text); found && (before == "" || strings.ContainsAny(before[len(before)-1:], between)) {
			return "date +" + o.format, o.text, true
		}
	}
	return "", "", false
}
