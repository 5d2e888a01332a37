package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/kedge-build/kedge/internal/debian"
)

const (
	debianRepo = "library/debian"
	debianTag  = "bookworm-slim"
)

// A Registry is a registry on loopback that has one image, [debian.Slim]: every tag of library/debian
// names it.
type Registry struct {
	Addr    string    // host:port
	Created time.Time // of the image

	requests atomic.Int64
	server   *http.Server
}

// ServeDebian starts a registry that keeps its blobs in the folder dir, which it makes. Where the image
// has to be made first, that is told on log; see [debian.Slim] for what it needs.
func ServeDebian(ctx context.Context, dir string, stderr io.Writer) (_ *Registry, err error) {
	cache, err := debian.CacheDir()
	if err != nil {
		return nil, err
	}
	img, err := debian.Slim(ctx, cache, stderr)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Registry{Addr: l.Addr().String(), Created: config.Created.Time}
	store := registry.New(
		registry.WithBlobHandler(registry.NewDiskBlobHandler(dir)),
		registry.Logger(log.New(io.Discard, "", 0)))
	r.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		req.URL.Path = anyTag(req.URL.Path)
		store.ServeHTTP(w, req)
	})}
	go func() { _ = r.server.Serve(l) }()
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	ref, err := name.ParseReference(r.Addr+"/"+debianRepo+":"+debianTag, name.Insecure)
	if err != nil {
		return nil, err
	}
	return r, remote.Write(ref, img, remote.WithContext(ctx))
}

// anyTag returns the path of a request with the tag that there is in the place of any other of
// library/debian.
func anyTag(path string) string {
	const manifests = "/v2/" + debianRepo + "/manifests/"
	if ref, ok := strings.CutPrefix(path, manifests); ok && !strings.Contains(ref, ":") {
		return manifests + debianTag
	}
	return path
}

// Requests returns how many requests there have been.
func (r *Registry) Requests() int64 { return r.requests.Load() }

// Close ends the registry.
func (r *Registry) Close() error { return r.server.Close() }

// MirrorConfig returns the lines of a buildkitd.toml that put the registry at addr in the place of
// Docker Hub.
func MirrorConfig(addr string) string {
	return fmt.Sprintf("[registry.\"docker.io\"]\n  mirrors = [%q]\n[registry.%q]\n  http = true\n", addr, addr)
}
