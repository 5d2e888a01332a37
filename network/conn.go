package network

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// An origin is what a connection is known to be for before its first request.
type origin struct {
	scheme string // http or https
	host   string // of CONNECT or of the TLS handshake, with a port if it is not the scheme's; empty: see Host
}

// maxRequestHeader bounds the header of a step's request.
const maxRequestHeader = 256 << 10

// ServeConn answers the requests of one connection from a step, until the connection or ctx has ended. The
// connection speaks TLS, whose server name says what host it is for, or HTTP: to a proxy, CONNECT included, or
// to the host in Host. ServeConn closes c.
func (p *Proxy) ServeConn(ctx context.Context, step Step, c net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	raw := c
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	if p.record {
		p.o.Record.AddStep(step)
	}
	to := origin{scheme: "http"}
	for c != nil {
		buffered := &bufferedConn{Conn: c, r: bufio.NewReaderSize(c, 16<<10)}
		c = buffered
		first, err := buffered.first(to.host != "")
		what := ""
		switch {
		case err != nil, first == 'S' && buffered.begins("SSH-"):
			what = "neither HTTP nor TLS"
		case first == 'P' && buffered.begins("PRI "):
			what = "only HTTP/2"
		}
		if what != "" {
			if to.host != "" && ctx.Err() == nil && (err == nil || errors.Is(err, os.ErrDeadlineExceeded)) {
				p.refuseRaw(step, to.host, what)
			}
			return
		}
		if first == 22 { // a TLS handshake
			var secure *tls.Conn
			if secure, to, err = p.handshake(ctx, step, c, to); err != nil {
				return
			}
			c = secure
		}
		c, to = p.serveHTTP(ctx, step, c, to)
	}
}

type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

// waitForClient is how long a program that has got a tunnel may wait for its server to speak first, which
// neither HTTP nor TLS does.
const waitForClient = 10 * time.Second

// first returns the first byte, without reading it.
func (c *bufferedConn) first(tunnel bool) (byte, error) {
	if tunnel {
		_ = c.SetReadDeadline(time.Now().Add(waitForClient))
		defer func() { _ = c.SetReadDeadline(time.Time{}) }()
	}
	b, err := c.r.Peek(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

func (c *bufferedConn) begins(text string) bool {
	b, _ := c.r.Peek(len(text))
	return string(b) == text
}

// refuseRaw says that a step has made a connection of another protocol.
func (p *Proxy) refuseRaw(step Step, host, what string) {
	if p.o.Unreplayable != nil {
		p.o.Unreplayable(&UnreplayableError{
			Step: step, Method: http.MethodConnect, URL: host, What: "the connection speaks " + what,
			Advice: "download it by HTTP/1.1, or a git repository by ADD https://HOST/REPOSITORY.git#REF",
		})
	}
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// ReadFrom implements io.ReaderFrom, which net/http uses for bodies.
func (c *bufferedConn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

// applications are the protocols that the proxy speaks in TLS.
var applications = []string{"http/1.1", "http/1.0"}

// handshake ends the TLS of a connection. The host is that of CONNECT, or else the server name.
func (p *Proxy) handshake(ctx context.Context, step Step, c net.Conn, to origin) (*tls.Conn, origin, error) {
	secure := tls.Server(c, &tls.Config{
		MinVersion: tls.VersionTLS10,
		NextProtos: applications,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			offered := hello.SupportedProtos
			if len(offered) > 0 && !slices.ContainsFunc(offered, func(s string) bool { return slices.Contains(applications, s) }) {
				p.refuseRaw(step, cmp.Or(to.host, hello.ServerName), "only "+strings.Join(offered, ", ")+" in TLS")
			}
			return nil, nil
		},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			name := hello.ServerName
			if name == "" {
				name = hostname(to.host)
			}
			return p.o.CA.certificate(name)
		},
	})
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, to, err
	}
	to.scheme = "https"
	if to.host == "" {
		to.host = secure.ConnectionState().ServerName
	}
	return secure, to, nil
}

// serveHTTP answers the requests of a connection. If one is CONNECT, it returns what follows on the
// connection, and what that is for.
func (p *Proxy) serveHTTP(ctx context.Context, step Step, c net.Conn, to origin) (next net.Conn, nextTo origin) {
	l := &singleListener{conn: make(chan net.Conn, 1), closed: make(chan struct{}), addr: c.LocalAddr()}
	l.conn <- c
	var handlers sync.WaitGroup
	srv := &http.Server{
		ReadHeaderTimeout: 10 * time.Minute, // a step may keep a connection open between its requests
		MaxHeaderBytes:    maxRequestHeader,
		ErrorLog:          log.New(io.Discard, "", 0),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed || s == http.StateHijacked {
				l.Close()
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handlers.Add(1)
			defer handlers.Done()
			if r.Method != http.MethodConnect {
				p.handle(w, r, step, to)
				return
			}
			hijacked, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			_ = hijacked.SetDeadline(time.Time{})
			if _, err := io.WriteString(hijacked, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
				hijacked.Close()
				return
			}
			next, nextTo = &bufferedConn{Conn: hijacked, r: rw.Reader}, origin{scheme: "http", host: r.Host}
		}),
	}
	_ = srv.Serve(l)
	handlers.Wait()
	return next, nextTo
}

// A singleListener accepts one connection, and ends when that is closed.
type singleListener struct {
	conn   chan net.Conn
	once   sync.Once
	closed chan struct{}
	addr   net.Addr
}

func (l *singleListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, io.EOF
	}
}

func (l *singleListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *singleListener) Addr() net.Addr { return l.addr }
