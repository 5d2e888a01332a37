package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/moby/buildkit/client"
)

// runKedge runs a verb in this process, in an empty home, and returns what it printed.
func runKedge(t *testing.T, env []string, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "BUILDKIT_PROGRESS=plain", "BUILDX_NO_DEFAULT_LOAD=1"}, env...)
	got := run(context.WithoutCancel(t.Context()), append([]string{"kedge"}, args...), env, nil, &out, &errs)
	if got != want {
		t.Fatalf("kedge %s: exit code %d, not %d\n%s%s", strings.Join(args, " "), got, want, &out, &errs)
	}
	return out.String(), errs.String()
}

var digestLine = regexp.MustCompile(`(?m)^digest  (sha256:[0-9a-f]{64})$`)

func digestOf(t *testing.T, stdout string) string {
	t.Helper()
	m := digestLine.FindStringSubmatch(stdout)
	if m == nil {
		t.Fatalf("no digest in %q", stdout)
	}
	return m[1]
}

// write creates a folder with files, by name, and returns its path.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var hello = map[string]string{
	"Dockerfile": `FROM debian:bookworm-slim AS build
COPY greeting /greeting
RUN mkdir -p /out/bin && install -m 4755 /bin/true /out/bin/hello && ln -s hello /out/bin/hi && rm /etc/motd; date
FROM debian:bookworm-slim
COPY --from=build /out /usr/local
RUN rm -r /usr/share/doc && cat /usr/local/bin/hello > /dev/null
CMD ["hello"]
`,
	"greeting": "hello\n",
}

// owners has what only root may do outside of namespaces: owners, special modes and capabilities of files. It also has
// what an overlay stores in its own way: removed files, a folder that replaces another, hard links.
const owners = `RUN cp /bin/true /usr/local/bin/able && setcap cap_net_raw+ep /usr/local/bin/able \
 && install -d -o 1234 -g 65534 -m 3775 /srv/owned && install -o 65534 -g 1 -m 6755 /bin/true /srv/owned/setuid \
 && ln /srv/owned/setuid /srv/owned/hard && mkfifo /srv/fifo && mkdir /srv/old && touch /srv/old/a /srv/old/b
RUN ln /srv/owned/setuid /srv/hard && rm -r /srv/old /etc/issue && mkdir /srv/old && touch /srv/old/b && chown 100:101 /srv/owned
`

// The same context has one digest on daemons that have nothing in common: two snapshotters, a unix socket and TLS, a
// cold and a warm cache, root and an ordinary user. This holds for contexts that install packages, too.
func TestOneDigestEverywhere(t *testing.T) {
	registry, shared := testenv.Shared(t)
	native := testenv.StartBuildkitd(t, testenv.BuildkitdOptions{Registry: registry, Snapshotter: "native", TCP: true})
	tls := []string{"--tlscacert", native.TLS.CA, "--tlscert", native.TLS.Cert, "--tlskey", native.TLS.Key}
	dir := write(t, map[string]string{
		"Dockerfile": hello["Dockerfile"] + "RUN apt-get update && apt-get install -y --no-install-recommends python3-minimal libcap2-bin\n" +
			"RUN useradd -m ada && python3 -m compileall -q /home && rm -r /var/lib/apt/lists/*\n" + owners +
			"COPY kept.py /srv/kept/\nRUN --mount=type=cache,target=/obj python3 -m compileall -q /srv/kept && cp -p /srv/kept/kept.py /srv/old\n",
		"greeting": hello["greeting"],
		"kept.py":  "print(1)\n",
	})
	out, _ := runKedge(t, nil, 0, "build", "--builder", shared.Addr, dir)
	want := digestOf(t, out)
	for name, args := range map[string][]string{
		"again":           {"build", "--builder", shared.Addr, dir},
		"verified":        {"verify", "--builder", shared.Addr, dir},
		"native over TLS": append([]string{"build", "--builder", native.TCP, dir}, tls...),
	} {
		out, _ := runKedge(t, nil, 0, args...)
		if got := digestOf(t, out); got != want {
			t.Errorf("%s: %s, not %s", name, got, want)
		}
	}
	u := newUser(t, registry)
	for _, name := range []string{"Dockerfile", "Dockerfile.lock", "greeting", "kept.py"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		u.put(t, "app/"+name, string(data))
	}
	out, _ = u.kedge(t, nil, exitOK, "build", "--locked", "app")
	if got := digestOf(t, out); got != want {
		t.Errorf("without root: %s, not %s", got, want)
	}
	_, errs := runKedge(t, nil, 1, "build", "--builder", native.TCP, dir)
	if !strings.Contains(errs, "hint: ") {
		t.Errorf("no hint without certificates: %s", errs)
	}
}

