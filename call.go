package kedge

import (
	"context"

	"github.com/kedge-build/kedge/builder"
)

// Call asks the frontend of o's Dockerfile for what: lint, outline, targets, or anything else that it
// answers. No step runs. Sources that the frontend fetches are pinned by the lock, which is not written.
func Call(ctx context.Context, env Env, o Options, what string) (*builder.Answer, error) {
	p, err := parse(ctx, env, o)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if err := p.checkPolicy(); err != nil {
		return nil, err
	}
	req := p.inputs(p.pins)
	if o.Target != "" {
		if _, err := p.parsed.Named(o.Target); err != nil {
			return nil, err
		}
		req.Target = o.Target
	}
	req, wait := env.display(req, "")
	defer wait()
	return env.Builder.Call(ctx, req, what)
}
