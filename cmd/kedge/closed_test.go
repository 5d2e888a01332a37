package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kedge-build/kedge/internal/testenv"
)

// trust writes the certificate of a server to a file, for --downloads-ca. It is for example.com and the hosts below.
func trust(t *testing.T, s *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "origin.pem")
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// A closed is a builder and kedge in a network without a route, where the builder has nothing at first.
type closed struct {
	*testenv.Namespace
	builder string
	program string
	env     []string
}

// newClosed has kedge use the data folder of env, which is all that comes in.
func newClosed(t *testing.T, env []string) *closed {
	t.Helper()
	c := &closed{Namespace: testenv.NewNamespace(t), env: env, program: filepath.Join(t.TempDir(), "kedge")}
	c.builder = testenv.StartBuildkitd(t, testenv.BuildkitdOptions{Namespace: c.Namespace}).Addr
	exe, err := os.Executable()
	if err == nil {
		err = os.Symlink(exe, c.program)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// reaches reports whether a program in the namespace can connect to a server.
func (c *closed) reaches(t *testing.T, s *httptest.Server) bool {
	t.Helper()
	host, port, _ := strings.Cut(s.Listener.Addr().String(), ":")
	open := []string{"bash", "-c", "exec 3<>/dev/tcp/" + host + "/" + port}
	return c.Command(open...).Run() == nil
}

// build builds dir without anything but what kedge has kept, and returns the digest.
func (c *closed) build(t *testing.T, dir string, flags ...string) string {
	t.Helper()
	cmd := c.Command(append([]string{c.program, "build", "--offline", "--no-cache", "--builder", c.builder, dir}, flags...)...)
	cmd.Env = slices.Concat([]string{"PATH=" + os.Getenv("PATH"), "BUILDKIT_PROGRESS=plain", "BUILDX_NO_DEFAULT_LOAD=1"}, c.env)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("in a closed network: %v\n%s", err, &stderr)
	}
	return digestOf(t, stdout.String())
}

// deb returns a Debian package of a version, and the index of an archive that has nothing else.
func deb(t *testing.T, version string) (file, index []byte) {
	t.Helper()
	testenv.Require(t, "dpkg-deb")
	control := "Package: kedgedep\nVersion: " + version + "\nArchitecture: all\nMaintainer: kedge <kedge@example.com>\nDescription: a package\n"
	dir := write(t, map[string]string{"DEBIAN/control": control, "usr/share/kedgedep": version})
	to := filepath.Join(t.TempDir(), "deb")
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "-b", dir, to).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	file, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return file, fmt.Appendf(nil, "%sFilename: ./kedgedep_%s_all.deb\nSize: %d\nSHA256: %x\n", control, version, len(file), sha256.Sum256(file))
}

// TestClosedNetwork records how a package is installed by https, and installs it with a builder that has nothing and without a
// network. The image is the same with a network, although the archive has another version then, which a refresh reports.
func TestClosedNetwork(t *testing.T) {
	_, shared := testenv.Shared(t)
	var asked atomic.Int64
	var files sync.Map
	publish := func(version string) {
		file, index := deb(t, version)
		files.Clear()
		files.Store("/kedgedep_"+version+"_all.deb", file)
		files.Store("/Packages", index)
	}
	publish("1.0")
	origin := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if data, ok := files.Load(path.Clean(r.URL.Path)); ok {
			_, _ = w.Write(data.([]byte))
		} else {
			http.NotFound(w, r)
		}
	}))
	defer origin.Close()
	_, port, _ := strings.Cut(origin.Listener.Addr().String(), ":")
	dir := write(t, map[string]string{"Dockerfile": strings.ReplaceAll(`FROM debian:bookworm-slim
RUN echo 'deb [trusted=yes] https://apt.example.com:PORT ./' >/apt.list && o='-o Dir::Etc::sourcelist=/apt.list -o Dir::Etc::sourceparts=-' \
 && apt-get $o update && apt-get $o install -y kedgedep
USER nobody
RUN /usr/lib/apt/apt-helper download-file https://apt.example.com:PORT/Packages /tmp/Packages
`, "PORT", port)})
	env := []string{"HOME=" + t.TempDir()}
	lock := []string{"lock", "--downloads", "--builder", shared.Addr, "--add-host", "apt.example.com:127.0.0.1", "--downloads-ca", trust(t, origin), dir}
	runKedge(t, env, exitOK, lock...)
	once := asked.Load()

	away := newClosed(t, env)
	if away.reaches(t, origin) {
		t.Fatal("the network is not closed")
	}
	want := away.build(t, dir)

	publish("1.1")
	out, _ := runKedge(t, env, exitOK, "build", "--locked", "--builder", shared.Addr, dir)
	if got := digestOf(t, out); got != want || asked.Load() != once {
		t.Errorf("after a change of the archive: %s, in a closed network: %s; %d requests", got, want, asked.Load()-once)
	}
	out, _ = runKedge(t, env, exitOK, append(lock, "--refresh")...)
	if !regexp.MustCompile(`changed +deb +kedgedep +1\.0 -> 1\.1`).MatchString(out) {
		t.Errorf("a refresh does not report the change: %s", out)
	}
}
