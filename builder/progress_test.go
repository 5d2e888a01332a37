package builder

import (
	"errors"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// A build that was stopped ends with the error of the step that failed by itself first.
func TestOwnFailure(t *testing.T) {
	canceled := errors.New("context canceled")
	at := func(s int64) *time.Time { t := time.Unix(s, 0); return &t }
	stopped := &client.Vertex{Digest: "a", Error: `process "/bin/sh" did not complete successfully: exit code: 137: context canceled`, Completed: at(1)}
	second := &client.Vertex{Digest: "b", Error: "exit code: 2", Completed: at(3)}
	first := &client.Vertex{Digest: "c", Error: "exit code: 1", Completed: at(2)}
	for _, test := range []struct {
		steps []*client.Vertex
		want  string
	}{
		{nil, "context canceled"},
		{[]*client.Vertex{stopped, {Digest: "d", Completed: at(1)}}, "context canceled"},
		{[]*client.Vertex{stopped, second, first}, "failed to solve: exit code: 1"},
	} {
		p := newProgress()
		for _, v := range test.steps {
			p.vertexes[v.Digest] = v
		}
		if got := p.own(canceled, func(*client.Vertex) bool { return true }); got.Error() != test.want {
			t.Errorf("%v, not %s", got, test.want)
		}
	}
	p := newProgress()
	p.vertexes, p.commands = map[digest.Digest]*client.Vertex{"b": second, "c": first}, map[digest.Digest]string{"b": "RUN"}
	if got := p.failure(errors.New("releasing already released reference")); got.Error() != "failed to solve: exit code: 2" {
		t.Error(got)
	}
}
