package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/kedge-build/kedge/lock"
)

// frontendImage builds kedge's frontend with kedge, as make frontend-image does, and returns its name.
func frontendImage(t *testing.T, registry *testenv.Registry, env []string, builder string) string {
	t.Helper()
	context, source := t.TempDir(), filepath.Join(testenv.Repository(t), "cmd/kedge-frontend")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w",
		"-o", filepath.Join(context, runtime.GOARCH, "kedge-frontend"), ".")
	build.Dir, build.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the frontend: %v\n%s", err, out)
	}
	runKedge(t, env, 0, "build", "--builder", builder, "--locked", "--push", "-t", registry.Ref("kedge/frontend:1"),
		"-f", filepath.Join(source, "Dockerfile"), context)
	return "kedge/frontend:1"
}

// With kedge's frontend, docker build, bake and compose build from the lock, whatever became of tag, branch and URL.
func TestFrontend(t *testing.T) {
	registry, buildkitd := testenv.Shared(t)
	engine := testenv.StartDockerd(t, testenv.DockerdOptions{Modern: true, Registry: registry})
	home := newDockerHome(t, "DOCKER_HOST="+engine.Host)
	buildctl, buildx, docker, compose := testenv.Program(t, "buildctl"), testenv.Program(t, "buildx"), testenv.Program(t, "docker-modern"), testenv.Program(t, "compose")
	if err := os.Symlink(compose, filepath.Join(home.dir, "cli-plugins", "docker-compose")); err != nil {
		t.Fatal(err)
	}
	home.do(t, buildx, "create", "--name", "remote", "--driver", "remote", buildkitd.Addr)
	env := append(home.env, "CI=")
	syntax := frontendImage(t, registry, env, buildkitd.Addr)

	git, files := testenv.NewGit(t), testenv.NewFiles(t)
	push := func(tag, content string) {
		registry.Push(t, tag, testenv.Derive(t, testenv.Scratch(t, runtime.GOARCH), created, map[string]string{"/f": content}))
	}
	push("library/steady:v1", "one")
	git.Commit(t, "main", map[string]string{"g": "one"})
	files.Set("/u", "one", time.Time{})
	dir := write(t, map[string]string{
		"Dockerfile": "# syntax=" + syntax + "\nARG FROM=steady\nFROM debian:bookworm-slim AS run\nARG GREETING=hello\n" +
			"RUN --network=none echo $GREETING $SOURCE_DATE_EPOCH $PYTHONHASHSEED >/e\nFROM ${FROM}:v1 AS app\n" +
			"COPY --from=run /e /e\nADD " + git.URL + "#main /\nADD " + files.URL + "/u /u\n",
		".dockerignore": "Dockerfile.lock\n",
		"compose.yaml":  "services:\n  app:\n    image: built-by-compose\n    build: .\n",
		"bake.json":     `{"target": {"default": {"context": "."}}}`,
	})
	t.Chdir(dir)
	runKedge(t, env, 0, "lock", "--builder", buildkitd.Addr, dir)
	locked, _, err := lock.Read("Dockerfile.lock")
	if err != nil {
		t.Fatal(err)
	}
	push("library/steady:v1", "two")
	git.Commit(t, "main", map[string]string{"g": "two"})
	want := map[string]string{"f": "one", "g": "one", "u": "one", "e": fmt.Sprintf("hello %d 0\n", locked.Epoch.Unix())}
	check := func(t *testing.T, dest, said string) {
		t.Helper()
		for name, content := range want {
			if data, err := os.ReadFile(filepath.Join(dest, name)); err != nil || string(data) != content {
				t.Errorf("%s is %q, not %q: %v\n%s", name, data, content, err, said)
			}
		}
	}
	// say runs a program that must end as told, and returns what it said.
	say := func(t *testing.T, fails bool, args ...string) string {
		t.Helper()
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(append(os.Environ(), "BUILDKIT_PROGRESS=plain"), env...)
		out, err := cmd.CombinedOutput()
		if (err != nil) != fails {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	for name, args := range map[string][]string{
		"buildx": {buildx, "build", "--builder=remote", "-o", "DEST", "."},
		"bake":   {buildx, "bake", "--builder=remote", "--allow=fs=*", "-f", "bake.json", "--set=*.output=DEST"},
		"docker": {docker, "build", "-o", "DEST", "."},
		"buildctl": {buildctl, "--addr", buildkitd.Addr, "build", "--frontend=gateway.v0", "--opt=source=" + syntax, "--local=context=.", "--local=dockerfile=.",
			"--output=type=local,dest=DEST"},
	} {
		t.Run(name, func(t *testing.T) {
			dest := t.TempDir()
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "DEST", dest)
			}
			check(t, dest, say(t, false, args...))
		})
	}
	t.Run("compose", func(t *testing.T) {
		say(t, false, docker, "compose", "build")
		var image []struct {
			Created string
			Config  struct{ Labels map[string]string }
		}
		if err := json.Unmarshal([]byte(say(t, false, docker, "image", "inspect", "built-by-compose")), &image); err != nil {
			t.Fatal(err)
		}
		hash, _ := runKedge(t, env, 0, "tag", "--builder", buildkitd.Addr, dir)
		if got := image[0].Config.Labels["dev.kedge.args"]; got == "" || !strings.Contains(hash, got) {
			t.Errorf("the label is %q, kedge's hash %q", got, hash)
		}
		if image[0].Created != locked.Epoch.Format(time.RFC3339) {
			t.Errorf("created %s, not %s", image[0].Created, locked.Epoch.Format(time.RFC3339))
		}
	})
	t.Run("kedge itself", func(t *testing.T) {
		dest := t.TempDir()
		_, errs := runKedge(t, env, 0, "build", "--builder", buildkitd.Addr, "--locked", "-o", dest, dir)
		check(t, dest, errs)
	})
	t.Run("with rewrite-timestamp", func(t *testing.T) {
		var digests []string
		for _, name := range []string{"one", "two"} {
			dest, metadata := filepath.Join(t.TempDir(), name), filepath.Join(t.TempDir(), "metadata")
			say(t, false, buildx, "build", "--builder=remote", "--no-cache", "--provenance=false", "--metadata-file="+metadata, "-o", "type=oci,rewrite-timestamp=true,dest="+dest, ".")
			data, err := os.ReadFile(metadata)
			if err != nil {
				t.Fatal(err)
			}
			var built struct {
				Digest string `json:"containerimage.digest"`
			}
			if err := json.Unmarshal(data, &built); err != nil || built.Digest == "" {
				t.Fatal(err, string(data))
			}
			digests = append(digests, built.Digest)
		}
		if digests[0] != digests[1] {
			t.Error(digests)
		}
	})
	byBuildx := []string{buildx, "build", "--builder=remote", "-o", t.TempDir()}
	t.Run("a source that is not locked", func(t *testing.T) {
		said := say(t, true, append(byBuildx, "--build-arg=FROM=unlocked", ".")...)
		for _, want := range []string{`Dockerfile:6: image "docker.io/library/unlocked:v1" is not locked`, "kedge lock adds what is missing", ">>> FROM ${FROM}:v1"} {
			if !strings.Contains(said, want) {
				t.Errorf("no %q in %s", want, said)
			}
		}
	})
	t.Run("lint", func(t *testing.T) {
		if said := say(t, false, buildx, "build", "--builder=remote", "--check", "."); !strings.Contains(said, "no warnings found") {
			t.Error(said)
		}
	})
	t.Run("the frontend's tag moved", func(t *testing.T) {
		pinned, _ := locked.Pin(lock.Source{Kind: lock.Image, Ref: "docker.io/kedge/frontend:1"})
		image, err := registry.Get(t, "kedge/frontend:1").Image()
		if err != nil {
			t.Fatal(err)
		}
		registry.Push(t, "kedge/frontend:1", configured(t, image, func(c *v1.Config) { c.User = "0" }))
		defer registry.Tag(t, "kedge/frontend@"+pinned, "1")
		if said := say(t, true, append(byBuildx, ".")...); !strings.Contains(said, "append @"+pinned+" to the syntax line") {
			t.Error(said)
		}
	})
}
