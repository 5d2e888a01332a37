package publish

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/opencontainers/go-digest"
)

// A testRegistry is a registry in this process that records its requests.
type testRegistry struct {
	host string

	mu       sync.Mutex
	requests []string // "METHOD PATH"
}

// newRegistry starts a registry. If wrap is not nil, it wraps the handler.
func newRegistry(t *testing.T, wrap func(http.Handler) http.Handler) *testRegistry {
	t.Helper()
	r := &testRegistry{}
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		handler = wrap(handler)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.requests = append(r.requests, req.Method+" "+req.URL.RequestURI())
		r.mu.Unlock()
		handler.ServeHTTP(w, req)
	}))
	t.Cleanup(srv.Close)
	r.host = strings.TrimPrefix(srv.URL, "http://")
	return r
}

// count returns the number of requests with a method whose URI contains path.
func (r *testRegistry) count(method, path string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, req := range r.requests {
		if strings.HasPrefix(req, method+" ") && strings.Contains(req, path) {
			n++
		}
	}
	return n
}

func (r *testRegistry) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = nil
}

func twoPlatforms(t *testing.T) []rawImage {
	shared := tartest.Tar(t, file("shared", string(tartest.Noise(3<<20))))
	return []rawImage{
		{platform: amd64, layers: [][]byte{shared, tartest.Tar(t, file("a", "a"))}},
		{platform: arm64, layers: [][]byte{shared, tartest.Tar(t, file("b", "b"))}},
	}
}

func TestPush(t *testing.T) {
	s := testStore(t)
	img := build(t, s, twoPlatforms(t)...)
	r := newRegistry(t, nil)
	names := []string{r.host + "/team/app:v1", r.host + "/team/app:latest", r.host + "/mirror/app:v1"}
	if err := push(t.Context(), s, img.Descriptor, names, pushOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		ref, err := name.ParseReference(n)
		if err != nil {
			t.Fatal(err)
		}
		got, err := remote.Index(ref)
		if err != nil {
			t.Fatal(err)
		}
		if d, _ := got.Digest(); d.String() != img.Descriptor.Digest.String() {
			t.Errorf("%s: digest %s, want %s", n, d, img.Descriptor.Digest)
		}
		if err := validate.Index(got); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
	// The platforms' manifests must not have passed by the tag.
	if got := r.count("PUT", "/manifests/v1"); got != 2 {
		t.Errorf("the tags v1 were written %d times, want once in two repositories: %q", got, r.requests)
	}
	// Three layers and two configs, once.
	if got := r.count("PUT", "/blobs/"); got != 5 {
		t.Errorf("%d blobs were sent, want 5", got)
	}
	r.forget()
	if err := push(t.Context(), s, img.Descriptor, names, pushOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := r.count("PUT", "") + r.count("POST", "") + r.count("PATCH", ""); n != 0 {
		t.Errorf("the second push sent something: %q", r.requests)
	}
}

func TestPushMountsBase(t *testing.T) {
	r := newRegistry(t, nil)
	s := testStore(t)
	base := tartest.Gzip(t, tartest.Tar(t, file("base", "base")))
	onBase := rawImage{platform: amd64, base: [][]byte{base}, layers: [][]byte{tartest.Tar(t, file("f", "f"))},
		baseRef: r.host + "/library/debian:bookworm@" + digest.FromString("any").String()}
	img := build(t, s, onBase)
	if err := push(t.Context(), s, img.Descriptor, []string{r.host + "/team/app:v1"}, pushOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := r.count("POST", "mount="+digest.FromBytes(base).String()+"&from=library/debian"); got != 1 {
		t.Errorf("the registry was asked %d times for the base layer of its own: %q", got, r.requests)
	}
	if got := r.count("POST", "mount="); got != 1 {
		t.Errorf("new layers were asked for, too: %q", r.requests)
	}
}

func TestPushAuth(t *testing.T) {
	s := testStore(t)
	img := build(t, s, small(t, "a"))
	r := newRegistry(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if user, secret, _ := req.BasicAuth(); user != "me" || secret != "hunter2" {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			h.ServeHTTP(w, req)
		})
	})
	credentials := func(secret string) func(string) (string, string, error) {
		return func(host string) (string, string, error) {
			if host != r.host {
				t.Errorf("asked for credentials of %q, want %q", host, r.host)
			}
			return "me", secret, nil
		}
	}
	names := []string{r.host + "/team/app"}
	if err := push(t.Context(), s, img.Descriptor, names, pushOptions{credentials: credentials("hunter2")}); err != nil {
		t.Error(err)
	}
	denied := errors.New("keychain is locked")
	for want, c := range map[string]func(string) (string, string, error){
		"401":           credentials("wrong"),
		"no basic auth": func(string) (string, string, error) { return "", "", nil },
		denied.Error():  func(string) (string, string, error) { return "", "", denied },
	} {
		err := push(t.Context(), s, img.Descriptor, names, pushOptions{credentials: c})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
		refused := (*DeniedError)(nil)
		if errors.As(err, &refused) == errors.Is(err, denied) || refused != nil && refused.Host != r.host {
			t.Errorf("error %v is %+v", err, refused)
		}
	}
	if err := push(t.Context(), s, img.Descriptor, names, pushOptions{}); err == nil {
		t.Error("pushed without credentials")
	}
}

func TestPushFails(t *testing.T) {
	s := testStore(t)
	img := build(t, s, twoPlatforms(t)...)
	failing := func(fail func(w http.ResponseWriter, req *http.Request) bool) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if !fail(w, req) {
					h.ServeHTTP(w, req)
				}
			})
		}
	}
	isUpload := func(req *http.Request) bool {
		return req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/blobs/")
	}
	tests := []struct {
		name string
		fail func(w http.ResponseWriter, req *http.Request) bool
		want string
	}{
		{"error in the middle of a blob", func(w http.ResponseWriter, req *http.Request) bool {
			if !isUpload(req) || req.ContentLength < 1<<20 {
				return false
			}
			io.CopyN(io.Discard, req.Body, 1<<20)
			w.WriteHeader(http.StatusInternalServerError)
			io.WriteString(w, `{"errors":[{"code":"UNKNOWN","message":"disk on fire"}]}`)
			return true
		}, "500"},
		{"connection lost", func(w http.ResponseWriter, req *http.Request) bool {
			if !isUpload(req) || req.ContentLength < 1<<20 {
				return false
			}
			io.CopyN(io.Discard, req.Body, 1<<20)
			panic(http.ErrAbortHandler)
		}, "push image"},
		{"tag refused", func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method != http.MethodPut || !strings.HasSuffix(req.URL.Path, "/manifests/v1") {
				return false
			}
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, `{"errors":[{"code":"DENIED","message":"tag is immutable"}]}`)
			return true
		}, "tag is immutable"},
		{"other digest", func(w http.ResponseWriter, req *http.Request) bool {
			if isUpload(req) {
				io.Copy(io.Discard, req.Body)
				w.Header().Set("Docker-Content-Digest", digest.FromString("other").String())
				w.WriteHeader(http.StatusCreated)
			}
			return isUpload(req)
		}, "got digest"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRegistry(t, failing(tt.fail))
			names := []string{r.host + "/team/app:v1"}
			err := push(t.Context(), s, img.Descriptor, names, pushOptions{pauses: []time.Duration{}})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), names[0]) {
				t.Errorf("error %v, want %q and the name in it", err, tt.want)
			}
			if strings.Count(err.Error(), r.host+"/team/app:v1") != 1 {
				t.Errorf("more than one error: %v", err)
			}
			ref, _ := name.ParseReference(names[0])
			if _, err := remote.Head(ref); err == nil {
				t.Error("the tag is there")
			}
		})
	}
}

