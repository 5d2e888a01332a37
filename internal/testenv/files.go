package testenv

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Files is a file server on loopback, for ADD and RUN. Its files can change while
// it runs.
type Files struct {
	URL string // "http://127.0.0.1:…", without a slash at the end

	mu    sync.Mutex
	files map[string]file
	seen  []Request
}

type file struct {
	content  string
	modified time.Time
}

// NewFiles starts a file server without files. It ends with the test.
func NewFiles(t testing.TB) *Files {
	t.Helper()
	f := &Files{files: map[string]file{}}
	server := httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(server.Close)
	f.URL = server.URL
	return f
}

// Set serves content at a path such as /a.tar, and returns the URL. Without a
// modified time there is no Last-Modified.
func (f *Files) Set(path, content string, modified time.Time) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[path] = file{content, modified}
	return f.URL + path
}

// Requests returns the requests of clients in the order of arrival.
func (f *Files) Requests() []Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Request(nil), f.seen...)
}

func (f *Files) serve(w http.ResponseWriter, req *http.Request) {
	f.mu.Lock()
	f.seen = append(f.seen, Request{Method: req.Method, Path: req.URL.Path})
	file, ok := f.files[req.URL.Path]
	f.mu.Unlock()
	if !ok {
		http.NotFound(w, req)
		return
	}
	http.ServeContent(w, req, req.URL.Path, file.modified, strings.NewReader(file.content))
}
