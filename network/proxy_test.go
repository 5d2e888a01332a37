package network

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A bed is a proxy with everything around it, and an origin.
type bed struct {
	t       *testing.T
	dir     string
	origin  *httptest.Server
	secure  *httptest.Server
	record  *Record
	cache   *Cache
	ca      *CA
	options Options

	mu       sync.Mutex
	failures []error
	proxy    *Proxy
	cancel   context.CancelFunc
	ctx      context.Context
}

var step1 = Step{ID: "aaaaaaaa", Name: "build: RUN curl", File: "Dockerfile", Line: 3}
var step2 = Step{ID: "bbbbbbbb", Name: "build: RUN wget", File: "Dockerfile", Line: 4}

func newBed(t *testing.T, handler http.HandlerFunc) *bed {
	t.Helper()
	b := &bed{t: t, dir: t.TempDir(), record: &Record{}}
	b.origin = httptest.NewServer(handler)
	b.secure = httptest.NewTLSServer(handler)
	t.Cleanup(b.origin.Close)
	t.Cleanup(b.secure.Close)
	b.open()
	return b
}

func (b *bed) open() {
	b.t.Helper()
	cache, err := OpenCache(b.t.Context(), filepath.Join(b.dir, "cache"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { cache.Close() })
	ca, err := OpenCA(filepath.Join(b.dir, "ca"))
	if err != nil {
		b.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(b.secure.Certificate())
	b.cache, b.ca = cache, ca
	fail := func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.failures = append(b.failures, err)
	}
	b.options = Options{
		Record: b.record, Cache: cache, CA: ca, Roots: roots,
		NotLocked:    func(e *NotLockedError) { fail(e); b.cancel() },
		Unreplayable: func(e *UnreplayableError) { fail(e) },
		Failed:       func(_ Step, err error) { fail(err); b.cancel() },
	}
}

// recording starts a recorder, and replaying a replayer that reads the record as it is written.
func (b *bed) recording() *bed { return b.start(NewRecorder) }

func (b *bed) replaying() *bed {
	b.t.Helper()
	if b.proxy != nil {
		b.stop()
	}
	r, err := Parse("record", b.record.Format())
	if err != nil {
		b.t.Fatal(err)
	}
	if string(r.Format()) != string(b.record.Format()) {
		b.t.Fatalf("formatted again:\n%s\nnot\n%s", r.Format(), b.record.Format())
	}
	b.record, b.options.Record = r, r
	return b.start(NewReplayer)
}

func (b *bed) start(kind func(Options) *Proxy) *bed {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.proxy = kind(b.options)
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.t.Cleanup(b.cancel)
	return b
}

func (b *bed) stop() {
	b.t.Helper()
	if err := b.proxy.Close(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.cancel()
}

func (b *bed) failed() []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures
}

func (b *bed) serve(step Step, c net.Conn) {
	b.mu.Lock()
	proxy, ctx := b.proxy, b.ctx
	b.mu.Unlock()
	proxy.ServeConn(ctx, step, c)
}

// dial returns a connection that the proxy serves for a step.
func (b *bed) dial(step Step) net.Conn {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Error(err)
		return nil
	}
	defer l.Close()
	go func() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			b.serve(step, c)
		}
	}()
	c, err := l.Accept()
	if err != nil {
		b.t.Error(err)
		return nil
	}
	return c
}

// client returns a client that uses the proxy as a proxy.
func (b *bed) client(step Step) *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(b.ca.PEM())
	return &http.Client{
		Timeout: 20 * time.Second,
		Transport: &http.Transport{
			Proxy:              http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy:3128"}),
			DialContext:        func(context.Context, string, string) (net.Conn, error) { return b.dial(step), nil },
			TLSClientConfig:    &tls.Config{RootCAs: pool},
			DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

func (b *bed) get(step Step, url string, headers ...string) answer {
	return b.do(step, http.MethodGet, url, headers...)
}

func (b *bed) do(step Step, method, url string, headers ...string) answer {
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return answer{err: err}
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	c := b.client(step)
	defer c.CloseIdleConnections()
	resp, err := c.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body), err}
}

func (b *bed) want(got answer, status int, body string) {
	b.t.Helper()
	if got.err != nil || got.status != status || got.body != body {
		b.t.Errorf("got %d %.100q, %v, want %d %.100q", got.status, got.body, got.err, status, body)
	}
}

func TestRecordThenReplay(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"v1"`)
		io.WriteString(w, "hello "+r.URL.String())
	})
	b.recording()
	for _, base := range []string{b.origin.URL, b.secure.URL} {
		b.want(b.get(step1, base+"/a?x=1"), 200, "hello /a?x=1")
	}
	b.stop()
	b.origin.Close()
	b.secure.Close()
	b.replaying()
	for _, base := range []string{b.origin.URL, b.secure.URL} {
		b.want(b.get(step1, base+"/a?x=1"), 200, "hello /a?x=1")
		b.want(b.get(step1, base+"/a?x=1", "Range", "bytes=1-3"), 206, "ell")
		b.want(b.get(step1, base+"/a?x=1", "If-None-Match", `"v1"`), 304, "")
		b.want(b.do(step1, "HEAD", base+"/a?x=1"), 200, "")
	}
	if errs := b.failed(); len(errs) > 0 {
		t.Fatal(errs)
	}
	got := b.get(step1, b.origin.URL+"/b")
	var missing *NotLockedError
	if got.err == nil || len(b.failed()) != 1 || !errors.As(b.failed()[0], &missing) || !strings.HasSuffix(missing.URL, "/b") {
		t.Errorf("got %v, %v", got, b.failed())
	}
}
