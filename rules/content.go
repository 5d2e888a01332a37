package rules

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kedge-build/kedge/internal/format/pyc"
)

const day = 24 * 60 * 60 // in seconds

// lines reports whether each line of content that is not empty matches re, and there is one.
func lines(content []byte, re *regexp.Regexp) bool {
	any := false
	for line := range bytes.Lines(content) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(line) == 0 {
			continue
		}
		if !re.Match(line) {
			return false
		}
		any = true
	}
	return any
}

var (
	dpkgLine         = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (?:startup|status|install|upgrade|configure|trigproc|disappear|remove|purge|conffile) `)
	alternativesLine = regexp.MustCompile(`^update-alternatives \d{4}-\d\d-\d\d \d\d:\d\d:\d\d: `)
	historyLine      = regexp.MustCompile(`^(?:Start-Date|Commandline|Requested-By|Comment|Install|Reinstall|Upgrade|Downgrade|Remove|Purge|Disappeared|Error|End-Date): `)
	bootstrapLog     = regexp.MustCompile(`(?ms)^Selecting previously unselected package \S+\.$.*^Setting up \S+ \(\S+\) \.\.\.$`)
	termEnd          = regexp.MustCompile(`(?m)^Log ended: \d{4}-\d\d-\d\d  [\d:]+\n+`)
	termRun          = regexp.MustCompile(`^\n*Log started: \d{4}-\d\d-\d\d  `)
	pacmanLine       = regexp.MustCompile(`^\[\d{4}-\d\d-\d\dT?[ \d:+-]*\] \[[A-Z-]+\] `)
	aptitudeReport   = regexp.MustCompile(`^\n*(?:=+\n+)?Aptitude \S+: log report\n[A-Z][a-z]{2}, [A-Z][a-z]{2} [ \d]\d \d{4} \d\d:\d\d:\d\d `)
	datedLine        = regexp.MustCompile(`^\n*(?:[A-Z]+ |# |\[)?(?:\d{4}-\d\d-\d\d[T ]\d\d:\d\d|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d )`)
	fontconfigLine   = regexp.MustCompile(`^(?:Font directories:$|\t/|Re-scanning /|(?:/[^:]*|fc-cache): [a-z])`)
)

func isPackageLog(content []byte, f Facts) bool {
	switch path.Base(f.Name) {
	case "dpkg.log":
		return lines(content, dpkgLine)
	case "alternatives.log":
		return lines(content, alternativesLine)
	case "history.log":
		return lines(content, historyLine)
	case "term.log":
		return isTermLog(content)
	case "bootstrap.log":
		return bootstrapLog.Match(content)
	case "aptitude":
		return aptitudeReport.Match(content)
	case "pacman.log":
		return lines(content, pacmanLine)
	}
	text := bytes.TrimRight(content, "\n")
	return datedLine.Match(text) && datedLine.Match(text[bytes.LastIndexByte(text, '\n')+1:])
}

// isTermLog wants nothing but runs of dpkg, each with its beginning and its end.
func isTermLog(content []byte) bool {
	for len(content) > 0 {
		end := termEnd.FindIndex(content)
		if end == nil || !termRun.Match(content) {
			return false
		}
		content = content[end[1]:]
	}
	return true
}

func isSystemLog(content []byte, f Facts) bool {
	if path.Base(f.Name) == "fontconfig.log" {
		return lines(content, fontconfigLine)
	}
	return bytes.HasPrefix(content, []byte("LPKSHHRH"))
}

// isLoginRecords wants records of utmp(5), as the C library of 64-bit Linux has them.
func isLoginRecords(content []byte, _ Facts) bool {
	const size, types = 384, 10
	if len(content) == 0 || len(content)%size != 0 {
		return false
	}
	for at := 0; at < len(content); at += size {
		if binary.NativeEndian.Uint32(content[at:]) >= types {
			return false
		}
	}
	return true
}

var packageState = regexp.MustCompile(`^(?:Package: |Name: |/\S+\n\S+\n|\S+ \S+ [0-7]{3,5} /)`)

func isPackageState(content []byte, f Facts) bool {
	if strings.HasSuffix(f.Name, ".xz") {
		return bytes.HasPrefix(content, []byte("\xfd7zXZ\x00"))
	}
	return packageState.Match(content)
}

// isGDBM wants the first word of a GDBM database, of either byte order.
func isGDBM(content []byte, _ Facts) bool {
	if len(content) < 4 {
		return false
	}
	is := func(magic uint32) bool { return magic >= 0x13579acd && magic <= 0x13579ad1 }
	return is(binary.LittleEndian.Uint32(content)) || is(binary.BigEndian.Uint32(content))
}

// manTime is the time of a page in an index of man-db, in seconds and nanoseconds (lib/db_store.c).
var manTime = regexp.MustCompile(`\t(\d{9,11})\t\d{1,9}\t[A-Z]\t`)

func isManIndex(content []byte, f Facts) bool {
	return isGDBM(content, f) && slices.ContainsFunc(manTime.FindAllSubmatch(content, -1), func(m [][]byte) bool { return number(string(m[1])) > f.Epoch })
}

// isCompiled wants what CPython writes: a header, and a code object behind it.
func isCompiled(content []byte) bool {
	h, ok := pyc.Parse(content)
	return ok && h.Code && (h.Flags == 0 || pyc.HasCanonical(h))
}

// isMadeUpID wants an id as systemd makes it, a random UUID (version 4), or as dbus-uuidgen does, with the time
// in its last four bytes.
func isMadeUpID(content []byte, f Facts) bool {
	if !isMachineID(content) {
		return false
	}
	word := string(bytes.TrimSuffix(content, []byte("\n")))
	if f.Chosen != nil && f.Chosen(word) {
		return false
	}
	id, err := hex.DecodeString(word)
	if err != nil {
		return false
	}
	if isRandomID(content) {
		return true
	}
	made := int64(binary.BigEndian.Uint32(id[12:]))
	return made > f.Epoch && made <= f.Made+max(f.Clock, 0)+day // an earlier step may have made it
}

// isRandomID reports whether a machine id is a random UUID, as systemd makes it.
func isRandomID(content []byte) bool {
	return content[12] == '4' && strings.IndexByte("89ab", content[16]) >= 0
}

// derivedMachineID returns an id, in the form of systemd's, that follows from the epoch.
func derivedMachineID(epoch int64) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "kedge machine id %d\n", epoch))
	id := sum[:16]
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return []byte(hex.EncodeToString(id) + "\n")
}

