package builder

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moby/buildkit/client"
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
