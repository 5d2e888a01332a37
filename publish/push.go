package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteserrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/log"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/kedge-build/kedge/store"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"
)

// pushOptions say how to reach registries. The zero value pushes without credentials.
type pushOptions struct {
	credentials Credentials
	byDigest    bool // write no tag: only the repositories of the names count
	// pauses are how long to wait before each further attempt if a registry fails for the moment. If it is
	// nil: one, two and four seconds, as BuildKit does.
	pauses []time.Duration
}

// maxUploads is how many blobs are sent at the same time.
const maxUploads = 4

// push pushes an image to registries, under each of names. It sends only blobs that the registry does not
// have, neither in the repository nor in others that the image is known to be made from. A tag is written
// when all that it needs is there. The registry checks digests. A lost connection and a status that may pass
// end push only after several attempts. If a registry wants other credentials, the error is a *DeniedError.
func push(ctx context.Context, st *store.Store, desc ocispec.Descriptor, names []string, opts pushOptions) error {
	defer st.Use()()
	refs, err := store.ParseNames(names)
	if err != nil {
		return err
	}
	if _, err := st.Complete(ctx, desc); err != nil {
		return fmt.Errorf("push image %s: %w", desc.Digest, st.Blame(ctx, desc, err))
	}
	p := newPusher(st, opts)
	defer p.client.CloseIdleConnections()
	ctx = quiet(ctx)
	for _, ref := range refs {
		if err := again(ctx, opts.pauses, func() error { return p.push(ctx, desc, ref) }); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			err = denied(reference.Domain(ref), err)
			if refused := (*DeniedError)(nil); !errors.As(err, &refused) && !passing(err) { // the registry may have found damage
				err = st.Blame(ctx, desc, err)
			}
			return fmt.Errorf("push image %s to %q: %w", desc.Digest, ref, err)
		}
	}
	return nil
}

// A pusher pushes one image under several names.
type pusher struct {
	store  *store.Store
	client *http.Client
	hosts  docker.RegistryHosts
	opts   pushOptions
	done   map[string]bool // repositories, with their host, that have all blobs
}

func newPusher(st *store.Store, opts pushOptions) *pusher {
	p := &pusher{store: st, opts: opts, done: map[string]bool{}}
	p.hosts, p.client = newHosts(opts.credentials)
	return p
}

// A DeniedError says that a registry refuses the credentials, or wants some.
type DeniedError struct {
	Host string
	Err  error
}

func (e *DeniedError) Error() string { return e.Err.Error() }

func (e *DeniedError) Unwrap() error { return e.Err }

// passing reports whether another attempt may succeed.
func passing(err error) bool {
	var (
		status  remoteserrors.ErrUnexpectedStatus
		network net.Error
	)
	switch {
	case errors.As(err, &status):
		return status.StatusCode >= 500 || status.StatusCode == http.StatusTooManyRequests
	case errors.As(err, &network) && network.Timeout():
		return true
	}
	for _, lost := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return false
}

func (p *pusher) push(ctx context.Context, desc ocispec.Descriptor, ref reference.NamedTagged) error {
	// A resolver remembers by digest what it pushed, so that a second tag would count as pushed.
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: p.hosts})
	// With the digest in its reference, the pusher writes the tag for this manifest alone.
	name := ref.String()
	if p.opts.byDigest {
		name = reference.TrimNamed(ref).String()
	}
	to, err := resolver.Pusher(ctx, name+"@"+desc.Digest.String())
	if err != nil {
		return err
	}
	repo := reference.TrimNamed(ref).String()
	if p.done[repo] {
		_, err := remotes.PushHandler(to, p.store)(ctx, store.Plain(desc))
		return err
	}
	top := store.Plain(desc)
	top.Annotations = store.SourceLabels(slices.Sorted(maps.Keys(p.done)))
	limiter := semaphore.NewWeighted(maxUploads)
	if err := remotes.PushContent(ctx, to, top, p.store, limiter, platforms.All, nil); err != nil {
		return err
	}
	p.done[repo] = true
	return nil
}

// quiet keeps containerd from writing errors to stderr, which it returns as well.
func quiet(ctx context.Context) context.Context {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	return log.WithLogger(ctx, logrus.NewEntry(logger))
}
