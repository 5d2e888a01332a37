package lock

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	"github.com/pelletier/go-toml/v2/unstable"
)

// SyntaxError is a line of a lockfile, or of its record of downloads, that docs/lockfile.md does not allow.
type SyntaxError struct {
	File string
	Line int // from 1
	Msg  string
	// Newer says that a newer kedge wrote the file.
	Newer bool
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg) }

// Errors are all SyntaxErrors of a file, sorted by line.
type Errors []*SyntaxError

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Newer reports whether a newer kedge wrote the file.
func (e Errors) Newer() bool {
	return slices.ContainsFunc(e, func(err *SyntaxError) bool { return err.Newer })
}

// Parse parses the text of a lockfile. It refuses unknown keys, duplicates, wrong types, malformed pins and
// other versions of the format. name is the file's name in errors. The error is always Errors.
func Parse(name string, data []byte) (*File, error) {
	p := &parser{name: name, data: data, seen: map[string]int{}, line: 1}
	p.parse()
	if len(p.errs) > 0 {
		slices.SortStableFunc(p.errs, func(a, b *SyntaxError) int { return a.Line - b.Line })
		return nil, p.errs
	}
	return &p.file, nil
}

type parser struct {
	name string
	data []byte
	toml unstable.Parser
	file File
	seen map[string]int // line of each key and table
	errs Errors

	offset, line int // line is that of offset
}

func (p *parser) fail(line int, format string, args ...any) {
	p.errs = append(p.errs, &SyntaxError{File: p.name, Line: line, Msg: fmt.Sprintf(format, args...)})
}

func (p *parser) parse() {
	if !utf8.Valid(p.data) {
		p.fail(1, "not UTF-8 text")
		return
	}
	p.toml.Reset(p.data)
	table := ""
	for p.toml.NextExpression() {
		e := p.toml.Expression()
		key, parts, line := p.key(e)
		if parts > 1 {
			p.fail(line, "%s is not one key: a reference is written in quotes", key)
			continue
		}
		switch e.Kind {
		case unstable.Table:
			table = key
			if !slices.Contains(kinds, Kind(table)) && table != environment {
				p.fail(line, "unknown table [%s]: this kedge knows [image], [local], [url], [git] and [environment]", table)
			} else {
				p.once(line, "["+table+"]")
			}
		case unstable.KeyValue:
			p.keyValue(table, key, line, e.Value())
		default:
			p.fail(line, "only tables of key = value lines are allowed here")
		}
	}
	var syntax *unstable.ParserError
	if err := p.toml.Error(); errors.As(err, &syntax) {
		line := bytes.Count(p.data, []byte("\n")) + 1
		if len(syntax.Highlight) > 0 {
			line = p.toml.Shape(p.toml.Range(syntax.Highlight)).Start.Line
		}
		p.fail(line, "not TOML: %s", syntax.Message)
		return
	} else if err != nil {
		p.fail(1, "not TOML: %v", err)
		return
	}
	if _, ok := p.seen["version"]; !ok {
		p.fail(1, "no version: this is not a lockfile of kedge")
	}
}

// key returns the key of an expression, its number of parts, and its line.
func (p *parser) key(e *unstable.Node) (string, int, int) {
	var parts []string
	line := 1
	for it := e.Key(); it.Next(); {
		n := it.Node()
		if len(parts) == 0 {
			line = p.lineOf(int(n.Raw.Offset))
		}
		parts = append(parts, string(n.Data))
	}
	return strings.Join(parts, "."), len(parts), line
}

// lineOf returns the line of an offset. Offsets ascend, so the lines of the whole file are counted only
// once.
func (p *parser) lineOf(offset int) int {
	if offset < p.offset {
		p.offset, p.line = 0, 1
	}
	p.line += bytes.Count(p.data[p.offset:offset], []byte("\n"))
	p.offset = offset
	return p.line
}

// once records a name, and reports whether this is its first use.
func (p *parser) once(line int, name string) bool {
	if first, dup := p.seen[name]; dup {
		p.fail(line, "%s occurs twice, first on line %d", name, first)
		return false
	}
	p.seen[name] = line
	return true
}

func (p *parser) keyValue(table, key string, line int, value *unstable.Node) {
	if table == environment {
		p.variable(key, line, value)
		return
	}
	if table != "" {
		p.pin(Kind(table), key, line, value)
		return
	}
	if !p.once(line, key) {
		return
	}
	switch key {
	case "version":
		v, err := strconv.Atoi(string(value.Data))
		switch {
		case value.Kind != unstable.Integer || err != nil || v < 1:
			p.fail(line, "version is not a positive number")
		case v > formatVersion:
			p.fail(line, "version %d is newer than this kedge, which reads version %d: use a newer kedge", v, formatVersion)
			p.errs[len(p.errs)-1].Newer = true
		}
	case "target", "last":
		if value.Kind != unstable.String || len(value.Data) == 0 {
			p.fail(line, "%s is not the name of a stage in quotes", key)
			return
		}
		if key == "last" {
			p.file.Last = string(value.Data)
		} else {
			p.file.Target = string(value.Data)
		}
	case "strict-target":
		if value.Kind != unstable.Bool {
			p.fail(line, "strict-target is not true or false")
			return
		}
		p.file.StrictTarget = string(value.Data) == "true"
	case "epoch":
		t, err := time.Parse(time.RFC3339, string(value.Data))
		if value.Kind != unstable.DateTime || err != nil || t.Nanosecond() != 0 || t.Unix() < 0 || t.Unix() > MaxEpoch {
			p.fail(line, "epoch is not a time in whole seconds such as 2006-01-02T15:04:05Z")
			return
		}
		p.file.Epoch = t.UTC()
	case "rules":
		v, err := strconv.Atoi(string(value.Data))
		if value.Kind != unstable.Integer || err != nil || v < 1 {
			p.fail(line, "rules is not a positive number")
			return
		}
		p.file.Rules = v
	case "downloads":
		d, err := digest.Parse(string(value.Data))
		if value.Kind != unstable.String || err != nil || d.Algorithm() != digest.SHA256 {
			p.fail(line, "downloads is not a digest sha256:… in quotes")
			return
		}
		p.file.Downloads = d
	default:
		p.fail(line, "unknown key %q: this kedge knows version, target, last, strict-target, epoch, rules and downloads", key)
	}
}

