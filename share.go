package kedge

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/image"
	"github.com/kedge-build/kedge/internal/filesum"
	"github.com/moby/buildkit/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// A Node is a builder for some of the platforms of a build.
type Node struct {
	Name      string
	Builder   *builder.Builder
	Platforms []string
}

// A NodeError says on which of several nodes a build failed.
type NodeError struct {
	Node string
	Err  error
}

func (e *NodeError) Error() string { return fmt.Sprintf("node %q: %v", e.Node, e.Err) }

func (e *NodeError) Unwrap() error { return e.Err }

// A share is the part of a pass that one builder makes.
type share struct {
	node      string // its name; empty if one builder makes all of the pass
	platforms []string
	by        *builder.Builder
	pass      builder.Pass
	result    *builder.Result // once it is made
}

// shares divides the first pass among the builders.
func (p *plan) shares(first builder.Pass) []share {
	if len(p.env.Nodes) == 0 {
		return []share{{by: p.env.Builder, platforms: p.request.Platforms, pass: first}}
	}
	var all []share
	for _, n := range p.env.Nodes {
		all = append(all, share{node: n.Name, platforms: n.Platforms, by: n.Builder, pass: first})
	}
	return all
}

// secondShares divides the pass that verifies first.
func (p *plan) secondShares(first *export) []share {
	if p.env.Second == nil {
		return first.again(builder.Second)
	}
	names := p.request.Platforms
	if len(names) == 0 {
		names = platformsOf(first.result)
	}
	return []share{{by: p.env.Second, platforms: names, pass: builder.Second(first.result)}}
}

// again returns the shares of another pass over e, by the same builders.
func (e *export) again(pass func(*builder.Result) builder.Pass) []share {
	var all []share
	for _, s := range e.shares {
		s.pass, s.result = pass(s.result), nil
		all = append(all, s)
	}
	return all
}

// build makes the shares of one pass at the same time, and sets e's result.
func (p *plan) build(ctx context.Context, e *export, req *builder.Request, shares []share, resolved *builder.Resolution, o image.IngestOptions) error {
	var mu sync.Mutex
	open := func(epoch time.Time) (_ content.Store, err error) {
		mu.Lock()
		defer mu.Unlock()
		if e.ingest == nil {
			o.Sums, o.Place = filesum.Open(p.env.Sums, p.env.now), p.place()
			e.ingest, err = image.NewIngest(ctx, p.env.Store, epoch, o)
		}
		return e.ingest, err
	}
	if len(shares) == 1 {
		whole := *req
		whole.Platforms = shares[0].platforms
		var err error
		if e.result, err = shares[0].by.Build(ctx, &whole, shares[0].pass, open); err != nil {
			return err
		}
		e.shares = []share{shares[0]}
		e.shares[0].result = e.result
		return nil
	}
	status := &sharedStatus{to: req.Status}
	defer status.close()
	fixed := *req
	if resolved == nil {
		// Every node builds from what the first one finds, so the time and the order of their questions have no effect.
		looking := *req
		looking.Status = status.of("")
		var err error
		if resolved, err = shares[0].by.Resolve(ctx, &looking); err != nil {
			return err
		}
		fixed.Lock, fixed.Epoch, fixed.Relock = resolved.Lock, resolved.Epoch, nil
	}
	made := make([]share, len(shares))
	group, gctx := errgroup.WithContext(ctx)
	for i, s := range shares {
		part := fixed
		part.Platforms, part.Status = s.platforms, status.of(s.node)
		group.Go(func() (err error) {
			if s.result, err = s.by.Build(gctx, &part, s.pass, open); err != nil {
				return &NodeError{s.node, err}
			}
			made[i] = s
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return releaseShares(ctx, made, err)
	}
	var results []*builder.Result
	var roots []ocispec.Descriptor
	for _, s := range made {
		root := s.result.Root
		root.Platform = &s.result.Platforms[0].Platform // of a manifest; an index says it itself
		results, roots = append(results, s.result), append(roots, root)
	}
	joined, err := builder.Join(results, *resolved)
	if err != nil {
		return releaseShares(ctx, made, err)
	}
	if joined.Root, err = e.ingest.Join(ctx, roots); err != nil {
		return releaseShares(ctx, made, err)
	}
	e.shares, e.result = made, joined
	return nil
}

// releaseShares releases those shares of a second pass that were made before err ended it, and returns err.
func releaseShares(ctx context.Context, made []share, err error) error {
	for _, s := range made {
		if s.result != nil && s.pass.IsSecond() {
			err = errors.Join(err, s.by.Release(context.WithoutCancel(ctx), s.result))
		}
	}
	return err
}

// place names what p builds, for an [image.Ingest].
func (p *plan) place() string {
	words := append([]string{p.dockerfile.Path, p.options.Context, p.target}, p.request.Platforms...)
	for i, path := range words[:2] {
		if abs, err := filepath.Abs(path); err == nil {
			words[i] = abs
		}
	}
	return strings.Join(words, "\n")
}

// A sharedStatus displays several runs of builders as one.
type sharedStatus struct {
	to      chan *client.SolveStatus // nil: nothing is displayed
	waiting sync.WaitGroup
}

// of returns the channel for one run, which closes it. Its steps have the name of a node in front. A run without a name
// is the first, and the only one whose warnings are displayed.
func (s *sharedStatus) of(node string) chan *client.SolveStatus {
	if s.to == nil {
		return nil
	}
	from := make(chan *client.SolveStatus)
	s.waiting.Go(func() {
		for st := range from {
			if node != "" {
				st = builder.Named(st, node)
			}
			s.to <- st
		}
	})
	return from
}

// close waits for all runs.
func (s *sharedStatus) close() {
	s.waiting.Wait()
	if s.to != nil {
		close(s.to)
	}
}
