package lint

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/internal/shell"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	dockershell "github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/patternmatcher"
)

// A project is an Input that was read.
type project struct {
	Input
	lines        []string
	stages       []*stage
	instructions []*instruction // of all stages, and the ARGs above the first
	ships        *stage
	files        []string // of the context, as it is sent, sorted
	left         []string // files that .dockerignore leaves out, but for those in folders that it leaves out whole
	large        error    // about a file that is too large to read
}

// A stage is one FROM.
type stage struct {
	name, base   string // in lower case; with known variables replaced
	written      string // the base as it is written
	line         int
	parent       *stage // the stage that it comes from, or nil
	instructions []*instruction
}

// An instruction is one of a stage, or what ONBUILD adds to another.
type instruction struct {
	stage      *stage // nil above the first FROM
	cmd        any    // of package instructions
	start, end int    // lines
	text       string // as it is written, with continuation lines
	ignore     []string
	prebuilt   []string          // paths that a comment allows
	env        map[string]string // ENV and ARG values before it
	unset      map[string]bool   // ARGs without a value before it
	commands   []shell.Command   // of RUN
}

// newProject reads the Dockerfile and the names of the context's files.
func newProject(ctx context.Context, in Input) (*project, error) {
	res, err := frontend.ParseNodes(in.Name, in.Dockerfile)
	if err != nil {
		return nil, err
	}
	p := &project{Input: in, lines: strings.Split(string(in.Dockerfile), "\n")}
	r := reader{project: p, lex: dockershell.NewLex(res.EscapeToken), env: map[string]string{}, unset: map[string]bool{}}
	for _, n := range res.AST.Children {
		r.read(n, nil)
	}
	if len(p.stages) == 0 {
		return nil, &frontend.ParseError{File: in.Name, Err: errors.New("no build stage: a Dockerfile begins with FROM")}
	}
	p.ships = p.stages[len(p.stages)-1]
	if s := p.stage(in.Target); in.Target != "" && s != nil {
		p.ships = s
	}
	if in.Context == nil {
		return p, nil
	}
	return p, p.walk(ctx)
}

// walk lists the context's files.
func (p *project) walk(ctx context.Context) error {
	ignore, err := patternmatcher.New(p.Ignore)
	if err != nil {
		return err
	}
	infos := map[string]patternmatcher.MatchInfo{}
	err = fs.WalkDir(p.Context, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && name != ".":
			return nil // a file that cannot be read is the build's matter
		case err != nil:
			return err
		case name == ".":
			return nil
		case d.IsDir() && d.Name() == ".git":
			return fs.SkipDir
		}
		var out bool
		var info patternmatcher.MatchInfo
		if len(p.Ignore) > 0 {
			if out, info, err = ignore.MatchesUsingParentResults(name, infos[path.Dir(name)]); err != nil {
				return err
			}
		}
		if d.IsDir() {
			if out && !ignore.Exclusions() {
				return fs.SkipDir
			}
			infos[name] = info
			return nil
		}
		if out {
			p.left = append(p.left, name)
		} else {
			p.files = append(p.files, name)
		}
		return nil
	})
	slices.Sort(p.files)
	return err
}

// stage returns the stage with a name or an index, or nil.
func (p *project) stage(name string) *stage {
	for _, s := range slices.Backward(p.stages) {
		if s.name != "" && s.name == strings.ToLower(name) {
			return s
		}
	}
	if i, err := strconv.Atoi(name); err == nil && 0 <= i && i < len(p.stages) {
		return p.stages[i]
	}
	return nil
}

// A reader makes the stages of a project.
type reader struct {
	*project
	lex    *dockershell.Lex
	env    map[string]string
	unset  map[string]bool
	global map[string]string // ARGs above the first FROM
	open   map[string]bool   // those of them without a value
}

