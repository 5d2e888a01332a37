package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/kedge-build/kedge/image"
	"github.com/moby/buildkit/session/auth/authprovider"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/go-csvvalue"
	"golang.org/x/sys/unix"
)

// output is one -o.
type output struct {
	format image.Format
	dest   string // "-" is stdout
	dir    bool   // an OCI layout directory
}

func parseOutputs(values []string) ([]output, error) {
	var outputs []output
	for _, value := range values {
		fields, err := csvvalue.Fields(value, nil)
		if err != nil {
			return nil, usagef("output %q: %v", value, err)
		}
		var o output
		for _, field := range fields {
			key, v, _ := strings.Cut(field, "=")
			switch {
			case key == "type" && (v == "oci" || v == "docker"):
				o.format = image.Format(v)
			case key == "dest" && v != "":
				o.dest = v
			case key == "tar" && (v == "true" || v == "false"):
				o.dir = v == "false"
			default:
				return nil, usagef("output %q: %q is not type=oci, type=docker, dest=FILE or tar=false", value, field)
			}
		}
		if o.format == "" || o.dest == "" {
			return nil, usagef("output %q is not type=oci|docker,dest=FILE", value)
		}
		if o.dir && (o.format != image.OCI || o.dest == "-") {
			return nil, usagef("output %q: tar=false is for type=oci and a directory", value)
		}
		if o.dest == "-" && slices.ContainsFunc(outputs, func(o output) bool { return o.dest == "-" }) {
			return nil, usagef("output %q: there is one stdout", value)
		}
		if err := o.check(); err != nil {
			return nil, err
		}
		outputs = append(outputs, o)
	}
	return outputs, nil
}

// check finds what would only be found once the image is built.
func (o output) check() error {
	if o.dest == "-" {
		return nil
	}
	dir := filepath.Dir(o.dest)
	if info, err := os.Stat(o.dest); err == nil {
		if info.IsDir() && !o.dir {
			return usagef("output %q is a directory", o.dest)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("writing %q: %w", o.dest, err)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil && !o.dir {
		return fmt.Errorf("writing %q: directory %q: %w", o.dest, dir, err)
	}
	return nil
}

// delivery is an image on its way out of the store.
type delivery struct {
	store *image.Store
	desc  ocispec.Descriptor
	names []string
}

func (d *delivery) write(ctx context.Context, p *process, o output) error {
	if o.dir {
		return d.store.ExportDir(ctx, o.dest, d.desc, d.names)
	}
	if o.dest == "-" {
		return d.store.Export(ctx, p.stdout, d.desc, d.names, o.format)
	}
	if info, err := os.Stat(o.dest); err == nil && !info.Mode().IsRegular() {
		return d.writeTo(ctx, o) // a device or a pipe is not replaced
	}
	return writeFile(o.dest, func(w io.Writer) error { return d.store.Export(ctx, w, d.desc, d.names, o.format) })
}

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

// writeTo writes to what is there already, and is no file.
func (d *delivery) writeTo(ctx context.Context, o output) error {
	f, err := os.OpenFile(o.dest, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("writing %q: %w", o.dest, err)
	}
	if err := errors.Join(d.store.Export(ctx, f, d.desc, d.names, o.format), f.Close()); err != nil {
		return fmt.Errorf("writing %q: %w", o.dest, err)
	}
	return nil
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
		p.say("loaded %s", name)
	}
	return nil
}

func (d *delivery) push(ctx context.Context, p *process, auth *configfile.ConfigFile) error {
	err := d.store.Push(ctx, d.desc, d.names, image.PushOptions{
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
		p.say("pushed %s", name)
	}
	return nil
}
