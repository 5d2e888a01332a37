package network

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// maxResponseHeader bounds the header of an origin's answer.
const maxResponseHeader = 256 << 10

// dialTimeout is how long a connection and its TLS may take.
const dialTimeout = 30 * time.Second

func transport(o Options) *http.Transport {
	t := &http.Transport{
		DialContext:            dialer(o),
		TLSHandshakeTimeout:    min(dialTimeout, o.Patience),
		ResponseHeaderTimeout:  o.Patience,
		IdleConnTimeout:        time.Minute,
		MaxIdleConnsPerHost:    32,
		MaxResponseHeaderBytes: maxResponseHeader,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		TLSClientConfig:        &tls.Config{RootCAs: o.Roots},
	}
	if o.ProxyFor != nil {
		t.Proxy = func(r *http.Request) (*url.URL, error) { return o.ProxyFor(r.URL) }
	}
	return t
}

// dialer returns what connects to origins.
func dialer(o Options) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{Timeout: min(dialTimeout, o.Patience)}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, port, err := net.SplitHostPort(address); err == nil && o.Hosts[strings.ToLower(host)] != "" {
			address = net.JoinHostPort(o.Hosts[strings.ToLower(host)], port)
		}
		return d.DialContext(ctx, network, address)
	}
}

// notPassed are the headers of a step's request that are not sent to the origin: those of the connection, and
// those that would make the answer a part of the whole.
var notPassed = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since",
	"If-Unmodified-Since", "Accept-Encoding", "Expect", "A-Im",
}

