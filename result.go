package kedge

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lint"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/network"
	"github.com/kedge-build/kedge/policy"
	"github.com/kedge-build/kedge/rules"
	"github.com/kedge-build/kedge/store"
	"github.com/kedge-build/kedge/verify"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// A Result is an image in the store, and how it was built.
type Result struct {
	Image                store.Image
	ArgsHash             string     // as [ArgsHash] returns it
	Target               string     // that was built, as [frontend.Dockerfile.Target] returns it
	Declared             string     // the target that ships; the image of another one stays on this machine
	Lock                 *lock.File // the pins that it was built from
	Epoch                time.Time
	Dockerfile, Lockfile string        // Lockfile is empty if nothing holds the lock
	Added                []lock.Change // what WriteLock adds to the lock
	Checkout

	// Verdict is nil after Build.
	Verdict *verify.Verdict
	// Moved lists locked images whose tag names another image now. It is nil unless Options.Pull is set.
	Moved []lock.Change
	// NotLookedUp is why Moved is not known although Options.Pull is set.
	NotLookedUp error
	// OldPolicy is the path of a policy that [policy.Rego] made of another lock than this build's. It is empty if
	// there is none.
	OldPolicy string
	// NotLocked is why WriteLock adds nothing although something is not locked: the lockfile's folder is
	// read-only.
	NotLocked error
	// NotReleased is why the second build's records are still in the builder's cache. It does not affect
	// the verdict.
	NotReleased error
	// ClockKept lists the platforms whose clock the second build should have moved, and this kedge cannot.
	ClockKept []string
	// Credentials lists settings of .git folders in contexts that hold a password or a token, with their files.
	Credentials []string
	// NotSought lists the ids of secrets that are too short to look for in the image.
	NotSought []string
	// LeftOut are the patterns of COPY and ADD that an ignore file leaves nothing of.
	LeftOut []builder.LeftOut
	// Linted are errors and warnings of lint, unless the options switch it off.
	Linted []lint.Finding
	// Warnings are those of the first build.
	Warnings []*client.VertexWarning

	// Refused are the requests of RUN steps that no record of downloads can hold.
	Refused []*network.UnreplayableError
	Silent  []builder.SilentLookup // by RUN steps whose downloads could be recorded
	// NotKept says why a base image is not kept for offline builds.
	NotKept error

	downloads *builder.Downloads
	record    *network.Record // that WriteLock writes; nil for none

	before, after *lock.File // the lock as it was, and as WriteLock leaves it; nil if nothing changes
}

// finish returns the result of a build whose image is written.
func (p *plan) finish(ctx context.Context, first *export, img store.Image) (*Result, error) {
	r := first.result
	linted, err := p.linted()
	if err != nil {
		return nil, err
	}
	res := &Result{
		Image: img, ArgsHash: frontend.Hash(r.Args), Target: p.target, Declared: p.declared, Lock: r.Lock, Epoch: r.Epoch,
		Dockerfile: p.name, Lockfile: p.lockfile, Linted: linted, NotSought: p.tooShort, Warnings: r.Warnings, Credentials: credentials(r),
		Checkout: checkout(ctx, p.env.Environ, p.request.Tracked, r.Sent),
	}
	if res.NotChecked == nil {
		res.NotChecked = p.unread
	}
	for _, platform := range r.Platforms[:min(1, len(r.Platforms))] { // the others have the same instructions
		res.LeftOut = slices.DeleteFunc(p.request.LeftOut(platform.Steps), func(l builder.LeftOut) bool { return warnedOf(r.Warnings, l) })
	}
	if p.options.Pull {
		res.Moved, res.NotLookedUp = p.moved(ctx, r)
	}
	if !p.options.Locked && p.lockfile != "" {
		after := p.declare(r)
		if d := p.request.Downloads; d != nil {
			after.Downloads, res.record = d.Record.Sum(), d.Record
		}
		res.Added = p.lock.Changes(after)
		switch {
		case !p.changes(after): // an up-to-date lock may be read-only
		case p.unwritable != nil:
			res.Added, res.NotLocked = nil, p.unwritable
			if !p.lockExists {
				res.Lockfile = ""
			}
		default:
			res.before, res.after = p.lock, after
		}
	}
	if res.Refused, res.Silent = r.Refused, r.Silent; p.record != nil {
		res.downloads = p.request.Downloads
	}
	res.NotKept = p.keepBases(ctx, p.request, r.Lock, r.Used)
	left := p.lock
	if res.after != nil {
		left = res.after
	}
	if p.ownPolicy != "" && p.ownPolicy != policy.Digest(left) {
		res.OldPolicy = policy.RegoPath(p.name)
	}
	if err := ctx.Err(); err != nil { // which may be why nothing was looked up
		return nil, err
	}
	return res, nil
}

