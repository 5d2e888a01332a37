package builder

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/kedge-build/kedge/frontend"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	"github.com/opencontainers/go-digest"
)

// newRewriter returns the rewriter for def, and decides which files the steps see with their own times:
// those whose products a cache mount may keep. Otherwise make, cargo and go would take a product for
// newer than its source, edited since. No file is older than the epoch. The image has no time after the
// epoch, so all of them have the epoch there.
//
// In a second build every file has the epoch, so that a step that records a time, or depends on one,
// gives another result. There are no products then either. If the epoch lies in the future, every
// product is older than its source.
func (j *job) newRewriter(def *definition, have apicaps.CapSet) *rewriter {
	r := &rewriter{
		epoch: j.epoch, pass: j.pass, vary: j.req.Vary, clock: j.req.Clock, pins: j.pins, archive: j.req.Context.Archive,
		ownTimes: map[string]bool{}, cacheKeys: map[string][]string{}, downloads: j.downloads,
	}
	if j.pass.IsSecond() || j.epoch.After(j.req.now()) {
		return r
	}
	for _, p := range def.parts {
		for _, cache := range p.graph.CacheMounts() {
			for _, src := range cache.Sources {
				switch scheme, rest, _ := strings.Cut(src.Identifier, "://"); {
				case scheme == "local":
					r.ownTimes[src.Identifier] = true
					j.times.keep(rest)
				case scheme == "git" && have.Supports(pb.CapSourceGitMTime) == nil, r.uploaded(src):
					r.ownTimes[src.Identifier] = true
				case scheme == "git", scheme == "http", scheme == "https":
					// This builder can only give these files the epoch, or a time before it. So each version of
					// the source gets a cache of its own.
					if in, err := frontend.Identify(src); err == nil {
						_, pin, _ := j.pins.find(in)
						r.cacheKeys[cache.ID] = append(r.cacheKeys[cache.ID], in.Source.Ref+" "+pin)
					}
				}
			}
		}
	}
	return r
}

// uploaded reports whether src is the archive that this machine uploads as the build context.
func (r *rewriter) uploaded(src *pb.SourceOp) bool {
	return r.archive != nil && src.Identifier == r.archive.uploadURL(r.epoch, false)
}

// timed returns src, changed to give the files their own times if they keep them: a folder's and an
// archive's as they are sent, a git tree's when it is checked out. The epoch is part of the change,
// since the copy of an earlier epoch can have times before this one.
func (r *rewriter) timed(src *pb.SourceOp) *pb.SourceOp {
	if !r.ownTimes[src.Identifier] {
		return src
	}
	seconds := strconv.FormatInt(r.epoch.Unix(), 10)
	timed := &pb.SourceOp{Identifier: src.Identifier, Attrs: maps.Clone(src.Attrs)}
	if timed.Attrs == nil {
		timed.Attrs = map[string]string{}
	}
	switch scheme, _, _ := strings.Cut(src.Identifier, "://"); scheme {
	case "local":
		// Only such builds sync with this copy of the folder, so that its times do not change back and forth.
		timed.Attrs[pb.AttrSharedKeyHint] += "@" + seconds
	case "git":
		// BuildKit's source/git takes any word but "commit" for the time of the checkout, and adds the word
		// to its cache key.
		timed.Attrs[pb.AttrGitMTime] = "checkout@" + seconds
	default:
		timed.Identifier = r.archive.uploadURL(r.epoch, true)
	}
	return timed
}

// stamp sets the time of the files that v copies from a context, or fetches, to the epoch, unless they
// keep their own. The daemon ignores times when it looks in its cache, so a file in the cache can have
// the times of another epoch, or of another form of the context.
func (r *rewriter) stamp(v frontend.Vertex) {
	for _, c := range v.Fetched {
		keeps := v.Kept && !slices.ContainsFunc(c.Sources, func(src *pb.SourceOp) bool { return !r.ownTimes[src.Identifier] })
		if !keeps {
			c.Timestamp = r.epoch.UnixNano()
		}
	}
	actions := v.Op.GetFile().GetActions()
	if !slices.ContainsFunc(actions, unstamped) {
		return
	}
	// A cached result of an earlier epoch can have times before this one, so the epoch has to be in the
	// cache key. This action adds it. Nothing uses its output, and the daemon never executes it.
	v.Op.GetFile().Actions = append(actions, &pb.FileAction{
		Input: -1, SecondaryInput: -1, Output: -1,
		Action: &pb.FileAction_Mkdir{Mkdir: &pb.FileActionMkDir{Path: "/", Mode: 0o755, Timestamp: r.epoch.UnixNano()}},
	})
}

// unstamped reports whether the output of an action has no fixed time.
func unstamped(a *pb.FileAction) bool {
	const none = -1
	switch a := a.Action.(type) {
	case *pb.FileAction_Copy:
		return a.Copy.GetTimestamp() == none
	case *pb.FileAction_Mkfile: // a here-document
		return a.Mkfile.GetTimestamp() == none
	case *pb.FileAction_Mkdir:
		return a.Mkdir.GetTimestamp() == none
	case *pb.FileAction_Symlink:
		return a.Symlink.GetTimestamp() == none
	}
	return false
}

// separate gives a cache mount an id of its own if versions of a source may not share it.
func (r *rewriter) separate(exec *pb.ExecOp) {
	for _, m := range exec.GetMounts() {
		if sources := r.cacheKeys[m.GetCacheOpt().GetID()]; m.MountType == pb.MountType_CACHE && len(sources) > 0 {
			all := slices.Compact(slices.Sorted(slices.Values(sources)))
			m.CacheOpt.ID += "@" + digest.FromString(strings.Join(all, "\n")).Encoded()
		}
	}
}
