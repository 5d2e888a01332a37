package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	clidocker "github.com/docker/cli/cli/context/docker"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

// Engine is a connection to a Docker Engine.
type Engine struct {
	Endpoint
	api *client.Client
}

// EngineError says that no Engine answers at Host.
type EngineError struct {
	Host string
	Err  error
}

func (e *EngineError) Error() string {
	err := e.Err
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err // the client's text repeats the address twice
	}
	return fmt.Sprintf("no Docker Engine answers at %q: %v", e.Host, err)
}

func (e *EngineError) Unwrap() error { return e.Err }

// Open waits this long for an answer. A login by ssh takes longer.
const (
	patience    = 3 * time.Second
	patienceSSH = 20 * time.Second
)

// address returns the endpoint at an address.
func address(host string) (Endpoint, error) {
	if err := checkHost(host); err != nil {
		return Endpoint{}, &ContextError{Context: host, Err: errors.New("there is none, nor is it unix://PATH, tcp://HOST:PORT or ssh://HOST")}
	}
	return Endpoint{Host: host, endpoint: clidocker.Endpoint{EndpointMeta: clidocker.EndpointMeta{Host: host}}}, nil
}

// Open connects to the Engine. It waits for an answer for three seconds, or twenty by ssh. The caller must
// Close the Engine. The error is an *EngineError.
func (ep Endpoint) Open(ctx context.Context) (*Engine, error) {
	opts, err := ep.endpoint.ClientOpts()
	if err != nil {
		return nil, &EngineError{Host: ep.Host, Err: err}
	}
	api, err := client.New(opts...)
	if err != nil {
		return nil, &EngineError{Host: ep.Host, Err: err}
	}
	wait := patience
	if strings.HasPrefix(ep.Host, "ssh://") {
		wait = patienceSSH
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("nothing for %v", wait))
	defer cancel()
	if _, err := api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		api.Close()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, &EngineError{Host: ep.Host, Err: err}
	}
	return &Engine{Endpoint: ep, api: api}, nil
}

// Name returns the address of the Engine.
func (e *Engine) Name() string { return e.Host }

// Close ends the connection.
func (e *Engine) Close() error { return e.api.Close() }

// Load loads an archive in the format of docker save, and returns the Engine's JSON messages.
func (e *Engine) Load(ctx context.Context, archive io.Reader) (io.ReadCloser, error) {
	return e.api.ImageLoad(ctx, archive, client.ImageLoadWithQuiet(true))
}

// ID returns the ID of an image: the digest of its manifest or index with containerd's image store, and
// else the digest of its config. It is empty if there is no such image.
func (e *Engine) ID(ctx context.Context, name string) (string, error) {
	img, err := e.api.ImageInspect(ctx, name)
	if errdefs.IsNotFound(err) {
		return "", nil
	}
	return img.ID, err
}

// TakesIndex reports whether the Engine can store an image for several platforms. It can with containerd's
// image store, and not with graphdrivers.
func (e *Engine) TakesIndex(ctx context.Context) (bool, error) {
	info, err := e.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return false, &EngineError{Host: e.Host, Err: err}
	}
	return slices.Contains(info.Info.DriverStatus, [2]string{"driver-type", "io.containerd.snapshotter.v1"}), nil
}

// Save returns an image as an archive of docker save.
func (e *Engine) Save(ctx context.Context, name string) (io.ReadCloser, error) {
	return e.api.ImageSave(ctx, []string{name})
}

var errNoContainer = errors.New("no such container")

// start starts a container that does not run.
func (e *Engine) start(ctx context.Context, name string) error {
	found, err := e.api.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	if errdefs.IsNotFound(err) {
		return errNoContainer
	}
	if err != nil {
		return err
	}
	if state := found.Container.State; state != nil && state.Running {
		return nil
	}
	_, err = e.api.ContainerStart(ctx, name, client.ContainerStartOptions{})
	return err
}

// exec runs a program in a container and returns its stdin and stdout.
func (e *Engine) exec(ctx context.Context, container string, program ...string) (net.Conn, error) {
	created, err := e.api.ExecCreate(ctx, container, client.ExecCreateOptions{
		Cmd: program, AttachStdin: true, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return nil, err
	}
	attached, err := e.api.ExecAttach(ctx, created.ID, client.ExecAttachOptions{})
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	go func() {
		var stderr strings.Builder
		_, err := stdcopy.StdCopy(w, &firstBytes{w: &stderr, left: 4096}, attached.Reader)
		if message := strings.TrimSpace(stderr.String()); err == nil && message != "" {
			err = fmt.Errorf("%s: %s", program[0], message)
		}
		w.CloseWithError(err)
	}()
	return &execConn{Conn: attached.Conn, stdout: r}, nil
}

// execConn reads the output of a process in a container, and writes to its input.
type execConn struct {
	net.Conn
	stdout *io.PipeReader
}

func (c *execConn) Read(p []byte) (int, error) { return c.stdout.Read(p) }

func (c *execConn) Close() error {
	c.stdout.Close()
	return c.Conn.Close()
}

// firstBytes writes the first left bytes to w, and drops the rest.
type firstBytes struct {
	w    io.Writer
	left int
}

func (f *firstBytes) Write(p []byte) (int, error) {
	n := min(len(p), f.left)
	f.left -= n
	if _, err := f.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}
