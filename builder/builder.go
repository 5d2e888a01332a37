// Package builder runs one build on one BuildKit daemon. It opens the daemon or starts one, pins every
// source through a lock, solves, and exports an OCI layout. It does not know how kedge writes images or
// judges them.
//
//	b, err := builder.Open(ctx, builder.Options{Address: "unix:///run/buildkit/buildkitd.sock"})
//	if err != nil {
//		return err
//	}
//	defer b.Close()
//	result, err := b.Build(ctx, &builder.Request{Context: dir, Lock: file, …}, 0, openStore)
//
// A Request becomes a definition (what the frontend makes of the Dockerfile), which a rewriter pins and
// the daemon solves, while progress records its steps. The export is the Result's OCI layout.
package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/builder/daemon"
	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/moby/buildkit/client"
	_ "github.com/moby/buildkit/client/connhelper/dockercontainer" // docker-container://
	_ "github.com/moby/buildkit/client/connhelper/kubepod"         // kube-pod://
	_ "github.com/moby/buildkit/client/connhelper/ssh"             // ssh://
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	"github.com/moby/buildkit/util/grpcerrors"
	_ "github.com/moby/buildkit/util/grpcutil/encoding/proto" // names of files that are not UTF-8, and less work for each message
	"github.com/moby/buildkit/worker/label"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
)

// Options choose a builder. The zero value chooses kedge's own.
type Options struct {
	// Address is the address of a BuildKit daemon: unix://, tcp://, docker-container://, kube-pod:// or
	// ssh://. If Address and Dial are empty, the builder is kedge's own, with the options Own.
	Address string
	// CACert, Cert and Key are files for TLS with a tcp:// address. ServerName is the name in the daemon's
	// certificate if it is not the host of the address. All of them are optional.
	CACert, Cert, Key, ServerName string
	// Dial, if not nil, connects to the daemon; Address is then only a name. Session, if not nil, opens the
	// session, for which a Docker Engine needs a connection of its own.
	Dial    func(context.Context) (net.Conn, error)
	Session func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error)
	// Done, if not nil, is called when the builder is closed.
	Done func() error
	// Wait is how long to wait for a daemon that is starting.
	Wait time.Duration
	Own  daemon.Options
}

// Builder is a connection to a BuildKit daemon.
type Builder struct {
	client *client.Client
	lease  *daemon.Lease // nil unless the daemon is kedge's own
	done   func() error  // may be nil
	local  bool
	name   string
}

// Local reports whether the daemon is known to run its steps on this machine: it is kedge's own, or answers
// on a socket.
func (b *Builder) Local() bool { return b.local }

// Info describes a builder.
type Info struct {
	Name     string // or address
	Version  string // of BuildKit; empty if it does not say
	Platform string // that it runs on; empty if it does not say
	ID       string // of its first worker, the same however it is reached
	// Platforms are those that it can build for, also under emulation.
	Platforms []ocispec.Platform
}

// Info asks the daemon about itself.
func (b *Builder) Info(ctx context.Context) (Info, error) {
	info := Info{Name: b.name}
	answer, err := b.client.Info(ctx)
	if err != nil {
		return info, b.lost(err)
	}
	info.Version = answer.BuildkitVersion.Version
	workers, err := b.client.ListWorkers(ctx)
	if err != nil {
		return info, b.lost(err)
	}
	for _, w := range workers {
		info.Platforms = append(info.Platforms, w.Platforms...)
	}
	if len(workers) > 0 {
		info.ID = workers[0].ID
		if own := workers[0].Platforms; len(own) > 0 { // the first of them
			info.Platform = platforms.Format(platforms.Normalize(own[0]))
		}
	}
	return info, nil
}

// AddressError says that the builder at Address does not answer.
type AddressError struct {
	Address string
	Err     error
}

func (e *AddressError) Error() string {
	return fmt.Sprintf("connecting to builder %q: %v", e.Address, e.Err)
}

