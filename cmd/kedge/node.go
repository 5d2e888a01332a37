package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/docker"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"
)

// openNodes connects to the nodes of the requested builder that build the platforms of --platform. second, unless it is
// nil, is another node, for the second build of a verification. The caller must close all of them.
func (p *process) openNodes(c *cli.Context) (nodes []kedge.Node, second *builder.Builder, err error) {
	name, _ := p.namedBuilder(c)
	if name == "" || strings.Contains(name, "://") {
		b, err := p.openBuilder(c.Context, c)
		return []kedge.Node{{Builder: b}}, nil, err
	}
	o, err := p.builderOptions(c, name)
	if err != nil {
		return nil, nil, err
	}
	group, err := docker.New(p.env).Builder(name)
	if err != nil {
		return nil, nil, err
	}
	open := map[string]*builder.Builder{}
	defer func() {
		for _, b := range open { // those that nothing is built on
			err = errors.Join(err, b.Close())
		}
	}()
	connect := func(s docker.Share) (b *builder.Builder, err error) {
		if b, ok := open[s.Node.Name]; ok {
			return b, nil
		}
		if b, err = p.openNode(c.Context, group, s, o); err == nil {
			open[s.Node.Name] = b
		}
		return b, err
	}
	shares, err := group.Shares(p.askedPlatforms(c), func(n docker.Node) ([]ocispec.Platform, error) {
		if group.Chooses() {
			return nil, nil
		}
		b, err := connect(docker.Share{Node: n})
		if err != nil {
			return nil, err
		}
		info, err := b.Info(c.Context)
		return info.Platforms, err
	})
	if err != nil {
		return nil, nil, err
	}
	for _, s := range shares {
		b, err := connect(s)
		if err != nil {
			return nil, nil, err
		}
		nodes = append(nodes, kedge.Node{Name: s.Node.Name, Builder: b, Platforms: s.Platforms})
	}
	if len(shares) == 1 && verifies(c) && !c.IsSet("second-builder") && !group.Chooses() {
		second = p.otherNode(c.Context, group, shares[0], nodes[0].Builder, connect)
	}
	for name, b := range open {
		if b == second || slices.ContainsFunc(nodes, func(n kedge.Node) bool { return n.Builder == b }) {
			delete(open, name)
		}
	}
	return nodes, second, nil
}

// verifies reports whether a command builds twice.
func verifies(c *cli.Context) bool { return c.Command.Name == "verify" || c.Bool("verify") }

// otherNode connects to another node that can build what a node builds, on another daemon. It returns nil if there is
// none, and says so if one does not answer.
func (p *process) otherNode(ctx context.Context, group *docker.Builder, s docker.Share, first *builder.Builder, connect func(docker.Share) (*builder.Builder, error)) *builder.Builder {
	if len(group.Nodes) == 1 {
		return nil
	}
	about, err := first.Info(ctx)
	if err != nil {
		return nil // the build says why
	}
	want := s.Platforms
	if len(want) == 0 {
		want = []string{about.Platform}
	}
	for _, n := range group.Nodes {
		if n.Name == s.Node.Name {
			continue
		}
		b, err := connect(docker.Share{Node: n, Platforms: want})
		if err != nil {
			p.note("node %q does not make the second build: %v", n.Name, err)
			continue
		}
		if other, err := b.Info(ctx); err == nil && other.ID != about.ID && canBuild(append(other.Platforms, n.Platforms...), want) {
			return b
		}
	}
	return nil
}

// canBuild reports whether each platform that is wanted is one of those that a node has.
func canBuild(have []ocispec.Platform, want []string) bool {
	return !slices.ContainsFunc(want, func(name string) bool {
		p, err := platforms.Parse(name)
		return err != nil || !slices.ContainsFunc(have, platforms.OnlyStrict(p).Match)
	})
}
