package testenv

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// CheckReport validates what a verb printed as JSON against docs/report.schema.json. A key that the schema does
// not describe is an error, too.
func CheckReport(t testing.TB, data []byte) error {
	t.Helper()
	const name = "docs/report.schema.json"
	text, err := os.ReadFile(filepath.Join(Repository(t), name))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	closeObjects(doc)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// closeObjects makes every object of a schema refuse keys that the schema does not describe.
func closeObjects(node any) {
	switch n := node.(type) {
	case []any:
		for _, v := range n {
			closeObjects(v)
		}
	case map[string]any:
		for key, v := range n {
			// The report takes the keys of one of these three.
			if defs, ok := v.(map[string]any); ok && key == "$defs" {
				for _, name := range []string{"image", "diff", "lock"} {
					if d, ok := defs[name].(map[string]any); ok {
						closeObjects(d["properties"])
					}
				}
				for name, d := range defs {
					if name != "image" && name != "diff" && name != "lock" {
						closeObjects(d)
					}
				}
				continue
			}
			closeObjects(v)
		}
		if _, ok := n["properties"].(map[string]any); ok && n["type"] == "object" {
			n["unevaluatedProperties"] = false
		}
	}
}
