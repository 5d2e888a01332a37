package policy

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/sourcepolicy"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
)

const (
	one    = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	two    = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	three  = "sha256:3333333333333333333333333333333333333333333333333333333333333333"
	commit = "4444444444444444444444444444444444444444"
	other  = "5555555555555555555555555555555555555555"
)

func locked(t testing.TB) *lock.File {
	t.Helper()
	f := &lock.File{Target: "app"}
	for s, pin := range map[lock.Source]string{
		{Kind: lock.Image, Ref: "docker.io/library/debian:12"}:                 one,
		{Kind: lock.Image, Ref: "docker.io/library/alpine@" + two}:             two,
		{Kind: lock.Image, Ref: "docker.io/library/busybox:1@" + two}:          two,
		{Kind: lock.Local, Ref: "docker.io/library/base:1"}:                    one,
		{Kind: lock.URL, Ref: "https://example.com/a*b.tar?x=1&y=$2"}:          three,
		{Kind: lock.Git, Ref: "https://example.com/team/app.git#main"}:         commit,
		{Kind: lock.Git, Ref: "https://example.com/team/lib.git"}:              commit,
		{Kind: lock.Git, Ref: "ssh://git@example.com/team/tool.git#$v*1"}:      commit,
		{Kind: lock.Git, Ref: "https://example.com/team/app.git#" + commit}:    commit,
		{Kind: lock.Git, Ref: "https://example.com/team/app.git#refs/tags/v1"}: other,
	} {
		if err := f.Add(s, pin); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// BuildKit's own engine decides with the policy. Want is the identifier after conversions, and empty if the
// source is denied.
func TestSource(t *testing.T) {
	data, err := Source(locked(t))
	if err != nil {
		t.Fatal(err)
	}
	var p spb.Policy
	if err := json.Unmarshal(data, &p); err != nil {
		t.Fatal(err)
	}
	const url = "https://example.com/a*b.tar?x=1&y=$2"
	git := func(remote string, more ...string) map[string]string {
		attrs := map[string]string{pb.AttrFullRemoteURL: remote}
		for i := 0; i < len(more); i += 2 {
			attrs[more[i]] = more[i+1]
		}
		return attrs
	}
	app, byCommit := "https://example.com/team/app.git", []string{pb.AttrGitChecksum, commit, pb.AttrGitFetchByCommit, "true"}
	for _, c := range []struct {
		name, id  string
		attrs     map[string]string
		want      string
		wantAttrs map[string]string
	}{
		{"tag", "docker-image://docker.io/library/debian:12", nil, "docker-image://docker.io/library/debian:12@" + one, nil},
		{"resolved tag", "docker-image://docker.io/library/debian:12@" + one, nil, "docker-image://docker.io/library/debian:12@" + one, nil},
		{"another digest", "docker-image://docker.io/library/debian:12@" + two, nil, "", nil},
		{"another tag", "docker-image://docker.io/library/debian:13", nil, "", nil},
		{"longer tag", "docker-image://docker.io/library/debian:12.1", nil, "", nil},
		{"digest", "docker-image://docker.io/library/alpine@" + two, nil, "docker-image://docker.io/library/alpine@" + two, nil},
		{"tag and digest", "docker-image://docker.io/library/busybox:1@" + two, nil, "docker-image://docker.io/library/busybox:1@" + two, nil},
		{"tag of a digest", "docker-image://docker.io/library/busybox:1", nil, "", nil},
		{"image of this machine", "docker-image://docker.io/library/base:1", nil, "", nil},
		{"blob", "docker-image+blob://docker.io/library/debian@" + one, nil, "", nil},
		{"URL", url, nil, url, map[string]string{pb.AttrHTTPChecksum: three}},
		{"URL with its checksum", url, map[string]string{pb.AttrHTTPChecksum: three}, url, map[string]string{pb.AttrHTTPChecksum: three}},
		{"URL with another checksum", url, map[string]string{pb.AttrHTTPChecksum: one}, "", nil},
		{"URL like a pattern", "https://example.com/aXb.tar?x=1&y=$2", nil, "", nil},
		{"archive of the client", "http://buildkit-session/abc", nil, "http://buildkit-session/abc", nil},
		{"local", "local://context", nil, "local://context", nil},
		{"layout", "oci-layout://x@" + one, nil, "oci-layout://x@" + one, nil},
		{"branch", "git://example.com/team/app.git#main", git(app), "git://example.com/team/app.git#main", git(app, byCommit...)},
		{"folder of a branch", "git://example.com/team/app.git#main:a/b", git(app), "git://example.com/team/app.git#main:a/b", git(app, byCommit...)},
		{"longer branch", "git://example.com/team/app.git#main2", git(app), "", nil},
		{"branch with the commit", "git://example.com/team/app.git#main", git(app, pb.AttrGitChecksum, commit), "git://example.com/team/app.git#main", git(app, pb.AttrGitChecksum, commit)},
		{"branch with another commit", "git://example.com/team/app.git#main", git(app, pb.AttrGitChecksum, other), "", nil},
		{"other transport", "git://example.com/team/app.git#main", git("http://example.com/team/app.git"), "", nil},
		{"default branch", "git://example.com/team/lib.git", git("https://example.com/team/lib.git"), "git://example.com/team/lib.git", git("https://example.com/team/lib.git", byCommit...)},
		{"folder of the default branch", "git://example.com/team/lib.git#:a", git("https://example.com/team/lib.git"), "git://example.com/team/lib.git#:a", git("https://example.com/team/lib.git", byCommit...)},
		{"branch like a pattern", "git://example.com/team/tool.git#$v*1", git("ssh://git@example.com/team/tool.git"), "git://example.com/team/tool.git#$v*1", git("ssh://git@example.com/team/tool.git", byCommit...)},
		{"branch that the pattern matches", "git://example.com/team/tool.git#$vX1", git("ssh://git@example.com/team/tool.git"), "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			op := &pb.SourceOp{Identifier: c.id, Attrs: maps.Clone(c.attrs)}
			_, err := sourcepolicy.NewEngine([]*spb.Policy{&p}).Evaluate(context.Background(), op)
			if c.want == "" {
				if err == nil {
					t.Errorf("allowed: %v", op)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if op.Identifier != c.want || !maps.Equal(op.Attrs, c.wantAttrs) {
				t.Errorf("got %s %v, not %s %v", op.Identifier, op.Attrs, c.want, c.wantAttrs)
			}
		})
	}
}

// buildah refuses a rule that has no action, a conversion without an identifier, and regular expressions. It
// goes by the first rule that matches.
func TestSourceForBuildah(t *testing.T) {
	data, err := Source(locked(t))
	if err != nil {
		t.Fatal(err)
	}
	var p sourcePolicy
	if err := json.Unmarshal(data, &p); err != nil {
		t.Fatal(err)
	}
	denied := false
	for _, r := range p.Rules {
		denied = denied || r.Action == "DENY"
		switch {
		case r.Action == "" || r.Selector.Identifier == "" || r.Selector.MatchType == "REGEX":
			t.Errorf("buildah refuses %+v", r)
		case r.Action == "CONVERT" && (denied || r.Updates == nil || r.Updates.Identifier == ""):
			t.Errorf("buildah does not convert by %+v", r)
		}
	}
}

func TestOwn(t *testing.T) {
	f := locked(t)
	rego := Rego(f)
	if of, ok := Own(rego); !ok || of != Digest(f) {
		t.Fatalf("its own policy: %v, %v", of, ok)
	}
	if of, ok := Own(Rego(&lock.File{})); !ok || of != Digest(&lock.File{}) {
		t.Errorf("the policy of an empty lock: %v, %v", of, ok)
	}
	text := string(rego)
	for name, changed := range map[string]string{
		"empty":         "",
		"foreign":       "package docker\ndefault allow := true\n",
		"header only":   regoHeader,
		"one more rule": text + "allow := true\n",
		"other pin":     strings.Replace(text, one, two, 1),
		"no header":     strings.TrimPrefix(text, regoHeader),
		"before it":     "package docker\n" + text,
		"cut off":       text[:len(text)-1],
		"no digest":     strings.Replace(text, Digest(f).String(), "x", 1),
	} {
		if _, ok := Own([]byte(changed)); ok {
			t.Errorf("%s: taken for kedge's own", name)
		}
	}
}

func FuzzOwn(f *testing.F) {
	f.Add(Rego(locked(f)))
	f.Add([]byte(regoHeader + marker))
	f.Fuzz(func(t *testing.T, rego []byte) {
		if of, ok := Own(rego); ok && of.Validate() != nil {
			t.Errorf("digest %q", of)
		}
	})
}

func TestWriteRego(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "Dockerfile.rego")
	for _, f := range []*lock.File{{}, locked(t)} {
		if err := WriteRego(path, Rego(f)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, []byte("package docker\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := WriteRego(path, Rego(locked(t))); err == nil {
		t.Error("a foreign policy was replaced")
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "package docker\n" {
		t.Errorf("now %q, %v", got, err)
	}
	if err := WriteRego(dir, nil); err == nil {
		t.Error("a folder was replaced")
	}
}
