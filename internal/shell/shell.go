// Package shell finds the simple commands in shell scripts, without running anything.
//
//	for _, c := range shell.Commands([]string{"sh", "-c", "cd x && curl -f $URL | sh"}, nil) {
//		fmt.Println(c.Words) // [cd x], then [curl -f $URL], then [sh]
//	}
package shell

import (
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

const (
	maxScript   = 1 << 20 // bytes
	maxNested   = 8       // shells in shells
	maxCommands = 10_000
)

// A Command is a simple command.
type Command struct {
	// Words are the command and its arguments without quotes. What only the running shell knows stays as
	// $NAME, $(...) or <(...).
	Words []string
	Env   []string // NAME=VALUE, set for this command alone
	// Pipeline is the same for the commands of one pipeline, in their order.
	Pipeline int
	// Outer is the index of the command whose word is a substitution of this one's output, or -1.
	Outer   int
	ToFile  bool // its output goes to a file
	Wrapped bool // another command, such as sudo, runs it
}

// Name returns the base name of the command.
func (c Command) Name() string {
	if len(c.Words) == 0 {
		return ""
	}
	return path.Base(c.Words[0])
}

// Commands returns the simple commands of a command line, in order: those of a script that a shell is given,
// and those that sudo, env, xargs, python -m and the like run. env returns the value of a variable, if it is known; nil
// knows none. A script that is neither POSIX shell nor bash has no commands.
func Commands(args []string, env func(name string) (string, bool)) []Command {
	p := &parser{env: env}
	p.command(Command{Words: args, Outer: -1}, 0)
	return p.found
}

// Script is like Commands for the text of a script.
func Script(text string, env func(name string) (string, bool)) []Command {
	p := &parser{env: env}
	p.script(text, 0, -1, 0)
	return p.found
}

type parser struct {
	env      func(string) (string, bool)
	found    []Command
	pipeline int
}

func (p *parser) next() int { p.pipeline++; return p.pipeline }

// IsShell reports whether a program is a shell.
func IsShell(name string) bool {
	return slices.Contains([]string{"sh", "bash", "dash", "ash", "ksh", "zsh"}, path.Base(name))
}

// wrappers run a command that follows their options.
var wrappers = []string{
	"sudo", "doas", "env", "time", "nice", "ionice", "nohup", "exec", "command", "builtin", "xargs", "timeout", "chroot", "gosu", "su-exec",
	"setarch", "stdbuf", "eatmydata", "retry", "fakeroot", "unbuffer", "catchsegv", "flock", "tini", "dumb-init",
}

// command adds a command and those that it runs.
func (p *parser) command(c Command, depth int) {
	for len(c.Words) > 0 && isAssignment(c.Words[0]) {
		c.Env, c.Words = append(slices.Clone(c.Env), c.Words[0]), c.Words[1:]
	}
	if len(c.Words) == 0 || len(p.found) >= maxCommands || depth > maxNested {
		return
	}
	if c.Pipeline == 0 {
		c.Pipeline = p.next()
	}
	name, rest := c.Name(), c.Words[1:]
	if IsShell(name) {
		if i := slices.IndexFunc(rest, IsScriptOption); i >= 0 && i+1 < len(rest) {
			if !strings.HasPrefix(rest[i+1], "$(") { // what that downloads is a command of its own
				p.script(rest[i+1], c.Pipeline, c.Outer, depth+1)
				return
			}
		}
	}
	if name == "eval" {
		p.script(strings.Join(rest, " "), c.Pipeline, c.Outer, depth+1)
		return
	}
	p.found = append(p.found, c)
	if i := slices.Index(rest, "-m"); i >= 0 && i+1 < len(rest) && strings.HasPrefix(name, "python") {
		inner := c
		inner.Words, inner.Wrapped = rest[i+1:], true
		p.command(inner, depth+1)
		return
	}
	if !slices.Contains(wrappers, name) || name == "command" && len(rest) > 0 && strings.HasPrefix(rest[0], "-") {
		return
	}
	// An option of a wrapper may have a value, so the first words that could be a command all count.
	tried := 0
	for i, w := range rest {
		if strings.HasPrefix(w, "-") || isAssignment(w) {
			continue
		}
		inner := c
		inner.Words, inner.Wrapped = rest[i:], true
		p.command(inner, depth+1)
		if tried++; tried == 2 {
			return
		}
	}
}

func isAssignment(w string) bool {
	name, _, ok := strings.Cut(w, "=")
	return ok && name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// IsScriptOption reports whether the word after an option of a shell is a script, as after -c and -exc.
func IsScriptOption(w string) bool {
	return len(w) > 1 && w[0] == '-' && w[1] != '-' && strings.HasSuffix(w, "c")
}

// script adds the commands of a script. pipeline is that of the shell that runs it.
func (p *parser) script(text string, pipeline, outer, depth int) {
	if depth > maxNested || len(text) > maxScript {
		return
	}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), "")
	if err != nil {
		return
	}
	pipelines, outers := map[*syntax.Stmt]int{}, map[*syntax.Stmt]int{}
	if pipeline != 0 && len(file.Stmts) > 0 {
		pipelines[file.Stmts[len(file.Stmts)-1]] = pipeline
	}
	syntax.Walk(file, func(n syntax.Node) bool {
		s, ok := n.(*syntax.Stmt)
		if !ok {
			return true
		}
		at, known := pipelines[s]
		if !known {
			at = p.next()
		}
		within, nested := outers[s]
		if !nested {
			within = outer
		}
		inherit := func(inner *syntax.Stmt) { pipelines[inner], outers[inner] = at, within }
		switch cmd := s.Cmd.(type) {
		case *syntax.BinaryCmd:
			if known || cmd.Op == syntax.Pipe || cmd.Op == syntax.PipeAll {
				inherit(cmd.X)
				inherit(cmd.Y)
			}
		case *syntax.Subshell:
			for _, inner := range cmd.Stmts {
				inherit(inner)
			}
		case *syntax.Block:
			for _, inner := range cmd.Stmts {
				inherit(inner)
			}
		case *syntax.CallExpr:
			index := len(p.found)
			for _, w := range cmd.Args {
				substituted(w, func(inner *syntax.Stmt) { outers[inner] = index })
			}
			p.call(s, cmd, at, within, depth)
		}
		return true
	})
}

