package kedge

import (
	"cmp"
	"context"
	"path/filepath"

	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/cause"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/store"
	"github.com/kedge-build/kedge/trace"
	"github.com/kedge-build/kedge/verify"
)

// built is an export and the image that was written from it.
type built struct {
	*export
	image store.Image
}

// compare judges whether two builds made the same image. traces are what [plan.traces] found in the first one.
func (p *plan) compare(ctx context.Context, first, second built, traces map[string][]trace.Finding) (*verify.Verdict, error) {
	vary := varied(p.options.Vary, first.result)
	return verify.Compare(ctx, p.env.Store, first.image, second.image, verify.Builds{
		Steps: steps(first.result), Dockerfile: p.text, Name: patchName(p.dockerfile), Traces: traces,
		Hints: hints(vary, first.result, second.result), Varied: vary.words(),
		NotCovered: p.gaps(first.result),
	})
}

// varied returns v without the clock if the builder did not move it on each platform: a verdict must not say that it did.
func varied(v Vary, r *builder.Result) Vary {
	if len(clockKept(v, r)) > 0 {
		v.Clock = 0
	}
	return v
}

// clockKept returns the platforms whose clock v moves and the builder cannot.
func clockKept(v Vary, r *builder.Result) []string {
	var kept []string
	for _, p := range r.Platforms {
		if v.Clock != 0 && !builder.CanMoveClock(p.Platform.Architecture) {
			kept = append(kept, platforms.Format(p.Platform))
		}
	}
	return kept
}

// patchName returns the path of a Dockerfile in a patch, as git apply takes it in the current directory.
func patchName(d builder.Dockerfile) string {
	path := cmp.Or(d.Path, d.Inside, "Dockerfile")
	if filepath.IsLocal(path) {
		return filepath.ToSlash(filepath.Clean(path))
	}
	return filepath.Base(path)
}

// hints returns the circumstances of both builds. Steps from the builder's cache are of
// unknown age: if every RUN was cached, the first build has no window of time.
func hints(v Vary, first, second *builder.Result) cause.Hints {
	h := cause.Hints{Second: cause.Window{From: second.Started, To: second.Finished}}
	if !first.LastRunStarted.IsZero() {
		h.First = cause.Window{From: first.Started, To: first.Finished}
	}
	if v.Clock != 0 {
		h.Second = cause.Window{From: second.Started.Add(v.Clock), To: second.Finished.Add(v.Clock)}
		if first.LastRunStarted.IsZero() {
			h.First = cause.Window{From: first.Started.AddDate(-1, 0, 0), To: first.Finished}
		}
	}
	for _, v := range v.Builder {
		switch v {
		case builder.VaryHostname:
			h.Hostnames = [2]string{builder.Hostname, builder.VariedHostname}
		case builder.VaryCPUs:
			h.Varied.CPUs = builder.VariedCPUs
		case builder.VaryUmask:
			h.Varied.Umasks = [2]int64{builder.Umask, builder.VariedUmask}
		case builder.VaryLocale:
			h.Varied.Locale = builder.VariedLocale
		}
	}
	return h
}

// steps returns the instructions behind the layers of each platform, by the platform's name.
func steps(r *builder.Result) map[string][]frontend.Step {
	steps := map[string][]frontend.Step{}
	for _, p := range r.Platforms {
		steps[platforms.Format(p.Platform)] = p.Steps
	}
	return steps
}
