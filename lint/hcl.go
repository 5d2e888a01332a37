package lint

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"go.yaml.in/yaml/v3"
)

// hclBuilds reads an HCL file of docker buildx bake.
func hclBuilds(text []byte) []ciBuild {
	if tooDeep(text) {
		return nil
	}
	file, diags := hclsyntax.ParseConfig(text, "", hcl.InitialPos)
	if diags.HasErrors() {
		return nil
	}
	r := hclReader(text)
	return bakeBuilds(r.body(file.Body.(*hclsyntax.Body)))
}

// maxNested bounds the brackets, templates and operators that an HCL file nests: its parser takes 16 KB of stack for each.
const maxNested = 1000

func tooDeep(text []byte) bool {
	tokens, _ := hclsyntax.LexConfig(text, "", hcl.InitialPos) // the parser reports what is wrong with them
	depth := 0
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc,
			hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl,
			hclsyntax.TokenBang, hclsyntax.TokenMinus, hclsyntax.TokenQuestion: // these never end
			depth++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			depth--
		}
		if depth > maxNested {
			return true
		}
	}
	return false
}

// An hclReader turns the text of an HCL file into what the same file in JSON has. Only literals have values: to
// evaluate 1e999999999 or nested loops takes forever. The value of another expression is its text with a $ before it,
// so that it equals no literal.
type hclReader []byte

// body reads attributes and blocks. A block TYPE "NAME" is the key NAME of the key TYPE.
func (r hclReader) body(b *hclsyntax.Body) *yaml.Node {
	out := &yaml.Node{Kind: yaml.MappingNode, Line: b.SrcRange.Start.Line}
	for name, a := range b.Attributes {
		set(out, name, a.NameRange.Start.Line, r.value(a.Expr))
	}
	for _, block := range b.Blocks {
		at, line := out, block.TypeRange.Start.Line
		for _, label := range append([]string{block.Type}, block.Labels...) {
			next := key(at, label)
			if next == nil || next.Kind != yaml.MappingNode {
				next = &yaml.Node{Kind: yaml.MappingNode, Line: line}
				set(at, label, line, next)
			}
			at = next
		}
		at.Content = append(at.Content, r.body(block.Body).Content...)
	}
	return out
}

func set(m *yaml.Node, name string, line int, value *yaml.Node) {
	m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name, Line: line}, value)
}

func (r hclReader) value(e hclsyntax.Expression) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: e.Range().Start.Line}
	switch e := e.(type) {
	case *hclsyntax.TupleConsExpr:
		n.Kind = yaml.SequenceNode
		for _, element := range e.Exprs {
			n.Content = append(n.Content, r.value(element))
		}
	case *hclsyntax.ObjectConsExpr:
		n.Kind = yaml.MappingNode
		for _, item := range e.Items {
			set(n, r.value(item.KeyExpr).Value, item.KeyExpr.Range().Start.Line, r.value(item.ValueExpr))
		}
	case *hclsyntax.ObjectConsKeyExpr:
		if n.Value = hcl.ExprAsKeyword(e); n.Value == "" {
			return r.value(e.Wrapped)
		}
	case *hclsyntax.ParenthesesExpr:
		return r.value(e.Expression)
	case *hclsyntax.LiteralValueExpr:
		if !e.Val.IsNull() {
			n.Value = r.text(e)
		}
	case *hclsyntax.TemplateExpr:
		for _, part := range e.Parts {
			literal, ok := part.(*hclsyntax.LiteralValueExpr)
			if !ok || literal.Val.Type() != cty.String {
				n.Value = "$" + r.text(e)
				break
			}
			n.Value += literal.Val.AsString()
		}
	default:
		n.Value = "$" + r.text(e)
	}
	return n
}

func (r hclReader) text(e hclsyntax.Expression) string { return string(e.Range().SliceBytes(r)) }
