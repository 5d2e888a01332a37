package builder

import (
	"runtime"
	"testing"
	"time"

	"github.com/kedge-build/kedge/frontend"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/protobuf/proto"
)

// TestMoveClock: the first pass is left as it is, whatever the second one does, so that its steps and those of
// later builds share a cache.
func TestMoveClock(t *testing.T) {
	run := &pb.Op{
		Op:       &pb.Op_Exec{Exec: &pb.ExecOp{Meta: &pb.Meta{Args: []string{"date"}, Cwd: "/"}, Mounts: []*pb.Mount{{Dest: "/", Input: -1}}}},
		Platform: &pb.Platform{OS: "linux", Architecture: runtime.GOARCH},
	}
	data, err := proto.Marshal(run)
	if err != nil {
		t.Fatal(err)
	}
	g, err := frontend.NewGraph(&pb.Definition{Def: [][]byte{data}, Metadata: map[string]*pb.OpMetadata{}})
	if err != nil {
		t.Fatal(err)
	}
	rewrite := func(pass Pass, clock time.Duration) *pb.Definition {
		t.Helper()
		r := &rewriter{pass: pass, clock: clock, pins: &pins{}}
		def, err := g.Rewrite(r.edit)
		if err != nil {
			t.Fatal(err)
		}
		return def
	}
	plain, first := rewrite(Pass{}, 0), rewrite(Pass{}, time.Hour)
	if !proto.Equal(plain, first) {
		t.Error("the first pass knows that the second one moves the clock")
	}
	second := rewrite(Second(&Result{}), time.Hour)
	if !CanMoveClock(runtime.GOARCH) {
		if len(second.Def) != len(plain.Def) {
			t.Error("there is no library, and an operation for it")
		}
		return
	}
	if len(second.Def) != len(plain.Def)+1 {
		t.Fatalf("%d operations, want one more than %d", len(second.Def), len(plain.Def))
	}
	var op pb.Op
	if err := proto.Unmarshal(second.Def[1], &op); err != nil {
		t.Fatal(err)
	}
	if len(op.GetExec().GetMeta().GetEnv()) != len(envOf(t, plain)) {
		t.Errorf("the clock shows in the environment: %q", op.GetExec().GetMeta().GetEnv())
	}
	for _, m := range op.GetExec().GetMounts()[1:] {
		if !m.Readonly || m.Output != int64(pb.SkipOutput) {
			t.Errorf("%+v", m)
		}
	}
}

func envOf(t *testing.T, def *pb.Definition) []string {
	t.Helper()
	var op pb.Op
	if err := proto.Unmarshal(def.Def[0], &op); err != nil {
		t.Fatal(err)
	}
	return op.GetExec().GetMeta().GetEnv()
}
