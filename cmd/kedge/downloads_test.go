package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kedge-build/kedge/internal/testenv"
)

// A record of downloads gives one image on builders that have nothing in common: without root, and in an Engine whose
// steps have no network at all. One step heeds proxies. The other is not root, ignores them, and looks its host up.
func TestDownloadsOnEveryBuilder(t *testing.T) {
	registry, shared := testenv.Shared(t)
	engine := testenv.StartDockerd(t, testenv.DockerdOptions{Modern: true, Registry: registry})
	files := testenv.NewFiles(t)
	url := files.Set("/tool", "the tool", time.Time{})
	_, port, _ := strings.Cut(strings.TrimPrefix(strings.TrimSuffix(url, "/tool"), "http://"), ":")
	dockerfile := strings.ReplaceAll(`FROM debian:bookworm-slim
RUN /usr/lib/apt/apt-helper download-file http://files.test:PORT/tool /got && cat /got >/tool && rm /got
USER nobody
RUN ["bash", "-c", "exec 3<>/dev/tcp/files.test/80 && printf 'GET /tool HTTP/1.1\\r\\nHost: files.test:PORT\\r\\nConnection: close\\r\\n\\r\\n' >&3 && grep -q 'the tool' <&3 && test $(id -u) != 0 && ! env | grep GOTRACEBACK"]
`, "PORT", port)
	dir := write(t, map[string]string{"Dockerfile": dockerfile})
	host := []string{"--add-host", "files.test:127.0.0.1"}
	runKedge(t, nil, exitOK, append([]string{"lock", "--downloads", "--builder", shared.Addr, dir}, host...)...)
	// Each run has a cache of its own: the body comes from the server once more, and is checked.
	out, _ := runKedge(t, nil, exitOK, append([]string{"build", "--locked", "--builder", shared.Addr, dir}, host...)...)
	want := digestOf(t, out)

	docker := newDockerHome(t, "DOCKER_HOST="+engine.Host)
	out, _ = runKedge(t, append(docker.env, "BUILDX_BUILDER=default"), exitOK, append([]string{"verify", "--locked", dir}, host...)...)
	if got := digestOf(t, out); got != want {
		t.Errorf("in an Engine: %s, not %s", got, want)
	}
	u := newUser(t, registry)
	for _, name := range []string{"Dockerfile", "Dockerfile.lock", "Dockerfile.downloads"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		u.put(t, "app/"+name, string(data))
	}
	out, _ = u.kedge(t, nil, exitOK, append([]string{"build", "--locked", "app"}, host...)...)
	if got := digestOf(t, out); got != want {
		t.Errorf("without root: %s, not %s", got, want)
	}
}
