package kedge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/distribution/reference"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/rules"
	"golang.org/x/sys/unix"
)

// Refresh says what of a lock is looked up anew. The zero value adds what is missing, and moves
// nothing.
type Refresh struct {
	All  bool
	Refs []string // references, as a Dockerfile or the lock has them
}

// RefError says that a reference to refresh is not in the lock.
type RefError struct{ Lockfile, Ref string }

func (e *RefError) Error() string { return fmt.Sprintf("%s: does not lock %q", e.Lockfile, e.Ref) }

// Locked is what a lock is, or would be.
type Locked struct {
	Lockfile string
	Sources  int
	Changes  []lock.Change
	// Changed says whether the file is another than before: also for a new target or epoch.
	Changed           bool
	OldTarget, Target string    // the old one is empty where none was declared
	OldEpoch, Epoch   time.Time // and zero
	OldRules, Rules   int       // of normalisation; and 0
	ArgsHash          string
}

// EpochError says that two commands declared different epochs at once.
type EpochError struct {
	Lockfile        string
	Declared, Found time.Time
}

func (e *EpochError) Error() string {
	return fmt.Sprintf("%s: another command declared the epoch %s, not %s", e.Lockfile, e.Declared.Format(time.RFC3339), e.Found.Format(time.RFC3339))
}

// RulesError says that two commands, of two kedges, declared different rules at once.
type RulesError struct {
	Lockfile        string
	Declared, Found int
}

func (e *RulesError) Error() string {
	return fmt.Sprintf("%s: another command declared the rules of version %d, not %d", e.Lockfile, e.Declared, e.Found)
}

// Lock resolves what o would be built from and writes the lock, unless check is set.
func Lock(ctx context.Context, b *builder.Builder, o Options, refresh Refresh, check bool) (*Locked, error) {
	p, err := open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if p.Lockfile == "" {
		return nil, &NoLockfileError{p.Dockerfile}
	}
	out, made, err := p.relock(ctx, b, refresh)
	if err != nil || check || !out.Changed {
		return out, err
	}
	return out, p.writeLock(ctx, p.lock, made)
}

// ArgsHash returns the hash of the build args that o's target uses. Nothing is written.
func ArgsHash(ctx context.Context, b *builder.Builder, o Options) (string, error) {
	p, err := open(ctx, o)
	if err != nil {
		return "", err
	}
	defer p.close()
	out, _, err := p.relock(ctx, b, Refresh{})
	if err != nil {
		return "", err
	}
	return out.ArgsHash, nil
}

// relock returns what the lock would be, and how that differs from what it is.
func (p *project) relock(ctx context.Context, b *builder.Builder, refresh Refresh) (*Locked, *lock.File, error) {
	anew, err := p.refreshed(refresh)
	if err != nil {
		return nil, nil, err
	}
	start := p.lock.Keep(func(s lock.Source) bool { return !anew[s] })
	if refresh.All {
		start.Epoch, start.Rules = time.Time{}, 0
	}
	p.Locked = false
	start, loaded, err := p.load(ctx, b, start)
	if err != nil {
		return nil, nil, err
	}
	var target string
	if p.Target != "" {
		target, err = p.parsed.Target(p.Target)
	} else {
		target, err = p.target()
	}
	if err != nil {
		return nil, nil, err
	}
	req, err := p.request(ctx, start, target)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range p.lock.Sources() {
		if anew[s] && (!refresh.All || p.parsed.MayName(s)) {
			req.Relock = append(req.Relock, s)
		}
	}
	wait := p.show(req, "locking")
	res, err := b.Resolve(ctx, req)
	wait()
	if err != nil {
		return nil, nil, err
	}
	made := res.Lock
	if refresh.All {
		made = made.Keep(func(s lock.Source) bool { return res.Used[s] || loaded[s] || p.parsed.MayName(s) })
	}
	p.declareTarget(made, target)
	if made.Epoch.IsZero() || p.Epoch.Explicit() {
		made.Epoch = res.Epoch
	}
	if made.Rules == 0 {
		made.Rules = rules.Version
	}
	out := &Locked{
		Lockfile: p.Lockfile, Sources: len(made.Sources()), Changes: p.lock.Changes(made),
		OldTarget: p.lock.Target, Target: made.Target, OldEpoch: p.lock.Epoch, Epoch: made.Epoch,
		OldRules: p.lock.Rules, Rules: made.Rules,
		ArgsHash: frontend.Hash(res.Args),
	}
	out.Changed = p.changes(made)
	return out, made, nil
}

