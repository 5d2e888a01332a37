package frontend

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
)

// Graph is an LLB definition, as a frontend returns it for one platform. It is not changed.
type Graph struct {
	def   *pb.Definition
	nodes []node // each after its inputs; the last one only names the result
	index map[digest.Digest]int
}

type node struct {
	digest digest.Digest
	op     *pb.Op
}

// NewGraph parses an LLB definition. A nil or empty one is scratch.
func NewGraph(def *pb.Definition) (*Graph, error) {
	g := &Graph{def: def, index: map[digest.Digest]int{}}
	for i, data := range def.GetDef() {
		n := node{digest: digest.FromBytes(data), op: &pb.Op{}}
		if err := proto.Unmarshal(data, n.op); err != nil {
			return nil, fmt.Errorf("reading LLB vertex %d: %w", i, err)
		}
		for _, in := range n.op.Inputs {
			if _, ok := g.index[digest.Digest(in.Digest)]; !ok {
				return nil, fmt.Errorf("reading LLB vertex %d: its input %s is not defined before it", i, in.Digest)
			}
		}
		g.nodes = append(g.nodes, n)
		g.index[n.digest] = i
	}
	return g, nil
}

// Use is one source operation of a build.
type Use struct {
	Op       *pb.SourceOp
	Vertex   digest.Digest
	Platform *pb.Platform // nil if the source has none
	Line     int          // of the Dockerfile; 0 if it is not known
}

// Uses returns every source operation, in the order of the definition.
func (g *Graph) Uses() []Use {
	var uses []Use
	for i, n := range g.nodes {
		src := n.op.GetSource()
		if src == nil {
			continue
		}
		use := Use{Op: src, Vertex: n.digest, Platform: n.op.Platform, Line: g.step(n.digest).Line}
		// The download of an ADD has no line, but the copy from it has.
		for _, later := range g.nodes[i+1:] {
			if use.Line > 0 {
				break
			}
			if slices.ContainsFunc(later.op.Inputs, func(in *pb.Input) bool { return in.Digest == n.digest.String() }) {
				use.Line = g.step(later.digest).Line
			}
		}
		uses = append(uses, use)
	}
	return uses
}

// Vertex is an operation of a build, for Rewrite to edit.
type Vertex struct {
	Digest   digest.Digest // of the operation as it was
	Op       *pb.Op
	Metadata *pb.OpMetadata
	Step     Step     // as written, without Run, Caches, From and Copies
	Args     []string // of a RUN, unedited
	// Fetched are the copies in a file operation whose files come from a build context or an ADD, so that
	// only their content is meaningful and not their times.
	Fetched []FetchedCopy
	// Kept says that the operation is an input of a RUN with one of CacheMounts.
	Kept bool
	// Add adds another operation to the definition, once, and returns its first output as an input for Op.
	Add func(op *pb.Op, md *pb.OpMetadata) (*pb.Input, error)
}

// FetchedCopy is a copy of files that do not come from an image.
type FetchedCopy struct {
	*pb.FileActionCopy
	Sources []*pb.SourceOp // the origin of the files, unedited
}

