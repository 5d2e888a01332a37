package report_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/lint"
	"github.com/kedge-build/kedge/report"
)

// The examples of practices show what lint finds in the wrong Dockerfile. In the right one it misses the lockfile alone.
func TestPractices(t *testing.T) {
	folders, err := filepath.Glob("../examples/practices/[1-7]-*")
	if err != nil || len(folders) != len(lint.Practices) {
		t.Fatalf("%q, %v", folders, err)
	}
	for n, dir := range folders {
		check := func(name string) []lint.Finding {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			found, err := lint.Check(t.Context(), lint.Input{
				Name: name, Dockerfile: text, Context: os.DirFS(dir), Lockfile: name + ".lock", Now: time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC),
			})
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
		wrong, own := check("wrong.Dockerfile"), false
		for _, f := range wrong {
			own = own || lint.Find(f.Rule).Practice == n+1
		}
		if !own {
			t.Errorf("%s: no finding is about practice %d", dir, n+1)
		}
		text, golden := string(write(t, report.Text, wrong)), filepath.Join(dir, "wrong.txt")
		if flag.Lookup("update").Value.String() == "true" {
			if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), text); diff != "" {
			t.Errorf("%s differs from what lint finds; run go test ./report -run Practices -update (-file +lint):\n%s", golden, diff)
		}
		if right := check("right.Dockerfile"); len(right) != 1 || right[0].Rule != "lock" {
			t.Errorf("%s: lint finds in the right Dockerfile: %+v", dir, right)
		}
	}
}