// The second build of a verification runs on another builder, which finds what depends on the builder. The verdict
// names both.
func TestSecondBuilder(t *testing.T) {
	registry, shared := testenv.Shared(t)
	native := testenv.StartBuildkitd(t, testenv.BuildkitdOptions{Registry: registry, Snapshotter: "native", TCP: true})
	on := []string{"verify", "--builder", shared.Addr}
	other := []string{"--second-builder", native.TCP, "--tlscacert", native.TLS.CA, "--tlscert", native.TLS.Cert, "--tlskey", native.TLS.Key}
	same := write(t, map[string]string{"Dockerfile": "FROM debian:bookworm-slim\nRUN echo x > /x && ln /x /y\nCOPY f /\n", "f": "f\n"})
	out, _ := runKedge(t, nil, exitOK, slices.Concat(on, other, []string{same})...)
	for i, want := range []string{
		`(?m)^verified: two builds, the same bit for bit$`,
		`(?m)^first   builder unix://\S+: BuildKit v\S+, linux/\w+, kernel \d\S+$`,
		`(?m)^second  builder tcp://\S+: BuildKit v\S+, linux/\w+, kernel unknown$`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("line %d: %s, want %s", i, out, want)
		}
	}
	digest := digestOf(t, out)
	if out, _ := runKedge(t, nil, exitOK, "build", "--builder", shared.Addr, same); digestOf(t, out) != digest {
		t.Errorf("the image of a plain build is another: %s", out)
	}
	for _, record := range usage(t, native) {
		if strings.Contains(record, "from exec") {
			t.Errorf("left in the second builder: %s", record)
		}
	}
	if json, _ := runKedge(t, nil, exitOK, slices.Concat(on, other, []string{"--format", "json", same})...); !strings.Contains(json, `"builders": [`) || strings.Count(json, `"buildkit": "v`) != 2 {
		t.Errorf("JSON: %s", json)
	}

	// What only another builder shows: two builds on one agree.
	planted := write(t, map[string]string{"Dockerfile": "FROM debian:bookworm-slim\nRUN stat -f -c %T / > /fs\n"})
	runKedge(t, nil, exitOK, append(on, planted)...)
	out, _ = runKedge(t, nil, exitNo, slices.Concat(on, other, []string{planted})...)
	if !strings.Contains(out, "/fs (") || !strings.Contains(out, "second  builder tcp://") {
		t.Errorf("planted: %s", out)
	}

	// One builder by two names is no second builder, and one that does not answer ends the command.
	_, errs := runKedge(t, nil, exitUsage, append(on, "--second-builder", strings.Replace(shared.Addr, "unix:///", "unix:///./", 1), same)...)
	if !strings.Contains(errs, "is the same as builder") {
		t.Errorf("the same: %s", errs)
	}
	runKedge(t, nil, exitFailed, append(on, "--second-builder", "unix:///nowhere", same)...)
}

