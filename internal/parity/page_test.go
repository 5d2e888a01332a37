package parity

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kedge-build/kedge/internal/testenv"
)

var update = flag.Bool("update", false, "write docs/drop-in.md")

// A Flag is a flag of docker build.
type Flag struct {
	Name  string // "--tag"
	Short string // "-t"
	// How describes the difference. It is empty if there is none.
	How string
}

// Flags are the flags of docker build. Those in its help come first.
var Flags = []Flag{
	{Name: "--add-host"},
	{Name: "--allow"},
	{Name: "--annotation"},
	{Name: "--attest", How: "only on request; docker attaches a short provenance to every pushed image"},
	{Name: "--build-arg"},
	{Name: "--build-context"},
	{Name: "--builder", How: "a builder of buildx or an address; the default is kedge's own builder; see [builders](builders.md)"},
	{Name: "--cache-from"},
	{Name: "--cache-to", How: "`type=inline` is left out with a warning, since that cache would be part of the image; use `type=registry,ref=REFERENCE`"},
	{Name: "--call"},
	{Name: "--cgroup-parent"},
	{Name: "--check"},
	{Name: "--debug", Short: "-D"},
	{Name: "--file", Short: "-f"},
	{Name: "--iidfile", How: "like `--quiet`"},
	{Name: "--label"},
	{Name: "--load", How: "also the default if the Docker Engine of the current context answers; see [builders](builders.md#where-the-image-goes)"},
	{Name: "--metadata-file", How: "buildx's keys except `buildx.build.*`, and kedge's own"},
	{Name: "--network"},
	{Name: "--no-cache"},
	{Name: "--no-cache-filter"},
	{Name: "--output", Short: "-o", How: "attributes that would change the bytes of the image, such as `compression=zstd`, are refused; see [outputs](outputs.md)"},
	{Name: "--platform", How: "only linux"},
	{Name: "--policy", How: "refused, as is a `DOCKERFILE.rego` that kedge did not write, since the lock decides which sources a build may use; `--policy disabled=true` builds without a policy"},
	{Name: "--progress"},
	{Name: "--provenance", How: "like `--attest`"},
	{Name: "--pull", How: "reports the tags that have moved; `kedge lock --refresh` moves their pins"},
	{Name: "--push"},
	{Name: "--quiet", Short: "-q", How: "prints the digest by which registries and a current Docker Engine know the image; after loading into an older Engine, the ID there"},
	{Name: "--resource"},
	{Name: "--sbom"},
	{Name: "--secret", How: "the same; a build fails if the image has the value"},
	{Name: "--shm-size"},
	{Name: "--ssh"},
	{Name: "--tag", Short: "-t", How: "also `NAME:[TAG-]args-HASH`"},
	{Name: "--target", How: "the lock declares the one that ships; the image of another one stays on this machine, and says so in a label"},
	{Name: "--ulimit"},
	{Name: "--compress", How: ignored},
	{Name: "--cpu-period"},
	{Name: "--cpu-quota"},
	{Name: "--cpu-shares", Short: "-c"},
	{Name: "--cpuset-cpus"},
	{Name: "--cpuset-mems"},
	{Name: "--force-rm", How: ignored},
	{Name: "--isolation", How: warned},
	{Name: "--memory", Short: "-m"},
	{Name: "--memory-swap"},
	{Name: "--print"},
	{Name: "--rm", How: ignored},
	{Name: "--security-opt", How: warned},
	{Name: "--squash", How: warned},
}

const (
	ignored = "no effect, as in docker"
	warned  = "no effect and a warning, as in docker"
)

