package builder

import (
	"fmt"

	"github.com/kedge-build/kedge/frontend"
	"github.com/moby/buildkit/client"
)

// staleCaches warns of cache mounts that may hide a change: all files of a context have the same time, so that a program
// that compares times takes one that was edited for what its product in the cache was made from.
func staleCaches(g *frontend.Graph) []*client.VertexWarning {
	var all []*client.VertexWarning
	for _, c := range g.WorkCaches() {
		all = append(all, &client.VertexWarning{
			Vertex: c.Step,
			Level:  1,
			Short: fmt.Appendf(nil, "StaleCacheMount: programs that go by file times, as make and cargo do, may reuse what %q has of files that were changed since: "+
				"touch the sources in the RUN (line %d)", c.Target, c.Line),
			Detail: [][]byte{
				[]byte("Every file of a build context has the same time with kedge, an edited one, too. The second build of --verify begins without the cache, and shows it."),
				[]byte("For example: RUN --mount=type=cache,target=/src/obj touch *.c && make"),
			},
		})
	}
	return all
}
