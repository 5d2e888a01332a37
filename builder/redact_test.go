package builder

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/kedge-build/kedge/frontend"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
)

func TestRedact(t *testing.T) {
	for text, want := range map[string]string{
		"look up https://u:p@example.com/a":      "look up https://xxxxx@example.com/a",
		"https://token@example.com/r.git#main":   "https://xxxxx@example.com/r.git#main",
		`Get "http://u:***@host": no such host`:  `Get "http://xxxxx@host": no such host`,
		"http://u:p%zz@host/a":                   "http://xxxxx@host/a",
		"http://u:p@ss@host/a":                   "http://xxxxx@host/a",
		"http://u:p#ss@host/a, HTTPS://x@host":   "http://xxxxx@host/a, HTTPS://xxxxx@host",
		"ssh://git:p@host/r":                     "ssh://xxxxx@host/r",
		"ssh://git@host/r, git@host:r":           "ssh://git@host/r, git@host:r",
		"https://host/a@b https://host a@b":      "https://host/a@b https://host a@b",
		"docker-image://debian@sha256:1111":      "docker-image://debian@sha256:1111",
		"oci-layout://kedge-1@sha256:1111 a/b@c": "oci-layout://kedge-1@sha256:1111 a/b@c",
	} {
		if got := redact(text); got != want {
			t.Errorf("redact(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestRedacted(t *testing.T) {
	lost := &LostError{}
	if err := redacted(lost); err != error(lost) {
		t.Errorf("an error without credentials changed: %v", err)
	}
	err := redacted(&ArchiveError{errors.New("http://u:p@host")})
	var archive *ArchiveError
	if !errors.As(err, &archive) || err.Error() != "reading the archive with the build context: http://xxxxx@host" {
		t.Errorf("%#v: %v", err, err)
	}
}

func TestRedactedStatus(t *testing.T) {
	const secret, shown = "http://u:p@host", "http://xxxxx@host"
	in := &client.SolveStatus{
		Vertexes: []*client.Vertex{{Name: secret, Error: secret}},
		Statuses: []*client.VertexStatus{{ID: secret, Name: secret}},
		Logs:     []*client.VertexLog{{Data: []byte(secret)}},
	}
	want := &client.SolveStatus{
		Vertexes: []*client.Vertex{{Name: shown, Error: shown}},
		Statuses: []*client.VertexStatus{{ID: shown, Name: shown}},
		Logs:     []*client.VertexLog{{Data: []byte(secret)}},
	}
	if diff := cmp.Diff(want, redactedStatus(in), cmpopts.EquateComparable()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if in.Vertexes[0].Name != secret {
		t.Error("the original is redacted, too")
	}
}

// The history has no credentials of what an ADD fetches, not even those that come from an ARG. Other text that
// looks like them is left as it was written.
func TestForgetCredentials(t *testing.T) {
	uses := []frontend.Use{
		{Op: &pb.SourceOp{Identifier: "http://u:p@host/a"}},
		{Op: &pb.SourceOp{Identifier: "git://host/r.git", Attrs: map[string]string{"git.fullurl": "https://token@host/r.git"}}},
		{Op: &pb.SourceOp{Identifier: "git://host/s.git", Attrs: map[string]string{"git.fullurl": "ssh://git@host/s.git"}}},
		{Op: &pb.SourceOp{Identifier: "docker-image://debian@sha256:1111"}},
	}
	found := credentialsIn(uses)
	if diff := cmp.Diff([]string{"u:p@", "token@"}, found); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for by, want := range map[string]string{
		"ADD http://u:p@host/a / # buildkit":                  "ADD http://xxxxx@host/a / # buildkit",
		"ADD http://u:p%40@other/a / # buildkit":              "ADD http://xxxxx@other/a / # buildkit",
		"ARG URL=http://u:p@host/a":                           "ARG URL=http://xxxxx@host/a",
		"RUN |1 URL=https://token@host/r.git /bin/sh -c true": "RUN |1 URL=https://xxxxx@host/r.git /bin/sh -c true",
		"ADD ssh://git@host/s.git / # buildkit":               "ADD ssh://git@host/s.git / # buildkit",
		"RUN /bin/sh -c curl http://other:x@host":             "RUN /bin/sh -c curl http://other:x@host",
		"COPY u:p@ / # buildkit":                              "COPY u:p@ / # buildkit",
		"ARG LOGIN=u:p PASS=p PASS2=p T=token":                "ARG LOGIN=xxxxx PASS=xxxxx PASS2=xxxxx T=xxxxx",
		"ARG LOGIN=u:p@ USER=u NONE=":                         "ARG LOGIN=xxxxx USER=u NONE=",
		"RUN |2 PASS=p A=b /bin/sh -c echo":                   "RUN |2 PASS=xxxxx A=b /bin/sh -c echo",
		"ENV PASS=p":                                          "ENV PASS=p",
	} {
		if got := forgetCredentials(by, found); got != want {
			t.Errorf("%q becomes %q, not %q", by, got, want)
		}
	}
}
