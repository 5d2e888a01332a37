package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kedge-build/kedge/internal/testenv"
)

// TestRulesOfNpm checks that packages that npm installs are the same each time without its logs and with its cache in one
// form, from which npm installs again without a network.
func TestRulesOfNpm(t *testing.T) {
	registry, buildkitd := testenv.Shared(t)
	testenv.Debian(t, registry)
	data, env, packages := filepath.Join("testdata", "rules", "npm"), []string{"HOME=" + t.TempDir()}, npmRegistry(t)
	build := func(dir string, args ...string) string {
		t.Helper()
		lock := filepath.Join(t.TempDir(), "lock")
		args = append([]string{"build", "--builder", buildkitd.Addr, "--lockfile", lock, "--build-arg", "REGISTRY=" + packages, "--format=json"}, args...)
		out, _ := runKedge(t, env, 0, append(args, filepath.Join(data, dir))...)
		return out
	}
	build("install", "--push", "-t", registry.Ref("test/npm-installed:1"))
	var left normalisedImage
	if err := json.Unmarshal([]byte(build("leave", "--verify", "--push", "-t", registry.Ref("test/npm-left:1"))), &left); err != nil {
		t.Fatal(err)
	}
	for rule, name := range map[string]string{"npm-cache": "root/.npm/_cacache/index-v5", "npm-logs": "root/.npm/_logs"} {
		if !left.touched(rule, name) {
			t.Errorf("%s did nothing to %s, but to %q", rule, name, left.paths(rule))
		}
		for _, path := range left.paths(rule) {
			if !strings.HasPrefix(path, "/"+name) {
				t.Errorf("%s is about %s, too", rule, path)
			}
		}
	}
	build("use", "--no-cache")
}

// npmRegistry serves a registry for npm, with one package, and returns its URL.
func npmRegistry(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for _, f := range [][2]string{
		{"package/package.json", `{"name":"kedgedep","version":"1.0.0","main":"index.js"}`},
		{"package/index.js", "module.exports = 7\n"},
	} {
		if err := tw.WriteHeader(&tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, f[1]); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range []io.Closer{tw, zw} {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/kedgedep", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"name":"kedgedep","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"kedgedep","version":"1.0.0","dist":{"tarball":"http://%s/kedgedep/-/kedgedep-1.0.0.tgz"}}}}`, r.Host)
	})
	mux.HandleFunc("/kedgedep/-/kedgedep-1.0.0.tgz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b.Bytes()) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}
