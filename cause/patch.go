package cause

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// A Step is a RUN instruction that differences come from.
type Step struct {
	Line   int // at which it begins in the Dockerfile, from 1
	Causes []Cause
}

// Patch returns what to write instead as one unified diff of the Dockerfile, which it calls name, where
// changes of RUN instructions do it; ok is false where none does. A command is changed only if one of the
// causes of its step is what it is known to bring about.
func Patch(name string, dockerfile []byte, steps ...Step) (diff string, ok bool) {
	if escapeText.Match(dockerfile) {
		return "", false
	}
	together := map[int][]Cause{} // an instruction is changed once
	for _, s := range steps {
		together[s.Line] = append(together[s.Line], s.Causes...)
	}
	names := map[string]int{}
	var changed []byte
	last := 0
	for _, line := range slices.Sorted(maps.Keys(together)) {
		from, to, ok := instruction(dockerfile, line)
		if !ok || from < last {
			continue
		}
		if text, ok := patched(dockerfile[from:to], together[line], names); ok {
			changed = append(append(changed, dockerfile[last:from]...), text...)
			last = to
		}
	}
	if last == 0 {
		return "", false
	}
	return unified(name, dockerfile, append(changed, dockerfile[last:]...)), true
}

// patched returns an instruction with its commands changed, if one was. names are those that the patch has
// given by now.
func patched(instruction []byte, causes []Cause, names map[string]int) ([]byte, bool) {
	script, ok := shell(instruction)
	if !ok || len(causes) == 0 {
		return nil, false
	}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(bytes.NewReader(script), "")
	if err != nil {
		return nil, false
	}
	e := &editor{causes: causes, text: script, names: names}
	e.walk(file)
	if len(e.edits) == 0 {
		return nil, false
	}
	slices.SortStableFunc(e.edits, func(a, b edit) int { return a.from - b.from })
	var changed []byte
	last := 0
	for _, d := range e.edits {
		if d.from < last {
			return nil, false // two rules for one place
		}
		changed = append(append(changed, instruction[last:d.from]...), d.text...)
		last = d.to
	}
	return append(changed, instruction[last:]...), true
}

var (
	escapeText = regexp.MustCompile("(?i)^(?:#[^\n]*\n)*#[ \t]*escape[ \t]*=[ \t]*`")
	runText    = regexp.MustCompile(`(?i)^[ \t]*RUN[ \t]+`)
	flagText   = regexp.MustCompile(`^--[a-z]+(?:=\S+)?[ \t]+`)
	moreText   = regexp.MustCompile(`\\[ \t]*\r?\n?$`)
	remarkText = regexp.MustCompile(`^[ \t]*(?:#[^\n]*)?\r?\n?$`)
	hereText   = regexp.MustCompile(`<<-?[ \t]*["']?([A-Za-z_]\w*)["']?`)
)

// instruction returns where the instruction that begins at a line is, with what it is continued by.
func instruction(dockerfile []byte, line int) (from, to int, ok bool) {
	n := 0
	rest := dockerfile
	var words []string // that end here-documents
	for started, more := false, false; len(rest) > 0; {
		l := rest
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			l = rest[:i+1]
		}
		rest = rest[len(l):]
		n++
		start := to
		to += len(l)
		switch {
		case n < line:
			continue
		case n == line:
			if !runText.Match(l) {
				return 0, 0, false
			}
			from, started = start, true
		case len(words) > 0:
			if strings.TrimLeft(strings.TrimRight(string(l), "\r\n"), "\t") == words[0] {
				words = words[1:]
			}
			if len(words) == 0 {
				return from, to, true
			}
			continue
		case more && remarkText.Match(l):
			continue
		}
		more = moreText.Match(l)
		for _, m := range hereText.FindAllSubmatch(l, -1) {
			words = append(words, string(m[1]))
		}
		if started && !more && len(words) == 0 {
			return from, to, true
		}
	}
	return from, to, from < to && n >= line && line > 0 && len(words) == 0
}

