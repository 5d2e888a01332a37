// Package docker finds the Docker Engine and the buildx builder that docker's commands would use, and
// connects to them. It knows nothing about builds.
//
//	c := docker.New(env)
//	endpoint, err := c.Endpoint("") // of the current context
//	if err != nil {
//		return err
//	}
//	engine, err := endpoint.Open(ctx)
package docker

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/connhelper"
	dcontext "github.com/docker/cli/cli/context"
	clidocker "github.com/docker/cli/cli/context/docker"
	"github.com/docker/cli/cli/context/store"
)

// defaultContext is the context that environment variables describe. The store has no context of this name.
const defaultContext = "default"

// defaultHost is the address at which an Engine listens by default.
const defaultHost = "unix:///var/run/docker.sock"

// Config is the configuration of docker's commands: environment variables, and the files in
// $DOCKER_CONFIG or else $HOME/.docker.
type Config struct {
	env map[string]string
	dir string
}

// New returns the configuration for an environment. It reads no file.
func New(env map[string]string) *Config { return &Config{env: env, dir: Dir(env)} }

// Dir returns the folder of docker's configuration.
func Dir(env map[string]string) string {
	if dir := env["DOCKER_CONFIG"]; dir != "" {
		return dir
	}
	return filepath.Join(env["HOME"], ".docker")
}

// FileError says that a configuration file of docker or buildx is malformed.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string { return fmt.Sprintf("reading %q: %v", e.Path, e.Err) }

func (e *FileError) Unwrap() error { return e.Err }

// ContextError says that a context does not exist or is not usable.
type ContextError struct {
	Context string
	Err     error
}

func (e *ContextError) Error() string { return fmt.Sprintf("docker context %q: %v", e.Context, e.Err) }

func (e *ContextError) Unwrap() error { return e.Err }

// Load reads docker's config.json in dir; none is an empty one. Of a pipe, it does not wait for the other end. The file is
// not nil if there is an error.
func Load(dir string) (*configfile.ConfigFile, error) {
	path := filepath.Join(dir, config.ConfigFileName)
	if info, err := os.Stat(path); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
		return configfile.New(path), fmt.Errorf("%q is a named pipe, not a file", path)
	}
	return config.Load(dir)
}

// Context returns the name of the current context: "default" if $DOCKER_HOST is set, else $DOCKER_CONTEXT,
// else the one in config.json. The context need not exist.
func (c *Config) Context() (string, error) {
	if c.env["DOCKER_HOST"] != "" {
		return defaultContext, nil
	}
	if name := c.env["DOCKER_CONTEXT"]; name != "" {
		return name, nil
	}
	file, err := Load(c.dir)
	if err != nil {
		return "", &FileError{Path: filepath.Join(c.dir, config.ConfigFileName), Err: err}
	}
	if file.CurrentContext != "" {
		return file.CurrentContext, nil
	}
	return defaultContext, nil
}

// Endpoint is the address of a context's Engine.
type Endpoint struct {
	Context string // empty if the endpoint comes from an address
	Host    string // unix://, tcp:// or ssh://

	endpoint clidocker.Endpoint
}

// Endpoint returns the endpoint of a context, or of the current one if name is empty. The error is a
// *FileError or a *ContextError.
func (c *Config) Endpoint(name string) (Endpoint, error) {
	if name == "" {
		var err error
		if name, err = c.Context(); err != nil {
			return Endpoint{}, err
		}
	}
	read := c.contextEndpoint
	if name == defaultContext {
		read = func(string) (clidocker.Endpoint, error) { return c.defaultEndpoint() }
	}
	ep, err := read(name)
	if err != nil {
		return Endpoint{}, &ContextError{Context: name, Err: err}
	}
	if err := checkHost(ep.Host); err != nil {
		return Endpoint{}, &ContextError{Context: name, Err: err}
	}
	return Endpoint{Context: name, Host: ep.Host, endpoint: ep}, nil
}

// DaemonHost returns the key of this host in docker's configuration of proxies.
func (ep Endpoint) DaemonHost() string {
	if helper, err := connhelper.GetConnectionHelper(ep.Host); err == nil && helper != nil {
		return helper.Host
	}
	return ep.Host
}

func (c *Config) contexts() *store.ContextStore {
	return store.New(filepath.Join(c.dir, "contexts"), store.NewConfig(
		func() any { return &map[string]any{} },
		store.EndpointTypeGetter(clidocker.DockerEndpoint, func() any { return &clidocker.EndpointMeta{} }),
	))
}

// hasContext reports whether docker context ls would list name.
func (c *Config) hasContext(name string) bool {
	if name == defaultContext {
		return true
	}
	_, err := c.contexts().GetMetadata(name)
	return err == nil
}

func (c *Config) contextEndpoint(name string) (clidocker.Endpoint, error) {
	contexts := c.contexts()
	md, err := contexts.GetMetadata(name)
	if err != nil {
		return clidocker.Endpoint{}, err
	}
	meta, err := clidocker.EndpointFromContext(md)
	if err != nil {
		return clidocker.Endpoint{}, err
	}
	return clidocker.WithTLSData(contexts, name, meta)
}

// defaultEndpoint returns the endpoint at $DOCKER_HOST, with TLS by $DOCKER_TLS_VERIFY, $DOCKER_TLS and
// $DOCKER_CERT_PATH. Without DOCKER_TLS_VERIFY it accepts any certificate, as docker's commands do.
func (c *Config) defaultEndpoint() (clidocker.Endpoint, error) {
	verify := c.env["DOCKER_TLS_VERIFY"] != ""
	tls := verify || c.env["DOCKER_TLS"] != ""
	ep := clidocker.Endpoint{EndpointMeta: clidocker.EndpointMeta{Host: parseHost(c.env["DOCKER_HOST"], tls)}}
	if !tls || strings.HasPrefix(ep.Host, "unix://") {
		return ep, nil
	}
	dir := c.env["DOCKER_CERT_PATH"]
	if dir == "" {
		dir = c.dir
	}
	ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for _, file := range []*string{&cert, &key} {
		if _, err := os.Stat(*file); errors.Is(err, fs.ErrNotExist) {
			*file = ""
		}
	}
	ep.SkipTLSVerify = !verify
	if !verify {
		ca = ""
	}
	var err error
	ep.TLSData, err = dcontext.TLSDataFromFiles(ca, cert, key)
	return ep, err
}

// parseHost returns a host with the default scheme and port of docker's commands.
func parseHost(host string, tls bool) string {
	host = strings.TrimSpace(host)
	if host == "" {
		return defaultHost
	}
	if !strings.Contains(host, "://") {
		host = "tcp://" + host
	}
	if u, err := url.Parse(host); err == nil && u.Scheme == "tcp" && u.Port() == "" && u.Hostname() != "" {
		u.Host = strings.TrimSuffix(u.Host, ":")
		if tls {
			u.Host += ":2376"
		} else {
			u.Host += ":2375"
		}
		host = u.String()
	}
	return host
}

func checkHost(host string) error {
	for _, scheme := range []string{"unix://", "tcp://", "http://", "https://", "ssh://"} {
		if rest, ok := strings.CutPrefix(host, scheme); ok && rest != "" {
			return nil
		}
	}
	return fmt.Errorf("its host %q is not unix://PATH, tcp://HOST:PORT or ssh://HOST", host)
}
