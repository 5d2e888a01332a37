package builder

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// Join returns the result of a build whose platforms several builders built in passes of one kind. It has no root.
// resolved is what all of them built from. The error is a *[ChangedContextError] if a file of the context changed
// before each of them had it.
func Join(results []*Result, resolved Resolution) (*Result, error) {
	joined := *results[0]
	joined.Resolution = resolved
	joined.Root.Digest = ""
	joined.sent, joined.locals, joined.downloadKeys = maps.Clone(joined.sent), maps.Clone(joined.locals), maps.Clone(joined.downloadKeys)
	for _, r := range results[1:] {
		for key, sum := range r.sent {
			if before, ok := joined.sent[key]; ok && before != sum {
				return nil, &ChangedContextError{Path: withoutMount(key), Nodes: true}
			}
		}
		joined.Platforms = slices.Concat(joined.Platforms, r.Platforms)
		joined.Started = earliest(joined.Started, r.Started)
		joined.Finished = latest(joined.Finished, r.Finished)
		joined.LastRunStarted = latest(joined.LastRunStarted, r.LastRunStarted)
		joined.LastRunFinished = latest(joined.LastRunFinished, r.LastRunFinished)
		joined.Refused = slices.Concat(joined.Refused, r.Refused)
		joined.Silent = slices.Concat(joined.Silent, r.Silent)
		joined.leftovers = slices.Concat(joined.leftovers, r.leftovers)
		maps.Copy(joined.sent, r.sent)
		maps.Copy(joined.locals, r.locals)
		maps.Copy(joined.downloadKeys, r.downloadKeys)
	}
	return &joined, nil
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Named returns a status whose steps have a name in front, and digests that no other build's steps have: two builds
// can have equal steps.
func Named(st *client.SolveStatus, name string) *client.SolveStatus {
	key := func(d digest.Digest) digest.Digest { return digest.FromString(name + " " + d.String()) }
	out := &client.SolveStatus{}
	for _, v := range st.Vertexes {
		copied := *v
		copied.Digest = key(v.Digest)
		copied.Inputs = nil
		for _, input := range v.Inputs {
			copied.Inputs = append(copied.Inputs, key(input))
		}
		if rest, ok := strings.CutPrefix(v.Name, "["); ok {
			copied.Name = "[" + name + " " + rest
		} else {
			copied.Name = "[" + name + "] " + v.Name
		}
		out.Vertexes = append(out.Vertexes, &copied)
	}
	for _, v := range st.Statuses {
		copied := *v
		copied.Vertex = key(v.Vertex)
		out.Statuses = append(out.Statuses, &copied)
	}
	for _, v := range st.Logs {
		copied := *v
		copied.Vertex = key(v.Vertex)
		out.Logs = append(out.Logs, &copied)
	}
	return out
}
