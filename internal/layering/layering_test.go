// Package layering tests the arrows of docs/design.md: which package of kedge may import which, and which
// of them may import BuildKit, Docker's CLI and a library for flags.
package layering

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/kedge-build/kedge"

// root is the name in arrows of the package at the root of the module.
const root = "kedge"

// arrows lists the packages of kedge that each package of kedge may import. Tests may import more.
var arrows = table(`
lock: internal/wholefile
frontend: lock internal/shell
frontend/gateway: frontend lock
cmd/kedge-frontend: frontend/gateway
internal/shell:
lint: frontend lock internal/shell
builder/daemon: internal/wholefile
docker:
builder/clock:
builder/gitdir:
builder: lock frontend network network/relay builder/clock builder/daemon builder/gitdir internal/decompress internal/filesum internal/wholefile
bake:
policy: frontend lock internal/wholefile
rules: internal/layer internal/format/jks internal/format/pyc internal/format/zip
store: rules internal/filesum internal/layer internal/strictjson internal/wholefile
network: lock internal/strictjson internal/wholefile
network/relay:
network/relay/program:
secret: store internal/layer internal/strictjson
image: rules internal/format/pyc secret store internal/chunk internal/filesum internal/layer internal/strictjson
publish: store internal/layer internal/wholefile
cause: internal/decompress
fix: cause
diff/packages:
diff: diff/packages internal/chunk internal/layer
diff/source: store internal/decompress internal/layer internal/wholefile
explain: cause diff internal/layer
drift: diff diff/packages internal/git internal/layer internal/wholefile
trace: frontend store internal/decompress internal/layer
verify: cause diff explain fix frontend store trace
kedge: builder builder/gitdir cause drift frontend image lint lock network policy rules secret store trace verify internal/filesum internal/git internal/wholefile
cmd/kedge: kedge bake builder builder/daemon docker drift frontend image lint lock network policy rules secret store trace verify cause diff diff/source explain plugin publish report
plugin: internal/wholefile
report: kedge diff drift explain lint lock network rules trace verify
internal/chunk:
internal/layer: internal/decompress
internal/decompress:
internal/strictjson:
internal/debian:
internal/rig: internal/debian
internal/demo: internal/rig
internal/bench: internal/rig
internal/corpus: internal/debian internal/rig
internal/testenv: internal/debian internal/rig
internal/filesum: internal/wholefile
internal/git:
internal/tartest:
internal/wholefile:
`)

// table reads lines of the form PACKAGE: PACKAGE...
func table(s string) map[string][]string {
	arrows := map[string][]string{}
	for line := range strings.Lines(strings.TrimSpace(s)) {
		name, may, _ := strings.Cut(line, ":")
		arrows[name] = strings.Fields(may)
	}
	return arrows
}

// outside lists modules that only some packages may import.
var outside = map[string][]string{
	"github.com/moby/buildkit": {"frontend", "frontend/gateway", "cmd/kedge-frontend", "fix", "lint", "policy", "builder", "builder/daemon", root, "cmd/kedge", "internal/demo", "internal/testenv"},
	"github.com/moby/moby":     {"docker"},
	"github.com/urfave/cli":    {"cmd/kedge"},
}

func TestLayering(t *testing.T) {
	list := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err, list.Stderr)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name, _ := room(p.ImportPath)
		for _, path := range p.Imports {
			if why := refused(name, path); why != "" {
				t.Errorf("%s imports %s: %s", name, path, why)
			}
		}
	}
	if seen < len(arrows) {
		t.Errorf("%d packages seen, want at least %d", seen, len(arrows))
	}
}

// refused returns why a package may not import another, or "" if it may.
func refused(name, path string) string {
	for prefix, may := range outside {
		if (path == prefix || strings.HasPrefix(path, prefix+"/")) && !slices.Contains(may, name) {
			return "only these may: " + strings.Join(may, ", ")
		}
	}
	below, ok := room(path)
	if !ok {
		return ""
	}
	may, listed := arrows[name]
	switch {
	case below == "internal/format" || strings.HasPrefix(below, "internal/format/"):
		return "" // parsers, which know nothing of kedge
	case strings.HasPrefix(name, "internal/format/"):
		return "a parser imports of kedge only internal/format"
	case !listed && strings.HasPrefix(name, "internal/") && below != "cmd/kedge":
		return "" // tools for the project's own use
	case !listed:
		return "it is not among the arrows in this test"
	case slices.Contains(may, below):
		return ""
	}
	return "of kedge it may import only: " + strings.Join(may, ", ")
}

// room returns the name in arrows of a package of kedge.
func room(path string) (name string, ok bool) {
	if path == module {
		return root, true
	}
	return strings.CutPrefix(path, module+"/")
}

func TestRefused(t *testing.T) {
	for _, bad := range [][2]string{
		{"lock", module + "/frontend"},
		{"frontend", module + "/builder"},
		{"image", module + "/lock"},
		{"image", "github.com/moby/buildkit/client"},
		{"diff", module + "/image"},
		{"cause", module + "/diff"},
		{"diff", module + "/diff/source"},
		{"verify", module + "/builder"},
		{"builder", module + "/image"},
		{root, "github.com/urfave/cli/v2"},
		{"builder", module},
		{root, module + "/internal/testenv"},
		{"new", module + "/lock"},
		{"internal/format/zip", module + "/cause"},
		{"internal/new", module + "/cmd/kedge"},
	} {
		if refused(bad[0], bad[1]) == "" {
			t.Errorf("%s may import %s", bad[0], bad[1])
		}
	}
	for _, good := range [][2]string{
		{"lock", "fmt"},
		{"builder", module + "/frontend"},
		{"image", module + "/internal/format/zip"},
		{"builder", "github.com/moby/buildkit/client"},
		{"image", "github.com/moby/buildkitten"},
	} {
		if why := refused(good[0], good[1]); why != "" {
			t.Errorf("%s may not import %s: %s", good[0], good[1], why)
		}
	}
}
