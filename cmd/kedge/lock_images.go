package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/diff"
	"github.com/kedge-build/kedge/diff/source"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/network"
	"github.com/kedge-build/kedge/report"
	"github.com/opencontainers/go-digest"
)

// imageMoves says which packages the images have that a refresh has moved. An image that cannot be compared is only
// warned of: the old one may be gone.
func (p *process) imageMoves(ctx context.Context, env kedge.Env, platform string, changes []lock.Change) []report.ImageMove {
	var moves []report.ImageMove
	for _, c := range changes {
		if c.Source.Kind != lock.Image || c.Old == "" || c.New == "" {
			continue
		}
		result, err := compareBases(ctx, env, platform, c)
		if err != nil {
			p.say("warning: the packages of %s are not compared: %v", c.Source.Ref, err)
			continue
		}
		moves = append(moves, report.NewImageMove(c, result))
	}
	return moves
}

// compareBases compares the packages of the two images of a change. The builder fetches them: it knows the way to
// their registry.
func compareBases(ctx context.Context, env kedge.Env, platform string, c lock.Change) (*diff.Result, error) {
	dir, err := os.MkdirTemp("", "kedge-moved-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var images [2]*source.Image
	for i, pin := range []string{c.Old, c.New} {
		if images[i], err = openBase(ctx, env, platform, c.Source, pin, filepath.Join(dir, digest.Digest(pin).Encoded())); err != nil {
			return nil, err
		}
		defer images[i].Close()
	}
	return diff.Images(ctx, images[0], images[1], diff.Options{TempDir: dir})
}

func openBase(ctx context.Context, env kedge.Env, platform string, s lock.Source, pin, dir string) (*source.Image, error) {
	sent, err := local.NewStore(filepath.Join(dir, "sent"))
	if err != nil {
		return nil, err
	}
	cache, err := network.OpenCache(ctx, filepath.Join(dir, "layout"))
	if err != nil {
		return nil, err
	}
	defer cache.Close()
	pinned := &lock.File{}
	if err := pinned.Add(s, pin); err != nil {
		return nil, err
	}
	base, err := env.Builder.Base(ctx, &builder.Request{Lock: pinned, Auth: env.Auth, Now: env.Now}, s, platform, sent)
	if err != nil {
		return nil, err
	}
	name := network.Base{Ref: s.Ref, Pin: digest.Digest(pin)}
	if err := cache.KeepBase(ctx, dir, name, []network.BaseImage{network.BaseImage(base)}, sent); err != nil {
		return nil, err
	}
	kept, _ := cache.Base(ctx, name, nil)
	return source.Open(ctx, "oci:"+cache.Dir()+"@"+kept.String(), source.Options{})
}
