package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	clidocker "github.com/docker/cli/cli/context/docker"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

// Engine is a Docker Engine that has answered.
type Engine struct {
	Endpoint
	api *client.Client
}

// EngineError says that no Engine answers at an endpoint.
type EngineError struct {
	Host string
	Err  error
}

func (e *EngineError) Error() string {
	err := e.Err
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err // the client's words around it name the address twice more
	}
	return fmt.Sprintf("no Docker Engine answers at %q: %v", e.Host, err)
}

func (e *EngineError) Unwrap() error { return e.Err }

// An Engine that hangs is taken for one that is not there. ssh has to log in first.
const (
	patience    = 3 * time.Second
	patienceSSH = 20 * time.Second
)

// address returns an endpoint that has no context.
func address(host string) (Endpoint, error) {
	if err := checkHost(host); err != nil {
		return Endpoint{}, &ContextError{Context: host, Err: errors.New("there is none, nor is it unix://PATH, tcp://HOST:PORT or ssh://HOST")}
	}
	return Endpoint{Host: host, endpoint: clidocker.Endpoint{EndpointMeta: clidocker.EndpointMeta{Host: host}}}, nil
}

// Open returns the Engine once it has answered, which has three seconds to, or twenty through ssh. The
// error is an *EngineError. The caller must Close it.
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

// Close ends the connection.
func (e *Engine) Close() error { return e.api.Close() }

// Load gives the Engine what docker save writes, and returns the JSON messages that it answers with.
func (e *Engine) Load(ctx context.Context, archive io.Reader) (io.ReadCloser, error) {
	return e.api.ImageLoad(ctx, archive, client.ImageLoadWithQuiet(true))
}

// ID returns what docker image inspect shows as the ID of an image: with containerd's image store the
// digest of its manifest or index, else that of its config. It is empty where there is no such image.
func (e *Engine) ID(ctx context.Context, name string) (string, error) {
	img, err := e.api.ImageInspect(ctx, name)
	if errdefs.IsNotFound(err) {
		return "", nil
	}
	return img.ID, err
}

// TakesIndex reports whether the Engine keeps images for several platforms: in containerd's store it
// does, in graphdrivers it cannot.
func (e *Engine) TakesIndex(ctx context.Context) (bool, error) {
	info, err := e.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return false, &EngineError{Host: e.Host, Err: err}
	}
	for _, pair := range info.Info.DriverStatus {
		if pair == [2]string{"driver-type", "io.containerd.snapshotter.v1"} {
			return true, nil
		}
	}
	return false, nil
}

// Save returns what docker save writes of an image.
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

// execConn reads what a process in a container writes.
type execConn struct {
	net.Conn
	stdout *io.PipeReader
}

func (c *execConn) Read(p []byte) (int, error) { return c.stdout.Read(p) }

func (c *execConn) Close() error {
	c.stdout.Close()
	return c.Conn.Close()
}

// firstBytes passes on so many bytes, and drops the rest.
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