// substituted calls each with the commands whose output is a part of w.
func substituted(w *syntax.Word, each func(*syntax.Stmt)) {
	syntax.Walk(w, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.CmdSubst:
			for _, s := range n.Stmts {
				each(s)
			}
			return false
		case *syntax.ProcSubst:
			for _, s := range n.Stmts {
				each(s)
			}
			return false
		}
		return true
	})
}

func (p *parser) call(s *syntax.Stmt, call *syntax.CallExpr, pipeline, outer, depth int) {
	c := Command{Pipeline: pipeline, Outer: outer}
	for _, a := range call.Assigns {
		if a.Name != nil && a.Value != nil {
			c.Env = append(c.Env, a.Name.Value+"="+p.text(a.Value))
		}
	}
	for _, w := range call.Args {
		c.Words = append(c.Words, p.text(w))
	}
	script := ""
	for _, r := range s.Redirs {
		switch r.Op {
		case syntax.RdrOut, syntax.AppOut, syntax.RdrAll, syntax.AppAll, syntax.RdrClob:
			fd := r.N == nil || r.N.Value == "1"
			c.ToFile = c.ToFile || fd && r.Word != nil && !strings.HasPrefix(p.text(r.Word), "/dev/")
		case syntax.Hdoc, syntax.DashHdoc:
			if r.Hdoc != nil {
				script = p.text(r.Hdoc)
			}
		}
	}
	p.command(c, depth)
	if script != "" && len(c.Words) > 0 && IsShell(c.Words[0]) {
		p.script(script, pipeline, outer, depth+1)
	}
}

// text returns a word without its quotes.
func (p *parser) text(w *syntax.Word) string {
	var b strings.Builder
	p.parts(&b, w.Parts)
	return b.String()
}

func (p *parser) parts(b *strings.Builder, list []syntax.WordPart) {
	for _, part := range list {
		switch part := part.(type) {
		case *syntax.Lit:
			b.WriteString(unescaped(part.Value))
		case *syntax.SglQuoted:
			b.WriteString(part.Value)
		case *syntax.DblQuoted:
			p.parts(b, part.Parts)
		case *syntax.ParamExp:
			b.WriteString(p.variable(part))
		case *syntax.CmdSubst:
			b.WriteString("$(...)")
		case *syntax.ProcSubst:
			b.WriteString("<(...)")
		case *syntax.ArithmExp:
			b.WriteString("$((...))")
		case *syntax.ExtGlob:
			b.WriteString(part.Op.String() + part.Pattern.Value + ")")
		}
	}
}

func unescaped(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			if i++; s[i] == '\n' {
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func (p *parser) variable(e *syntax.ParamExp) string {
	if e.Param == nil {
		return "$"
	}
	name := e.Param.Value
	if p.env != nil && e.Exp == nil && e.Repl == nil && e.Slice == nil && !e.Length && e.Index == nil {
		if value, ok := p.env(name); ok {
			return value
		}
	}
	return "$" + name
}
