package testenv_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kedge-build/kedge/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// build has buildctl build a Dockerfile with an empty context and returns the
// folder that the result is exported to.
func build(t *testing.T, addr []string, dockerfile string) (dir string, err error) {
	t.Helper()
	testenv.Require(t, "buildctl")
	buildctl := filepath.Join(testenv.Repository(t), "bin", "buildctl")
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	args := append(addr, "build", "--progress=plain", "--frontend=dockerfile.v0",
		"--local=context="+dir, "--local=dockerfile="+dir, "--output=type=local,dest="+out)
	text, err := exec.CommandContext(t.Context(), buildctl, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, text)
	}
	return out, err
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestShared(t *testing.T) {
	registry, buildkitd := testenv.Shared(t)
	out, err := build(t, []string{"--addr=" + buildkitd.Addr}, `FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends hello && hello >/greeting
FROM scratch
COPY --from=build /greeting /
COPY --from=tiny /etc/tiny /
`)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, out, "greeting"), "Hello, world!\n"; got != want {
		t.Errorf("greeting is %q, want %q", got, want)
	}
	if len(registry.TagLookups()) == 0 {
		t.Errorf("no tag look-up among the requests %v", registry.Requests())
	}
}

func TestBuildkitdOverTLS(t *testing.T) {
	registry := testenv.NewRegistry(t)
	testenv.Tiny(t, registry)
	for _, snapshotter := range []string{"native", "overlayfs"} {
		t.Run(snapshotter, func(t *testing.T) {
			b := testenv.StartBuildkitd(t, testenv.BuildkitdOptions{
				Registry: registry, Snapshotter: snapshotter, TCP: true,
			})
			_, err := build(t, []string{
				"--addr=" + b.TCP, "--tlsservername=" + b.TLS.ServerName,
				"--tlscacert=" + b.TLS.CA, "--tlscert=" + b.TLS.Cert, "--tlskey=" + b.TLS.Key,
			}, "FROM tiny\n")
			if err != nil {
				t.Error(err)
			}
			if _, err := build(t, []string{
				"--addr=" + b.TCP, "--tlsservername=" + b.TLS.ServerName, "--tlscacert=" + b.TLS.CA,
			}, "FROM tiny\n"); err == nil {
				t.Error("the daemon serves a client that has no certificate")
			}
		})
	}
}

func TestRegistryFaults(t *testing.T) {
	registry := testenv.NewRegistry(t)
	b := testenv.StartBuildkitd(t, testenv.BuildkitdOptions{Registry: registry})
	addr := []string{"--addr=" + b.Addr}
	img := testenv.Derive(t, testenv.Scratch(t, "amd64"), time.Unix(1700000000, 0), map[string]string{"v": "1"})
	registry.Push(t, "library/moving:1", img)
	digest := registry.Push(t, "library/moving:latest", testenv.Derive(t, img, time.Unix(1800000000, 0), map[string]string{"v": "2"}))

	if _, err := build(t, addr, "FROM moving@"+digest.String()+"\n"); err != nil {
		t.Fatal(err)
	}
	if got := registry.TagLookups(); len(got) > 0 {
		t.Errorf("a pinned build looks up tags: %v", got)
	}
	for tag, want := range map[string]string{"latest": "2", "old": "1"} {
		if tag == "old" {
			registry.Tag(t, "library/moving:1", "old")
		}
		out, err := build(t, addr, "FROM moving:"+tag+"\n")
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, out, "v"); got != want {
			t.Errorf("%s holds %q, want %q", tag, got, want)
		}
	}

	registry.Push(t, "private/x:1", img)
	registry.RequireAuth("private/x", "ann", "secret")
	private := "FROM " + registry.Ref("private/x:1") + "\n"
	if _, err := build(t, addr, private); err == nil {
		t.Error("a private repository is open to all")
	}
	t.Setenv("DOCKER_CONFIG", registry.DockerConfig(t, "ann", "secret"))
	if _, err := build(t, addr, private); err != nil {
		t.Errorf("with a login: %v", err)
	}

	registry.Push(t, "library/late:1", img)
	registry.Fault(testenv.Status(503))
	if _, err := build(t, addr, "FROM "+registry.Ref("library/late:1")+"\n"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("want an error with the status 503, got %v", err)
	}
}

func TestHang(t *testing.T) {
	registry := testenv.NewRegistry(t)
	registry.Fault(testenv.Hang)
	client := &http.Client{Timeout: 50 * time.Millisecond}
	if resp, err := client.Get("http://" + registry.Addr + "/v2/"); err == nil {
		t.Errorf("a registry that hangs answers %s", resp.Status)
	}
}

func TestGit(t *testing.T) {
	g := testenv.NewGit(t)
	b := testenv.StartBuildkitd(t, testenv.BuildkitdOptions{})
	addr := []string{"--addr=" + b.Addr}
	first := g.Commit(t, "main", map[string]string{"a": "1"})
	second := g.Commit(t, "main", map[string]string{"a": "2", "d/b": "2"})
	if g.Head(t, "main") != second {
		t.Fatalf("main is at %q, want %q", g.Head(t, "main"), second)
	}
	add := func(t *testing.T, source, want string) {
		t.Helper()
		out, err := build(t, addr, "FROM scratch\nADD "+source+" /x\n")
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, out, "x", "a"); got != want {
			t.Errorf("%s: a is %q, want %q", source, got, want)
		}
	}
	add(t, g.URL+"#main", "2")
	add(t, g.URL+"#"+first, "1")
	add(t, "--checksum="+second+" "+g.URL+"#main", "2")

	g.Move(t, "main", first)
	third := g.Commit(t, "main", map[string]string{"a": "3"})
	g.Prune(t)
	add(t, g.URL+"#main", "3")
	add(t, g.URL+"#"+third, "3")

	fresh := testenv.StartBuildkitd(t, testenv.BuildkitdOptions{})
	if _, err := build(t, []string{"--addr=" + fresh.Addr}, "FROM scratch\nADD "+g.URL+"#"+second+" /x\n"); err == nil {
		t.Error("a pruned commit can be fetched")
	}
}

func TestFiles(t *testing.T) {
	_, buildkitd := testenv.Shared(t)
	f := testenv.NewFiles(t)
	url := f.Set("/a", "one", time.Unix(1700000000, 0))
	for _, want := range []string{"one", "two"} {
		f.Set("/a", want, time.Unix(1700000000, 0))
		out, err := build(t, []string{"--addr=" + buildkitd.Addr}, "FROM scratch\nADD "+url+" /x\n")
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, out, "x"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if len(f.Requests()) == 0 {
		t.Error("no request was recorded")
	}
}

func TestDockerd(t *testing.T) {
	registry := testenv.NewRegistry(t)
	testenv.Debian(t, registry)
	for name, opts := range map[string]testenv.DockerdOptions{
		"old":    {Registry: registry},
		"modern": {Registry: registry, Modern: true},
	} {
		t.Run(name, func(t *testing.T) {
			d := testenv.StartDockerd(t, opts)
			d.Docker(t, "pull", "--quiet", "debian:bookworm-slim")
			if got, want := d.Docker(t, "run", "--rm", "--network=none", "debian:bookworm-slim", "echo", "hello"), "hello\n"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			t.Log(d.Docker(t, "info", "--format", "{{.ServerVersion}} {{.Driver}} {{.DriverStatus}}"))
		})
	}
}
