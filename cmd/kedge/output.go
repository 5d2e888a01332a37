package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/kedge-build/kedge/publish"
	"github.com/kedge-build/kedge/store"
	"github.com/moby/buildkit/session/auth/authprovider"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// writeFile replaces the file at path, in one step. It writes to a pipe or a device directly.
func writeFile(path string, write func(io.Writer) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing %q: %w", path, err)
		}
	}()
	if replaceable(path) {
		return wholefile.Write(path, 0o666, write)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// replaceable reports whether a path is that of a file, or of nothing yet.
func replaceable(path string) bool {
	info, err := os.Stat(path)
	return err != nil || info.Mode().IsRegular()
}

// delivery is an image on its way out of the store.
type delivery struct {
	store *store.Store
	desc  ocispec.Descriptor
	names []string
}

func (d *delivery) push(ctx context.Context, p *process, auth *configfile.ConfigFile, byDigest bool) error {
	err := publish.Push(ctx, d.store, d.desc, d.names, publish.PushOptions{
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
