package frontend

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
)

func TestCacheMounts(t *testing.T) {
	for _, test := range []struct {
		target string
		want   bool
	}{
		{"/src/obj", true},
		{"/target/", true},
		{"/root/.cache/go-build", true},
		{"/root/.cache", true},
		{"/home/me/.gradle", true},
		{"/app/node_modules/.cache", true},
		{"/root/.cache/pipeline", true},
		{"/src/cargo/registry", true},
		{"/root/.cache/pip", false},
		{"/root/.cache/pip/", false},
		{"/var/lib/apt/lists", false},
		{"/usr/local/cargo/registry", false},
		{"/home/me/.cargo/registry/index", false},
		{"/go/pkg/mod", false},
	} {
		mount := llb.AddMount(test.target, llb.Scratch(), llb.AsPersistentCacheDir("id", llb.CacheMountShared))
		run := base().Run(llb.Shlex("make"), mount)
		if got := mustGraph(t, definition(t, run.Root())).CacheMounts(); (len(got) > 0) != test.want {
			t.Errorf("%s: %v", test.target, got)
		}
	}
	plain := base().Run(llb.Shlex("make"), llb.AddMount("/src/obj", llb.Scratch()))
	for name, def := range map[string]*pb.Definition{"no cache": definition(t, plain.Root()), "scratch": nil} {
		if got := mustGraph(t, def).CacheMounts(); got != nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Only the inputs of a step with a cache mount count, not copies after it or in another stage.
func TestKept(t *testing.T) {
	local := llb.Local("context")
	stage := llb.Scratch().File(llb.Copy(local, "of-stage", "/"), at(2, 2))
	st := base().File(llb.Copy(local, "before", "/"), at(3, 3)).File(llb.Copy(stage, "from-stage", "/"), at(4, 4))
	cache := llb.AddMount("/obj", llb.Scratch(), llb.AsPersistentCacheDir("id", llb.CacheMountShared))
	bound := llb.AddMount("/bound", llb.Git("https://example.com/r.git", "main"), llb.Readonly)
	built := st.Run(llb.Shlex("make"), cache, bound, at(5, 5)).Root().File(llb.Copy(local, "after", "/"), at(6, 6))
	beside := base().File(llb.Copy(local, "beside", "/"), at(7, 7)).Run(llb.Shlex("true"), at(8, 8)).Root()
	g := mustGraph(t, definition(t, built.File(llb.Copy(beside, "from-beside", "/"), at(9, 9))))

	var kept, rest []string
	if _, err := g.Rewrite(func(v Vertex) {
		for _, action := range v.Op.GetFile().GetActions() {
			if v.Kept {
				kept = append(kept, action.GetCopy().Src)
			} else {
				rest = append(rest, action.GetCopy().Src)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(kept)
	slices.Sort(rest)
	if diff := cmp.Diff([]string{"/before", "/from-stage", "/of-stage"}, kept); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"/after", "/beside", "/from-beside"}, rest); diff != "" {
		t.Error(diff)
	}
	var sources []string
	for _, m := range g.CacheMounts() {
		for _, src := range m.Sources {
			sources = append(sources, m.ID+" "+src.Identifier)
		}
	}
	slices.Sort(sources)
	want := []string{"id docker-image://docker.io/library/debian:12", "id git://example.com/r.git#main", "id local://context"}
	if diff := cmp.Diff(want, sources); diff != "" {
		t.Error(diff)
	}
}