// newRequest returns the request for the whole of a URL that is sent to its origin.
func newRequest(ctx context.Context, method string, u *url.URL, header http.Header) *http.Request {
	r := (&http.Request{Method: method, URL: u, Host: u.Host, Header: header.Clone(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	if r.Header == nil {
		r.Header = http.Header{}
	}
	for named := range strings.SplitSeq(strings.Join(header.Values("Connection"), ","), ",") {
		r.Header.Del(strings.TrimSpace(named))
	}
	for _, name := range notPassed {
		r.Header.Del(name)
	}
	r.Header.Set("Accept-Encoding", "identity")
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", "") // net/http would send its own
	}
	return r
}

// pass lets a request through to an allowed host.
func (p *Proxy) pass(w http.ResponseWriter, r *http.Request, u *url.URL) {
	rp := &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL, pr.Out.Host = u, u.Host
			if pr.Out.Header.Get("User-Agent") == "" {
				pr.Out.Header.Set("User-Agent", "")
			}
		},
		Transport:     p.client,
		FlushInterval: -1,
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	rp.ServeHTTP(w, r)
}

// flights are the fetches that are under way, by request.
type flights struct {
	mu      sync.Mutex
	running map[string]*flight
}

// A flight is the fetch of one answer, which goes on when the step that asked for it has gone.
type flight struct {
	proxy   *Proxy
	key     string
	request http.Header

	cancel   context.CancelCauseFunc
	ready    chan struct{} // closed when entry and header, or err, are known
	finished chan struct{} // closed when the answer is in the record, or err is known

	entry  Entry       // without size and digest
	header http.Header // of the answer, for the step that asked first
	size   int64       // as announced, or -1
	spool  *spool      // nil for HEAD and a failure
	err    error       // if no answer came; set before ready

	mu    sync.Mutex
	steps map[string]bool
}

// join returns the flight for a request, and whether this request started it. It returns nil if the record
// has got an answer meanwhile.
func (p *Proxy) join(r *http.Request, step Step, u *url.URL, text string) (f *flight, mine bool) {
	key := entryKey(r.Method, text)
	p.flights.mu.Lock()
	defer p.flights.mu.Unlock()
	if f := p.flights.running[key]; f != nil {
		return f, false
	}
	if _, ok := p.o.Record.Find(r.Method, text, r.Header); ok {
		return nil, false
	}
	f = &flight{
		proxy: p, key: key, request: r.Header.Clone(), steps: map[string]bool{step.ID: true},
		ready: make(chan struct{}), finished: make(chan struct{}), size: -1,
		entry: Entry{Method: r.Method, URL: text},
	}
	p.flights.running[key] = f
	p.pending.Go(func() {
		f.run(step, u)
		p.flights.mu.Lock()
		delete(p.flights.running, key)
		p.flights.mu.Unlock()
		close(f.finished)
	})
	return f, true
}

// answers reports whether a flight is also for a request that did not start it. It must be ready.
func (f *flight) answers(header http.Header) bool {
	return f.err == nil && !f.entry.mayPass() && varies(f.entry.Vary, header)
}

// run fetches the answer and adds it to the record.
func (f *flight) run(step Step, u *url.URL) {
	p := f.proxy
	ctx, cancel := context.WithCancelCause(p.ctx)
	defer cancel(nil)
	f.cancel = cancel
	sent := newRequest(ctx, f.entry.Method, p.upstream(u, f.entry.URL), f.request)
	resp, err := p.client.RoundTrip(sent)
	if err != nil {
		f.fail(step, err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode == http.StatusNotModified {
		f.fail(step, fmt.Errorf("the server answers %q to a request without conditions", resp.Status))
		return
	}
	f.entry = p.entryOf(f.entry.Method, f.entry.URL, f.request, resp)
	f.header = resp.Header
	if location := resp.Header.Get("Location"); location != "" {
		p.rememberLink(u, location)
	}
	f.size = resp.ContentLength
	if f.entry.Method == http.MethodHead {
		f.entry.Size = f.size
		f.add(step, f.entry)
		close(f.ready)
		return
	}
	if f.spool, err = newSpool(p.o.Cache); err != nil {
		f.broken(step, err)
		close(f.ready)
		return
	}
	defer f.spool.release()
	close(f.ready)
	watch := time.AfterFunc(p.o.Patience, func() { cancel(errors.New("the server sends nothing more")) })
	defer watch.Stop()
	whole := f.entry
	whole.Size, whole.Digest, err = f.copy(resp.Body, func() { watch.Reset(p.o.Patience) })
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err == nil {
		if err = p.o.Cache.adopt(f.spool.file, whole.Digest); err != nil {
			err = &writeError{err}
		}
	}
	if err == nil {
		f.add(step, whole)
	}
	defer func() { f.spool.end(err) }() // the build knows of an error before its step does
	var limit *LimitError
	var write *writeError
	switch {
	case err == nil:
	case errors.As(err, &limit), errors.As(err, &write):
		f.broken(step, err)
	case p.ctx.Err() == nil:
		if errors.Is(err, errEndless) && p.o.Unreplayable != nil {
			p.o.Unreplayable(&UnreplayableError{Step: step, Method: f.entry.Method, URL: f.entry.URL, What: err.Error(), Advice: allowAdvice(u)})
		}
		f.warn(step, err)
		f.add(step, f.unreached())
	}
}

var errEndless = errors.New("the answer did not end, and no step reads it any more")

// leaveEndless ends the flights of bodies whose length is not known.
func (p *Proxy) leaveEndless() {
	p.flights.mu.Lock()
	defer p.flights.mu.Unlock()
	for _, f := range p.flights.running {
		select {
		case <-f.ready:
			if f.size < 0 {
				f.cancel(errEndless)
			}
		default: // ResponseHeaderTimeout ends it
		}
	}
}

// unreached is the answer of an origin that gives none, or breaks off.
func (f *flight) unreached() Entry { return Entry{Method: f.entry.Method, URL: f.entry.URL} }

func (f *flight) warn(step Step, err error) {
	if f.proxy.o.Warn != nil && f.proxy.ctx.Err() == nil {
		f.proxy.o.Warn(step, &FetchError{URL: f.entry.URL, Err: err})
	}
}

// A writeError says that the cache cannot be written.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// copy copies a body into the spool, and returns its size and digest.
func (f *flight) copy(body io.Reader, alive func()) (size int64, _ digest.Digest, err error) {
	sum := sha256.New()
	buffer := make([]byte, 256<<10)
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			alive()
			if size += int64(n); size > f.proxy.o.MaxBody {
				return 0, "", &LimitError{URL: f.entry.URL, What: "bytes of one download", Limit: f.proxy.o.MaxBody}
			}
			sum.Write(buffer[:n])
			if err := f.spool.write(buffer[:n]); err != nil {
				return 0, "", &writeError{err}
			}
		}
		if err == io.EOF {
			return size, digest.NewDigest(digest.SHA256, sum), nil
		}
		if err != nil {
			return 0, "", err
		}
	}
}

// add adds the answer to the record, unless it may be another at the next attempt.
func (f *flight) add(step Step, e Entry) {
	p := f.proxy
	f.mu.Lock()
	e = withSteps(e, f.steps)
	f.mu.Unlock()
	if e.mayPass() {
		p.mu.Lock()
		p.passing[f.key] = e
		p.mu.Unlock()
		return
	}
	if _, err := p.o.Record.Add(e); err != nil {
		f.broken(step, err)
	}
}

// fail ends a flight that has no answer. An origin that cannot be reached is an answer too, if none follows.
func (f *flight) fail(step Step, err error) {
	f.err = err
	f.warn(step, err)
	if f.proxy.ctx.Err() == nil {
		f.add(step, f.unreached())
	}
	close(f.ready)
}

// broken says that the answer cannot be recorded, which ends the build.
func (f *flight) broken(step Step, err error) {
	if f.err == nil && f.spool == nil {
		f.err = err
	}
	if f.proxy.o.Failed != nil && f.proxy.ctx.Err() == nil {
		f.proxy.o.Failed(step, err)
	}
}

// serve writes the answer of a flight that is ready, while it is still being fetched. It returns false if the
// flight has finished, and its answer is in the record.
func (f *flight) serve(w http.ResponseWriter, r *http.Request, step Step) (served bool) {
	if f.err != nil {
		panic(http.ErrAbortHandler)
	}
	p := f.proxy
	f.mu.Lock()
	f.steps[step.ID] = true
	f.mu.Unlock()
	e := f.entry
	if e.Method == http.MethodHead {
		writeHead(w, e)
		return true
	}
	body, err := f.spool.reader(f.size)
	if errors.Is(err, os.ErrClosed) {
		return false
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer body.Close()
	for _, name := range []string{"Set-Cookie", "Retry-After"} { // for a step that asks again
		for _, v := range f.header.Values(name) {
			w.Header().Add(name, v)
		}
	}
	// HTTP/1.0 says by the end of the connection that a body is whole, so its size must be known.
	if f.size < 0 && r.ProtoAtLeast(1, 1) && (e.Status != http.StatusOK || r.Header.Get("Range") == "" && !conditional(r.Header)) {
		// Its size is not known before its end, and does not matter.
		setHeader(w, e)
		w.WriteHeader(e.Status)
		if _, err := io.Copy(flusher{w}, body); err != nil {
			panic(http.ErrAbortHandler)
		}
		p.o.Record.Use(e, step.ID)
		return true
	}
	if f.size < 0 {
		if body.size, err = f.spool.wait(); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	e.Size = body.size
	setHeader(w, e)
	serveBody(w, r, e, body)
	p.o.Record.Use(e, step.ID)
	return true
}

// leave says that the request which started the flight needs it no more.
func (f *flight) leave() {
	select {
	case <-f.ready:
		if f.spool != nil {
			f.spool.release()
		}
	default:
		go func() { <-f.ready; f.leave() }()
	}
}

func conditional(h http.Header) bool {
	return h.Get("If-None-Match") != "" || h.Get("If-Modified-Since") != "" || h.Get("If-Match") != "" || h.Get("If-Unmodified-Since") != ""
}

// A flusher sends each piece at once.
type flusher struct{ w http.ResponseWriter }

func (f flusher) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	if err == nil {
		err = http.NewResponseController(f.w).Flush()
	}
	return n, err
}

// A spool is a file that is written while others read it.
type spool struct {
	cache *Cache
	file  *os.File

	mu    sync.Mutex
	grown sync.Cond
	n     int64
	done  bool
	err   error
	refs  int
}

func newSpool(c *Cache) (*spool, error) {
	f, err := c.draft()
	if err != nil {
		return nil, err
	}
	s := &spool{cache: c, file: f, refs: 2} // the flight's, and that of the request which started it
	s.grown.L = &s.mu
	return s, nil
}

func (s *spool) write(b []byte) error {
	if _, err := s.file.Write(b); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n += int64(len(b))
	s.grown.Broadcast()
	return nil
}

// end says that nothing more comes. An error says that what came is not whole.
func (s *spool) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done, s.err = true, err
	s.grown.Broadcast()
}

// wait waits for the end, and returns the size.
func (s *spool) wait() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.done {
		s.grown.Wait()
	}
	return s.n, s.err
}

