package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kedge-build/kedge/internal/testenv"
)

// A dockerHome is a folder of docker's configuration, with buildx as a plugin.
type dockerHome struct {
	dir string
	env []string // for docker, buildx and kedge
}

func newDockerHome(t *testing.T, env ...string) *dockerHome {
	t.Helper()
	h := &dockerHome{dir: t.TempDir()}
	h.env = append([]string{"DOCKER_CONFIG=" + h.dir, "BUILDX_BUILDER="}, env...)
	plugins := filepath.Join(h.dir, "cli-plugins")
	if err := os.Mkdir(plugins, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(testenv.Program(t, "buildx"), filepath.Join(plugins, "docker-buildx")); err != nil {
		t.Fatal(err)
	}
	return h
}

// do runs a program with this configuration, and fails the test if it fails.
func (h *dockerHome) do(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(append(os.Environ(), "CI="), h.env...) // these tests write locks
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(program), strings.Join(args, " "), err, out, &stderr)
	}
	return string(out)
}

// script writes a shell script, and puts it first on PATH.
func script(t *testing.T, name, content string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+content+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// offline is hello without a network, because Engines for tests have none.
func offline() map[string]string {
	return map[string]string{
		"Dockerfile": strings.ReplaceAll(hello["Dockerfile"], "RUN ", "RUN --network=none "),
		"greeting":   hello["greeting"],
	}
}

// The same context and lock have one digest on every kind of builder that docker buildx create makes.
func TestOneDigestOnEveryBuilder(t *testing.T) {
	registry, shared := testenv.Shared(t)
	native := testenv.StartBuildkitd(t, testenv.BuildkitdOptions{Registry: registry, TCP: true})
	engine := testenv.StartDockerd(t, testenv.DockerdOptions{Modern: true, Registry: registry})
	docker := newDockerHome(t, "DOCKER_HOST="+engine.Host)
	buildx, cli := testenv.Program(t, "buildx"), testenv.Program(t, "docker")

	docker.do(t, buildx, "create", "--name", "far", "--driver", "remote", native.TCP,
		"--driver-opt", "cacert="+native.TLS.CA+",cert="+native.TLS.Cert+",key="+native.TLS.Key)

	// A BuildKit in a container, from an image that kedge has built and loaded.
	image := write(t, map[string]string{"Dockerfile": "FROM debian:bookworm-slim\nCOPY bin /usr/local/bin\nCOPY lib /usr/lib\nENTRYPOINT [\"buildkitd\"]\n"})
	for _, name := range []string{"buildkitd", "buildctl", "runc"} {
		copyProgram(t, testenv.Program(t, name), image)
	}
	runKedge(t, docker.env, 0, "build", "--builder", shared.Addr, "--load", "-t", "buildkit:test", image)
	docker.do(t, buildx, "create", "--name", "boxed", "--driver", "docker-container")
	// The container that docker buildx inspect --bootstrap would make; the first build starts it.
	engine.Docker(t, "create", "--name", "buildx_buildkit_boxed0", "--privileged", "--network=host", "--volume=/var/lib/buildkit",
		"--volume="+testenv.Config(t, registry)+":/etc/buildkit/buildkitd.toml", "buildkit:test")

	// A driver that only buildx supports. Here buildx sees it as the remote one.
	docker.do(t, buildx, "create", "--name", "cluster", "--driver", "remote", shared.Addr)
	cluster := newDockerHome(t)
	rename(t, filepath.Join(docker.dir, "buildx/instances/cluster"), filepath.Join(cluster.dir, "buildx/instances/cluster"), `"remote"`, `"kubernetes"`)
	script(t, "docker", fmt.Sprintf("DOCKER_CONFIG=%s exec %s \"$@\"", docker.dir, cli))

	files := offline()
	files["Dockerfile"] += "COPY greeting /kept/\nRUN --network=none --mount=type=cache,target=/obj cp -p /kept/greeting /obj && cp -p /obj/greeting /kept/again\n"
	dir := write(t, files)
	data := t.TempDir()
	own := append([]string{"XDG_DATA_HOME=" + data, "KEDGE_BUILDKITD=" + testenv.Program(t, "buildkitd")}, docker.env...)
	defer runKedge(t, own, 0, "builder", "stop")
	t.Setenv("XDG_DATA_HOME", data)
	t.Setenv("KEDGE_BUILDKITD", testenv.Program(t, "buildkitd"))
	t.Setenv("HOME", t.TempDir())
	want := digestOf(t, docker.do(t, "kedge", "build", "--buildkitd-config", testenv.Config(t, registry), "--load=false", dir))

	for name, test := range map[string]struct {
		env    []string
		driver string
	}{
		"far":     {env: docker.env, driver: "remote"},
		"boxed":   {env: docker.env, driver: "docker-container"},
		"default": {env: docker.env, driver: "docker"},
		"cluster": {env: cluster.env, driver: "kubernetes"},
	} {
		t.Run(test.driver, func(t *testing.T) {
			out, errs := runKedge(t, append(test.env, "BUILDX_BUILDER="+name), 0, "verify", "--locked", dir)
			if got := digestOf(t, out); got != want {
				t.Errorf("%s, not %s", got, want)
			}
			if line := fmt.Sprintf("using builder %q, node ", name); !strings.Contains(errs, line) || !strings.Contains(errs, " of the "+test.driver+" driver\n") {
				t.Errorf("which builder is not said: %.300s", errs)
			}
			out, _ = runKedge(t, append(test.env, "BUILDX_BUILDER="+name), 0, "builder", "status")
			if !strings.Contains(out, fmt.Sprintf("\nbuilds   %q, by $BUILDX_BUILDER: the %s driver, 1 node\n", name, test.driver)) {
				t.Error(out)
			}
		})
	}
}

// copyProgram copies a program to bin in a folder, and those of its libraries that base images lack to lib.
func copyProgram(t *testing.T, program, dir string) {
	t.Helper()
	put := func(from, to string) {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to, filepath.Base(from)), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(program, "bin")
	linked, _ := exec.Command("ldd", program).Output() // fails for a static program
	for _, m := range regexp.MustCompile(`(?m)=> (\S*/libseccomp\S*)`).FindAllStringSubmatch(string(linked), -1) {
		put(m[1], "lib")
	}
}

// rename copies a file with one word replaced.
func rename(t *testing.T, from, to, word, by string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil || !bytes.Contains(data, []byte(word)) {
		t.Fatalf("%s: %v\n%s", from, err, data)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, bytes.ReplaceAll(data, []byte(word), []byte(by)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// byDefault makes builds load into Docker by default, which tests turn off.
const byDefault = "BUILDX_NO_DEFAULT_LOAD="

// tiny is a context that is built quickly.
var tiny = map[string]string{"Dockerfile": "FROM scratch\nCOPY greeting /\n", "greeting": "hello\n"}

// If a Docker Engine answers, an image is loaded under all its names, and only once.
func TestLoad(t *testing.T) {
	for name, modern := range map[string]bool{"graphdriver": false, "containerd": true} {
		t.Run(name, func(t *testing.T) {
			engine := testenv.StartDockerd(t, testenv.DockerdOptions{Modern: modern})
			registry, buildkitd := testenv.Shared(t)
			env := []string{"DOCKER_HOST=" + engine.Host, byDefault, "BUILDKIT_HOST=" + buildkitd.Addr, "HOME=" + t.TempDir()}
			dir, file := write(t, hello), filepath.Join(t.TempDir(), "hello.tar")
			_, errs := runKedge(t, env, 0, "build", "-t", "hello:v0", "-o", "type=oci,dest="+file, dir)
			if strings.Contains(errs, "loaded ") {
				t.Errorf("loaded, although -o says where the image is for: %s", errs)
			}
			out, errs := runKedge(t, env, 0, "build", "-t", "hello:v1", "--metadata-file", file+".json", dir)
			if !strings.Contains(errs, "loaded ") {
				t.Errorf("nothing was loaded: %s", errs)
			}
			runKedge(t, env, exitOK, "diff", "docker-daemon:hello:v1", file)
			listed := engine.Docker(t, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}")
			if !regexp.MustCompile(`(?m)^hello:v1$`).MatchString(listed) || strings.Contains(listed, "args-") {
				t.Errorf("images: %s", listed)
			}
			engine.Docker(t, "image", "rm", "hello:v1")
			if left := engine.Docker(t, "image", "ls", "--all", "--quiet"); left != "" {
				t.Errorf("docker rmi leaves %s", left)
			}
			runKedge(t, env, 0, "build", "-t", "hello:v1", dir)
			if out := engine.Docker(t, "run", "--rm", "hello:v1", "stat", "-c", "%a %N", "/usr/local/bin/hello", "/usr/local/bin/hi"); !strings.HasPrefix(out, "4755 ") {
				t.Errorf("in the container: %s", out)
			}
			id := strings.TrimSpace(engine.Docker(t, "image", "inspect", "--format", "{{.Id}}", "hello:v1"))
			var metadata struct {
				Config string `json:"containerimage.config.digest"`
			}
			readJSON(t, file+".json", &metadata)
			if want := map[bool]string{true: digestOf(t, out), false: metadata.Config}[modern]; id != want {
				t.Errorf("ID %s, not %s", id, want)
			}
			pushed := registry.Addr + "/" + name + "/hello"
			engine.Docker(t, "tag", "hello:v1", pushed)
			if said := engine.Docker(t, "push", pushed); strings.Contains(said, digestOf(t, out)) != modern {
				t.Errorf("pushed by docker: %s", said)
			}

			_, errs = runKedge(t, env, 0, "build", "--load", "-t", "hello:v1", "-o", "type=oci,dest="+file, dir)
			if !strings.Contains(errs, "has it already") {
				t.Errorf("loaded twice: %s", errs)
			}
			if _, errs = runKedge(t, env, 0, "build", "-t", "hello:v1", "-t", "hello:v2", dir); !strings.Contains(errs, "loaded hello:v2") {
				t.Errorf("a new name: %s", errs)
			}
			engine.Docker(t, "image", "rm", "hello:v1")
			if _, errs = runKedge(t, env, 0, "build", "-t", "hello:v1", dir); !strings.Contains(errs, "loaded hello:v1") {
				t.Errorf("a name that is gone: %s", errs)
			}
			other := write(t, tiny)
			if _, errs = runKedge(t, env, 0, "build", other); !strings.Contains(errs, "loaded ") {
				t.Errorf("without a name: %s", errs)
			}
			if _, errs = runKedge(t, env, 0, "build", other); !strings.Contains(errs, "has it already") {
				t.Errorf("without a name, twice: %s", errs)
			}
			// Attestations are loaded if the Engine keeps them. The image is the same with them.
			out, _ = runKedge(t, env, 0, "build", "-q", "-t", "attested", "--provenance=true", dir)
			if id := strings.TrimSpace(engine.Docker(t, "image", "inspect", "--format", "{{.Id}}", "attested")); id != strings.TrimSpace(out) {
				t.Errorf("with attestations its ID is %s, and -q says %s", id, out)
			} else if (id == metadata.Config) == modern {
				t.Errorf("ID %s", id)
			}
			engine.Docker(t, "run", "--rm", "attested", "true")

			several := []string{"build", "-t", "several", "--platform", "linux/amd64,linux/arm64", other}
			_, errs = runKedge(t, env, 0, several...)
			explicit := map[bool]int{true: 0, false: exitFailed}[modern]
			if _, failed := runKedge(t, env, explicit, append(several, "--load")...); !modern && (!strings.Contains(failed, "hint: ") || strings.Contains(failed, "#1 ")) {
				t.Errorf("it is not said at the start: %s", failed)
			}
			if !modern && !strings.Contains(errs, "is in kedge's store only: the Docker Engine at ") || modern && !strings.Contains(errs, "loaded several") {
				t.Errorf("for two platforms: %s", errs)
			}
		})
	}
}

// An image that only the Engine has is a base, and is followed when it changes.
func TestBaseInEngine(t *testing.T) {
	for name, modern := range map[string]bool{"graphdriver": false, "containerd": true} {
		t.Run(name, func(t *testing.T) {
			engine := testenv.StartDockerd(t, testenv.DockerdOptions{Modern: modern})
			_, buildkitd := testenv.Shared(t)
			data := t.TempDir()
			env := []string{"DOCKER_HOST=" + engine.Host, byDefault, "BUILDKIT_HOST=" + buildkitd.Addr, "HOME=" + t.TempDir(), "XDG_DATA_HOME=" + data}
			base := write(t, map[string]string{"Dockerfile": "FROM scratch\nARG WORD\nCOPY greeting /$WORD\n", "greeting": "hello\n"})
			app := write(t, map[string]string{"Dockerfile": "FROM only-here:1\nCOPY --from=only-here:1 /one* /copied/\n"})
			runKedge(t, env, 0, "build", "-t", "built:1", "--build-arg", "WORD=one", base)
			engine.Docker(t, "tag", "built:1", "only-here:1")
			out := filepath.Join(t.TempDir(), "out")
			if _, errs := runKedge(t, env, 0, "build", "-o", out, app); !strings.Contains(errs, "locked local docker.io/library/only-here:1 at sha256:") {
				t.Errorf("not locked: %s", errs)
			}
			if _, err := os.Stat(filepath.Join(out, "copied", "one")); err != nil {
				t.Error(err)
			}
			runKedge(t, env, 0, "build", "--locked", "-o", out, app)
			runKedge(t, env, 0, "build", "-t", "built:2", "--build-arg", "WORD=one-more", base)
			engine.Docker(t, "tag", "built:2", "only-here:1")
			runKedge(t, env, exitForbidden, "build", "--locked", "-o", out, app)
			if _, errs := runKedge(t, env, 0, "build", "-o", out, app); !strings.Contains(errs, "moved local docker.io/library/only-here:1: sha256:") {
				t.Errorf("not followed: %s", errs)
			}
			if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "kedge-engine-*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			// The Engine saves each image once.
			kept := func() []string {
				paths, _ := filepath.Glob(filepath.Join(data, "kedge", "engine", "sha256-*"))
				return paths
			}
			var times []time.Time
			for _, path := range kept() {
				info, err := os.Stat(filepath.Join(path, "digest"))
				if err != nil {
					t.Fatal(err)
				}
				times = append(times, info.ModTime())
			}
			if len(times) != 2 {
				t.Fatalf("kept %q", kept())
			}
			runKedge(t, env, 0, "build", "--no-cache", "--locked", "-o", out, app)
			for i, path := range kept() {
				if info, err := os.Stat(filepath.Join(path, "digest")); err != nil || !info.ModTime().Equal(times[i]) {
					t.Errorf("%s was saved again: %v", path, err)
				}
			}
			if runKedge(t, env, 0, "prune"); len(kept()) > 0 {
				t.Errorf("kedge prune leaves %q", kept())
			}
			runKedge(t, env, 0, "build", "--locked", "-o", out, app)
		})
	}
}

// The Engine of the current context gets the image, also over TLS and ssh.
func TestLoadIntoContext(t *testing.T) {
	_, buildkitd := testenv.Shared(t)
	engine := testenv.StartDockerd(t, testenv.DockerdOptions{Modern: true, TCP: true})
	docker := newDockerHome(t)
	cli := testenv.Program(t, "docker")
	docker.do(t, cli, "context", "create", "lab", "--docker",
		fmt.Sprintf("host=%s,ca=%s,cert=%s,key=%s", engine.TCP, engine.TLS.CA, engine.TLS.Cert, engine.TLS.Key))
	docker.do(t, cli, "context", "create", "open", "--docker", "host="+engine.TCP)
	certs := t.TempDir()
	for name, file := range map[string]string{"ca.pem": engine.TLS.CA, "cert.pem": engine.TLS.Cert, "key.pem": engine.TLS.Key} {
		if err := os.Symlink(file, filepath.Join(certs, name)); err != nil {
			t.Fatal(err)
		}
	}
	// This ssh runs the command on this machine.
	script(t, "ssh", fmt.Sprintf("DOCKER_HOST=%s exec %s system dial-stdio", engine.Host, cli))
	dir := write(t, tiny)
	defer func() {
		runKedge(t, append(docker.env, "DOCKER_CONTEXT=lab"), 0, "diff", "docker-daemon:ssh", "docker-daemon:tls-by-the-context")
		_, errs := runKedge(t, append(docker.env, "DOCKER_CONTEXT=lab"), exitFailed, "diff", "docker-daemon:ssh", "docker-daemon:moon")
		if !strings.Contains(strings.ToLower(errs), "no such image") {
			t.Error(errs)
		}

		// A bare name is looked for first in kedge's store, which is empty here, then in the Engine.
		bare := append(docker.env, "XDG_DATA_HOME="+t.TempDir(), "DOCKER_CONTEXT=lab")
		out, errs := runKedge(t, bare, 0, "diff", "tls-by-the-context", "docker-daemon:tls-by-the-context")
		if !strings.Contains(errs, fmt.Sprintf("tls-by-the-context is that of the Docker Engine at %q", engine.TCP)) {
			t.Error(out, errs)
		}
		for _, name := range []string{"DOCKER_CONTEXT=lab", "DOCKER_CONTEXT=open"} { // an Engine without the image, and one that does not answer
			_, errs := runKedge(t, append(bare, name), exitFailed, "diff", "127.0.0.1:1/moon", "docker-daemon:ssh")
			if !strings.Contains(errs, "neither kedge's store nor a Docker Engine that answers has it") || !strings.Contains(errs, "\nhint: ") {
				t.Error(errs)
			}
		}
	}()
	for name, test := range map[string]struct {
		env  []string
		code int
		says string
	}{
		"TLS by the environment": {env: []string{"DOCKER_HOST=" + engine.TCP, "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=" + certs}, says: "loaded "},
		"TLS, not verified":      {env: []string{"DOCKER_HOST=" + engine.TCP, "DOCKER_TLS=1", "DOCKER_CERT_PATH=" + certs}, says: "loaded "},
		"TLS by the context":     {env: []string{"DOCKER_CONTEXT=lab"}, says: "loaded "},
		"ssh":                    {env: []string{"DOCKER_HOST=ssh://ada@far"}, says: "loaded "},
		"no TLS":                 {env: []string{"DOCKER_CONTEXT=open"}, code: exitFailed, says: "no Docker Engine answers at"},
		"no certificates":        {env: []string{"DOCKER_HOST=" + engine.TCP, "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=" + t.TempDir()}, code: exitFailed, says: "ca.pem"},
		"no such context":        {env: []string{"DOCKER_CONTEXT=moon"}, code: exitFailed, says: `docker context "moon"`},
	} {
		t.Run(name, func(t *testing.T) {
			tag := strings.ToLower(strings.NewReplacer(" ", "-", ",", "").Replace(name))
			_, errs := runKedge(t, append(docker.env, test.env...), test.code, "build", "--builder", buildkitd.Addr, "--load", "-t", tag, dir)
			if !strings.Contains(errs, test.says) || test.code != 0 && !strings.Contains(errs, "\nhint: ") {
				t.Error(errs)
			}
		})
	}
}

// Without an Engine the image stays in kedge's store, and one line says so.
func TestLoadWithoutAnEngine(t *testing.T) {
	_, buildkitd := testenv.Shared(t)
	env := []string{"DOCKER_HOST=unix://" + filepath.Join(t.TempDir(), "docker.sock"), "BUILDKIT_HOST=" + buildkitd.Addr, byDefault}
	dir := write(t, tiny)
	_, errs := runKedge(t, env, 1, "build", "-t", "hello", "--load", dir)
	if !strings.Contains(errs, "loading into Docker: no Docker Engine answers at") || !strings.Contains(errs, "hint: ") || strings.Contains(errs, "#1 ") {
		t.Error(errs)
	}
	const line = "kedge: the image is in kedge's store only: no Docker Engine answers at "
	for _, test := range []struct {
		says bool
		args []string
		env  string
	}{
		{says: true},
		{args: []string{"--load=false"}},
		{args: []string{"-o", "type=oci,dest=" + filepath.Join(t.TempDir(), "out.tar")}},
		{args: []string{"--progress=quiet"}},
		{env: "BUILDX_NO_DEFAULT_LOAD=1"},
		{says: true, env: "BUILDX_NO_DEFAULT_LOAD=0"},
		{says: true, env: "DOCKER_CONTEXT=moon"},
	} {
		_, errs := runKedge(t, append(env, test.env), 0, append([]string{"build", "-t", "hello", dir}, test.args...)...)
		if strings.Contains(errs, line) != test.says {
			t.Errorf("%v %s: %s", test.args, test.env, errs)
		}
	}
	if _, errs := runKedge(t, env, 0, "verify", dir); strings.Contains(errs, line) {
		t.Error(errs)
	}
}

// If a builder cannot do something, an error at the start says so, with a hint.
func TestBuildersThatCannot(t *testing.T) {
	old := testenv.StartDockerd(t, testenv.DockerdOptions{})
	graph := testenv.StartDockerd(t, testenv.DockerdOptions{Modern: true, Graphdriver: true})
	docker := newDockerHome(t)
	cli, buildx := testenv.Program(t, "docker"), testenv.Program(t, "buildx")
	docker.do(t, cli, "context", "create", "graph", "--docker", "host="+graph.Host)
	docker.do(t, cli, "context", "create", "old", "--docker", "host="+old.Host)
	docker.do(t, buildx, "create", "--name", "boxed", "--driver", "docker-container", "graph")
	docker.do(t, buildx, "create", "--name", "two", "--driver", "remote", "--node", "a", "--platform", "linux/amd64", "tcp://127.0.0.1:1")
	docker.do(t, buildx, "create", "--name", "two", "--append", "--node", "b", "--platform", "linux/arm64", "tcp://127.0.0.1:2")
	dir := write(t, tiny)
	for name, test := range map[string]struct {
		env  []string
		args []string
		want []string
	}{
		"graphdriver": {env: []string{"DOCKER_CONTEXT=graph"}, args: []string{"--builder", "graph"},
			want: []string{"cannot export an OCI image", "hint: turn on containerd's image store"}},
		"too old": {env: []string{"DOCKER_CONTEXT=old"}, args: []string{"--builder", "old"},
			want: []string{"needs BuildKit v0.26", "hint: upgrade the builder"}},
		"another context": {args: []string{"--builder", "graph"}, want: []string{`the current context is "default"`, "hint: DOCKER_CONTEXT=graph"}},
		"no container":    {args: []string{"--builder", "boxed"}, want: []string{`no container "buildx_buildkit_boxed0"`, "hint: docker buildx inspect --bootstrap boxed"}},
		"two nodes":       {args: []string{"--builder", "two", "--platform", "linux/amd64,linux/arm64"}, want: []string{`connecting to builder "tcp://127.0.0.1:1"`, "hint: "}},
		"the second node": {args: []string{"--builder", "two", "--platform", "linux/arm64"}, want: []string{`connecting to builder "tcp://127.0.0.1:2"`, "hint: "}},
		"no builder":      {args: []string{"--builder", "moon"}, want: []string{`no builder "moon" found`, "hint: docker buildx ls lists boxed, default, graph, old, two"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, errs := runKedge(t, append(docker.env, test.env...), exitFailed, append([]string{"build", dir}, test.args...)...)
			for _, want := range test.want {
				if !strings.Contains(errs, want) {
					t.Errorf("%q is not in %s", want, errs)
				}
			}
			if strings.Contains(errs, "#1 ") {
				t.Errorf("not at the start: %s", errs)
			}
		})
	}
	t.Run("a question needs no export", func(t *testing.T) {
		env := append(docker.env, "DOCKER_CONTEXT=graph")
		if out, _ := runKedge(t, env, 0, "build", "--builder", "graph", "--check", dir); !strings.Contains(out, "Check complete, no warnings") {
			t.Errorf("--check: %s", out)
		}
		if out, _ := runKedge(t, env, 0, "build", "--builder", "graph", "--call", "targets", dir); !strings.Contains(out, "TARGET") {
			t.Errorf("--call targets: %s", out)
		}
	})
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// A platform that is given twice, in whatever spelling, is built once; "local" is this machine's.
func TestUniquePlatforms(t *testing.T) {
	local := uniquePlatforms([]string{"local"})
	if len(local) != 1 || local[0] != "linux/"+runtime.GOARCH && !strings.HasPrefix(local[0], "linux/"+runtime.GOARCH+"/") {
		t.Errorf("local is %q", local)
	}
	for words, want := range map[string]string{
		"linux/amd64,linux/amd64":               "linux/amd64",
		"linux/arm64/v8,linux/arm64,amd64":      "linux/arm64/v8 amd64",
		"linux/arm/v7,linux/arm,linux/arm/v6":   "linux/arm/v7 linux/arm/v6",
		"no/such/platform/x,no/such/platform/x": "no/such/platform/x",
		"LOCAL,local," + local[0]:               local[0],
	} {
		if got := strings.Join(uniquePlatforms(strings.Split(words, ",")), " "); got != want {
			t.Errorf("%q: %q, want %q", words, got, want)
		}
	}
}
