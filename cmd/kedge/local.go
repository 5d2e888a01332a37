package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/diff/source"
	"github.com/kedge-build/kedge/docker"
	"github.com/opencontainers/go-digest"
)

// localImages are the images of kedge's store and of the Docker Engine of the current context. It implements
// builder.LocalImages. An image that was found stays the same for the whole command.
type localImages struct {
	process *process

	mu     sync.Mutex
	found  map[string]*builder.Layout
	silent bool     // no Engine answers
	saved  []string // folders with images of the Engine
}

// Places implements builder.LocalImages.
func (l *localImages) Places() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	places := []string{"kedge's store"}
	if ep, err := docker.New(l.process.env).Endpoint(""); err == nil {
		engine := fmt.Sprintf("Docker at %q", ep.Host)
		if l.silent {
			engine += ", which does not answer"
		}
		places = append(places, engine)
	}
	return places
}

// Has implements builder.LocalImages.
func (l *localImages) Has(ctx context.Context, name string) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.found[name] != nil {
		return true, nil
	}
	stored, err := l.inStore(ctx, name)
	return stored != nil || err == nil && l.inEngine(ctx, name), err
}

// Find implements builder.LocalImages. kedge's store comes first.
func (l *localImages) Find(ctx context.Context, name string) (*builder.Layout, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if found := l.found[name]; found != nil {
		return found, nil
	}
	found, err := l.inStore(ctx, name)
	if err == nil && found == nil && l.inEngine(ctx, name) {
		found, err = l.save(ctx, name)
	}
	if err != nil || found == nil {
		return nil, err
	}
	if l.found == nil {
		l.found = map[string]*builder.Layout{}
	}
	l.found[name] = found
	return found, nil
}

func (l *localImages) inStore(ctx context.Context, name string) (*builder.Layout, error) {
	st, err := l.process.openStore(ctx)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	desc, err := st.Resolve(ctx, name)
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	return &builder.Layout{Dir: st.Dir(), Digest: desc.Digest}, err
}

// inEngine reports whether the Engine has an image. An Engine that does not answer in time is not asked
// again.
func (l *localImages) inEngine(ctx context.Context, name string) bool {
	if l.silent {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	engine, err := l.process.findEngine(ctx)
	if err != nil {
		l.silent = true
		return false
	}
	defer engine.Close()
	id, err := engine.ID(ctx, name)
	return err == nil && id != ""
}

// save writes an image of the Engine as an OCI layout to a temporary folder.
func (l *localImages) save(ctx context.Context, name string) (*builder.Layout, error) {
	dir, err := os.MkdirTemp("", "kedge-engine-*")
	if err != nil {
		return nil, err
	}
	l.saved = append(l.saved, dir)
	img, err := source.Open(ctx, "docker-daemon:"+name, source.Options{Docker: l.process.saveFromDocker, TempDir: dir})
	if err != nil {
		return nil, err
	}
	defer img.Close()
	path, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = path.AppendImage(img)
	}
	if err != nil {
		return nil, fmt.Errorf("saving image %q of Docker: %w", name, err)
	}
	hash, err := img.Digest()
	return &builder.Layout{Dir: dir, Digest: digest.Digest(hash.String())}, err
}

// close removes the images that the Engine saved.
func (l *localImages) close() error {
	var err error
	for _, dir := range l.saved {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}
