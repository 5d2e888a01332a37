package kedge

import (
	"context"
	"fmt"

	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/trace"
	"github.com/kedge-build/kedge/verify"
)

// A SameBuilderError says that the second builder of a verification is the first one.
type SameBuilderError struct{ First, Second string }

func (e *SameBuilderError) Error() string {
	return fmt.Sprintf("builder %q is the same as builder %q", e.Second, e.First)
}

// builders describes the two builders of a verification, or returns none if it has only one.
func (env Env) builders(ctx context.Context) ([]verify.Builder, error) {
	if env.Second == nil {
		return nil, nil
	}
	var all []verify.Builder
	var ids []string
	for _, b := range []*builder.Builder{env.Builder, env.Second} {
		info, err := b.Info(ctx)
		if err != nil {
			return nil, err
		}
		about := verify.Builder{Name: info.Name, Version: info.Version, Platform: info.Platform}
		if b.Local() {
			about.Kernel = env.kernel()
		}
		all, ids = append(all, about), append(ids, info.ID)
	}
	if ids[0] == ids[1] {
		return nil, &SameBuilderError{all[0].Name, all[1].Name}
	}
	return all, nil
}

// kernel returns the release of this machine's kernel, or "".
func (env Env) kernel() string {
	for _, fact := range env.Machine {
		if fact.Name == trace.KernelRelease {
			return fact.Value
		}
	}
	return ""
}

// platformsOf returns the platforms that first is for: another builder may run on another one.
func platformsOf(first *builder.Result) []string {
	var names []string
	for _, p := range first.Platforms {
		names = append(names, platforms.FormatAll(p.Platform))
	}
	return names
}
