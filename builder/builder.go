// Package builder is the one package that talks to BuildKit: it finds or starts one, resolves the
// sources of a build through a lock, solves, and yields an OCI layout. Of image rules and verdicts
// it knows nothing.
package builder

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/kedge-build/kedge/builder/daemon"
	"github.com/moby/buildkit/client"
	_ "github.com/moby/buildkit/client/connhelper/dockercontainer" // docker-container://
	_ "github.com/moby/buildkit/client/connhelper/kubepod"         // kube-pod://
	_ "github.com/moby/buildkit/client/connhelper/ssh"             // ssh://
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"
)

// Options say which builder is wanted.
type Options struct {
	// Address is that of a BuildKit daemon: unix://, tcp://, docker-container://, kube-pod://,
	// ssh://. Empty: kedge's own, as Own says.
	Address string
	// CACert, Cert and Key are files for TLS with a tcp:// address; all may be empty.
	CACert, Cert, Key string
	Own               daemon.Options
}

// Builder is a connection to a BuildKit daemon.
type Builder struct {
	client *client.Client
	lease  *daemon.Lease // nil for a daemon that is not kedge's own
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

// Open connects to a builder, which it starts where it is kedge's own. Errors are an *AddressError
// and those of daemon.Acquire. The caller must Close it.
func Open(ctx context.Context, o Options) (*Builder, error) {
	b := &Builder{}
	address := o.Address
	if address == "" {
		lease, err := daemon.Acquire(ctx, o.Own)
		if err != nil {
			return nil, err
		}
		b.lease = lease
		address = lease.Addr()
	}
	if err := b.connect(ctx, address, o); err != nil {
		b.Close()
		return nil, &AddressError{Address: address, Err: err}
	}
	return b, nil
}

func (b *Builder) connect(ctx context.Context, address string, o Options) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "" {
		return errors.New("not an address such as unix:///path, tcp://host:port, docker-container://name, kube-pod://name or ssh://user@host")
	}
	var opts []client.ClientOpt
	if o.CACert != "" {
		opts = append(opts, client.WithServerConfig(u.Hostname(), o.CACert))
	}
	if o.Cert != "" || o.Key != "" {
		opts = append(opts, client.WithCredentials(o.Cert, o.Key))
	}
	if b.client, err = client.New(ctx, address, opts...); err != nil {
		return err
	}
	_, err = b.client.Info(ctx)
	return err
}

// Close ends the connection. kedge's own builder stays until it has been idle for long enough.
func (b *Builder) Close() error {
	var err error
	if b.client != nil {
		err = b.client.Close()
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

// needed is what every build asks of the daemon.
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