// Rewrite returns the definition after edit has changed each operation. edit gets copies.
func (g *Graph) Rewrite(edit func(Vertex)) (*pb.Definition, error) {
	out := &pb.Definition{Metadata: map[string]*pb.OpMetadata{}}
	renamed, kept := map[string]string{}, g.kept()
	add := func(op *pb.Op, md *pb.OpMetadata) (*pb.Input, error) {
		data, err := (proto.MarshalOptions{Deterministic: true}).Marshal(op)
		if err != nil {
			return nil, fmt.Errorf("writing an added LLB vertex: %w", err)
		}
		name := digest.FromBytes(data).String()
		if out.Metadata[name] == nil {
			out.Def, out.Metadata[name] = append(out.Def, data), md
		}
		return &pb.Input{Digest: name}, nil
	}
	for i, n := range g.nodes {
		op := n.op.CloneVT()
		for _, in := range op.Inputs {
			in.Digest = renamed[in.Digest]
		}
		md := g.def.Metadata[n.digest.String()].CloneVT()
		if md == nil {
			md = &pb.OpMetadata{}
		}
		if op.Op != nil {
			edit(Vertex{Digest: n.digest, Op: op, Metadata: md, Step: g.step(n.digest), Args: n.op.GetExec().GetMeta().GetArgs(), Fetched: g.fetchedCopies(n, op), Kept: kept[n.digest], Add: add})
		}
		data := g.def.Def[i]
		if !op.EqualVT(n.op) {
			var err error
			if data, err = (proto.MarshalOptions{Deterministic: true}).Marshal(op); err != nil {
				return nil, fmt.Errorf("writing LLB vertex %d: %w", i, err)
			}
		}
		name := digest.FromBytes(data).String()
		renamed[n.digest.String()] = name
		out.Def = append(out.Def, data)
		out.Metadata[name] = md
	}
	if src := g.def.GetSource(); src != nil {
		out.Source = &pb.Source{Infos: src.Infos, Locations: map[string]*pb.Locations{}}
		for old, loc := range src.Locations {
			if name, ok := renamed[old]; ok {
				out.Source.Locations[name] = loc
			}
		}
	}
	return out, nil
}

// fetchedCopies returns the fetched copies in op, which is a copy of n.op.
func (g *Graph) fetchedCopies(n node, op *pb.Op) []FetchedCopy {
	var copies []FetchedCopy
	for _, action := range op.GetFile().GetActions() {
		in := n.input(action.SecondaryInput)
		if action.GetCopy() == nil || in == nil {
			continue
		}
		if sources := g.fetched(in); len(sources) > 0 {
			copies = append(copies, FetchedCopy{action.GetCopy(), sources})
		}
	}
	return copies
}

// fetched returns the sources behind out, or nothing if one is an image or if an instruction of the
// Dockerfile lies in between: out is then no longer the source, unpacked at most. It visits each vertex
// once, since the number of paths between two vertices can be huge.
func (g *Graph) fetched(out *pb.Input) []*pb.SourceOp {
	var sources []*pb.SourceOp
	seen := map[digest.Digest]bool{}
	var visit func(n node) bool
	visit = func(n node) bool {
		if seen[n.digest] {
			return true
		}
		seen[n.digest] = true
		if src := n.op.GetSource(); src != nil {
			scheme, _, _ := strings.Cut(src.Identifier, "://")
			sources = append(sources, src)
			return scheme != "docker-image" && scheme != "oci-layout"
		}
		return n.op.GetFile() != nil && g.step(n.digest).Line == 0 && len(n.op.Inputs) > 0 &&
			!slices.ContainsFunc(n.op.Inputs, func(in *pb.Input) bool { return !visit(g.node(in)) })
	}
	if !visit(g.node(out)) {
		return nil
	}
	return sources
}

// Step is an instruction of a Dockerfile.
type Step struct {
	File string // the frontend's name for it; empty if the instruction is not known
	Line int    // from 1; 0 if the instruction is not known
	Text string // the instruction as written, its lines joined
	Run  bool   // it executes a program, or copies from a stage that does
	// Mounts says that it reads files that no layer has to have: of a bind mount, or secrets.
	Mounts bool
	// Caches are the targets of its cache mounts.
	Caches []string
	// From are the steps behind the files that a COPY takes from another stage, in order.
	From []Step
	// Copies are what a COPY or ADD copies.
	Copies []Copy
	// Removes says that it removes files, as an instruction of another frontend can.
	Removes bool
	// Takes are the paths that it takes from sources.
	Takes []Take
}

// Copy is one source of a COPY or ADD, which may be a pattern, and its target: a file, or the folder that it
// goes into. Both have no slashes around them; the root is empty.
type Copy struct{ From, To string }