func (p *parser) pin(kind Kind, ref string, line int, value *unstable.Node) {
	if !slices.Contains(kinds, kind) {
		return // the unknown table is already an error
	}
	if !p.once(line, fmt.Sprintf("%s %q", kind, ref)) {
		return
	}
	if value.Kind != unstable.String {
		p.fail(line, "the pin of %q is not a string in quotes", ref)
		return
	}
	if err := p.file.Add(Source{Kind: kind, Ref: ref}, string(value.Data)); err != nil {
		p.fail(line, "%v", err)
	}
}

// environment is the table of the compile environment.
const environment = "environment"

func (p *parser) variable(key string, line int, value *unstable.Node) {
	if !p.once(line, fmt.Sprintf("%s %q", environment, key)) {
		return
	}
	var values []string
	add := func(n *unstable.Node) bool {
		values = append(values, string(n.Data))
		return n.Kind == unstable.String && len(n.Data) > 0
	}
	ok := true
	if value.Kind == unstable.Array {
		for it := value.Children(); it.Next(); {
			ok = ok && add(it.Node())
		}
		ok = ok && len(values) > 1 && slices.IsSorted(values) && len(slices.Compact(slices.Clone(values))) == len(values)
	} else {
		ok = add(value)
	}
	if stage, name, cut := strings.Cut(key, " "); !cut || stage == "" || name == "" || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		p.fail(line, "%q is not a stage and a variable with a space between", key)
	} else if !ok {
		p.fail(line, "the value of %q is neither a string in quotes nor a sorted array of several", key)
	} else {
		if p.file.Environment == nil {
			p.file.Environment = map[string][]string{}
		}
		p.file.Environment[key] = values
	}
}

var commit = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// check returns an error for a source or a pin that the format cannot hold.
func check(s Source, pin string) error {
	if s.Ref == "" || !utf8.ValidString(s.Ref) || strings.ContainsFunc(s.Ref, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("%q is not a reference", s.Ref)
	}
	if s.Kind == Git {
		if !commit.MatchString(pin) {
			return fmt.Errorf("the pin of %q is not a git commit in hex: %q", s.Ref, pin)
		}
		return nil
	}
	if d, err := digest.Parse(pin); err != nil || d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("the pin of %q is not a digest sha256:…: %q", s.Ref, pin)
	}
	return nil
}

const header = "# What this Dockerfile builds from. Written by `kedge lock`; commit it, do not edit it.\n"

// Format returns the canonical text of f. Equal files have equal texts, and Parse reads them back.
func (f *File) Format() []byte {
	var b bytes.Buffer
	b.WriteString(header)
	fmt.Fprintf(&b, "version = %d\n", formatVersion)
	if f.Target != "" {
		fmt.Fprintf(&b, "target = %s\n", quote(f.Target))
	}
	if f.Last != "" {
		fmt.Fprintf(&b, "last = %s\n", quote(f.Last))
	}
	if f.StrictTarget {
		b.WriteString("strict-target = true\n")
	}
	if !f.Epoch.IsZero() {
		fmt.Fprintf(&b, "epoch = %s\n", f.Epoch.UTC().Format(time.RFC3339))
	}
	if f.Rules != 0 {
		fmt.Fprintf(&b, "rules = %d\n", f.Rules)
	}
	if f.Downloads != "" {
		fmt.Fprintf(&b, "downloads = %s\n", quote(f.Downloads.String()))
	}
	var table Kind
	for _, s := range f.Sources() {
		if s.Kind != table {
			table = s.Kind
			fmt.Fprintf(&b, "\n[%s]\n", table)
		}
		fmt.Fprintf(&b, "%s = %s\n", quote(s.Ref), quote(f.pins[s]))
	}
	if len(f.Environment) > 0 {
		fmt.Fprintf(&b, "\n[%s]\n", environment)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Environment)) {
		var values []string
		for _, v := range f.Environment[name] {
			values = append(values, quote(v))
		}
		text := strings.Join(values, ", ")
		if len(values) != 1 {
			text = "[" + text + "]"
		}
		fmt.Fprintf(&b, "%s = %s\n", quote(name), text)
	}
	return b.Bytes()
}

// quote returns s as a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