// isRecentID reports whether a machine id ends in a time within a day of that of the file or of the RUN's clock, as D-Bus
// makes it. One in 64 of those also looks like a random UUID.
func isRecentID(content []byte, f Facts) bool {
	end, err := strconv.ParseInt(string(content[24:32]), 16, 64)
	near := func(t int64) bool { return err == nil && max(end-t, t-end) <= day }
	return near(f.Made) || near(f.Made+f.Clock)
}

func replaceMachineID(content []byte, f Facts) []byte {
	if f.Linked || f.Asked || !isRandomID(content) || isRecentID(content, f) {
		return derivedMachineID(f.Epoch)
	}
	return nil
}

func isMadeUpCookie(content []byte, f Facts) bool {
	return isErlangCookie(content) && (f.Chosen == nil || !f.Chosen(string(bytes.TrimSuffix(content, []byte("\n")))))
}

// words are what Chosen may be asked about: machine ids, and cookies of both forms.
var words = regexp.MustCompile(`\b(?:[0-9a-f]{32}|[A-Z]{20}|[A-Za-z0-9+/]{56})\b`)

// Words returns the values in a text, such as a Dockerfile, that could also have been made up by a tool, sorted.
func Words(text string) []string {
	found := words.FindAllString(text, -1)
	slices.Sort(found)
	return slices.Compact(found)
}

// isSeed wants bytes that are no text, as many as systemd and the kernel's scripts save.
func isSeed(content []byte, _ Facts) bool {
	distinct := map[byte]bool{}
	for _, b := range content {
		distinct[b] = true
	}
	return slices.Contains([]int{32, 256, 512, 1024, 2048, 4096}, len(content)) && len(distinct) > min(len(content), 256)/2 &&
		bytes.ContainsFunc(content, func(r rune) bool { return r < '\t' || r == '\uFFFD' })
}

