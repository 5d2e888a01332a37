package bake

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A definition may use the working folder, and other paths if the user allows them.
func TestCheck(t *testing.T) {
	top := t.TempDir()
	dir, outside := filepath.Join(top, "work"), filepath.Join(top, "outside")
	for _, folder := range []string{filepath.Join(dir, "sub"), filepath.Join(outside, "deep"), filepath.Join(top, "work-2")} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"link": outside, "deep": filepath.Join(outside, "deep"), "inside": "sub", "dangling": "../gone", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name, target string
		words, set   []string
		noPaths      bool
		want         []string // the flags that are missing
		err          string
	}{
		{name: "all is below", target: `"context": "sub", "contexts": {"a": "inside", "b": "docker-image://x", "c": "https://example.com/a.git"}, "output": [{"type": "local", "dest": "new/folder"}]`},
		{name: "a context outside", target: `"context": "../outside"`, want: []string{"fs.read=../outside"}},
		{name: "allowed", target: `"context": "../outside/deep"`, words: []string{"fs.read=../outside"}},
		{name: "all paths are allowed", target: `"context": "/", "output": [{"type": "local", "dest": "/tmp"}]`, words: []string{"fs=*"}},
		{name: "another one is allowed", target: `"context": "../outside"`, words: []string{"fs.read=../outside/deep", "fs.write=../outside"}, want: []string{"fs.read=../outside"}},
		{name: "a name that begins like the folder's", target: `"context": "../work-2"`, want: []string{"fs.read=../work-2"}},
		{name: "a link", target: `"context": "link"`, want: []string{"fs.read=../outside"}},
		{name: "above a link", target: `"context": "deep/.."`, want: []string{"fs.read=../outside"}},
		{name: "a link to nothing", target: `"output": [{"type": "local", "dest": "dangling/x"}]`, want: []string{"fs.write=.."}},
		{name: "a link to itself", target: `"context": "loop"`, err: "too many links"},
		{name: "above what is missing", target: `"output": [{"type": "local", "dest": "missing/../../outside/x"}]`, want: []string{"fs.write=../outside"}},
		{name: "a Dockerfile", target: `"dockerfile": "../outside/Dockerfile"`, want: []string{"fs.read=../outside"}},
		{name: "a named context", target: `"contexts": {"a": "cwd://../outside"}`, want: []string{"fs.read=../outside"}},
		{name: "a layout", target: `"contexts": {"a": "oci-layout://../outside:tag@sha256:0"}`, want: []string{"fs.read=../outside"}},
		{name: "a secret", target: `"secret": [{"id": "a", "src": "../outside/a"}]`, want: []string{"fs.read=../outside"}},
		{name: "a secret by its name", target: `"secret": [{"id": "../outside/a"}, {"id": "b", "env": "B"}]`, want: []string{"fs.read=../outside"}},
		{name: "caches", target: `"cache-from": [{"type": "local", "src": "../outside"}], "cache-to": [{"type": "local", "dest": "../work-2"}]`, want: []string{"fs.read=../outside", "fs.write=../work-2"}},
		{name: "--set names the paths", target: `"cache-from": [{"type": "local", "src": "../outside"}], "output": ["type=local,dest=../work-2"]`, set: []string{"*.cache-from=type=local,src=../outside", "*.output+=type=local,dest=../work-2"}},
		{name: "--set of something else", target: `"output": ["type=local,dest=../work-2"]`, set: []string{"*.args.output=dest=../work-2"}, want: []string{"fs.write=../work-2"}},
		{name: "keys of ssh", target: `"ssh": [{"id": "a", "paths": ["../outside/id"]}]`, want: []string{"fs.read=../outside"}},
		{name: "the agent", target: `"ssh": [{"id": "default"}]`, want: []string{"ssh"}},
		{name: "the agent, without paths", target: `"ssh": [{"id": "default"}], "context": "/"`, noPaths: true},
		{name: "a privileged RUN", target: `"entitlements": ["security.insecure", "device=a"]`, noPaths: true, want: []string{"device=a", "security.insecure"}},
		{name: "a privileged RUN is allowed", target: `"entitlements": ["security.insecure", "device=a"]`, words: []string{"security.insecure", "device"}},
		{name: "--set has the entitlement", target: `"entitlements": ["network.host"]`, set: []string{"*.entitlements=network.host"}},
		{name: "the machine's network", target: `"network": "host"`, want: []string{"network.host"}},
		{name: "files are deleted", target: `"output": [{"type": "local", "dest": "sub", "mode": "delete"}]`, want: []string{"buildx.local.delete"}},
		{name: "they may be", target: `"output": [{"type": "local", "dest": "sub", "mode": "delete"}]`, words: []string{"buildx.local.delete"}},
		{name: "a value", words: []string{"buildx.local.delete=true"}, err: "buildx.local.delete does not accept a value"},
		{name: "no entitlement", words: []string{"everything"}, err: `unknown entitlement key "everything"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, err := Parse(fmt.Appendf(nil, `{"target": {"default": {%s}}}`, test.target), dir, "")
			if err != nil {
				t.Fatal(err)
			}
			err = d.Check(Allowed{Words: test.words, Set: test.set, Paths: !test.noPaths})
			e := &PrivilegeError{}
			if !errors.As(err, &e) {
				if test.err == "" && err != nil || !strings.Contains(fmt.Sprint(err), test.err) {
					t.Errorf("%v, not %q", err, test.err)
				}
			}
			for i := range e.Flags {
				e.Flags[i] = strings.TrimPrefix(e.Flags[i], "--allow=")
			}
			if !slices.Equal(e.Flags, test.want) || len(e.Needs) != len(test.want) {
				t.Errorf("needs %q (%q), not %q", e.Flags, e.Needs, test.want)
			}
		})
	}
}

// A folder of a definition in a repository is one of the repository.
func TestRemoteContexts(t *testing.T) {
	for _, test := range []struct{ url, context, want string }{
		{"https://example.com/a.git", "./files/", "https://example.com/a.git#:files"},
		{"https://example.com/a.git#v1:sub", "files", "https://example.com/a.git#v1:sub/files"},
		{"https://example.com/a.git#v1:sub", ".", "https://example.com/a.git#v1:sub"},
		{"https://example.com/a.git#v1", "../../etc", "https://example.com/a.git#v1:etc"},
		{"https://example.com/a.git?ref=v1&subdir=sub", "files", "https://example.com/a.git?ref=v1&subdir=sub%2Ffiles"},
		{"git@example.com:a.git", "files", "git@example.com:a.git#:files"},
		{"https://example.com/a.git", "cwd://files", "files"},
		{"https://example.com/a.git", "docker-image://debian", "docker-image://debian"},
		{"", "files", "files"},
	} {
		d := &Definition{url: test.url}
		if got, err := d.context(test.context); err != nil || got != test.want {
			t.Errorf("%s of %s: %q, %v, not %q", test.context, test.url, got, err, test.want)
		}
	}
	if _, err := (&Definition{url: "https://example.com/a.tar"}).context("files"); err == nil {
		t.Error("a folder of an archive")
	}
	d, err := Parse([]byte(`{"target": {"default": {"context": "https://example.com/a.git", "dockerfile": "cwd://app.Dockerfile"}}}`), "/work", "https://example.com/a.git")
	if err != nil || d.Targets[0].Dockerfile != "/work/app.Dockerfile" {
		t.Errorf("%v, %v", d, err)
	}
}

func TestParseJobs(t *testing.T) {
	for word, want := range map[string]Jobs{
		"": {}, "3": {Parallel: 3}, "fail-fast": {FailFast: true}, "defer-error,parallel=2": {Parallel: 2}, "mode=fail-fast,parallel=0": {FailFast: true},
	} {
		if got, err := ParseJobs(word); err != nil || got != want {
			t.Errorf("%q: %v, %v", word, got, err)
		}
	}
	for word, want := range map[string]string{
		"defer-output": "kedge writes", "slow": `invalid jobs mode "slow"`, "parallel=-1": "non-negative", "-1": "non-negative", "a=b": `unknown jobs option "a"`, "fail-fast,defer-error": "duplicate",
	} {
		if _, err := ParseJobs(word); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", word, err)
		}
	}
}