// shell returns the script of a RUN instruction, with every byte at the offset at which it is in the
// instruction: what is not of the script becomes spaces.
func shell(instruction []byte) ([]byte, bool) {
	s := slices.Clone(instruction)
	at := len(runText.Find(s))
	for {
		n := len(flagText.Find(s[at:]))
		if n == 0 {
			break
		}
		at += n
	}
	blank(s[:at])
	if at < len(s) && s[at] == '[' {
		return nil, false // not for a shell
	}
	first, body := s, []byte(nil)
	if i := bytes.IndexByte(s, '\n'); i >= 0 {
		first, body = s[:i], s[i+1:]
	}
	if m := hereText.FindSubmatch(first); m != nil {
		if len(bytes.TrimSpace(bytes.Replace(first, m[0], nil, 1))) != 0 {
			return s, true // the shell reads it
		}
		blank(first)
		end := bytes.LastIndexByte(bytes.TrimRight(body, "\r\n"), '\n') + 1
		blank(body[end:])
		return s, true
	}
	// Docker joins the lines, and leaves out remarks between them.
	for start, n := 0, 0; start < len(s); n++ {
		end := start + bytes.IndexByte(s[start:], '\n') + 1
		if end == start {
			end = len(s)
		}
		l := s[start:end]
		if n > 0 && remarkText.Match(l) {
			blank(l)
		} else if m := moreText.FindIndex(l); m != nil {
			blank(l[m[0]:])
		}
		start = end
	}
	return s, true
}

func blank(b []byte) {
	for i := range b {
		b[i] = ' '
	}
}

// edit puts text in the place of [from, to).
type edit struct {
	from, to int
	text     string
}

// editor collects the edits of a script.
type editor struct {
	causes []Cause
	text   []byte
	edits  []edit
	names  map[string]int // how often each has been given
}

// caused reports whether there is a cause of a kind, in a format that begins so.
func (e *editor) caused(kind Kind, format string) bool {
	return slices.ContainsFunc(e.causes, func(c Cause) bool { return c.Kind == kind && strings.HasPrefix(c.Format, format) })
}

// named reports whether only one build has some file whose name holds a thing of the given format; ""
// is a name of which nothing is known.
func (e *editor) named(format string) bool {
	return slices.ContainsFunc(e.causes, func(c Cause) bool { return c.Kind == OneBuildOnly && c.Format == format })
}

func (e *editor) insert(at syntax.Pos, text string) {
	e.edits = append(e.edits, edit{int(at.Offset()), int(at.Offset()), text})
}

func (e *editor) replace(n syntax.Node, text string) {
	e.edits = append(e.edits, edit{int(n.Pos().Offset()), int(n.End().Offset()), text})
}

// nth is text for the first use of a name, and text with a number for those that follow.
func (e *editor) nth(text string) string {
	e.names[text]++
	if n := e.names[text]; n > 1 {
		return fmt.Sprintf("%s-%d", text, n)
	}
	return text
}

// call is a simple command whose words are known.
type call struct {
	*syntax.CallExpr
	name  string
	args  []string // literal; "" for a word that is not
	words []*syntax.Word
	stmt  *syntax.Stmt
	stack []syntax.Node // what it is in, outermost first
}

func (e *editor) walk(file *syntax.File) {
	var stack []syntax.Node
	syntax.Walk(file, func(n syntax.Node) bool {
		if n == nil {
			stack = stack[:len(stack)-1]
			return true
		}
		switch n := n.(type) {
		case *syntax.CallExpr:
			if c, ok := newCall(n, stack); ok {
				if rule := rules[c.name]; rule != nil && (!naming[c.name] || !repeated(stack)) {
					rule(e, c)
				}
			}
		case *syntax.ParamExp:
			if !repeated(stack) && n.Param != nil && n.Param.Value == "RANDOM" && plainParam(n) && e.random() {
				e.replace(n, "$((SOURCE_DATE_EPOCH % 32768))")
			}
		}
		stack = append(stack, n)
		return true
	})
}

// naming are the commands that print something else each time that they run, of which some program may make several names.
var naming = map[string]bool{"uuidgen": true, "mktemp": true}

// repeated reports whether what is in stack may run more than once: within a loop, or a function.
func repeated(stack []syntax.Node) bool {
	return slices.ContainsFunc(stack, func(n syntax.Node) bool {
		switch n.(type) {
		case *syntax.ForClause, *syntax.WhileClause, *syntax.FuncDecl:
			return true
		}
		return false
	})
}

func plainParam(n *syntax.ParamExp) bool {
	return !n.Excl && !n.Length && !n.Width && n.Index == nil && n.Slice == nil && n.Repl == nil && n.Exp == nil && n.Names == 0
}

