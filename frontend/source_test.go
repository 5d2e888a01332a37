package frontend

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
)

const (
	digestA = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	digestB = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	commitA = "3333333333333333333333333333333333333333"
	commit2 = "4444444444444444444444444444444444444444444444444444444444444444" // of a repository with sha256
)

func op(id string, attrs ...string) *pb.SourceOp {
	op := &pb.SourceOp{Identifier: id}
	for i := 0; i < len(attrs); i += 2 {
		if op.Attrs == nil {
			op.Attrs = map[string]string{}
		}
		op.Attrs[attrs[i]] = attrs[i+1]
	}
	return op
}

// sourceTests are operations and their inputs. written is empty if it is the same as ref.
var sourceTests = []struct {
	name              string
	op                *pb.SourceOp
	kind              lock.Kind
	ref, written, pin string
}{
	{"image", op("docker-image://docker.io/library/debian:12"), lock.Image, "docker.io/library/debian:12", "", ""},
	{"short image", op("docker-image://debian"), lock.Image, "docker.io/library/debian:latest", "", ""},
	{"latest", op("docker-image://debian:latest"), lock.Image, "docker.io/library/debian:latest", "", ""},
	{"digest", op("docker-image://debian@" + digestA), lock.Image, "docker.io/library/debian@" + digestA, "", digestA},
	{"tag and digest", op("docker-image://debian:12@" + digestA), lock.Image, "docker.io/library/debian:12", "docker.io/library/debian:12@" + digestA, digestA},
	{"latest and digest", op("docker-image://debian:latest@" + digestA), lock.Image, "docker.io/library/debian:latest", "docker.io/library/debian:latest@" + digestA, digestA},
	{"port", op("docker-image://localhost:5000/a/b"), lock.Image, "localhost:5000/a/b:latest", "", ""},
	{"port, tag and digest", op("docker-image://localhost:5000/a:1@" + digestA), lock.Image, "localhost:5000/a:1", "localhost:5000/a:1@" + digestA, digestA},
	{"port and digest", op("docker-image://localhost:5000/a@" + digestA), lock.Image, "localhost:5000/a@" + digestA, "", digestA},
	{"other registry", op("docker-image://ghcr.io/o/r:v1"), lock.Image, "ghcr.io/o/r:v1", "", ""},
	{"index.docker.io", op("docker-image://index.docker.io/library/debian:12"), lock.Image, "docker.io/library/debian:12", "", ""},

	{"https", op("https://example.com/a.tar?x=1&y=%2F"), lock.URL, "https://example.com/a.tar?x=1&y=%2F", "", ""},
	{"http", op("http://example.com:8080/a"), lock.URL, "http://example.com:8080/a", "", ""},
	{"checksum", op("https://example.com/a", pb.AttrHTTPChecksum, digestA), lock.URL, "https://example.com/a", "", digestA},
	{"password", op("https://u:secret@example.com/a?x=1"), lock.URL, "https://example.com/a?x=1", "", ""},
	{"token", op("https://secret@example.com/a"), lock.URL, "https://example.com/a", "", ""},
	{"escaped path", op("https://u:secret@example.com/a%2Fb/%7Ec?q=a+b%20c"), lock.URL, "https://example.com/a%2Fb/%7Ec?q=a+b%20c", "", ""},
	{"at in the path", op("https://example.com/@secret/x"), lock.URL, "https://example.com/@secret/x", "", ""},

	{"git", op("git://example.com/r.git", pb.AttrFullRemoteURL, "https://example.com/r.git"), lock.Git, "https://example.com/r.git", "", ""},
	{"git, no full URL", op("git://example.com/r.git#main"), lock.Git, "https://example.com/r.git#main", "", ""},
	{"branch", op("git://example.com/r.git#main", pb.AttrFullRemoteURL, "https://example.com/r.git"), lock.Git, "https://example.com/r.git#main", "", ""},
	{"branch with a slash", op("git://example.com/r.git#a/b", pb.AttrFullRemoteURL, "https://example.com/r.git"), lock.Git, "https://example.com/r.git#a/b", "", ""},
	{"folder", op("git://example.com/r.git#main:a/b", pb.AttrFullRemoteURL, "https://example.com/r.git"), lock.Git, "https://example.com/r.git#main", "", ""},
	{"folder, no ref", op("git://example.com/r.git#:a/b", pb.AttrFullRemoteURL, "https://example.com/r.git"), lock.Git, "https://example.com/r.git", "", ""},
	{"git checksum", op("git://example.com/r.git#v1", pb.AttrFullRemoteURL, "https://example.com/r.git", pb.AttrGitChecksum, commitA), lock.Git, "https://example.com/r.git#v1", "", commitA},
	{"beginning of a checksum", op("git://example.com/r.git#v1", pb.AttrGitChecksum, commitA[:9]), lock.Git, "https://example.com/r.git#v1", "", commitA[:9]},
	{"commit as ref", op("git://example.com/r.git#" + commitA), lock.Git, "https://example.com/r.git#" + commitA, "", commitA},
	{"sha256 commit as ref", op("git://example.com/r.git#" + commit2), lock.Git, "https://example.com/r.git#" + commit2, "", commit2},
	{"commit and folder", op("git://example.com/r.git#" + commitA + ":sub"), lock.Git, "https://example.com/r.git#" + commitA, "", commitA},
	{"short commit as ref", op("git://example.com/r.git#" + commitA[:39]), lock.Git, "https://example.com/r.git#" + commitA[:39], "", ""},
	{"upper case is no commit", op("git://example.com/r.git#" + strings.Repeat("A", 40)), lock.Git, "https://example.com/r.git#" + strings.Repeat("A", 40), "", ""},
	{"checksum beats ref", op("git://example.com/r.git#"+commitA, pb.AttrGitChecksum, commitA[:8]), lock.Git, "https://example.com/r.git#" + commitA, "", commitA[:8]},
	{"git password", op("git://example.com/r.git#main", pb.AttrFullRemoteURL, "https://u:secret@example.com/r.git"), lock.Git, "https://example.com/r.git#main", "", ""},
	{"git token", op("git://example.com/r.git", pb.AttrFullRemoteURL, "https://secret@example.com/r.git"), lock.Git, "https://example.com/r.git", "", ""},
	{"http remote", op("git://example.com:8080/r.git", pb.AttrFullRemoteURL, "http://example.com:8080/r.git"), lock.Git, "http://example.com:8080/r.git", "", ""},
	{"git remote", op("git://example.com/r.git#v1", pb.AttrFullRemoteURL, "git://example.com/r.git"), lock.Git, "git://example.com/r.git#v1", "", ""},
	{"scp remote", op("git://example.com/o/r.git#v1", pb.AttrFullRemoteURL, "git@example.com:o/r.git"), lock.Git, "git@example.com:o/r.git#v1", "", ""},
	{"ssh remote", op("git://example.com/o/r.git#v1", pb.AttrFullRemoteURL, "ssh://git@example.com/o/r.git"), lock.Git, "ssh://git@example.com/o/r.git#v1", "", ""},
	{"ssh remote, no user", op("git://example.com/o/r.git", pb.AttrFullRemoteURL, "ssh://example.com/o/r.git"), lock.Git, "ssh://example.com/o/r.git", "", ""},
}

