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

// A frontend is a program that runs in the daemon. It is locked like any other source, and an unlocked one is not
// started.
func TestSyntax(t *testing.T) {
	registry, buildkitd := testenv.Shared(t)
	program := filepath.Join(t.TempDir(), "dockerfile-frontend")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/moby/buildkit/frontend/dockerfile/cmd/dockerfile-frontend")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the frontend: %v\n%s", err, out)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	image := testenv.Derive(t, testenv.Scratch(t, "amd64"), created, map[string]string{"/frontend": string(data)})
	image = configured(t, image, func(c *v1.Config) { c.Entrypoint = []string{"/frontend"} })
	registry.Push(t, "test/frontend:1", image)

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
