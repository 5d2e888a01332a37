package frontend

import (
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// Run is a RUN of a build.
type Run struct {
	Step
	Vertex       digest.Digest
	Architecture string   // as Go names it; empty if the definition does not say
	Args         []string // the command, with the shell if there is one
	Network      bool     // it has a network
	Caches       []string // the targets of all its cache mounts
	Secrets      []string // the ids of the secrets that it may read, sorted
	SSH          bool     // it may use an SSH agent
}

// Runs returns every RUN behind the result, also those that only another step mounts, in the order of the
// definition.
func (g *Graph) Runs() []Run {
	var runs []Run
	for _, n := range g.nodes {
		exec := n.op.GetExec()
		if exec == nil {
			continue
		}
		r := Run{Step: g.step(n.digest), Vertex: n.digest, Architecture: n.op.GetPlatform().GetArchitecture(), Args: exec.GetMeta().GetArgs(), Network: exec.Network != pb.NetMode_NONE}
		r.Run = true
		for _, m := range exec.GetMounts() {
			if script := g.script(n, m); script != "" {
				r.Args = []string{"sh", "-c", script}
			}
			switch m.MountType {
			case pb.MountType_CACHE:
				r.Caches = append(r.Caches, m.Dest)
			case pb.MountType_SECRET:
				r.Secrets = append(r.Secrets, m.GetSecretOpt().GetID())
			case pb.MountType_SSH:
				r.SSH = true
			}
		}
		for _, s := range exec.GetSecretenv() {
			r.Secrets = append(r.Secrets, s.ID)
		}
		slices.Sort(r.Secrets)
		r.Secrets = slices.Compact(r.Secrets)
		runs = append(runs, r)
	}
	return runs
}

// script returns the here-document with a line #! that a RUN executes from a mount, or "".
func (g *Graph) script(n node, m *pb.Mount) string {
	const heredocs = "/dev/pipes" // the frontend's folder for them
	in := n.input(m.Input)
	if in == nil || !strings.HasPrefix(m.Dest, heredocs) {
		return ""
	}
	var text string
	for _, a := range g.node(in).op.GetFile().GetActions() {
		text += string(a.GetMkfile().GetData())
	}
	return text
}
