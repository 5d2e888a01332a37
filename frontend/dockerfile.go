// Package frontend reads Dockerfiles, and the LLB that BuildKit's Dockerfile frontend makes from them:
// stages and targets, build args, sources and steps. It also rewrites LLB, for example to pin sources.
//
//	d, err := frontend.Parse("Dockerfile", data)
//	if err != nil {
//		return err
//	}
//	target, err := d.Target("") // the last stage
//
// It parses text only for facts that the frontend does not report.
package frontend

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/distribution/reference"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/suggest"
)

// Dockerfile is a parsed Dockerfile.
type Dockerfile struct {
	// Stages are the build stages in order. There is at least one. A file that only another frontend can read has one
	// without a line.
	Stages []Stage

	name      string
	escape    rune
	args      []instructions.KeyValuePairOptional // ARG above the first FROM
	stageArgs []instructions.KeyValuePairOptional // those in stages
	syntax    mention
	refs      []mention
	keep      map[int][]string // paths of # kedge: keep= comments, by the line of the instruction
	// unknown are # kedge: comments that have no meaning, with the line of the instruction below.
	unknown []mention
	foreign bool // only another frontend can read the file
}

// Stage is one FROM.
type Stage struct {
	Name string // in lower case; empty without AS
	Line int
}

// mention is a word of the Dockerfile that may name a source.
type mention struct {
	word string
	line int
}

// ParseError is a syntax error in a Dockerfile.
type ParseError struct {
	File string
	Line int // 0 if the error has no line
	Err  error
}

func (e *ParseError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
}

func (e *ParseError) Unwrap() error { return e.Err }

// Parse parses a Dockerfile. name is the file's name in errors, which are of type *ParseError. Unknown
// instructions are not errors: another frontend may know them.
func Parse(name string, data []byte) (*Dockerfile, error) { return ParseFor("", name, data) }

