package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kedge-build/kedge/internal/debian"
	"github.com/kedge-build/kedge/internal/testenv"
)

// ruled are the paths that testdata/rules/leave creates, by the rule about them.
var ruled = map[string]string{
	"repeats":                 "etc/debian_version",
	"whiteout-of-nothing":     "var/cache/ldconfig/.wh.aux-cache",
	"package-manager-logs":    "var/log/dpkg.log",
	"system-logs":             "var/log/fontconfig.log",
	"login-records":           "var/log/wtmp",
	"ldconfig-aux-cache":      "var/cache/ldconfig/aux-cache",
	"package-manager-caches":  "var/cache/apt/pkgcache.bin",
	"package-manager-backups": "var/lib/dpkg/status-old",
	"password-dates":          "etc/shadow",
	"machine-id":              "etc/machine-id",
	"dbus-machine-id":         "var/lib/dbus/machine-id",
	"random-seeds":            "var/lib/systemd/random-seed",
	"fontconfig-caches":       "var/cache/fontconfig",
	"man-caches":              "var/cache/man",
	"language-caches":         "root/.cpan/Metadata",
	"histories":               "root/.wget-hsts",
	"tmp-leftovers":           "tmp/hsperfdata_root/1",
	"python-bytecode":         "opt/app/__pycache__",
	"apk-scripts":             "usr/lib/apk/db/scripts.tar",
	"gzip-header":             "opt/data.gz",
	"zip-header":              "opt/data.zip",
	"git-index":               "opt/git/clone/.git/index",
	"git-reflog":              "opt/git/clone/.git/logs/HEAD",
	"erlang-cookie":           "root/.erlang.cookie",
	"gem-temp-names":          "var/lib/gems",
	"pnpm-times":              "opt/pnpm/node_modules/.modules.yaml",
	"java-trust-store":        "etc/ssl/certs/java/cacerts",
	"configure-logs":          "opt/configured/config.log",
	"build-logs":              "var/lib/gems",
	"crontab-date":            "var/spool/cron/crontabs/root",
	"autoconf-cache":          "opt/configured/autom4te.cache/requests",
	"fontconfig-ids":          "usr/share/fonts/.uuid",
	"language-cache-folders":  "root/.cpanm/work/1795469268.123",
	"go-cache":                "root/.cache/go-build/trim.txt",
	"go-telemetry":            "root/.config/go/telemetry/local/go@1.count",
	"maven-times":             "root/.m2/repository/a/_remote.repositories",
	"ninja-log":               "opt/ninja/.ninja_log",
	"ninja-deps":              "opt/ninja/.ninja_deps",
	"sphinx-cache":            "opt/sphinx/.doctrees/environment.pickle",
	"gnupg-times":             "root/.gnupg/pubring.kbx",
	"update-checks":           "root/.config/configstore/update-notifier-a.json",
	"cargo-fingerprints":      "opt/cargo/target/debug/.fingerprint/a-0a1b2c3d4e5f6071/run-build-script-build-script-build.json",
}

// alsoRuled are further paths of rules.
var alsoRuled = map[string][]string{
	"gnupg-times":     {"root/.gnupg/trustdb.gpg"},
	"git-index":       {"opt/git/origin/.git/index", "opt/git/clone/.git/modules/sub/index", "opt/git/clone/.git/worktrees/tree/index"},
	"language-caches": {"root/.cache/pip"},
	"git-reflog":      {"opt/git/clone/.git/modules/sub/logs/HEAD", "opt/git/clone/.git/worktrees/tree/logs/HEAD"},
}

// absent are rules that find nothing in a release: bullseye's pip keeps nothing of a server without a certificate,
// and after bookworm logins are in another file, and gems are built in a folder with a fixed name.
var absent = map[string][]string{
	"bullseye": {"language-caches"}, "trixie": {"login-records", "gem-temp-names"}, "sid": {"login-records", "gem-temp-names"},
}

// A rulesBuild builds a folder of testdata/rules with an epoch in 2024, and pushes the image.
type rulesBuild struct {
	registry *testenv.Registry
	builder  string
	env      []string
	index    string // a package index for pip
	hsts     string // a server that requires https from then on
}

