package frontend

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
)

// Graph is the LLB of one result of a frontend.
type Graph struct {
	def   *pb.Definition
	nodes []node // inputs before what uses them; the last one only names the result
	index map[digest.Digest]int
}

type node struct {
	digest digest.Digest
	op     *pb.Op
}

// NewGraph reads an LLB definition. A nil or empty one is scratch.
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

// Use is one place in a build that fetches something.
type Use struct {
	Op       *pb.SourceOp
	Vertex   digest.Digest
	Platform *pb.Platform // nil where the source has none
	Line     int          // of the Dockerfile; 0 where no line says it
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
		// What ADD fetches has no line of its own; the copying of it has.
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
	Op       *pb.Op
	Metadata *pb.OpMetadata
	// Fetched are the actions of a file operation that copy files of which only the content is known: those
	// of a build context, or of what an ADD fetches.
	Fetched []FetchedCopy
	// Kept says that a RUN with one of CacheMounts is made from it.
	Kept bool
}

// FetchedCopy copies files that no image has.
type FetchedCopy struct {
	*pb.FileActionCopy
	Sources []*pb.SourceOp // what has the files; as the definition has it
}

// Rewrite returns the definition with each operation as edit leaves it; edit is given copies.
func (g *Graph) Rewrite(edit func(Vertex)) (*pb.Definition, error) {
	out := &pb.Definition{Metadata: map[string]*pb.OpMetadata{}}
	renamed, kept := map[string]string{}, g.kept()
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
			edit(Vertex{Op: op, Metadata: md, Fetched: g.fetchedCopies(n, op), Kept: kept[n.digest]})
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

// fetchedCopies returns those of op, a copy of n's.
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

// fetched returns the sources behind out where none is an image, and out is the source as it is or as the frontend has
// unpacked it; or else nothing. A vertex may lead to another in very many ways.
func (g *Graph) fetched(out *pb.Input) []*pb.SourceOp {
	var sources []*pb.SourceOp
	seen := map[digest.Digest]bool{}
	var only func(n node) bool
	only = func(n node) bool {
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
			!slices.ContainsFunc(n.op.Inputs, func(in *pb.Input) bool { return !only(g.node(in)) })
	}
	if !only(g.node(out)) {
		return nil
	}
	return sources
}

// Step is an instruction of a Dockerfile.
type Step struct {
	File string // as the frontend names it; empty where no instruction is known
	Line int    // from 1; 0 where no instruction is known
	Text string // the instruction as written, its lines joined
	Run  bool   // it executes something, or copies from a stage that does
	// Caches are the targets of its cache mounts that may hold more than downloads.
	Caches []string
	// From are the steps that made what a COPY copies from another stage, in order.
	From []Step
}

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

// Layers returns the instruction behind each layer of the result that this build makes, lowest
// first: those of images that it starts from come before them and are not among them.
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
		step := g.made(d)
		step.From = g.from(d)
		step.Run = step.Run || slices.ContainsFunc(step.From, func(s Step) bool { return s.Run })
		steps = append(steps, step)
	}
	return steps
}

// made is step with what it executes.
func (g *Graph) made(d digest.Digest) Step {
	n := g.nodes[g.index[d]]
	step := g.step(d)
	step.Run = n.op.GetExec() != nil
	for _, m := range n.keeps() {
		step.Caches = append(step.Caches, m.Dest)
	}
	return step
}

// from returns the steps behind what a file operation copies.
func (g *Graph) from(d digest.Digest) []Step {
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
			for _, made := range g.layers(in) {
				if seen[made] {
					continue
				}
				seen[made] = true
				visit(made)
				steps = append(steps, g.made(made))
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
		return []digest.Digest{n.digest} // what is in upper and not in lower, as one layer
	}
	return nil
}

// BaseUse returns the image that the result starts from, or nil where it starts from scratch or from
// something else.
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

// input returns an input by its number, or nil for scratch.
func (n node) input(i int64) *pb.Input {
	if i < 0 || i >= int64(len(n.op.Inputs)) {
		return nil
	}
	return n.op.Inputs[i]
}

// below returns the number of the input that a RUN or a file operation writes its output on.
func (n node) below(output int64) (int64, bool) {
	for _, m := range n.op.GetExec().GetMounts() {
		if m.Output == output {
			return m.Input, true
		}
	}
	// The actions of a file operation write on top of each other.
	actions := n.op.GetFile().GetActions()
	at := slices.IndexFunc(actions, func(a *pb.FileAction) bool { return a.Output == output })
	for range actions {
		if at < 0 || at >= len(actions) {
			return 0, false
		}
		in := actions[at].Input
		if in < int64(len(n.op.Inputs)) {
			return in, true
		}
		at = int(in) - len(n.op.Inputs)
	}
	return 0, false
}

// Nested reports whether a build within the build is part of it, whose own operations are not known.
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

// Fetch returns the definition that does nothing but op.
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
