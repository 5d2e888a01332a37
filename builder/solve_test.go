package builder

import (
	"errors"
	"testing"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
)

// A frontend may return anything.
func TestEditWithoutMeta(t *testing.T) {
	s := newSolve(nil, &Request{Vary: []Variation{VaryHostname}, Lock: &lock.File{}}, 1<<10)
	op := &pb.Op{Op: &pb.Op_Exec{Exec: &pb.ExecOp{}}}
	s.edit(frontend.Vertex{Op: op, Metadata: &pb.OpMetadata{}})
	if op.GetExec().Meta != nil {
		t.Errorf("made up: %v", op)
	}
}

func TestRepeatable(t *testing.T) {
	graph := func(op *pb.Op) *frontend.Graph {
		data, err := op.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		g, err := frontend.NewGraph(&pb.Definition{Def: [][]byte{data}})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	plain, err := graphOf(t.Context(), llb.Image("debian").Run(llb.Shlex("true")).Root())
	if err != nil {
		t.Fatal(err)
	}
	nested := graph(&pb.Op{Op: &pb.Op_Build{Build: &pb.BuildOp{}}})
	source := func(op *pb.SourceOp) *frontend.Graph { return graph(&pb.Op{Op: &pb.Op_Source{Source: op}}) }
	const repo = "git://example.com/r.git#main"
	kept := source(op(repo, pb.AttrKeepGitDir, "true"))
	for _, test := range []struct {
		salt int32
		part *frontend.Graph
		bad  bool
	}{
		{0, plain, false}, {1 << 10, plain, false},
		{0, nested, false}, {1 << 10, nested, true},
		{0, kept, false}, {1 << 10, kept, true},
		{1 << 10, source(op(repo)), false},
		{1 << 10, source(op(repo+":folder", pb.AttrKeepGitDir, "true")), false},
	} {
		s := newSolve(nil, &Request{Dockerfile: Dockerfile{Path: "Dockerfile"}, Lock: &lock.File{}}, test.salt)
		var found *OnceError
		if err := s.repeatable([]part{{graph: test.part}}); errors.As(err, &found) != test.bad {
			t.Errorf("salt %d: %v", test.salt, err)
		}
	}
}
