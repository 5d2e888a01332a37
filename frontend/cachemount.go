package frontend

import (
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// CacheMount is a cache mount in which a RUN may keep products of its sources. Programs that compare
// times (make, cargo, go) then need every edited source to be newer than its product.
type CacheMount struct {
	ID      string         // the daemon's name for it
	Sources []*pb.SourceOp // the sources of the RUN and of everything in its file system
}

// CacheMounts returns the cache mounts of all steps, in the order of the definition. It leaves out those
// that hold only downloads, whose content depends on a name and a version.
func (g *Graph) CacheMounts() []CacheMount {
	var mounts []CacheMount
	for _, n := range g.nodes {
		for _, cache := range n.keeps() {
			before := map[digest.Digest]bool{}
			g.ancestors(n, before)
			m := CacheMount{ID: cache.GetCacheOpt().GetID()}
			for _, a := range g.nodes {
				if src := a.op.GetSource(); src != nil && before[a.digest] {
					m.Sources = append(m.Sources, src)
				}
			}
			mounts = append(mounts, m)
		}
	}
	return mounts
}

// kept returns the vertices that are inputs of a step with such a cache mount.
func (g *Graph) kept() map[digest.Digest]bool {
	kept := map[digest.Digest]bool{}
	for _, n := range g.nodes {
		if len(n.keeps()) > 0 {
			g.ancestors(n, kept)
		}
	}
	return kept
}

// ancestors adds the direct and indirect inputs of n.
func (g *Graph) ancestors(n node, to map[digest.Digest]bool) {
	for _, in := range n.op.Inputs {
		if above := g.node(in); !to[above.digest] {
			to[above.digest] = true
			g.ancestors(above, to)
		}
	}
}

// keeps returns the cache mounts of a RUN that may hold more than downloads.
func (n node) keeps() []*pb.Mount {
	var mounts []*pb.Mount
	for _, m := range n.op.GetExec().GetMounts() {
		if m.MountType == pb.MountType_CACHE && !downloads(m.Dest) {
			mounts = append(mounts, m)
		}
	}
	return mounts
}

// downloadFolders are the folders in which package managers keep downloads and nothing else. Do not add a
// folder that a program uses to compare the time of a source: go does that with .cache/go-build, gradle
// with .gradle, webpack with node_modules/.cache.
var downloadFolders = []string{
	"/var/cache/apt", "/var/lib/apt", "/var/cache/dnf", "/var/cache/libdnf5", "/var/cache/yum", "/var/cache/zypp",
	"/var/cache/apk", "/etc/apk/cache", "/var/cache/pacman",
	"/.cache/pip", "/.cache/pypoetry", "/.npm", "/.cache/yarn", "/.yarn/berry/cache", "/pnpm/store", "/.pnpm-store", "/.bun/install/cache",
	"/go/pkg/mod", "/.cargo/registry", "/usr/local/cargo/registry", "/.cargo/git", "/usr/local/cargo/git",
	"/.m2", "/.nuget/packages", "/.composer/cache", "/.cache/composer", "/.cache/coursier",
}

// downloads reports whether target is one of downloadFolders, in any home, or lies below one.
func downloads(target string) bool {
	target = path.Clean("/"+target) + "/"
	return slices.ContainsFunc(downloadFolders, func(folder string) bool { return strings.Contains(target, folder+"/") })
}