func (b *rulesBuild) run(t *testing.T, dir, tag, normalize string) normalisedImage {
	t.Helper()
	lock := filepath.Join(t.TempDir(), "lock") // not beside the Dockerfile
	out, _ := runKedge(t, b.env, 0, "build", "--builder", b.builder, "--lockfile", lock, "--source-date-epoch", "1704067200",
		"--build-arg", "INDEX="+b.index, "--build-arg", "HSTS="+b.hsts, "--normalize="+normalize, "--format=json", "--push", "-t", b.registry.Ref(tag), dir)
	var img normalisedImage
	if err := json.Unmarshal([]byte(out), &img); err != nil {
		t.Fatal(err)
	}
	return img
}

// files returns the content of the files in the layers of an image, but for the lowest n.
func (b *rulesBuild) files(t *testing.T, tag string, n int) (files map[string]string, layers int) {
	t.Helper()
	img, err := b.registry.Get(t, tag).Image()
	if err != nil {
		t.Fatal(err)
	}
	all, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	for _, layer := range all[n:] {
		r, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for tr := tar.NewReader(r); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if h.Typeflag != tar.TypeReg {
				continue
			}
			content, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			files[h.Name] = string(content)
		}
		r.Close()
	}
	return files, len(all)
}

var check = regexp.MustCompile(`(?m)^#\d+ [\d.]+ (check .*: (ok|failed)|checks: done)$`)

// TestRules installs programs that rules are about, makes them create the files that rules drop, and runs them
// afterwards: no program needs those files. If a rule is off, or a comment keeps a file, the file is there.
// $KEDGE_TEST_RELEASE chooses another release of Debian than bookworm.
func TestRules(t *testing.T) {
	registry, buildkitd := testenv.Shared(t)
	release := cmp.Or(os.Getenv("KEDGE_TEST_RELEASE"), debian.Bookworm)
	base := testenv.DebianRelease(t, registry, release)
	for year, name := range map[int]string{2023: "older", 2025: "newer"} {
		when := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
		base = testenv.Derive(t, base, when, map[string]string{"opt/base/" + name + ".py": "value = 1\n"})
	}
	registry.Push(t, "test/rules-base:1", base)
	b := &rulesBuild{registry, buildkitd.Addr, []string{"HOME=" + t.TempDir()}, packageIndex(t), strictServer(t)}
	data := filepath.Join("testdata", "rules")
	ruled := maps.Clone(ruled)
	for _, rule := range absent[release] {
		delete(ruled, rule)
	}

	installed := b.run(t, filepath.Join(data, "install"), "test/rules-installed:1", "all")
	for rule, name := range map[string]string{
		"package-manager-logs": "var/log/apt/history.log", "ldconfig-aux-cache": "var/cache/ldconfig/aux-cache",
		"machine-id": "etc/machine-id", "python-bytecode": "usr/lib/python3",
		"java-trust-store": "etc/ssl/certs/java/cacerts",
	} {
		if !installed.touched(rule, name) {
			t.Errorf("installing: %s did nothing to %s, but to %q", rule, name, installed.paths(rule))
		}
	}
	_, n := b.files(t, "test/rules-installed:1", 0)
	left := b.run(t, filepath.Join(data, "leave"), "test/rules-left:1", "all")
	files, _ := b.files(t, "test/rules-left:1", n)
	for rule, name := range ruled {
		repeats := slices.Contains(emptied, rule) && left.touched("repeats", name)
		if !left.touched(rule, name) && !repeats {
			t.Errorf("%s did nothing to %s, but to %q", rule, name, left.paths(rule))
		}
	}

	for rule, names := range alsoRuled {
		for _, name := range names {
			if !slices.Contains(absent[release], rule) && !left.touched(rule, name) {
				t.Errorf("%s did nothing to %s, but to %q", rule, name, left.paths(rule))
			}
		}
	}

	t.Run("use", func(t *testing.T) {
		t.Parallel()
		_, log := runKedge(t, b.env, 0, "build", "--no-cache", "--builder", b.builder, "--lockfile", filepath.Join(t.TempDir(), "lock"),
			"--build-arg", "INDEX="+b.index, "--build-arg", "HSTS="+b.hsts, filepath.Join(data, "use"))
		script, err := os.ReadFile(filepath.Join(data, "use", "check.sh"))
		if err != nil {
			t.Fatal(err)
		}
		done := check.FindAllStringSubmatch(log, -1)
		if want := strings.Count(string(script), "\ncheck ") + 9; len(done) < want || strings.Contains(log, ": failed") {
			t.Errorf("%d checks of %d:\n%s", len(done), want, log)
		}
	})
	t.Run("git", func(t *testing.T) {
		t.Parallel()
		git := testenv.NewGit(t)
		git.Commit(t, "main", map[string]string{"a": "1\n", "dir/b": "2\n"})
		git.Tag(t, "v1", git.Commit(t, "main", map[string]string{"a": "2\n"}))
		runKedge(t, b.env, 0, "verify", "--builder", b.builder, "--lockfile", filepath.Join(t.TempDir(), "lock"), "--build-arg", "GIT="+git.URL, filepath.Join(data, "git"))
	})
	for rule, name := range ruled {
		t.Run("without "+rule, func(t *testing.T) {
			t.Parallel()
			without := b.run(t, filepath.Join(data, "leave"), "test/rules-without:"+rule, "-"+rule)
			if paths := without.paths(rule); len(paths) > 0 {
				t.Errorf("the rule is on: %q", paths)
			}
			there, _ := b.files(t, "test/rules-without:"+rule, n)
			if !differs(there, files, name) {
				t.Errorf("%s is as it is with the rule", name)
			}
		})
	}
	t.Run("kept", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(filepath.Join(data, "leave"))); err != nil {
			t.Fatal(err)
		}
		dockerfile, err := os.ReadFile(filepath.Join(dir, "Dockerfile"))
		if err != nil {
			t.Fatal(err)
		}
		// All rules but those that are not about single files.
		paths := maps.Clone(ruled)
		delete(paths, "repeats")
		delete(paths, "whiteout-of-nothing")
		comment := "# kedge: keep=/" + strings.Join(slices.Sorted(maps.Values(paths)), " /") + "\n"
		text := strings.ReplaceAll(string(dockerfile), "\nRUN ", "\n"+comment+"RUN ")
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		kept := b.run(t, dir, "test/rules-kept:1", "all")
		there, _ := b.files(t, "test/rules-kept:1", n)
		for rule, name := range paths {
			if kept.touched(rule, name) || !differs(there, files, name) {
				t.Errorf("%s: %s is not kept", rule, name)
			}
		}
	})
}

