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
	{Name: "--attest", How: "where it is asked for: docker attaches a short provenance to what it pushes, unasked"},
	{Name: "--build-arg"},
	{Name: "--build-context"},
	{Name: "--builder", How: "a builder of buildx, an address, or none, which is kedge's own; see [builders](builders.md)"},
	{Name: "--cache-from"},
	{Name: "--cache-to", How: "the cache of `type=inline` would be in the image: refused; `type=registry,ref=REFERENCE` keeps it apart"},
	{Name: "--call"},
	{Name: "--cgroup-parent"},
	{Name: "--check"},
	{Name: "--debug", Short: "-D"},
	{Name: "--file", Short: "-f"},
	{Name: "--iidfile", How: "as `--quiet`"},
	{Name: "--label"},
	{Name: "--load", How: "also the default, where the Docker Engine of the current context answers and nothing else is said; see [builders](builders.md#where-the-image-goes)"},
	{Name: "--metadata-file", How: "buildx's keys but for `buildx.build.*`, and kedge's own"},
	{Name: "--network"},
	{Name: "--no-cache"},
	{Name: "--no-cache-filter"},
	{Name: "--output", Short: "-o", How: "attributes that would change the form of the image are refused, such as `compression=zstd`; see [outputs](outputs.md)"},
	{Name: "--platform", How: "linux only"},
	{Name: "--policy", How: "refused, and so is a `DOCKERFILE.rego`: the lock says what a build may fetch; `--policy disabled=true` builds without one"},
	{Name: "--progress"},
	{Name: "--provenance", How: "as `--attest`"},
	{Name: "--pull", How: "looks up what the tags name now and tells what has moved; `kedge lock --refresh` takes it"},
	{Name: "--push"},
	{Name: "--quiet", Short: "-q", How: "the digest by which registries and a current Docker Engine know the image; the ID in an older Engine that it was loaded into"},
	{Name: "--resource"},
	{Name: "--sbom"},
	{Name: "--secret", How: "same; a build whose image holds the value in plain sight fails"},
	{Name: "--shm-size"},
	{Name: "--ssh"},
	{Name: "--tag", Short: "-t", How: "also `NAME:[TAG-]args-HASH`"},
	{Name: "--target", How: "the lock declares it: another one ends with the exit code 4"},
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
	ignored = "without effect, as in docker"
	warned  = "without effect and with a warning, as in docker"
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
# In place of docker build

` + "`kedge build`" + ` takes what ` + "`docker build`" + ` takes: the flags in all their spellings, before and after the path, and every form of a context. A
test gives both the same command lines on the same BuildKit and compares exit code, output, files, images and metadata. This page
is made from its data: what is not listed as a difference here is the same, or the test fails.

## Flags

| flag | here |
| --- | --- |
`)
	for _, f := range Flags {
		name := "`" + f.Name + "`"
		if f.Short != "" {
			name = "`" + f.Short + "`, " + name
		}
		how := f.How
		if how == "" {
			how = "same"
		}
		fmt.Fprintf(&b, "| %s | %s |\n", name, how)
	}
	b.WriteString(`
kedge has flags of its own, which ` + "`kedge build --help`" + ` lists apart.

## Contexts

The same are
`)
	var forms []string
	for _, c := range Cases {
		if c.Form != "" && !slices.Contains(forms, c.Form) {
			forms = append(forms, c.Form)
			fmt.Fprintf(&b, "\n- %s", c.Form)
		}
	}
	b.WriteString(`

A Dockerfile that is no file of this machine has no lockfile beside it: ` + "`--lockfile`" + ` names one.

## In a Docker Engine

With ` + "`--load`" + `, ` + "`-o type=docker`" + ` and by default the image is there under its names, in a current Engine and in one without the containerd image
store, with the same configuration, and its container does the same; what ` + "`-q`" + ` and ` + "`--iidfile`" + ` say, ` + "`docker run`" + ` takes. The build itself
runs on kedge's own builder, or the one that is named; docker's runs in the Engine.

## What differs, and why

| what | why |
| --- | --- |
`)
	for _, d := range Differences {
		fmt.Fprintf(&b, "| %s | %s |\n", d.What, d.Why)
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
		t.Errorf("docs/drop-in.md is not what the data say; run go test ./internal/parity -run Page -update (-file +data):\n%s", diff)
	}
	for _, d := range Differences {
		if d.ID == "" || d.What == "" || d.Why == "" || strings.Contains(d.What+d.Why, "|") {
			t.Errorf("the difference %q is incomplete", d.ID)
		}
	}
}