// read adds the instruction of a node. onbuild is the instruction whose ONBUILD it is, or nil.
func (r *reader) read(n *parser.Node, onbuild *instruction) {
	cmd, err := instructions.ParseInstruction(n)
	if err != nil {
		return // the build reports it
	}
	i := &instruction{cmd: cmd, start: n.StartLine, end: n.EndLine, ignore: ignores(n), prebuilt: prebuilts(n)}
	if onbuild != nil {
		i.start, i.end, i.ignore = onbuild.start, onbuild.end, onbuild.ignore
	}
	i.end = min(max(i.end, i.start), len(r.lines))
	i.text = strings.Join(r.lines[i.start-1:i.end], "\n")
	if s, ok := cmd.(*instructions.Stage); ok {
		r.from(s, i)
	}
	if len(r.stages) > 0 {
		i.stage = r.stages[len(r.stages)-1]
		i.stage.instructions = append(i.stage.instructions, i)
	}
	i.env, i.unset = clone(r.env), clone(r.unset)
	r.instructions = append(r.instructions, i)
	switch cmd := cmd.(type) {
	case *instructions.ArgCommand:
		for _, arg := range cmd.Args {
			r.arg(arg)
		}
	case *instructions.EnvCommand:
		for _, kv := range cmd.Env {
			r.env[kv.Key] = r.expand(kv.Value)
			delete(r.unset, kv.Key)
		}
	case *instructions.RunCommand:
		i.commands = runCommands(cmd, i.env)
	case *instructions.OnbuildCommand:
		if res, err := parser.Parse(strings.NewReader(cmd.Expression)); err == nil && len(res.AST.Children) == 1 {
			res.AST.Children[0].StartLine, res.AST.Children[0].EndLine = i.start, i.end
			r.read(res.AST.Children[0], i)
		}
	}
}

func clone[V any](m map[string]V) map[string]V {
	c := make(map[string]V, len(m))
	maps.Copy(c, m)
	return c
}

func (r *reader) arg(arg instructions.KeyValuePairOptional) {
	given, isGiven := r.Args[arg.Key]
	global, isGlobal := r.global[arg.Key]
	switch {
	case isGiven:
		r.env[arg.Key] = given
	case arg.Value != nil:
		r.env[arg.Key] = r.expand(*arg.Value)
	case isGlobal:
		r.env[arg.Key] = global
	default:
		if _, set := r.env[arg.Key]; !set {
			r.unset[arg.Key] = true
		}
		return
	}
	delete(r.unset, arg.Key)
}

func (r *reader) from(s *instructions.Stage, i *instruction) {
	if len(r.stages) == 0 {
		r.global, r.open = clone(r.env), clone(r.unset)
	}
	r.env, r.unset = clone(r.global), clone(r.open)
	base := r.expand(s.BaseName)
	st := &stage{name: strings.ToLower(s.Name), base: base, written: s.BaseName, line: i.start, parent: r.stage(base)}
	r.env, r.unset = map[string]string{}, map[string]bool{}
	if st.parent != nil {
		for _, before := range st.parent.instructions {
			if env, ok := before.cmd.(*instructions.EnvCommand); ok {
				for _, kv := range env.Env {
					if value, set := last(st.parent).env[kv.Key]; set {
						r.env[kv.Key] = value
					} else {
						r.env[kv.Key] = kv.Value
					}
				}
			}
		}
	}
	r.stages = append(r.stages, st)
}

func last(s *stage) *instruction { return s.instructions[len(s.instructions)-1] }

// expand replaces known variables. A word that cannot be expanded stays as it is.
func (r *reader) expand(word string) string {
	var env []string
	for k, v := range r.env {
		env = append(env, k+"="+v)
	}
	for k := range r.unset {
		env = append(env, k+"=$"+k)
	}
	value, unmatched, err := r.lex.ProcessWord(word, dockershell.EnvsFromSlice(env))
	if err != nil || len(unmatched) > 0 {
		return cmp.Or(value, word)
	}
	return value
}

// runCommands returns the commands of a RUN.
func runCommands(cmd *instructions.RunCommand, env map[string]string) []shell.Command {
	known := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	if !cmd.PrependShell {
		return shell.Commands(cmd.CmdLine, known)
	}
	text := strings.Join(cmd.CmdLine, " ")
	if len(cmd.Files) == 0 {
		return shell.Script(text, known)
	}
	if first := cmd.Files[0].Data; strings.HasPrefix(strings.TrimSpace(text), "<<") && len(strings.Fields(text)) == 1 {
		if line, _, _ := strings.Cut(first, "\n"); strings.HasPrefix(line, "#!") && !shell.IsShell(strings.Fields(line + " x")[0]) && !strings.Contains(line, "sh") {
			return nil
		}
		return shell.Script(first, known)
	}
	for _, f := range cmd.Files {
		text += "\n" + f.Data + f.Name
	}
	return shell.Script(text+"\n", known)
}

// commands calls each with every RUN, and every command of it.
func (p *project) commands(each func(*instruction, int, shell.Command)) {
	for _, i := range p.instructions {
		for n, c := range i.commands {
			each(i, n, c)
		}
	}
}

