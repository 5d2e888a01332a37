package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kedge-build/kedge/internal/testenv"
)

// Each platform is built on its node, and the image is the one that a single node gives.
func TestNodes(t *testing.T) {
	registry, shared := testenv.Shared(t)
	native := testenv.StartBuildkitd(t, testenv.BuildkitdOptions{Registry: registry, Snapshotter: "native", TCP: true})
	docker, buildx := newDockerHome(t), testenv.Program(t, "buildx")
	far := []string{native.TCP, "--driver-opt", "cacert=" + native.TLS.CA + ",cert=" + native.TLS.Cert + ",key=" + native.TLS.Key}
	docker.do(t, buildx, "create", "--name", "pair", "--driver", "remote", "--node", "near", "--platform", "linux/amd64", shared.Addr)
	docker.do(t, buildx, append([]string{"create", "--name", "pair", "--append", "--node", "far", "--platform", "linux/arm64"}, far...)...)
	docker.do(t, buildx, "create", "--name", "twins", "--driver", "remote", "--node", "near", shared.Addr)
	docker.do(t, buildx, append([]string{"create", "--name", "twins", "--append", "--node", "far"}, far...)...)
	dir := write(t, map[string]string{
		"Dockerfile": "FROM --platform=$BUILDPLATFORM debian:bookworm-slim AS build\nARG TARGETARCH BAD=none\nCOPY greeting /\n" +
			"RUN --network=none mkdir /out && cp /greeting /out/$TARGETARCH && test $TARGETARCH != $BAD\nFROM scratch\nCOPY --from=build /out /\n",
		"greeting": "hello\n",
	})
	both := []string{"--platform", "linux/arm64,linux/amd64"}
	metadata := filepath.Join(t.TempDir(), "metadata.json")
	out, errs := runKedge(t, docker.env, exitOK, append([]string{"build", "--builder", "pair", "--metadata-file", metadata, dir}, both...)...)
	got := digestOf(t, out)
	for _, line := range []string{`using builder "pair", node "near"`, `using builder "pair", node "far"`, "[near build 3/3] RUN", "[far build 3/3] RUN"} {
		if !strings.Contains(errs, line) {
			t.Errorf("%q is not in %s", line, errs)
		}
	}
	if data, err := os.ReadFile(metadata); err != nil || !strings.Contains(string(data), got) {
		t.Errorf("metadata: %s, %v", data, err)
	}
	out, _ = runKedge(t, docker.env, exitOK, append([]string{"build", "--builder", shared.Addr, "--locked", dir}, both...)...)
	if want := digestOf(t, out); got != want {
		t.Errorf("two nodes gave %s, one gave %s", got, want)
	}
	out, _ = runKedge(t, docker.env, exitOK, append([]string{"verify", "--builder", "pair", "--locked", dir}, both...)...)
	if digestOf(t, out) != got || !strings.HasPrefix(out, "verified") {
		t.Errorf("verify: %s", out)
	}
	for _, record := range usage(t, native) {
		if strings.Contains(record, "kedge-") {
			t.Errorf("left on the second node: %s", record)
		}
	}

	// A failure names its node, and ends the build on the other.
	_, errs = runKedge(t, docker.env, exitFailed, append([]string{"build", "--builder", "pair", "--build-arg", "BAD=arm64", dir}, both...)...)
	if !strings.Contains(errs, `node "far": `) || !strings.Contains(errs, "Dockerfile:4") {
		t.Errorf("a failure on a node: %s", errs)
	}

	// A second build that fails on one node leaves nothing on the other, which is faster.
	late := write(t, map[string]string{
		"Dockerfile": "FROM --platform=$BUILDPLATFORM debian:bookworm-slim AS build\nARG TARGETARCH\n" +
			"RUN --network=none mkdir /late && if [ $(umask) = 0002 ] && [ $TARGETARCH = arm64 ]; then sleep 4; exit 1; fi\nFROM scratch\nCOPY --from=build /late /\n",
	})
	runKedge(t, docker.env, exitOK, append([]string{"build", "--builder", "pair", late}, both...)...)
	before := usage(t, shared)
	_, errs = runKedge(t, docker.env, exitFailed, append([]string{"verify", "--builder", "pair", "--vary", "umask", late}, both...)...)
	if !strings.Contains(errs, `node "far": `) {
		t.Errorf("a second build that fails: %s", errs)
	}
	for id, record := range usage(t, shared) {
		if before[id] == "" && strings.Contains(record, "mkdir /late") {
			t.Errorf("left on the other node: %s", record)
		}
	}

	// The node that does not make the first build makes the second, unless it cannot.
	out, _ = runKedge(t, docker.env, exitOK, "verify", "--builder", "twins", "--locked", dir)
	if !regexp.MustCompile(`(?m)^first   builder unix://.*\nsecond  builder tcp://`).MatchString(out) {
		t.Errorf("twins: %s", out)
	}
	docker.do(t, buildx, "create", "--name", "lame", "--driver", "remote", "--node", "near", shared.Addr)
	docker.do(t, buildx, "create", "--name", "lame", "--append", "--node", "gone", "tcp://127.0.0.1:1")
	out, errs = runKedge(t, docker.env, exitOK, "verify", "--builder", "lame", "--locked", dir)
	if strings.Contains(out, "second  builder") || !strings.Contains(errs, `node "gone" does not make the second build`) {
		t.Errorf("a node that is gone: %s%s", out, errs)
	}
}
