package builder

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestParseContext(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"dir", "github.com/o/r"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("file", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	git := func(ref string) lock.Source { return lock.Source{Kind: lock.Git, Ref: ref} }
	tests := []struct {
		value  string
		want   Context
		source lock.Source
	}{
		{".", Context{Dir: "."}, lock.Source{}},
		{"dir", Context{Dir: "dir"}, lock.Source{}},
		{"github.com/o/r", Context{Dir: "github.com/o/r"}, lock.Source{}},
		{"github.com/o/other#v1", Context{URL: "github.com/o/other#v1"}, git("https://github.com/o/other#v1")},
		{"https://example.com/r.git#v1:sub", Context{URL: "https://example.com/r.git#v1:sub"}, git("https://example.com/r.git#v1")},
		{"https://me:secret@example.com/r.git?ref=v1&subdir=sub", Context{URL: "https://me:secret@example.com/r.git?ref=v1&subdir=sub"}, git("https://example.com/r.git#v1")},
		{"https://example.com/r.git?tag=v1", Context{URL: "https://example.com/r.git?tag=v1"}, git("https://example.com/r.git#refs/tags/v1")},
		{"git://example.com/r", Context{URL: "git://example.com/r"}, git("git://example.com/r")},
		{"git@example.com:o/r.git#v1", Context{URL: "git@example.com:o/r.git#v1"}, git("git@example.com:o/r.git#v1")},
		{"ssh://git@example.com/o/r#v1", Context{URL: "ssh://git@example.com/o/r#v1"}, git("ssh://git@example.com/o/r#v1")},
		{"https://example.com/c.tar?x=y", Context{URL: "https://example.com/c.tar?x=y"}, lock.Source{Kind: lock.URL, Ref: "https://example.com/c.tar?x=y"}},
		{"https://me:secret@example.com/c.tar", Context{URL: "https://me:secret@example.com/c.tar"}, lock.Source{Kind: lock.URL, Ref: "https://example.com/c.tar"}},
		{"file", Context{}, lock.Source{}},
		{"gone", Context{}, lock.Source{}},
		{"./r.git", Context{}, lock.Source{}},
		{"http://", Context{}, lock.Source{}},
		{"https://example.com/r.git?nope=1", Context{}, lock.Source{}},
		{"https://example.com/r.git?ref=a&ref=b", Context{}, lock.Source{}},
		{"https://example.com/r.git?ref=a#b", Context{}, lock.Source{}},
	}
	for _, test := range tests {
		got, err := ParseContext(test.value)
		if got != test.want || (err != nil) != (test.want == Context{}) {
			t.Errorf("%q: %+v, %v", test.value, got, err)
		}
		var failed *ContextError
		if err != nil && !errors.As(err, &failed) {
			t.Errorf("%q: %v", test.value, err)
		}
		if src := got.source(); src != test.source {
			t.Errorf("%q: %v", test.value, src)
		}
	}
	if _, err := ParseContext("gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if got := (Context{URL: "https://me:secret@example.com/c.tar"}).String(); got != "https://xxxxx@example.com/c.tar" {
		t.Error(got)
	}
}

func TestParseNamed(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name, value, known string
		want               Context
	}{
		{"data", dir, "data", Context{Dir: dir}},
		{"Stage", dir, "stage", Context{Dir: dir}},
		{"docker.io/library/debian:latest", "docker-image://alpine:3", "debian", Context{Image: "alpine:3"}},
		{"debian:12", "docker-image://alpine", "debian:12", Context{Image: "alpine"}},
		{"src", "git@example.com:o/r.git", "src", Context{URL: "git@example.com:o/r.git"}},
		{"src", "http://example.com/x", "src", Context{URL: "http://example.com/x"}},
		{"a b", dir, "", Context{}},
		{"base", "docker-image://", "", Context{}},
		{"base", "debian:12", "", Context{}},
		{"base", "-", "", Context{}},
		{"base", "oci-layout://" + dir, "", Context{}},
	}
	for _, test := range tests {
		known, got, err := ParseNamed(test.name, test.value)
		var failed *ContextError
		if known != test.known || got != test.want || errors.As(err, &failed) != (known == "") || failed != nil && failed.Name != test.name {
			t.Errorf("%s=%s: %q, %+v, %v", test.name, test.value, known, got, err)
		}
	}
}

