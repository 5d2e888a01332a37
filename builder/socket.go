package builder

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/kedge-build/kedge/network"
	"github.com/kedge-build/kedge/network/relay"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/sshforward"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// sockets serves the sockets of steps in a session: those of relays, and the user's agents. A session has
// room for one such service.
type sockets struct {
	downloads *downloads
	agents    sshforward.SSHServer // may be nil
}

// newSockets returns the service for a session whose agents are the user's, or nil.
func newSockets(d *downloads, agents session.Attachable) *sockets {
	s := &sockets{downloads: d}
	s.agents, _ = agents.(sshforward.SSHServer)
	return s
}

// Register implements session.Attachable.
func (s *sockets) Register(server *grpc.Server) { sshforward.RegisterSSHServer(server, s) }

// step returns the step whose socket has an id.
func (s *sockets) step(id string) (network.Step, bool) {
	rest, ok := strings.CutPrefix(id, socketPrefix)
	name, _, _ := strings.Cut(rest, "-")
	s.downloads.mu.Lock()
	defer s.downloads.mu.Unlock()
	step, known := s.downloads.byID[name]
	return step, ok && known
}

// CheckAgent implements sshforward.SSHServer.
func (s *sockets) CheckAgent(ctx context.Context, req *sshforward.CheckAgentRequest) (*sshforward.CheckAgentResponse, error) {
	if step, ok := s.step(req.ID); ok {
		s.downloads.note(step.ID)
		return &sshforward.CheckAgentResponse{}, nil
	}
	if s.agents == nil {
		return nil, status.Error(codes.Unimplemented, "no agent is forwarded") // as a session without this service
	}
	return s.agents.CheckAgent(ctx, req)
}

// ForwardAgent implements sshforward.SSHServer. It serves one connection.
func (s *sockets) ForwardAgent(stream sshforward.SSH_ForwardAgentServer) error {
	id := sshforward.DefaultID
	if md, ok := metadata.FromIncomingContext(stream.Context()); ok && len(md[sshforward.KeySSHID]) > 0 {
		id = md[sshforward.KeySSHID][0]
	}
	step, ok := s.step(id)
	if ok {
		return s.downloads.serve(step, stream)
	}
	if s.agents == nil {
		return status.Error(codes.Unimplemented, "no agent is forwarded")
	}
	return s.agents.ForwardAgent(stream)
}

// serve answers one connection of a step.
func (d *downloads) serve(step network.Step, stream sshforward.SSH_ForwardAgentServer) error {
	var first sshforward.BytesMessage
	if err := stream.RecvMsg(&first); err != nil {
		return nil // it asked for nothing
	}
	if line, ok := strings.CutPrefix(string(first.Data[:min(len(first.Data), 512)]), relay.NamePrefix); ok {
		d.lookedUp(step, strings.TrimSpace(line))
		return nil
	}
	ctx := stream.Context()
	d.mu.Lock()
	mode := d.keys[step.ID].mode
	d.mu.Unlock()
	switch mode {
	case quiet:
		d.restart(step)
		<-ctx.Done() // no answer: the command must not go on without one
	case recorded:
		serveStream(ctx, d.recorder, step, stream, first.Data)
	default:
		serveStream(ctx, d.replayer, step, stream, first.Data)
	}
	return nil
}

// maxNames bounds the names that a step looks up and kedge remembers.
const maxNames = 1000

func (d *downloads) lookedUp(step network.Step, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.names[step.ID]) < maxNames {
		d.names[step.ID] = append(d.names[step.ID], name)
	}
}

// note notes that the daemon executes a step with the socket of this session.
func (d *downloads) note(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.checked[id] = true
}

// serveStream has a proxy answer the connection whose bytes a stream carries. first are the first ones.
func serveStream(ctx context.Context, proxy *network.Proxy, step network.Step, stream messageStream, first []byte) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := newStreamConn(stream, first)
	proxy.ServeConn(ctx, step, c)
	c.Close()
	select {
	case <-c.sent:
	case <-ctx.Done():
	}
}

