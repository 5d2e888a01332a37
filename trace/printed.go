package trace

import (
	"crypto/md5"  //nolint:gosec // the builds'
	"crypto/sha1" //nolint:gosec // the builds'
	"crypto/sha256"
	"crypto/sha512"
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
	// bareDate is a date command without a format whose output another program takes apart.
	bareDate = regexp.MustCompile(`(?:^|[\s;&|` + "`" + `(])(?:/usr)?(?:/bin/)?date(?:\s+(?:-u|--utc))?\s*\|`)
	// cuts are programs that take a part of a line.
	cuts        = regexp.MustCompile(`\b(?:cut|awk|gawk|mawk|sed|head|tail|tr|grep|colrm|perl|python3?)\b|\$\{\w+[%#:]`)
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
	if bareDate.MatchString(text) {
		all = append(all, command{"%a %b %e %T UTC %Y", func(t time.Time) time.Time { return t }})
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

// strftime returns what date prints for a format, with a NUL for each digit of seconds, which two builds do not have in
// common.
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
		case 'S':
			part = "\x00\x00"
		case 'T', 'X':
			part = t.Format("15:04:") + "\x00\x00"
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

// forms returns what md5sum, sha1sum, sha256sum, sha512sum, base64, xxd, rev, tr and printf %x make of a line, with and
// without its end.
func forms(line string) []string {
	var all []string
	for _, text := range []string{line + "\n", line} {
		b := []byte(text)
		m, s1, s256, s512 := md5.Sum(b), sha1.Sum(b), sha256.Sum256(b), sha512.Sum512(b)
		all = append(all, hex.EncodeToString(m[:]), hex.EncodeToString(s1[:]), hex.EncodeToString(s256[:]), hex.EncodeToString(s512[:]), base64.StdEncoding.EncodeToString(b), hex.EncodeToString(b))
	}
	if n, err := strconv.ParseInt(line, 10, 64); err == nil {
		all = append(all, strconv.FormatInt(n, 16), fmt.Sprintf("%X", n))
	}
	reversed := []byte(line)
	slices.Reverse(reversed)
	all = append(all, string(reversed), strings.ToUpper(line), strings.ToLower(line))
	return slices.DeleteFunc(all, func(s string) bool { return s == line })
}

// maxMinutes bounds the times of a build that are tried.
const maxMinutes = 24 * 60

// An output is what a date command may have printed during the builds.
type output struct {
	format, text string   // up to the seconds
	parts        []string // between seconds
	forms        []string
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
						parts := strings.FieldsFunc(p, func(r rune) bool { return r == 0 })
						o := output{format: c.format, parts: parts}
						if len(parts) == 1 && parts[0] == p {
							o.text, o.forms = p, forms(p)
						}
						all = append(all, o)
					}
				}
			}
		}
	}
	return all
}

// minHash is the least number of characters that a part of a hash has.
const minHash = 7

// printedBy returns the command whose output is a whole text, or the end of a line after a space, = or :, and that
// part. If the step cuts lines, a part of the output counts, too; short says that it is only a word of it.
func printedBy(outputs []output, text []byte, cut bool) (format, part string, short, ok bool) {
	s := strings.TrimSpace(string(text))
	many := strings.Contains(s, "\n")
	for line := range strings.SplitSeq(s, "\n") {
		line = strings.TrimRight(line, closing)
		hash := strings.TrimLeft(strings.TrimSuffix(line[strings.LastIndexAny(line, "=: ")+1:], "-"), closing)
		if !many && hash == "" {
			hash = strings.TrimSuffix(line, "  -")
		}
		value := strings.Trim(line[strings.LastIndexAny(line, "=")+1:], closing)
		for _, o := range outputs {
			if many && len(o.text) < len("2026") {
				continue
			}
			if slices.ContainsFunc(o.forms, func(f string) bool { return len(hash) >= minHash && strings.HasPrefix(f, hash) }) {
				return "date +" + o.format + ", as a hash", hash, false, true
			}
			between := " =:\"'([{"
			if len(o.text) >= len("261130") {
				between += "-_.v"
			}
			if before, found := strings.CutSuffix(line, o.text); o.text != "" && found && (before == "" || strings.ContainsAny(before[len(before)-1:], between)) && (!isYear(o.format) || !dayMonth.MatchString(before)) {
				return "date +" + o.format, o.text, false, true
			}
			if within(line, o.text) {
				return "date +" + o.format, o.text, false, true
			}
			if many || !cut || len(line) < 2 {
				continue
			}
			for _, p := range o.parts {
				if len(value) > 3 && strings.Contains(p, value) && strings.ContainsAny(value, "0123456789") || len(value) > 1 && slices.Contains(strings.FieldsFunc(p, func(r rune) bool { return strings.ContainsRune(" :-/.", r) }), value) {
					return "date +" + o.format + ", cut", value, len(value) < 4, true
				}
			}
		}
	}
	return "", "", false, false
}

func isYear(format string) bool { return format == "%Y" || format == "%G" }

// dayMonth is the part of a date before its year.
var dayMonth = regexp.MustCompile(`(?:\d|\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*)[a-z]*,? $`)

// within reports whether an output that is more than a word or a short number is a part of a line.
func within(line, output string) bool {
	if len(output) < len("30/11") || !strings.ContainsAny(output, "0123456789") || len(output) < len("301126") && strings.Trim(output, "0123456789") == "" {
		return false
	}
	return hasWord(line, output)
}

// hasWord reports whether the first place where a word stands in a text has no letter or digit beside it.
func hasWord(text, word string) bool {
	before, after, found := strings.Cut(text, word)
	return found && !alphanumericAt(before, len(before)-1) && !alphanumericAt(after, 0)
}

// printedIn returns the command whose output is a word of a file's name, and that part.
func printedIn(outputs []output, name string) (format, part string, ok bool) {
	for _, o := range outputs {
		if len(o.text) < len("0912") || !strings.ContainsAny(o.text, "0123456789") || isYear(o.format) {
			continue // a year is in many names
		}
		if hasWord(name, o.text) {
			return o.format, o.text, true
		}
	}
	return "", "", false
}

func alphanumericAt(s string, i int) bool {
	return i >= 0 && i < len(s) && s[i] != '-' && s[i] != '.' && wordAt([]byte(s), i) && s[i] != '_'
}
