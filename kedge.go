// Package kedge builds container images from Dockerfiles so that the same sources give the same image,
// bit for bit. It is the kedge program as a library.
//
// A program opens a builder and a store, and names a build context:
//
//	b, err := builder.Open(ctx, builder.Options{Address: "unix:///run/buildkit/buildkitd.sock"})
//	...
//	defer b.Close()
//	s, err := store.Open(ctx, "/var/lib/app/images")
//	...
//	defer s.Close()
//	res, err := kedge.Verify(ctx, kedge.Env{Builder: b, Store: s}, kedge.Options{Context: "."})
//	...
//	fmt.Println(res.Image.Descriptor.Digest, res.Verdict.Reproducible)
//	err = res.WriteLock(ctx)
//
// Every build goes the same way:
//
//	Options --parse--> project --resolve--> plan --solve--> export --canonicalise--> image --publish--> receipt
//	                                                                                   \--compare--> verdict
//
// Each arrow is a function, and nothing changes what an arrow has made. The plan holds the
// [builder.Request]; the second build of a verification is a [builder.Pass] through the same arrows. Package
// publish delivers the image. [Result.WriteLock] comes last, so that a command that fails leaves the lock as
// it was.
package kedge

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/lint"
	"github.com/kedge-build/kedge/network"
	"github.com/kedge-build/kedge/store"
	"github.com/kedge-build/kedge/trace"
	"github.com/moby/buildkit/client"
	"golang.org/x/sync/errgroup"
)

// Env is what a build takes from the program around it. Builder is required, and so is Store for [Build]
// and [Verify].
type Env struct {
	Builder *builder.Builder
	// Nodes, unless there are none, build the platforms that they have, at the same time, into one image. Together they
	// have those of the build, each once. Builder is one of them, and does everything else.
	Nodes []Node
	// Second is the builder that makes the second build of [Verify]; nil: Builder.
	Second  *builder.Builder
	Store   *store.Store
	Now     func() time.Time       // the clock; nil: time.Now
	Environ []string               // KEY=VALUE, the environment that git runs in
	Stdin   io.Reader              // read if the context or the Dockerfile is -
	Auth    *configfile.ConfigFile // registry credentials; nil: none
	Local   builder.LocalImages    // images that no registry has; nil: none
	// Downloads returns what serves a record of downloads: a cache, a certificate authority, and how to fetch. The
	// program closes these after the last use of a [Result]. nil: no lock with downloads can be built.
	Downloads func(ctx context.Context, record *network.Record) (network.Options, error)
	// Sums is the path of a file in which builds remember the sums of the files that they send, so that the
	// next one need not read them; empty: none.
	Sums string
	// Machine is what [Verify] looks for in the image if Builder runs on this machine.
	Machine []trace.Fact

	// Progress, unless it is nil, displays one run of the builder. It returns the channel that receives
	// the progress, and a function that waits until all of it is displayed.
	Progress func(title string) (status chan *client.SolveStatus, wait func())
}

// Build builds the image that o names into env's store. The image has no name there yet. The errors of
// this package and of those below it are typed; each says which part of o or of the Dockerfile it is about.
func Build(ctx context.Context, env Env, o Options) (*Result, error) {
	p, first, err := start(ctx, env, o, builder.Pass{})
	if err != nil {
		return nil, err
	}
	defer p.close()
	defer first.close()
	img, err := p.canonicalise(ctx, first)
	if err != nil {
		return nil, err
	}
	res, err := p.finish(ctx, first, img)
	if err != nil {
		return nil, err
	}
	return res, p.remember(res, first.result)
}

// Verify builds as [Build] does, executes every step a second time, and compares the two images. That they
// differ is a verdict and not an error: both images are then in the store.
func Verify(ctx context.Context, env Env, o Options) (*Result, error) {
	builders, err := env.builders(ctx)
	if err != nil {
		return nil, err
	}
	p, first, err := start(ctx, env, o, builder.First())
	if err != nil {
		return nil, err
	}
	defer p.close()
	defer first.close()
	var img store.Image
	var second *export
	defer func() { second.close() }()
	// The second build runs while the first one's image is written.
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) { img, err = p.canonicalise(gctx, first); return err })
	group.Go(func() (err error) { second, err = p.solveAgain(gctx, first); return err })
	if err := group.Wait(); err != nil {
		return nil, errors.Join(err, p.release(ctx, second))
	}
	// The second image is written while the first one is searched and the builder forgets the second build.
	var other store.Image
	var found map[string][]trace.Finding
	var notReleased error
	group, gctx = errgroup.WithContext(ctx)
	group.Go(func() (err error) { other, err = p.canonicalise(gctx, second); return err })
	group.Go(func() (err error) { found, err = p.traces(gctx, img, first.result, second.result); return err })
	group.Go(func() error { notReleased = p.release(ctx, second); return nil })
	if err := group.Wait(); err != nil {
		return nil, errors.Join(err, notReleased)
	}
	verdict, err := p.compare(ctx, built{first, img}, built{second, other}, found)
	if err != nil {
		return nil, err
	}
	verdict.Builders = builders
	res, err := p.finish(ctx, first, img)
	if err != nil {
		return nil, err
	}
	res.Verdict, res.NotReleased, res.ClockKept = verdict, notReleased, clockKept(p.options.Vary, first.result)
	return res, p.remember(res, first.result)
}

// start takes o through the arrows that [Build] and [Verify] share. The caller must close both results.
func start(ctx context.Context, env Env, o Options, pass builder.Pass) (_ *plan, _ *export, err error) {
	p, err := parse(ctx, env, o)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	lctx, stop := context.WithCancel(ctx)
	p.linted, p.stopLint = sync.OnceValues(func() ([]lint.Finding, error) { return p.lintFirst(lctx) }), stop
	if p.options.Lint == LintWarn {
		go func() { _, _ = p.linted() }() // beside the build, whose end, or close, waits for it
	} else if _, err := p.linted(); err != nil {
		return nil, nil, err
	}
	resolved, err := p.resolve(ctx)
	if err != nil {
		return nil, nil, err
	}
	first, err := resolved.solve(ctx, pass)
	return resolved, first, err
}

func (env Env) now() time.Time {
	if env.Now == nil {
		return time.Now()
	}
	return env.Now()
}

// display returns a copy of req whose progress is displayed, and a function that waits for the display.
func (env Env) display(req *builder.Request, title string) (*builder.Request, func()) {
	if env.Progress == nil {
		return req, func() {}
	}
	shown := *req
	status, wait := env.Progress(title)
	shown.Status = status
	return &shown, wait
}
