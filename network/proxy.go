// Package network stands between RUN steps and the network. It records what they download, and answers the
// same requests from the record later, without a network.
//
// A [Record] holds one answer for each URL, a [Cache] the bodies, and a [Proxy] answers the connections of
// steps. docs/hermetic.md describes the whole.
package network

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Options say what a Proxy works on. Record, Cache and CA are required.
type Options struct {
	Record *Record
	Cache  *Cache
	CA     *CA

	Roots *x509.CertPool // what origins' certificates are checked with; nil: the system's
	// ProxyFor returns the proxy through which a URL is fetched, or nil; nil: no proxy.
	ProxyFor func(*url.URL) (*url.URL, error)
	// Hosts has the addresses of hosts that are not looked up, by name in lower case; nil: none.
	Hosts   map[string]string
	Offline bool // fetch nothing at all, not even bodies that the cache lacks
	// Archive is the address of an archive of Debian's packages; empty: DefaultArchive.
	Archive string
	// Repo fetches bodies that the cache lacks from where they are shared; nil: nowhere.
	Repo    Source
	Secrets [][]byte // values that no record may have
	MaxBody int64    // bytes of one body; 0: 32 GiB
	// Patience is how long an origin may send nothing; 0: two minutes.
	Patience time.Duration

	// NotLocked is called before a replayer answers a request that the record has no answer to. The caller has
	// to cancel the build: the connection stays without an answer until it is closed.
	NotLocked func(*NotLockedError)
	// Unreplayable is called when a step asks for something that cannot be recorded. The proxy refuses it.
	Unreplayable func(*UnreplayableError)
	// Warn, unless it is nil, is called when an origin cannot be reached or breaks off. The error is a
	// *FetchError. The step sees a broken connection.
	Warn func(Step, error)
	// Failed is called when an answer cannot be recorded, or a locked body is not to be had. The error is a
	// *LimitError, a *MissingError, or says why the cache cannot be written. The caller has to cancel the build.
	Failed func(Step, error)
}

// The defaults of Options.
const (
	defaultMaxBody  = 32 << 30
	defaultPatience = 2 * time.Minute
)

// A Proxy answers the connections of RUN steps. It is safe for use by several goroutines.
type Proxy struct {
	o       Options
	record  bool // fetch and add what the record lacks
	client  *http.Transport
	flights flights
	pending sync.WaitGroup // fetches
	ctx     context.Context
	stop    context.CancelFunc

	mu      sync.Mutex
	real    map[string]string // URLs with their credentials, by canonical URL
	passing map[string]Entry  // answers that may pass, by request
}

// NewRecorder returns a Proxy that answers from o.Record what it can, and fetches and adds everything else.
func NewRecorder(o Options) *Proxy { return newProxy(o, true) }

// NewReplayer returns a Proxy that answers from o.Record alone.
func NewReplayer(o Options) *Proxy { return newProxy(o, false) }

func newProxy(o Options, record bool) *Proxy {
	if o.MaxBody == 0 {
		o.MaxBody = defaultMaxBody
	}
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	p := &Proxy{o: o, record: record, client: transport(o), real: map[string]string{}, passing: map[string]Entry{}}
	p.flights.running = map[string]*flight{}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// CAPEM returns the certificate that steps have to trust.
func (p *Proxy) CAPEM() []byte { return p.o.CA.PEM() }

// Close waits until everything that was asked for is recorded, or until ctx is done, which is an error. For the end of
// a body of unknown length it waits as long as for a silent origin. After that the Proxy answers nothing.
func (p *Proxy) Close(ctx context.Context) error {
	defer time.AfterFunc(p.o.Patience, p.leaveEndless).Stop()
	done := make(chan struct{})
	go func() { p.pending.Wait(); close(done) }()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	p.stop()
	<-done
	p.client.CloseIdleConnections()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.record { // before a record names it
		err = errors.Join(err, p.o.Cache.Sync())
	}
	for _, e := range p.passing {
		if !p.o.Record.has(e.Method, e.URL) {
			_, addErr := p.o.Record.Add(e)
			err = errors.Join(err, addErr)
		}
	}
	return err
}
