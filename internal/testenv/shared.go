package testenv

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
)

// shared is the state that the tests of one binary share.
var shared struct {
	mu        sync.Mutex
	main      bool // Main runs the tests, so it cleans up
	registry  *Registry
	buildkitd *Buildkitd
	cleanups  []func()
}

// Main runs the tests of a package that calls [Shared], and then ends the shared
// daemons:
//
//	func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
func Main(m *testing.M) (code int) {
	shared.main = true
	defer func() {
		if code != 0 && shared.buildkitd != nil {
			fmt.Fprintf(os.Stderr, "shared: %s\n", shared.buildkitd.daemon.keepLog())
		}
		for _, cleanup := range slices.Backward(shared.cleanups) {
			cleanup()
		}
	}()
	return m.Run()
}

// Shared returns a registry that has [Debian] and [Tiny], and a buildkitd for
// which it is docker.io. All tests of the binary share both. A test that moves
// tags, counts requests or needs an empty cache must start its own.
func Shared(t testing.TB) (*Registry, *Buildkitd) {
	t.Helper()
	if !shared.main {
		t.Fatal("testenv.Shared needs a TestMain that calls testenv.Main")
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.buildkitd == nil {
		Require(t, "buildkitd")
		binary := process{t}
		if shared.registry == nil {
			shared.registry = NewRegistry(binary)
		}
		Debian(t, shared.registry)
		Tiny(t, shared.registry)
		shared.buildkitd = StartBuildkitd(binary, BuildkitdOptions{Registry: shared.registry})
	}
	return shared.registry, shared.buildkitd
}

// process is a testing.TB whose cleanups run at the end of the test binary.
type process struct{ testing.TB }

func (p process) Cleanup(f func()) { shared.cleanups = append(shared.cleanups, f) }

// Failed returns false: Main knows how all tests went, and keeps the log.
func (p process) Failed() bool { return false }

func (p process) TempDir() string {
	p.Helper()
	return shortTempDir(p, nil)
}

// Errorf is called by cleanups, after the end of every test.
func (p process) Errorf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
