package frontend

import (
	"encoding/json"

	"github.com/moby/buildkit/solver/pb"
)

// Take is a path that an instruction takes from a build context or another source that is no image.
type Take struct {
	Source string // its identifier: local:// and the name of a mount, or a URL
	Path   string // in the source, without slashes around it; empty for all of it. It may be a pattern.
	// Included are the patterns of --parents, below Path; Excluded those of --exclude.
	Included, Excluded []string
}

// Names returns the paths and patterns that t stands for. It returns none if t is all of a source.
func (t Take) Names() []string {
	if len(t.Included) == 0 && t.Path != "" {
		return []string{t.Path}
	}
	var all []string
	for _, pattern := range t.Included {
		all = append(all, inRoot(t.Path+"/"+pattern))
	}
	return all
}

// takes returns what a RUN mounts and what a COPY or ADD copies.
func (g *Graph) takes(n node) []Take {
	var all []Take
	add := func(in *pb.Input, path string, included, excluded []string) {
		if in == nil {
			return
		}
		for _, src := range g.fetched(in) {
			all = append(all, Take{src.Identifier, inRoot(path), included, excluded})
		}
	}
	for _, action := range n.op.GetFile().GetActions() {
		if c := action.GetCopy(); c != nil {
			add(n.input(action.SecondaryInput), c.Src, c.IncludePatterns, c.ExcludePatterns)
		}
	}
	for _, m := range n.op.GetExec().GetMounts() {
		if m.MountType == pb.MountType_BIND {
			add(n.input(m.Input), m.Selector, nil, nil)
		}
	}
	return all
}

// TakenAt returns what instructions take, by their lines.
func (g *Graph) TakenAt() map[int][]Take {
	taken := map[int][]Take{}
	for _, n := range g.nodes {
		if takes := g.takes(n); len(takes) > 0 {
			line := g.step(n.digest).Line
			taken[line] = append(taken[line], takes...)
		}
	}
	return taken
}

// Taken returns what all operations take, and the patterns that ignore files and the frontend choose of
// folders, as takes of their own.
func (g *Graph) Taken() []Take {
	var all []Take
	for _, n := range g.nodes {
		all = append(all, g.takes(n)...)
		for _, key := range []string{pb.AttrExcludePatterns, pb.AttrIncludePatterns, pb.AttrFollowPaths} {
			var patterns []string
			if src := n.op.GetSource(); json.Unmarshal([]byte(src.GetAttrs()[key]), &patterns) == nil {
				for _, p := range patterns {
					all = append(all, Take{Source: src.GetIdentifier(), Path: inRoot(p)})
				}
			}
		}
	}
	return all
}
