package builder

import (
	"errors"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
)

// The frontend is asked more than once, and warns each time. Two lines with one mistake are two warnings.
func TestWarningsOnce(t *testing.T) {
	warning := func(line int32) *client.VertexWarning {
		at := &pb.Position{Line: line}
		return &client.VertexWarning{
			Short: []byte("FromAsCasing"), SourceInfo: &pb.SourceInfo{Filename: "Dockerfile"},
			Range: []*pb.Range{{Start: at, End: at}},
		}
	}
	status := make(chan *client.SolveStatus, 2)
	status <- &client.SolveStatus{Warnings: []*client.VertexWarning{warning(1), warning(1), warning(3)}}
	status <- &client.SolveStatus{Warnings: []*client.VertexWarning{warning(3)}}
	close(status)
	display := make(chan *client.SolveStatus, 2)
	p := newProgress()
	p.watch(status, display, Dockerfile{Path: "sub/Dockerfile"})
	shown := 0
	for st := range display {
		shown += len(st.Warnings)
	}
	if len(p.warnings) != 2 || shown != 2 {
		t.Errorf("recorded %d and displayed %d warnings, not 2", len(p.warnings), shown)
	}
	for _, w := range p.warnings {
		if w.SourceInfo.Filename != "sub/Dockerfile" {
			t.Errorf("a warning about %q", w.SourceInfo.Filename)
		}
	}
}

// The Dockerfile is called what the command line calls it, and no other file is.
func TestDockerfileNamed(t *testing.T) {
	for _, test := range []struct {
		d          Dockerfile
		from, want string
	}{
		{Dockerfile{Path: "sub/Dockerfile"}, "Dockerfile", "sub/Dockerfile"},
		{Dockerfile{Path: "sub/Dockerfile"}, "other", "other"},
		{Dockerfile{Path: "b.Dockerfile"}, "b.Dockerfile", "b.Dockerfile"},
		{Dockerfile{Inside: "docker/Dockerfile"}, "docker/Dockerfile", "docker/Dockerfile"},
		{Dockerfile{Data: []byte("FROM scratch")}, "Dockerfile", "stdin"},
		{Dockerfile{URL: "http://u:p@host/x"}, "Dockerfile", "http://xxxxx@host/x"},
	} {
		err := errdefs.WithSource(errors.New("failed"), &errdefs.Source{Info: &pb.SourceInfo{Filename: test.from}})
		for _, src := range errdefs.Sources(test.d.named(err)) {
			if src.Info.Filename != test.want {
				t.Errorf("%+v: %q is called %q, not %q", test.d, test.from, src.Info.Filename, test.want)
			}
		}
	}
	if err := (Dockerfile{}).named(nil); err != nil {
		t.Error(err)
	}
}
