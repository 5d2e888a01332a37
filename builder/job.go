package builder

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/internal/filesum"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/client"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
)

// job is one Request on its way through one builder. Every call of a Builder starts one.
type job struct {
	b        *Builder
	req      *Request
	settings Settings // of req; the session fills in addresses that only the builder knows
	pass     Pass
	internal bool // the daemon keeps no record of it
	epoch    time.Time
	pins     *pins
	locals   locals
	times    contextTimes
	folders  map[string]folder // the contexts that are folders, by mount
	steps    *progress
	taken    map[int][]frontend.Take // what instructions take, by their lines
	dry      bool                    // it executes steps and exports nothing

	downloads *downloads
}

func newJob(b *Builder, req *Request, pass Pass) *job {
	pass = pass.forRequest(req)
	req = pass.request(req)
	j := &job{
		b: b, req: req, settings: req.Settings, pass: pass, internal: pass.IsSecond(), epoch: req.Epoch,
		pins: &pins{
			locked: req.Locked, offline: req.Offline != nil, file: req.Lock.Clone(),
			used: map[lock.Source]bool{}, unlocked: map[lock.Source]Unlocked{},
		},
		times:   contextTimes{sent: map[string]sentFile{}, modes: map[string]modes{}, sums: filesum.Open(req.Sums, req.now)},
		folders: map[string]folder{}, steps: newProgress(), downloads: newDownloads(req, pass),
	}
	j.locals.finder = req.Local
	if pass.first != nil {
		j.locals.served = pass.first.locals
		j.steps.unseen(pass.first.Warnings) // the second build does not repeat them
	}
	j.pins.local = j.wait
	return j
}

// setEpoch fixes the epoch of j and of the files that it sends.
func (j *job) setEpoch(t time.Time) {
	j.epoch = t
	j.times.setEpoch(t)
}

// session connects the daemon with everything that j may use, and runs fn there. The daemon asks
// j.pins before it fetches a source. The result of fn is exported to out unless out is nil. Errors
// contain no credentials.
func (j *job) session(ctx context.Context, out *export, fn gateway.BuildFunc) (_ *client.SolveResponse, err error) {
	defer func() { err = j.b.forgetDamaged(ctx, err) }()
	defer func() { err = redacted(j.req.blameIgnore(j.req.Dockerfile.named(err), j.taken)) }()
	started := j.req.now()
	sending, stop := context.WithCancel(ctx)
	defer j.times.finish(stop)
	opt, err := j.options(sending)
	if err != nil {
		if j.req.Status != nil {
			close(j.req.Status)
		}
		return nil, err
	}
	if out != nil {
		opt.Exports = []client.ExportEntry{{Type: client.ExporterOCI, Attrs: j.exportOptions(), OutputStore: out}}
		if !j.pass.IsSecond() {
			j.settings.caches(&opt)
		}
	}
	status := make(chan *client.SolveStatus)
	var watching sync.WaitGroup
	watching.Go(func() { j.steps.watch(status, j.req.Status, j.req.Dockerfile) })
	// The daemon reduces an error of the build function to its text.
	var buildErr error
	accepted := false
	res, err := j.b.client.Build(ctx, opt, "kedge", func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		accepted = true
		var out *gateway.Result
		if buildErr = j.fit(c.BuildOpts()); buildErr == nil {
			out, buildErr = fn(ctx, c)
			if !j.downloads.stopped() {
				buildErr = j.blameLock(ctx, c, buildErr)
			}
		}
		return out, buildErr
	}, status)
	watching.Wait()
	j.steps.finish(started, j.req.now(), j.pass.IsSecond())
	if notRecorded := j.downloads.finish(ctx, buildErr == nil && err == nil); notRecorded != nil && buildErr == nil && err == nil {
		buildErr = notRecorded
	}
	if buildErr = j.downloads.blame(buildErr); j.downloads != nil {
		buildErr = j.steps.failure(buildErr)
	}
	if err := j.offlineErr(); err != nil {
		return nil, err
	}
	if err := j.times.unreadable(); err != nil {
		return nil, err
	}
	var unlocked *UnlockedError
	if errors.As(buildErr, &unlocked) {
		return nil, buildErr // it has the lines, which only the build function knew
	}
	// Even if nothing failed: a source that the lock forbids is never a success.
	if denied := j.pins.err(j.req, nil); denied != nil {
		return nil, denied
	}
	if buildErr != nil {
		return nil, j.b.lost(j.steps.stopped(ctx, buildErr))
	}
	if err != nil {
		err = j.b.lost(j.steps.stopped(ctx, err))
		if lost := (*LostError)(nil); !errors.As(err, &lost) && !accepted && ctx.Err() == nil && len(opt.AllowedEntitlements) > 0 {
			return nil, &RefusedError{Entitlements: opt.AllowedEntitlements, Own: j.b.lease != nil, Err: err}
		}
		return nil, err
	}
	return res, nil
}

// fit returns an error if the daemon does not support j, and fills in what only the daemon knows.
func (j *job) fit(daemon gateway.BuildOpts) (err error) {
	if err := j.settings.check(daemon); err != nil {
		return err
	}
	if err := j.downloads.check(daemon.LLBCaps); err != nil {
		return err
	}
	if j.settings.Hosts, err = resolveHosts(j.settings.Hosts, daemon.Workers, j.b.lease != nil && j.b.lease.HostNetwork()); err != nil {
		return err
	}
	return checkCapabilities(daemon.LLBCaps)
}
