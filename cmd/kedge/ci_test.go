package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The files of examples/ci parse, and so does every command of kedge in them.
func TestCIExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/ci/*")
	if err != nil || len(files) != 3 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(file) == ".yml" {
			var doc map[string]any
			if err := yaml.Unmarshal(data, &doc); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
		seen := map[string]bool{}
		for line := range strings.Lines(string(data)) {
			_, command, found := strings.Cut(line, "kedge ")
			if !found || strings.HasPrefix(command, "and ") {
				continue
			}
			command, _, _ = strings.Cut(command, "'")
			command, _, _ = strings.Cut(command, ">>")
			words := strings.Fields(strings.ReplaceAll(command, "${{ github.repository }}", "team/app"))
			if _, err := parse(rootOf((&process{}).app()), words); err != nil {
				t.Errorf("%s: kedge %s: %v", file, command, err)
			}
			seen[words[0]] = true
		}
		for _, verb := range []string{"lint", "lock", "verify", "build"} {
			if !seen[verb] {
				t.Errorf("%s: no kedge %s", file, verb)
			}
		}
	}
	if _, err := parse(rootOf((&process{}).app()), []string{"lint", "--no-such-flag"}); err == nil {
		t.Error("any flag parses")
	}
}
