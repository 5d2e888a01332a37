package cause

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

var (
	uuidText = regexp.MustCompile(`(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`)
	goBuild  = regexp.MustCompile(`Go build ID: "[\w/=-]*"`)

	// Names that mktemp, Python's tempfile, GCC, Go and pip choose.
	tempText = regexp.MustCompile(`\btmp\.[A-Za-z0-9]{6,12}\b|/(?:var/)?tmp/[\w.+-]*|\bcc[A-Za-z0-9]{6}\.(?:o|s|res|ld|le|ltrans[\w.]*)\b|\bgo-build\d{5,}\b|\bpip-[a-z-]+-[a-z0-9_]{8}\b|\btmp[a-z0-9_]{8}\b|\bnpm-\d+-[0-9a-f]{8}\b`)

	// A name that mkstemp made from a template, in a file that is not text.
	templateText = regexp.MustCompile(`\b([A-Za-z][\w+-]*[._-])([A-Za-z0-9]{6})((?:\.\w{1,8})*)\b`)

	// Addresses of programs and heaps on Linux, and those that Python and Ruby print for objects.
	addressText = regexp.MustCompile(`(?i)\b0x0{0,4}(?:7[ef]|5[56])[0-9a-f]{10}\b|\bat 0x[0-9a-f]{8,16}\b|#<[\w:]+:0x[0-9a-f]{8,16}\b`)

	urlText = regexp.MustCompile(`\b[a-z][a-z0-9+.-]{1,15}://[^\s"'<>]+`)

	elapsedText = regexp.MustCompile(`\b\d+(?:\.\d+)?(?: ?(?:ns|us|µs|ms|s|secs?|seconds?|mins?|minutes?)\b|m ?\d+(?:\.\d+)?s\b)`)
	elapsedName = regexp.MustCompile(`(?i)"?(?:real|user|sys|elapsed|duration|took|seconds|time)"?[ \t]*[:=]?[ \t]*\d[\d.:ms]*`)

	generated = regexp.MustCompile(`(?:\bid|name|href|linkend|xml:id|rid)="#?[\w.-]*\d[\w.-]*"|/ID ?\[ ?<[0-9A-Fa-f]+> ?<[0-9A-Fa-f]+> ?\]|/ID ?\[ ?\([^)]*\) ?\([^)]*\) ?\]|\bidm?\d{6,}\b`)

	pidText   = regexp.MustCompile(`(?i)\bpid\b["']?[ \t:=#(]*\d+|[\w.+-]+\[\d+\]:|\bprocess(?: id)? \d+`)
	pidFile   = regexp.MustCompile(`^\d{1,7}\n?$`)
	inodeText = regexp.MustCompile(`(?i)\binode["']?[ \t:=#]*\d+|\bst_ino["']?[ \t:=]*\d+`)

	cpuOption = regexp.MustCompile(`-m(?:arch|tune|cpu)=[\w.+-]+|-m(?:no-)?(?:sse|ssse|avx|bmi|fma|aes|sha|adx|rdrnd|rdseed|prfchw|clwb|clflushopt|xsave|movbe|popcnt|lzcnt|pku|vaes|gfni|vpclmulqdq|amx|uintr|serialize)[\w.-]*|(?i:have|has|with|enable)_(?i:avx|sse|ssse|neon|bmi|fma|aes_?ni)\w*`)
	cpuLine   = regexp.MustCompile(`(?i)^\s*"?(?:model name|cpu model|flags|features|cpu mhz|bogomips|vendor_id|cpu family|stepping|microcode|processor type|cpu count|nproc|siblings|cpu cores|cache size)"?\s*[:=]`)

	hostText = regexp.MustCompile(`(?i)\b(?:build[_ -]?)?host(?:[_ -]?name)?["']?[ \t]*(?::|=|is)[ \t]*["']?[a-z0-9][a-z0-9.-]*`)
	hostUser = regexp.MustCompile(`\b[a-z_][a-z0-9_-]*@[A-Za-z0-9][A-Za-z0-9.-]*`)
	hostID   = regexp.MustCompile(`(?:docker|containers?|cri|libpod|buildkit)[-/][0-9a-f]{12,64}`)

	cryptText = regexp.MustCompile(`\$(?:1|2[aby]?|5|6|y|7|gy|apr1|argon2id?)\$[./A-Za-z0-9$,=+-]{8,}`)
	ldapText  = regexp.MustCompile(`\{(?:SSHA\d*|SMD5|CRYPT)\}[./A-Za-z0-9$=+]{8,}|\be(?:1NTSE(?:F9|EyNTZ9|E1MTJ9)|1NNRDV9|0NSWVBUf)[A-Za-z0-9+/]{8,}={0,2}`) // also in base64
	traceText = regexp.MustCompile(`\b00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\b`)
	hexText   = regexp.MustCompile(`(?:\b|_)[0-9a-f]{8,}(?:\b|_)|\b[0-9A-F]{8,}\b`)
	tokenText = regexp.MustCompile(`[A-Za-z0-9+/_-]+={0,2}`)
	baseText  = regexp.MustCompile(`[A-Za-z0-9+/_-]{16,}={0,2}`)

	pathText = regexp.MustCompile(`/?(?:[\w.+@~-]+/)+[\w.+@~-]*`)

	buildRoot = regexp.MustCompile(`^/(?:build|tmp|var/tmp|home|root|srv|usr/src|workspace|go/src)/[^/]+/`)

	uuidName = uuidText
	dateName = regexp.MustCompile(`(?:^|\D)(?:` + day8 + `|` + isoDay + `|1[67]\d{8})(?:\D|$)`)
	tempName = regexp.MustCompile(`(?:^|/)(?:tmp\.[A-Za-z0-9]{6,}|tmp[a-z0-9_]{8}|cc[A-Za-z0-9]{6}\.\w+|go-build\d+)(?:/|$)`)
	hexName  = regexp.MustCompile(`(?:^|[^0-9a-f])[0-9a-f]*(?:\d[a-f]|[a-f]\d)[0-9a-f]{6,}(?:[^0-9a-f]|$)`)
)

