package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kedge-build/kedge/bake"
	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/kedge-build/kedge/lock"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// bakeFiles is a definition with a group, a matrix, a target that others are built from, two stages of one
// Dockerfile, a Dockerfile in the definition, and one that does not build.
var bakeFiles = map[string]string{
	"docker-bake.hcl": `
variable "WORD" { default = "one" }
group "default" { targets = ["app", "dev", "inline"] }
target "base" {
  dockerfile = "base.Dockerfile"
  args = { WORD = WORD }
}
target "app" {
  name     = "app-${n}"
  matrix   = { n = ["1", "2"] }
  contexts = { base = "target:base" }
  args     = { N = n }
  tags     = ["bake/app:${n}"]
}
target "dev" {
  context  = "multi"
  target   = "dev"
}
target "prod" { context = "multi" }
target "inline" {
  dockerfile-inline = "FROM tiny\nENV A=$${b:-c}\n"
}
target "broken" {
  context  = "broken"
  contexts = { base = "target:base" }
}
target "after" {
  context  = "multi"
  contexts = { base = "target:broken" }
}
`,
	"Dockerfile":        "FROM base\nARG N\nRUN --network=none cp /word /word-$N\n",
	"base.Dockerfile":   "FROM debian:bookworm-slim\nARG WORD\nRUN --network=none echo $WORD > /word\n",
	"multi/Dockerfile":  "FROM tiny AS dev\nENV A=dev\nFROM tiny\nENV A=prod\n",
	"broken/Dockerfile": "FROM base\nRUN --network=none exit 7\n",
	"compose.yaml": `
services:
  web:
    image: bake/web
    build:
      context: multi
      target: dev
`,
}

// bakeMetadata reads what --metadata-file wrote.
func bakeMetadata(t *testing.T, path string) map[string]map[string]any {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var built map[string]map[string]any
	if err := json.Unmarshal(data, &built); err != nil {
		t.Fatal(err)
	}
	return built
}

