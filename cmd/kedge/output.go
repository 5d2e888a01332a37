package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/kedge-build/kedge/image"
	"github.com/moby/buildkit/session/auth/authprovider"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// writeFile writes a file beside its place and renames it, so that a failure leaves what was there.
func writeFile(path string, write func(io.Writer) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing %q: %w", path, err)
		}
	}()
	dest := path
	if target, err := filepath.EvalSymlinks(dest); err == nil {
		dest = target
	}
	tmp, err := os.OpenFile(filepath.Join(filepath.Dir(dest), fmt.Sprintf(".%s.%d", filepath.Base(dest), os.Getpid())), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if err := errors.Join(write(tmp), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), dest)
}

// An engine is a Docker Engine's API.
type engine struct {
	host string
	http.Client
}

// findEngine returns the Docker Engine that $DOCKER_HOST names, once it has answered.
func (p *process) findEngine(ctx context.Context) (*engine, error) {
	host := p.env["DOCKER_HOST"]
	if host == "" {
		host = "unix:///var/run/docker.sock"
	}
	network, address, ok := strings.Cut(host, "://")
	if !ok || network != "unix" && network != "tcp" {
		return nil, fmt.Errorf("loading into Docker: DOCKER_HOST %q is not unix://PATH or tcp://HOST:PORT", host)
	}
	e := &engine{host: host, Client: http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", nil)
	if err != nil {
		return nil, err
	}
	res, err := e.Do(req)
	if err != nil {
		return nil, fmt.Errorf("loading into Docker at %q: %w", host, err)
	}
	return e, res.Body.Close()
}

// delivery is an image on its way out of the store.
type delivery struct {
	store *image.Store
	desc  ocispec.Descriptor
	names []string
}

// load gives the image to the Docker Engine that $DOCKER_HOST names, by default the local one.
func (d *delivery) load(ctx context.Context, p *process, engine *engine) error {
	loaded, err := d.store.Load(ctx, d.desc, d.names, func(ctx context.Context, archive io.Reader) (io.ReadCloser, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://docker/images/load?quiet=1", archive)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/x-tar")
		res, err := engine.Do(req)
		if err != nil {
			return nil, err
		}
		if res.StatusCode != http.StatusOK {
			defer res.Body.Close()
			message, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
			return nil, fmt.Errorf("%s: %s", res.Status, strings.TrimSpace(string(message)))
		}
		return res.Body, nil
	})
	if err != nil {
		return fmt.Errorf("loading into Docker at %q: %w", engine.host, err)
	}
	for _, name := range loaded {
		p.note("loaded %s", name)
	}
	return nil
}

func (d *delivery) push(ctx context.Context, p *process, auth *configfile.ConfigFile, byDigest bool) error {
	err := d.store.Push(ctx, d.desc, d.names, image.PushOptions{
		ByDigest: byDigest,
		Credentials: func(host string) (string, string, error) {
			if host == "docker.io" || host == authprovider.DockerHubRegistryHost {
				host = authprovider.DockerHubConfigfileKey
			}
			cred, err := auth.GetAuthConfig(host)
			if err != nil {
				return "", "", err
			}
			if cred.IdentityToken != "" {
				return "", cred.IdentityToken, nil
			}
			return cred.Username, cred.Password, nil
		},
	})
	if err != nil {
		return err
	}
	for _, name := range d.names {
		p.note("pushed %s", name)
	}
	return nil
}
