package builder

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/frontend"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Resolve finds the sources of a build without running a step. It adds sources that the lock lacks to
// a copy of the lock, or returns an *UnlockedError if req.Locked is set.
func (b *Builder) Resolve(ctx context.Context, req *Request) (*Resolution, error) {
	result, err := newJob(b, req, Pass{}).run(ctx, nil)
	if err != nil {
		return nil, err
	}
	return &result.Resolution, nil
}

// Execute resolves req as Resolve does. If there are downloads to record, it executes the steps, and exports
// nothing.
func (b *Builder) Execute(ctx context.Context, req *Request) (*Result, error) {
	j := newJob(b, req, Pass{})
	j.dry = true
	result, err := j.run(ctx, nil)
	return result, errors.Join(err, b.Release(context.WithoutCancel(ctx), &Result{leftovers: j.downloads.leftovers()}))
}

// Build makes one pass over req. Once the epoch is known, it calls open for the store that receives the
// export. The error is an *ExporterError if the daemon can answer, and not export.
func (b *Builder) Build(ctx context.Context, req *Request, pass Pass, open func(epoch time.Time) (content.Store, error)) (*Result, error) {
	if err := b.exports(ctx); err != nil {
		if req.Status != nil {
			close(req.Status)
		}
		return nil, err
	}
	j := newJob(b, req, pass)
	result, err := j.run(ctx, &export{open: open})
	if err != nil && pass.IsSecond() {
		err = errors.Join(err, b.Release(context.WithoutCancel(ctx), &Result{leftovers: j.leftovers()}))
	} else if left := j.downloads.leftovers(); len(left) > 0 {
		err = errors.Join(err, b.Release(context.WithoutCancel(ctx), &Result{leftovers: left}))
	}
	if err != nil {
		return nil, err
	}
	return result, nil
}

// run takes j from its request to its result. It stops before the first step if out is nil.
func (j *job) run(ctx context.Context, out *export) (*Result, error) {
	result := &Result{}
	res, err := j.session(ctx, out, func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		def, err := j.define(ctx, c)
		if err != nil {
			return nil, err
		}
		result.Args, result.Settings = def.args, def.compileSettings()
		if j.pass.IsSecond() {
			if result.NewestBase, err = j.newestBase(ctx, c, def.uses()); err != nil {
				return nil, err
			}
		}
		if out == nil && !j.dry {
			return gateway.NewResult(), nil
		}
		if err := j.accept(def); err != nil {
			return nil, err
		}
		if err := j.downloads.plan(ctx, j, def); err != nil {
			return nil, err
		}
		if j.dry && j.downloads.settled() {
			return gateway.NewResult(), nil
		}
		rw, err := j.admit(ctx, c, def)
		if err != nil {
			return nil, err
		}
		if !j.dry {
			if err := out.start(j.epoch); err != nil {
				return nil, err
			}
		}
		solved, platforms, err := j.solve(ctx, c, def, rw)
		result.Platforms = platforms
		if j.dry {
			solved = gateway.NewResult()
		}
		return solved, err
	})
	if err != nil {
		return nil, err
	}
	result.Lock, result.Used, result.Epoch = j.pins.file, j.pins.used, j.epoch
	result.sent, result.locals = j.times.sent, j.locals.all()
	result.Sent = map[string][]string{}
	for mount, dir := range j.req.Directories() {
		result.Sent[dir] = sentFrom(result.sent, mount)
	}
	result.Repos = j.repos(result.Sent)
	if first := j.pass.first; first != nil {
		if path, ok := changed(first.sent, result.sent); ok {
			return nil, &ChangedContextError{Path: path}
		}
	}
	result.Warnings, result.leftovers, result.caches = j.steps.warnings, j.leftovers(), j.pass.caches
	j.downloads.report(result)
	result.Started, result.Finished = j.steps.started, j.steps.finished
	result.LastRunStarted, result.LastRunFinished = j.steps.lastRunStarted, j.steps.lastRunFinished
	if out != nil {
		result.Root, err = exported(res)
	}
	return result, err
}

