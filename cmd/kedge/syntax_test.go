package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/kedge-build/kedge/lock"
)

// configured returns an image with a changed config.
func configured(t *testing.T, img v1.Image, edit func(*v1.Config)) v1.Image {
	t.Helper()
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config := file.Config
	edit(&config)
	if img, err = mutate.Config(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

var created = time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)

// pushFrontend builds a Go program and pushes an image that is this frontend.
func pushFrontend(t *testing.T, registry *testenv.Registry, name, pkg string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "frontend")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the frontend: %v\n%s", err, out)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	image := testenv.Derive(t, testenv.Scratch(t, "amd64"), created, map[string]string{"/frontend": string(data)})
	registry.Push(t, name, configured(t, image, func(c *v1.Config) { c.Entrypoint = []string{"/frontend"} }))
}

// A file that is no Dockerfile is its frontend's business, and what that fetches is locked all the same.
func TestOtherSyntax(t *testing.T) {
	registry, buildkitd := testenv.Shared(t)
	pushFrontend(t, registry, "test/recipe:1", "./testdata/recipe")
	dir := write(t, map[string]string{"Dockerfile": "# syntax=test/recipe:1\nfrom: docker.io/library/tiny:latest\n"})
	_, errs := runKedge(t, nil, 4, "build", "--builder", buildkitd.Addr, "--locked", dir)
	if !strings.Contains(errs, `Dockerfile:1: image "docker.io/test/recipe:1" is not locked`) {
		t.Error(errs)
	}
	out, _ := runKedge(t, nil, 0, "build", "--builder", buildkitd.Addr, dir)
	again, _ := runKedge(t, nil, 0, "verify", "--builder", buildkitd.Addr, "--locked", dir)
	if digestOf(t, again) != digestOf(t, out) {
		t.Errorf("%s is not %s", again, out)
	}
	if f, _, err := lock.Read(filepath.Join(dir, "Dockerfile.lock")); err != nil || len(f.Sources()) != 2 {
		t.Errorf("locked %v, %v", f, err)
	}
	runKedge(t, nil, 0, "lock", "--builder", buildkitd.Addr, "--refresh", dir)
	files := t.TempDir()
	runKedge(t, nil, 0, "build", "--builder", buildkitd.Addr, "--locked", "--target", "any", "-o", files, dir)
	if got, err := os.ReadFile(filepath.Join(files, "target")); err != nil || string(got) != "any" {
		t.Errorf("built target %q, %v", got, err)
	}
	other := write(t, map[string]string{"Dockerfile": "from: docker.io/library/tiny:latest\n"})
	runKedge(t, nil, 0, "build", "--builder", buildkitd.Addr, "--build-arg", "BUILDKIT_SYNTAX=test/recipe:1", other)
	for _, syntax := range []string{"", "# syntax=docker/dockerfile:1\n"} {
		typo := write(t, map[string]string{"Dockerfile": syntax + "FORM tiny\n"})
		if _, errs := runKedge(t, nil, 1, "build", "--builder", buildkitd.Addr, typo); !strings.Contains(errs, "unknown instruction: FORM") {
			t.Error(errs)
		}
	}
}

// A frontend is a program that runs in the daemon. It is locked like any other source, and an unlocked one is not
// started.
func TestSyntax(t *testing.T) {
	registry, buildkitd := testenv.Shared(t)
	pushFrontend(t, registry, "test/frontend:1", "github.com/moby/buildkit/frontend/dockerfile/cmd/dockerfile-frontend")

	dir := write(t, map[string]string{"Dockerfile": "# syntax=test/frontend:1\nFROM tiny\nLABEL a=b\n"})
	lockfile := filepath.Join(dir, "Dockerfile.lock")
	_, errs := runKedge(t, nil, 4, "build", "--builder", buildkitd.Addr, "--locked", dir)
	if want := "Dockerfile:1: image \"docker.io/test/frontend:1\" is not locked"; !strings.Contains(errs, want) {
		t.Errorf("no %q in %s", want, errs)
	}
	if strings.Contains(errs, "library/tiny") {
		t.Errorf("the frontend ran: %s", errs)
	}
	runKedge(t, nil, 0, "lock", "--builder", buildkitd.Addr, dir)
	text, err := os.ReadFile(lockfile)
	if err != nil || !strings.Contains(string(text), `"docker.io/test/frontend:1" = "sha256:`) {
		t.Errorf("%v\n%s", err, text)
	}
	registry.Push(t, "test/frontend:1", testenv.Scratch(t, "amd64")) // moves the tag to an image that cannot run
	runKedge(t, nil, 0, "build", "--builder", buildkitd.Addr, "--locked", dir)

	// The same by a build arg.
	other := write(t, map[string]string{"Dockerfile": "FROM tiny\nLABEL a=b\n"})
	_, errs = runKedge(t, nil, 4, "build", "--builder", buildkitd.Addr, "--locked", "--build-arg", "BUILDKIT_SYNTAX=test/frontend:1", other)
	if !strings.Contains(errs, `image "docker.io/test/frontend:1" is not locked`) {
		t.Error(errs)
	}
}

// Sources in ONBUILD of a base image are locked, although no line of the Dockerfile names them.
func TestOnBuild(t *testing.T) {
	registry, buildkitd := testenv.Shared(t)
	image := configured(t, testenv.Scratch(t, "amd64"), func(c *v1.Config) {
		c.OnBuild = []string{"COPY --from=tiny /etc/tiny /tiny"}
	})
	registry.Push(t, "test/onbuild:1", image)
	dir := write(t, map[string]string{"Dockerfile": "FROM test/onbuild:1\n"})
	_, errs := runKedge(t, nil, 4, "build", "--builder", buildkitd.Addr, "--locked", dir)
	if !strings.Contains(errs, `image "docker.io/library/tiny:latest" is not locked`) {
		t.Error(errs)
	}
	runKedge(t, nil, 0, "build", "--builder", buildkitd.Addr, dir)
	runKedge(t, nil, 0, "lock", "--builder", buildkitd.Addr, "--refresh", dir)
	runKedge(t, nil, 0, "build", "--builder", buildkitd.Addr, "--locked", dir)
}