// random reports whether a random number may be behind the causes.
func (e *editor) random() bool {
	for _, k := range []Kind{Random, TempName, BuildPath, Unknown} {
		if e.caused(k, "") {
			return true
		}
	}
	return e.named("")
}

func newCall(n *syntax.CallExpr, stack []syntax.Node) (*call, bool) {
	words := n.Args
	for len(words) > 0 {
		switch path.Base(words[0].Lit()) {
		case "sudo", "exec", "command", "time":
			words = words[1:]
			continue
		}
		break
	}
	if len(words) == 0 || words[0].Lit() == "" || strings.Contains(words[0].Lit(), `\`) {
		return nil, false
	}
	c := &call{CallExpr: n, name: path.Base(words[0].Lit()), words: words, stack: stack}
	if strings.HasPrefix(c.name, "python") {
		c.name = "python"
	}
	for _, w := range words[1:] {
		c.args = append(c.args, w.Lit())
	}
	for i := len(stack) - 1; i >= 0 && c.stmt == nil; i-- {
		c.stmt, _ = stack[i].(*syntax.Stmt)
	}
	return c, c.stmt != nil
}

// has reports whether one of the options is among the arguments; a letter also within a bundle.
func (c *call) has(options ...string) bool {
	for _, a := range c.args {
		for _, o := range options {
			switch {
			case strings.HasPrefix(o, "--"):
				if a == o || strings.HasPrefix(a, o+"=") {
					return true
				}
			case len(a) > 1 && a[0] == '-' && a[1] != '-' && strings.Contains(a, o):
				return true
			}
		}
	}
	return false
}

func (c *call) sets(name string) bool {
	return slices.ContainsFunc(c.Assigns, func(a *syntax.Assign) bool { return a.Name != nil && a.Name.Value == name })
}

// set makes an assignment for this command alone. sudo takes one as an argument, command and exec do not.
func (e *editor) set(c *call, name, value string) {
	if c.sets(name) {
		return
	}
	at := c.Args[0]
	if path.Base(at.Lit()) == "sudo" {
		at = c.words[0]
	}
	e.insert(at.Pos(), name+"="+value+" ")
}

// option puts an option behind the name of the command.
func (e *editor) option(c *call, text string) { e.insert(c.words[0].End(), " "+text) }

// rules are the commands that are known to make builds differ, and what to write instead.
var rules = map[string]func(e *editor, c *call){
	"date": func(e *editor, c *call) {
		if !e.caused(Timestamp, "") && !e.named("date") {
			return
		}
		// The unit of -Iseconds is no option of its own.
		c.args = slices.DeleteFunc(slices.Clone(c.args), func(a string) bool { return strings.HasPrefix(a, "-I") })
		if c.has("d", "r", "s", "f", "--date", "--reference", "--set", "--file") {
			return
		}
		if c.has("u", "--utc", "--universal") {
			e.option(c, `-d "@$SOURCE_DATE_EPOCH"`)
		} else {
			e.option(c, `-u -d "@$SOURCE_DATE_EPOCH"`)
		}
	},
	"uuidgen": func(e *editor, c *call) {
		if (e.caused(UUID, "") || e.named("uuid")) && !c.has("--sha1", "--md5", "s", "m") {
			e.edits = append(e.edits, edit{
				int(c.words[0].End().Offset()), int(c.words[len(c.words)-1].End().Offset()),
				` --sha1 --namespace @dns --name "` + e.nth("$SOURCE_DATE_EPOCH") + `"`,
			})
		}
	},
	"mktemp": func(e *editor, c *call) {
		if !e.caused(TempName, "") && !e.caused(BuildPath, "") && !e.caused(Random, "") && !e.named("temporary") {
			return
		}
		// Only as $(mktemp) or $(mktemp -d), where what it prints can be printed in another way.
		subst, ok := c.parent(2).(*syntax.CmdSubst)
		if !ok || len(subst.Stmts) != 1 || len(c.words) != len(c.Args) || len(c.stmt.Redirs) > 0 {
			return
		}
		switch strings.Join(c.args, " ") {
		case "":
			if len(c.args) == 0 {
				name := e.nth("/tmp/build.tmp")
				e.replace(c.CallExpr, ": > "+name+" && echo "+name)
			}
		case "-d":
			name := e.nth("/tmp/build")
			e.replace(c.CallExpr, "mkdir -p -m 700 "+name+" && echo "+name)
		}
	},
	"gzip": func(e *editor, c *call) {
		if e.caused(ArchiveHeader, "gzip") && !c.has("n", "d", "l", "t", "--no-name", "--decompress", "--list", "--test") {
			e.option(c, "-n")
		}
	},
	"tar": func(e *editor, c *call) {
		if !e.caused(ArchiveHeader, "tar") && !e.caused(Order, "tar") || len(c.args) == 0 {
			return
		}
		bundle := c.args[0]
		dashed := strings.HasPrefix(bundle, "-")
		if !c.has("c", "--create") && (dashed || !strings.Contains(bundle, "c")) {
			return
		}
		if !dashed && (strings.ContainsAny(bundle, "fbCTXgHIV") && strings.IndexAny(bundle, "fbCTXgHIV") != len(bundle)-1 || strings.Trim(bundle, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") {
			return // options whose values come in an order that a dash would change
		}
		var add []string
		for _, o := range []string{"--sort=name", `--mtime="@$SOURCE_DATE_EPOCH"`, "--owner=0", "--group=0", "--numeric-owner"} {
			name, _, _ := strings.Cut(o, "=")
			if !c.mentions(name) {
				add = append(add, o)
			}
		}
		if len(add) == 0 {
			return
		}
		e.option(c, strings.Join(add, " "))
		if !dashed {
			e.insert(c.words[1].Pos(), "-")
		}
	},
	"zip": func(e *editor, c *call) {
		if !e.caused(ArchiveHeader, "zip") || c.has("d", "T", "--delete", "--test") {
			return
		}
		if e.caused(ArchiveHeader, "zip mtime") {
			from, ok := c.inputs()
			if !ok || !c.sequential() {
				return
			}
			e.insert(c.Pos(), "find "+string(e.text[from:c.words[len(c.words)-1].End().Offset()])+` -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} + && `)
		}
		e.set(c, "TZ", "UTC")
		if !c.has("X", "--no-extra") {
			e.option(c, "-X")
		}
	},
	"ar": func(e *editor, c *call) {
		if !e.caused(ArchiveHeader, "ar") || len(c.args) < 2 {
			return
		}
		op := strings.TrimPrefix(c.args[0], "-")
		if strings.ContainsAny(op, "rq") && !strings.ContainsAny(op, "DU-") {
			e.insert(c.words[1].End(), "D")
		}
	},
	"cpio": func(e *editor, c *call) {
		if e.caused(ArchiveHeader, "cpio") && c.has("o", "--create") && !c.has("--reproducible") {
			e.option(c, "--reproducible")
		}
	},
	"python": func(e *editor, c *call) {
		if e.caused(HashOrder, "") {
			e.set(c, "PYTHONHASHSEED", "0")
		}
		i := slices.Index(c.args, "compileall")
		if e.caused(Pyc, "") && i > 0 && c.args[i-1] == "-m" && !c.has("--invalidation-mode") {
			e.insert(c.words[i+1].End(), " --invalidation-mode checked-hash")
		}
	},
	"apt-get": func(e *editor, c *call) {
		if slices.Contains(c.args, "install") {
			e.formats(c)
		}
	},
	"fmtutil":     (*editor).formats,
	"fmtutil-sys": (*editor).formats,
	"find":        (*editor).sorted,
	"ls": func(e *editor, c *call) {
		if c.has("U", "f") {
			e.sorted(c)
		} else if e.caused(LocaleOrder, "") {
			e.set(c, "LC_ALL", "C")
		}
	},
	"sort": func(e *editor, c *call) {
		if e.caused(LocaleOrder, "") {
			e.set(c, "LC_ALL", "C")
		}
	},
}

// formats has Perl make TeX's formats in one order.
func (e *editor) formats(c *call) {
	if e.caused(HashOrder, "TeX") {
		e.set(c, "PERL_HASH_SEED", "0")
	}
}

// sorted sorts what a command lists.
func (e *editor) sorted(c *call) {
	if !e.caused(Order, "") && !e.caused(ParallelOrder, "") {
		return
	}
	for _, a := range c.args {
		switch a {
		case "-exec", "-execdir", "-ok", "-delete", "-quit", "-fprint", "-fprint0", "-fprintf", "-fls":
			return // prints no list
		}
	}
	end := c.words[len(c.words)-1].End()
	for _, r := range c.stmt.Redirs {
		if r.Pos().Offset() < end.Offset() {
			return
		}
	}
	// In a pipe that sorts already, nothing is to be done.
	for i := len(c.stack) - 1; i >= 0; i-- {
		b, ok := c.stack[i].(*syntax.BinaryCmd)
		if ok && (b.Op == syntax.Pipe || b.Op == syntax.PipeAll) && sortsIn(b) {
			return
		}
	}
	text := " | LC_ALL=C sort"
	if slices.Contains(c.args, "-print0") {
		text += " -z"
	}
	e.insert(end, text)
}

func sortsIn(n syntax.Node) (found bool) {
	syntax.Walk(n, func(n syntax.Node) bool {
		if c, ok := n.(*syntax.CallExpr); ok && len(c.Args) > 0 {
			found = found || path.Base(c.Args[0].Lit()) == "sort"
		}
		return true
	})
	return found
}

// parent is what a command is in, n steps up.
func (c *call) parent(n int) syntax.Node {
	if n > len(c.stack) {
		return nil
	}
	return c.stack[len(c.stack)-n]
}

// mentions reports whether a word begins with an option, whatever its value is.
func (c *call) mentions(option string) bool {
	for _, w := range c.words[1:] {
		if len(w.Parts) > 0 {
			if l, ok := w.Parts[0].(*syntax.Lit); ok && (l.Value == option || strings.HasPrefix(l.Value, option+"=")) {
				return true
			}
		}
	}
	return false
}

// inputs is where the names of files begin in the arguments of zip: behind the archive.
func (c *call) inputs() (from uint, ok bool) {
	i := 1
	for ; i < len(c.words); i++ {
		lit := c.words[i].Lit()
		if !strings.HasPrefix(lit, "-") {
			break
		}
		if strings.ContainsAny(lit, "xibtn@") || strings.HasPrefix(lit, "--") {
			return 0, false // options with values
		}
	}
	for _, w := range c.words[min(i+1, len(c.words)):] {
		if strings.HasPrefix(w.Lit(), "-") {
			return 0, false
		}
	}
	if i+1 >= len(c.words) {
		return 0, false
	}
	return c.words[i+1].Pos().Offset(), true
}

// sequential reports whether another command may stand before this one, joined by &&.
func (c *call) sequential() bool {
	if c.stmt.Negated || c.stmt.Background || c.parent(1) != syntax.Node(c.stmt) {
		return false
	}
	for i := len(c.stack) - 2; i >= 0; i-- {
		switch n := c.stack[i].(type) {
		case *syntax.BinaryCmd:
			if n.Op != syntax.AndStmt {
				return false
			}
		case *syntax.IfClause, *syntax.WhileClause, *syntax.CmdSubst:
			return false
		}
	}
	return true
}

// unified is the diff of two texts with as many lines as each other.
func unified(name string, before, after []byte) string {
	const context = 3
	a, b := lines(before), lines(after)
	var out strings.Builder
	fmt.Fprintf(&out, "--- a/%s\n+++ b/%s\n", name, name)
	n := min(len(a), len(b))
	for i := 0; i < n; i++ {
		if a[i] == b[i] {
			continue
		}
		end := i + 1 // behind the last change of the hunk
		for j := end; j < n && j < end+2*context; j++ {
			if a[j] != b[j] {
				end = j + 1
			}
		}
		from, to := max(i-context, 0), min(end+context, n)
		fmt.Fprintf(&out, "@@ -%d,%d +%d,%d @@\n", from+1, to-from, from+1, to-from)
		for j := from; j < to; {
			if a[j] == b[j] {
				write(&out, ' ', a[j])
				j++
				continue
			}
			k := j
			for ; k < to && a[k] != b[k]; k++ {
				write(&out, '-', a[k])
			}
			for ; j < k; j++ {
				write(&out, '+', b[j])
			}
		}
		i = to - 1
	}
	return out.String()
}

func write(out *strings.Builder, sign byte, line string) {
	out.WriteByte(sign)
	out.WriteString(line)
	if !strings.HasSuffix(line, "\n") {
		out.WriteString("\n\\ No newline at end of file\n")
	}
}

func lines(b []byte) []string {
	l := strings.SplitAfter(string(b), "\n")
	if l[len(l)-1] == "" {
		l = l[:len(l)-1]
	}
	return l
}
