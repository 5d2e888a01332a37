package publish

import (
	"context"
	"fmt"

	"github.com/kedge-build/kedge/store"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A TargetError says that an image is of a target that its lock does not declare, so that it stays on this
// machine.
type TargetError struct{ Target string }

func (e *TargetError) Error() string {
	return fmt.Sprintf("the image is of target %q, which the lock does not declare: it is neither pushed nor exported", e.Target)
}

// checkTarget returns a *TargetError if the image must stay on this machine, as its label says.
func checkTarget(ctx context.Context, st *store.Store, desc ocispec.Descriptor) error {
	target, err := st.Target(ctx, desc)
	if err != nil {
		return st.Blame(ctx, desc, err)
	}
	if target != "" {
		return &TargetError{target}
	}
	return nil
}
