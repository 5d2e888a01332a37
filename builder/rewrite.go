package builder

import (
	"cmp"
	"slices"
	"time"

	"github.com/kedge-build/kedge/frontend"
	"github.com/moby/buildkit/solver/pb"
)

// rewriter changes the operations of a definition into those that the daemon executes: sources are
// pinned, processes know the epoch, and copies have its time. The zero value changes nothing.
type rewriter struct {
	epoch     time.Time
	pass      Pass
	vary      []Variation
	clock     time.Duration // how far a second pass moves the clock
	pins      *pins
	archive   *Archive
	ownTimes  map[string]bool     // identifiers of the sources whose files keep their times
	cacheKeys map[string][]string // by the id of a cache mount, the versions of sources that may not share it
	downloads *downloads          // nil if steps keep their network
	err       error
}

// edit rewrites one operation in place.
func (r *rewriter) edit(v frontend.Vertex) {
	op, md := v.Op, v.Metadata
	r.stamp(v)
	if src := op.GetSource(); src != nil {
		if in, err := frontend.Identify(src); err == nil {
			pinned := r.source(src, in)
			src.Identifier, src.Attrs = pinned.Identifier, pinned.Attrs
		}
		return
	}
	// A process without Meta is left to the daemon, which refuses it.
	if exec := op.GetExec(); exec.GetMeta() != nil {
		exec.Meta.Env = frontend.SteadyEnv(exec.Meta.Env, r.epoch)
		if r.pass.IsSecond() {
			salted(exec.Meta, r.pass.salt)
			vary(r.vary, exec, md)
			if r.clock != 0 {
				moveClock(v, r.clock)
			}
		}
		if r.pass.caches != 0 && slices.ContainsFunc(exec.Mounts, isCache) {
			salted(exec.Meta, r.pass.caches)
			md.IgnoreCache = false
		}
	}
	r.separate(op.GetExec())
	r.err = cmp.Or(r.err, r.downloads.apply(v))
	if r.pass.IsSecond() {
		md.IgnoreCache = true
	}
}

// salted changes the cache key of a step and nothing else: no process exits with a status above 255. (A
// missing optional secret, another candidate, would set an empty variable.)
func salted(meta *pb.Meta, salt int32) {
	if len(meta.ValidExitCodes) == 0 {
		meta.ValidExitCodes = []int32{0}
	}
	meta.ValidExitCodes = append(meta.ValidExitCodes, salt)
}

func isCache(m *pb.Mount) bool { return m.MountType == pb.MountType_CACHE }

// source returns src pinned to the lock.
func (r *rewriter) source(src *pb.SourceOp, in frontend.Input) *pb.SourceOp {
	if _, pin, ok := r.pins.find(in); ok && !in.Local {
		src = frontend.Pinned(src, in, pin)
	}
	return r.timed(src)
}