// noExpiry is the least maximum age in days that stands for a password without an end.
const noExpiry = 9999

// clampPasswordDates rewrites the third field of shadow(5), the day of the last change since 1970, if it is a day
// of the build. An empty field replaces day 0, which would ask for another password at the next login.
func clampPasswordDates(content []byte, f Facts) []byte {
	latest, date := f.Epoch/day, ""
	if latest > 0 {
		date = strconv.FormatInt(latest, 10)
	}
	lines := strings.SplitAfter(string(content), "\n")
	for i, line := range lines {
		fields := strings.Split(line, ":")
		if len(fields) != 9 || !slices.Contains([]string{"", "-1"}, fields[4]) && number(fields[4]) < noExpiry {
			continue
		}
		if changed := number(fields[2]); changed > latest && slices.Contains(f.Days, changed) {
			fields[2] = date
			lines[i] = strings.Join(fields, ":")
		}
	}
	return []byte(strings.Join(lines, ""))
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// maxDays bounds the days between an epoch and a build.
const maxDays = 20000

// StageDays returns the days since 1970 on which the RUNs of a stage may have run, if the last trace of them is a
// file that was copied from there. Times are in seconds.
func StageDays(epoch, made, clock int64) []int64 {
	var days []int64
	for d := max(epoch/day, made/day-maxDays); d < made/day; d++ {
		days = append(days, d)
	}
	return append(days, BuildDays(made, clock)...)
}

// BuildDays returns the days since 1970 on which a program in a RUN may have thought to be, if it wrote a file
// at a time and its clock was ahead, both in seconds.
func BuildDays(made, clock int64) []int64 {
	days := []int64{made/day - 1, made / day}
	if clock != 0 {
		days = append(days, (made+clock)/day-1, (made+clock)/day, (made+clock)/day+1)
	}
	return days
}

// built returns clamp for files that have no time later than themselves: a person chose that.
func built(clamp func([]byte, Facts) []byte) func([]byte, Facts) []byte {
	return func(content []byte, f Facts) []byte {
		late := f
		if late.Epoch = f.latest(); late.Epoch != math.MaxInt64 && !bytes.Equal(content, clamp(content, late)) {
			return content
		}
		return clamp(content, f)
	}
}

// isSphinxCache wants a pickle of protocol 2 or later that names Sphinx's class.
func isSphinxCache(content []byte, _ Facts) bool {
	return len(content) > 2 && content[0] == 0x80 && content[1] >= 2 && content[1] <= 5 &&
		bytes.Contains(content, []byte("sphinx.environment")) && bytes.Contains(content, []byte("BuildEnvironment"))
}

var fontID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\n?)$`)

// isFontID wants a UUID as fontconfig writes it, without a newline. Links lead from the folders of fonts to others,
// such as poppler's.
func isFontID(content []byte, f Facts) bool {
	m := fontID.FindSubmatch(content)
	return m != nil && (len(m[2]) == 0 || strings.Contains("/"+f.Name, "/fonts/"))
}

func isAutoconfLog(content []byte, _ Facts) bool {
	head := []byte("This file contains any messages produced by compilers while\nrunning configure, to aid debugging if configure makes a mistake.\n\nIt was created by ")
	return bytes.HasPrefix(content, head) && bytes.Contains(content, []byte("\n## Platform. ##\n"))
}

var buildLog = regexp.MustCompile(`^\n?(?:The (?:system is|target system is|host system is)|Compiling the \S+ compiler|Performing |Determining |Detecting |Checking |Running |Building |---\nevents:|current directory: |/\S+/ruby|"?(?:LD_LIBRARY_PATH=\S* )?"?\S*(?:gcc|cc|g\+\+|clang|pkg-config)\S* |have_|find_|check|package configuration )`)

func isBuildLog(content []byte, _ Facts) bool { return buildLog.Match(content) }

// cacheShapes are how files of languageCaches begin, by a part of their path.
var cacheShapes = []struct {
	part, name string // the name is a pattern of path.Match, empty for any
	begins     []string
}{
	{"/.cache/pip/http", "", []string{"cc=0,", "cc=1,", "cc=2,", "cc=3,", "cc=4,", "cc=5,"}},
	{"/.cache/pip/selfcheck/", "", []string{`{"key":`, `{"last_check":`}},
	{"/_http/", "", []string{"cc=0,", "cc=1,", "cc=2,", "cc=3,", "cc=4,", "cc=5,"}},
	{"/.cargo/.global-cache", "", []string{"SQLite format 3\x00"}},
	{"/specs/", "", []string{"\x04\x08"}},
	{"/compact_index/", "", []string{"created_at: ", "---\n"}},
	{"/.cache/ccache/", "", []string{"cCrS", "cCmF", "cCmM", "\xcc\xac"}},
	{"/.ccache/", "", []string{"cCrS", "cCmF", "cCmM", "\xcc\xac"}},
	{"/.cache/gstreamer-1.0/", "registry.*.bin", []string{"\xc0\xde\xf0\x0d", "\x0d\xf0\xde\xc0"}},
	{"/.cpan/Metadata", "", []string{"pst0"}},
}

var (
	bodyName  = regexp.MustCompile(`^[0-9a-f]{56}\.body$`) // of a response in pip's cache
	etag      = regexp.MustCompile(`^"?[0-9a-f]{32,64}"?\n?$`)
	counters  = regexp.MustCompile(`^(?:\d+\n){20,}$`)
	fontlist  = regexp.MustCompile(`(?s)^\{\s*"_version": .*"ttflist"`)
	gradleLog = regexp.MustCompile(`/\.gradle/daemon/[^/]+/(?:daemon-\d+\.out\.log|registry\.bin(?:\.lock)?)$`)
)

func isLanguageCache(content []byte, f Facts) bool {
	name := "/" + f.Name
	for _, s := range cacheShapes {
		if !strings.Contains(name, s.part) {
			continue
		}
		if ok, err := path.Match(s.name, path.Base(name)); s.name != "" && (!ok || err != nil) {
			continue
		}
		if slices.ContainsFunc(s.begins, func(magic string) bool { return bytes.HasPrefix(content, []byte(magic)) }) {
			return true
		}
	}
	switch base := path.Base(name); {
	case strings.Contains(name, "/http-v2/"):
		return bodyName.MatchString(base)
	case strings.Contains(name, "/compact_index/"):
		return etag.Match(content)
	case strings.Contains(name, "ccache/"):
		return base == "stats" && counters.Match(content)
	case strings.Contains(name, "/.cache/uv/"):
		return slices.Contains([]string{".rkyv", ".msgpack", ".http", ".rev"}, path.Ext(base))
	case strings.Contains(name, "/matplotlib/"):
		return fontlist.Match(content)
	case strings.Contains(name, "/mesa_shader_cache/"):
		return bytes.IndexByte(content, 0) >= 0
	case base == "_update-notifier-last-checked":
		return len(content) == 0
	}
	return gradleLog.MatchString(name)
}

// npmEntry is a line of an index of cacache: the sha1 of the JSON, and that.
var npmEntry = regexp.MustCompile(`^([0-9a-f]{40})\t(\{.*\})$`)

func npmEntries(content []byte) (entries []string, ok bool) {
	for line := range strings.SplitSeq(strings.Trim(string(content), "\n"), "\n") {
		m := npmEntry.FindStringSubmatch(line)
		if m == nil {
			return nil, false
		}
		if sum := sha1.Sum([]byte(m[2])); hex.EncodeToString(sum[:]) != m[1] {
			return nil, false
		}
		entries = append(entries, m[2])
	}
	return entries, true
}

func isNpmIndex(content []byte, _ Facts) bool {
	_, ok := npmEntries(content)
	return ok
}

// npmTimes are what an entry says about when it was fetched: milliseconds, dates of HTTP, and counts.
var npmTimes = regexp.MustCompile(`"time":(\d{1,15})|"(?:date|expires)":"([^"\\]*)"|"(?:age|x-fetch-attempts)":"(\d+)"`)

// evenNpmIndex keeps the last entry of each key, which is the one that cacache reads.
func evenNpmIndex(content []byte, f Facts) []byte {
	entries, ok := npmEntries(content)
	if !ok {
		return content
	}
	last := map[string]string{}
	for _, e := range entries {
		var entry struct {
			Key string `json:"key"`
		}
		if json.Unmarshal([]byte(e), &entry) != nil {
			return content
		}
		last[entry.Key] = npmTimes.ReplaceAllStringFunc(e, func(s string) string { return evenNpmTime(s, f.Epoch) })
	}
	var out strings.Builder
	keys := make([]string, 0, len(last))
	for key := range last {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		sum := sha1.Sum([]byte(last[key]))
		fmt.Fprintf(&out, "\n%x\t%s", sum, last[key])
	}
	return []byte(out.String())
}

func evenNpmTime(s string, epoch int64) string {
	m := npmTimes.FindStringSubmatch(s)
	switch {
	case m[1] != "":
		if number(m[1]) > epoch*1000 {
			return strings.Replace(s, m[1], strconv.FormatInt(epoch*1000, 10), 1)
		}
	case m[2] != "":
		if when, err := http.ParseTime(m[2]); err == nil && when.Unix() > epoch {
			return strings.Replace(s, m[2], time.Unix(epoch, 0).UTC().Format(http.TimeFormat), 1)
		}
	case m[3] != "":
		return strings.Replace(s, `"`+m[3]+`"`, `"0"`, 1)
	}
	return s
}

// goEntry is an entry of Go's build cache: action, output, size and time in nanoseconds (cmd/go/internal/cache).
var goEntry = regexp.MustCompile(`^v1 [0-9a-f]{64} [0-9a-f]{64} [ \d]{20} ([ \d]{20})\n$`)

var goTrim = regexp.MustCompile(`^(\d{1,12})\n?$`)

func isGoCacheEntry(content []byte, f Facts) bool {
	if path.Base(f.Name) == "trim.txt" {
		return goTrim.Match(content)
	}
	return goEntry.Match(content)
}

func clampGoCache(content []byte, f Facts) []byte {
	unit, width := int64(time.Second), 20
	m := goEntry.FindSubmatchIndex(content)
	if m == nil {
		if m = goTrim.FindSubmatchIndex(content); m == nil {
			return content
		}
		unit, width = 1, 0
	}
	if when := number(strings.TrimSpace(string(content[m[2]:m[3]]))); when/unit < f.Epoch {
		return content
	}
	return slices.Concat(content[:m[2]], fmt.Appendf(nil, "%*d", width, f.Epoch*unit), content[m[3]:])
}

var (
	mavenHead    = regexp.MustCompile(`^#NOTE: This is an? (?:Maven Resolver|Aether|internal|Maven)\b.*\n`)
	mavenDate    = regexp.MustCompile(`^#[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d \S+ \d{4}$`)
	mavenUpdated = regexp.MustCompile(`^(.*lastUpdated=)(\d+)$`)
)

func isMavenRecord(content []byte, _ Facts) bool { return mavenHead.Match(content) }

// evenMavenRecord writes a file of Java properties whose comment has a date.
func evenMavenRecord(content []byte, f Facts) []byte {
	if !mavenHead.Match(content) {
		return content
	}
	var head, rest []string
	for line := range strings.SplitSeq(strings.TrimSuffix(string(content), "\n"), "\n") {
		switch m := mavenUpdated.FindStringSubmatch(line); {
		case mavenDate.MatchString(line):
			head = append(head, time.Unix(f.Epoch, 0).UTC().Format("#Mon Jan 02 15:04:05 UTC 2006"))
		case strings.HasPrefix(line, "#"):
			head = append(head, line)
		case m != nil && number(m[2]) > f.Epoch*1000 && number(m[2])/1000 <= f.latest():
			rest = append(rest, m[1]+strconv.FormatInt(f.Epoch*1000, 10))
		default:
			rest = append(rest, line)
		}
	}
	slices.Sort(rest)
	return []byte(strings.Join(append(head, rest...), "\n") + "\n")
}