// ParseFor is Parse for a build whose args name a frontend, which replaces that of the syntax line. A file that is no
// Dockerfile is not an error if the frontend is another than docker's.
func ParseFor(syntax, name string, data []byte) (*Dockerfile, error) {
	d := &Dockerfile{name: name, keep: map[int][]string{}}
	if ref, _, loc, ok := parser.DetectSyntax(data); ok {
		d.syntax = mention{word: ref}
		if len(loc) > 0 {
			d.syntax.line = loc[0].Start.Line
		}
	}
	res, err := ParseNodes(name, data)
	if err != nil && foreign(cmp.Or(syntax, d.syntax.word)) {
		d.foreign, d.Stages = true, []Stage{{}}
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	d.escape = res.EscapeToken
	for _, n := range res.AST.Children {
		d.read(n)
		for _, p := range d.keep[n.StartLine] {
			if _, err := path.Match(p, ""); err != nil {
				return nil, &ParseError{File: name, Line: n.StartLine, Err: fmt.Errorf("# kedge: keep=%s: %w", p, err)}
			}
		}
	}
	if len(d.unknown) > 0 {
		u := d.unknown[0]
		return nil, &ParseError{File: name, Line: u.line, Err: fmt.Errorf("the comment %q above it is not # kedge: keep=PATH, ignore=RULE or prebuilt=PATH", u.word)}
	}
	return d, nil
}

// foreign reports whether a frontend is another than docker's for Dockerfiles.
func foreign(syntax string) bool {
	named, err := reference.ParseNormalizedNamed(syntax)
	return err == nil && !strings.HasPrefix(reference.Path(named), "docker/dockerfile")
}

// ParseNodes parses a Dockerfile, which has to have a FROM, into BuildKit's nodes. The error is a *ParseError.
func ParseNodes(name string, data []byte) (*parser.Result, error) {
	res, err := parser.Parse(bytes.NewReader(data))
	line := errorLine(err)
	if err == nil {
		line, err = noStage(res.AST.Children)
	}
	if err != nil {
		return nil, &ParseError{File: name, Line: line, Err: excerpt(name, data, line, err)}
	}
	return res, nil
}

// noStage returns an error, and its line, if no FROM is among the nodes: perhaps one of them was meant to be it.
func noStage(nodes []*parser.Node) (line int, err error) {
	if slices.ContainsFunc(nodes, func(n *parser.Node) bool { return strings.EqualFold(n.Value, "from") }) {
		return 0, nil
	}
	for _, n := range nodes {
		if _, err := instructions.ParseInstruction(n); err != nil {
			return n.StartLine, err
		}
	}
	return 0, errors.New("no build stage: a Dockerfile begins with FROM")
}

// excerpt adds to err the line that caused it, in the form that BuildKit's printer shows.
func excerpt(name string, data []byte, line int, err error) error {
	if line == 0 {
		return err
	}
	position := &pb.Position{Line: int32(line)}
	return errdefs.WithSource(err, &errdefs.Source{
		Info: &pb.SourceInfo{Filename: name, Data: data}, Ranges: []*pb.Range{{Start: position, End: position}},
	})
}

func errorLine(err error) int {
	var located *parser.LocationError
	if errors.As(err, &located) && len(located.Locations) > 0 && len(located.Locations[0]) > 0 {
		return located.Locations[0][0].Start.Line
	}
	return 0
}

func (d *Dockerfile) read(n *parser.Node) {
	var words []string
	for w := n.Next; w != nil; w = w.Next {
		words = append(words, w.Value)
	}
	for _, comment := range n.PrevComment {
		if paths, ok := strings.CutPrefix(strings.TrimSpace(comment), "kedge: keep="); ok {
			d.keep[n.StartLine] = append(d.keep[n.StartLine], strings.FieldsFunc(paths, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })...)
		} else if known := strings.TrimSpace(comment); strings.HasPrefix(known, "kedge: ignore=") || strings.HasPrefix(known, "kedge: prebuilt=") {
			continue // for kedge lint
		} else if strings.HasPrefix(strings.ToLower(known), "kedge:") {
			d.unknown = append(d.unknown, mention{strings.TrimSpace(comment), n.StartLine})
		}
	}
	switch strings.ToLower(n.Value) {
	case "arg":
		// BuildKit reports what is wrong with it.
		if parsed, err := instructions.ParseInstruction(n); err == nil {
			if arg, ok := parsed.(*instructions.ArgCommand); ok && len(d.Stages) == 0 {
				d.args = append(d.args, arg.Args...)
			} else if ok {
				d.stageArgs = append(d.stageArgs, arg.Args...)
			}
		}
	case "from":
		s := Stage{Line: n.StartLine}
		if len(words) == 3 && strings.EqualFold(words[1], "as") {
			s.Name = strings.ToLower(words[2])
		}
		d.Stages = append(d.Stages, s)
		if len(words) > 0 {
			d.refs = append(d.refs, mention{words[0], n.StartLine})
		}
	case "add":
		for _, w := range words {
			d.refs = append(d.refs, mention{w, n.StartLine})
		}
	}
	for _, flag := range n.Flags {
		name, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		switch name {
		case "from":
			d.refs = append(d.refs, mention{value, n.StartLine})
		case "mount":
			for field := range strings.SplitSeq(value, ",") {
				if key, from, _ := strings.Cut(strings.TrimSpace(field), "="); strings.EqualFold(key, "from") {
					d.refs = append(d.refs, mention{from, n.StartLine})
				}
			}
		}
	}
}

// GlobalArg returns the value of an ARG above the first FROM, expanded with the ARGs above it. given are the
// build args, which come before the Dockerfile's values. The value is empty if there is no such ARG.
func (d *Dockerfile) GlobalArg(name string, given map[string]string) (string, error) {
	values := map[string]string{}
	lex := shell.NewLex(d.escape)
	for _, arg := range d.args {
		value, isGiven := given[arg.Key]
		switch {
		case isGiven:
		case arg.Value == nil:
			continue
		default:
			env := make([]string, 0, len(values))
			for k, v := range values {
				env = append(env, k+"="+v)
			}
			var err error
			if value, _, err = lex.ProcessWord(*arg.Value, shell.EnvsFromSlice(env)); err != nil {
				return "", &ParseError{File: d.name, Err: fmt.Errorf("ARG %s: %w", arg.Key, err)}
			}
		}
		values[arg.Key] = value
	}
	return values[name], nil
}

