//go:build !linux

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
)

func unsupported() error {
	return fmt.Errorf("running buildkitd on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// Lease keeps a daemon running.
type Lease struct{}

// Addr returns the address of the daemon.
func (*Lease) Addr() string { return "" }

// HostNetwork returns false.
func (*Lease) HostNetwork() bool { return false }

// Release does nothing.
func (*Lease) Release() {}

// Acquire fails with errors.ErrUnsupported, since buildkitd builds Linux images only on Linux.
func Acquire(context.Context, Options) (*Lease, error) { return nil, unsupported() }

// Serve fails with errors.ErrUnsupported.
func Serve(context.Context, string, io.Writer) error { return unsupported() }

// Stat reports that no daemon runs.
func Stat(string) (Status, error) { return Status{}, nil }

// Stop does nothing.
func Stop(context.Context, string, bool) error { return nil }
