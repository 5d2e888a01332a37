package testenv

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// CheckReport validates what a verb printed as JSON against docs/report.schema.json. A key that the schema does
// not describe is an error, too.
func CheckReport(t testing.TB, data []byte) error {
	t.Helper()
	schema := compileSchema(t, filepath.Join(Repository(t), "docs/report.schema.json"), closeObjects)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// Schema compiles the JSON Schema in a file. It checks formats, too.
func Schema(t testing.TB, path string) *jsonschema.Schema {
	t.Helper()
	return compileSchema(t, path, func(any) {})
}

func compileSchema(t testing.TB, path string, change func(doc any)) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	change(doc)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	const name = "schema.json"
	if err := c.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// reported are the objects whose keys the report takes as its own.
var reported = []string{"image", "diff", "lock", "lint"}

// closeObjects makes every object of a schema refuse keys that the schema does not describe.
func closeObjects(node any) {
	switch n := node.(type) {
	case []any:
		for _, v := range n {
			closeObjects(v)
		}
	case map[string]any:
		for key, v := range n {
			if defs, ok := v.(map[string]any); ok && key == "$defs" {
				for name, d := range defs {
					if d, ok := d.(map[string]any); ok && slices.Contains(reported, name) {
						closeObjects(d["properties"])
					} else {
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