// Epoch returns what the global ARG SOURCE_DATE_EPOCH says with the build args given: a number, "context", or
// nothing. BuildKit also lets it name a context or a stage, which is ignored.
func (d *Dockerfile) Epoch(given map[string]string) (string, error) {
	value, err := d.GlobalArg("SOURCE_DATE_EPOCH", given)
	if _, number := strconv.Atoi(value); number != nil && value != "context" {
		return "", err
	}
	return value, err
}

// StageArg reports whether an ARG in a stage gives a value to name.
func (d *Dockerfile) StageArg(name string) bool {
	return slices.ContainsFunc(d.stageArgs, func(arg instructions.KeyValuePairOptional) bool {
		return arg.Key == name && arg.Value != nil
	})
}

// Keep returns the paths that normalisation leaves alone in the layer of the instruction on a line. The
// comment # kedge: keep=PATH above the instruction names them.
func (d *Dockerfile) Keep(line int) []string { return d.keep[line] }

// TargetError says that Target is no stage, or is a stage that cannot be a target. BuildKit only accepts
// stages with a name, and the last one.
type TargetError struct {
	File, Target string
	Unnamed      int // the line of the stage that needs a name; 0 if there is no such stage
	Stages       []Stage
}

func (e *TargetError) Error() string {
	if e.Unnamed > 0 {
		return fmt.Sprintf("%s:%d: build stage %s has no name, and so cannot be a target: FROM ... AS NAME", e.File, e.Unnamed, e.Target)
	}
	names := make([]string, 0, len(e.Stages))
	for _, s := range e.Stages {
		if s.Name != "" {
			names = append(names, s.Name)
		}
	}
	// In BuildKit's words.
	return suggest.WrapError(fmt.Errorf("%s: target stage %q could not be found", e.File, e.Target), e.Target, names, true).Error()
}

// Target returns the canonical name of a target: the stage's name, or its index if it has none. An empty
// target is the last stage, as with docker build. The error is a *TargetError. In a file that only another frontend can
// read, any name can be a target.
func (d *Dockerfile) Target(target string) (string, error) {
	if d.foreign && target != "" {
		return target, nil
	}
	last := len(d.Stages) - 1
	index := -1
	if target == "" {
		index = last
	}
	for i, s := range d.Stages {
		if target != "" && s.Name == strings.ToLower(target) {
			index = i
		}
	}
	if i, err := strconv.Atoi(target); index < 0 && err == nil && i >= 0 && i <= last {
		index = i
	}
	if index < 0 {
		return "", &TargetError{File: d.name, Target: target, Stages: d.Stages}
	}
	if name := d.Stages[index].Name; name != "" {
		return name, nil
	}
	if index < last {
		return "", &TargetError{File: d.name, Target: target, Unnamed: d.Stages[index].Line, Stages: d.Stages}
	}
	return strconv.Itoa(index), nil
}

// Named returns the canonical name of a target that is given by a stage's name, as BuildKit takes it, and not
// by its index. The error is a *TargetError.
func (d *Dockerfile) Named(target string) (string, error) {
	name, err := d.Target(target)
	if err != nil || target == "" || d.foreign {
		return name, err
	}
	if !slices.ContainsFunc(d.Stages, func(s Stage) bool { return s.Name == strings.ToLower(target) }) {
		return "", &TargetError{File: d.name, Target: target, Stages: d.Stages}
	}
	return name, err
}

// Option returns BuildKit's option for a target that Target returned. It is empty for a last stage without
// a name.
func (d *Dockerfile) Option(target string) string {
	if d.Stages[len(d.Stages)-1].Name == "" && target == strconv.Itoa(len(d.Stages)-1) {
		return ""
	}
	return target
}

