package testenv

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/kedge-build/kedge/internal/rig"
)

// A Registry is a registry on loopback that keeps its blobs on disk, records
// requests, and can inject faults.
//
// Its methods access the registry directly, without records, authentication or
// faults.
type Registry struct {
	Addr string // host:port, the registry part of a reference to it

	store http.Handler
	mu    sync.Mutex
	seen  []Request
	auth  map[string]string // the Authorization that a repository asks for
	fault http.HandlerFunc
}

// A Request is a request of a client.
type Request struct {
	Method string
	Path   string // without the query
}

// NewRegistry starts an empty registry, which ends with the test.
func NewRegistry(t testing.TB) *Registry {
	t.Helper()
	r := &Registry{
		store: registry.New(
			registry.WithBlobHandler(registry.NewDiskBlobHandler(t.TempDir())),
			registry.WithReferrersSupport(true),
			registry.Logger(log.New(io.Discard, "", 0)),
		),
		auth: map[string]string{},
	}
	server := httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(func() {
		r.Fault(nil)
		server.CloseClientConnections() // a client that hangs must not hold up the end
		server.Close()
	})
	r.Addr = server.Listener.Addr().String()
	return r
}

func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.seen = append(r.seen, Request{Method: req.Method, Path: req.URL.Path})
	fault, auth := r.fault, r.auth[repository(req.URL.Path)]
	r.mu.Unlock()
	switch {
	case fault != nil:
		fault(w, req)
	case auth != "" && req.Header.Get("Authorization") != auth:
		w.Header().Set("Www-Authenticate", `Basic realm="kedge test"`)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
	default:
		if strings.HasSuffix(req.Header.Get("Range"), "-") {
			// The store does not support a range without an end, which a resumed pull requests.
			req.Header.Del("Range")
		}
		r.store.ServeHTTP(w, req)
	}
}

// repository returns the repository in the path of a request.
func repository(path string) string {
	rest := strings.TrimPrefix(path, "/v2/")
	for _, part := range []string{"/manifests/", "/blobs/", "/tags/", "/referrers/"} {
		if before, _, ok := strings.Cut(rest, part); ok {
			return before
		}
	}
	return ""
}

// Ref returns the reference by which clients reach repo, such as
// "library/debian:bookworm-slim", in this registry by its address.
func (r *Registry) Ref(repo string) string { return r.Addr + "/" + repo }

// Push stores an image or an index under ref ("library/debian:bookworm-slim",
// without the registry) and returns its digest. A tag that exists moves.
func (r *Registry) Push(t testing.TB, ref string, what partial.Describable) v1.Hash {
	t.Helper()
	var err error
	switch what := what.(type) {
	case v1.Image:
		err = remote.Write(r.parse(t, ref), what, r.direct())
	case v1.ImageIndex:
		err = remote.WriteIndex(r.parse(t, ref), what, r.direct())
	default:
		t.Fatalf("pushing %q: it is neither an image nor an index but a %T", ref, what)
	}
	if err != nil {
		t.Fatalf("pushing %q: %v", ref, err)
	}
	digest, err := what.Digest()
	if err != nil {
		t.Fatalf("pushing %q: %v", ref, err)
	}
	return digest
}

// Tag creates or moves a tag, so that it names the same content as ref in the
// same repository.
func (r *Registry) Tag(t testing.TB, ref, tag string) {
	t.Helper()
	parsed := r.parse(t, ref)
	desc, err := remote.Get(parsed, r.direct())
	if err == nil {
		err = remote.Tag(parsed.Context().Tag(tag), desc, r.direct())
	}
	if err != nil {
		t.Fatalf("tagging %q as %q: %v", ref, tag, err)
	}
}

// Get returns the descriptor of ref. Its Image and ImageIndex methods read the
// content.
func (r *Registry) Get(t testing.TB, ref string) *remote.Descriptor {
	t.Helper()
	desc, err := remote.Get(r.parse(t, ref), r.direct())
	if err != nil {
		t.Fatalf("reading %q: %v", ref, err)
	}
	return desc
}

func (r *Registry) parse(t testing.TB, ref string) name.Reference {
	t.Helper()
	parsed, err := name.ParseReference(r.Ref(ref), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// direct accesses the registry without serve.
func (r *Registry) direct() remote.Option { return remote.WithTransport(rig.Direct{Handler: r.store}) }

// Requests returns the requests of clients since the start or the last Forget,
// in the order of arrival.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Request(nil), r.seen...)
}

// TagLookups returns the requests that resolve a tag. A build with only pinned
// images makes none.
func (r *Registry) TagLookups() []Request {
	var found []Request
	for _, req := range r.Requests() {
		_, ref, ok := strings.Cut(req.Path, "/manifests/")
		if ok && !strings.Contains(ref, ":") && (req.Method == http.MethodGet || req.Method == http.MethodHead) {
			found = append(found, req)
		}
	}
	return found
}

// Forget clears the record of requests.
func (r *Registry) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = nil
}

// RequireAuth makes a repository require basic authentication.
func (r *Registry) RequireAuth(repo, user, password string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auth[repo] = "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// DockerConfig returns a folder for $DOCKER_CONFIG with the user's login to this
// registry.
func (r *Registry) DockerConfig(t testing.TB, user, password string) string {
	t.Helper()
	type login struct {
		Auth string `json:"auth"`
	}
	content, err := json.Marshal(map[string]map[string]login{
		"auths": {r.Addr: {base64.StdEncoding.EncodeToString([]byte(user + ":" + password))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Fault makes h answer all requests, for example [Status] or [Hang]. nil ends the
// fault.
func (r *Registry) Fault(h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = h
}

// Handler answers requests as the registry does without a fault.
func (r *Registry) Handler() http.Handler { return r.store }

// Status returns a fault that answers with an HTTP status.
func Status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, http.StatusText(code), code) }
}

// Hang is a fault that does not answer until the client gives up.
func Hang(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }
