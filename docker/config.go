// Package docker finds what the docker command would find: the Docker Engine of a context, and a
// builder of buildx. Of what is built it knows nothing.
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
	"github.com/docker/cli/cli/connhelper"
	dcontext "github.com/docker/cli/cli/context"
	clidocker "github.com/docker/cli/cli/context/docker"
	"github.com/docker/cli/cli/context/store"
)

// defaultContext is the context that the environment describes; the store has none of that name.
const defaultContext = "default"

// defaultHost is where an Engine listens unless it is told otherwise.
const defaultHost = "unix:///var/run/docker.sock"

// Config is what docker's commands go by: an environment, and the files of the folder that
// $DOCKER_CONFIG names, else $HOME/.docker.
type Config struct {
	env map[string]string
	dir string
}

// New returns the configuration of an environment. It reads nothing yet.
func New(env map[string]string) *Config { return &Config{env: env, dir: Dir(env)} }

// Dir returns the folder of docker's configuration.
func Dir(env map[string]string) string {
	if dir := env["DOCKER_CONFIG"]; dir != "" {
		return dir
	}
	return filepath.Join(env["HOME"], ".docker")
}

// FileError says that a file of docker's or buildx's configuration is not what they write.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string { return fmt.Sprintf("reading %q: %v", e.Path, e.Err) }

func (e *FileError) Unwrap() error { return e.Err }

// ContextError says that a context cannot be used.
type ContextError struct {
	Context string
	Err     error
}

func (e *ContextError) Error() string { return fmt.Sprintf("docker context %q: %v", e.Context, e.Err) }

func (e *ContextError) Unwrap() error { return e.Err }

// Context returns the name of the current context: that of $DOCKER_HOST, which has no other name than
// "default", else $DOCKER_CONTEXT, else what config.json says. It need not exist.
func (c *Config) Context() (string, error) {
	if c.env["DOCKER_HOST"] != "" {
		return defaultContext, nil
	}
	if name := c.env["DOCKER_CONTEXT"]; name != "" {
		return name, nil
	}
	file, err := config.Load(c.dir)
	if err != nil {
		return "", &FileError{Path: filepath.Join(c.dir, config.ConfigFileName), Err: err}
	}
	if file.CurrentContext != "" {
		return file.CurrentContext, nil
	}
	return defaultContext, nil
}

// Endpoint is where the Engine of a context is.
type Endpoint struct {
	Context string // empty for an address
	Host    string // unix://, tcp:// or ssh://

	endpoint clidocker.Endpoint
}

// Endpoint returns where the Engine of a context is, of the current one where name is empty. Errors are
// a *FileError and a *ContextError.
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

// DaemonHost is the host as docker's configuration of proxies names it: for ssh that of the API.
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

// defaultEndpoint is that of $DOCKER_HOST, with TLS as $DOCKER_TLS_VERIFY, $DOCKER_TLS and
// $DOCKER_CERT_PATH say. Without TLS verification docker's own commands take any certificate, too.
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

// parseHost returns a host with what docker's commands add to it.
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
