package network

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kedge-build/kedge/lock"
	"github.com/opencontainers/go-digest"
)

// formatVersion is the only version of the format that this package reads and writes.
const formatVersion = 1

const (
	maxEntries  = 100_000
	maxFile     = 128 << 20 // bytes of a record's file
	maxErrors   = 20        // reported for one file
	header      = "# What the RUN steps of this Dockerfile download. Written by `kedge lock --downloads`; commit it, do not edit it.\n"
	versionWord = "version"
)

// Errors are the lines of a record that docs/lockfile.md does not allow.
type Errors struct{ lock.Errors }

// Parse parses the text of a record. It accepts only what Format writes, but lines may be in any order and
// more than once, and empty lines and comments anywhere. name is the file's name in errors. The error is always Errors.
func Parse(name string, data []byte) (*Record, error) {
	p := &parser{name: name, record: &Record{steps: map[string]string{}}, seen: map[string]int{}}
	if !utf8.Valid(data) {
		p.fail(1, "not UTF-8 text")
		return nil, Errors{p.errs}
	}
	line := 0
	for text := range bytes.Lines(data) {
		line++
		p.line(line, strings.TrimSuffix(string(text), "\n"))
		if len(p.errs) >= maxErrors {
			break
		}
	}
	if _, ok := p.seen[versionWord]; !ok && len(p.errs) == 0 {
		p.fail(1, "no version: this is not a record of downloads")
	}
	if len(p.errs) > 0 {
		return nil, Errors{p.errs}
	}
	return p.record, nil
}

type parser struct {
	name   string
	record *Record
	seen   map[string]int // the first line of each fact
	errs   lock.Errors
}

func (p *parser) fail(line int, format string, args ...any) {
	p.errs = append(p.errs, &lock.SyntaxError{File: p.name, Line: line, Msg: fmt.Sprintf(format, args...)})
}

// once reports whether a fact is seen for the first time.
func (p *parser) once(line int, fact string) bool {
	if first, dup := p.seen[fact]; dup {
		p.fail(line, "%s occurs twice, first on line %d", fact, first)
		return false
	}
	p.seen[fact] = line
	return true
}

func (p *parser) line(line int, text string) {
	if text == "" || strings.HasPrefix(text, "#") {
		return
	}
	word, rest, _ := strings.Cut(text, " ")
	switch word {
	case versionWord:
		v, err := strconv.Atoi(rest)
		switch {
		case !p.once(line, word):
		case err != nil || v < 1:
			p.fail(line, "version is not a positive number")
		case v > formatVersion:
			p.fail(line, "version %d is newer than this kedge, which reads version %d: use a newer kedge", v, formatVersion)
			p.errs[len(p.errs)-1].Newer = true
		}
	case "allow":
		p.check(line, p.record.Allow(rest))
	case "repo":
		switch {
		case !p.once(line, word):
		case rest == "":
			p.fail(line, "repo names no repository")
		default:
			p.check(line, p.record.SetRepo(rest))
		}
	case "step":
		p.step(line, rest)
	case http.MethodGet, http.MethodHead:
		p.entry(line, text)
	default:
		p.fail(line, "unknown word %q: this kedge knows version, allow, repo, step, GET and HEAD", word)
	}
}

func (p *parser) check(line int, err error) {
	if err != nil {
		p.fail(line, "%v", err)
	}
}

func (p *parser) step(line int, text string) {
	id, quoted, _ := strings.Cut(text, " ")
	name, err := unquote(quoted)
	switch {
	case !stepID.MatchString(id):
		p.fail(line, "%q is not the ID of a step", id)
	case err != nil || strings.Join(strings.Fields(name), " ") != name || len(name) > maxName+len("…"):
		p.fail(line, "the name of step %s is not a string in quotes", id)
	case p.record.steps[id] == name:
	case p.once(line, "step "+id):
		p.record.steps[id] = name
	}
}

var stepID = regexp.MustCompile(`^[0-9a-f]{8,64}$`)

func (p *parser) entry(line int, text string) {
	parts := strings.SplitN(text, " ", 7)
	if len(parts) < 6 {
		p.fail(line, "an entry has method, URL, status, size, digest and steps")
		return
	}
	e := Entry{Method: parts[0], URL: parts[1]}
	var bad error
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != s {
			bad = errors.Join(bad, fmt.Errorf("%q is not a number", s))
		}
		return n
	}
	e.Status, e.Size = int(number(parts[2])), number(parts[3])
	if parts[4] != "-" {
		e.Digest = digest.Digest(parts[4])
	}
	if parts[5] != "-" {
		e.Steps = strings.Split(parts[5], ",")
	}
	if len(parts) == 7 {
		bad = errors.Join(bad, e.parseFields(parts[6]))
	}
	if bad == nil {
		bad = e.check()
	}
	if bad != nil {
		p.fail(line, "%v", bad)
		return
	}
	// Two branches that were merged may have an answer twice, with different steps.
	if p.record.holds(e) || p.once(line, e.Method+" "+e.URL+fields("vary:", e.Vary)) {
		_, err := p.record.Add(e)
		p.check(line, err)
	}
}

