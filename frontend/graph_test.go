package frontend

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
)

const graphFile = `FROM debian:12
RUN one
RUN two \
  && three
COPY a b /
ADD https://example.com/x /
WORKDIR /w
`

var graphMap = llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", []byte(graphFile))

// at maps an operation to lines of graphFile.
func at(first, last int32) llb.ConstraintsOpt {
	return graphMap.Location([]*pb.Range{{Start: &pb.Position{Line: first}, End: &pb.Position{Line: last}}})
}

func definition(t testing.TB, st llb.State) *pb.Definition {
	t.Helper()
	def, err := st.Marshal(t.Context(), llb.LinuxArm64)
	if err != nil {
		t.Fatal(err)
	}
	return def.ToPB()
}

func mustGraph(t testing.TB, def *pb.Definition) *Graph {
	t.Helper()
	g, err := NewGraph(def)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func base() llb.State { return llb.Image("docker.io/library/debian:12", at(1, 1)) }

// dockerfile is similar to BuildKit's LLB for graphFile.
func dockerfile() llb.State {
	st := base()
	st = st.Run(llb.Args([]string{"/bin/sh", "-c", "one"}), at(2, 2)).Root()
	st = st.Run(llb.Args([]string{"/bin/sh", "-c", "two   && three"}), at(3, 4)).Root()
	local := llb.Local("context")
	st = st.File(llb.Copy(local, "a", "/").Copy(local, "b", "/"), at(5, 5))
	st = st.File(llb.Copy(llb.HTTP("https://example.com/x"), "x", "/"), at(6, 6))
	return st.File(llb.Mkdir("/w", 0o755, llb.WithParents(true)), at(7, 7))
}

// Copies from a context or a download are distinguished from copies from images and stages.
func TestRewriteFetched(t *testing.T) {
	archive := llb.Scratch().File(llb.Copy(llb.HTTP("https://example.com/c", llb.Filename("context")), "/context", "/", &llb.CopyInfo{AttemptUnpack: true}))
	stage := llb.Scratch().File(llb.Copy(llb.Local("context"), "a", "/"), at(5, 5))
	tests := []struct {
		name string
		from llb.State
		want int
	}{
		{"a folder", llb.Local("context"), 1},
		{"git", llb.Git("https://example.com/r.git", "main"), 1},
		{"a URL", llb.HTTP("https://example.com/x"), 1},
		{"an archive, and its unpacking", archive, 2},
		{"an image", llb.Image("docker.io/library/tiny:1"), 0},
		{"a stage without the copies from it", stage, 1},
	}
	for _, test := range tests {
		st := base().File(llb.Copy(test.from, "a", "/").Mkdir("/b", 0o755), at(6, 6))
		got := 0
		_, err := mustGraph(t, definition(t, st)).Rewrite(func(v Vertex) {
			got += len(v.Fetched)
			for _, c := range v.Fetched {
				if !slices.ContainsFunc(v.Op.GetFile().Actions, func(a *pb.FileAction) bool { return a.GetCopy() == c.FileActionCopy }) {
					t.Errorf("%s: not part of the edited operation", test.name)
				}
			}
		})
		if err != nil || got != test.want {
			t.Errorf("%s: %d, %v", test.name, got, err)
		}
	}
}

func TestUses(t *testing.T) {
	type use struct {
		ID   string
		Arch string
		Line int
	}
	var got []use
	for _, u := range mustGraph(t, definition(t, dockerfile())).Uses() {
		got = append(got, use{u.Op.Identifier, u.Platform.GetArchitecture(), u.Line})
	}
	slices.SortFunc(got, func(a, b use) int { return a.Line - b.Line })
	want := []use{
		{"docker-image://docker.io/library/debian:12", "arm64", 1},
		{"local://context", "", 5},
		{"https://example.com/x", "", 6},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRewriteNothing(t *testing.T) {
	def := definition(t, dockerfile())
	edited := 0
	got, err := mustGraph(t, def).Rewrite(func(Vertex) { edited++ })
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(def, got) {
		t.Errorf("got %v\nwant %v", got, def)
	}
	if edited != len(def.Def)-1 {
		t.Errorf("%d operations edited, want all %d but the result", edited, len(def.Def)-1)
	}
}

func TestRewrite(t *testing.T) {
	def := definition(t, dockerfile())
	before := proto.Clone(def)
	g := mustGraph(t, def)
	got, err := g.Rewrite(func(v Vertex) {
		op, md := v.Op, v.Metadata
		if src := op.GetSource(); src != nil && strings.HasPrefix(src.Identifier, imageScheme) {
			src.Identifier += "@" + digestA
		}
		if exec := op.GetExec(); exec != nil {
			md.IgnoreCache = true
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(before, def) {
		t.Error("the definition was changed")
	}
	after := mustGraph(t, got)
	for i, n := range g.nodes {
		now := after.nodes[i]
		// Everything that depends on the base image has another digest.
		src := n.op.GetSource()
		moves := src == nil || strings.HasPrefix(src.Identifier, imageScheme)
		if moves != (n.digest != now.digest) {
			t.Errorf("%v became %v", n.op, now.op)
		}
		if diff := cmp.Diff(g.step(n.digest), after.step(now.digest)); diff != "" {
			t.Errorf("source location (-before +after):\n%s", diff)
		}
		if md := got.Metadata[now.digest.String()]; md == nil || md.IgnoreCache != (n.op.GetExec() != nil) {
			t.Errorf("metadata of %v is %v", now.op, md)
		}
	}
	if diff := cmp.Diff(g.Layers(), after.Layers()); diff != "" {
		t.Errorf("layers (-before +after):\n%s", diff)
	}
	if !slices.ContainsFunc(after.Uses(), func(u Use) bool { return strings.HasSuffix(u.Op.Identifier, "debian:12@"+digestA) }) {
		t.Errorf("not pinned: %v", after.Uses())
	}
	// BuildKit reads the result.
	if _, err := llb.NewDefinitionOp(got); err != nil {
		t.Error(err)
	}
}

// Two names of one image become one operation.
func TestRewriteMerges(t *testing.T) {
	a, b := llb.Image("docker.io/library/debian:12"), llb.Image("docker.io/library/debian:13")
	g := mustGraph(t, definition(t, llb.Scratch().File(llb.Copy(a, "/x", "/a")).File(llb.Copy(b, "/x", "/b"))))
	def, err := g.Rewrite(func(v Vertex) {
		if src := v.Op.GetSource(); src != nil {
			src.Identifier = "docker-image://docker.io/library/debian:12@" + digestA
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(mustGraph(t, def).Layers()); got != 2 {
		t.Errorf("%d layers", got)
	}
	if _, err := llb.NewDefinitionOp(def); err != nil {
		t.Error(err)
	}
}

func TestLayers(t *testing.T) {
	run := func(st llb.State, line int32) llb.State {
		return st.Run(llb.Args([]string{"x"}), at(line, line)).Root()
	}
	local := llb.Local("context")
	other := run(base(), 2)
	tests := []struct {
		name string
		st   llb.State
		want []int
	}{
		{"scratch", llb.Scratch(), nil},
		{"base only", base(), nil},
		{"chain", dockerfile(), []int{2, 3, 5, 6, 7}},
		{"actions on scratch", llb.Scratch().File(llb.Mkdir("/a", 0o755).Mkfile("/a/b", 0o644, nil).Rm("/a/b"), at(5, 5)), []int{5}},
		{"run on scratch", run(llb.Scratch(), 2), []int{2}},
		{"a copied stage is not below", base().File(llb.Copy(run(other, 3), "/a", "/"), at(5, 5)), []int{5}},
		{"several actions on a layer", run(base(), 2).File(llb.Copy(local, "a", "/").Mkdir("/x", 0o755), at(5, 5)), []int{2, 5}},
		{"merge", llb.Merge([]llb.State{other, llb.Scratch().File(llb.Copy(local, "a", "/"), at(5, 5)), llb.Scratch().File(llb.Copy(local, "b", "/"), at(6, 6))}), []int{2, 5, 6}},
		{"diff", llb.Diff(other, run(run(other, 3), 5)), []int{3, 5}},
		{"diff of the same", llb.Diff(other, other), nil},
		{"diff from scratch", llb.Diff(llb.Scratch(), run(other, 3)), []int{2, 3}},
		{"diff from the base", llb.Diff(base(), run(other, 3)), []int{2, 3}},
		{"merge of a diff", llb.Merge([]llb.State{base(), llb.Diff(other, run(other, 3))}), []int{3}},
		{"second mount", run(base(), 2).Run(llb.Args([]string{"x"}), at(3, 3)).AddMount("/m", run(llb.Scratch(), 5)), []int{5, 3}},
		{"mounts are not layers", base().Run(llb.Args([]string{"x"}), at(3, 3),
			llb.AddMount("/m", other, llb.Readonly), llb.AddMount("/c", llb.Scratch(), llb.AsPersistentCacheDir("c", llb.CacheMountShared))).Root(), []int{3}},
		{"no location", base().Run(llb.Args([]string{"x"})).Root(), []int{0}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []int
			for _, s := range mustGraph(t, definition(t, test.st)).Layers() {
				got = append(got, s.Line)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSteps(t *testing.T) {
	want := []Step{
		{File: "Dockerfile", Line: 2, Text: "RUN one", Run: true},
		{File: "Dockerfile", Line: 3, Text: "RUN two && three", Run: true},
		{File: "Dockerfile", Line: 5, Text: "COPY a b /", Copies: []Copy{{From: "a"}, {From: "b"}}, Takes: []Take{{Source: "local://context", Path: "a"}, {Source: "local://context", Path: "b"}}},
		{File: "Dockerfile", Line: 6, Text: "ADD https://example.com/x /", Copies: []Copy{{From: "x"}}, Takes: []Take{{Source: "https://example.com/x", Path: "x"}}},
		{File: "Dockerfile", Line: 7, Text: "WORKDIR /w"},
	}
	if diff := cmp.Diff(want, mustGraph(t, definition(t, dockerfile())).Layers()); diff != "" {
		t.Error(diff)
	}
}

func TestStepsOfOtherStages(t *testing.T) {
	build := llb.Image("a").Run(llb.Args([]string{"one"})).Run(llb.Args([]string{"two"})).Root()
	nested := llb.Image("b").File(llb.Copy(build, "/x", "/y"))
	st := llb.Image("c").File(llb.Copy(nested, "/y", "/z"))
	steps := mustGraph(t, definition(t, st)).Layers()
	// The copy in between, and the two steps behind it.
	if len(steps) != 1 || len(steps[0].From) != 3 || !steps[0].Run {
		t.Errorf("%+v", steps)
	}
	if steps := mustGraph(t, definition(t, llb.Image("c").File(llb.Copy(llb.Local("context"), "/", "/")))).Layers(); len(steps) != 1 || steps[0].From != nil || steps[0].Run {
		t.Errorf("a copy from the context: %+v", steps)
	}
	copied := llb.Image("b").File(llb.Copy(llb.Local("context"), "/", "/"))
	if steps := mustGraph(t, definition(t, llb.Image("c").File(llb.Copy(copied, "/", "/")))).Layers(); len(steps) != 1 || len(steps[0].From) != 1 || steps[0].Run {
		t.Errorf("a copy of a copy from the context: %+v", steps)
	}
}

func TestStepsCaches(t *testing.T) {
	cache := func(target string) llb.RunOption {
		return llb.AddMount(target, llb.Scratch(), llb.AsPersistentCacheDir("id"+target, llb.CacheMountShared))
	}
	build := llb.Image("a").Run(llb.Args([]string{"make"}), cache("/src/obj"), cache("/var/cache/apt")).Root()
	st := llb.Image("b").File(llb.Copy(build, "/x", "/y")).Run(llb.Args([]string{"go"}), cache("/root/.cache/go-build")).Root()
	steps := mustGraph(t, definition(t, st)).Layers()
	if len(steps) != 2 || len(steps[0].Caches) > 0 || len(steps[0].From) != 1 {
		t.Fatalf("%+v", steps)
	}
	if diff := cmp.Diff([][]string{{"/src/obj", "/var/cache/apt"}, {"/root/.cache/go-build"}}, [][]string{steps[0].From[0].Caches, steps[1].Caches}); diff != "" {
		t.Error(diff)
	}
}

// Only files that no layer has to have count: those of bind mounts and secrets.
func TestStepsMounts(t *testing.T) {
	run := llb.Args([]string{"cp"})
	for name, test := range map[string]struct {
		st   llb.State
		want bool
	}{
		"nothing":   {llb.Image("a").Run(run).Root(), false},
		"a cache":   {llb.Image("a").Run(run, llb.AddMount("/c", llb.Scratch(), llb.AsPersistentCacheDir("c", llb.CacheMountShared))).Root(), false},
		"tmpfs":     {llb.Image("a").Run(run, llb.AddMount("/t", llb.Scratch(), llb.Tmpfs())).Root(), false},
		"a bind":    {llb.Image("a").Run(run, llb.AddMount("/c", llb.Local("context"), llb.Readonly)).Root(), true},
		"a stage":   {llb.Image("a").Run(run, llb.AddMount("/c", llb.Image("b"), llb.Readonly)).Root(), true},
		"a secret":  {llb.Image("a").Run(run, llb.AddSecret("/s")).Root(), true},
		"a value":   {llb.Image("a").Run(run, llb.AddSecret("S", llb.SecretAsEnv(true))).Root(), true},
		"of a copy": {llb.Image("b").File(llb.Copy(llb.Image("a").Run(run, llb.AddSecret("/s")).Root(), "/x", "/y")), true},
	} {
		steps := mustGraph(t, definition(t, test.st)).Layers()
		if len(steps) != 1 || steps[0].Mounts != test.want {
			t.Errorf("%s: %+v", name, steps)
		}
	}
}

func TestCommands(t *testing.T) {
	g := mustGraph(t, definition(t, dockerfile()))
	var got []string
	for d, command := range g.Commands() {
		if n := g.nodes[g.index[d]]; strings.Join(n.op.GetExec().GetMeta().GetArgs(), " ") != command {
			t.Errorf("%s is of %v", command, n.op)
		}
		got = append(got, command)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"/bin/sh -c one", "/bin/sh -c two   && three"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestEmptyGraph(t *testing.T) {
	for _, def := range []*pb.Definition{nil, {}, {Source: &pb.Source{}}} {
		g := mustGraph(t, def)
		if g.Layers() != nil || g.Uses() != nil || len(g.Commands()) != 0 {
			t.Errorf("%v is not empty", def)
		}
		got, err := g.Rewrite(func(Vertex) { t.Error("edited") })
		if err != nil || len(got.Def) != 0 {
			t.Errorf("%v, %v", got, err)
		}
	}
}

func marshal(t testing.TB, op *pb.Op) []byte {
	t.Helper()
	data, err := op.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestBrokenGraph(t *testing.T) {
	good := definition(t, dockerfile())
	edit := func(change func(*pb.Definition)) *pb.Definition {
		def := good.CloneVT()
		change(def)
		return def
	}
	tests := map[string]*pb.Definition{
		"input is missing":      edit(func(d *pb.Definition) { d.Def = d.Def[1:] }),
		"order is turned round": edit(func(d *pb.Definition) { slices.Reverse(d.Def) }),
		"no protobuf":           edit(func(d *pb.Definition) { d.Def[0] = []byte{0xff} }),
		"cut":                   edit(func(d *pb.Definition) { d.Def[0] = d.Def[0][:len(d.Def[0])-1] }),
		"no digest":             {Def: [][]byte{marshal(t, &pb.Op{Inputs: []*pb.Input{{Digest: "x"}}})}},
		"empty digest":          {Def: [][]byte{marshal(t, &pb.Op{Inputs: []*pb.Input{{}}})}},
	}
	for name, def := range tests {
		if _, err := NewGraph(def); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A graph that makes no sense causes no panic and no endless loop.
func TestOddGraph(t *testing.T) {
	image := marshal(t, &pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: "docker-image://a"}}})
	imageDigest := digest.FromBytes(image).String()
	result := func(ops ...*pb.Op) *pb.Definition {
		def := &pb.Definition{Def: [][]byte{image}}
		below := imageDigest
		for _, op := range ops {
			op.Inputs = []*pb.Input{{Digest: below}}
			data := marshal(t, op)
			def.Def = append(def.Def, data)
			below = digest.FromBytes(data).String()
		}
		def.Def = append(def.Def, marshal(t, &pb.Op{Inputs: []*pb.Input{{Digest: below}}}))
		return def
	}
	located := func(infos []*pb.SourceInfo, locations ...*pb.Location) *pb.Definition {
		return &pb.Definition{Def: [][]byte{image}, Source: &pb.Source{
			Infos: infos, Locations: map[string]*pb.Locations{imageDigest: {Locations: locations}},
		}}
	}
	merge := func(input int64) *pb.Op {
		return &pb.Op{Op: &pb.Op_Merge{Merge: &pb.MergeOp{Inputs: []*pb.MergeInput{{Input: input}}}}}
	}
	file := func(actions ...*pb.FileAction) *pb.Op {
		return &pb.Op{Op: &pb.Op_File{File: &pb.FileOp{Actions: actions}}}
	}
	exec := func(e *pb.ExecOp) *pb.Op { return &pb.Op{Op: &pb.Op_Exec{Exec: e}} }
	lines := func(first, last int32) []*pb.Range {
		return []*pb.Range{{Start: &pb.Position{Line: first}, End: &pb.Position{Line: last}}}
	}
	tests := map[string]*pb.Definition{
		"input out of range":      result(merge(7)),
		"negative input":          result(merge(-7)),
		"exec without anything":   result(exec(&pb.ExecOp{})),
		"exec without its output": result(exec(&pb.ExecOp{Mounts: []*pb.Mount{{Output: 3}}})),
		"diff without sides":      result(&pb.Op{Op: &pb.Op_Diff{Diff: &pb.DiffOp{}}}),
		"file without actions":    result(file()),
		"action of itself":        result(file(&pb.FileAction{Input: 1})),
		"actions of each other":   result(file(&pb.FileAction{Input: 2}, &pb.FileAction{Input: 1, Output: -1})),
		"action out of range":     result(file(&pb.FileAction{Input: 1 << 40})),
		"result without an input": {Def: [][]byte{image, marshal(t, &pb.Op{})}},
		"no result":               {Def: [][]byte{image}},
		"build":                   result(&pb.Op{Op: &pb.Op_Build{Build: &pb.BuildOp{}}}),
		"result in the middle":    result(&pb.Op{}, merge(0)),
		"no such file":            located(nil, &pb.Location{SourceIndex: 3, Ranges: lines(1, 1)}, &pb.Location{}),
		"negative file":           located([]*pb.SourceInfo{{}}, &pb.Location{SourceIndex: -1, Ranges: lines(1, 1)}),
		"no ranges":               located([]*pb.SourceInfo{{}}, &pb.Location{}),
		"range without positions": located([]*pb.SourceInfo{{}}, &pb.Location{Ranges: []*pb.Range{{}}}),
		"lines out of range":      located([]*pb.SourceInfo{{Data: []byte("x")}}, &pb.Location{Ranges: lines(-5, 9)}),
	}
	for name, def := range tests {
		t.Run(name, func(t *testing.T) { walk(t, mustGraph(t, def)) })
	}
}

// walk calls every method of a graph.
func walk(t testing.TB, g *Graph) {
	t.Helper()
	g.Layers()
	g.Uses()
	g.Commands()
	same, err := g.Rewrite(func(Vertex) {})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(g.def.GetDef(), same.GetDef()); diff != "" {
		t.Errorf("rewriting nothing (-before +after):\n%s", diff)
	}
	edited, err := g.Rewrite(func(v Vertex) {
		if src := v.Op.GetSource(); src != nil {
			src.Identifier += "x"
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewGraph(edited); err != nil {
		t.Errorf("the rewritten graph is broken: %v", err)
	}
}

func TestFetch(t *testing.T) {
	for _, test := range sourceTests {
		def, err := Fetch(test.op)
		if err != nil {
			t.Fatal(err)
		}
		uses := mustGraph(t, def).Uses()
		if len(uses) != 1 || !uses[0].Op.EqualVT(test.op) {
			t.Errorf("%v: %v", test.op, uses)
		}
	}
}

// excessive reports whether a graph is too expensive for a fuzzer, because its layers multiply.
func excessive(def *pb.Definition) bool {
	inputs := 0
	for _, data := range def.Def {
		var op pb.Op
		if op.UnmarshalVT(data) != nil {
			return false
		}
		inputs += len(op.Inputs) + len(op.GetMerge().GetInputs())
	}
	return inputs > 40
}

func FuzzNewGraph(f *testing.F) {
	for _, st := range []llb.State{llb.Scratch(), base(), dockerfile(), llb.Merge([]llb.State{base(), llb.Diff(base(), dockerfile())})} {
		data, err := definition(f, st).MarshalVT()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		def := &pb.Definition{}
		if def.UnmarshalVT(data) != nil || excessive(def) {
			return
		}
		g, err := NewGraph(def)
		if err != nil {
			return
		}
		walk(t, g)
	})
}

func TestSettings(t *testing.T) {
	const text = "FROM debian:12 AS Build\nRUN one\nFROM debian:12\nRUN two\n"
	source := llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", []byte(text))
	line := func(n int32) llb.ConstraintsOpt {
		return source.Location([]*pb.Range{{Start: &pb.Position{Line: n}, End: &pb.Position{Line: n}}})
	}
	built := base().Run(llb.Args([]string{"one"}), llb.AddEnv("CFLAGS", "-O2"), llb.AddEnv("CGO_ENABLED", "0"), line(2))
	st := base().Run(llb.Args([]string{"two"}), llb.AddEnv("GOFLAGS", "-mod=vendor"), line(4),
		llb.AddEnv("PATH", "/bin"), llb.AddEnv("LDFLAGS", ""), llb.AddEnv("MY_CFLAGS", "-O2"), llb.AddMount("/m", built.Root())).Root()
	want := []Setting{{2, "CFLAGS", "-O2"}, {2, "CGO_ENABLED", "0"}, {4, "GOFLAGS", "-mod=vendor"}}
	got := mustGraph(t, definition(t, st)).Settings()
	slices.SortFunc(got, func(a, b Setting) int { return strings.Compare(a.Name, b.Name) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	d, err := Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for line, stage := range []string{"", "build", "build", "1", "1", "1"} {
		if got := d.StageAt(line); got != stage {
			t.Errorf("line %d is in stage %q, not %q", line, got, stage)
		}
	}
}