// define has the frontend translate the Dockerfile, and pins every source.
func (j *job) define(ctx context.Context, c gateway.Client) (*definition, error) {
	have := c.BuildOpts().LLBCaps
	if slices.Contains(j.req.Vary, VaryCPUs) && have.Supports(pb.CapExecMetaLinuxResources) != nil {
		return nil, &CapabilityError{"limit the CPUs of a step", "v0.31"}
	}
	def, err := j.ask(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := j.lookUp(ctx, c, def.uses()); err != nil {
		return nil, err
	}
	if j.epoch.IsZero() {
		newest, err := j.newestBase(ctx, c, def.uses())
		if err != nil {
			return nil, err
		}
		j.setEpoch(j.req.NewEpoch(newest))
		// Sources and args can depend on the epoch, which is a variable of the Dockerfile.
		if def, err = j.ask(ctx, c); err != nil {
			return nil, err
		}
		if err := j.lookUp(ctx, c, def.uses()); err != nil {
			return nil, err
		}
	}
	j.pins.seal()
	return def, nil
}

// accept asks the request whether it takes an image for the platforms of def.
func (j *job) accept(def *definition) error {
	if j.req.Accept == nil {
		return nil
	}
	ps, err := exptypes.ParsePlatforms(def.result.Metadata)
	if err != nil {
		return err
	}
	var all []ocispec.Platform
	for _, p := range ps.Platforms {
		all = append(all, p.Platform)
	}
	return j.req.Accept(all)
}

// admit decides that the steps of def may run. It returns the rewriter for them.
func (j *job) admit(ctx context.Context, c gateway.Client, def *definition) (*rewriter, error) {
	if err := j.entitled(def); err != nil {
		return nil, err
	}
	if err := j.repeatable(def); err != nil {
		return nil, err
	}
	if err := j.discreet(def); err != nil {
		return nil, err
	}
	j.leaveParts(def)
	rw := j.newRewriter(def, c.BuildOpts().LLBCaps)
	return rw, j.fetch(ctx, c, def.uses(), rw)
}

// solve hands the rewritten definition to the daemon, which executes its steps during the export.
func (j *job) solve(ctx context.Context, c gateway.Client, def *definition, rw *rewriter) (*gateway.Result, []Platform, error) {
	out := gateway.NewResult()
	out.Metadata = def.result.Metadata
	proxies, credentials := j.settings.proxies(j.req.Args), credentialsIn(def.uses())
	if err := editHistory(out.Metadata, func(by string) string {
		return forgetCredentials(forgetProxies(by, proxies), credentials)
	}); err != nil {
		return nil, nil, err
	}
	caches, err := imports(c)
	if err != nil {
		return nil, nil, err
	}
	ps, err := exptypes.ParsePlatforms(def.result.Metadata)
	if err != nil {
		return nil, nil, err
	}
	var built []Platform
	for i, p := range def.parts {
		rewritten, err := p.graph.Rewrite(rw.edit)
		if err = cmp.Or(err, rw.err); err != nil {
			return nil, nil, err
		}
		g, err := frontend.NewGraph(rewritten)
		if err != nil {
			return nil, nil, err
		}
		j.steps.expect(g)
		j.downloads.expect(g)
		var ref gateway.Reference
		if len(rewritten.Def) > 0 {
			r, err := c.Solve(ctx, gateway.SolveRequest{Definition: rewritten, CacheImports: caches})
			if err != nil {
				return nil, nil, err
			}
			ref = r.Ref
		}
		if p.id == "" {
			out.SetRef(ref)
		} else {
			out.AddRef(p.id, ref)
		}
		platform := Platform{Steps: p.graph.Layers(), Runs: p.graph.Runs()} // without the mounts that rw adds
		if use := g.BaseUse(); use != nil {
			if in, err := frontend.Identify(use.Op); err == nil {
				platform.BaseRef = in.Source.Ref
			}
		}
		if i < len(ps.Platforms) {
			platform.Platform = platforms.Normalize(ps.Platforms[i].Platform)
			base, err := j.base(ctx, c, g, exptypes.ParseKey(def.result.Metadata, exptypes.ExporterImageBaseConfigKey, &ps.Platforms[i]))
			if err != nil {
				return nil, nil, err
			}
			platform.BaseLayers, platform.BaseHistory = len(base.RootFS.DiffIDs), len(base.History)
		}
		built = append(built, platform)
	}
	if err := j.downloads.execute(ctx, out); err != nil {
		return nil, nil, err
	}
	return out, built, attest(ctx, c, def.result, out, rw)
}
