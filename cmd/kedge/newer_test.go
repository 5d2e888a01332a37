package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/kedge-build/kedge/rules"
	"github.com/rogpeppe/go-internal/testscript"
)

// oneMore is a rule that a later kedge has.
const oneMore = `package rules

func init() {
	table = append(table, Rule{ID: "one-more", since: Version, What: "It is dropped.", Why: "A test.", Link: layerSpec, paths: []string{"opt/one-more"}})
}
`

var versionLine = regexp.MustCompile(`(?m)^const Version = \d+$`)

// newer sets $NEWER to a kedge of the next rules version, built of these sources with one more rule, and
// $VERSION and $NEXT to the two versions.
func newer(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 0, "newer")
	repository := testenv.Repository(ts.Value("t").(*testing.T))
	source := filepath.Join(repository, "rules", "rules.go")
	text, err := os.ReadFile(source)
	ts.Check(err)
	next := versionLine.ReplaceAll(text, fmt.Appendf(nil, "const Version = %d", rules.Version+1))
	if string(next) == string(text) {
		ts.Fatalf("%s names no Version", source)
	}
	dir := ts.MkAbs("newer")
	ts.Check(os.Mkdir(dir, 0o755))
	replaced := map[string]string{}
	for name, content := range map[string][]byte{"rules.go": next, "rules_more.go": []byte(oneMore)} {
		ts.Check(os.WriteFile(filepath.Join(dir, name), content, 0o644))
		replaced[filepath.Join(repository, "rules", name)] = filepath.Join(dir, name)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o644))
	cmd := exec.Command("go", "build", "-buildvcs=false", "-overlay", filepath.Join(dir, "overlay.json"), "-o", dir, "./cmd/kedge")
	cmd.Dir = repository
	if out, err := cmd.CombinedOutput(); err != nil {
		ts.Fatalf("%v\n%s", err, out)
	}
	ts.Setenv("NEWER", filepath.Join(dir, "kedge"))
	ts.Setenv("VERSION", fmt.Sprint(rules.Version))
	ts.Setenv("NEXT", fmt.Sprint(rules.Version+1))
}
