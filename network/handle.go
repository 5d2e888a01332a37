package network

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// handle answers one request of a step.
func (p *Proxy) handle(w http.ResponseWriter, r *http.Request, step Step, to origin) {
	u := target(r, to)
	if p.o.Record.allows(u.Scheme, u.Host) && !p.o.Offline {
		p.pass(w, r, u)
		return
	}
	status := http.StatusMethodNotAllowed
	text, err := p.canonical(u)
	bad := unreplayable(r, u)
	if err != nil {
		status, text = http.StatusBadRequest, canonicalHost(u.Scheme, u.Host)
		bad = &UnreplayableError{What: err.Error(), Advice: fmt.Sprintf("download it from an http or https URL of at most %d bytes", maxURL)}
	}
	if bad == nil {
		p.answer(w, r, step, u, text)
		return
	}
	bad.Step, bad.Method, bad.URL = step, r.Method, text
	if p.o.Unreplayable != nil && !harmless(r, u) {
		p.o.Unreplayable(bad)
	}
	w.Header().Set("Connection", "close")
	http.Error(w, "kedge: "+bad.Error()+"; "+bad.Advice, status)
}

// target returns the URL that a request is for.
func target(r *http.Request, to origin) *url.URL {
	u := *r.URL
	if u.Host == "" { // not in the form for a proxy
		u.Scheme, u.Host = to.scheme, to.host
		if u.Host == "" {
			u.Host = r.Host
		}
	}
	return &u
}

// canonical returns the canonical form of a URL, without the secrets that kedge knows.
func (p *Proxy) canonical(u *url.URL) (string, error) {
	text, err := canonicalURL(u)
	if err != nil {
		return "", err
	}
	text = p.withoutSecrets(text)
	clean, err := url.Parse(text)
	if err != nil {
		return "", err
	}
	return canonicalURL(clean)
}

// hidden replaces a secret in a URL or header.
const hidden = "SECRET"

func (p *Proxy) withoutSecrets(s string) string {
	for _, secret := range p.o.Secrets {
		secret = bytes.TrimSpace(secret) // a file ends with a newline
		if len(secret) < 6 {             // any text may have it
			continue
		}
		for _, form := range []string{string(secret), url.QueryEscape(string(secret)), url.PathEscape(string(secret))} {
			s = strings.ReplaceAll(s, form, hidden)
		}
	}
	return s
}

// answer answers a request from the record or, if the proxy records, by a fetch that is added to it.
func (p *Proxy) answer(w http.ResponseWriter, r *http.Request, step Step, u *url.URL, text string) {
	for {
		if e, ok := p.o.Record.Find(r.Method, text, r.Header); ok {
			if p.record {
				p.o.Record.Use(e, step.ID)
			}
			p.replay(w, r, step, u, e)
			return
		}
		if !p.record {
			if p.o.NotLocked != nil {
				p.o.NotLocked(&NotLockedError{Step: step, Method: r.Method, URL: text})
			}
			hold(r)
		}
		f, mine := p.join(r, step, u, text)
		if f != nil && p.fly(f, mine, w, r, step) {
			return
		}
	}
}

