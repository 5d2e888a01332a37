package frontend

import (
	"path"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// WorkCache is a cache mount of a RUN below the folder that it works in, where programs keep what they make of sources.
type WorkCache struct {
	Step   digest.Digest // the vertex of the RUN
	Target string        // absolute
	Line   int           // of the Dockerfile; 0 where no line says it
}

// WorkCaches returns those of the RUN steps, in the order of the definition. Folders whose name begins with a dot, and
// those below a node_modules, are not among them: what is kept there goes by content. Nor is what a RUN in / has.
func (g *Graph) WorkCaches() []WorkCache {
	var caches []WorkCache
	for _, n := range g.nodes {
		exec := n.op.GetExec()
		cwd := path.Clean("/" + exec.GetMeta().GetCwd())
		if exec == nil || cwd == "/" {
			continue
		}
		for _, m := range exec.Mounts {
			target := path.Clean("/" + m.Dest)
			if below, ok := strings.CutPrefix(target+"/", cwd+"/"); ok && m.MountType == pb.MountType_CACHE &&
				!strings.HasPrefix(below, ".") && !strings.Contains(below, "/.") && !strings.Contains("/"+below, "/node_modules/") {
				caches = append(caches, WorkCache{Step: n.digest, Target: target, Line: g.step(n.digest).Line})
			}
		}
	}
	return caches
}
