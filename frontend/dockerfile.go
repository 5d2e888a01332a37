// Package frontend is the Dockerfile: its stages and targets, the build args that a target uses, and
// the sources that the LLB made from it names and that are rewritten there.
//
// What BuildKit's own frontend can say is asked of it; text is only read for what it cannot say.
package frontend

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Dockerfile is a parsed Dockerfile.
type Dockerfile struct {
	// Stages are its build stages, in order; there is at least one.
	Stages []Stage

	name   string
	syntax mention
	refs   []mention
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
		return nil, &ParseError{File: name, Line: errorLine(err), Err: err}
	}
	d := &Dockerfile{name: name}
	if ref, _, loc, ok := parser.DetectSyntax(data); ok {
		d.syntax = mention{word: ref}
		if len(loc) > 0 {
			d.syntax.line = loc[0].Start.Line
		}
	}
	for _, n := range res.AST.Children {
		d.read(n)
	}
	if len(d.Stages) == 0 {
		return nil, &ParseError{File: name, Err: fmt.Errorf("no build stage: a Dockerfile begins with FROM")}
	}
	return d, nil
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
				if from, ok := strings.CutPrefix(strings.TrimSpace(field), "from="); ok {
					d.refs = append(d.refs, mention{from, n.StartLine})
				}
			}
		}
	}
}

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

var variable = regexp.MustCompile(`\\?\$(\{[^}]*\}|\w+)`)

// MayName says whether the Dockerfile could name s with some build args or for some platform.
func (d *Dockerfile) MayName(s lock.Source) bool {
	if d.Line(s) > 0 {
		return true
	}
	for _, m := range append([]mention{d.syntax}, d.refs...) {
		if m.word == "" || !strings.Contains(m.word, "$") {
			continue
		}
		literal := variable.Split(m.word, -1)
		for i := range literal {
			literal[i] = regexp.QuoteMeta(literal[i])
		}
		pattern, err := regexp.Compile("^" + strings.Join(literal, ".*") + "$")
		if err != nil {
			return true
		}
		for _, form := range forms(s) {
			if pattern.MatchString(form) {
				return true
			}
		}
	}
	return false
}

// forms returns the ways to write s in a Dockerfile.
func forms(s lock.Source) []string {
	forms := []string{s.Ref}
	if s.Kind != lock.Image {
		return forms
	}
	if named, err := reference.ParseNormalizedNamed(s.Ref); err == nil {
		familiar := reference.FamiliarString(named)
		forms = append(forms, familiar, strings.TrimSuffix(familiar, ":latest"), strings.TrimSuffix(s.Ref, ":latest"))
	}
	return forms
}