func TestIdentify(t *testing.T) {
	for _, test := range sourceTests {
		t.Run(test.name, func(t *testing.T) {
			before := proto.Clone(test.op)
			got, err := Identify(test.op)
			if err != nil {
				t.Fatal(err)
			}
			want := Input{
				Source:  lock.Source{Kind: test.kind, Ref: test.ref},
				Written: lock.Source{Kind: test.kind, Ref: test.ref},
				Pin:     test.pin,
			}
			if test.written != "" {
				want.Written.Ref = test.written
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if !proto.Equal(before, test.op) {
				t.Error("the operation was changed")
			}
		})
	}
}

func pinOf(kind lock.Kind, n string) string {
	if kind == lock.Git {
		return strings.Repeat(n, 40)
	}
	return "sha256:" + strings.Repeat(n, 64)
}

// A pinned operation fetches the same source, asks for the pin, and keeps all other attributes.
func TestPinned(t *testing.T) {
	for _, test := range sourceTests {
		t.Run(test.name, func(t *testing.T) {
			op := test.op.CloneVT()
			if op.Attrs == nil {
				op.Attrs = map[string]string{}
			}
			op.Attrs["kept"] = "x"
			before := op.CloneVT()
			in, err := Identify(op)
			if err != nil {
				t.Fatal(err)
			}
			pin := pinOf(test.kind, "5")
			pinned := Pinned(op, in, pin)
			if !op.EqualVT(before) {
				t.Error("the operation was changed")
			}
			got, err := Identify(pinned)
			if err != nil {
				t.Fatal(err)
			}
			if got.Pin != pin {
				t.Errorf("it asks for %q, want %q", got.Pin, pin)
			}
			wantSource := in.Source
			if name, _, digested := strings.Cut(test.ref, "@"); digested && test.kind == lock.Image {
				wantSource.Ref = name + "@" + pin
			}
			if got.Source != wantSource {
				t.Errorf("it is %v, want %v", got.Source, wantSource)
			}
			kept := maps.Clone(pinned.Attrs)
			for _, name := range []string{pb.AttrHTTPChecksum, pb.AttrGitChecksum, pb.AttrGitFetchByCommit} {
				delete(kept, name)
				delete(before.Attrs, name)
			}
			if diff := cmp.Diff(before.Attrs, kept); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
			if test.kind != lock.Image && pinned.Identifier != op.Identifier {
				t.Errorf("identifier %q, want %q", pinned.Identifier, op.Identifier)
			}
			if again := Pinned(pinned, got, pin); !again.EqualVT(pinned) {
				t.Errorf("pinned twice: %v, want %v", again, pinned)
			}
		})
	}
}

func TestPinnedForms(t *testing.T) {
	tests := []struct {
		op   *pb.SourceOp
		pin  string
		want *pb.SourceOp
	}{
		{op("docker-image://debian"), digestA, op("docker-image://docker.io/library/debian:latest@" + digestA)},
		{op("docker-image://debian:12@" + digestB), digestA, op("docker-image://docker.io/library/debian:12@" + digestA)},
		{op("docker-image://localhost:5000/a"), digestA, op("docker-image://localhost:5000/a:latest@" + digestA)},
		{op("docker-image://debian@" + digestA), digestA, op("docker-image://docker.io/library/debian@" + digestA)},
		{op("https://u:p@example.com/a"), digestA, op("https://u:p@example.com/a", pb.AttrHTTPChecksum, digestA)},
		{op("git://example.com/r.git#main:sub"), commitA, op("git://example.com/r.git#main:sub", pb.AttrGitChecksum, commitA, pb.AttrGitFetchByCommit, "true")},
	}
	for _, test := range tests {
		in, err := Identify(test.op)
		if err != nil {
			t.Fatal(err)
		}
		got := Pinned(test.op, in, test.pin)
		if got.Identifier != test.want.Identifier || !maps.Equal(got.Attrs, test.want.Attrs) {
			t.Errorf("%v\ngot  %v\nwant %v", test.op, got, test.want)
		}
	}
}

// The operation for a source in a lock looks up that source.
func TestOperation(t *testing.T) {
	for _, test := range sourceTests {
		t.Run(test.name, func(t *testing.T) {
			in, err := Identify(test.op)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []lock.Source{in.Source, in.Written} {
				op := Operation(s)
				got, err := Identify(op)
				if err != nil {
					t.Fatal(err)
				}
				if got.Written != s {
					t.Errorf("%v becomes %v, which is %v", s, op, got.Written)
				}
			}
		})
	}
}

func TestOperationOfGit(t *testing.T) {
	tests := []struct{ ref, id, full string }{
		{"https://example.com/r.git", "git://example.com/r.git", "https://example.com/r.git"},
		{"https://example.com:8443/r.git#main", "git://example.com:8443/r.git#main", "https://example.com:8443/r.git"},
		{"http://example.com/r.git#a/b", "git://example.com/r.git#a/b", "http://example.com/r.git"},
	}
	for _, test := range tests {
		got := Operation(lock.Source{Kind: lock.Git, Ref: test.ref})
		if got.Identifier != test.id || got.Attrs[pb.AttrFullRemoteURL] != test.full {
			t.Errorf("%s: %v", test.ref, got)
		}
	}
}

func TestIdentifyLocal(t *testing.T) {
	for _, id := range []string{"local://context", "local://dockerfile", "oci-layout://x@" + digestA} {
		got, err := Identify(op(id))
		if diff := cmp.Diff(Input{Local: true}, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", id, err, diff)
		}
	}
}

func TestIdentifyUnsupported(t *testing.T) {
	for _, test := range []*pb.SourceOp{
		nil,
		op(""),
		op("debian:12"),
		op("ftp://example.com/a"),
		op("docker-image+blob://example.com/a@" + digestA),
		op("oci-layout+blob://a@" + digestA),
		op("HTTPS://example.com/a"),
		op("locals://context"),
		op("git://example.com/r.git", pb.AttrGitBundle, "docker-image+blob://a@"+digestA, pb.AttrGitChecksum, commitA),
	} {
		in, err := Identify(test)
		var unsupported *UnsupportedError
		if !errors.As(err, &unsupported) || unsupported.Identifier != test.GetIdentifier() {
			t.Errorf("%v: %v", test, err)
		}
		if in != (Input{}) {
			t.Errorf("%v: %v", test, in)
		}
	}
}

func TestIdentifyBrokenImage(t *testing.T) {
	for _, id := range []string{"docker-image://", "docker-image://UPPER", "docker-image://a:b:c", "docker-image://a@sha256:1"} {
		if in, err := Identify(op(id)); err == nil || in != (Input{}) {
			t.Errorf("%s: %v, %v", id, in, err)
		}
	}
}

func FuzzIdentify(f *testing.F) {
	for _, test := range sourceTests {
		f.Add(test.op.Identifier, test.op.Attrs[pb.AttrFullRemoteURL], test.op.Attrs[pb.AttrGitChecksum])
	}
	f.Fuzz(func(t *testing.T, id, full, checksum string) {
		o := op(id)
		o.Attrs = map[string]string{}
		if full != "" {
			o.Attrs[pb.AttrFullRemoteURL] = full
		}
		if checksum != "" {
			o.Attrs[pb.AttrGitChecksum] = checksum
		}
		in, err := Identify(o)
		if err != nil || in.Local {
			return
		}
		pin := digest.FromString(id).String()
		if in.Source.Kind == lock.Git {
			pin = commitA
		}
		if in.Source.Kind == lock.Image && in.Source != in.Written {
			// The frontend's resolved reference is the same source as the Dockerfile's.
			bare, err := Identify(op(imageScheme + in.Source.Ref))
			if err != nil || bare.Source != in.Source {
				t.Errorf("%q is %v, without its digest %v, %v", id, in.Source, bare.Source, err)
			}
		}
		pinned := Pinned(o, in, pin)
		got, err := Identify(pinned)
		if err != nil || got.Pin != pin {
			t.Fatalf("%v pinned to %s asks for %q, %v", o, pin, got.Pin, err)
		}
		if in.Pin == "" && got.Source != in.Source {
			t.Errorf("%v is %v, pinned %v", o, in.Source, got.Source)
		}
	})
}