// changes reports whether made says something else than the lockfile that there is, however that says it.
func (p *project) changes(made *lock.File) bool {
	return !p.exists || string(made.Format()) != string(p.lock.Format())
}

// refreshed returns the sources of the lock that are to be looked up anew.
func (p *project) refreshed(r Refresh) (map[lock.Source]bool, error) {
	anew := map[lock.Source]bool{}
	for _, s := range p.lock.Sources() {
		anew[s] = r.All
	}
	for _, ref := range r.Refs {
		found := false
		for s := range anew {
			if s.Ref == ref || s.Kind == lock.Image && s.Ref == normalized(ref) {
				anew[s], found = true, true
			}
		}
		if !found {
			return nil, &RefError{Lockfile: p.Lockfile, Ref: ref}
		}
	}
	return anew, nil
}

func normalized(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.TagNameOnly(named).String()
}

// declare returns the lock that a build leaves: with what it added, and with target, epoch and rules
// where none were declared. An epoch that was given for this one build stays out of it, and so does
// that its target is not the last stage: a later build that asks for none means that one.
func (p *project) declare(r *builder.Result, target string) *lock.File {
	f := r.Lock.Clone()
	if f.Target == "" {
		f.Target, f.Last = target, ""
	}
	if f.Epoch.IsZero() && !p.Epoch.Explicit() {
		f.Epoch = r.Epoch
	}
	if f.Rules == 0 {
		f.Rules = rules.Version
	}
	return f
}

// writeLock makes of the lockfile what turns before into after. What others added meanwhile stays;
// where they and this disagree, nothing is written.
func (p *project) writeLock(ctx context.Context, before, after *lock.File) error {
	changes := before.Changes(after)
	err := lock.Update(ctx, p.Lockfile, func(f *lock.File) error {
		made := f.Keep(func(s lock.Source) bool {
			return !slices.ContainsFunc(changes, func(c lock.Change) bool { return c.Source == s })
		})
		for _, c := range changes {
			if now, ok := f.Pin(c.Source); ok && now != c.Old && now != c.New {
				return &lock.ConflictError{Source: c.Source, Locked: now, Found: c.New}
			}
			if c.New == "" {
				continue
			}
			if err := made.Add(c.Source, c.New); err != nil {
				return err
			}
		}
		if after.Target != before.Target || after.Last != before.Last {
			if f.Target != before.Target && f.Target != after.Target {
				return &TargetError{Lockfile: p.Lockfile, Declared: f.Target, Asked: after.Target}
			}
			made.Target, made.Last = after.Target, after.Last
		}
		if !after.Epoch.Equal(before.Epoch) {
			if !f.Epoch.Equal(before.Epoch) && !f.Epoch.Equal(after.Epoch) {
				return &EpochError{Lockfile: p.Lockfile, Declared: f.Epoch, Found: after.Epoch}
			}
			made.Epoch = after.Epoch
		}
		if after.Rules != before.Rules {
			if f.Rules != before.Rules && f.Rules != after.Rules {
				return &RulesError{Lockfile: p.Lockfile, Declared: f.Rules, Found: after.Rules}
			}
			made.Rules = after.Rules
		}
		*f = *made
		return nil
	})
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return &UnwritableError{Lockfile: p.Lockfile, Err: err}
	}
	return err
}
