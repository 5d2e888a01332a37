package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteserrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"
)

// Credentials returns what to log in to a registry with, as in [Env].
type Credentials func(host string) (user, secret string, err error)

// newHosts returns how to reach registries, and the client that does.
func newHosts(credentials Credentials) (docker.RegistryHosts, *http.Client) {
	client := &http.Client{Transport: docker.DefaultHTTPTransport(nil)}
	auth := []docker.AuthorizerOpt{docker.WithAuthClient(client)}
	if credentials != nil {
		auth = append(auth, docker.WithAuthCreds(func(host string) (string, string, error) {
			if host == "registry-1.docker.io" {
				host = "docker.io"
			}
			return credentials(host)
		}))
	}
	return docker.ConfigureDefaultRegistries(
		docker.WithClient(client),
		docker.WithAuthorizer(docker.NewDockerAuthorizer(auth...)),
		docker.WithPlainHTTP(docker.MatchLocalhost),
	), client
}

// again runs try, and runs it again after each pause if that may help. No pauses: one, two and four seconds,
// as in BuildKit.
func again(ctx context.Context, pauses []time.Duration, try func() error) error {
	if pauses == nil {
		pauses = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}
	}
	for _, pause := range pauses {
		err := try()
		if err == nil || ctx.Err() != nil || !passing(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return try()
}

// denied returns the *DeniedError for err if a registry refuses the credentials, and else err.
func denied(host string, err error) error {
	var status remoteserrors.ErrUnexpectedStatus
	if errors.Is(err, docker.ErrInvalidAuthorization) || errors.As(err, &status) && status.StatusCode == http.StatusUnauthorized {
		return &DeniedError{host, err}
	}
	return err
}

// A Repo is a repository of a registry that shares blobs.
type Repo struct {
	name     reference.Named
	client   *http.Client
	resolver remotes.Resolver
	pauses   []time.Duration
}

// NewRepo returns the repository with a name, which has no tag. Close it.
func NewRepo(name string, credentials Credentials) (*Repo, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil || !reference.IsNameOnly(named) {
		return nil, usagef("%q is not a repository such as registry.example.com/team/app", name)
	}
	hosts, client := newHosts(credentials)
	return &Repo{name: named, client: client, resolver: docker.NewResolver(docker.ResolverOptions{Hosts: hosts})}, nil
}

// Close closes connections.
func (r *Repo) Close() { r.client.CloseIdleConnections() }

// String returns the name of the repository with its host.
func (r *Repo) String() string { return r.name.Name() }

// Push pushes a manifest and all that it needs, and gives it a tag. It sends only blobs that the repository
// lacks.
func (r *Repo) Push(ctx context.Context, from content.InfoReaderProvider, manifest ocispec.Descriptor, tag string) error {
	ctx = quiet(ctx)
	err := again(ctx, r.pauses, func() error {
		to, err := r.resolver.Pusher(ctx, r.name.Name()+":"+tag+"@"+manifest.Digest.String())
		if err != nil {
			return err
		}
		return remotes.PushContent(ctx, to, manifest, from, semaphore.NewWeighted(maxUploads), platforms.All, nil)
	})
	return r.wrap(ctx, "push "+tag+" to", err)
}

// Resolve returns the manifest with a tag. The error wraps fs.ErrNotExist if there is none.
func (r *Repo) Resolve(ctx context.Context, tag string) (ocispec.Descriptor, error) {
	_, desc, err := r.resolver.Resolve(quiet(ctx), r.name.Name()+":"+tag)
	return desc, r.wrap(ctx, "look up "+tag+" in", err)
}

// Manifest opens a manifest.
func (r *Repo) Manifest(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	fetcher, err := r.resolver.Fetcher(quiet(ctx), r.name.Name()+"@"+desc.Digest.String())
	if err != nil {
		return nil, r.wrap(ctx, "fetch from", err)
	}
	body, err := fetcher.Fetch(quiet(ctx), desc)
	return body, r.wrap(ctx, "fetch "+desc.Digest.String()+" from", err)
}

// Fetch opens a blob, whose bytes the caller has to check. The error wraps fs.ErrNotExist if the repository does
// not have it.
func (r *Repo) Fetch(ctx context.Context, dgst digest.Digest, size int64) (io.ReadCloser, error) {
	return r.Manifest(ctx, ocispec.Descriptor{MediaType: "application/octet-stream", Digest: dgst, Size: size})
}

func (r *Repo) wrap(ctx context.Context, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errdefs.IsNotFound(err):
		err = fs.ErrNotExist
	default:
		err = denied(reference.Domain(r.name), err)
	}
	return fmt.Errorf("%s %q: %w", what, r.name.Name(), err)
}
