package build

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"
)

// Standard input that says nothing, and does not end, is left behind by an interrupt.
func TestInputInterrupted(t *testing.T) {
	silent, _ := io.Pipe()
	for _, o := range []Options{{Context: "-"}, {Context: t.TempDir(), Dockerfile: "-"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		o.Stdin = silent
		if _, err := o.input(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%q: %v", o.Context, err)
		}
	}
}