// Every flag of docker build is in Flags and in a case.
func TestFlags(t *testing.T) {
	buildx := testenv.Program(t, "buildx")
	help, err := exec.CommandContext(t.Context(), buildx, "build", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{"--help": true}
	for _, f := range Flags {
		listed[f.Name] = true
	}
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[\w-]+)`).FindAllStringSubmatch(string(help), -1) {
		if !listed[m[1]] {
			t.Errorf("docker build has %s, which is not listed", m[1])
		}
	}
	for _, f := range Flags {
		shown := slices.ContainsFunc(Cases, func(c Case) bool {
			return slices.ContainsFunc(append(slices.Clone(c.Before), c.Args), func(args []string) bool { return uses(args, f) })
		})
		for _, c := range engineCases {
			shown = shown || uses(c.args, f)
		}
		if !shown {
			t.Errorf("%s is in no case", f.Name)
		}
	}
}

// uses reports whether a command line has a flag.
func uses(args []string, f Flag) bool {
	return slices.ContainsFunc(args, func(arg string) bool {
		name, _, _ := strings.Cut(arg, "=")
		return name == f.Name || f.Short != "" && name == f.Short
	})
}

// page renders docs/drop-in.md.
func page() string {
	var b strings.Builder
	b.WriteString(`<!-- Written by go test ./internal/parity -run Page -update; the data are in internal/parity. -->
# A replacement for docker build

` + "`kedge build`" + ` accepts the arguments of ` + "`docker build`" + `: all flags in all spellings, before and after the path, and every form of a context. A
test runs both with the same command lines on the same BuildKit, and compares exit codes, output, files, images and metadata. This page
is generated from its data: the test fails if there is a difference that is not listed here.

## Flags

| flag | in kedge |
| --- | --- |
`)
	for _, f := range Flags {
		name := "`" + f.Name + "`"
		if f.Short != "" {
			name = "`" + f.Short + "`, " + name
		}
		how := f.How
		if how == "" {
			how = "the same"
		}
		fmt.Fprintf(&b, "| %s | %s |\n", name, how)
	}
	b.WriteString(`
` + "`kedge build --help`" + ` lists kedge's own flags separately.

## Contexts

These contexts work as in docker:
`)
	var forms []string
	for _, c := range Cases {
		if c.Form != "" && !slices.Contains(forms, c.Form) {
			forms = append(forms, c.Form)
			fmt.Fprintf(&b, "\n- %s", c.Form)
		}
	}
	b.WriteString(`

A Dockerfile that is not a file of this machine has no place for a lockfile next to it: pass ` + "`--lockfile FILE`" + `. A git context is
built with the lock that its commit has next to the Dockerfile.

## In a Docker Engine

With ` + "`--load`" + `, with ` + "`-o type=docker`" + ` and by default, the Engine has the image under its names. That holds for a current Engine and for one
without the containerd image store. The configuration is the same, and containers behave the same. ` + "`docker run`" + ` accepts the output of ` + "`-q`" + ` and
` + "`--iidfile`" + `. The build itself runs on kedge's own builder or the one that you name, while docker's runs in the Engine.

## Differences

| difference | reason |
| --- | --- |
`)
	for _, d := range Differences {
		fmt.Fprintf(&b, "| %s | %s |\n", d.What, d.Why)
	}
	b.WriteString(`
## The tests of buildx

` + "`make test-buildx`" + ` runs the integration tests of ` + "`docker buildx build` and `bake`" + ` with kedge in front of buildx, as ` + "`kedge install --buildx`" + ` puts it
there, on a remote builder. Those that pass with buildx pass, except these:

| tests | reason |
| --- | --- |
`)
	for _, s := range Suite {
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.ReplaceAll(s.Tests, "|", `\|`), s.Why)
	}
	return b.String()
}

// docs/drop-in.md is up to date with the data.
func TestPage(t *testing.T) {
	path := filepath.Join(testenv.Repository(t), "docs", "drop-in.md")
	if *update {
		if err := os.WriteFile(path, []byte(page()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(content), page()); diff != "" {
		t.Errorf("docs/drop-in.md is out of date; run go test ./internal/parity -run Page -update (-file +data):\n%s", diff)
	}
	for _, d := range Differences {
		if d.ID == "" || d.What == "" || d.Why == "" || strings.Contains(d.What+d.Why, "|") {
			t.Errorf("the difference %q is incomplete", d.ID)
		}
	}
}