// simple returns a found for the matches of a pattern.
func (w *window) simple(kind Kind, re *regexp.Regexp) (found, bool) {
	a, b, ok := w.match(re)
	return found{Cause{Kind: kind}, a, b}, ok
}

// hinted finds the hostnames that the hints name.
func (f *finder) hinted(w *window) (found, bool) {
	first, second := f.hints.Hostnames[0], f.hints.Hostnames[1]
	if first == "" || second == "" || first == second {
		return found{}, false
	}
	lead := common([]byte(first), []byte(second))
	i, j := w.at-lead, w.bt-lead
	if i < 0 || j < 0 || !bytes.HasPrefix(w.a[i:], []byte(first)) || !bytes.HasPrefix(w.b[j:], []byte(second)) {
		return found{}, false
	}
	return found{Cause{Kind: Hostname}, [2]int{i, i + len(first)}, [2]int{j, j + len(second)}}, true
}

func (f *finder) uuid(w *window) (found, bool) {
	if w.near("go build id") {
		if hit, ok := w.simple(BuildID, goBuild); ok {
			return hit, true
		}
	}
	if !w.near("-") {
		return found{}, false
	}
	hit, ok := w.simple(UUID, uuidText)
	if ok && path.Base(w.name) == ".uuid" {
		hit.cause.Why = "fontconfig before 2.14 writes a UUID into each folder of fonts, after which it names the cache of the folder."
		hit.cause.Fix = "Remove it in the same RUN: find / -xdev -name .uuid -path '*font*' -delete; fontconfig works without."
	}
	return hit, ok
}

// temp finds names of temporary files. The part of a path that differs must look random.
func (f *finder) temp(w *window) (found, bool) {
	if w.compiled && !w.bytes {
		if hit, ok := w.template(); ok {
			return hit, true
		}
	}
	if !w.near("tmp", "cc", "go-build", "pip-", "npm-") {
		return found{}, false
	}
	hit, ok := w.simple(TempName, tempText)
	if !ok {
		return hit, false
	}
	a, b := w.a[hit.a[0]:hit.a[1]], w.b[hit.b[0]:hit.b[1]]
	if bytes.Contains(a, []byte("tmp/")) && (len(a) != len(b) || common(a, b) > len(a)-3) {
		return hit, false // /tmp/a and /tmp/build are paths, but not random names
	}
	switch {
	case bytes.Contains(a, []byte("pip-target-")):
		hit.cause.Why = "pip install --target compiles Python in a temporary folder, whose name the compiled files hold."
		hit.cause.Fix = "pip install --no-compile --target DIR, and then python3 -m compileall DIR."
	case bytes.Contains(a, []byte("pip-")):
		hit.cause.Why = "pip builds an extension in a folder with a random name, which its debug information holds."
		hit.cause.Fix = "Omit debug information: CFLAGS=-g0 pip install."
	}
	return hit, true
}

