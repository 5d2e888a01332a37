package builder

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
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

// steadyEnv are variables that make programs behave the same in every run. A Dockerfile overrides them.
var steadyEnv = []struct{ name, value string }{
	{"FORCE_SOURCE_DATE", "1"}, // without it, TeX ignores the epoch for \today
	// Otherwise every process orders its hash tables differently.
	{"PYTHONHASHSEED", "0"}, // https://docs.python.org/3/using/cmdline.html#envvar-PYTHONHASHSEED
	{"PERL_HASH_SEED", "0"}, // https://perldoc.perl.org/perlrun#PERL_HASH_SEED
	// Otherwise a build for debugging leaves folders with random names and the time in its target folder.
	{"CARGO_INCREMENTAL", "0"}, // https://doc.rust-lang.org/cargo/reference/environment-variables.html
}

// commitDates are the variables for the time of a commit. Options of git, such as --date, override them.
var commitDates = []string{"GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"} // https://git-scm.com/docs/git#_git_commits

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
		exec.Meta.Env = withDefault(exec.Meta.Env, "SOURCE_DATE_EPOCH", strconv.FormatInt(r.epoch.Unix(), 10))
		for _, v := range steadyEnv {
			exec.Meta.Env = withDefault(exec.Meta.Env, v.name, v.value)
		}
		if epoch := r.epoch.Unix(); epoch >= 0 {
			for _, name := range commitDates {
				exec.Meta.Env = withDefault(exec.Meta.Env, name, fmt.Sprintf("@%d +0000", epoch))
			}
		}
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

// withDefault sets an environment variable unless env already has it.
func withDefault(env []string, name, value string) []string {
	if slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") }) {
		return env
	}
	return append(env, name+"="+value)
}
