package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/kedge-build/kedge/docker"
	"github.com/kedge-build/kedge/publish"
	"github.com/moby/buildkit/session/auth/authprovider"
)

// findEngine connects to the Docker Engine of the current context.
func (p *process) findEngine(ctx context.Context) (*docker.Engine, error) {
	ep, err := docker.New(p.env).Endpoint("")
	if err != nil {
		return nil, err
	}
	return ep.Open(ctx)
}

// saveFromDocker returns the output of docker save for an image.
func (p *process) saveFromDocker(ctx context.Context, name string) (io.ReadCloser, error) {
	engine, err := p.findEngine(ctx)
	if err != nil {
		return nil, err
	}
	saved, err := engine.Save(ctx, name)
	if err != nil {
		engine.Close()
		return nil, err
	}
	return &savedImage{ReadCloser: saved, engine: engine}, nil
}

// patience is how long an Engine may take to say whether it has an image. The user may not expect that kedge
// asks it.
const patience = time.Second

// inDocker reports whether the Docker Engine of the current context has an image, if that answers in time.
func (p *process) inDocker(ctx context.Context, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	engine, err := p.findEngine(ctx)
	if err != nil {
		return false
	}
	defer engine.Close()
	id, err := engine.ID(ctx, name)
	if err != nil || id == "" {
		return false
	}
	p.note("%s is that of the Docker Engine at %q", name, engine.Host)
	return true
}

// A savedImage is an image that an Engine sends.
type savedImage struct {
	io.ReadCloser
	engine *docker.Engine
}

func (s *savedImage) Close() error { return errors.Join(s.ReadCloser.Close(), s.engine.Close()) }

// publishEnv returns what publish needs from this process.
func (p *process) publishEnv(auth *configfile.ConfigFile) publish.Env {
	return publish.Env{
		Stdout: p.stdout,
		Engine: func(ctx context.Context) (publish.Engine, error) {
			engine, err := p.findEngine(ctx)
			if err != nil {
				return nil, err
			}
			return engine, nil
		},
		Credentials: func(host string) (user, secret string, err error) {
			if host == "docker.io" || host == authprovider.DockerHubRegistryHost {
				host = authprovider.DockerHubConfigfileKey
			}
			cred, err := auth.GetAuthConfig(host)
			if err != nil || cred.IdentityToken != "" {
				return "", cred.IdentityToken, err
			}
			return cred.Username, cred.Password, nil
		},
	}
}