// fly answers a request by a flight. It returns false if the flight is for a request with other headers, may
// end otherwise now, or has ended: the record may have the answer then.
func (p *Proxy) fly(f *flight, mine bool, w http.ResponseWriter, r *http.Request, step Step) (served bool) {
	if mine {
		defer f.leave()
	}
	select {
	case <-f.ready:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
	if mine || f.answers(r.Header) {
		return f.serve(w, r, step)
	}
	select {
	case <-f.finished:
		return false
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// hold keeps a connection open without an answer, so that the step cannot go on before its build is
// cancelled.
func hold(r *http.Request) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// replay writes a recorded answer.
func (p *Proxy) replay(w http.ResponseWriter, r *http.Request, step Step, u *url.URL, e Entry) {
	if e.Status == 0 {
		panic(http.ErrAbortHandler)
	}
	if e.Digest == "" {
		writeHead(w, e)
		return
	}
	end := func(err error) {
		if r.Context().Err() == nil && p.o.Failed != nil {
			p.o.Failed(step, err)
		}
		hold(r)
	}
	if e.Size >= streamed && e.Status == http.StatusOK && r.Method == http.MethodGet && r.Header.Get("Range") == "" && !conditional(r.Header) {
		if body := p.o.Cache.stream(e.Digest, e.Size); body != nil {
			defer body.Close()
			setHeader(w, e)
			serveBody(w, r, e, &mended{body, func() {
				err := p.restore(r.Context(), e, u)
				if err == nil {
					err = &RestoredError{e}
				}
				end(err)
			}})
			return
		}
	}
	body, err := p.body(r.Context(), e, u)
	if err != nil {
		end(err)
	}
	defer body.Close()
	setHeader(w, e)
	serveBody(w, r, e, body)
}

// streamed is the size from which a body is checked while it is sent, not before. If it is damaged, the step already
// has part of it, and the build must start over.
const streamed = 8 << 20

// A mended body calls damaged, which does not return, if its content is damaged.
type mended struct {
	*stream
	damaged func()
}

func (m *mended) Read(p []byte) (int, error) {
	n, err := m.stream.Read(p)
	if bad := (*DamagedError)(nil); errors.As(err, &bad) {
		m.damaged()
	}
	return n, err
}

// writeHead writes the answer to a HEAD request whose body is unknown.
func writeHead(w http.ResponseWriter, e Entry) {
	setHeader(w, e)
	if e.Size >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(e.Size, 10))
	}
	w.WriteHeader(e.Status)
}

// setHeader sets the recorded headers. net/http adds none that depend on the clock or the body.
func setHeader(w http.ResponseWriter, e Entry) {
	h := w.Header()
	h["Date"] = nil
	h["Content-Type"] = nil
	for name, value := range e.Header {
		h.Set(name, value)
	}
}

// serveBody writes an answer whose size is known. For 200 it answers ranges and conditions.
func serveBody(w http.ResponseWriter, r *http.Request, e Entry, body io.ReadSeeker) {
	h := w.Header()
	if e.Status == http.StatusOK {
		if h.Get("Content-Encoding") != "" && r.Header.Get("Range") == "" {
			h.Set("Content-Length", strconv.FormatInt(e.Size, 10)) // http.ServeContent leaves it out
		}
		modified, _ := http.ParseTime(e.Header["Last-Modified"])
		checked := &checkedReader{ReadSeeker: body}
		if strings.Contains(r.Header.Get("Range"), ",") {
			w = &partsWriter{ResponseWriter: w, url: e.URL}
		}
		http.ServeContent(w, r, "", modified, checked)
		if checked.err != nil {
			panic(http.ErrAbortHandler)
		}
		return
	}
	if hasBody(e.Status) {
		h.Set("Content-Length", strconv.FormatInt(e.Size, 10))
	}
	w.WriteHeader(e.Status)
	if r.Method != http.MethodHead && hasBody(e.Status) {
		if _, err := io.Copy(w, body); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

func hasBody(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// A partsWriter gives an answer of several ranges the same boundary each time. http.ServeContent takes one at random, and
// writes it whole.
type partsWriter struct {
	http.ResponseWriter
	url            string
	random, stable []byte // of one length; nil if there is no boundary
}

// WriteHeader implements http.ResponseWriter.
func (w *partsWriter) WriteHeader(status int) {
	const prefix = "multipart/byteranges; boundary="
	random, ok := strings.CutPrefix(w.Header().Get("Content-Type"), prefix)
	stable := digest.FromString(w.url).Encoded()
	if ok && status == http.StatusPartialContent && len(random) <= len(stable) {
		stable = stable[:len(random)]
		w.random, w.stable = []byte(random), []byte(stable)
		w.Header().Set("Content-Type", prefix+stable)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *partsWriter) Write(p []byte) (int, error) {
	if w.random != nil {
		p = bytes.ReplaceAll(p, w.random, w.stable)
	}
	return w.ResponseWriter.Write(p)
}

// A checkedReader remembers the error of its reader, which http.ServeContent does not return.
type checkedReader struct {
	io.ReadSeeker
	err error
}

func (c *checkedReader) Read(p []byte) (int, error) {
	n, err := c.ReadSeeker.Read(p)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// unreplayable returns an error without its place if a request cannot be recorded.
func unreplayable(r *http.Request, u *url.URL) *UnreplayableError {
	switch {
	case strings.HasSuffix(u.Path, "/git-upload-pack"), strings.HasSuffix(u.Path, "/git-receive-pack"):
		return &UnreplayableError{What: "git over https sends and receives what differs from run to run", Advice: "use ADD " + gitRemote(u) + "#REF DIR instead, which is locked to a commit"}
	case r.Header.Get("Upgrade") != "" && !strings.EqualFold(r.Header.Get("Upgrade"), "h2c"): // a server is free to stay with HTTP/1.1
		return &UnreplayableError{What: "a connection of the protocol " + strconv.Quote(r.Header.Get("Upgrade")) + " is no answer to a request", Advice: allowAdvice(u)}
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return &UnreplayableError{What: "only GET and HEAD have one answer", Advice: allowAdvice(u)}
	case r.ContentLength != 0:
		return &UnreplayableError{What: "a request with a body has no answer of its own", Advice: allowAdvice(u)}
	}
	return nil
}

func gitRemote(u *url.URL) string {
	remote := *u
	remote.User, remote.RawQuery, remote.Fragment = nil, "", ""
	remote.Path = strings.TrimSuffix(strings.TrimSuffix(remote.Path, "/git-upload-pack"), "/git-receive-pack")
	remote.RawPath = ""
	if !strings.HasSuffix(remote.Path, ".git") {
		remote.Path += ".git"
	}
	return remote.String()
}

func allowAdvice(u *url.URL) string {
	return "download it by GET, or let the host through without locking it: kedge lock --downloads-allow " + canonicalHost(u.Scheme, u.Host)
}

// harmless reports whether a program goes on in the same way if a request is refused: npm's audit of an
// install prints a report that nothing depends on.
func harmless(r *http.Request, u *url.URL) bool {
	return r.Method == http.MethodPost && (strings.HasSuffix(u.Path, "/-/npm/v1/security/advisories/bulk") ||
		strings.HasSuffix(u.Path, "/-/npm/v1/security/audits/quick") || strings.HasSuffix(u.Path, "/-/npm/v1/security/audits"))
}

// entryOf returns the entry of an upstream answer without body.
func (p *Proxy) entryOf(method, text string, request http.Header, resp *http.Response) Entry {
	e := Entry{Method: method, URL: text, Status: resp.StatusCode, Header: map[string]string{}}
	for _, name := range keptHeaders {
		values := resp.Header.Values(name)
		if len(values) == 0 {
			continue
		}
		if value := p.keptValue(name, strings.Join(values, ", ")); value != "" {
			e.Header[name] = value
		}
	}
	for named := range strings.SplitSeq(strings.Join(resp.Header.Values("Vary"), ","), ",") {
		for _, name := range varyHeaders {
			if strings.EqualFold(strings.TrimSpace(named), name) {
				if e.Vary == nil {
					e.Vary = map[string]string{}
				}
				e.Vary[name] = varyValue(name, request)
			}
		}
	}
	return e
}

// keptValue returns a header's value without credentials.
func (p *Proxy) keptValue(name, value string) string {
	value = p.withoutSecrets(value)
	switch name {
	case "Location":
		value = escapeRest(cleanLink(value))
	case "Link":
		value = cleanLinks(value)
	}
	return cleanValue(value)
}

// rememberLink remembers the URL of a redirect whose credentials the record leaves out: a step gets the URL
// without them, and asks for that.
func (p *Proxy) rememberLink(base *url.URL, location string) {
	u, err := base.Parse(location)
	if err != nil {
		return
	}
	text, err := p.canonical(u)
	if err != nil || text == u.String() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.real) < maxEntries {
		p.real[text] = u.String()
	}
}

// upstream returns the URL to fetch for one that a step asked for.
func (p *Proxy) upstream(u *url.URL, text string) *url.URL {
	p.mu.Lock()
	defer p.mu.Unlock()
	if full, ok := p.real[text]; ok && u.String() == text {
		if parsed, err := url.Parse(full); err == nil {
			return parsed
		}
	}
	return u
}

// mayPass reports whether the next attempt may get another answer, so that this one is not for good.
func (e *Entry) mayPass() bool {
	switch e.Status {
	case 0, http.StatusUnauthorized, http.StatusProxyAuthRequired, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return e.Status >= 500 && e.Status < 600 || e.leadsBack()
}

// leadsBack reports whether an answer redirects to its own URL. The next request has a cookie then, or the signature
// that the record leaves out.
func (e *Entry) leadsBack() bool {
	location := e.Header["Location"]
	if location == "" || e.Status < 300 || e.Status > 399 {
		return false
	}
	u, err := url.Parse(e.URL)
	if err == nil {
		u, err = u.Parse(location)
	}
	if err != nil {
		return false
	}
	text, err := canonicalURL(u)
	return err == nil && text == e.URL
}

// withSteps returns a copy of e that lists the steps.
func withSteps(e Entry, steps map[string]bool) Entry {
	e = e.clone()
	for id := range maps.Keys(steps) {
		e.addStep(id)
	}
	return e
}