func (g *Graph) step(d digest.Digest) Step {
	src := g.def.GetSource()
	for _, loc := range src.GetLocations()[d.String()].GetLocations() {
		if loc.SourceIndex < 0 || int(loc.SourceIndex) >= len(src.Infos) || len(loc.Ranges) == 0 {
			continue
		}
		info := src.Infos[loc.SourceIndex]
		s := Step{File: info.Filename, Line: int(loc.Ranges[0].GetStart().GetLine())}
		lines := strings.Split(string(info.Data), "\n")
		for _, r := range loc.Ranges {
			for i := max(1, int(r.GetStart().GetLine())); i <= min(len(lines), int(r.GetEnd().GetLine())); i++ {
				line := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(lines[i-1]), `\`))
				s.Text = strings.TrimSpace(s.Text + " " + line)
			}
		}
		return s
	}
	return Step{}
}

// Layers returns the instruction behind each layer that this build adds, lowest first. The layers of
// base images are not included.
func (g *Graph) Layers() []Step {
	if len(g.nodes) == 0 {
		return nil
	}
	result := g.nodes[len(g.nodes)-1].op
	if result.Op != nil || len(result.Inputs) == 0 {
		return nil
	}
	var steps []Step
	for _, d := range g.layers(result.Inputs[0]) {
		step := g.fullStep(d)
		step.From = g.origins(d)
		step.Run = step.Run || slices.ContainsFunc(step.From, func(s Step) bool { return s.Run })
		step.Mounts = step.Mounts || slices.ContainsFunc(step.From, func(s Step) bool { return s.Mounts })
		steps = append(steps, step)
	}
	return steps
}

// fullStep returns step with Run, Mounts, Caches and Copies.
func (g *Graph) fullStep(d digest.Digest) Step {
	n := g.nodes[g.index[d]]
	step := g.step(d)
	step.Run = n.op.GetExec() != nil
	step.Mounts = len(n.op.GetExec().GetSecretenv()) > 0
	for _, m := range n.op.GetExec().GetMounts() {
		switch m.MountType {
		case pb.MountType_CACHE:
			step.Caches = append(step.Caches, m.Dest)
		case pb.MountType_SECRET:
			step.Mounts = true
		case pb.MountType_BIND:
			step.Mounts = step.Mounts || m.Dest != pb.RootMount && g.script(n, m) == ""
		}
	}
	for _, action := range n.op.GetFile().GetActions() {
		step.Removes = step.Removes || action.GetRm() != nil
		if c := action.GetCopy(); c != nil {
			step.Copies = append(step.Copies, Copy{inRoot(c.Src), inRoot(c.Dest)})
		}
	}
	step.Takes = g.takes(n)
	return step
}

// inRoot returns a path without slashes around it, "" for the root.
func inRoot(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// origins returns the steps behind the files that a file operation copies.
func (g *Graph) origins(d digest.Digest) []Step {
	var steps []Step
	seen := map[digest.Digest]bool{}
	var visit func(digest.Digest)
	visit = func(d digest.Digest) {
		n := g.nodes[g.index[d]]
		for _, action := range n.op.GetFile().GetActions() {
			in := n.input(action.SecondaryInput)
			if action.GetCopy() == nil || in == nil {
				continue
			}
			for _, layer := range g.layers(in) {
				if seen[layer] {
					continue
				}
				seen[layer] = true
				visit(layer)
				steps = append(steps, g.fullStep(layer))
			}
		}
	}
	visit(d)
	return steps
}

// layers returns the vertices that each add one layer to out.
func (g *Graph) layers(out *pb.Input) []digest.Digest {
	n := g.node(out)
	input := func(i int64) []digest.Digest {
		if in := n.input(i); in != nil {
			return g.layers(in)
		}
		return nil
	}
	switch {
	case n.op.GetExec() != nil, n.op.GetFile() != nil:
		below, ok := n.below(out.Index)
		if !ok {
			return nil
		}
		return append(input(below), n.digest)
	case n.op.GetMerge() != nil:
		var all []digest.Digest
		for _, in := range n.op.GetMerge().Inputs {
			all = append(all, input(in.Input)...)
		}
		return all
	case n.op.GetDiff() != nil:
		lower, upper := input(n.op.GetDiff().GetLower().GetInput()), input(n.op.GetDiff().GetUpper().GetInput())
		if len(lower) <= len(upper) && slices.Equal(lower, upper[:len(lower)]) {
			return upper[len(lower):]
		}
		return []digest.Digest{n.digest} // the difference becomes one layer
	}
	return nil
}

// BaseUse returns the image that the result starts from, or nil if it starts from something else.
func (g *Graph) BaseUse() *Use {
	if len(g.nodes) == 0 {
		return nil
	}
	result := g.nodes[len(g.nodes)-1]
	if result.op.Op != nil {
		return nil
	}
	out := result.input(0)
	for out != nil {
		n := g.node(out)
		if src := n.op.GetSource(); src != nil {
			in, err := Identify(src)
			if err != nil || in.Source.Kind != lock.Image {
				return nil
			}
			return &Use{Op: src, Vertex: n.digest, Platform: n.op.Platform, Line: g.step(n.digest).Line}
		}
		below, ok := n.below(out.Index)
		if inputs := n.op.GetMerge().GetInputs(); len(inputs) > 0 {
			below, ok = inputs[0].Input, true
		}
		if !ok {
			return nil
		}
		out = n.input(below)
	}
	return nil
}

func (g *Graph) node(out *pb.Input) node { return g.nodes[g.index[digest.Digest(out.Digest)]] }

// input returns the input with an index, or nil for scratch.
func (n node) input(i int64) *pb.Input {
	if i < 0 || i >= int64(len(n.op.Inputs)) {
		return nil
	}
	return n.op.Inputs[i]
}

// below returns the index of the input that an output of a RUN or a file operation is based on.
func (n node) below(output int64) (int64, bool) {
	for _, m := range n.op.GetExec().GetMounts() {
		if m.Output == output {
			return m.Input, true
		}
	}
	// An action of a file operation can be based on another one.
	actions := n.op.GetFile().GetActions()
	index := slices.IndexFunc(actions, func(a *pb.FileAction) bool { return a.Output == output })
	for range actions {
		if index < 0 || index >= len(actions) {
			return 0, false
		}
		in := actions[index].Input
		if in < int64(len(n.op.Inputs)) {
			return in, true
		}
		index = int(in) - len(n.op.Inputs)
	}
	return 0, false
}

// Nested reports whether the definition contains a nested build, whose operations are not known.
func (g *Graph) Nested() bool {
	return slices.ContainsFunc(g.nodes, func(n node) bool { return n.op.GetBuild() != nil })
}

// Commands returns the command line of each RUN, by its vertex.
func (g *Graph) Commands() map[digest.Digest]string {
	commands := map[digest.Digest]string{}
	for _, n := range g.nodes {
		if exec := n.op.GetExec(); exec != nil {
			commands[n.digest] = strings.Join(exec.GetMeta().GetArgs(), " ")
		}
	}
	return commands
}

// Fetch returns a definition that consists of op alone.
func Fetch(op *pb.SourceOp) (*pb.Definition, error) {
	marshal := proto.MarshalOptions{Deterministic: true}.Marshal
	source, err := marshal(&pb.Op{Op: &pb.Op_Source{Source: op}})
	if err != nil {
		return nil, fmt.Errorf("writing the LLB of %q: %w", op.Identifier, err)
	}
	result, err := marshal(&pb.Op{Inputs: []*pb.Input{{Digest: digest.FromBytes(source).String()}}})
	if err != nil {
		return nil, fmt.Errorf("writing the LLB of %q: %w", op.Identifier, err)
	}
	return &pb.Definition{Def: [][]byte{source, result}}, nil
}
