package builder

import (
	"testing"
	"time"

	"github.com/kedge-build/kedge/lock"
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
