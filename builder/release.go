package builder

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
)

// made is what a step of a second build may have left in the builder's cache.
type made struct {
	name, args string    // of the vertex; args for a RUN
	folder     string    // the mount that it syncs
	from, to   time.Time // by the daemon's clock
	namespace  string    // of cache mounts; all else is empty then
}

// Release removes what the second build of a verification left in the builder's cache. No API says
// which records a build made; they are those that the daemon describes by its steps and that were
// made while those ran. What anybody still uses after two seconds stays, and so does all where the daemon
// does not answer.
func (b *Builder) Release(ctx context.Context, r *Result) error {
	// It comes after an interrupt, too, and nobody waits for a daemon that hangs.
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	// A daemon lets go of what a build used a moment after that ended.
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		usage, err := b.client.DiskUsage(ctx)
		if err != nil {
			return fmt.Errorf("looking for what the second build left: %w", err)
		}
		prune := &pruneIDs{}
		for _, u := range usage {
			if slices.ContainsFunc(r.made, func(m made) bool { return m.left(u) }) {
				prune.filter = append(prune.filter, "id=="+u.ID)
			}
		}
		if len(prune.filter) == 0 {
			return nil
		}
		if err := b.client.Prune(ctx, nil, prune); err != nil {
			return fmt.Errorf("removing what the second build left: %w", err)
		}
		if wait > time.Second {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func (m made) left(u *client.UsageInfo) bool {
	if m.namespace != "" {
		return u.RecordType == client.UsageRecordTypeCacheMount && strings.Contains(u.Description, m.namespace)
	}
	if u.CreatedAt.Before(m.from) || u.CreatedAt.After(m.to) {
		return false
	}
	if m.folder != "" {
		// Where the first build's copy has other times, the second had to make one.
		return u.RecordType == client.UsageRecordTypeLocalSource && u.Description == "local source for "+m.folder
	}
	if m.args != "" {
		return strings.HasPrefix(u.Description, "mount ") && strings.HasSuffix(u.Description, " from exec "+m.args)
	}
	return u.Description == m.name
}

// Prune frees the cache of what no build uses, and returns how many bytes that were; all also frees
// what belongs to BuildKit itself.
func (b *Builder) Prune(ctx context.Context, all bool) (freed int64, err error) {
	records := make(chan client.UsageInfo)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for r := range records {
			freed += r.Size
		}
	}()
	var opts []client.PruneOption
	if all {
		opts = append(opts, client.PruneAll)
	}
	err = b.client.Prune(ctx, records, opts...)
	close(records)
	<-done
	if err != nil {
		return freed, fmt.Errorf("pruning the builder's cache: %w", err)
	}
	return freed, nil
}

// pruneIDs is a client.PruneOption.
type pruneIDs struct{ filter []string }

func (p *pruneIDs) SetPruneOption(info *client.PruneInfo) { info.Filter = p.filter }