// warnedOf reports whether BuildKit's rule CopyIgnoredFile has warned of l. The rule compares only the pattern
// itself with the ignore file.
func warnedOf(warnings []*client.VertexWarning, l builder.LeftOut) bool {
	return slices.ContainsFunc(warnings, func(w *client.VertexWarning) bool {
		return strings.HasPrefix(string(w.Short), "CopyIgnoredFile:") &&
			slices.ContainsFunc(w.Range, func(r *pb.Range) bool { return int(r.GetStart().GetLine()) == l.Line })
	})
}

// remember tells the store what was built, what lint found before, what no lock holds, and what a verification says.
func (p *plan) remember(res *Result, r *builder.Result) error {
	b := store.Build{Digest: res.Image.Descriptor.Digest, Target: res.Target, Declared: res.Declared, Args: res.ArgsHash}
	for _, m := range res.Image.Manifests {
		b.Manifests = append(b.Manifests, m.Descriptor.Digest)
	}
	if top := res.Image.Top().Digest; top != b.Digest {
		b.Manifests = append(b.Manifests, top)
	}
	var err error
	if p.dockerfile.Path != "" {
		if b.Dockerfile, err = filepath.Abs(p.dockerfile.Path); err != nil {
			return err
		}
	}
	if res.Lockfile != "" && res.NotLocked == nil {
		if b.Lockfile, err = filepath.Abs(res.Lockfile); err != nil {
			return err
		}
	}
	if p.text != nil {
		b.Text = digest.FromBytes(p.text)
	}
	b.Pins = map[string]string{}
	for s := range r.Used {
		if pin, ok := r.Lock.Pin(s); ok {
			b.Pins[string(s.Kind)+" "+s.Ref] = pin
		}
	}
	if d := p.request.Downloads; d != nil {
		b.Pins[store.DownloadsPin] = d.Record.Sum().String()
	}
	for _, w := range r.Warnings {
		if text, ok := strings.CutPrefix(string(w.Short), "InvalidBaseImagePlatform: "); ok {
			b.Foreign = append(b.Foreign, text)
		}
	}
	for _, f := range res.Linted {
		if b.Findings == nil {
			b.Findings = map[string]int{}
		}
		b.Findings[f.Rule]++
	}
	for _, gap := range p.downloadGaps(r) {
		text := gap.Text
		if gap.Line > 0 {
			text = fmt.Sprintf("line %d %s", gap.Line, text)
		}
		b.Unlocked = append(b.Unlocked, text)
	}
	if v := res.Verdict; v != nil {
		b.Verified = &store.Verified{Reproducible: v.Reproducible, Varied: v.Varied, NotCovered: len(v.NotCovered)}
	}
	return p.env.Store.SaveBuild(b)
}

// declare returns the lock that a build leaves: with the pins that it added, and with the target that ships,
// its epoch and rules if none were declared. The compile environment is written with a new lockfile, and only Lock
// changes it afterwards. It declares no epoch that was given for this build alone, that
// the Dockerfile itself says, or that follows from another target's base images.
func (p *plan) declare(r *builder.Result) *lock.File {
	f := r.Lock.Clone()
	if f.Target == "" {
		p.declareTarget(f, p.declared)
	}
	if epoch, err := p.epoch(); f.Epoch.IsZero() && err == nil && !epoch.Explicit() && p.target == p.declared {
		f.Epoch = r.Epoch
	}
	if f.Rules == 0 {
		f.Rules = rules.Version
	}
	if !p.lockExists && p.target == p.declared {
		f.Environment = p.environment(r.Settings)
	}
	return f
}

// WriteLock writes the pins that the build added to the lock. Call it when the image is delivered, so that
// a command that fails leaves the lock that it found. It returns a *[lock.ConflictError] if another command
// has pinned a source to something else meanwhile, a *[frontend.DeclaredTargetError], *[EpochError] or *[RulesError] if it
// has declared something else, and an *[UnwritableError] if the file cannot be written.
func (r *Result) WriteLock(ctx context.Context) error {
	if r.after != nil {
		if err := writeLock(ctx, r.Lockfile, r.before, r.after, r.record); err != nil {
			return err
		}
	}
	return keepRecord(ctx, r.Lockfile, r.downloads)
}