// find returns the line of an instruction that has all of these words, or its first line.
func (p *project) find(i *instruction, words ...string) int {
	for n := i.start; n <= i.end; n++ {
		line := p.lines[n-1]
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			return n
		}
	}
	if len(words) > 1 {
		return p.find(i, words[0])
	}
	return i.start
}

// at returns the line of a command: of those that have its name, the one with the most of its words in it and
// in the lines below it.
func (p *project) at(i *instruction, c shell.Command) int {
	line, most := i.start, -1
	for n := i.start; n <= i.end; n++ {
		if strings.HasPrefix(strings.TrimSpace(p.lines[n-1]), "#") || !strings.Contains(p.lines[n-1], c.Name()) {
			continue
		}
		text := p.lines[n-1]
		for _, below := range p.lines[n:min(n+2, i.end)] {
			if strings.Contains(below, c.Name()) {
				break
			}
			text += " " + below
		}
		score := 0
		for _, word := range c.Words {
			// A variable in the text is its value in the word.
			for _, part := range strings.FieldsFunc(word, func(r rune) bool { return strings.ContainsRune("/:=${}()?&", r) }) {
				if strings.Contains(text, part) {
					score += len(part)
				}
			}
		}
		if score > most {
			line, most = n, score
		}
	}
	return line
}

// stageAt returns the stage that a line is in, or nil.
func (p *project) stageAt(line int) *stage {
	for _, s := range slices.Backward(p.stages) {
		if s.line <= line {
			return s
		}
	}
	return nil
}

// A copied is a COPY or ADD from the context.
type copied struct {
	*instruction
	sources []string // paths and patterns, clean and without a leading slash; "." is all
	exclude []string
}

// copies returns the COPY and ADD instructions of the context, and what a RUN mounts of it.
func (i *instruction) copies() (copied, bool) {
	c := copied{instruction: i}
	add := func(source string) { c.sources = append(c.sources, path.Clean("/" + source)[1:]) }
	switch cmd := i.cmd.(type) {
	case *instructions.CopyCommand:
		if cmd.From != "" {
			return c, false
		}
		c.exclude = cmd.ExcludePatterns
		for _, s := range cmd.SourcePaths {
			add(s)
		}
	case *instructions.AddCommand:
		for _, s := range cmd.SourcePaths {
			if !strings.Contains(s, "://") && !strings.HasPrefix(s, "git@") {
				add(s)
			}
		}
		c.exclude = cmd.ExcludePatterns
	case *instructions.RunCommand:
		for _, source := range frontend.Bound(cmd) {
			add(source)
		}
	}
	return c, len(c.sources) > 0
}

// takes reports whether a copied takes a file of the context.
func (c copied) takes(name string) bool {
	return slices.ContainsFunc(c.sources, func(source string) bool {
		if source == "" {
			return true
		}
		if !strings.ContainsAny(source, `*?[\`) {
			return name == source || strings.HasPrefix(name, source+"/")
		}
		pattern, parts := strings.Split(source, "/"), strings.Split(name, "/")
		if len(parts) < len(pattern) {
			return false
		}
		ok, err := path.Match(source, strings.Join(parts[:len(pattern)], "/"))
		return ok && err == nil
	}) && !excluded(c.exclude, name)
}

func excluded(patterns []string, name string) bool {
	if len(patterns) == 0 {
		return false
	}
	out, err := patternmatcher.Matches(name, patterns)
	return out && err == nil
}

// chain returns the stages from which s comes by FROM, the lowest first, and s.
func (s *stage) chain() []*stage {
	var chain []*stage
	for ; s != nil && len(chain) < 1000; s = s.parent {
		chain = append(chain, s)
	}
	slices.Reverse(chain)
	return chain
}

// sources returns the stages that the files of s come from, with s.
func (p *project) sources(s *stage) map[*stage]bool {
	seen := map[*stage]bool{}
	var add func(*stage)
	add = func(s *stage) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		add(s.parent)
		for _, i := range s.instructions {
			switch cmd := i.cmd.(type) {
			case *instructions.CopyCommand:
				add(p.stage(cmd.From))
			case *instructions.AddCommand:
			case *instructions.RunCommand:
				for _, m := range instructions.GetMounts(cmd) {
					add(p.stage(m.From))
				}
			}
		}
	}
	add(s)
	return seen
}
