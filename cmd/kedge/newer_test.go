package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/kedge-build/kedge/image"
	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/rogpeppe/go-internal/testscript"
)

// oneMore is a rule that a later kedge brings.
const oneMore = `package image

func init() {
	rules = append(rules, rule{id: "one-more", since: RulesVersion, what: "It is dropped.", why: "A test.", link: layerSpec, paths: []string{"opt/one-more"}})
}
`

var versionLine = regexp.MustCompile(`(?m)^const RulesVersion = \d+$`)

// newer sets $NEWER to a kedge of the next rules version, built of these sources with one more rule, and
// $VERSION and $NEXT to the two versions.
func newer(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 0, "newer")
	repository := testenv.Repository(ts.Value("t").(*testing.T))
	source := filepath.Join(repository, "image", "rules.go")
	text, err := os.ReadFile(source)
	ts.Check(err)
	next := versionLine.ReplaceAll(text, fmt.Appendf(nil, "const RulesVersion = %d", image.RulesVersion+1))
	if string(next) == string(text) {
		ts.Fatalf("%s names no RulesVersion", source)
	}
	dir := ts.MkAbs("newer")
	ts.Check(os.Mkdir(dir, 0o755))
	replaced := map[string]string{}
	for name, content := range map[string][]byte{"rules.go": next, "rules_more.go": []byte(oneMore)} {
		ts.Check(os.WriteFile(filepath.Join(dir, name), content, 0o644))
		replaced[filepath.Join(repository, "image", name)] = filepath.Join(dir, name)
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
	ts.Setenv("VERSION", fmt.Sprint(image.RulesVersion))
	ts.Setenv("NEXT", fmt.Sprint(image.RulesVersion+1))
}
