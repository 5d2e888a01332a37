// Package builder is the one package that talks to BuildKit: it finds or starts one, resolves the
// sources of a build through a lock, solves, and yields an OCI layout. Of image rules and verdicts
// it knows nothing.
package builder

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/kedge-build/kedge/builder/daemon"
	"github.com/moby/buildkit/client"
	_ "github.com/moby/buildkit/client/connhelper/dockercontainer" // docker-container://
	_ "github.com/moby/buildkit/client/connhelper/kubepod"         // kube-pod://
	_ "github.com/moby/buildkit/client/connhelper/ssh"             // ssh://
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/worker/label"
	"google.golang.org/grpc/codes"
)

// Options say which builder is wanted.
type Options struct {
	// Address is that of a BuildKit daemon: unix://, tcp://, docker-container://, kube-pod://,
	// ssh://. Empty: kedge's own, as Own says.
	Address string
	// CACert, Cert and Key are files for TLS with a tcp:// address, and ServerName is the name that the
	// daemon's certificate is for, where it is not the address's host; all may be empty.
	CACert, Cert, Key, ServerName string
	// Dial, where it is not nil, connects to the daemon, and Address is only its name. Session, where it
	// is not nil, connects what a Docker Engine does not take on the same connection.
	Dial    func(context.Context) (net.Conn, error)
	Session func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error)
	// Done, where it is not nil, is called when neither is needed any more.
	Done func() error
	// Wait is how long a daemon may take to start that somebody has begun to.
	Wait time.Duration
	Own  daemon.Options
}

// Builder is a connection to a BuildKit daemon.
type Builder struct {
	client *client.Client
	lease  *daemon.Lease // nil for a daemon that is not kedge's own
	done   func() error  // nil where nobody waits for the end
}

// AddressError says that a builder could not be reached.
type AddressError struct {
	Address string
	Err     error
}

func (e *AddressError) Error() string {
	return fmt.Sprintf("connecting to builder %q: %v", e.Address, e.Err)
}

func (e *AddressError) Unwrap() error { return e.Err }

// LostError says that a builder ended while it was needed.
type LostError struct {
	Own bool // it was kedge's own
	Err error
}

func (e *LostError) Error() string { return "the builder has ended, or does not answer any more" }

func (e *LostError) Unwrap() error { return e.Err }

// lost returns err as a *LostError where there is no connection to the daemon any more.
func (b *Builder) lost(err error) error {
	if grpcerrors.Code(err) != codes.Unavailable {
		return err
	}
	return &LostError{Own: b.lease != nil, Err: err}
}

// Open connects to a builder, which it starts where it is kedge's own. Errors are an *AddressError,
// a *CapabilityError, an *ExporterError and those of daemon.Acquire. The caller must Close it.
func Open(ctx context.Context, o Options) (*Builder, error) {
	b := &Builder{done: o.Done}
	address := o.Address
	if address == "" && o.Dial == nil {
		lease, err := daemon.Acquire(ctx, o.Own)
		if err != nil {
			return nil, err
		}
		b.lease = lease
		address = lease.Addr()
	}
	err := b.connect(ctx, address, o)
	switch {
	case grpcerrors.Code(err) == codes.Unimplemented:
		err = &needed[len(needed)-1].CapabilityError // it is too old to say what it is
	case err != nil:
		err = &AddressError{Address: address, Err: err}
	case b.lease == nil:
		err = b.check(ctx)
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (b *Builder) connect(ctx context.Context, address string, o Options) (err error) {
	var opts []client.ClientOpt
	if o.Dial != nil {
		opts = append(opts, client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return o.Dial(ctx) }))
		address = "" // a name, which need not be a URL
	} else {
		u, err := url.Parse(address)
		if err != nil || u.Scheme == "" {
			return errors.New("not an address such as unix:///path, tcp://host:port, docker-container://name, kube-pod://name or ssh://user@host")
		}
		if o.ServerName == "" {
			o.ServerName = u.Hostname()
		}
	}
	if o.Session != nil {
		opts = append(opts, client.WithSessionDialer(o.Session))
	}
	if o.CACert != "" {
		opts = append(opts, client.WithServerConfig(o.ServerName, o.CACert))
	}
	if o.Cert != "" || o.Key != "" {
		opts = append(opts, client.WithCredentials(o.Cert, o.Key))
	}
	if b.client, err = client.New(ctx, address, opts...); err != nil {
		return err
	}
	if o.Wait > 0 {
		starting, cancel := context.WithTimeout(ctx, o.Wait)
		defer cancel()
		_ = b.client.Wait(starting) // what is wrong, Info says
	}
	_, err = b.client.Info(ctx)
	return err
}

// check finds at the start what a daemon that is not kedge's own cannot do at all. What it can is known
// in a build.
func (b *Builder) check(ctx context.Context) error {
	workers, err := b.client.ListWorkers(ctx)
	if err != nil {
		return b.lost(err)
	}
	for _, w := range workers {
		// The worker of an Engine that keeps images in graphdrivers has none.
		if _, ok := w.Labels[label.Snapshotter]; ok {
			return nil
		}
	}
	return &ExporterError{}
}

// Close ends the connection. kedge's own builder stays until it has been idle for long enough.
func (b *Builder) Close() error {
	var err error
	if b.client != nil {
		err = b.client.Close()
	}
	if b.done != nil {
		err = errors.Join(err, b.done())
	}
	if b.lease != nil {
		b.lease.Release()
	}
	return err
}

// CapabilityError says that the daemon is too old for what a build needs.
type CapabilityError struct {
	What   string // what is missing
	Needed string // the first BuildKit version that has it
}

func (e *CapabilityError) Error() string {
	return fmt.Sprintf("the builder cannot %s: that needs BuildKit %s or newer", e.What, e.Needed)
}

// ExporterError says that the daemon is a Docker Engine that keeps its images in graphdrivers: it can
// hand out no image.
type ExporterError struct{}

func (*ExporterError) Error() string {
	return "the builder cannot export an OCI image: it is a Docker Engine without the containerd image store"
}

// needed is what every build asks of the daemon, the newest last.
var needed = []struct {
	capability apicaps.CapID
	CapabilityError
}{
	{pb.CapExecValidExitCode, CapabilityError{"take a second build for another one", "v0.18"}},
	{pb.CapSourcePolicySession, CapabilityError{"ask kedge which sources it may fetch", "v0.26"}},
}

func checkCapabilities(have apicaps.CapSet) error {
	for _, n := range needed {
		if have.Supports(n.capability) != nil {
			return &n.CapabilityError
		}
	}
	return nil
}
