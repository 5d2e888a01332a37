package builder

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// A Pass is one of the builds of a [Request]. The zero value is the first: it uses the builder's cache
// as the Request says. The passes after it build from what the first one resolved, and fail with a
// *[ChangedContextError] if the build context has changed since.
type Pass struct {
	first  *Result // nil in the first pass
	salt   int32   // above 255 in the second pass of a verification, otherwise 0
	caches int32   // as salt, for the steps that have a cache mount; 0 unless the pass, or the one that it repeats, keeps those
}

// First returns the first pass of a verification. It does what the zero value does, but [Request.NoCache]
// does not empty the builder's cache mounts: otherwise both builds would begin with empty ones, and agree
// about what a cache mount changes.
func First() Pass { return Pass{caches: newSalt()} }

// Repeat returns the pass that exports first again. It takes every step from the builder's cache, unless
// that has been pruned.
func Repeat(first *Result) Pass { return Pass{first: first, caches: first.caches} }

// Second returns the pass that verifies first. It executes every step again, varied as [Request.Vary]
// says, and shares no cache with any other build. [Builder.Release] removes what it leaves in the
// builder's cache.
func Second(first *Result) Pass { return Pass{first: first, salt: newSalt()} }

// IsSecond reports whether p verifies an earlier build.
func (p Pass) IsSecond() bool { return p.salt != 0 }

// forRequest returns p without what has no use for req. The daemon empties the cache mounts of a step that
// may not come from its cache. p gives such a step a cache key of its own instead, unless that would reach a
// cache that others import.
func (p Pass) forRequest(req *Request) Pass {
	if p.first == nil && (!req.NoCache || len(req.CacheTo) > 0) {
		p.caches = 0
	}
	return p
}

// request returns req as p builds it.
func (p Pass) request(req *Request) *Request {
	if p.first == nil {
		return req
	}
	again := *req
	again.Lock, again.Epoch = p.first.Lock, p.first.Epoch
	if p.IsSecond() {
		again.Locked = true
	} else {
		again.NoCache, again.NoCacheStages, again.CacheTo = false, nil, nil
	}
	return &again
}

// cacheNamespace returns the prefix of the cache mounts of a second pass: a verification neither uses nor
// prunes the user's.
func (p Pass) cacheNamespace() string { return fmt.Sprintf("kedge-%d-", p.salt) }

// newSalt returns a number that no process exits with, and that no other build uses.
func newSalt() int32 {
	var b [4]byte
	rand.Read(b[:]) //nolint:errcheck // never fails
	return int32(binary.BigEndian.Uint32(b[:])>>1 | 1<<10)
}
