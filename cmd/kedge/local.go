package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/diff/source"
	"github.com/kedge-build/kedge/docker"
)

// localImages are the images of kedge's store and of the Docker Engine of the current context. It implements
// builder.LocalImages. An image that was found stays the same for the whole command.
type localImages struct {
	process *process

	mu     sync.Mutex
	found  map[string]*builder.Layout
	silent bool // no Engine answers
	saved  engineImages
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
	return stored != nil || err == nil && l.inEngine(ctx, name) != "", err
}

// Find implements builder.LocalImages. kedge's store comes first.
func (l *localImages) Find(ctx context.Context, name string) (*builder.Layout, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if found := l.found[name]; found != nil {
		return found, nil
	}
	found, err := l.inStore(ctx, name)
	if err == nil && found == nil {
		if id := l.inEngine(ctx, name); id != "" {
			found, err = l.save(ctx, name, id)
		}
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

// inEngine returns the ID of an image that the Engine has, or "". An Engine that does not answer in time is not
// asked again.
func (l *localImages) inEngine(ctx context.Context, name string) string {
	if l.silent {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	engine, err := l.process.findEngine(ctx)
	if err != nil {
		l.silent = true
		return ""
	}
	defer engine.Close()
	id, err := engine.ID(ctx, name)
	if err != nil {
		return ""
	}
	return id
}

// save returns the layout of an image that the Engine has under an ID.
func (l *localImages) save(ctx context.Context, name, id string) (*builder.Layout, error) {
	if kept := l.saved.find(id); kept != nil {
		return kept, nil
	}
	return l.saved.add(ctx, id, name, source.Options{Docker: l.process.saveFromDocker}, func() string { return l.inEngine(ctx, name) })
}

// close ends the use of the images that the Engine saved.
func (l *localImages) close() error { return l.saved.close() }
