package builder

import (
	"errors"
	"testing"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
)

// A frontend is untrusted: its operations can lack any field.
func TestEditWithoutMeta(t *testing.T) {
	j := newJob(nil, &Request{Vary: []Variation{VaryHostname}, Lock: &lock.File{}}, Pass{salt: 1 << 10})
	op := &pb.Op{Op: &pb.Op_Exec{Exec: &pb.ExecOp{}}}
	j.newRewriter(&definition{}, pb.Caps.CapSet(nil)).edit(frontend.Vertex{Op: op, Metadata: &pb.OpMetadata{}})
	if op.GetExec().Meta != nil {
		t.Errorf("edit adds a Meta: %v", op)
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
	first, second := Pass{}, Pass{salt: 1 << 10}
	for _, test := range []struct {
		pass Pass
		part *frontend.Graph
		bad  bool
	}{
		{first, plain, false}, {second, plain, false},
		{first, nested, false}, {second, nested, true},
		{first, kept, false}, {second, kept, true},
		{second, source(op(repo)), false},
		{second, source(op(repo+":folder", pb.AttrKeepGitDir, "true")), false},
	} {
		j := newJob(nil, &Request{Dockerfile: Dockerfile{Path: "Dockerfile"}, Lock: &lock.File{}}, test.pass)
		var found *OnceError
		if err := j.repeatable(&definition{parts: []part{{graph: test.part}}}); errors.As(err, &found) != test.bad {
			t.Errorf("%+v: %v", test.pass, err)
		}
	}
}