// Everything that a second build leaves in the builder is released, including its cache mounts. The user's stay.
func TestVerifyReleases(t *testing.T) {
	registry := testenv.NewRegistry(t)
	testenv.Debian(t, registry)
	buildkitd := testenv.StartBuildkitd(t, testenv.BuildkitdOptions{Registry: registry})
	dir := write(t, map[string]string{
		"Dockerfile": hello["Dockerfile"] + "RUN --mount=type=cache,target=/var/kedge date >> /var/kedge/log\n",
		"greeting":   hello["greeting"],
	})
	runKedge(t, nil, 0, "build", "--builder", buildkitd.Addr, dir)
	before := usage(t, buildkitd)
	runKedge(t, nil, 0, "verify", "--builder", buildkitd.Addr, dir)
	after := usage(t, buildkitd)
	for id, what := range after {
		if _, ok := before[id]; !ok {
			t.Errorf("left: %s", what)
		}
	}
	for id, what := range before {
		if _, ok := after[id]; !ok {
			t.Errorf("removed: %s", what)
		}
	}
}

// usage returns the cache records of a daemon.
func usage(t *testing.T, b *testenv.Buildkitd) map[string]string {
	t.Helper()
	c, err := client.New(t.Context(), b.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	records, err := c.DiskUsage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	held := map[string]string{}
	for _, r := range records {
		held[r.ID] = string(r.RecordType) + " " + r.Description
	}
	return held
}

// An interrupt in any phase leaves no lock, no output and no name, and the next run works.
func TestInterrupt(t *testing.T) {
	_, buildkitd := testenv.Shared(t)
	dir := write(t, map[string]string{
		"Dockerfile": "FROM debian:bookworm-slim\nCOPY . /src\nRUN head -c 30000000 /dev/urandom > /random && sleep 0.3\n",
		"file":       "content",
	})
	home := t.TempDir()
	out := filepath.Join(t.TempDir(), "out.tar")
	env := []string{"HOME=" + home, "BUILDKIT_PROGRESS=plain"}
	args := []string{"kedge", "build", "--no-cache", "--builder", buildkitd.Addr, "-t", "app", "-o", "type=oci,dest=" + out, dir}
	interrupted := 0
	for delay := 10 * time.Millisecond; ; delay += delay/4 + 10*time.Millisecond {
		ctx, cancel := context.WithCancel(t.Context())
		timer := time.AfterFunc(delay, cancel)
		var stdout, stderr bytes.Buffer
		code := run(ctx, args, env, nil, &stdout, &stderr)
		timer.Stop()
		cancel()
		if code == exitOK {
			break
		}
		if interrupted++; code != exitInterrupt {
			t.Fatalf("after %v: exit code %d\n%s", delay, code, &stderr)
		}
		files, err := os.ReadDir(filepath.Dir(out))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			// It is complete if the interrupt came after it.
			if f.Name() != filepath.Base(out) {
				t.Fatalf("after %v: left %v", delay, f)
			}
		}
		if stdout.Len() > 0 {
			t.Fatalf("after %v: printed %s", delay, &stdout)
		}
		if _, err := os.Stat(filepath.Join(dir, "Dockerfile.lock")); err == nil {
			t.Fatalf("after %v: left a lock", delay)
		}
		if delay > time.Minute {
			t.Fatal("never done")
		}
	}
	if interrupted < 5 {
		t.Errorf("only %d interrupts", interrupted)
	}
	listed, _ := runKedge(t, []string{"HOME=" + home}, 0, "images")
	if !strings.Contains(listed, "docker.io/library/app:latest") {
		t.Errorf("images: %s", listed)
	}
}

// Every example is built twice, and is the same.
func TestExamples(t *testing.T) {
	_, buildkitd := testenv.Shared(t)
	dirs, err := filepath.Glob(filepath.Join(testenv.Repository(t), "examples", "*", "Dockerfile"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, dockerfile := range dirs {
		dir := filepath.Dir(dockerfile)
		if name := filepath.Base(dir); strings.HasPrefix(name, "hermetic-") || name == "drift" { // TestTools and a script build these
			continue
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			lockfile := filepath.Join(t.TempDir(), "lock")
			out, _ := runKedge(t, nil, 0, "verify", "--builder", buildkitd.Addr, "--lockfile", lockfile, dir)
			if !strings.HasPrefix(out, "verified") {
				t.Error(out)
			}
		})
	}
}
