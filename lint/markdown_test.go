package lint_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/lint"
)

var update = flag.Bool("update", false, "rewrite docs/lint.md")

func TestMarkdown(t *testing.T) {
	page := filepath.Join("..", "docs", "lint.md")
	got := lint.Markdown()
	if *update {
		if err := os.WriteFile(page, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs from the rules; run go test ./lint -run Markdown -update (-file +rules):\n%s", page, diff)
	}
}