// template finds two names that mkstemp made from one template: they differ in six random letters and digits.
func (w *window) template() (found, bool) {
	hit, ok := w.simple(TempName, templateText)
	if !ok {
		return hit, false
	}
	a, b := templateText.FindSubmatch(w.a[hit.a[0]:hit.a[1]]), templateText.FindSubmatch(w.b[hit.b[0]:hit.b[1]])
	if a == nil || b == nil || !bytes.Equal(a[1], b[1]) || !bytes.Equal(a[3], b[3]) {
		return hit, false
	}
	changes := func(s []byte) (n int) {
		for i := 1; i < len(s); i++ {
			if class(s[i]) != class(s[i-1]) {
				n++
			}
		}
		return n
	}
	differ := 0
	for i := range a[2] {
		if a[2][i] != b[2][i] {
			differ++
		}
	}
	return hit, differ >= 4 && changes(a[2]) >= 2 && changes(b[2]) >= 2
}

// address finds an address in memory, as text or as eight bytes. The kernel moves whole pages, so the last
// twelve bits of both addresses are equal.
func (f *finder) address(w *window) (found, bool) {
	if !w.bytes {
		if !w.near("0x") {
			return found{}, false
		}
		return w.simple(MemoryAddress, addressText)
	}
	if !w.compiled {
		return found{}, false
	}
	i := w.at - int((w.off+int64(w.at))%8)
	j := i - w.at + w.bt
	if i < 0 || j < 0 || i+8 > len(w.a) || j+8 > len(w.b) {
		return found{}, false
	}
	x, y := binary.LittleEndian.Uint64(w.a[i:]), binary.LittleEndian.Uint64(w.b[j:])
	mapped := func(n uint64) bool { return n>>40 == 0x7f || n>>40 == 0x7e || n>>40 == 0x55 || n>>40 == 0x56 }
	if !mapped(x) || !mapped(y) || x>>40 != y>>40 && (x>>44 != y>>44) || x&0xfff != y&0xfff {
		return found{}, false
	}
	c := Cause{Kind: MemoryAddress, Format: "u64 LE", First: fmt.Sprintf("%#x", x), Second: fmt.Sprintf("%#x", y)}
	return found{c, [2]int{i, i + 8}, [2]int{j, j + 8}}, true
}

// url finds a part of a URL that looks random.
func (f *finder) url(w *window) (found, bool) {
	if w.bytes || !w.near("://") {
		return found{}, false
	}
	hit, ok := w.simple(Random, urlText)
	if !ok {
		return hit, false
	}
	part := func(s []byte, at int, url [2]int) [2]int {
		const separators = "/?&=#:@,;."
		from := url[0] + bytes.LastIndexAny(s[url[0]:at], separators) + 1
		to := url[1]
		if n := bytes.IndexAny(s[at:url[1]], separators); n >= 0 {
			to = at + n
		}
		return [2]int{from, to}
	}
	if hit.a[1] < w.at || hit.b[1] < w.bt {
		return hit, false
	}
	hit.a, hit.b = part(w.a, w.at, hit.a), part(w.b, w.bt, hit.b)
	a, b := w.a[hit.a[0]:hit.a[1]], w.b[hit.b[0]:hit.b[1]]
	if len(a) < 8 || len(a) != len(b) || !lettersAndDigits(a) || !lettersAndDigits(b) || !mostDiffer(a, b) {
		return hit, false
	}
	hit.cause.Format = "URL"
	hit.cause.Why = "A part of a URL differs in most places: a random id, or a hash."
	return hit, true
}

func lettersAndDigits(s []byte) bool {
	return bytes.ContainsAny(s, "0123456789") && bytes.ContainsFunc(s, unicode.IsLetter)
}

// mostDiffer reports whether two tokens differ in more than half of their bytes.
func mostDiffer(a, b []byte) bool {
	n, differ := min(len(a), len(b)), 0
	for i := range n {
		if a[i] != b[i] {
			differ++
		}
	}
	return differ*2 > n
}

func (f *finder) duration(w *window) (found, bool) {
	if w.near("real", "user", "sys", "elapsed", "duration", "took", "seconds", "time") {
		if hit, ok := w.simple(Duration, elapsedName); ok {
			return hit, true
		}
	}
	return w.simple(Duration, elapsedText)
}

