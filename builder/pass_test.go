package builder

import (
	"testing"
	"time"

	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/client"
)

// A process may exit with any status up to 255: a salt is none of those, and no two builds share one.
func TestSalt(t *testing.T) {
	seen := map[int32]bool{}
	for range 1000 {
		n := Second(&Result{}).salt
		if n <= 255 {
			t.Fatalf("a process may exit with %d", n)
		}
		seen[n] = true
	}
	if len(seen) < 990 {
		t.Errorf("%d of 1000 salts are different", len(seen))
	}
}

func TestPassRequest(t *testing.T) {
	first := &Result{Resolution: Resolution{Lock: &lock.File{Target: "app"}, Epoch: time.Unix(5, 0)}}
	asked := &Request{Lock: &lock.File{}, NoCache: true, Settings: Settings{NoCacheStages: []string{"a"}}}
	if got := (Pass{}).request(asked); got != asked {
		t.Errorf("the first pass builds another request: %+v", got)
	}
	for name, test := range map[string]struct {
		pass                    Pass
		second, locked, nocache bool
	}{
		"repeat": {Repeat(first), false, false, false},
		"second": {Second(first), true, true, true},
	} {
		got := test.pass.request(asked)
		if got.Lock != first.Lock || !got.Epoch.Equal(first.Epoch) {
			t.Errorf("%s: not built from what the first pass resolved: %+v", name, got)
		}
		if test.pass.IsSecond() != test.second || got.Locked != test.locked || got.NoCache != test.nocache || (got.NoCacheStages != nil) != test.nocache {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if asked.Locked || !asked.NoCache || asked.Lock.Target != "" {
		t.Errorf("the request was changed: %+v", asked)
	}
}

// The first pass of a verification keeps the cache mounts of a build without cache, and a repetition finds its steps.
func TestPassKeepsCaches(t *testing.T) {
	nocache := &Request{NoCache: true}
	p := First().forRequest(nocache)
	if p.caches <= 255 || p.IsSecond() {
		t.Errorf("the steps with cache mounts have no cache key of their own: %+v", p)
	}
	if again := Repeat(&Result{caches: p.caches}).forRequest(nocache); again.caches != p.caches {
		t.Errorf("a repetition has the cache keys of %d, not of %d", again.caches, p.caches)
	}
	for name, req := range map[string]*Request{
		"with the cache":     {},
		"into another cache": {NoCache: true, Settings: Settings{CacheTo: make([]client.CacheOptionsEntry, 1)}},
	} {
		if p := First().forRequest(req); p.caches != 0 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if p := (Pass{}).forRequest(nocache); p.caches != 0 {
		t.Errorf("a build that is not verified: %+v", p)
	}
}
