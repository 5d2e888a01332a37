package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/kedge-build/kedge/image"
	"github.com/moby/buildkit/session/auth/authprovider"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// writeFile writes a file beside its place and renames it, so that a failure leaves what was there. What
// is no file, such as a pipe or /dev/stdout, is written to and stays.
func writeFile(path string, write func(io.Writer) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing %q: %w", path, err)
		}
	}()
	if !replaceable(path) {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	dest := path
	if target, err := filepath.EvalSymlinks(dest); err == nil {
		dest = target
	}
	tmp, err := os.OpenFile(filepath.Join(filepath.Dir(dest), fmt.Sprintf(".%s.%s", filepath.Base(dest), rand.Text())), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if err := errors.Join(write(tmp), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), dest)
}

// replaceable reports whether a path is that of a file, or of nothing yet.
func replaceable(path string) bool {
	info, err := os.Stat(path)
	return err != nil || info.Mode().IsRegular()
}

// delivery is an image on its way out of the store.
type delivery struct {
	store *image.Store
	desc  ocispec.Descriptor
	names []string
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
