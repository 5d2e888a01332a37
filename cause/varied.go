package cause

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	numberList = regexp.MustCompile(`\d+(?:[-,]\d+)*`)
	octalMode  = regexp.MustCompile(`\b(?:0o|00?|40|040|100|0100)?[0-7]{3}\b`)
	letterMode = regexp.MustCompile(`[-dlbcps](?:[-r][-w][-xsStT]){3}`)
	setWord    = regexp.MustCompile(`[\w.@-]+`)
	setLine    = regexp.MustCompile(`^\s*(?:export |declare -x )?(?:LANG|LANGUAGE|LC_[A-Z]+)=`)
	notASCII   = regexp.MustCompile(`[^\x00-\x7f]+`)
	inASCII    = regexp.MustCompile("(?i)^(?:['`\"?]+|(?:\\\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|[0-7]{3}))+)")
)

// varied finds what kedge changed for the second build.
func (f *finder) varied(w *window) (found, bool) {
	if w.bytes {
		return found{}, false
	}
	v := f.hints.Varied
	if v.Umasks[0] != v.Umasks[1] {
		if hit, ok := f.umaskText(w); ok {
			return hit, true
		}
	}
	if v.CPUs > 0 {
		if hit, ok := f.cpuCount(w); ok {
			return hit, true
		}
	}
	if v.Locale != "" {
		return f.localeText(w)
	}
	return found{}, false
}

// masked reports whether the two umasks make the two modes from one mode.
func (f *finder) masked(first, second int64) bool {
	mask := f.hints.Varied.Umasks
	asked := first | second // the bits that at least one umask left
	return first != second && asked&^mask[0] == first && asked&^mask[1] == second
}

func (f *finder) ofUmask(c *Cause) {
	mask := f.hints.Varied.Umasks
	c.Format = "umask"
	c.Why = fmt.Sprintf("The mode follows the umask, which was %04o in the first build and %04o in the second.", mask[0], mask[1])
	c.Fix = "Set the mode (install -m, mkdir -m, chmod), or the umask at the beginning of the same RUN."
}

// umaskText finds the umask and the modes that follow from it, in octal and in the form of ls.
func (f *finder) umaskText(w *window) (found, bool) {
	hit, ok := w.simple(Mode, octalMode)
	if ok {
		x, ok1 := octal(w.a[hit.a[0]:hit.a[1]])
		y, ok2 := octal(w.b[hit.b[0]:hit.b[1]])
		ok = ok1 && ok2 && ([2]int64{x, y} == f.hints.Varied.Umasks || f.masked(x, y))
	}
	if !ok {
		if hit, ok = w.simple(Mode, letterMode); ok {
			x, y := w.a[hit.a[0]:hit.a[1]], w.b[hit.b[0]:hit.b[1]]
			ok = x[0] == y[0] && f.masked(letters(x), letters(y))
		}
	}
	f.ofUmask(&hit.cause)
	return hit, ok
}

// octal returns the permissions of a mode, which may include the type of the file.
func octal(b []byte) (int64, bool) {
	s := strings.TrimPrefix(string(b), "0o")
	n, err := strconv.ParseInt(s, 8, 64)
	return n & 0o777, err == nil
}

// letters returns the permissions in the form of ls.
func letters(b []byte) (mode int64) {
	for i, c := range b[1:10] {
		if c != '-' && c != 'S' && c != 'T' {
			mode |= 1 << (8 - i)
		}
	}
	return mode
}

// cpuCount finds the number of processors, or their list.
func (f *finder) cpuCount(w *window) (found, bool) {
	hit, ok := w.simple(CPU, numberList)
	if !ok || !apart(w.a, hit.a) || !apart(w.b, hit.b) {
		return found{}, false
	}
	x, y := string(w.a[hit.a[0]:hit.a[1]]), string(w.b[hit.b[0]:hit.b[1]])
	n, err := strconv.Atoi(x)
	count := err == nil && n > f.hints.Varied.CPUs && n <= 4096 && y == strconv.Itoa(f.hints.Varied.CPUs)
	list := f.hints.Varied.CPUs == 1 && strings.ContainsAny(x, "-,") && y == "0" && strings.HasPrefix(x, "0")
	hit.cause.Format = "count"
	hit.cause.Why = fmt.Sprintf("The number of processors was written down; the second build had %d.", f.hints.Varied.CPUs)
	hit.cause.Fix = "Use a fixed number, as in make -j4, or do not store it."
	return hit, count || list
}

// apart reports whether a number is not part of another number, a version or a time.
func apart(s []byte, at [2]int) bool {
	part := func(c byte) bool { return c == '.' || c == ':' || '0' <= c && c <= '9' }
	return (at[0] == 0 || !part(s[at[0]-1])) && (at[1] == len(s) || !part(s[at[1]]) || at[1]+1 == len(s) || s[at[1]+1] == '\n' || s[at[1]+1] == ' ')
}

// localeText finds the name of the locale or of its character set, and characters that the other locale lacks:
// quotes of messages, and replacements of letters.
func (f *finder) localeText(w *window) (found, bool) {
	a, b := w.lines()
	if x, y := w.a[a[0]:a[1]], w.b[b[0]:b[1]]; setLine.Match(x) && setLine.Match(y) {
		return found{Cause{Kind: Locale}, a, b}, true
	}
	if hit, ok := w.simple(Locale, setWord); ok {
		x, y := strings.ToLower(string(w.a[hit.a[0]:hit.a[1]])), strings.ToLower(string(w.b[hit.b[0]:hit.b[1]]))
		plain := []string{"ansi_x3.4-1968", "us-ascii", "ascii", "posix", "c"}
		full := []string{"utf-8", "utf8", "c.utf-8", "c.utf8", strings.ToLower(f.hints.Varied.Locale)}
		if slices.Contains(plain, x) && slices.Contains(full, y) {
			hit.cause.Format = "character set"
			return hit, true
		}
	}
	m, n := inASCII.FindIndex(w.a[w.at:]), notASCII.FindIndex(w.b[w.bt:])
	if m == nil || n == nil || n[0] != 0 || bytes.ContainsRune(w.b[w.bt:w.bt+n[1]], '\ufffd') {
		return found{}, false
	}
	c := Cause{Kind: Locale, Format: "characters", Why: "A program wrote characters that only the locale of the second build has; the first build has replacements."}
	return found{c, [2]int{w.at, w.at + m[1]}, [2]int{w.bt, w.bt + n[1]}}, true
}