// Line returns the line that names s literally, or 0 if there is none. Without one, s comes from a build
// arg, an image's ONBUILD or a named context.
func (d *Dockerfile) Line(s lock.Source) int {
	for _, m := range append([]mention{d.syntax}, d.refs...) {
		if m.word == s.Ref || isImage(s.Kind) && sameImage(m.word, s.Ref) {
			return m.line
		}
	}
	return 0
}

func isImage(kind lock.Kind) bool { return kind == lock.Image || kind == lock.Local }

func sameImage(word, ref string) bool {
	in, err := identifyImage(word)
	return err == nil && in.Written.Ref == ref
}

// MayName reports whether the Dockerfile could name s with some build args or for some platform. If it
// cannot tell, it returns true.
func (d *Dockerfile) MayName(s lock.Source) bool {
	if d.foreign || d.Line(s) > 0 {
		return true
	}
	for _, m := range append([]mention{d.syntax}, d.refs...) {
		if !strings.Contains(m.word, "$") {
			continue
		}
		pattern := template(m.word, s.Kind)
		if slices.ContainsFunc(forms(s), pattern.MatchString) {
			return true
		}
	}
	return false
}

// template returns a pattern for the sources of a kind that a word with variables can become.
func template(word string, kind lock.Kind) *regexp.Regexp {
	word = strings.Trim(word, `"'`)
	if isImage(kind) {
		if name, _, ok := strings.Cut(word, "@"); ok && strings.Contains(name, "$") {
			word = name + "${DIGEST}" // a locked reference can be with or without it
		}
	} else {
		if scheme, rest, ok := strings.Cut(word, "://"); ok {
			host, _, _ := strings.Cut(rest, "/")
			word = scheme + "://" + rest[strings.LastIndex(host, "@")+1:]
		}
		if kind == lock.Git {
			// A locked reference has no folder, and has the query as a fragment.
			word, _, _ = strings.Cut(word, "?")
			remote, fragment, ok := strings.Cut(word, "#")
			if ref, _, _ := strings.Cut(fragment, ":"); ok && !strings.HasPrefix(fragment, "${") {
				fragment = ref
			} else if i := strings.LastIndex(fragment, "}:"); i >= 0 {
				fragment = fragment[:i+1]
			}
			word = remote
			if ok {
				word += "#" + fragment
			} else {
				word += "${REF}"
			}
		}
	}
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		if word[i] != '$' {
			b.WriteString(regexp.QuoteMeta(word[i : i+1]))
			continue
		}
		b.WriteString(".*")
		i = variableEnd(word, i) - 1
	}
	return regexp.MustCompile("^(?s:" + b.String() + ")$")
}

// variableEnd returns the offset after the variable whose $ is at i.
func variableEnd(word string, i int) int {
	i++
	if i < len(word) && word[i] == '{' {
		depth := 0
		for ; i < len(word); i++ {
			switch word[i] {
			case '{':
				depth++
			case '}':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
		return i
	}
	for i < len(word) && (word[i] == '_' || '0' <= word[i] && word[i] <= '9' || 'A' <= word[i] && word[i] <= 'Z' || 'a' <= word[i] && word[i] <= 'z') {
		i++
	}
	return i
}

// forms returns the spellings of s that a Dockerfile can use.
func forms(s lock.Source) []string {
	forms := []string{s.Ref}
	if !isImage(s.Kind) {
		return forms
	}
	if named, err := reference.ParseNormalizedNamed(s.Ref); err == nil {
		familiar := reference.FamiliarString(named)
		forms = append(forms, familiar)
		if rest, ok := strings.CutPrefix(s.Ref, "docker.io/"); ok {
			forms = append(forms, rest, "index.docker.io/"+rest)
			if short, ok := strings.CutPrefix(rest, "library/"); ok {
				forms = append(forms, "docker.io/"+short, "index.docker.io/"+short)
			}
		}
		for _, form := range forms {
			forms = append(forms, strings.TrimSuffix(form, ":latest"))
		}
	}
	return forms
}
