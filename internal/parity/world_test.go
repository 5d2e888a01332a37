package parity

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/ssh/agent"

	"github.com/kedge-build/kedge/internal/testenv"
)

// The programs that RUN steps of the cases can use.
var tools = []string{
	"cat", "chmod", "chown", "cp", "date", "df", "echo", "env", "head", "id", "ln", "ls", "mkdir", "mkfifo", "mknod",
	"mv", "rm", "sha256sum", "sleep", "sort", "stat", "touch", "tr", "uname", "wc",
}

// created is the creation time of the cases' base images.
var created = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

// pushImages pushes the base images: shell, which has a shell and the tools, and configured, whose
// configuration has every field that derived images inherit.
func (w *world) pushImages(t *testing.T) {
	t.Helper()
	shell := shellImage(t, testenv.Debian(t, w.registry))
	w.registry.Push(t, "library/shell:latest", shell)
	file, err := shell.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config := file.Config
	config.Env = append(slices.Clone(config.Env), "FROM_BASE=yes")
	config.Labels = map[string]string{"base": "yes"}
	config.ExposedPorts = map[string]struct{}{"80/tcp": {}}
	config.Volumes = map[string]struct{}{"/data": {}}
	config.User = "33"
	config.WorkingDir = "/srv"
	config.Entrypoint = []string{"/bin/sh"}
	config.Cmd = []string{"-c", "true"}
	config.StopSignal = "SIGINT"
	config.OnBuild = []string{"LABEL onbuild=yes"}
	configured, err := mutate.Config(shell, config)
	if err != nil {
		t.Fatal(err)
	}
	w.registry.Push(t, "library/configured:latest", configured)
}

// shellImage returns an image with the files of Debian that a shell needs.
func shellImage(t *testing.T, debian v1.Image) v1.Image {
	t.Helper()
	wanted := map[string]bool{"sh": true, "dash": true}
	for _, name := range tools {
		wanted[name] = true
	}
	var layer bytes.Buffer
	out := tar.NewWriter(&layer)
	r := mutate.Extract(debian)
	defer r.Close()
	libraries := []string{"libc.so.", "ld-linux", "libselinux.so.", "libpcre2-8.so.", "libacl.so.", "libattr.so.", "libcrypto.so.", "libz.so.", "libm.so."}
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		base := path.Base(name)
		take := h.Typeflag == tar.TypeDir && strings.Count(name, "/") < 2 && !strings.HasPrefix(name, "var/")
		take = take || h.Typeflag == tar.TypeSymlink && !strings.Contains(name, "/")
		take = take || name == "usr/lib/x86_64-linux-gnu" || name == "etc/passwd" || name == "etc/group"
		take = take || path.Dir(name) == "usr/bin" && wanted[base]
		take = take || strings.HasPrefix(name, "usr/lib") && slices.ContainsFunc(libraries, func(p string) bool { return strings.HasPrefix(base, p) })
		if !take {
			continue
		}
		if err := out.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(out, in); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	content := layer.Bytes()
	made, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestSpeed))
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.Append(testenv.Scratch(t, "amd64"), mutate.Addendum{
		Layer: made, History: v1.History{Created: v1.Time{Time: created}, CreatedBy: "shell"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.Config(img, v1.Config{Env: []string{"PATH=/usr/bin"}, Cmd: []string{"sh"}}); err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.CreatedAt(img, v1.Time{Time: created}); err != nil {
		t.Fatal(err)
	}
	return img
}

// The context on the servers and on standard input.
var served = map[string]string{
	"Dockerfile":     "FROM tiny\nCOPY hello /hello\n",
	"hello":          "hello\n",
	"sub/Dockerfile": "FROM tiny\nCOPY hello /from-sub\n",
	"sub/hello":      "hello from below\n",
	"other.docker":   "FROM tiny\nCOPY sub/hello /other\n",
}

// serve adds the content for the cases to the git server and the file server.
func (w *world) serve(t *testing.T) {
	t.Helper()
	git := testenv.NewGit(t)
	w.vars["COMMIT"] = git.Commit(t, "main", served)
	git.Tag(t, "v1", w.vars["COMMIT"])
	git.Commit(t, "next", map[string]string{"Dockerfile": "FROM tiny\nCOPY hello /next\n", "hello": "hello, next\n"})
	w.vars["GIT"] = git.URL
	files := testenv.NewFiles(t)
	files.Set("/context.tar", tarOf(served), created)
	files.Set("/context.tar.gz", compressed(t, "gzip", tarOf(served)), created)
	files.Set("/Dockerfile", "FROM tiny\nLABEL from=http\n", created)
	files.Set("/file", "from http\n", created)
	w.vars["FILES"] = files.URL
	w.vars["AGENT"] = agentSocket(t)
}

// tarOf returns a tar of files.
func tarOf(files map[string]string) string {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		// Neither fails, since the header is well-formed and the writer is memory.
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), ModTime: created})
		_, _ = io.WriteString(w, files[name])
	}
	_ = w.Close()
	return b.String()
}

// compressed returns content after compression by a program.
func compressed(t testing.TB, program, content string) string {
	t.Helper()
	testenv.Require(t, program)
	cmd := exec.CommandContext(t.Context(), program, "-c")
	cmd.Stdin = strings.NewReader(content)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", program, err)
	}
	return string(out)
}

// stdin returns the standard input of a Case.
func stdin(t testing.TB, name string) string {
	switch name {
	case "tar":
		return tarOf(served)
	case "gzip", "bzip2", "xz":
		return compressed(t, name, tarOf(served))
	}
	return name
}

// agentSocket starts an ssh agent without keys.
func agentSocket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "parity-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "agent"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = agent.ServeAgent(agent.NewKeyring(), conn)
			}()
		}
	}()
	return l.Addr().String()
}
