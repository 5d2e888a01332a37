//go:build buildx

package parity

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"flag"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/kedge-build/kedge/internal/testenv"
)

var suiteRun = flag.String("suite", "Test(Build|ImageID|DockerHostGateway|Bake)", "the tests of buildx that TestBuildx runs")

// TestBuildx runs buildx's own integration tests, first with buildx and then with kedge in front of it. What passes
// with buildx passes with kedge, or Suite says why not. $KEDGE_SUITE_LOGS is a folder for what they print.
func TestBuildx(t *testing.T) {
	s := newSuite(t)
	theirs := s.run(t, "buildx", s.buildx)
	ours := s.run(t, "kedge", s.front(t))
	count := map[string]int{}
	for _, test := range slices.Sorted(maps.Keys(theirs)) {
		count[theirs[test]]++
		why := reason(test)
		switch result := ours[test]; {
		case theirs[test] != "PASS":
			t.Logf("%s: %s with buildx", test, theirs[test])
		case result == "PASS" && why != "":
			t.Errorf("%s passes: Suite need not have it", test)
		case result == "PASS":
			count["kedge"]++
		case why == "":
			t.Errorf("%s: %s with kedge\n%s", test, result, s.output(test))
		}
	}
	t.Logf("%d pass with buildx, and %d of them with kedge; %d are skipped, and %d fail with buildx", count["PASS"], count["kedge"], count["SKIP"], count["FAIL"])
}

// reason returns why a test of buildx fails with kedge, or "".
func reason(test string) string {
	for _, s := range Suite {
		if regexp.MustCompile("^" + s.Tests + "$").MatchString(test) {
			return s.Why
		}
	}
	return ""
}

// A suite has what the tests of buildx run.
type suite struct {
	dir    string
	tests  string   // their program
	buildx string   // a folder with a program of that name
	alone  []string // those that run one after the other
	env    []string // without PATH
	log    string   // of the last run
}

