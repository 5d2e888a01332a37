package frontend

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/source/git"
)

func lines(l ...string) []byte { return []byte(strings.Join(l, "\n") + "\n") }

func mustParse(t testing.TB, l ...string) *Dockerfile {
	t.Helper()
	d, err := Parse("Dockerfile", lines(l...))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestParseStages(t *testing.T) {
	tests := []struct {
		name string
		text []byte
		want []Stage
	}{
		{"one", lines("FROM debian"), []Stage{{"", 1}}},
		{"no newline at the end", []byte("FROM debian"), []Stage{{"", 1}}},
		{"names", lines("FROM debian AS Base", "RUN x", "from base As app", "FROM scratch"), []Stage{{"base", 1}, {"app", 3}, {"", 4}}},
		{"platform", lines("FROM --platform=$BUILDPLATFORM debian AS b"), []Stage{{"b", 1}}},
		{"arg before", lines("ARG V=1", "", "FROM debian:$V AS b"), []Stage{{"b", 3}}},
		{"syntax", lines("# syntax=docker/dockerfile:1", "FROM debian"), []Stage{{"", 2}}},
		{"comment", lines("# FROM a", "FROM b", "# FROM c"), []Stage{{"", 2}}},
		{"continued", lines(`FROM \`, "  # a comment", "  debian \\", "  AS b", "FROM b"), []Stage{{"b", 1}, {"", 5}}},
		{"heredoc", lines("FROM debian AS a", "RUN <<EOF", "FROM not", "EOF", "COPY <<-X /f", "FROM not", "\tX", "FROM a"), []Stage{{"a", 1}, {"", 8}}},
		{"escape directive", lines("# escape=`", "FROM debian AS a", "RUN dir C:\\", "FROM a `", "  AS b"), []Stage{{"a", 2}, {"b", 4}}},
		{"backslash without the directive", lines("FROM debian AS a", `RUN dir \`, "FROM not", "FROM a"), []Stage{{"a", 1}, {"", 4}}},
		{"line ends of Windows", []byte("FROM debian AS a\r\nRUN x\r\nFROM a\r\n"), []Stage{{"a", 1}, {"", 3}}},
		{"byte order mark", []byte("\ufeffFROM debian AS a\n"), []Stage{{"a", 1}}},
		{"another frontend's", lines("FROM debian", "FETCH https://example.com/x", "FROM a AS b c"), []Stage{{"", 1}, {"", 3}}},
		{"as is no name", lines("FROM as", "FROM debian as"), []Stage{{"", 1}, {"", 2}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, err := Parse("Dockerfile", test.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, d.Stages); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct {
		name string
		text []byte
		line int
	}{
		{"empty", nil, 0},
		{"only comments", lines("# FROM debian"), 1},
		{"no stage", lines("ARG A=1", "RUN x"), 0},
		{"a typo in FROM", lines("ARG A=1", "FORM debian", "RUN x"), 2},
		{"heredoc without an end", lines("FROM debian", "RUN <<EOF", "x"), 2},
		{"environment", lines("FROM debian", "", "ENV A"), 3},
		{"continued to the end", lines("FROM debian", "RUN x \\", "<<EOF"), 2},
		{"directive twice", lines("# escape=`", "# escape=`", "FROM debian"), 1},
		{"unknown escape", lines("# escape=x", "FROM debian"), 0}, // BuildKit's parser does not say where
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, err := Parse("dir/app.Dockerfile", test.text)
			var parse *ParseError
			if !errors.As(err, &parse) {
				t.Fatalf("%v, %v", d, err)
			}
			if parse.File != "dir/app.Dockerfile" || parse.Line != test.line {
				t.Errorf("%v has line %d, want %d", err, parse.Line, test.line)
			}
			where := "dir/app.Dockerfile: "
			if test.line > 0 {
				where = "dir/app.Dockerfile:" + strconv.Itoa(test.line) + ": "
			}
			if !strings.HasPrefix(err.Error(), where) {
				t.Errorf("%q does not begin with %q", err, where)
			}
			if errors.Unwrap(err) == nil {
				t.Error("no cause")
			}
		})
	}
}

func TestTarget(t *testing.T) {
	named := []string{"FROM debian AS base", "FROM base AS Tool", "FROM base AS app"}
	mixed := []string{"FROM debian", "FROM debian AS mid", "FROM mid"}
	tests := []struct {
		name             string
		text             []string
		target           string
		want, wantOption string
		unnamed          int
	}{
		{"last", named, "", "app", "app", 0},
		{"name", named, "base", "base", "base", 0},
		{"case of the file", named, "tool", "tool", "tool", 0},
		{"case of the caller", named, "APP", "app", "app", 0},
		{"index", named, "1", "tool", "tool", 0},
		{"index of the last", named, "2", "app", "app", 0},
		{"index too high", named, "3", "", "", 0},
		{"negative", named, "-1", "", "", 0},
		{"no such", named, "ap", "", "", 0},
		{"image is no stage", named, "debian", "", "", 0},
		{"space", named, " app", "", "", 0},
		{"last without a name", mixed, "", "2", "", 0},
		{"index of the last without a name", mixed, "2", "2", "", 0},
		{"not last and no name", mixed, "0", "", "", 1},
		{"name among unnamed", mixed, "mid", "mid", "mid", 0},
		{"one stage", []string{"FROM debian"}, "0", "0", "", 0},
		{"name twice: the later", []string{"FROM a AS x", "FROM b AS x", "FROM c"}, "x", "x", "x", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := mustParse(t, test.text...)
			got, err := d.Target(test.target)
			if test.want == "" {
				var target *TargetError
				if !errors.As(err, &target) || target.File != "Dockerfile" || target.Target != test.target || target.Unnamed != test.unnamed || len(target.Stages) != 3 {
					t.Fatalf("%q, %v", got, err)
				}
				if where := "Dockerfile:1: "; test.unnamed > 0 && !strings.HasPrefix(err.Error(), where) {
					t.Errorf("%q does not begin with %q", err, where)
				}
				return
			}
			if err != nil || got != test.want {
				t.Fatalf("%q, %v, want %q", got, err, test.want)
			}
			if option := d.Option(got); option != test.wantOption {
				t.Errorf("option %q, want %q", option, test.wantOption)
			}
			if again, err := d.Target(got); err != nil || again != got {
				t.Errorf("%q becomes %q, %v", got, again, err)
			}
		})
	}
}

