package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/docker/cli/cli/connhelper/commandconn"
)

// Connection says how to reach a BuildKit daemon: by an address, or by functions that dial.
type Connection struct {
	Driver, Node string // as docker buildx ls shows them

	// Address is a URL such as unix:// or tcp://. The files and the server's name for TLS can be empty.
	Address                       string
	CACert, Cert, Key, ServerName string

	// Dial, if not nil, replaces Address.
	Dial func(context.Context) (net.Conn, error)
	// Session, if not nil, opens a session, which then needs a connection of its own.
	Session func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error)
	// Wait is how long to wait for an answer of a daemon that may just have been started.
	Wait time.Duration

	engine *Engine // nil unless Dial needs it
}

// Close closes the connection to the Engine that Dial and Session use, if there is one.
func (c *Connection) Close() error {
	if c.engine == nil {
		return nil
	}
	return c.engine.Close()
}

// BuilderError says that a builder exists and is not usable.
type BuilderError struct {
	Name string
	Err  error
}

func (e *BuilderError) Error() string { return fmt.Sprintf("builder %q: %v", e.Name, e.Err) }

func (e *BuilderError) Unwrap() error { return e.Err }

// StoppedError says that a builder has no container.
type StoppedError struct{ Builder, Container string }

func (e *StoppedError) Error() string {
	return fmt.Sprintf("builder %q: there is no container %q", e.Builder, e.Container)
}

// ForeignError says that a builder is the Engine of another context than the current one.
type ForeignError struct{ Name, Current string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("builder %q is the Docker Engine of that context, and the current context is %q", e.Name, e.Current)
}

// Connect returns a connection to a node of b for platforms. It starts a stopped container. The caller must Close
// the connection. The error is a *BuilderError, *StoppedError, *ForeignError or *EngineError, or one of Endpoint.
func (c *Config) Connect(ctx context.Context, b *Builder, s Share) (conn *Connection, err error) {
	switch b.Driver {
	case driverRemote:
		if conn, err = s.Node.remote(); err != nil {
			err = &BuilderError{Name: b.Name, Err: err}
		}
	case driverDocker:
		conn, err = c.engine(ctx, b, s.Node)
	case driverContainer:
		conn, err = c.container(ctx, b, s.Node)
	default:
		conn = buildx(b, s.Platforms)
	}
	if err != nil {
		return nil, err
	}
	conn.Driver, conn.Node = b.Driver, s.Node.Name
	return conn, nil
}

// Chooses reports whether docker buildx chooses the node when kedge connects, by its platforms.
func (b *Builder) Chooses() bool {
	return b.Driver != driverRemote && b.Driver != driverDocker && b.Driver != driverContainer
}

// engine returns a connection to the BuildKit inside an Engine.
func (c *Config) engine(ctx context.Context, b *Builder, n Node) (*Connection, error) {
	current, err := c.Context()
	if err != nil {
		return nil, err
	}
	if n.Endpoint != current && c.hasContext(n.Endpoint) {
		return nil, &ForeignError{Name: b.Name, Current: current}
	}
	e, err := c.open(ctx, n.Endpoint)
	if err != nil {
		return nil, err
	}
	return &Connection{
		engine: e,
		Dial:   func(ctx context.Context) (net.Conn, error) { return e.api.DialHijack(ctx, "/grpc", "h2c", nil) },
		Session: func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
			return e.api.DialHijack(ctx, "/session", proto, meta)
		},
	}, nil
}

// container returns a connection to a BuildKit in a container.
func (c *Config) container(ctx context.Context, b *Builder, n Node) (*Connection, error) {
	e, err := c.open(ctx, n.Endpoint)
	if err != nil {
		return nil, err
	}
	name := "buildx_buildkit_" + n.Name
	if err := e.start(ctx, name); err != nil {
		e.Close()
		if errors.Is(err, errNoContainer) {
			return nil, &StoppedError{Builder: b.Name, Container: name}
		}
		return nil, &BuilderError{Name: b.Name, Err: err}
	}
	return &Connection{engine: e, Wait: 20 * time.Second, Dial: func(ctx context.Context) (net.Conn, error) {
		return e.exec(ctx, name, "buildctl", "dial-stdio")
	}}, nil
}

// open connects to the Engine at a context or an address.
func (c *Config) open(ctx context.Context, endpoint string) (*Engine, error) {
	if !c.hasContext(endpoint) {
		ep, err := address(endpoint)
		if err != nil {
			return nil, err
		}
		return ep.Open(ctx)
	}
	ep, err := c.Endpoint(endpoint)
	if err != nil {
		return nil, err
	}
	return ep.Open(ctx)
}

// buildx returns a connection through docker buildx, which supports every driver.
func buildx(b *Builder, platforms []string) *Connection {
	args := []string{"buildx", "dial-stdio", "--builder", b.Name}
	if len(platforms) > 0 {
		args = append(args, "--platform", platforms[0])
	}
	return &Connection{Dial: func(ctx context.Context) (net.Conn, error) {
		return commandconn.New(ctx, "docker", args...)
	}}
}
