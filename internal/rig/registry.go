package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/kedge-build/kedge/internal/debian"
)

const debianRepo = "library/debian"

// A Registry is a registry on loopback that has library/debian. A tag names the image of [debian.Slim] for
// the release that [debian.ReleaseOf] returns.
type Registry struct {
	Addr    string    // host:port
	Created time.Time // of the image of bookworm

	ctx      context.Context // of ServeDebian, for the images that are made later
	log      io.Writer
	store    http.Handler
	server   *http.Server
	requests atomic.Int64

	mu     sync.Mutex
	served map[string]v1.Image // by release
}

// ServeDebian starts a registry that keeps its blobs in the folder dir, which it creates. The registry has the
// image of bookworm, and adds the image of another release at the first request for it, until ctx ends.
// Making an image takes time and is logged on log; see [debian.Slim] for its requirements.
func ServeDebian(ctx context.Context, dir string, log io.Writer) (*Registry, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Registry{Addr: l.Addr().String(), ctx: ctx, log: log, served: map[string]v1.Image{}}
	r.store = registry.New(
		registry.WithBlobHandler(registry.NewDiskBlobHandler(dir)),
		registry.Logger(discard))
	r.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		path, release := releasePath(req.URL.Path)
		if err := r.serve(release); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		req.URL.Path = path
		r.store.ServeHTTP(w, req)
	})}
	go func() { _ = r.server.Serve(l) }()
	if err := r.serve(debian.Bookworm); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	config, err := r.served[debian.Bookworm].ConfigFile()
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.Created = config.Created.Time
	return r, nil
}

var discard = log.New(io.Discard, "", 0)

// serve adds the image of a release unless the registry has it. An empty release adds none.
func (r *Registry) serve(release string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if release == "" || r.served[release] != nil {
		return nil
	}
	cache, err := debian.CacheDir()
	if err != nil {
		return err
	}
	img, err := debian.Slim(r.ctx, cache, release, r.log)
	if err != nil {
		return err
	}
	ref, err := name.ParseReference(r.Addr+"/"+debianRepo+":"+release, name.Insecure)
	if err != nil {
		return err
	}
	if err := remote.Write(ref, img, remote.WithContext(r.ctx), remote.WithTransport(Direct{r.store})); err != nil {
		return err
	}
	r.served[release] = img
	return nil
}

// releasePath returns the path of a request with the tag of library/debian replaced by its release, and the
// release. The release is empty if the path has no such tag.
func releasePath(path string) (string, string) {
	const manifests = "/v2/" + debianRepo + "/manifests/"
	tag, ok := strings.CutPrefix(path, manifests)
	if !ok || strings.Contains(tag, ":") {
		return path, ""
	}
	release := debian.ReleaseOf(tag)
	return manifests + release, release
}

// Requests returns the number of requests.
func (r *Registry) Requests() int64 { return r.requests.Load() }

// Close ends the registry.
func (r *Registry) Close() error { return r.server.Close() }

// MirrorConfig returns lines of a buildkitd.toml in which the registry at addr replaces Docker Hub.
func MirrorConfig(addr string) string {
	return fmt.Sprintf("[registry.\"docker.io\"]\n  mirrors = [%q]\n[registry.%q]\n  http = true\n", addr, addr)
}

// Direct is a transport that sends requests to a handler without a network.
type Direct struct{ Handler http.Handler }

// RoundTrip returns the handler's answer.
func (d Direct) RoundTrip(req *http.Request) (*http.Response, error) {
	served := req.Clone(req.Context())
	if served.Body == nil { // a handler's request always has one
		served.Body = http.NoBody
	}
	defer served.Body.Close()
	w := httptest.NewRecorder()
	d.Handler.ServeHTTP(w, served)
	resp := w.Result()
	resp.Request = req
	return resp, nil
}