// emptied are rules after which a file may be the same as in the base image.
var emptied = []string{"machine-id", "dbus-machine-id", "login-records"}

// differs reports whether a file, or one below a folder, is in a but not in b, or has other content.
func differs(a, b map[string]string, name string) bool {
	for p, content := range a {
		if was, ok := b[p]; (p == name || strings.HasPrefix(p, name+"/")) && (!ok || was != content) {
			return true
		}
	}
	return false
}

// A normalisedImage is the output of kedge build --format json.
type normalisedImage struct {
	Digest     string
	Normalised map[string]map[string][]string
}

// paths returns the paths that a rule dropped or changed.
func (n normalisedImage) paths(rule string) []string {
	var all []string
	for _, rules := range n.Normalised {
		all = append(all, rules[rule]...)
	}
	return all
}

// touched reports whether a rule dropped or changed a path or one below it.
func (n normalisedImage) touched(rule, name string) bool {
	return slices.ContainsFunc(n.paths(rule), func(p string) bool { return p == "/"+name || strings.HasPrefix(p, "/"+name+"/") })
}

// strictServer serves a page by https with an HSTS header, and returns its URL. Clients remember HSTS only for names,
// not for addresses.
func strictServer(t *testing.T) string {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Strict-Transport-Security", "max-age=31536000")
		_, _ = io.WriteString(w, "strict\n")
	}))
	t.Cleanup(server.Close)
	return strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
}

// packageIndex serves an index for pip, with one package that may be cached, and returns its URL.
func packageIndex(t *testing.T) string {
	t.Helper()
	const wheel = "kedgemod-1.0-py3-none-any.whl"
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range [][2]string{
		{"kedgemod.py", "value = 1\n"},
		{"kedgemod-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: kedgemod\nVersion: 1.0\n"},
		{"kedgemod-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: kedge\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{"kedgemod-1.0.dist-info/RECORD", "kedgemod.py,,\nkedgemod-1.0.dist-info/METADATA,,\nkedgemod-1.0.dist-info/WHEEL,,\nkedgemod-1.0.dist-info/RECORD,,\n"},
	} {
		part, err := w.Create(f[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(part, f[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/kedgemod/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, `<a href="`+wheel+`">`+wheel+`</a>`)
	})
	mux.HandleFunc("/kedgemod/"+wheel, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		_, _ = w.Write(b.Bytes())
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}
