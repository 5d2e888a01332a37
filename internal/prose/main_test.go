package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFind(t *testing.T) {
	for _, c := range []struct {
		file, text string
		want       []int // lines
	}{
		{"a.go", "package a\n\n// It reads the file anew.\nvar x = \"anew\" // somebody\n", []int{3, 4}},
		{"a.go", "package a\n\n/* One.\nWhere there is none, it ends. */\n", []int{4}},
		{"a.go", "package a\n\n// anew is quoted here. prose:allow\n", nil},
		{"a.go", "package a\n\n// Where says in which file it stands.\n", nil},
		{"a.go", "this does not \x00 scan // in the place of\n", []int{1}},
		{"a.md", "Each is read anew.\n\n    anew in code\n\n```\nnobody\n```\n", []int{1}},
		{"a.md", "The files, of which one is new.\nIt gives what is whole its name.\n", []int{1, 2}},
		{"a.md", "It says what is wrong, and which folder it is in.\n", nil},
		{"a.txtar", "# It is to be seen.\nexec echo somebody\n", []int{1}},
		{"Makefile", "# nobody\nall: anew\n", []int{1}},
		{"a.bin", "anew", nil},
	} {
		var got []int
		for _, f := range find(c.file, []byte(c.text)) {
			got = append(got, f.line)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s %q (-want +got):\n%s", c.file, c.text, diff)
		}
	}
}

// Every turn has a phrase that it finds.
func TestTurns(t *testing.T) {
	text := []string{
		"anew", "somebody", "in the place of", "of which", "is to be", "leaves out to", "of what is", "what is there",
		"Where there", "only where there", ", where it is", "as docker has it",
	}
	if len(text) != len(turns) {
		t.Fatalf("%d phrases for %d turns", len(text), len(turns))
	}
	for i, phrase := range text {
		if !turns[i].pattern.MatchString(phrase) {
			t.Errorf("%v does not find %q", turns[i].pattern, phrase)
		}
	}
}

func TestRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte("fine\nnobody\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	n, err := run([]string{file}, &out)
	if want := file + `:2: "nobody": write someone, no one, or name the reader` + "\n"; err != nil || n != 1 || out.String() != want {
		t.Errorf("run = %d, %v, printed %q, want %q", n, err, out.String(), want)
	}
	if _, err := run([]string{file + ".gone.go"}, &out); err != nil {
		t.Errorf("a deleted file: %v", err)
	}
}
