package lint

import (
	"regexp"
	"strings"

	"github.com/kedge-build/kedge/internal/shell"
	"go.yaml.in/yaml/v3"
)

// jenkinsBuilds reads the sh steps of a Jenkinsfile, and the calls of docker.build. One in a dir block is of another
// folder, and is left out; what Groovy puts into a string stays unknown, as a variable does. A build of
// agent { dockerfile } is not pushed, and is left out.
func jenkinsBuilds(text []byte) []ciBuild {
	j := jenkinsfile{text: string(text), images: map[string]int{}}
	j.read()
	return append(j.builds, scriptBuilds(j.scripts, false)...)
}

// A jenkinsfile is a Jenkinsfile that is being read.
type jenkinsfile struct {
	text    string
	pos     int
	counted int // the position up to which lines has the line breaks
	lines   int
	scripts []*yaml.Node
	builds  []ciBuild
	images  map[string]int // indexes of builds, by the variables that hold the images

	depth, dir int    // dir is the depth of the outermost dir block, 0 outside of any
	opens      bool   // the next block is one of dir
	word       string // the last identifier; "sh" until its script has come, and "sh ..." before a named argument
}

func (j *jenkinsfile) line() int {
	j.lines += strings.Count(j.text[j.counted:j.pos], "\n")
	j.counted = j.pos
	return 1 + j.lines
}

func (j *jenkinsfile) read() {
	for j.pos < len(j.text) {
		rest := j.text[j.pos:]
		size := 1
		switch c := rest[0]; {
		case strings.HasPrefix(rest, "//"):
			size = lineEnd(rest)
		case strings.HasPrefix(rest, "/*"):
			size = 2
			if end := strings.Index(rest[2:], "*/"); end >= 0 {
				size = end + 4
			}
		case c == '"' || c == '\'':
			var script string
			script, size = groovyString(rest)
			if j.word == "sh" && j.dir == 0 {
				j.scripts = append(j.scripts, &yaml.Node{Kind: yaml.ScalarNode, Value: script, Line: j.line()})
				j.word = ""
			}
		case isNameByte(c):
			for size < len(rest) && isNameByte(rest[size]) {
				size++
			}
			j.name(rest[:size], rest[size:])
		case c == '{':
			if j.depth++; j.opens && j.dir == 0 {
				j.dir = j.depth
			}
			j.opens = false
		case c == '}':
			if j.depth == j.dir {
				j.dir = 0
			}
			j.depth--
		case c == '\n' && !strings.HasPrefix(j.word, "sh"):
			j.word = ""
		}
		j.pos += size
	}
}

// name reads an identifier, with what stands after it.
func (j *jenkinsfile) name(name, rest string) {
	after := strings.TrimLeft(rest, " \t")
	named := strings.HasPrefix(after, ":")
	switch {
	case j.word == "sh" && named:
		if name != "script" { // of the named arguments, script is the command
			j.word = "sh ..."
		}
	case j.word == "sh ..." && named:
		if name == "script" {
			j.word = "sh"
		}
	default:
		j.word = name
	}
	j.opens = j.opens || name == "dir" && strings.HasPrefix(after, "(")
	if i, ok := j.images[name]; ok && strings.HasPrefix(rest, ".push(") {
		j.builds[i].pushed = true
	}
	if args, ok := strings.CutPrefix(rest, ".build("); ok && name == "docker" && j.dir == 0 {
		j.build(args)
	}
}

// assigned matches the variable that a value is given. It is looked for in the last maxAssigned bytes before the value.
var assigned = regexp.MustCompile(`(\w+)\s*=\s*$`)

const maxAssigned = 200

// build reads the arguments of docker.build: the name of the image, and the rest of a docker build command.
func (j *jenkinsfile) build(args string) {
	var words []string
	for args = strings.TrimSpace(args); args != "" && strings.ContainsAny(args[:1], `'"`); {
		word, size := groovyString(args)
		words = append(words, word)
		args = strings.TrimSpace(args[size:])
		args = strings.TrimSpace(strings.TrimPrefix(args, ","))
	}
	end, ok := strings.CutPrefix(args, ")")
	if !ok || len(words) == 0 || len(words) > 2 { // an argument is an expression
		return
	}
	b, ok := commandBuild(nil)
	if len(words) == 2 {
		if commands := shell.Script("build "+words[1], nil); len(commands) > 0 {
			b, ok = commandBuild(commands[0].Words[1:])
		}
	}
	if !ok {
		return
	}
	b.name, b.line, b.images = "docker.build", j.line(), append(b.images, words[0])
	b.pushed = strings.HasPrefix(end, ".push(")
	if v := assigned.FindStringSubmatch(j.text[max(0, j.pos-maxAssigned):j.pos]); v != nil {
		j.images[v[1]] = len(j.builds)
	}
	j.builds = append(j.builds, b)
}

func lineEnd(s string) int {
	if n := strings.IndexByte(s, '\n'); n >= 0 {
		return n
	}
	return len(s)
}

// groovyString reads the string that s begins with, and returns its text and its size in s. An expression in it
// becomes a shell's variable.
func groovyString(s string) (text string, size int) {
	quote := s[:1]
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(s, triple) {
		quote = triple
	}
	var b strings.Builder
	for n := len(quote); n < len(s); n++ {
		switch {
		case strings.HasPrefix(s[n:], quote):
			return b.String(), n + len(quote)
		case s[n] == '\n' && len(quote) == 1: // it does not end
			return "", n
		case s[n] == '$' && quote[0] == '"' && strings.HasPrefix(s[n:], "${"):
			expression := s[n+2 : n+groovyExpression(s[n:])]
			b.WriteString("${" + variable(expression) + "}")
			n += len(expression) + 2
		case s[n] == '\\' && n+1 < len(s):
			switch n++; s[n] {
			case '\n': // the line goes on
				b.WriteByte(' ')
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			case '$': // it is the shell's
				b.WriteString("$")
			default:
				b.WriteByte(s[n])
			}
		default:
			b.WriteByte(s[n])
		}
	}
	return "", len(s)
}

// groovyExpression returns the size of a ${...} without its closing brace.
func groovyExpression(s string) int {
	depth := 0
	for n, c := range s {
		switch c {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return n
			}
		case '\n':
			return n
		}
	}
	return len(s)
}
