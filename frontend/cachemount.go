package frontend

import (
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// CacheMount is a cache mount in which a RUN may keep what it makes of its sources, so that a program that compares times
// (make, cargo, go) has to find a source newer than the product that it was changed after.
type CacheMount struct {
	ID      string         // as the daemon knows it
	Sources []*pb.SourceOp // what the RUN and all that it has in its files are made from
}

// CacheMounts returns those of all steps, in the order of the definition. Those that hold nothing but downloads are not
// among them: what is in these follows from their names and versions.
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

// kept returns the vertices that a step with such a cache mount is made from.
func (g *Graph) kept() map[digest.Digest]bool {
	kept := map[digest.Digest]bool{}
	for _, n := range g.nodes {
		if len(n.keeps()) > 0 {
			g.ancestors(n, kept)
		}
	}
	return kept
}

// ancestors adds what n is made from, but not n.
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

// downloadFolders are where package managers keep what they download, and nothing that they make of sources. A folder in
// which, or with whose help, a program compares a source's time must not be added: go does so with .cache/go-build, gradle
// with .gradle, webpack with node_modules/.cache.
var downloadFolders = []string{
	"/var/cache/apt", "/var/lib/apt", "/var/cache/dnf", "/var/cache/libdnf5", "/var/cache/yum", "/var/cache/zypp",
	"/var/cache/apk", "/etc/apk/cache", "/var/cache/pacman",
	"/.cache/pip", "/.cache/pypoetry", "/.npm", "/.cache/yarn", "/.yarn/berry/cache", "/pnpm/store", "/.pnpm-store", "/.bun/install/cache",
	"/go/pkg/mod", "/.cargo/registry", "/usr/local/cargo/registry", "/.cargo/git", "/usr/local/cargo/git",
	"/.m2", "/.nuget/packages", "/.composer/cache", "/.cache/composer", "/.cache/coursier",
}

// downloads reports whether target is one of downloadFolders, in whichever home, or below one.
func downloads(target string) bool {
	target = path.Clean("/"+target) + "/"
	return slices.ContainsFunc(downloadFolders, func(folder string) bool { return strings.Contains(target, folder+"/") })
}
