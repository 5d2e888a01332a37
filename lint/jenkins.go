package lint

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// jenkinsBuilds reads the sh steps of a Jenkinsfile. One in a dir block runs in another folder, and is left out; what
// Groovy puts into a string stays unknown, as a variable does.
func jenkinsBuilds(text []byte) []ciBuild {
	var scripts []*yaml.Node
	s := string(text)
	depth, dir, opens := 0, 0, false // dir is the depth of the outermost dir block, 0 outside of any
	word := ""                       // the last identifier; "sh" until its script has come
	for pos := 0; pos < len(s); {
		rest := s[pos:]
		c := rest[0]
		switch {
		case strings.HasPrefix(rest, "//"):
			pos += lineEnd(rest)
			continue
		case strings.HasPrefix(rest, "/*"):
			if pos += 2; strings.Contains(s[pos:], "*/") {
				pos += strings.Index(s[pos:], "*/") + 2
			}
			continue
		case c == '"' || c == '\'':
			text, size := groovyString(rest)
			if word == "sh" && dir == 0 {
				scripts = append(scripts, &yaml.Node{Kind: yaml.ScalarNode, Value: text, Line: 1 + strings.Count(s[:pos], "\n")})
				word = ""
			}
			pos += size
			continue
		case isNameByte(c):
			size := 1
			for size < len(rest) && isNameByte(rest[size]) {
				size++
			}
			name := rest[:size]
			pos += size
			after := strings.TrimLeft(s[pos:], " \t")
			switch {
			case word == "sh" && strings.HasPrefix(after, ":"):
				if name != "script" { // of the named arguments, script is the command
					word = "sh ..."
				}
			case word == "sh ..." && strings.HasPrefix(after, ":"):
				if name == "script" {
					word = "sh"
				}
			default:
				word = name
			}
			opens = opens || name == "dir" && strings.HasPrefix(after, "(")
			continue
		case c == '{':
			if depth++; opens && dir == 0 {
				dir = depth
			}
			opens = false
		case c == '}':
			if depth == dir {
				dir = 0
			}
			depth--
		case c == '\n' && !strings.HasPrefix(word, "sh"):
			word = ""
		}
		pos++
	}
	return scriptBuilds(scripts)
}

func lineEnd(s string) int {
	if n := strings.IndexByte(s, '\n'); n >= 0 {
		return n
	}
	return len(s)
}

// groovyString reads the string that s begins with, and returns its text and its size in s.
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
		case s[n] == '\\' && n+1 < len(s):
			switch n++; s[n] {
			case '\n': // the line goes on
				b.WriteByte(' ')
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			default:
				b.WriteByte(s[n])
			}
		default:
			b.WriteByte(s[n])
		}
	}
	return "", len(s)
}
