package fix

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"
	"mvdan.cc/sh/v3/syntax"

	"github.com/kedge-build/kedge/cause"
)

// An editor collects the edits of a Dockerfile.
type editor struct {
	causes []cause.Cause // of the current instruction
	script []byte        // of the current instruction
	edits  []udiff.Edit
	names  map[string]int // how often the patch uses each
}

// caused reports whether there is a cause of a kind whose format begins with format.
func (e *editor) caused(kind cause.Kind, format string) bool {
	return slices.ContainsFunc(e.causes, func(c cause.Cause) bool { return c.Kind == kind && strings.HasPrefix(c.Format, format) })
}

// named reports whether only one build has some file whose name holds something of a format; "" stands for
// names that hold nothing known.
func (e *editor) named(format string) bool {
	return slices.ContainsFunc(e.causes, func(c cause.Cause) bool { return c.Kind == cause.OneBuildOnly && c.Format == format })
}

// edit replaces the script between two positions by text.
func (e *editor) edit(from, to syntax.Pos, text string) {
	e.edits = append(e.edits, udiff.Edit{Start: int(from.Offset()), End: int(to.Offset()), New: text})
}

func (e *editor) insert(at syntax.Pos, text string) {
	e.edit(at, at, text)
}

func (e *editor) replace(n syntax.Node, text string) {
	e.edit(n.Pos(), n.End(), text)
}

// nth returns a name for its first use, and the name with a number for each later one.
func (e *editor) nth(text string) string {
	e.names[text]++
	if n := e.names[text]; n > 1 {
		return fmt.Sprintf("%s-%d", text, n)
	}
	return text
}