func (e *AddressError) Unwrap() error { return e.Err }

// LostError says that the connection to the builder broke during a build.
type LostError struct {
	Own bool // it is kedge's own builder
	Err error
}

func (e *LostError) Error() string { return "the builder has ended, or does not answer any more" }

func (e *LostError) Unwrap() error { return e.Err }

// lost returns err, as a *LostError if the connection to the daemon broke.
func (b *Builder) lost(err error) error {
	if grpcerrors.Code(err) != codes.Unavailable {
		return err
	}
	return &LostError{Own: b.lease != nil, Err: err}
}

// Open connects to a builder. It starts kedge's own if that does not run. The caller must Close the
// builder. The error is an *AddressError, a *CapabilityError, or one of daemon.Acquire.
func Open(ctx context.Context, o Options) (*Builder, error) {
	b, err := open(ctx, o)
	if address := (*AddressError)(nil); !o.own() || !errors.As(err, &address) {
		return b, err
	}
	// The daemon was killed a moment ago, before its supervisor noticed.
	select {
	case <-ctx.Done():
		return nil, err
	case <-time.After(restart):
		return open(ctx, o)
	}
}

// restart is how long Open waits before it tries a second time to connect with kedge's own daemon.
const restart = 500 * time.Millisecond

// own reports whether o chooses kedge's own daemon.
func (o Options) own() bool { return o.Address == "" && o.Dial == nil }

func open(ctx context.Context, o Options) (*Builder, error) {
	b := &Builder{done: o.Done, name: cmp.Or(o.Address, "kedge's own")}
	address := o.Address
	if o.own() {
		lease, err := daemon.Acquire(ctx, o.Own)
		if err != nil {
			return nil, err
		}
		b.lease = lease
		address = lease.Addr()
	}
	b.local = o.Dial == nil && strings.HasPrefix(address, "unix://")
	err := b.connect(ctx, address, o)
	switch {
	case grpcerrors.Code(err) == codes.Unimplemented:
		err = &needed[len(needed)-1].CapabilityError // it is too old to know this call
	case err != nil:
		err = &AddressError{Address: address, Err: err}
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
	// It reads the files for TLS.
	if b.client, err = wholefile.Await(ctx, func() (*client.Client, error) { return client.New(ctx, address, opts...) }); err != nil {
		return err
	}
	if o.Wait > 0 {
		starting, cancel := context.WithTimeout(ctx, o.Wait)
		defer cancel()
		_ = b.client.Wait(starting) // Info, below, reports the reason
	}
	_, err = b.client.Info(ctx)
	return err
}

// exports returns an *ExporterError if the daemon can export no image. Its other capabilities become known
// in a build.
func (b *Builder) exports(ctx context.Context) error {
	if b.lease != nil {
		return nil
	}
	workers, err := b.client.ListWorkers(ctx)
	if err != nil {
		return b.lost(err)
	}
	for _, w := range workers {
		// The worker of an Engine with graphdrivers has no such label.
		if _, ok := w.Labels[label.Snapshotter]; ok {
			return nil
		}
	}
	return &ExporterError{}
}

// Close ends the connection. kedge's own builder keeps running until it has been idle for some time.
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

// CapabilityError says that the daemon is too old for a build.
type CapabilityError struct {
	What   string // the missing ability, as a verb: limit the CPUs of a step
	Needed string // the first version of BuildKit that has it
}

func (e *CapabilityError) Error() string {
	return fmt.Sprintf("the builder cannot %s: that needs BuildKit %s or newer", e.What, e.Needed)
}

// ExporterError says that the daemon is a Docker Engine with graphdrivers, which cannot export an image.
type ExporterError struct{}

func (*ExporterError) Error() string {
	return "the builder cannot export an OCI image: it is a Docker Engine without the containerd image store"
}

// needed are the capabilities that every build needs, the newest last.
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