func (f *finder) documentID(w *window) (found, bool) {
	if !w.near(`="`, "id") {
		return found{}, false
	}
	return w.simple(DocumentID, generated)
}

func (f *finder) processID(w *window) (found, bool) {
	if strings.HasSuffix(w.name, ".pid") && pidFile.Match(w.a) && pidFile.Match(w.b) {
		return found{Cause{Kind: ProcessID}, [2]int{0, len(w.a)}, [2]int{0, len(w.b)}}, true
	}
	if !w.near("pid", "]:", "process") {
		return found{}, false
	}
	return w.simple(ProcessID, pidText)
}

func (f *finder) inode(w *window) (found, bool) {
	if !w.near("ino") {
		return found{}, false
	}
	return w.simple(FileStatus, inodeText)
}

func (f *finder) cpu(w *window) (found, bool) {
	if w.near("-m", "have_", "has_", "with_", "enable_") {
		if hit, ok := w.simple(CPU, cpuOption); ok {
			return hit, true
		}
	}
	a, b := w.lines()
	if w.bytes || !cpuLine.Match(w.a[a[0]:a[1]]) || !cpuLine.Match(w.b[b[0]:b[1]]) {
		return found{}, false
	}
	return found{Cause{Kind: CPU}, a, b}, true
}

// lines returns the ranges of the lines with the difference, within the windows.
func (w *window) lines() (a, b [2]int) {
	of := func(s []byte, at int) [2]int {
		end := len(s)
		if i := bytes.IndexByte(s[at:], '\n'); i >= 0 {
			end = at + i
		}
		return [2]int{bytes.LastIndexByte(s[:at], '\n') + 1, end}
	}
	return of(w.a, w.at), of(w.b, w.bt)
}

func (f *finder) hostname(w *window) (found, bool) {
	if !w.near("@", "host", "docker", "container", "cri", "libpod", "buildkit") {
		return found{}, false
	}
	for _, re := range []*regexp.Regexp{hostID, hostText, hostUser} {
		hit, ok := w.simple(Hostname, re)
		if !ok {
			continue
		}
		if at := bytes.IndexByte(w.a[hit.a[0]:hit.a[1]], '@'); re == hostUser && hit.a[0]+at >= w.at {
			continue // the user differs
		}
		return hit, true
	}
	return found{}, false
}

// random finds digits and bytes that look random.
func (f *finder) random(w *window) (found, bool) {
	if w.bytes {
		return w.randomBytes()
	}
	if hit, ok := w.crypt(); ok {
		hit.cause.Format = "password hash"
		hit.cause.Why = "A password was hashed with a random salt."
		hit.cause.Fix = "Hash it once, outside the build, and pass the hash (usermod -p, chpasswd -e), or set the password when the container starts."
		hit.cause.First, hit.cause.Second = "password hash", "another password hash"
		return hit, true
	}
	if hit, ok := w.trace(); ok {
		hit.cause.Format = "trace context"
		hit.cause.Why = "BuildKit sets TRACEPARENT to the ID of a trace in every step, and the step stored its environment."
		hit.cause.Fix = "Unset the variable: env -u TRACEPARENT COMMAND, or unset TRACEPARENT before."
		return hit, true
	}
	for _, re := range []*regexp.Regexp{hexText, baseText} {
		hit, ok := w.simple(Random, re)
		if !ok {
			continue
		}
		a, b := w.a[hit.a[0]:hit.a[1]], w.b[hit.b[0]:hit.b[1]]
		if len(a) != len(b) && re == hexText || !chance(a, b) {
			continue
		}
		if bytes.Contains(w.a[:hit.a[0]], []byte("PRIVATE KEY")) {
			hit.cause = Cause{Kind: PrivateKey, First: "private key", Second: "another private key"}
			return hit, true
		}
		switch n := len(strings.Trim(string(a), "_=")); {
		case re == hexText && (n == 32 || n == 40 || n == 64 || n == 96 || n == 128):
			hit.cause.Format = "hex"
			hit.cause.Why = "Hex digits of the length of a hash differ: a hash of something that differs, or a random number."
		case re == hexText:
			hit.cause.Format = "hex"
			hit.cause.Why = "Hex digits differ in most places: a random number, or a hash."
		default:
			hit.cause.Format = "base64"
			hit.cause.Why = "Letters and digits of base64 differ in most places: something random, or a hash."
		}
		if w.near("composerautoloaderinit", "composerstaticinit") {
			hit.cause.Why = "Composer ends the names of its own classes with a random suffix if neither composer.json nor composer.lock sets one."
			hit.cause.Fix = "Commit composer.lock, or set a suffix: composer config autoloader-suffix NAME."
		}
		return hit, true
	}
	return found{}, false
}