// parseFields reads headers: vary:Name="value" and Name="value".
func (e *Entry) parseFields(text string) error {
	for text != "" {
		name, rest, ok := strings.Cut(text, "=")
		quoted, err := strconv.QuotedPrefix(rest)
		if !ok || err != nil {
			return fmt.Errorf("%q is not a header and its value in quotes", name)
		}
		value, err := unquote(quoted)
		if err != nil {
			return err
		}
		if text = rest[len(quoted):]; text != "" {
			if text, ok = strings.CutPrefix(text, " "); !ok || text == "" {
				return fmt.Errorf("no header after that of %q", name)
			}
		}
		headers := &e.Header
		if n, ok := strings.CutPrefix(name, "vary:"); ok {
			name, headers = n, &e.Vary
		}
		if *headers == nil {
			*headers = map[string]string{}
		}
		if _, dup := (*headers)[name]; dup {
			return fmt.Errorf("header %s occurs twice", name)
		}
		(*headers)[name] = value
	}
	return nil
}

// unquote reads a string in the one form that Format writes.
func unquote(s string) (string, error) {
	v, err := strconv.Unquote(s)
	if err != nil || strconv.Quote(v) != s {
		return "", fmt.Errorf("%q is not a string in quotes", s)
	}
	return v, nil
}

// check returns an error for an entry that the format cannot hold.
func (e *Entry) check() error {
	u, err := url.Parse(e.URL)
	if err != nil {
		return fmt.Errorf("%q is not a URL", e.URL)
	}
	if canonical, err := canonicalURL(u); err != nil || canonical != e.URL {
		return fmt.Errorf("%q is not a URL in canonical form", e.URL)
	}
	head := e.Method == http.MethodHead
	switch {
	case !head && e.Method != http.MethodGet:
		return fmt.Errorf("%q is neither GET nor HEAD", e.Method)
	case e.Status != 0 && (e.Status < 200 || e.Status > 999 || e.Status == http.StatusNotModified):
		return fmt.Errorf("%d is not the status of an answer", e.Status)
	case (head || e.Status == 0) && e.Digest != "":
		return errors.New("an answer without a body has a digest")
	case e.Status == 0 && e.Size != 0, e.Size < -1, e.Size < 0 && !head:
		return fmt.Errorf("%d is not the size of the answer", e.Size)
	}
	if !head && e.Status != 0 {
		if e.Digest.Validate() != nil || e.Digest.Algorithm() != digest.SHA256 {
			return fmt.Errorf("%q is not a digest sha256:…", e.Digest)
		}
	}
	for _, id := range e.Steps {
		if !stepID.MatchString(id) {
			return fmt.Errorf("%q is not the ID of a step", id)
		}
	}
	if err := checkHeaders(e.Header, keptHeaders); err != nil {
		return err
	}
	return checkHeaders(e.Vary, varyHeaders)
}

func checkHeaders(headers map[string]string, known []string) error {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		if !slices.Contains(known, name) {
			return fmt.Errorf("a record does not keep the header %q", name)
		}
		if cleanValue(headers[name]) != headers[name] {
			return fmt.Errorf("the value of %s is longer than %d bytes or has control characters", name, maxHeaderValue)
		}
	}
	return nil
}

// Format returns the canonical text of r. Equal records have equal texts, and Parse reads them back.
func (r *Record) Format() []byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var b bytes.Buffer
	b.WriteString(header)
	fmt.Fprintf(&b, "%s %d\n", versionWord, formatVersion)
	if r.repo != "" {
		fmt.Fprintf(&b, "repo %s\n", r.repo)
	}
	for _, host := range slices.Sorted(maps.Keys(r.allow)) {
		fmt.Fprintf(&b, "allow %s\n", host)
	}
	for _, id := range slices.SortedFunc(maps.Keys(r.steps), func(a, b string) int {
		return strings.Compare(r.steps[a]+" "+a, r.steps[b]+" "+b)
	}) {
		fmt.Fprintf(&b, "step %s %s\n", id, strconv.Quote(r.steps[id]))
	}
	for _, e := range r.sorted() {
		e.write(&b, true)
	}
	return b.Bytes()
}

// Sum returns the digest of the canonical text, which the lockfile holds.
func (r *Record) Sum() digest.Digest { return digest.FromBytes(r.Format()) }
