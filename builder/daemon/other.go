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

// Lease is a use of the running daemon.
type Lease struct{}

// Addr returns the address of the daemon.
func (*Lease) Addr() string { return "" }

// Release ends the use.
func (*Lease) Release() {}

// Acquire fails with errors.ErrUnsupported: buildkitd builds Linux images on Linux only.
func Acquire(context.Context, Options) (*Lease, error) { return nil, unsupported() }

// Serve fails with errors.ErrUnsupported.
func Serve(context.Context, string, io.Writer) error { return unsupported() }

// Stat says that no daemon runs.
func Stat(root string) (Status, error) { return Status{Root: root}, nil }

// Stop has nothing to stop.
func Stop(context.Context, string, bool) error { return nil }
