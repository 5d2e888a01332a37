package kedge

import (
	"context"

	"github.com/kedge-build/kedge/builder"
)

// Call asks the frontend of o's Dockerfile for what: lint, outline, targets, or what else it answers.
// No step runs, and the lock, which says what may be fetched meanwhile, is not written.
func Call(ctx context.Context, b *builder.Builder, o Options, what string) (*builder.Answer, error) {
	p, err := open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer p.close()
	file, _, err := p.load(ctx, b, p.lock)
	if err != nil {
		return nil, err
	}
	if err := p.checkPolicy(); err != nil {
		return nil, err
	}
	req := p.inputs(file)
	if p.Target != "" {
		if _, err := p.parsed.Target(p.Target); err != nil {
			return nil, err
		}
		req.Target = p.Target
	}
	wait := p.show(req, "")
	defer wait()
	return b.Call(ctx, req, what)
}
