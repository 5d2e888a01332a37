package kedge

import (
	"cmp"
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
	"github.com/kedge-build/kedge/network"
	"github.com/kedge-build/kedge/rules"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Refresh says which pins of a lock are looked up again. The zero value adds what is missing and moves
// nothing.
type Refresh struct {
	All  bool
	Refs []string // references, as a Dockerfile or the lock has them
}

// A RefError says that the lock has no pin for a reference to refresh.
type RefError struct{ Lockfile, Ref string }

func (e *RefError) Error() string { return fmt.Sprintf("%s: does not lock %q", e.Lockfile, e.Ref) }

// Locked describes a lock and how it changed, or would change.
type Locked struct {
	Lockfile string
	Sources  int // how many the lock pins
	Changes  []lock.Change
	// Changed reports whether the file, or its record, changes: a new target, epoch or rules version changes it, too.
	Changed           bool
	OldTarget, Target string    // OldTarget is empty if none was declared
	OldStrict, Strict bool      // whether other targets cannot be built
	OldEpoch, Epoch   time.Time // OldEpoch is zero if none was declared
	OldRules, Rules   int       // versions of the normalisation rules; OldRules is 0 if none was declared
	ArgsHash          string
	Environment       []lock.EnvironmentChange
	Dockerfile        string     // the path of the Dockerfile; empty if it is not a file of this machine
	Lock              *lock.File // as it is, or would be, after the change

	OldRecord, Record *network.Record              // of the downloads of RUN steps; nil if they are not locked
	Refused           []*network.UnreplayableError // what RUN steps asked for, and no record can hold
	Silent            []builder.SilentLookup
	NotKept           error // why a base image is not kept for offline builds
	// Mended reports that the record was not the one that the lockfile named, and is now.
	Mended bool

	downloads *builder.Downloads
}

// An EpochError says that another command has declared another epoch meanwhile.
type EpochError struct {
	Lockfile        string
	Declared, Found time.Time
}

func (e *EpochError) Error() string {
	return fmt.Sprintf("%s: another command declared the epoch %s, not %s", e.Lockfile, e.Declared.Format(time.RFC3339), e.Found.Format(time.RFC3339))
}

// A RulesError says that another command, of another version of kedge, has declared other rules meanwhile.
type RulesError struct {
	Lockfile        string
	Declared, Found int
}

func (e *RulesError) Error() string {
	return fmt.Sprintf("%s: another command declared the rules of version %d, not %d", e.Lockfile, e.Declared, e.Found)
}

// Lock resolves everything that o would be built from and writes the lock. With check it writes nothing.
// It ignores o.Locked, and returns a *[NoLockfileError] if nothing can hold the lock.
func Lock(ctx context.Context, env Env, o Options, r Refresh, check bool) (*Locked, error) {
	o.Locked = false
	p, err := open(ctx, env, o)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if p.lockfile == "" {
		return nil, &NoLockfileError{p.name}
	}
	if !check && !p.lockExists && p.unwritable != nil {
		return nil, p.unwritable
	}
	if err := p.recordToReplace(r); err != nil {
		return nil, err
	}
	if err := p.load(ctx, r); err != nil {
		return nil, err
	}
	locked, after, err := p.relock(ctx, r)
	if err != nil || check {
		return locked, err
	}
	if locked.Changed {
		if err := writeLock(ctx, p.lockfile, p.lock, after, locked.Record); err != nil {
			return nil, err
		}
	}
	return locked, keepRecord(ctx, p.lockfile, locked.downloads)
}

// ArgsHash returns the hash of the build args that o's target uses: the first 12 hex digits of the SHA-256
// of the sorted, NUL-terminated NAME=VALUE pairs, as [frontend.Hash] says. It writes nothing.
func ArgsHash(ctx context.Context, env Env, o Options) (string, error) {
	o.Locked = false
	p, err := parse(ctx, env, o)
	if err != nil {
		return "", err
	}
	defer p.close()
	p.record = nil // the hash does not depend on downloads
	locked, _, err := p.relock(ctx, Refresh{})
	if err != nil {
		return "", err
	}
	return locked.ArgsHash, nil
}

// relock returns the lock that o resolves to, and how it differs from the one that exists.
func (p *project) relock(ctx context.Context, r Refresh) (*Locked, *lock.File, error) {
	target, err := p.targetToLock()
	if err != nil {
		return nil, nil, err
	}
	req, _, err := p.requestFor(ctx, target)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range p.lock.Sources() {
		if p.stale[s] && (!r.All || p.parsed.MayName(s)) {
			req.Relock = append(req.Relock, s)
		}
	}
	record, err := p.toRecord(r)
	if err != nil {
		return nil, nil, err
	}
	if req.Downloads, err = p.downloads(ctx, record); err != nil {
		return nil, nil, err
	}
	if req.Downloads != nil {
		req.Downloads.All = p.options.LockDownloads == RecordDownloads
	}
	res, err := p.resolveOrExecute(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	after := res.Lock
	if r.All {
		after = after.Keep(func(s lock.Source) bool { return res.Used[s] || p.fetch.used[s] || p.parsed.MayName(s) })
	}
	p.declareTarget(after, target)
	after.Environment = p.environment(res.Settings)
	if strict := p.options.StrictTarget; strict != nil {
		after.StrictTarget = *strict
	}
	epoch, err := p.epoch()
	if err != nil {
		return nil, nil, err
	}
	// What the Dockerfile itself says needs no lock.
	if p.options.Epoch.Explicit() || after.Epoch.IsZero() && !epoch.Explicit() {
		after.Epoch = res.Epoch
	}
	if after.Rules == 0 {
		after.Rules = rules.Version
	}
	after.Downloads, record = "", nil
	if req.Downloads != nil {
		record = req.Downloads.Record
		after.Downloads = record.Sum()
	}
	return &Locked{
		OldRecord: p.record, Record: record, Mended: p.otherRecord && record != nil, Refused: res.Refused, Silent: res.Silent, downloads: req.Downloads,
		NotKept:  p.keepBases(ctx, req, after, res.Used),
		Lockfile: p.lockfile, Sources: len(after.Sources()),
		Changes: p.lock.Changes(after), Changed: p.changes(after) || p.otherRecord,
		OldTarget: p.lock.Target, Target: after.Target,
		OldStrict: p.lock.StrictTarget, Strict: after.StrictTarget,
		OldEpoch: p.lock.Epoch, Epoch: cmp.Or(after.Epoch, res.Epoch),
		OldRules: p.lock.Rules, Rules: after.Rules,
		ArgsHash: frontend.Hash(res.Args), Environment: p.lock.EnvironmentChanges(after),
		Dockerfile: p.dockerfile.Path, Lock: after,
	}, after, nil
}

// targetToLock returns the target to declare: the one that is asked for or, without one, target.
func (p *project) targetToLock() (string, error) {
	if p.options.Target != "" {
		return p.parsed.Target(p.options.Target)
	}
	_, declared, err := p.target()
	return declared, err
}

// declareTarget has f declare the target, and the last stage if that is another one.
func (p *project) declareTarget(f *lock.File, target string) {
	f.Target, f.Last = target, ""
	if last, err := p.parsed.Target(""); err == nil && last != target {
		f.Last = last
	}
}

// environment returns settings as a lock has them.
func (p *project) environment(settings []frontend.Setting) map[string][]string {
	environment := map[string][]string{}
	for _, s := range settings {
		key := cmp.Or(p.parsed.StageAt(s.Line), "-") + " " + s.Name
		if at, found := slices.BinarySearch(environment[key], s.Value); !found {
			environment[key] = slices.Insert(environment[key], at, s.Value)
		}
	}
	return environment
}

// changes reports whether after says something else than the lockfile, however that is formatted.
func (p *project) changes(after *lock.File) bool {
	return !p.lockExists || string(after.Format()) != string(p.lock.Format())
}

// refreshed reports for each source of the lock whether r looks it up again.
func (p *project) refreshed(r Refresh) (map[lock.Source]bool, error) {
	stale := map[lock.Source]bool{}
	for _, s := range p.lock.Sources() {
		stale[s] = r.All
	}
	for _, ref := range r.Refs {
		found := false
		for s := range stale {
			if s.Ref == ref || (s.Kind == lock.Image || s.Kind == lock.Local) && s.Ref == normalized(ref) {
				stale[s], found = true, true
			}
		}
		if !found {
			return nil, &RefError{Lockfile: p.lockfile, Ref: ref}
		}
	}
	return stale, nil
}

func normalized(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.TagNameOnly(named).String()
}

// writeLock makes the change from before to after in the lockfile. It keeps what other commands have added
// since before was read. If one of them contradicts the change, it writes nothing.
// record is that of the downloads, or nil if they are not locked.
func writeLock(ctx context.Context, path string, before, after *lock.File, record *network.Record) error {
	changes := before.Changes(after)
	var staged digest.Digest
	err := lock.Update(ctx, path, func(f *lock.File) error {
		merged := f.Keep(func(s lock.Source) bool {
			return !slices.ContainsFunc(changes, func(c lock.Change) bool { return c.Source == s })
		})
		for _, c := range changes {
			if now, ok := f.Pin(c.Source); ok && now != c.Old && now != c.New {
				return &lock.ConflictError{Source: c.Source, Locked: now, Found: c.New}
			}
			if c.New == "" {
				continue
			}
			if err := merged.Add(c.Source, c.New); err != nil {
				return err
			}
		}
		if err := mergeDeclared(path, merged, before, after); err != nil {
			return err
		}
		if err := mergeDownloads(path, merged, before, after, record); err != nil {
			return err
		}
		*f, staged = *merged, merged.Downloads
		return nil
	})
	if err == nil {
		err = adopt(path, staged, before)
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return &UnwritableError{Lockfile: path, Err: err}
	}
	return err
}

// mergeDeclared makes the change from before to after in the target, epoch, rules, strictness and compile
// environment that f declares.
func mergeDeclared(path string, f, before, after *lock.File) error {
	if after.Target != before.Target || after.Last != before.Last {
		if f.Target != before.Target && f.Target != after.Target {
			return &frontend.DeclaredTargetError{Lockfile: path, Declared: f.Target, Asked: after.Target}
		}
		f.Target, f.Last = after.Target, after.Last
	}
	if len(before.EnvironmentChanges(after)) > 0 {
		f.Environment = after.Environment
	}
	if after.StrictTarget != before.StrictTarget {
		f.StrictTarget = after.StrictTarget
	}
	if !after.Epoch.Equal(before.Epoch) {
		if !f.Epoch.Equal(before.Epoch) && !f.Epoch.Equal(after.Epoch) {
			return &EpochError{Lockfile: path, Declared: f.Epoch, Found: after.Epoch}
		}
		f.Epoch = after.Epoch
	}
	if after.Rules != before.Rules {
		if f.Rules != before.Rules && f.Rules != after.Rules {
			return &RulesError{Lockfile: path, Declared: f.Rules, Found: after.Rules}
		}
		f.Rules = after.Rules
	}
	return nil
}