// A call is a simple command.
type call struct {
	*syntax.CallExpr
	name  string
	args  []string // "" for a word that is not literal
	words []*syntax.Word
	stmt  *syntax.Stmt
	stack []syntax.Node // the nodes around it, outermost first
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

// naming are the commands that print a new name each time they run: in a loop they have no fixed replacement.
var naming = map[string]bool{"uuidgen": true, "mktemp": true}

// repeated reports whether a node within stack may run more than once: in a loop or a function.
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

// random reports whether a random number may be the reason for the causes.
func (e *editor) random() bool {
	for _, k := range []cause.Kind{cause.Random, cause.TempName, cause.BuildPath, cause.Unknown} {
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

// has reports whether the arguments have one of the options. A letter may be in a bundle, as in -xzf.
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

// set sets a variable for this command alone. It is an argument of sudo, but not of command and exec.
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

// option inserts options after the name of the command.
func (e *editor) option(c *call, text string) { e.insert(c.words[0].End(), " "+text) }

// fromNow are the values of date -d that count days, or more, from now.
var fromNow = regexp.MustCompile(`^(?:yesterday|tomorrow|(?:[+-]?\d+|next|last) (?:day|week|month|year)s?(?: ago)?)$`)

// shifted has date -d count from the epoch.
func (e *editor) shifted(c *call) {
	for i := 1; i+1 < len(c.words); i++ {
		value := c.words[i+1]
		text := strings.Trim(string(e.script[value.Pos().Offset():value.End().Offset()]), `"'`)
		if option := c.words[i].Lit(); (option == "-d" || option == "--date") && fromNow.MatchString(text) {
			e.replace(value, `"$(date -u -d "@$SOURCE_DATE_EPOCH" +%F) `+text+`"`)
		}
	}
}

// rules are the commands that are known to make builds differ, with the edits that avoid it.
var rules = map[string]func(e *editor, c *call){
	"date": func(e *editor, c *call) {
		if !e.caused(cause.Timestamp, "") && !e.named("date") {
			return
		}
		// The letters after -I are its value, not options.
		c.args = slices.DeleteFunc(slices.Clone(c.args), func(a string) bool { return strings.HasPrefix(a, "-I") })
		if c.has("d", "r", "s", "f", "--date", "--reference", "--set", "--file") {
			e.shifted(c)
			return
		}
		if c.has("u", "--utc", "--universal") {
			e.option(c, `-d "@$SOURCE_DATE_EPOCH"`)
		} else {
			e.option(c, `-u -d "@$SOURCE_DATE_EPOCH"`)
		}
	},
	"uuidgen": func(e *editor, c *call) {
		if (e.caused(cause.UUID, "") || e.named("uuid")) && !c.has("--sha1", "--md5", "s", "m") {
			e.edit(c.words[0].End(), c.words[len(c.words)-1].End(), ` --sha1 --namespace @dns --name "`+e.nth("$SOURCE_DATE_EPOCH")+`"`)
		}
	},
	"mktemp": func(e *editor, c *call) {
		if !e.caused(cause.TempName, "") && !e.caused(cause.BuildPath, "") && !e.caused(cause.Random, "") && !e.named("temporary") {
			return
		}
		// Only $(mktemp) and $(mktemp -d) can be replaced by a command with the same output.
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
		if e.caused(cause.ArchiveHeader, "gzip") && !c.has("n", "d", "l", "t", "--no-name", "--decompress", "--list", "--test") {
			e.option(c, "-n")
		}
	},
	"tar": func(e *editor, c *call) {
		if !e.caused(cause.ArchiveHeader, "tar") && !e.caused(cause.Order, "tar") || len(c.args) == 0 {
			return
		}
		bundle := c.args[0]
		dashed := strings.HasPrefix(bundle, "-")
		if !c.has("c", "--create") && (dashed || !strings.Contains(bundle, "c")) {
			return
		}
		if !dashed && (strings.ContainsAny(bundle, "fbCTXgHIV") && strings.IndexAny(bundle, "fbCTXgHIV") != len(bundle)-1 || strings.Trim(bundle, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") {
			return // with a dash, the options would take other arguments as their values
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
		if !e.caused(cause.ArchiveHeader, "zip") || c.has("d", "T", "--delete", "--test") {
			return
		}
		if e.caused(cause.ArchiveHeader, "zip mtime") {
			from, ok := c.inputs()
			if !ok || !c.sequential() {
				return
			}
			e.insert(c.Pos(), "find "+string(e.script[from:c.words[len(c.words)-1].End().Offset()])+` -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} + && `)
		}
		e.set(c, "TZ", "UTC")
		if !c.has("X", "--no-extra") {
			e.option(c, "-X")
		}
	},
	"ar": func(e *editor, c *call) {
		if !e.caused(cause.ArchiveHeader, "ar") || len(c.args) < 2 {
			return
		}
		op := strings.TrimPrefix(c.args[0], "-")
		if strings.ContainsAny(op, "rq") && !strings.ContainsAny(op, "DU-") {
			e.insert(c.words[1].End(), "D")
		}
	},
	"cpio": func(e *editor, c *call) {
		if e.caused(cause.ArchiveHeader, "cpio") && c.has("o", "--create") && !c.has("--reproducible") {
			e.option(c, "--reproducible")
		}
	},
	"python": func(e *editor, c *call) {
		if e.caused(cause.HashOrder, "") {
			e.set(c, "PYTHONHASHSEED", "0")
		}
		i := slices.Index(c.args, "compileall")
		if e.caused(cause.Pyc, "") && i > 0 && c.args[i-1] == "-m" && !c.has("--invalidation-mode") {
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
		} else if e.caused(cause.LocaleOrder, "") {
			e.set(c, "LC_ALL", "C")
		}
	},
	"sort": func(e *editor, c *call) {
		if e.caused(cause.LocaleOrder, "") {
			e.set(c, "LC_ALL", "C")
		}
	},
}

// formats fixes the order in which Perl builds TeX's formats.
func (e *editor) formats(c *call) {
	if e.caused(cause.HashOrder, "TeX") {
		e.set(c, "PERL_HASH_SEED", "0")
	}
}

// sorted sorts the output of a command that lists files.
func (e *editor) sorted(c *call) {
	if !e.caused(cause.Order, "") && !e.caused(cause.ParallelOrder, "") {
		return
	}
	for _, a := range c.args {
		switch a {
		case "-exec", "-execdir", "-ok", "-delete", "-quit", "-fprint", "-fprint0", "-fprintf", "-fls":
			return // it prints no list
		}
	}
	end := c.words[len(c.words)-1].End()
	for _, r := range c.stmt.Redirs {
		if r.Pos().Offset() < end.Offset() {
			return
		}
	}
	// The pipe may sort already.
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

// parent returns the node n steps above a command.
func (c *call) parent(n int) syntax.Node {
	if n > len(c.stack) {
		return nil
	}
	return c.stack[len(c.stack)-n]
}

// mentions reports whether the command has an option with any value.
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

// inputs returns where the names of files begin in the arguments of zip: after the archive.
func (c *call) inputs() (from uint, ok bool) {
	i := 1
	for ; i < len(c.words); i++ {
		lit := c.words[i].Lit()
		if !strings.HasPrefix(lit, "-") {
			break
		}
		if strings.ContainsAny(lit, "xibtn@") || strings.HasPrefix(lit, "--") {
			return 0, false // an option may take the next argument as its value
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

// sequential reports whether "COMMAND && " can be inserted before this command.
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