// A failure that may pass is tried again. A refusal is final.
func TestPushAgain(t *testing.T) {
	s := testStore(t)
	img := build(t, s, twoPlatforms(t)...)
	pauses := []time.Duration{time.Millisecond, time.Millisecond}
	status := func(code int) func(w http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.WriteHeader(code) }
	}
	drop := func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	tests := []struct {
		name, path string
		fail       func(w http.ResponseWriter)
		times      int // that the first PUT below path fails, and those after it
		pushed     bool
	}{
		{"bad gateway for a blob", "/blobs/", status(http.StatusBadGateway), 1, true},
		{"lost in a blob", "/blobs/", drop, 1, true},
		{"unavailable for a tag", "/manifests/v1", status(http.StatusServiceUnavailable), 2, true},
		{"too many requests", "/manifests/v1", status(http.StatusTooManyRequests), 2, true},
		{"lost at a tag", "/manifests/v1", drop, 2, true},
		{"unavailable for good", "/manifests/v1", status(http.StatusServiceUnavailable), 100, false},
		{"forbidden", "/manifests/v1", status(http.StatusForbidden), 1, false},
		{"not allowed", "/blobs/", status(http.StatusMethodNotAllowed), 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			left := tt.times
			r := newRegistry(t, func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					mu.Lock()
					fails := left > 0 && req.Method == http.MethodPut && strings.Contains(req.URL.Path, tt.path)
					if fails {
						left--
					}
					mu.Unlock()
					if fails {
						tt.fail(w)
						return
					}
					h.ServeHTTP(w, req)
				})
			})
			names := []string{r.host + "/team/app:v1"}
			err := push(t.Context(), s, img.Descriptor, names, pushOptions{pauses: pauses})
			if (err == nil) != tt.pushed {
				t.Fatalf("error %v, want it pushed: %t", err, tt.pushed)
			}
			ref, _ := name.ParseReference(names[0])
			index, err := remote.Index(ref)
			if (err == nil) != tt.pushed {
				t.Fatalf("the tag is there: %t, want %t", err == nil, tt.pushed)
			}
			if tt.pushed {
				if err := validate.Index(index); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestPushInterrupted(t *testing.T) {
	s := testStore(t)
	img := build(t, s, twoPlatforms(t)...)
	ctx, cancel := context.WithCancelCause(t.Context())
	release := make(chan struct{})
	r := newRegistry(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodPut {
				cancel(errInterrupted)
				<-release
			}
			h.ServeHTTP(w, req)
		})
	})
	defer close(release)
	start := time.Now()
	err := push(ctx, s, img.Descriptor, []string{r.host + "/team/app:v1"}, pushOptions{})
	if !errors.Is(err, errInterrupted) {
		t.Errorf("error %v, want %v", err, errInterrupted)
	}
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("it took %v to stop", d)
	}
}