// messageStream is a stream of messages in both directions.
type messageStream interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

// maxMessage bounds the bytes that wait to be sent, and so those of a message. Larger messages cost less each, but
// gRPC's largest pooled buffer has 1 MiB, which also holds the message's header.
const maxMessage = 1<<20 - 64

// A streamConn is a connection whose bytes are messages of a stream. What is written goes out in as few messages
// as possible.
type streamConn struct {
	net.Conn // what comes in, with its deadlines
	sent     chan struct{}

	mu     sync.Mutex
	change sync.Cond
	buf    []byte // written, and not yet sent
	closed bool
	err    error
}

func newStreamConn(stream messageStream, first []byte) *streamConn {
	in, out := net.Pipe()
	c := &streamConn{Conn: out, sent: make(chan struct{})}
	c.change.L = &c.mu
	go c.receive(stream, in, first)
	go c.send(stream)
	return c
}

// receive passes on what comes in, until the other side has no more.
func (c *streamConn) receive(stream messageStream, to net.Conn, data []byte) {
	defer to.Close()
	m := sshforward.BytesMessage{Data: data}
	for {
		if _, err := to.Write(m.Data); err != nil {
			return
		}
		m.Data = m.Data[:0]
		if err := stream.RecvMsg(&m); err != nil {
			if !errors.Is(err, io.EOF) {
				c.fail(err)
			}
			return
		}
	}
}

func (c *streamConn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	c.change.Broadcast()
}

// send sends what is written, and ends when the connection is closed.
func (c *streamConn) send(stream messageStream) {
	defer close(c.sent)
	var m sshforward.BytesMessage
	for {
		c.mu.Lock()
		for len(c.buf) == 0 && !c.closed && c.err == nil {
			c.change.Wait()
		}
		if c.err != nil || len(c.buf) == 0 {
			c.mu.Unlock()
			return
		}
		m.Data, c.buf = c.buf, m.Data[:0]
		c.change.Broadcast()
		c.mu.Unlock()
		if err := stream.SendMsg(&m); err != nil {
			c.fail(err)
			return
		}
	}
}

// Write implements net.Conn.
func (c *streamConn) Write(p []byte) (n int, err error) {
	for n < len(p) {
		err := c.fill(func() {
			part := p[n:min(len(p), n+maxMessage-len(c.buf))]
			c.buf = append(c.buf, part...)
			n += len(part)
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// ReadFrom implements io.ReaderFrom. It reads into the messages.
func (c *streamConn) ReadFrom(r io.Reader) (n int64, err error) {
	size := int64(maxMessage)
	if limited, ok := r.(*io.LimitedReader); ok {
		size = min(size, limited.N)
	}
	var data []byte
	for {
		if int64(cap(data)) < size {
			data = make([]byte, size)
		}
		read, readErr := r.Read(data[:size])
		for rest := data[:read]; len(rest) > 0; {
			err := c.fill(func() {
				if len(c.buf) == 0 && len(rest) == read {
					c.buf, data, rest = rest, c.buf, nil
					return
				}
				part := rest[:min(len(rest), maxMessage-len(c.buf))]
				c.buf, rest = append(c.buf, part...), rest[len(part):]
			})
			if err != nil {
				return n, err
			}
		}
		n += int64(read)
		if readErr == io.EOF {
			return n, nil
		}
		if readErr != nil {
			return n, readErr
		}
	}
}

// fill waits until c.buf has room, and calls add, which extends it.
func (c *streamConn) fill(add func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.buf) >= maxMessage && !c.closed && c.err == nil {
		c.change.Wait()
	}
	if c.closed && c.err == nil {
		c.err = net.ErrClosed
	}
	if c.err != nil {
		return c.err
	}
	add()
	c.change.Broadcast()
	return nil
}

// Close implements net.Conn. What was written is still sent.
func (c *streamConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.change.Broadcast()
	c.mu.Unlock()
	return c.Conn.Close()
}

// SetWriteDeadline implements net.Conn. A write ends with the stream at the latest.
func (c *streamConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline implements net.Conn.
func (c *streamConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }
