package builder

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kedge-build/kedge/frontend"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	"github.com/opencontainers/go-digest"
)

// keepTimes decides which files a step finds with their own times: those that a cache mount may keep the products of.
// make, cargo and go would otherwise take a product for newer than the source that was edited since. No time is before the
// epoch, so that the image, which has none after it, has the epoch for all of them.
//
// In a second build all have the epoch: what a step writes down of a time, or makes of it, differs. Nor does it find a
// product. With an epoch that is yet to come, every product is older than its source.
func (s *solve) keepTimes(parts []part, have apicaps.CapSet) {
	s.own, s.caches = map[string]bool{}, map[string][]string{}
	if s.salt != 0 || s.epoch.After(time.Now()) {
		return
	}
	for _, p := range parts {
		for _, cache := range p.graph.CacheMounts() {
			for _, src := range cache.Sources {
				switch scheme, rest, _ := strings.Cut(src.Identifier, "://"); {
				case scheme == "local":
					s.own[src.Identifier] = true
					s.times.keep(rest)
				case scheme == "git" && have.Supports(pb.CapSourceGitMTime) == nil, s.uploaded(src):
					s.own[src.Identifier] = true
				case scheme == "git", scheme == "http", scheme == "https":
					// All that this builder could give these is a time before the epoch, or the epoch itself: another
					// version gets another cache.
					if in, err := frontend.Identify(src); err == nil {
						_, pin, _ := s.pins.find(in)
						s.caches[cache.ID] = append(s.caches[cache.ID], in.Source.Ref+" "+pin)
					}
				}
			}
		}
	}
}

// uploaded reports whether src is the archive that is the build's context.
func (s *solve) uploaded(src *pb.SourceOp) bool {
	a := s.req.Context.Archive
	return a != nil && src.Identifier == a.uploadURL(s.epoch, false)
}

// timed returns src so that its files have their own times, where they keep them: those of a folder or an archive as they
// are sent, those of a git tree when it is checked out. An older epoch's checkout, or folder, has times before this one.
func (s *solve) timed(src *pb.SourceOp) *pb.SourceOp {
	if !s.own[src.Identifier] {
		return src
	}
	seconds := strconv.FormatInt(s.epoch.Unix(), 10)
	timed := &pb.SourceOp{Identifier: src.Identifier, Attrs: maps.Clone(src.Attrs)}
	if timed.Attrs == nil {
		timed.Attrs = map[string]string{}
	}
	switch scheme, _, _ := strings.Cut(src.Identifier, "://"); scheme {
	case "local":
		// A copy of the folder that only such builds are synced with: the times are not changed back and forth.
		timed.Attrs[pb.AttrSharedKeyHint] += "@" + seconds
	case "git":
		// BuildKit's source/git knows "commit", takes anything else for the time of the checkout, and has the
		// word in its cache key.
		timed.Attrs[pb.AttrGitMTime] = "checkout@" + seconds
	default:
		timed.Identifier = s.req.Context.Archive.uploadURL(s.epoch, true)
	}
	return timed
}

// stamp gives what v copies out of a context, or fetches, the epoch's time, unless it keeps its own. The daemon takes files
// that differ in their times alone for the same, so that what it has in its cache may come from another form of the context,
// or from another epoch.
func (s *solve) stamp(v frontend.Vertex) {
	for _, c := range v.Fetched {
		keeps := v.Kept && !slices.ContainsFunc(c.Sources, func(src *pb.SourceOp) bool { return !s.own[src.Identifier] })
		if !keeps {
			c.Timestamp = s.epoch.UnixNano()
		}
	}
	actions := v.Op.GetFile().GetActions()
	if !slices.ContainsFunc(actions, unstamped) {
		return
	}
	// What was copied, or made, for an older epoch may have times before this one. So the epoch goes into the cache key, by
	// an action that nothing needs the output of: the daemon does not execute it.
	v.Op.GetFile().Actions = append(actions, &pb.FileAction{
		Input: -1, SecondaryInput: -1, Output: -1,
		Action: &pb.FileAction_Mkdir{Mkdir: &pb.FileActionMkDir{Path: "/", Mode: 0o755, Timestamp: s.epoch.UnixNano()}},
	})
}

// unstamped reports whether what an action makes has the time of what it copies, or of its making.
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

// separate gives the cache mounts of a step that may not be shared by versions of a source ids of their own.
func (s *solve) separate(exec *pb.ExecOp) {
	for _, m := range exec.GetMounts() {
		if sources := s.caches[m.GetCacheOpt().GetID()]; m.MountType == pb.MountType_CACHE && len(sources) > 0 {
			all := slices.Compact(slices.Sorted(slices.Values(sources)))
			m.CacheOpt.ID += "@" + digest.FromString(strings.Join(all, "\n")).Encoded()
		}
	}
}