func newSuite(t *testing.T) *suite {
	s := &suite{dir: t.TempDir()}
	s.tests = filepath.Join(s.dir, "tests")
	s.buildx = filepath.Join(s.dir, "buildx")
	shared := filepath.Join(s.dir, "bin")
	hack := filepath.Join(testenv.Repository(t), "hack", "buildx")
	source := strings.TrimSpace(command(t, hack, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/docker/buildx"))
	command(t, source, "go", "test", "-c", "-o", s.tests, "./tests")
	files, err := filepath.Glob(filepath.Join(source, "tests", "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %q: %v", source, err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`func t(est\w+NoParallel)\(`).FindAllStringSubmatch(string(text), -1) {
			s.alone = append(s.alone, "T"+m[1])
		}
	}
	home := filepath.Join(s.dir, "home")
	for path, target := range map[string]string{
		filepath.Join(s.buildx, "buildx"):                              testenv.Program(t, "buildx"),
		filepath.Join(home, ".docker", "cli-plugins", "docker-buildx"): testenv.Program(t, "buildx"),
		filepath.Join(shared, "buildkitd"):                             testenv.Program(t, "buildkitd"),
		filepath.Join(shared, "buildctl"):                              testenv.Program(t, "buildctl"),
		filepath.Join(shared, "registry"):                              testenv.Program(t, "docker-registry"),
		filepath.Join(shared, "compose"):                               testenv.Program(t, "compose"),
	} {
		symlink(t, target, path)
	}
	const instances = "/tmp/buildx-integration-remote-*" // the tests leave them there
	before, _ := filepath.Glob(instances)
	t.Cleanup(func() {
		after, _ := filepath.Glob(instances)
		for _, dir := range after {
			if !slices.Contains(before, dir) {
				_ = os.RemoveAll(dir)
			}
		}
	})
	mirror := filepath.Join(s.dir, "mirror")
	s.env = []string{
		"HOME=" + home, "TMPDIR=" + t.TempDir(), "BUILDKIT_REGISTRY_MIRROR_DIR=" + mirror, "GIT_CONFIG_GLOBAL=" + os.DevNull,
	}
	box := busyboxImage(t)
	fill(t, mirror, map[string]v1.Image{
		"library/busybox:latest":            box,
		"library/alpine:latest":             box,
		"library/alpine:3.21":               box,
		"moby/buildkit:buildx-stable-1":     box, // a test that looks into it needs another worker
		"docker/dockerfile-upstream:1.18.0": frontendImage(t),
	})
	return s
}

// front returns a folder in which buildx is kedge in front of the real one.
func (s *suite) front(t *testing.T) string {
	dir := filepath.Join(s.dir, "front")
	symlink(t, kedge(t), filepath.Join(dir, "plugin", "docker-buildx"))
	script := "#!/bin/sh\nexec " + dir + "/plugin/docker-buildx \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "buildx"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

var result = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): TestIntegration/(\w+)/worker=remote `)

// run runs the tests with the programs in a folder, and returns the result of each.
func (s *suite) run(t *testing.T, name, dir string) map[string]string {
	t.Helper()
	var log bytes.Buffer
	pattern := "-test.run=TestIntegration/" + *suiteRun
	s.exec(t, dir, &log, pattern, "-test.skip=TestIntegration/NoParallel")
	for _, alone := range s.alone { // the first of these that fails would end the rest
		if regexp.MustCompile(*suiteRun).MatchString(alone) {
			s.exec(t, dir, &log, "-test.run=TestIntegration/"+alone+"$")
		}
	}
	s.log = log.String() // the last one is kedge's
	if keep := os.Getenv("KEDGE_SUITE_LOGS"); keep != "" {
		if err := os.WriteFile(filepath.Join(keep, name+".log"), log.Bytes(), 0o644); err != nil {
			t.Error(err)
		}
	}
	results := map[string]string{}
	for line := range strings.Lines(s.log) {
		if m := result.FindStringSubmatch(line); m != nil {
			results[m[2]] = m[1]
		}
	}
	if len(results) == 0 {
		t.Fatalf("no test ran:\n%s", excerpt(s.log))
	}
	return results
}

// exec runs the program of the tests. Those that fail are in the log.
func (s *suite) exec(t *testing.T, dir string, log io.Writer, args ...string) {
	cmd := exec.CommandContext(t.Context(), s.tests, append(args, "-test.v", "-test.timeout=60m")...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(slices.Clone(s.env), "PATH="+dir+":"+filepath.Join(s.dir, "bin")+":"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = log, log
	_ = cmd.Run()
}

// output returns what the last run said of one test.
func (s *suite) output(test string) string {
	_, rest, _ := strings.Cut(s.log, "--- FAIL: TestIntegration/"+test+"/")
	rest, _, _ = strings.Cut(rest, "\n    --- ")
	return excerpt(rest)
}

// command returns the output of a program in a folder.
func command(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Fatalf("%q: %v\n%s", args, err, exit.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

// fill starts the registry as the tests do, with its data in dir, and pushes images.
func fill(t *testing.T, dir string, images map[string]v1.Image) {
	t.Helper()
	config := "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: " + filepath.Join(dir, "data") + "\nhttp:\n  addr: 127.0.0.1:0\n"
	if err := put(filepath.Join(dir, "config.yaml"), config, false); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), testenv.Program(t, "docker-registry"), "serve", filepath.Join(dir, "config.yaml"))
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	addr := ""
	for lines := bufio.NewScanner(log); addr == "" && lines.Scan(); {
		if m := regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`).FindStringSubmatch(lines.Text()); m != nil {
			addr = m[1]
		}
	}
	go func() { _, _ = io.Copy(io.Discard, log) }()
	for repo, img := range images {
		ref, err := name.ParseReference(addr + "/" + repo)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, img); err != nil {
			t.Fatal(err)
		}
	}
}

// busyboxImage returns an image with busybox and its applets.
func busyboxImage(t *testing.T) v1.Image {
	t.Helper()
	program := testenv.Program(t, "busybox")
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	entries := []tar.Header{
		{Name: "bin/busybox", Mode: 0o755, Size: int64(len(content))},
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777},
		{Name: "root/", Typeflag: tar.TypeDir, Mode: 0o700},
		{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755},
	}
	for _, applet := range strings.Fields(command(t, "", program, "--list")) {
		if applet != "busybox" {
			entries = append(entries, tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox"})
		}
	}
	return imageOf(t, v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"sh"}}, content, entries)
}

// frontendImage returns an image with the frontend of this version of BuildKit.
func frontendImage(t *testing.T) v1.Image {
	t.Helper()
	program := filepath.Join(t.TempDir(), "frontend")
	t.Setenv("CGO_ENABLED", "0")
	command(t, "", "go", "build", "-o", program, "github.com/moby/buildkit/frontend/dockerfile/cmd/dockerfile-frontend")
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	return imageOf(t, v1.Config{Entrypoint: []string{"/frontend"}}, content, []tar.Header{{Name: "frontend", Mode: 0o755, Size: int64(len(content))}})
}

// imageOf returns an image of one layer with the entries. The first is a file with the content.
func imageOf(t *testing.T, config v1.Config, content []byte, entries []tar.Header) v1.Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, h := range entries {
		h.ModTime = created
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.Append(testenv.Scratch(t, runtime.GOARCH), mutate.Addendum{
		Layer: layer, History: v1.History{Created: v1.Time{Time: created}, CreatedBy: "COPY . /"},
	})
	if err == nil {
		img, err = mutate.Config(img, config)
	}
	if err == nil {
		img, err = mutate.CreatedAt(img, v1.Time{Time: created})
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}