func (s *spool) release() {
	s.mu.Lock()
	s.refs--
	last := s.refs == 0
	s.mu.Unlock()
	if last {
		s.cache.discard(s.file)
	}
}

// reader returns a reader of the whole content, whose size is -1 if it is not known yet. The error says that
// the content is not whole, or that the file is closed already.
func (s *spool) reader(size int64) (*spoolReader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if s.refs == 0 {
		return nil, os.ErrClosed
	}
	s.refs++
	return &spoolReader{spool: s, size: size}, nil
}

// A spoolReader waits for bytes that are not there yet. It keeps the last byte back until the content is
// known to be whole.
type spoolReader struct {
	spool *spool
	size  int64
	off   int64
}

func (r *spoolReader) Read(p []byte) (int, error) {
	s := r.spool
	s.mu.Lock()
	for !s.done && r.off >= s.n-1 {
		s.grown.Wait()
	}
	until, done, err := s.n, s.done, s.err
	s.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if !done {
		until--
	}
	if r.off >= until {
		return 0, io.EOF
	}
	n, err := s.file.ReadAt(p[:min(int64(len(p)), until-r.off)], r.off)
	r.off += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (r *spoolReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.off
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, errors.New("before the beginning")
	}
	r.off = offset
	return offset, nil
}

func (r *spoolReader) Close() error {
	r.spool.release()
	return nil
}