const everySource = `# syntax=docker/dockerfile:1.7
ARG TAG
ARG BASE=debian
FROM debian:12 AS one
FROM --platform=linux/amd64 ghcr.io/o/r@` + digestA + ` AS two
FROM ${BASE}:${TAG:-latest}-$TARGETARCH AS three
FROM docker.io/library/alpine
COPY --from=busybox:1 --chown=1:1 /a /b
COPY --from=one /a /b
RUN --mount=type=bind,from=golang:1,target=/x \
    --mount=type=cache,target=/y,from=node true
ADD --checksum=` + digestB + ` \
    https://example.com/a.tar https://example.com/b?x=1 /
ADD ["https://example.com/json.tar", "/"]
ADD https://example.com/r.git#v1 /r
ADD https://example.com/${V}/tool-$TARGETARCH.tgz /
RUN curl https://example.com/run
LABEL image=perl:5 from=ruby
COPY <<EOF /f
FROM python
EOF
`

func TestLine(t *testing.T) {
	d := mustParse(t, everySource)
	image := func(ref string) lock.Source { return lock.Source{Kind: lock.Image, Ref: ref} }
	url := func(ref string) lock.Source { return lock.Source{Kind: lock.URL, Ref: ref} }
	tests := map[string]struct {
		source lock.Source
		want   int
	}{
		"syntax":              {image("docker.io/docker/dockerfile:1.7"), 1},
		"from":                {image("docker.io/library/debian:12"), 4},
		"from with a digest":  {image("ghcr.io/o/r@" + digestA), 5},
		"no tag":              {image("docker.io/library/alpine:latest"), 7},
		"copy from":           {image("docker.io/library/busybox:1"), 8},
		"mount from":          {image("docker.io/library/golang:1"), 10},
		"second mount":        {image("docker.io/library/node:latest"), 10},
		"add":                 {url("https://example.com/a.tar"), 12},
		"second of an add":    {url("https://example.com/b?x=1"), 12},
		"add, JSON":           {url("https://example.com/json.tar"), 14},
		"git":                 {lock.Source{Kind: lock.Git, Ref: "https://example.com/r.git#v1"}, 15},
		"other tag":           {image("docker.io/library/debian:13"), 0},
		"other digest":        {image("ghcr.io/o/r@" + digestB), 0},
		"other registry":      {image("example.com/library/debian:12"), 0},
		"other query":         {url("https://example.com/b?x=2"), 0},
		"other ref":           {lock.Source{Kind: lock.Git, Ref: "https://example.com/r.git#v2"}, 0},
		"expanded":            {image("docker.io/library/debian:latest-amd64"), 0},
		"in a command":        {url("https://example.com/run"), 0},
		"in a label":          {image("docker.io/library/perl:5"), 0},
		"in a heredoc":        {image("docker.io/library/python:latest"), 0},
		"a URL is no image":   {url("docker.io/library/debian:12"), 0},
		"an arg of a name":    {image("docker.io/library/base:latest"), 0},
		"flag that is no ref": {image("docker.io/library/1:1"), 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := d.Line(test.source); got != test.want {
				t.Errorf("%s has line %d, want %d", test.source, got, test.want)
			}
			if test.want > 0 && !d.MayName(test.source) {
				t.Errorf("%s has a line, but is not named", test.source)
			}
		})
	}
}