// crypt finds a salted hash of a password in the forms of crypt(3) and LDAP.
func (w *window) crypt() (found, bool) {
	if w.near("$") {
		if hit, ok := w.simple(Random, cryptText); ok {
			return hit, true
		}
	}
	if !w.near("{ssha", "{smd5", "{crypt", "e1nts", "e1nnr", "e0nsw") {
		return found{}, false
	}
	return w.simple(Random, ldapText)
}

// trace finds a traceparent (https://www.w3.org/TR/trace-context/).
func (w *window) trace() (found, bool) {
	if !w.near("00-") {
		return found{}, false
	}
	return w.simple(Random, traceText)
}

// chance reports whether two tokens look random: both have letters and digits, and they differ in most places.
func chance(a, b []byte) bool {
	classes := func(s []byte) (digit, lower, upper bool) {
		for _, c := range s {
			digit = digit || c >= '0' && c <= '9'
			lower = lower || c >= 'a' && c <= 'z'
			upper = upper || c >= 'A' && c <= 'Z'
		}
		return digit, lower, upper
	}
	digit1, lower1, upper1 := classes(a)
	digit2, lower2, upper2 := classes(b)
	switch hex := fully(hexText, a) && fully(hexText, b); {
	case hex && (!digit1 || !digit2 || !lower1 && !upper1 || !lower2 && !upper2):
		return false // they are words or numbers
	case !hex && (!digit1 && !digit2 || !lower1 || !upper1 || !lower2 || !upper2):
		return false
	}
	return mostDiffer(a, b)
}

func fully(re *regexp.Regexp, b []byte) bool {
	m := re.FindIndex(b)
	return m != nil && m[0] == 0 && m[1] == len(b)
}

// randomBytes finds a long difference of bytes with many different values.
func (w *window) randomBytes() (found, bool) {
	a, b := w.a[w.at:w.ae], w.b[w.bt:w.be]
	if len(a) < 12 || len(b) < 12 || !spread(a) || !spread(b) {
		return found{}, false
	}
	c := Cause{
		Kind: Random, Format: "bytes",
		Why: "Bytes without a pattern differ: they are random, a hash, encrypted, or compressed in an unknown format.",
	}
	c.First, c.Second = printable(a), printable(b)
	return found{c, [2]int{w.at, w.at + w.spanA}, [2]int{w.bt, w.bt + w.spanB}}, true
}

func spread(b []byte) bool {
	var seen [256]bool
	distinct, high := 0, 0
	b = b[:min(len(b), 64)]
	for _, c := range b {
		if !seen[c] {
			seen[c] = true
			distinct++
		}
		if c >= 0x80 {
			high++
		}
	}
	return distinct*10 >= len(b)*7 && high*5 >= len(b)
}

// path finds two paths of one file in two build directories.
func (f *finder) path(w *window) (found, bool) {
	if !w.near("/") {
		return found{}, false
	}
	hit, ok := w.simple(BuildPath, pathText)
	if !ok {
		return hit, false
	}
	if bytes.HasSuffix(w.a[:hit.a[0]], []byte(":/")) {
		return hit, false // it is part of a URL
	}
	a, b := w.a[hit.a[0]:hit.a[1]], w.b[hit.b[0]:hit.b[1]]
	// Relative paths and names of two files are not the paths of one file.
	x, y := bytes.LastIndexByte(a, '/'), bytes.LastIndexByte(b, '/')
	if a[0] != '/' || b[0] != '/' || bytes.Count(a, []byte("/")) < 2 || bytes.Count(b, []byte("/")) < 2 {
		return hit, false
	}
	if bytes.Equal(a[:x], b[:y]) {
		// A compiler stores the path of the directory itself.
		return hit, w.binary && buildRoot.Match(a) && buildRoot.Match(b)
	}
	if buildRoot.Match(a) && buildRoot.Match(b) {
		return hit, true
	}
	if id, ok := drawnFolder(a, b); ok {
		hit.cause = Cause{Kind: Random, Format: "base64"}
		hit.a, hit.b = [2]int{hit.a[0] + id[0], hit.a[0] + id[1]}, [2]int{hit.b[0] + id[0], hit.b[0] + id[1]}
		return hit, true
	}
	return hit, bytes.Equal(a[x:], b[y:])
}

