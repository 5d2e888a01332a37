package builder

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/moby/buildkit/client"
)

// A DamagedError says that a registry sent a blob whose content does not have its digest.
type DamagedError struct {
	Digest string // of the blob
	Kept   error  // why the builder may still have the damaged blob, and fail again; nil if it does not
	Err    error
}

func (e *DamagedError) Error() string { return e.Err.Error() }

func (e *DamagedError) Unwrap() error { return e.Err }

// mismatch matches containerd's error about a blob. The daemon sends errors as text.
var mismatch = regexp.MustCompile(`unexpected commit digest sha256:[0-9a-f]{64}, expected (sha256:[0-9a-f]{64})`)

// collectPatience bounds how long the daemon may take to collect its garbage.
const collectPatience = 30 * time.Second

// forgetDamaged returns err, as a *DamagedError if a blob arrived damaged. The daemon keeps what it has received of
// a blob, to go on from there. A damaged blob has been received as a whole, so that the daemon would not ask the
// registry for it again. Its garbage collection, which every prune ends with, drops such a blob.
func (b *Builder) forgetDamaged(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	m := mismatch.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), collectPatience)
	defer cancel()
	e := &DamagedError{Digest: m[1], Err: err}
	for _, wait := range []time.Duration{0, 300 * time.Millisecond} { // the daemon releases what a build has a moment after its end
		time.Sleep(wait)
		if e.Kept = b.client.Prune(ctx, nil, client.WithFilter([]string{"id==no-record-has-this-id"})); e.Kept != nil {
			e.Kept = fmt.Errorf("collecting the builder's garbage: %w", e.Kept)
			break
		}
	}
	return e
}