func TestMayName(t *testing.T) {
	sources := func(kind lock.Kind, refs ...string) []lock.Source {
		var s []lock.Source
		for _, ref := range refs {
			s = append(s, lock.Source{Kind: kind, Ref: ref})
		}
		return s
	}
	image := func(refs ...string) []lock.Source { return sources(lock.Image, refs...) }
	url := func(refs ...string) []lock.Source { return sources(lock.URL, refs...) }
	tests := []struct {
		name    string
		text    string
		yes, no []lock.Source
	}{
		{"tag", "FROM debian:$TAG",
			image("docker.io/library/debian:12", "docker.io/library/debian:latest"),
			image("docker.io/library/debian12:1", "docker.io/other/debian:12", "ghcr.io/library/debian:12", "docker.io/library/alpine:12")},
		{"default", "FROM debian:${TAG:-12}-slim", image("docker.io/library/debian:13-slim"), image("docker.io/library/debian:13")},
		{"part of a name", "FROM deb${X}an",
			image("docker.io/library/debian:latest", "docker.io/library/debxxan:latest"),
			image("docker.io/library/debian:12", "docker.io/library/alpine:latest")},
		{"whole", "FROM $BASE", image("docker.io/library/debian:12", "ghcr.io/o/r@"+digestA), nil},
		{"registry", "FROM ${REGISTRY}/team/base:1",
			image("localhost:5000/team/base:1"), image("localhost:5000/team/base:2", "localhost:5000/other/base:1")},
		{"platform", "FROM base-$TARGETARCH", image("docker.io/library/base-arm64:latest"), image("docker.io/library/base:latest")},
		{"full form", "FROM docker.io/library/debian:$TAG", image("docker.io/library/debian:12"), image("docker.io/library/alpine:12")},
		{"dots are dots", "FROM a.b/c:$X", image("a.b/c:1"), image("axb/c:1")},
		{"copy from", "FROM x\nCOPY --from=tool:$V /a /b", image("docker.io/library/tool:2"), image("docker.io/library/tools:2")},
		{"mount from", "FROM x\nRUN --mount=type=bind,from=tool:$V,target=/t true", image("docker.io/library/tool:2"), image("docker.io/library/type:2")},
		{"syntax", "# syntax=docker/dockerfile:1\nFROM x", image("docker.io/docker/dockerfile:1"), image("docker.io/docker/dockerfile:2")},
		{"add", "FROM x\nADD https://example.com/${V}/a-$TARGETARCH.tgz /",
			url("https://example.com/1/a-amd64.tgz", "https://example.com/1/2/a-.tgz"),
			url("https://example.com/1/a-amd64.zip", "http://example.com/1/a-amd64.tgz", "https://example.org/1/a-amd64.tgz")},
		{"git", "FROM x\nADD https://example.com/r.git#${V} /", sources(lock.Git, "https://example.com/r.git#v1"), sources(lock.Git, "https://example.com/s.git#v1")},
		{"run", "FROM x\nRUN curl https://example.com/$V", nil, url("https://example.com/1")},
		{"no variable", "FROM debian:12", image("docker.io/library/debian:12"), image("docker.io/library/debian:13")},
		{"stage", "FROM x AS debian", nil, image("docker.io/library/debian:latest")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := mustParse(t, test.text)
			for _, s := range test.yes {
				if !d.MayName(s) {
					t.Errorf("%s is not named", s)
				}
			}
			for _, s := range test.no {
				if d.MayName(s) {
					t.Errorf("%s is named", s)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	seeds, err := filepath.Glob("../examples/*/Dockerfile")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no examples: %v", err)
	}
	for _, seed := range seeds {
		data, err := os.ReadFile(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(everySource))
	f.Add(lines("# escape=`", "FROM a `", " AS b", "RUN <<E", "E", "FROM $A${B:-c}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse("D", data)
		if err != nil {
			var parse *ParseError
			if !errors.As(err, &parse) || parse.File != "D" || parse.Line < 0 || parse.Line > strings.Count(string(data), "\n")+1 {
				t.Errorf("%#v", err)
			}
			return
		}
		if len(d.Stages) == 0 || !slices.IsSortedFunc(d.Stages, func(a, b Stage) int { return a.Line - b.Line }) {
			t.Fatalf("stages %v", d.Stages)
		}
		for i := range d.Stages {
			name, err := d.Target(strconv.Itoa(i))
			if err != nil {
				continue // it has none
			}
			if again, err := d.Target(name); err != nil || again != name {
				t.Errorf("target %q becomes %q, %v", name, again, err)
			}
		}
		if _, err := d.Target(""); err != nil {
			t.Error(err)
		}
		for _, m := range d.refs {
			if in, err := identifyImage(m.word); err == nil && d.Line(in.Written) == 0 {
				t.Errorf("%q on line %d has no line", m.word, m.line)
			}
			if s := (lock.Source{Kind: lock.URL, Ref: m.word}); m.word != "" && !d.MayName(s) {
				t.Errorf("%q is not named", m.word)
			}
		}
	})
}

func TestCredentials(t *testing.T) {
	for _, o := range []*pb.SourceOp{
		op("https://u:secret@example.com/100%"),
		op("git://example.com/r.git", pb.AttrFullRemoteURL, "ssh://git:secret@example.com/r.git"),
		op("ftp://u:secret@example.com/a"),
	} {
		in, err := Identify(o)
		if s := fmt.Sprint(in.Source.Ref, err); strings.Contains(s, "secret") {
			t.Errorf("%s", s)
		}
	}
}

func TestOperationSSH(t *testing.T) {
	for _, ref := range []string{"ssh://git@example.com:22/o/r.git#v1", "ssh://git@example.com/o/r.git#v1", "git@example.com:o/r.git#v1", "git@example.com:/o/r.git"} {
		o := Operation(lock.Source{Kind: lock.Git, Ref: ref})
		if _, err := (&git.Source{}).Identifier("git", o.Identifier[len("git://"):], o.Attrs, nil); err != nil {
			t.Errorf("%s: %v: %v", ref, o, err)
		}
	}
}

func TestMayNameWithVariables(t *testing.T) {
	i := func(r string) lock.Source { return lock.Source{Kind: lock.Image, Ref: r} }
	for text, s := range map[string]lock.Source{
		"FROM debian:${TAG:-${DEFAULT}}":                    i("docker.io/library/debian:12"),
		"FROM docker.io/debian:$T":                          i("docker.io/library/debian:12"),
		"FROM library/debian:$T":                            i("docker.io/library/debian:12"),
		`FROM "debian:$T"`:                                  i("docker.io/library/debian:12"),
		"FROM debian:$T@" + digestA:                         i("docker.io/library/debian:12"),
		"FROM x\nADD https://example.com/r.git#${V}:sub /":  {Kind: lock.Git, Ref: "https://example.com/r.git#v1"},
		"FROM x\nADD https://u:${P}@example.com/a-$V /":     {Kind: lock.URL, Ref: "https://example.com/a-1"},
		"FROM x\nADD https://example.com/r.git?branch=$V /": {Kind: lock.Git, Ref: "https://example.com/r.git#v1"},
		"FROM x\nRUN --mount=type=bind,From=tool:1 true":    i("docker.io/library/tool:1"),
	} {
		if d := mustParse(t, text); !d.MayName(s) {
			t.Errorf("%s: %s is not named", text, s)
		}
	}
}

func TestLayersOfForeignDiff(t *testing.T) {
	run := func(st llb.State, line int32) llb.State {
		return st.Run(llb.Args([]string{"x"}), at(line, line)).Root()
	}
	// The difference is one layer.
	st := llb.Diff(run(base(), 2), run(run(llb.Image("other"), 3), 5))
	if got := mustGraph(t, definition(t, st)).Layers(); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

func TestMergeBlowUp(t *testing.T) {
	st := base().Run(llb.Args([]string{"x"})).Root()
	for range 22 {
		st = llb.Diff(st, st.File(llb.Mkdir("/a", 0o755)))
		st = llb.Diff(st, llb.Merge([]llb.State{st, st.File(llb.Mkdir("/a", 0o755))}))
	}
	_ = st
}