func TestBake(t *testing.T) {
	registry, buildkitd := testenv.Shared(t)
	home := newDockerHome(t, "CI=", "BUILDKIT_HOST="+buildkitd.Addr, "XDG_DATA_HOME="+t.TempDir())
	buildx := testenv.Program(t, "buildx")
	t.Chdir(write(t, bakeFiles))
	metadata := filepath.Join(t.TempDir(), "metadata.json")
	digest := func(built map[string]map[string]any, target string) string {
		t.Helper()
		d, _ := built[target]["containerimage.digest"].(string)
		if d == "" {
			t.Fatalf("no digest of %s in %v", target, built)
		}
		return d
	}

	// A definition is printed as docker buildx prints it.
	args := []string{"bake", "--print", "--set", "dev.args.X=1", "dev"}
	printed, _ := runKedge(t, home.env, 0, args...)
	if want := home.do(t, buildx, args...); printed != want {
		t.Errorf("printed %s, not %s", printed, want)
	}

	// Each target has the digest that kedge build gives it, and its verdict.
	out, errs := runKedge(t, home.env, 0, "bake", "--verify", "--metadata-file", metadata)
	for _, want := range []string{"target  app-1\n", "target  app-2\n", "target  dev\n", "target  inline\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	if !strings.Contains(errs, "[app-1 ") || !strings.Contains(errs, "[dev ") {
		t.Errorf("progress without names: %s", errs)
	}
	built := bakeMetadata(t, metadata)
	plain, _ := runKedge(t, home.env, 0, "build", "--locked", "--target=dev", "multi")
	if got := digestOf(t, plain); got != digest(built, "dev") {
		t.Errorf("dev: %s, not %s", digest(built, "dev"), got)
	}
	if digest(built, "app-1") == digest(built, "app-2") {
		t.Error("two targets of the matrix are one image")
	}
	if built["app-1"]["kedge.verdict"] == nil || built["base"]["image.name"] != nil {
		t.Errorf("metadata: %v", built)
	}
	for _, name := range []string{"Dockerfile.lock", "base.Dockerfile.lock", "multi/Dockerfile.lock", "Dockerfile.inline.lock"} {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
	runKedge(t, home.env, 0, "bake", "--locked", "--metadata-file", metadata, "-f", "docker-bake.hcl")
	again := bakeMetadata(t, metadata)
	for target := range built {
		if digest(again, target) != digest(built, target) {
			t.Errorf("%s: %s, then %s", target, digest(built, target), digest(again, target))
		}
	}

	// Variables and overrides reach the targets, also those that others are built from.
	runKedge(t, home.env, 0, "bake", "--locked", "--metadata-file", metadata, "--var", "WORD=two", "app-1")
	if other := bakeMetadata(t, metadata); digest(other, "app-1") == digest(built, "app-1") || other["app-2"] != nil {
		t.Errorf("--var: %v", other)
	}

	// A compose file, and one on standard input.
	runKedge(t, home.env, 0, "bake", "-f", "compose.yaml", "--metadata-file", metadata)
	if got := digest(bakeMetadata(t, metadata), "web"); got != digest(built, "dev") {
		t.Errorf("compose: %s, not %s", got, digest(built, "dev"))
	}

	// What is built from a failed target is not built; the others are.
	_, errs = runKedge(t, home.env, exitFailed, "bake", "--metadata-file", metadata, "after", "dev")
	if !strings.Contains(errs, `after: kedge: not built, because target "broken" was not`) || !strings.Contains(errs, "exit code: 7") {
		t.Error(errs)
	}
	if failed := bakeMetadata(t, metadata); failed["dev"] == nil || failed["broken"] != nil {
		t.Errorf("metadata: %v\n%s", failed, errs)
	}

	// Two stages of one Dockerfile that ship have a lock each.
	push := []string{"bake", "--set", "*.output=type=registry", "--set", "dev.tags=" + registry.Ref("bake/dev"), "--set", "prod.tags=" + registry.Ref("bake/prod"), "dev", "prod"}
	if err := os.Remove("multi/Dockerfile.lock"); err != nil {
		t.Fatal(err)
	}
	runKedge(t, home.env, 0, push...)
	for path, target := range map[string]string{"multi/Dockerfile.lock": "1", "multi/Dockerfile.dev.lock": "dev"} {
		if f, exists, err := lock.Read(path); err != nil || !exists || f.Target != target {
			t.Errorf("%s declares %v, %v", path, f, err)
		}
	}
	runKedge(t, home.env, 0, append(push, "--locked")...)
	if labels := registryLabels(t, registry, "bake/dev"); labels["dev.kedge.target"] != "" {
		t.Errorf("a target that ships has the label of one that does not: %v", labels)
	}

	// So has one that is not the last stage, if there is no lock yet. A lock that declares another target forbids it.
	if err := errors.Join(os.Remove("multi/Dockerfile.lock"), os.Remove("multi/Dockerfile.dev.lock")); err != nil {
		t.Fatal(err)
	}
	one := append(slices.Clone(push[:len(push)-2]), "dev")
	runKedge(t, home.env, 0, one...)
	if f, _, err := lock.Read("multi/Dockerfile.dev.lock"); err != nil || f.Target != "dev" {
		t.Errorf("multi/Dockerfile.dev.lock declares %v, %v", f, err)
	}
	runKedge(t, home.env, 0, "bake", "prod")
	runKedge(t, home.env, 0, append(one, "--locked")...)
	if err := os.Remove("multi/Dockerfile.dev.lock"); err != nil {
		t.Fatal(err)
	}
	_, errs = runKedge(t, home.env, exitForbidden, one...)
	if !strings.Contains(errs, "dev: hint: kedge lock --target dev declares that; to ship both, kedge lock --target dev --lockfile multi/Dockerfile.dev.lock") {
		t.Error(errs)
	}

	// The platforms are those of the definition.
	runKedge(t, append(slices.Clone(home.env), "DOCKER_DEFAULT_PLATFORM=linux/arm64"), 0, "bake", "--metadata-file", metadata, "dev")
	if got := digest(bakeMetadata(t, metadata), "dev"); got != digest(built, "dev") {
		t.Errorf("with a default platform: %s, not %s", got, digest(built, "dev"))
	}

	// Without its lock, a Dockerfile in the definition is locked by bake alone.
	_, errs = runKedge(t, home.env, exitForbidden, "bake", "--locked", "--set", "inline.context=multi", "inline")
	if !strings.Contains(errs, "inline: hint: kedge bake --locked=false adds what is missing") {
		t.Error(errs)
	}

	// Errors of docker buildx are its own, and stand there once.
	if _, errs := runKedge(t, home.env, exitFailed, "bake", "nope"); !strings.Contains(errs, "failed to find target nope") || strings.Contains(errs, "exit status") {
		t.Error(errs)
	}

	// docker buildx cannot read a definition of a repository on a builder that is an address.
	nowhere := "DOCKER_HOST=unix://" + filepath.Join(t.TempDir(), "docker.sock")
	const reads = "hint: docker buildx reads the definition of a repository"
	if _, errs := runKedge(t, append(slices.Clone(home.env), nowhere), exitFailed, "bake", "http://127.0.0.1:1/repo.git"); !strings.Contains(errs, reads) {
		t.Error(errs)
	}
	if _, errs := runKedge(t, append(slices.Clone(home.env), nowhere), exitFailed, "bake", "nope"); strings.Contains(errs, reads) {
		t.Error(errs)
	}

	// One target at a time, and what became of each; the first failure ends the rest if that is asked for.
	_, errs = runKedge(t, home.env, exitFailed, "bake", "--jobs=defer-error,parallel=1", "--progress=plain", "after", "dev")
	for _, want := range []string{"[internal] target results", "broken: failed", "after: aborted", "dev: succeeded"} {
		if !strings.Contains(errs, want) {
			t.Errorf("no %q in %s", want, errs)
		}
	}
	_, errs = runKedge(t, home.env, exitFailed, "bake", "--jobs=fail-fast,parallel=1", "broken", "dev")
	if !strings.Contains(errs, "dev: kedge: not built, because another target failed") || strings.Contains(errs, "target results") {
		t.Error(errs)
	}

	// docker compose build -q asks for this.
	if out, errs := runKedge(t, home.env, 0, "bake", "--progress=quiet", "dev"); out+errs != "" {
		t.Errorf("not quiet: %s%s", out, errs)
	}
	if out, _ := runKedge(t, home.env, 0, "bake", "--progress=quiet", "--check", "dev"); !strings.Contains(out, "Check complete") {
		t.Errorf("--check: %s", out)
	}

	// A call's answers are one document.
	out, _ = runKedge(t, home.env, 0, "bake", "--call=check,format=json", "dev", "prod")
	var called struct{ Target map[string]map[string]any }
	if err := json.Unmarshal([]byte(out), &called); err != nil || called.Target["dev"]["check"] == nil || called.Target["prod"]["build"] == nil {
		t.Errorf("%v: %s", err, out)
	}

	// A definition reads only files below the folder, unless it is allowed more.
	elsewhere := write(t, map[string]string{"Dockerfile": "FROM tiny\n", "token": "x"})
	definition := "target \"default\" {\n  context = \"" + elsewhere + "\"\n}\n"
	if err := os.WriteFile("outside.hcl", []byte(definition), 0o644); err != nil {
		t.Fatal(err)
	}
	_, errs = runKedge(t, home.env, exitFailed, "bake", "-f", "outside.hcl")
	for _, want := range []string{" - Read access to path ", "kedge: additional privileges requested: pass \"--allow=fs.read="} {
		if !strings.Contains(errs, want) {
			t.Errorf("no %q in %s", want, errs)
		}
	}
	runKedge(t, home.env, 0, "bake", "-f", "outside.hcl", "--allow=fs.read="+elsewhere)
	runKedge(t, slices.Concat(home.env, []string{"BUILDX_BAKE_ENTITLEMENTS_FS=0"}), 0, "bake", "-f", "outside.hcl")
	for _, value := range []string{"", "x"} { // as in buildx, only a definition that needs more reads it
		invalid := slices.Concat(home.env, []string{"BUILDX_BAKE_ENTITLEMENTS_FS=" + value})
		_, errs = runKedge(t, invalid, exitUsage, "bake", "-f", "outside.hcl")
		if want := fmt.Sprintf("$BUILDX_BAKE_ENTITLEMENTS_FS is %q, and neither true nor false", value); !strings.Contains(errs, want) {
			t.Error(errs)
		}
		runKedge(t, invalid, 0, "bake", "dev")
	}

	// On a terminal, the user is asked.
	env := append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home.dir}, home.env...)
	for typed, want := range map[string]int{"y\n": exitOK, "n\n": exitFailed, "\n": exitFailed} {
		var errs strings.Builder
		got := run(t.Context(), []string{"kedge", "bake", "-f", "outside.hcl"}, env, terminal(t, typed), io.Discard, &errs)
		if got != want || !strings.Contains(errs.String(), "--allow=fs.read=") || !strings.Contains(errs.String(), "and continue? [y/N] ") {
			t.Errorf("%q: exit code %d\n%s", typed, got, &errs)
		}
	}

	// A policy of the definition is refused, unless the command line says that there is none.
	if err := os.WriteFile("policy.hcl", []byte("target \"default\" {\n  context = \"multi\"\n  policy = [{ filename = \"p.rego\" }]\n}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, errs := runKedge(t, home.env, exitUsage, "bake", "-f", "policy.hcl"); !strings.Contains(errs, `policy "filename=p.rego": kedge's lock`) {
		t.Error(errs)
	}
	runKedge(t, home.env, 0, "bake", "-f", "policy.hcl", "--policy=disabled=true")
}

// A target that another one stopped says so, and one that failed by itself says why.
func TestBakeOutcome(t *testing.T) {
	stopped, stop := context.WithCancelCause(t.Context())
	stop(errStopped)
	interrupted, interrupt := context.WithCancel(t.Context())
	interrupt()
	own := errors.New("own")
	for _, test := range []struct {
		ctx     context.Context
		err     error
		code    int
		aborted bool
		says    string
	}{
		{stopped, nil, exitOK, false, ""},
		{stopped, own, exitFailed, false, "kedge: own\n"},
		{stopped, errNo, exitNo, false, ""},
		{stopped, fmt.Errorf("solving: %w", context.Canceled), exitFailed, true, "kedge: not built, because another target failed\n"},
		{stopped, fmt.Errorf("solving: %w", status.Error(codes.Canceled, "context canceled")), exitFailed, true, "kedge: not built, because another target failed\n"},
		{stopped, fmt.Errorf("opening: %w", errStopped), exitFailed, true, "kedge: not built, because another target failed\n"},
		{t.Context(), own, exitFailed, false, "kedge: own\n"},
		{interrupted, context.Canceled, exitInterrupt, false, "kedge: interrupted\n"},
	} {
		var says strings.Builder
		p := &process{stderr: &says}
		if code, aborted := p.outcome(test.ctx, test.err); code != test.code || aborted != test.aborted || says.String() != test.says {
			t.Errorf("%v: %d, %v, %q", test.err, code, aborted, &says)
		}
	}
}

// terminal returns one on which a user has typed a text.
func terminal(t *testing.T, typed string) *os.File {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	if _, err := screen.WriteString(typed); err != nil {
		t.Fatal(err)
	}
	return tty
}

func registryLabels(t *testing.T, registry *testenv.Registry, repository string) map[string]string {
	t.Helper()
	img, err := registry.Get(t, repository).Image()
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return file.Config.Labels
}

func TestLockfiles(t *testing.T) {
	t.Chdir(t.TempDir())
	parse := func(text string) map[string]bakeLock {
		t.Helper()
		d, err := bake.Parse([]byte(text), "/", "")
		if err != nil {
			t.Fatal(err)
		}
		return lockfiles(d)
	}
	ships, stays := `"output": [{"type": "registry"}]`, `"output": [{"type": "docker"}]`
	both := func(a, b string) string {
		return `{"group": {"default": {"targets": ["a", "b"]}}, "target": {"a": {"target": "x", ` + a + `}, "b": {"target": "y", ` + b + `}}}`
	}
	for _, c := range []struct {
		text string
		a, b string
	}{
		{both(stays, stays), "Dockerfile.lock", "Dockerfile.lock"},
		{both(ships, stays), "Dockerfile.lock", "Dockerfile.lock"},
		{both(ships, ships), "Dockerfile.x.lock", "Dockerfile.y.lock"},
		{strings.Replace(both(ships, ships), `"y"`, `"x"`, 1), "Dockerfile.lock", "Dockerfile.lock"},
	} {
		got := parse(c.text)
		if got["a"].path != c.a || got["b"].path != c.b {
			t.Errorf("%s: %v", c.text, got)
		}
	}
	if err := os.WriteFile("Dockerfile", []byte("FROM scratch AS x\nFROM scratch AS y\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := parse(both(ships, stays)); got["a"].path != "Dockerfile.x.lock" || !got["a"].declares || got["b"].path != "Dockerfile.lock" {
		t.Errorf("a first stage that ships: %v", got)
	}
	if got := parse(both(stays, ships)); got["a"].path != "Dockerfile.lock" || got["b"].path != "Dockerfile.lock" || got["b"].declares {
		t.Errorf("a last stage that ships: %v", got)
	}
	if err := os.WriteFile("Dockerfile.lock", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := parse(both(ships, stays)); got["a"].path != "Dockerfile.lock" {
		t.Errorf("beside a lock: %v", got)
	}
	if err := os.WriteFile("Dockerfile.x.lock", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := parse(both(ships, stays)); got["a"].path != "Dockerfile.x.lock" || got["b"].path != "Dockerfile.lock" {
		t.Errorf("a lock that exists: %v", got)
	}
}

// docker, docker buildx and docker compose run kedge until the installation is undone, and the real docker-buildx for
// everything else.
func TestInstallBuildx(t *testing.T) {
	registry, buildkitd := testenv.Shared(t)
	engine := testenv.StartDockerd(t, testenv.DockerdOptions{Modern: true, Registry: registry})
	docker, buildx := testenv.Program(t, "docker-modern"), testenv.Program(t, "buildx")
	home := newDockerHome(t, "CI=", "DOCKER_HOST="+engine.Host, "BUILDKIT_HOST="+buildkitd.Addr, "XDG_DATA_HOME="+t.TempDir())
	plugins := filepath.Join(home.dir, "cli-plugins")
	if err := os.Symlink(testenv.Program(t, "compose"), filepath.Join(plugins, "docker-compose")); err != nil {
		t.Fatal(err)
	}
	before, err := os.Readlink(filepath.Join(plugins, "docker-buildx"))
	if err != nil {
		t.Fatal(err)
	}
	home.do(t, "kedge", "install", "--buildx")
	if out := home.do(t, "kedge", "install", "--buildx"); !strings.Contains(out, "docker compose build") {
		t.Error(out)
	}

	t.Chdir(write(t, bakeFiles))
	ours := func(name string) {
		t.Helper()
		if args := engine.Docker(t, "image", "inspect", "--format", `{{index .Config.Labels "dev.kedge.args"}}`, name); strings.TrimSpace(args) == "" {
			t.Errorf("%s was not built by kedge", name)
		}
	}
	for name, words := range map[string]string{
		"by-build":   "build -t by-build multi",
		"by-buildx":  "buildx build --load -t by-buildx multi",
		"by-b":       "--debug buildx --builder=" + buildkitd.Addr + " b --load --tag by-b multi",
		"bake/app:1": "buildx bake --load app-1",
		"bake/web":   "compose build",
	} {
		home.do(t, docker, strings.Fields(words)...)
		ours(name)
	}
	for _, name := range []string{"Dockerfile.lock", "multi/Dockerfile.lock"} {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}

	// Everything else is as it was: output, exit code, environment.
	for _, words := range []string{"buildx version", "buildx ls", "buildx inspect default", "buildx nope", "buildx", "buildx --help", "buildx imagetools inspect nope:1"} {
		want, wantCode := outcome(t, home.env, buildx, strings.Fields(words)[1:])
		got, code := outcome(t, home.env, docker, strings.Fields(words))
		if code != wantCode || words != "buildx --help" && words != "buildx" && words != "buildx nope" && got != want {
			t.Errorf("docker %s: exit code %d, not %d\n%s\n%s", words, code, wantCode, got, want)
		}
	}
	theirs, _ := outcome(t, home.env, buildx, []string{"docker-cli-plugin-metadata"})
	if got, _ := outcome(t, home.env, filepath.Join(plugins, "docker-buildx"), []string{"docker-cli-plugin-metadata"}); got != theirs {
		t.Errorf("metadata %s, not %s", got, theirs)
	}

	home.do(t, "kedge", "install", "--undo")
	after, err := os.Readlink(filepath.Join(plugins, "docker-buildx"))
	if err != nil || after != before {
		t.Errorf("undone, docker-buildx is %q, not %q: %v", after, before, err)
	}
	left, err := os.ReadDir(home.dir)
	if err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.Contains(e.Name(), "kedge") }) {
		t.Errorf("undone, these are left: %v, %v", left, err)
	}
}

// outcome returns what a program prints, and its exit code.
func outcome(t *testing.T, env []string, program string, args []string) (string, int) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}
