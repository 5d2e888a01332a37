package lint

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// hclBuilds reads an HCL file of docker buildx bake.
func hclBuilds(text []byte) []ciBuild {
	p := &hclParser{text: string(text), line: 1}
	doc := p.body(0)
	if p.bad {
		return nil
	}
	return bakeBuilds(doc)
}

// maxNested bounds how deep the blocks, lists and objects of a file may be.
const maxNested = 50

// An hclParser reads the part of HCL that names targets: blocks, and attributes with literal values. The value of
// any other expression is its text, with a $ before it, so that it equals no literal.
type hclParser struct {
	text string
	pos  int
	line int
	bad  bool // it is no HCL
}

// body reads attributes and blocks up to a closing brace or the end. A block TYPE "NAME" is the key NAME of the key
// TYPE.
func (p *hclParser) body(depth int) *yaml.Node {
	out := &yaml.Node{Kind: yaml.MappingNode, Line: p.line}
	for p.space(true); !p.bad && p.peek() != 0 && p.peek() != '}'; p.space(true) {
		name, line := p.word(), p.line
		if name == "" || depth > maxNested {
			p.bad = true
			break
		}
		p.space(false)
		if p.peek() == '=' {
			p.pos++
			set(out, name, line, p.value(depth+1))
			continue
		}
		at := out
		for label := name; label != ""; label = p.label() {
			if next := key(at, label); next != nil && next.Kind == yaml.MappingNode {
				at = next
			} else {
				next := &yaml.Node{Kind: yaml.MappingNode, Line: line}
				set(at, label, line, next)
				at = next
			}
			p.space(false)
		}
		if p.peek() != '{' {
			p.bad = true
			break
		}
		p.pos++
		inner := p.body(depth + 1)
		at.Content = append(at.Content, inner.Content...)
		p.bad = p.bad || p.peek() != '}'
		p.pos++
	}
	return out
}

func set(m *yaml.Node, name string, line int, value *yaml.Node) {
	m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name, Line: line}, value)
}

func (p *hclParser) peek() byte {
	if p.pos < len(p.text) {
		return p.text[p.pos]
	}
	return 0
}

// space skips white space and comments, and newlines if they end nothing.
func (p *hclParser) space(newlines bool) {
	for p.pos < len(p.text) {
		rest := p.text[p.pos:]
		switch c := rest[0]; {
		case c == '\n' && !newlines:
			return
		case c == '\n':
			p.line++
			p.pos++
		case c == ' ' || c == '\t' || c == '\r':
			p.pos++
		case c == '#' || strings.HasPrefix(rest, "//"):
			p.pos += len(rest)
			if n := strings.IndexByte(rest, '\n'); n >= 0 {
				p.pos += n - len(rest)
			}
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest, "*/")
			if n < 0 {
				p.bad, p.pos = true, len(p.text)
				return
			}
			p.line += strings.Count(rest[:n], "\n")
			p.pos += n + 2
		default:
			return
		}
	}
}

// word reads an identifier, "" if there is none.
func (p *hclParser) word() string {
	start := p.pos
	for c := p.peek(); isNameByte(c) || c == '-' && p.pos > start; c = p.peek() {
		p.pos++
	}
	return p.text[start:p.pos]
}

// label reads the label of a block, "" if there is none.
func (p *hclParser) label() string {
	if p.peek() == '"' {
		s, _ := p.quoted()
		return s
	}
	return p.word()
}

// quoted reads a string in quotes. literal is false if it has a template in it.
func (p *hclParser) quoted() (s string, literal bool) {
	start := p.pos
	depth := 0
	for p.pos++; p.pos < len(p.text) && p.text[p.pos] != '\n'; p.pos++ {
		switch rest := p.text[p.pos:]; {
		case rest[0] == '\\':
			p.pos++
		case strings.HasPrefix(rest, "$${") || strings.HasPrefix(rest, "%%{"):
			p.pos += 2
		case strings.HasPrefix(rest, "${") || strings.HasPrefix(rest, "%{"):
			depth++
		case rest[0] == '}' && depth > 0:
			depth--
		case rest[0] == '"' && depth == 0:
			p.pos++
			text := p.text[start:p.pos]
			s, err := strconv.Unquote(text)
			if err != nil || strings.Contains(text, "${") || strings.Contains(text, "%{") {
				return "$" + text, false
			}
			return s, true
		}
	}
	p.bad, p.pos = true, min(p.pos, len(p.text))
	return "", false
}

// value reads an expression up to the end of its line, or to what ends an element of a list or an object.
func (p *hclParser) value(depth int) *yaml.Node {
	p.space(false)
	start, line := p.pos, p.line
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: line}
	if depth > maxNested {
		p.bad = true
		return n
	}
	switch c := p.peek(); {
	case c == '"':
		n.Value, _ = p.quoted()
	case c == '[' || c == '{':
		n = p.collection(depth)
	case c >= '0' && c <= '9' || c == '-':
		for p.pos++; p.peek() == '.' || isNameByte(p.peek()); p.pos++ {
		}
		n.Value = p.text[start:p.pos]
	default:
		switch n.Value = p.word(); n.Value {
		case "true", "false":
		case "null":
			n.Value = ""
		default:
			n.Value = "$" + n.Value
		}
	}
	p.space(false)
	if c := p.peek(); p.bad || c == 0 || strings.IndexByte("\n,]}", c) >= 0 {
		return n
	}
	p.skip()
	return &yaml.Node{Kind: yaml.ScalarNode, Line: line, Value: "$" + strings.TrimSpace(p.text[start:p.pos])}
}

// skip moves to the end of an expression.
func (p *hclParser) skip() {
	for depth := 0; p.pos < len(p.text) && !p.bad; {
		switch c := p.peek(); {
		case c == '"':
			p.quoted()
			continue
		case strings.HasPrefix(p.text[p.pos:], "<<"): // a here-document
			p.bad = true
			return
		case c == '(' || c == '[' || c == '{':
			depth++
		case depth > 0 && (c == ')' || c == ']' || c == '}'):
			depth--
		case depth == 0 && strings.IndexByte("\n,]}", c) >= 0:
			return
		case c == '\n':
			p.line++
		}
		p.pos++
	}
}

// collection reads a list or an object.
func (p *hclParser) collection(depth int) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode, Line: p.line}
	end := byte(']')
	if p.peek() == '{' {
		n.Kind, end = yaml.MappingNode, '}'
	}
	p.pos++
	for p.space(true); !p.bad && p.peek() != end; p.space(true) {
		if n.Kind == yaml.MappingNode {
			line, name := p.line, p.label()
			p.space(true)
			if name == "" || p.peek() != '=' && p.peek() != ':' {
				p.bad = true
				return n
			}
			p.pos++
			set(n, name, line, p.value(depth+1))
		} else {
			n.Content = append(n.Content, p.value(depth+1))
		}
		p.space(true)
		if p.peek() == ',' {
			p.pos++
		} else if n.Kind == yaml.SequenceNode && p.peek() != end || p.peek() == 0 {
			p.bad = true
		}
	}
	p.pos++
	return n
}
