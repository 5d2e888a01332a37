// Package fix writes the patch of a Dockerfile that makes two builds of it the same, from the causes of
// their differences.
package fix

import (
	"bytes"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"mvdan.cc/sh/v3/syntax"

	"github.com/kedge-build/kedge/cause"
)

// A Step is a RUN instruction that made differences.
type Step struct {
	Line   int // at which it begins in the Dockerfile, from 1
	Causes []cause.Cause
}

// Patch returns one unified diff of the Dockerfile, which it calls name, that changes the RUN instructions
// of steps. It changes a command only if the command is known to bring about one of the causes of its step,
// and reports false if it changes none.
func Patch(name string, dockerfile []byte, steps ...Step) (diff string, ok bool) {
	parsed, err := parser.Parse(bytes.NewReader(dockerfile))
	if err != nil || parsed.EscapeToken != parser.DefaultEscapeToken {
		return "", false
	}
	causes := map[int][]cause.Cause{} // by line: an instruction may have several steps
	for _, s := range steps {
		causes[s.Line] = append(causes[s.Line], s.Causes...)
	}
	e := editor{names: map[string]int{}}
	lines := bytes.SplitAfter(dockerfile, []byte("\n"))
	knownShell := true
	for _, node := range parsed.AST.Children {
		switch strings.ToLower(node.Value) {
		case "from":
			knownShell = true
		case "shell":
			knownShell = node.Next != nil && slices.Contains([]string{"sh", "bash", "dash", "ash"}, path.Base(node.Next.Value))
		case "run":
			if e.causes = causes[node.StartLine]; knownShell && len(e.causes) > 0 {
				e.run(node, lines)
			}
		}
	}
	if len(e.edits) == 0 {
		return "", false
	}
	diff, err = udiff.ToUnified("a/"+name, "b/"+name, string(dockerfile), e.edits, udiff.DefaultContextLines)
	return diff, err == nil
}

// run adds the edits of a RUN instruction. lines are those of the Dockerfile.
func (e *editor) run(node *parser.Node, lines [][]byte) {
	script, ok := scriptOf(node, lines[node.StartLine-1:node.EndLine])
	if !ok {
		return
	}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(bytes.NewReader(script), "")
	if err != nil {
		return
	}
	others := e.edits
	e.script, e.edits = script, nil
	e.walk(file)
	if _, err := udiff.ApplyBytes(script, e.edits); err != nil {
		e.edits = nil // two rules would change one place
	}
	offset := len(bytes.Join(lines[:node.StartLine-1], nil))
	for _, edit := range e.edits {
		others = append(others, udiff.Edit{Start: edit.Start + offset, End: edit.End + offset, New: edit.New})
	}
	e.edits = others
}

var (
	continuation = regexp.MustCompile(`\\[ \t]*\r?\n?$`)
	leftOut      = regexp.MustCompile(`^\s*(?:#.*)?\r?\n?$`) // between continued lines
	runAndFlags  = regexp.MustCompile(`(?i)^\s*RUN(?:\s+--[a-z]\S*)*\s+`)
)

// scriptOf returns what the shell of a RUN instruction reads, with every byte at its offset in the lines of
// the instruction. Spaces replace what the shell does not read. It reports false for an instruction without
// a shell, and for one whose script cannot be told from its lines.
func scriptOf(node *parser.Node, lines [][]byte) ([]byte, bool) {
	if node.Next == nil || node.Attributes["json"] {
		return nil, false
	}
	command := len(lines) // how many lines it has
	for _, h := range node.Heredocs {
		command -= strings.Count(h.Content, "\n") + 1
	}
	if command < 1 {
		return nil, false
	}
	script := bytes.Join(lines, nil)
	end := 0 // of the command
	for i, line := range lines[:command] {
		start := end
		end += len(line)
		if i > 0 && leftOut.Match(line) {
			blank(script[start:end])
		} else if m := continuation.FindIndex(line); m != nil {
			blank(script[start+m[0] : end])
		}
	}
	head := runAndFlags.Find(script[:end])
	blank(head)
	if len(strings.Fields(string(head))) != 0 || !slices.Equal(strings.Fields(string(script[:end])), strings.Fields(node.Next.Value)) {
		return nil, false
	}
	if len(node.Heredocs) == 0 {
		return script, true
	}
	if alone, err := parser.ParseHeredoc(node.Next.Value); err == nil && alone != nil {
		blank(script[:end])
		blank(script[len(script)-len(lines[len(lines)-1]):]) // the word that ends it
		return script, !strings.HasPrefix(node.Heredocs[0].Content, "#!")
	}
	return script, true
}

func blank(b []byte) {
	for i := range b {
		b[i] = ' '
	}
}