// drawnFolder returns where two paths differ if that is one folder whose name was drawn at random: an id in a path
// of a web server.
func drawnFolder(a, b []byte) (at [2]int, ok bool) {
	x, y := bytes.Split(a, []byte("/")), bytes.Split(b, []byte("/"))
	if len(a) != len(b) || len(x) != len(y) {
		return at, false
	}
	end := 0
	for i := range x {
		end += len(x[i]) + 1
		if bytes.Equal(x[i], y[i]) {
			continue
		}
		if ok || !drawn(x[i]) || !drawn(y[i]) || len(x[i]) != len(y[i]) {
			return at, false
		}
		at, ok = [2]int{end - 1 - len(x[i]), end - 1}, true
	}
	return at, ok
}

// words are frequent words of programs, each in several languages.
var words = [][]string{
	{"january", "januar", "janvier", "enero", "gennaio", "januari", "janeiro"},
	{"february", "februar", "février", "febrero", "febbraio", "februari", "fevereiro"},
	{"march", "märz", "mars", "marzo", "maart", "março"},
	{"april", "avril", "abril", "aprile"},
	{"may", "mai", "mayo", "maggio", "mei", "maio"},
	{"june", "juni", "juin", "junio", "giugno", "junho"},
	{"july", "juli", "juillet", "julio", "luglio", "julho"},
	{"august", "août", "agosto", "augustus"},
	{"september", "septembre", "septiembre", "settembre", "setembro"},
	{"october", "oktober", "octobre", "octubre", "ottobre", "outubro"},
	{"november", "novembre", "noviembre", "novembro"},
	{"december", "dezember", "décembre", "diciembre", "dicembre", "dezembro"},
	{"jan", "ene", "gen"}, {"may", "mai"}, {"oct", "okt", "ott", "out"}, {"dec", "dez", "déc", "dic"},
	{"mon", "mo", "lun", "seg", "ma"}, {"tue", "di", "mar", "ter"}, {"wed", "mi", "mer", "mié", "qua", "wo"},
	{"thu", "do", "jeu", "jue", "gio", "qui"}, {"fri", "fr", "ven", "vie", "sex", "vr"},
	{"sat", "sa", "sam", "sáb", "sab", "za"}, {"sun", "so", "dim", "dom", "zo"},
	{"error", "fehler", "erreur", "errore", "erro", "fout"},
	{"warning", "warnung", "avertissement", "attention", "advertencia", "avviso", "aviso", "waarschuwing"},
	{"file", "datei", "fichier", "archivo", "fichero", "arquivo", "bestand"},
	{"directory", "verzeichnis", "répertoire", "dossier", "directorio", "cartella", "diretório"},
	{"version", "versión", "versione", "versão", "versie"},
	{"yes", "ja", "oui", "sí", "sì", "sim"}, {"no", "nein", "non", "não", "nee"},
	{"total", "insgesamt", "gesamt", "totale", "totaal"},
	{"usage", "aufruf", "utilisation", "uso", "gebruik"},
}

var (
	wordText = regexp.MustCompile(`[\p{L}]{2,}`)
	langText = regexp.MustCompile(`\b(?:LANG|LANGUAGE|LC_[A-Z]+)=["']?[A-Za-z][\w.@-]*`)
	number1  = regexp.MustCompile(`\b\d{1,3}(?:[.,]\d{3})*[.,]\d+\b`)
)

// locale finds differences of language: known words, decimal points, the variables themselves.
func (f *finder) locale(w *window) (found, bool) {
	if w.near("lang", "lc_") {
		if hit, ok := w.simple(Locale, langText); ok {
			return hit, true
		}
	}
	if hit, ok := w.simple(Locale, number1); ok {
		swap := strings.NewReplacer(".", ",", ",", ".").Replace(string(w.a[hit.a[0]:hit.a[1]]))
		if swap == string(w.b[hit.b[0]:hit.b[1]]) {
			hit.cause.Format = "decimal point"
			return hit, true
		}
	}
	hit, ok := w.simple(Locale, wordText)
	if !ok {
		return hit, false
	}
	a, b := strings.ToLower(string(w.a[hit.a[0]:hit.a[1]])), strings.ToLower(string(w.b[hit.b[0]:hit.b[1]]))
	for _, group := range words {
		if a != b && slices.Contains(group, a) && slices.Contains(group, b) {
			hit.cause.Format = "words"
			return hit, true
		}
	}
	return found{}, false
}
