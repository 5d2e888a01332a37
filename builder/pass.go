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
	first *Result // nil in the first pass
	salt  int32   // above 255 in the second pass of a verification, otherwise 0
}

// Repeat returns the pass that exports first again. It takes every step from the builder's cache, unless
// that has been pruned.
func Repeat(first *Result) Pass { return Pass{first: first} }

// Second returns the pass that verifies first. It executes every step again, varied as [Request.Vary]
// says, and shares no cache with any other build. [Builder.Release] removes what it leaves in the
// builder's cache.
func Second(first *Result) Pass { return Pass{first: first, salt: newSalt()} }

// IsSecond reports whether p verifies an earlier build.
func (p Pass) IsSecond() bool { return p.salt != 0 }

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
