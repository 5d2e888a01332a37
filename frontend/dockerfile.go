// Package frontend is the Dockerfile: its stages and targets, the build args that a target uses, and
// the sources that the LLB made from it names and that are rewritten there.
//
// What BuildKit's own frontend can say is asked of it; text is only read for what it cannot say.
package frontend

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/distribution/reference"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
)

// Dockerfile is a parsed Dockerfile.
type Dockerfile struct {
	// Stages are its build stages, in order; there is at least one.
	Stages []Stage

	name   string
	syntax mention
	refs   []mention
	keep   map[int][]string // by the line of the instruction
	// unknown are comments to kedge that it does not understand, with the line of the instruction below.
	unknown []mention
}

// Stage is one FROM.
type Stage struct {
	Name string // lower case, as BuildKit has it; empty where there is no AS
	Line int
}

// mention is a word of the Dockerfile that may name a source.
type mention struct {
	word string
	line int
}

// ParseError says where a Dockerfile is not one.
type ParseError struct {
	File string
	Line int // 0 where no line is to blame
	Err  error
}

func (e *ParseError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
}

func (e *ParseError) Unwrap() error { return e.Err }

// Parse reads a Dockerfile; name is for the errors, which are of type *ParseError. Instructions that
// only another frontend knows are no error.
func Parse(name string, data []byte) (*Dockerfile, error) {
	res, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		return nil, &ParseError{File: name, Line: errorLine(err), Err: excerpt(name, data, err)}
	}
	d := &Dockerfile{name: name, keep: map[int][]string{}}
	if ref, _, loc, ok := parser.DetectSyntax(data); ok {
		d.syntax = mention{word: ref}
		if len(loc) > 0 {
			d.syntax.line = loc[0].Start.Line
		}
	}
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
		return nil, &ParseError{File: name, Line: u.line, Err: fmt.Errorf("the comment %q above it is not # kedge: keep=PATH", u.word)}
	}
	if len(d.Stages) == 0 {
		return nil, &ParseError{File: name, Err: fmt.Errorf("no build stage: a Dockerfile begins with FROM")}
	}
	return d, nil
}

// excerpt gives err the lines that it is about, for BuildKit's way to show them.
func excerpt(name string, data []byte, err error) error {
	line := int32(errorLine(err))
	if line == 0 {
		return err
	}
	at := &pb.Position{Line: line}
	return errdefs.WithSource(err, &errdefs.Source{
		Info: &pb.SourceInfo{Filename: name, Data: data}, Ranges: []*pb.Range{{Start: at, End: at}},
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
		} else if strings.HasPrefix(strings.ToLower(strings.TrimSpace(comment)), "kedge:") {
			d.unknown = append(d.unknown, mention{strings.TrimSpace(comment), n.StartLine})
		}
	}
	switch strings.ToLower(n.Value) {
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

// Keep returns the paths that comments above the instruction on a line, # kedge: keep=PATH, except from
// normalisation.
func (d *Dockerfile) Keep(line int) []string { return d.keep[line] }

// TargetError says that there is no such stage, or one that cannot be a target: BuildKit knows a
// stage by its name only, save the last.
type TargetError struct {
	File, Target string
	Unnamed      int // the line of the stage that needs a name; 0 where there is no such stage
	Stages       []Stage
}

func (e *TargetError) Error() string {
	if e.Unnamed > 0 {
		return fmt.Sprintf("%s:%d: build stage %s has no name, and so cannot be a target: FROM ... AS NAME", e.File, e.Unnamed, e.Target)
	}
	return fmt.Sprintf("%s: no build stage %q", e.File, e.Target)
}

// Target returns the one name of a stage: its name, or its index where it has none. An empty target
// is the last stage, as for docker build. The error is a *TargetError.
func (d *Dockerfile) Target(target string) (string, error) {
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

// Option returns what BuildKit takes for a target that Target returned: nothing for a last stage
// without a name.
func (d *Dockerfile) Option(target string) string {
	if d.Stages[len(d.Stages)-1].Name == "" && target == strconv.Itoa(len(d.Stages)-1) {
		return ""
	}
	return target
}

// Line returns the line that names s, or 0 where none does to the letter: then a build arg, another
// image's ONBUILD or a named context does.
func (d *Dockerfile) Line(s lock.Source) int {
	for _, m := range append([]mention{d.syntax}, d.refs...) {
		if m.word == s.Ref || s.Kind == lock.Image && sameImage(m.word, s.Ref) {
			return m.line
		}
	}
	return 0
}

func sameImage(word, ref string) bool {
	in, err := identifyImage(word)
	return err == nil && in.Written.Ref == ref
}

// MayName says whether the Dockerfile could name s with some build args or for some platform. Where it
// is not sure it says yes.
func (d *Dockerfile) MayName(s lock.Source) bool {
	if d.Line(s) > 0 {
		return true
	}
	for _, m := range append([]mention{d.syntax}, d.refs...) {
		if !strings.Contains(m.word, "$") {
			continue
		}
		pattern := template(m.word, s.Kind)
		for _, form := range forms(s) {
			if pattern.MatchString(form) {
				return true
			}
		}
	}
	return false
}

// template returns what a word with variables in it can become, a source of that kind.
func template(word string, kind lock.Kind) *regexp.Regexp {
	word = strings.Trim(word, `"'`)
	if kind == lock.Image {
		if name, _, ok := strings.Cut(word, "@"); ok && strings.Contains(name, "$") {
			word = name + "${DIGEST}" // a reference that is locked may carry it or not
		}
	} else {
		if scheme, rest, ok := strings.Cut(word, "://"); ok {
			host, _, _ := strings.Cut(rest, "/")
			word = scheme + "://" + rest[strings.LastIndex(host, "@")+1:]
		}
		if kind == lock.Git {
			// The folder in a repository is not part of the reference, and a query is written as a
			// fragment there.
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

// variableEnd returns where the variable that begins with the $ at i ends.
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

// forms returns the ways to write s in a Dockerfile.
func forms(s lock.Source) []string {
	forms := []string{s.Ref}
	if s.Kind != lock.Image {
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