func TestContextDockerfile(t *testing.T) {
	t.Chdir(t.TempDir())
	for path, names := range map[string][]string{"upper": {"Dockerfile"}, "lower": {"dockerfile"}, "both": {"Dockerfile", "dockerfile"}, "none": {"x"}} {
		for _, name := range names {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(path, name), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	remote, sent := Context{URL: "https://example.com/c.tar"}, Context{Archive: &Archive{}}
	tests := []struct {
		context Context
		file    string
		want    Dockerfile
	}{
		{Context{Dir: "upper"}, "", Dockerfile{Path: "upper/Dockerfile"}},
		{Context{Dir: "lower"}, "", Dockerfile{Path: "lower/dockerfile"}},
		{Context{Dir: "both"}, "", Dockerfile{Path: "both/Dockerfile"}},
		{Context{Dir: "none"}, "", Dockerfile{Path: "none/Dockerfile"}},
		{Context{Dir: "upper"}, "lower/Dockerfile", Dockerfile{Path: "lower/dockerfile"}},
		{Context{Dir: "upper"}, "lower/Other", Dockerfile{Path: "lower/Other"}},
		{Context{Dir: "upper"}, "https://example.com/D", Dockerfile{URL: "https://example.com/D"}},
		{remote, "", Dockerfile{Inside: "Dockerfile"}},
		{remote, "sub/D", Dockerfile{Inside: "sub/D"}},
		{remote, "/abs/D", Dockerfile{Path: "/abs/D"}},
		{remote, "http://example.com/D", Dockerfile{URL: "http://example.com/D"}},
		{sent, "", Dockerfile{Inside: "Dockerfile"}},
		{sent, "/abs/D", Dockerfile{Inside: "/abs/D"}}, // in the archive, as for docker buildx
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, test.context.Dockerfile(test.file)); diff != "" {
			t.Errorf("%v, %q: %s", test.context, test.file, diff)
		}
	}
}

// The frontend's options for each form of context and Dockerfile.
func TestFrontendOptionsInput(t *testing.T) {
	archive := &Archive{sum: "0123"}
	layout := &Layout{Dir: "l", Digest: digest.FromString("x")}
	tests := []struct {
		req  Request
		want map[string]string
	}{
		{Request{Context: Context{Dir: "a"}, Dockerfile: Dockerfile{Path: "b/D"}}, map[string]string{"filename": "D", "dockerfilekey": "dockerfile"}},
		{Request{Dockerfile: Dockerfile{Data: []byte("x")}}, map[string]string{"filename": "Dockerfile", "dockerfilekey": "dockerfile"}},
		{Request{Context: Context{URL: "http://x/c"}, Dockerfile: Dockerfile{Inside: "s/D"}}, map[string]string{"context": "http://x/c", "filename": "s/D"}},
		{Request{Context: Context{Archive: archive}, Dockerfile: Dockerfile{Inside: "D"}}, map[string]string{"context": "http://buildkit-session/0123-7", "filename": "D"}},
		{Request{Context: Context{URL: "http://x/r.git?ref=a"}, Dockerfile: Dockerfile{URL: "http://x/D"}}, map[string]string{
			"context": "http://x/r.git?ref=a", "filename": "Dockerfile", "dockerfilekey": "dockerfile", "frontend.caps": "moby.buildkit.frontend.gitquerystring+forward",
		}},
		{Request{Context: Context{URL: "http://x/c?ref=a"}, Dockerfile: Dockerfile{Inside: "D"}}, map[string]string{"context": "http://x/c?ref=a", "filename": "D"}},
		{Request{Context: Context{Dir: "a"}, Dockerfile: Dockerfile{Path: "D"}, Contexts: map[string]Context{
			"d": {Dir: "x"}, "i": {Image: "debian"}, "u": {URL: "http://x/c"}, "l": {Layout: layout},
		}}, map[string]string{
			"filename": "D", "dockerfilekey": "dockerfile", "frontend.caps": "moby.buildkit.frontend.contexts+forward",
			"context:d": "local:context-d", "context:i": "docker-image://debian", "context:u": "http://x/c",
			"context:l": "oci-layout://" + layout.id() + "@" + layout.Digest.String(),
		}},
	}
	for _, test := range tests {
		test.req.Lock = &lock.File{}
		j := newJob(nil, &test.req, Pass{})
		j.epoch = time.Unix(7, 0)
		got := j.frontendOptions()
		maps.DeleteFunc(got, func(k, _ string) bool {
			return k == "target" || k == "build-arg:SOURCE_DATE_EPOCH" || k == frontend.ClientLocks
		})
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%+v: %s", test.req, diff)
		}
	}
}

func TestTagged(t *testing.T) {
	image := func(sum byte, tag string) ocispec.Descriptor {
		return ocispec.Descriptor{Digest: digest.FromBytes([]byte{sum}), Annotations: map[string]string{ocispec.AnnotationRefName: tag}}
	}
	tests := []struct {
		name string
		in   []ocispec.Descriptor
		tag  string
		want digest.Digest
	}{
		{"by tag", []ocispec.Descriptor{image(1, "a"), image(2, "b")}, "b", digest.FromBytes([]byte{2})},
		{"latest", []ocispec.Descriptor{image(1, "a"), image(2, "latest")}, "", digest.FromBytes([]byte{2})},
		{"the only one", []ocispec.Descriptor{image(1, "a")}, "b", digest.FromBytes([]byte{1})},
		{"one with two tags", []ocispec.Descriptor{image(1, "a"), image(1, "b")}, "", digest.FromBytes([]byte{1})},
		{"none with the tag", []ocispec.Descriptor{image(1, "a"), image(2, "b")}, "c", ""},
		{"no image", nil, "", ""},
		{"no digest", []ocispec.Descriptor{{Digest: "x"}}, "", ""},
	}
	for _, test := range tests {
		got, err := tagged(ocispec.Index{Manifests: test.in}, test.tag)
		if (err != nil) != (test.want == "") || err == nil && got != test.want {
			t.Errorf("%s: %v, %v", test.name, got, err)
		}
	}
}

func TestMemory(t *testing.T) {
	m := memory{"b": []byte("2"), "a": []byte("1")}
	for target, want := range map[string][]string{"": {"a", "b"}, "/": {"a", "b"}, "b": {"b"}, "c": nil} {
		var got []string
		err := m.Walk(t.Context(), target, func(path string, e fs.DirEntry, err error) error {
			if info, infoErr := e.Info(); err != nil || infoErr != nil || info.Size() != 1 || !info.Mode().IsRegular() {
				t.Errorf("%q: %v", path, err)
			}
			got = append(got, path)
			return nil
		})
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("%q: %v, %s", target, err, diff)
		}
	}
	if _, err := m.Open("c"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
