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

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteserrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/kedge-build/kedge/store"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"
)

// PushOptions are how to reach registries. The zero value pushes without credentials.
type PushOptions struct {
	// Credentials returns what to log in to a host with, both empty for none. A secret without a
	// user is an identity token. Docker Hub is "docker.io".
	Credentials func(host string) (user, secret string, err error)
	// PlainHTTP reports whether a host, with its port, is spoken to without TLS. If it is nil,
	// loopback addresses are.
	PlainHTTP func(host string) bool
	// ByDigest pushes without writing a tag: of the names, only the repositories count.
	ByDigest bool
	// Progress, if not nil, is told how many bytes of a blob or manifest have been sent. A blob
	// that the registry has is told as if sent at once. It is called from several goroutines. What is
	// tried again begins anew.
	Progress func(blob ocispec.Descriptor, sent int64)
	// Pauses are how long to wait before each further attempt, where a registry fails for the moment.
	// If it is nil: one, two and four seconds, as BuildKit does.
	Pauses []time.Duration
}

// maxUploads is how many blobs travel side by side.
const maxUploads = 4

// Push pushes an image to registries, under every one of names. Blobs that a registry has are not
// sent: it is asked, and told of other repositories it may take them from. Each tag is written when
// all that it needs is there, those of one repository one after the other. What arrives is checked
// by digest. A connection that is lost, and an answer that says to come again, end it only after
// several attempts.
func Push(ctx context.Context, st *store.Store, desc ocispec.Descriptor, names []string, opts PushOptions) error {
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
		if err := p.try(ctx, desc, ref); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			var status remoteserrors.ErrUnexpectedStatus
			if errors.Is(err, docker.ErrInvalidAuthorization) || errors.As(err, &status) && status.StatusCode == http.StatusUnauthorized {
				err = &DeniedError{reference.Domain(ref), err}
			} else if !passing(err) { // that it is not what it should be is for the registry to find
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
	opts   PushOptions
	done   map[string]bool // repositories that have all blobs, with their host
}

func newPusher(st *store.Store, opts PushOptions) *pusher {
	p := &pusher{store: st, opts: opts, done: map[string]bool{}}
	p.client = &http.Client{Transport: docker.DefaultHTTPTransport(nil)}
	auth := []docker.AuthorizerOpt{docker.WithAuthClient(p.client)}
	if opts.Credentials != nil {
		auth = append(auth, docker.WithAuthCreds(func(host string) (string, string, error) {
			if host == "registry-1.docker.io" {
				host = "docker.io"
			}
			return opts.Credentials(host)
		}))
	}
	plainHTTP := docker.MatchLocalhost
	if opts.PlainHTTP != nil {
		plainHTTP = func(host string) (bool, error) { return opts.PlainHTTP(host), nil }
	}
	p.hosts = docker.ConfigureDefaultRegistries(
		docker.WithClient(p.client),
		docker.WithAuthorizer(docker.NewDockerAuthorizer(auth...)),
		docker.WithPlainHTTP(plainHTTP),
	)
	return p
}

// A DeniedError says that a registry wants to know who pushes, and does not take what it was told.
type DeniedError struct {
	Host string
	Err  error
}

func (e *DeniedError) Error() string { return e.Err.Error() }

func (e *DeniedError) Unwrap() error { return e.Err }

// try pushes under one name, again where that may help.
func (p *pusher) try(ctx context.Context, desc ocispec.Descriptor, ref reference.NamedTagged) error {
	pauses := p.opts.Pauses
	if pauses == nil {
		pauses = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}
	}
	for _, pause := range pauses {
		err := p.push(ctx, desc, ref)
		if err == nil || ctx.Err() != nil || !passing(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return p.push(ctx, desc, ref)
}

// passing reports whether err may be gone in a moment.
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
	// A tracker remembers what it pushed by digest, so that with one for all the second tag would
	// be taken for the first.
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: p.hosts})
	// With the digest in its reference, the pusher writes the tag for this manifest alone.
	name := ref.String()
	if p.opts.ByDigest {
		name = reference.TrimNamed(ref).String()
	}
	to, err := resolver.Pusher(ctx, name+"@"+desc.Digest.String())
	if err != nil {
		return err
	}
	if p.opts.Progress != nil {
		to = progressPusher{to, p.opts.Progress}
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

// quiet keeps containerd from writing to stderr what comes back as an error, too.
func quiet(ctx context.Context) context.Context {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	return log.WithLogger(ctx, logrus.NewEntry(logger))
}

// progressPusher reports what a pusher sends.
type progressPusher struct {
	remotes.Pusher
	progress func(ocispec.Descriptor, int64)
}

// Writer implements content.Ingester, by which remotes.PushHandler knows a pusher that keeps two
// uploads of one blob apart.
func (p progressPusher) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var wo content.WriterOpts
	for _, opt := range opts {
		if err := opt(&wo); err != nil {
			return nil, err
		}
	}
	w, err := p.Pusher.(content.Ingester).Writer(ctx, opts...)
	if errdefs.IsAlreadyExists(err) {
		p.progress(wo.Desc, wo.Desc.Size)
	}
	if err != nil {
		return nil, err
	}
	return progressWriter{w, func(sent int64) { p.progress(wo.Desc, sent) }}, nil
}

type progressWriter struct {
	content.Writer
	progress func(sent int64)
}

func (w progressWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	if status, serr := w.Status(); serr == nil {
		w.progress(status.Offset)
	}
	return n, err
}

var _ content.Ingester = progressPusher{}
