package kedge

import (
	"context"

	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/lock"
)

// moved looks the images up anew that made was made from by the lock, and returns those whose tag names
// something else now. No image runs, a frontend's neither, and the lock stays.
func (p *project) moved(ctx context.Context, b *builder.Builder, made *builder.Result) ([]lock.Change, error) {
	images := func(s lock.Source) bool {
		_, locked := p.lock.Pin(s)
		return s.Kind == lock.Image && locked && made.Used[s]
	}
	req := p.inputs(p.lock.Keep(func(s lock.Source) bool { return !images(s) }))
	req.Locked = false
	for _, s := range p.lock.Sources() {
		if images(s) {
			req.Relock = append(req.Relock, s)
		}
	}
	if len(req.Relock) == 0 {
		return nil, nil
	}
	wait := p.show(req, "looking for newer images")
	found, err := b.LookUp(ctx, req)
	wait()
	if err != nil {
		return nil, err
	}
	return p.lock.Changes(found), nil
}
