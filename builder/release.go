package builder

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
)

// leftover describes the cache records of one step of a second build, or of its cache mounts.
type leftover struct {
	name, args string    // of the vertex; args only for a RUN
	folder     string    // the mount that it syncs
	from, to   time.Time // when the step ran, by the daemon's clock
	namespace  string    // of cache mounts; everything else is empty then
}

// leftovers returns what j, if it is a second build, may have left in the builder's cache.
func (j *job) leftovers() []leftover {
	if !j.pass.IsSecond() {
		return nil
	}
	return append(slices.Clone(j.steps.ran), leftover{namespace: j.pass.cacheNamespace()})
}

// Release removes the cache records of a verification's second build from the builder. No API tells
// which records belong to a build: Release takes those whose description names one of its steps and
// that were made while the step ran. A record that is still in use after two seconds stays.
func (b *Builder) Release(ctx context.Context, r *Result) error {
	// Release also runs after an interrupt, and must not wait for a daemon that hangs.
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	// The daemon releases the records of a build a moment after its end.
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		usage, err := b.client.DiskUsage(ctx)
		if err != nil {
			return fmt.Errorf("listing the cache records of the second build: %w", err)
		}
		prune := &pruneIDs{}
		for _, u := range usage {
			if slices.ContainsFunc(r.leftovers, func(l leftover) bool { return l.matches(u) }) {
				prune.filter = append(prune.filter, "id=="+u.ID)
			}
		}
		if len(prune.filter) == 0 {
			return nil
		}
		if err := b.client.Prune(ctx, nil, prune); err != nil {
			return fmt.Errorf("removing the cache records of the second build: %w", err)
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

// matches reports whether the daemon describes u as l.
func (l leftover) matches(u *client.UsageInfo) bool {
	if l.namespace != "" {
		return u.RecordType == client.UsageRecordTypeCacheMount && strings.Contains(u.Description, l.namespace)
	}
	if u.CreatedAt.Before(l.from) || u.CreatedAt.After(l.to) {
		return false
	}
	if l.folder != "" {
		// The second build makes a copy of its own if the first one's has other times.
		return u.RecordType == client.UsageRecordTypeLocalSource && u.Description == "local source for "+l.folder
	}
	if l.args != "" {
		return strings.HasPrefix(u.Description, "mount ") && strings.HasSuffix(u.Description, " from exec "+l.args)
	}
	return u.Description == l.name
}

// Prune removes cache records that no build uses, and returns their size in bytes. If all is set, it
// also removes BuildKit's internal records.
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
