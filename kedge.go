// Package kedge is a build from one end to the other: it resolves through the lock, has the builder
// solve, writes the canonical image, builds again where that is asked for, and lets the verdict
// decide what becomes of image and lock.
package kedge

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/cause"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/image"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/rules"
	"github.com/kedge-build/kedge/store"
	"github.com/kedge-build/kedge/verify"
	"github.com/moby/buildkit/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// argsLabel is the label of an image that says which set of build args it was built with.
const argsLabel = "dev.kedge.args"

// Options say what to build. Context is required.
type Options struct {
	Context      string                     // a directory, what the builder fetches, or - for Stdin
	Dockerfile   string                     // a file, an http(s) URL, or - for Stdin; empty: Dockerfile in Context
	Stdin        io.Reader                  // a Dockerfile, or a tar archive with the context
	Lockfile     string                     // empty: lock.Path(Dockerfile), where that is a file
	Target       string                     // empty: what the lock declares, else the last stage
	Platforms    []string                   // empty: the builder's own
	Args         map[string]string          // build args
	Contexts     map[string]builder.Context // named contexts
	Locked       bool                       // nothing may be added to the lock
	NoCache      bool
	Pull         bool // look for newer images than the locked ones, which are built from all the same
	IgnorePolicy bool // build in spite of a DOCKERFILE.rego
	builder.Settings
	Epoch     Epoch
	Normalize rules.Set // the version is the lock's
	// Annotations of the image's manifests and index.
	Annotations []image.Annotation
	// NoSecretCheck leaves out to look for the values of secrets in the image.
	NoSecretCheck bool
	// Attest are the attestations that the image has besides.
	Attest    builder.Attest
	Vary      Vary     // of a second build
	KeepModes bool     // of a context's files, in place of those that git records
	Env       []string // of the process, for git
	Auth      *configfile.ConfigFile

	// Progress, where it is not nil, shows a build: it returns where its progress goes, and a
	// function that waits until all of it is shown.
	Progress func(title string) (chan *client.SolveStatus, func())
}

// Vary are the respects in which the second build of a verification differs on purpose, so that what
// would differ next month does now.
type Vary struct {
	Builder []builder.Variation
	Time    bool // it begins in another minute
}

// words are the respects as ParseVary takes them.
func (v Vary) words() []string {
	var words []string
	if v.Time {
		words = append(words, "time")
	}
	for _, b := range v.Builder {
		words = append(words, string(b))
	}
	return words
}

// CannotVary are respects that no builder can vary, and why.
var CannotVary = map[string]string{"order": "BuildKit lists folders as the file system does"}

// ParseVary reads a list of respects, separated by commas; cannot are those that no builder can vary.
func ParseVary(s string) (v Vary, cannot []string, err error) {
	known := []builder.Variation{builder.VaryHostname, builder.VaryCPUs, builder.VaryUmask, builder.VaryLocale}
	for word := range strings.SplitSeq(s, ",") {
		switch word = strings.TrimSpace(word); {
		case word == "time":
			v.Time = true
		case slices.Contains(known, builder.Variation(word)):
			if !slices.Contains(v.Builder, builder.Variation(word)) {
				v.Builder = append(v.Builder, builder.Variation(word))
			}
		case CannotVary[word] != "":
			cannot = append(cannot, word)
		default:
			return Vary{}, nil, fmt.Errorf("%q is not time, hostname, cpus, umask, locale or order", word)
		}
	}
	return v, cannot, nil
}

// TargetError says that another target is asked for than the lock declares.
type TargetError struct {
	Lockfile, Declared, Asked string
	Gone                      bool // no stage of that name can be a target any more
	Moved                     bool // nobody asked for Asked: it is the last stage, and the lock does not know it as that
}

func (e *TargetError) Error() string {
	if e.Moved {
		return fmt.Sprintf("%s: declares target %q, and the last stage is %q", e.Lockfile, e.Declared, e.Asked)
	}
	return fmt.Sprintf("%s: declares target %q, not %q", e.Lockfile, e.Declared, e.Asked)
}

// UnwritableError says that the lockfile cannot be written where it is to be.
type UnwritableError struct {
	Lockfile string
	Err      error
}

func (e *UnwritableError) Error() string {
	return fmt.Sprintf("the lockfile %q cannot be written: %v", e.Lockfile, e.Err)
}

func (e *UnwritableError) Unwrap() error { return e.Err }

// NoLockfileError says that the build context and the Dockerfile leave no place for a lockfile that is
// needed.
type NoLockfileError struct{ Dockerfile string }

func (e *NoLockfileError) Error() string {
	return fmt.Sprintf("the Dockerfile %q is not a file of this machine: no lockfile stands beside it", e.Dockerfile)
}

// SecondBuildError says that the first build succeeded and the second did not: whether they are the
// same nobody knows.
type SecondBuildError struct{ Err error }

func (e *SecondBuildError) Error() string {
	return fmt.Sprintf("the first build succeeded, and the second failed: %v", e.Err)
}

func (e *SecondBuildError) Unwrap() error { return e.Err }

// project is what Options name, read.
type project struct {
	Options           // Dockerfile is its name, and Lockfile empty where nothing holds the lock
	input      input  // closed with the project
	dockerfile []byte // nil until it is read
	parsed     *frontend.Dockerfile
	committed  time.Time // of a context that the builder fetches by git
	lock       *lock.File
	exists     bool // the lockfile does
	policy     bool // a DOCKERFILE.rego lies in the context that the builder fetched
}

// open reads what is on this machine. The caller must close the project.
func open(ctx context.Context, o Options) (_ *project, err error) {
	in, err := o.input(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close())
		}
	}()
	if o.Lockfile == "" && in.dockerfile.Path != "" {
		o.Lockfile = lock.Path(in.dockerfile.Path)
	}
	o.Dockerfile = in.dockerfile.String()
	p := &project{Options: o, input: in, lock: &lock.File{}}
	data := in.dockerfile.Data
	if in.dockerfile.Path != "" {
		if data, err = os.ReadFile(in.dockerfile.Path); err != nil {
			return nil, fmt.Errorf("reading the Dockerfile: %w", err)
		}
	}
	if data != nil {
		if err := p.parse(data); err != nil {
			return nil, err
		}
	}
	if err := p.readLock(); err != nil {
		return nil, err
	}
	p.Normalize.Version = p.lock.Rules
	if p.Normalize, err = p.Normalize.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Lockfile, err)
	}
	return p, nil
}

func (p *project) close() error { return p.input.close() }

func (p *project) parse(dockerfile []byte) (err error) {
	p.dockerfile = dockerfile
	p.parsed, err = frontend.Parse(p.Dockerfile, dockerfile)
	return err
}

func (p *project) readLock() (err error) {
	if p.Lockfile == "" {
		if p.Locked {
			return &NoLockfileError{p.Dockerfile}
		}
		return nil
	}
	if p.lock, p.exists, err = lock.Read(p.Lockfile); err != nil {
		return err
	}
	if dir := filepath.Dir(p.Lockfile); !p.Locked && !p.exists {
		// Known now, and not after the build.
		if err := unix.Access(dir, unix.W_OK); err != nil {
			return &UnwritableError{Lockfile: p.Lockfile, Err: err}
		}
	}
	return nil
}

// load reads what only the builder can fetch, by file, and returns that with what is locked then. It
// also returns the sources that it used.
func (p *project) load(ctx context.Context, b *builder.Builder, file *lock.File) (*lock.File, map[lock.Source]bool, error) {
	req := p.inputs(file)
	if !req.Remote() {
		return file, nil, nil
	}
	wait := p.show(req, "loading")
	loaded, err := b.Load(ctx, req)
	wait()
	if err != nil {
		return nil, nil, err
	}
	p.committed, p.policy = loaded.Committed, loaded.Policy
	if p.input.dockerfile.URL != "" {
		p.input.dockerfile.Data = loaded.Dockerfile
	}
	if p.parsed == nil {
		err = p.parse(loaded.Dockerfile)
	}
	return loaded.Lock, loaded.Used, err
}

// inputs returns a request that says what is fetched, and not yet what is built of it.
func (p *project) inputs(file *lock.File) *builder.Request {
	return &builder.Request{
		Context: p.input.context, Dockerfile: p.input.dockerfile, Parsed: p.parsed,
		Platforms: p.Platforms, Args: p.Args, Contexts: p.Contexts, NoCache: p.NoCache, Settings: p.Settings,
		Lock: file, Locked: p.Locked, Auth: p.Auth,
	}
}

// target returns the declared target, or the one that is asked for where none is declared.
func (p *project) target() (string, error) {
	asked, err := p.parsed.Target(p.Target)
	if err != nil || p.lock.Target == "" {
		return asked, err
	}
	declared, err := p.parsed.Target(p.lock.Target)
	if err != nil {
		return "", &TargetError{Lockfile: p.Lockfile, Declared: p.lock.Target, Asked: asked, Moved: p.Target == "", Gone: true}
	}
	if p.Target != "" {
		if asked != declared {
			return "", &TargetError{Lockfile: p.Lockfile, Declared: declared, Asked: asked}
		}
		return declared, nil
	}
	// Nothing was asked for, which is the last stage: somebody who adds one means that.
	known := declared
	if p.lock.Last != "" {
		if known, err = p.parsed.Target(p.lock.Last); err != nil {
			known = p.lock.Last
		}
	}
	if asked != known {
		return "", &TargetError{Lockfile: p.Lockfile, Declared: declared, Asked: asked, Moved: true}
	}
	return declared, nil
}

// declareTarget writes down the target, and the last stage where that is another.
func (p *project) declareTarget(f *lock.File, target string) {
	f.Target, f.Last = target, ""
	if last, err := p.parsed.Target(""); err == nil && last != target {
		f.Last = last
	}
}

func (p *project) request(ctx context.Context, file *lock.File, target string) (*builder.Request, error) {
	req := p.inputs(file)
	req.Target, req.Attest = p.parsed.Option(target), p.Attest
	if p.Lockfile != "" {
		req.Leave = []string{p.Lockfile}
	}
	var err error
	if !p.KeepModes {
		if req.Tracked, err = p.tracked(ctx, req); err != nil {
			return nil, err
		}
	}
	req.Epoch, req.NewEpoch, err = p.Epoch.choose(file.Epoch, func() (time.Time, error) { return p.commitTime(ctx) })
	return req, err
}

// tracked returns the files that git tracks, by the directory of each context.
func (p *project) tracked(ctx context.Context, req *builder.Request) (map[string]map[string]bool, error) {
	all := map[string]map[string]bool{}
	for _, dir := range req.Directories() {
		var err error
		if all[dir], err = tracked(ctx, dir, p.Env); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// show gives req a display, and returns what waits for it.
func (p *project) show(req *builder.Request, title string) func() {
	if p.Progress == nil {
		return func() {}
	}
	status, wait := p.Progress(title)
	req.Status = status
	return wait
}

// Result is what a build made.
type Result struct {
	Image                store.Image
	ArgsHash             string
	Lock                 *lock.File // that it was built by
	Epoch                time.Time
	Dockerfile, Lockfile string
	Added                []lock.Change // to the lock, once it is written
	// Moved are images whose tag names something else now than what the lock says; known where Pull is set.
	Moved []lock.Change
	Checkout
	// Verdict is nil where no second build was asked for. Where it says no, both images are in the
	// store all the same, without a name.
	Verdict *verify.Verdict
	// NotReleased says why what the second build left in the builder's cache is still there; nil
	// where it is not. It changes nothing about the verdict.
	NotReleased error
	// NotSought are the ids of secrets that were too short to be looked for in the image.
	NotSought []string
	// Warnings are those of the first build.
	Warnings []*client.VertexWarning

	writeLock func(context.Context) error // nil where nothing may be added
}

// Run builds into store, twice where verified is set.
func Run(ctx context.Context, b *builder.Builder, store *store.Store, o Options, verified bool) (_ *Result, err error) {
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
	if err := p.checkAnnotations(); err != nil {
		return nil, err
	}
	target, err := p.target()
	if err != nil {
		return nil, err
	}
	req, err := p.request(ctx, file, target)
	if err != nil {
		return nil, err
	}
	first := &run{b: b, store: store, keep: p.parsed.Keep, check: p.NoCache}
	defer first.close()
	wait := p.show(req, "")
	err = first.build(ctx, req, 0)
	wait()
	if err != nil {
		return nil, err
	}
	res := &Result{
		Lock: first.result.Lock, Epoch: first.result.Epoch,
		ArgsHash: frontend.Hash(first.result.Args), Dockerfile: p.Dockerfile, Lockfile: p.Lockfile, Warnings: first.result.Warnings}
	res.Checkout = p.checkout(ctx, req, first.result.Sent)
	if p.Pull {
		if res.Moved, err = p.moved(ctx, b, first.result); err != nil {
			return nil, err
		}
	}
	write := image.Options{Labels: map[string]string{argsLabel: res.ArgsHash}, Rules: p.Normalize, Annotations: p.Annotations}

	if write.Secrets, res.NotSought, err = p.sought(ctx); err != nil {
		return nil, err
	}

	// The second build runs while the first one's image is written.
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		res.Image, err = first.write(gctx, write)
		if notSent := (*image.NotSentError)(nil); errors.As(err, &notSent) {
			res.Image, err = first.again(gctx, p, req, write)
		}
		return p.leaked(err, first.result)
	})
	second := &run{b: b, store: store, keep: p.parsed.Keep}
	defer second.close()
	if verified {
		group.Go(func() error {
			if err := pause(gctx, first.result, p.Vary.Time); err != nil {
				return err
			}
			again := *req
			again.Lock, again.Locked, again.Epoch, again.Status = first.result.Lock, true, first.result.Epoch, nil
			again.Compare, again.Vary = first.result, p.Vary.Builder
			wait := p.show(&again, "verifying")
			defer wait()
			err := second.build(gctx, &again, salt())
			if err != nil && gctx.Err() == nil {
				return &SecondBuildError{err}
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, errors.Join(err, second.release(ctx))
	}
	if verified {
		other, err := second.write(ctx, write)
		res.NotReleased = second.release(ctx)
		if err != nil {
			return nil, errors.Join(p.leaked(err, second.result), res.NotReleased)
		}
		if res.Verdict, err = verify.Compare(ctx, store, res.Image, other, verify.Builds{
			Steps: steps(first.result), Dockerfile: p.dockerfile, Name: patched(p.input.dockerfile), Hints: p.hints(first.result, second.result),
			Varied: p.Vary.words(),
		}); err != nil {
			return nil, err
		}
	}
	if !p.Locked && p.Lockfile != "" {
		after := p.declare(first.result, target)
		res.Added = p.lock.Changes(after)
		if p.changes(after) { // a lock that says all may lie where nobody can write
			res.writeLock = func(ctx context.Context) error { return p.writeLock(ctx, p.lock, after) }
		}
	}
	return res, nil
}

// checkAnnotations finds before the build what the image would have no place for.
func (p *project) checkAnnotations() error {
	var of []ocispec.Platform
	for _, name := range p.Platforms {
		platform, err := platforms.Parse(name)
		if err != nil {
			return fmt.Errorf("platform %q: %w", name, err)
		}
		of = append(of, platform)
	}
	return image.CheckAnnotations(p.Annotations, of, len(of) > 1 || len(p.Attest.Types) > 0)
}

// WriteLock writes what the build added to the lock. It comes last, so that a command that fails
// leaves the lock that it found. Errors are a *lock.ConflictError where another command locked a
// source to something else meanwhile, and those of writing.
func (r *Result) WriteLock(ctx context.Context) error {
	if r.writeLock == nil {
		return nil
	}
	return r.writeLock(ctx)
}

// run is one of the builds.
type run struct {
	b      *builder.Builder
	store  *store.Store
	keep   func(line int) []string
	all    bool // every layer travels
	check  bool // what the store has is read before it is relied on
	ingest *image.Ingest
	result *builder.Result
}

func (r *run) build(ctx context.Context, req *builder.Request, salt int32) error {
	var err error
	r.result, err = r.b.Build(ctx, req, salt, func(epoch time.Time) (content.Store, error) {
		var err error
		r.ingest, err = image.NewIngest(ctx, r.store, epoch, image.IngestOptions{All: r.all, Check: r.check, Second: salt != 0})
		return r.ingest, err
	})
	return err
}

func (r *run) write(ctx context.Context, o image.Options) (store.Image, error) {
	var sources []image.Source
	for _, p := range r.result.Platforms {
		src := image.Source{
			Platform: p.Platform, BaseLayers: p.BaseLayers, BaseHistory: p.BaseHistory, BaseRef: p.BaseRef,
			Keep: map[int][]string{}, Run: map[int]bool{},
		}
		for i, step := range p.Steps {
			src.Run[p.BaseLayers+i] = step.Run
			if keep := r.keep(step.Line); len(keep) > 0 {
				src.Keep[p.BaseLayers+i] = keep
			}
		}
		sources = append(sources, src)
	}
	return r.ingest.Write(ctx, r.result.Root, sources, o)
}

// again exports what the first build made once more, as a whole. The builder has it in its cache, unless
// somebody has pruned that meanwhile.
func (r *run) again(ctx context.Context, p *project, req *builder.Request, o image.Options) (store.Image, error) {
	anew := *req
	anew.Lock, anew.Epoch, anew.Status, anew.NoCache, anew.Compare = r.result.Lock, r.result.Epoch, nil, false, r.result
	anew.NoCacheStages, anew.CacheTo = nil, nil
	next := &run{b: r.b, store: r.store, keep: r.keep, all: true, check: r.check}
	defer next.close()
	wait := p.show(&anew, "exporting")
	err := next.build(ctx, &anew, 0)
	wait()
	if err != nil {
		return store.Image{}, err
	}
	return next.write(ctx, o)
}

func (r *run) release(ctx context.Context) error {
	if r.result == nil {
		return nil
	}
	return r.b.Release(context.WithoutCancel(ctx), r.result)
}

func (r *run) close() {
	if r.ingest != nil {
		r.ingest.Close()
	}
}

// patched returns what a patch calls a Dockerfile: its path, as git apply takes it where the command ran.
func patched(d builder.Dockerfile) string {
	path := cmp.Or(d.Path, d.Inside, "Dockerfile")
	if filepath.IsLocal(path) {
		return filepath.ToSlash(filepath.Clean(path))
	}
	return filepath.Base(path)
}

// hints say when the builds ran. What was taken from the cache is older, and nobody knows by how much.
func (p *project) hints(first, second *builder.Result) cause.Hints {
	h := cause.Hints{Epoch: first.Epoch, Second: cause.Window{From: second.Started, To: second.Finished}}
	for _, v := range p.Vary.Builder {
		switch v {
		case builder.VaryHostname:
			h.Hostnames = [2]string{builder.Hostname, builder.VariedHostname}
		case builder.VaryCPUs:
			h.Varied.CPUs = builder.VariedCPUs
		case builder.VaryUmask:
			h.Varied.Umasks = [2]int64{builder.Umask, builder.VariedUmask}
		case builder.VaryLocale:
			h.Varied.Locale = builder.VariedLocale
		}
	}
	if !first.LastRunStarted.IsZero() {
		h.First = cause.Window{From: first.Started, To: first.Finished}
	}
	return h
}

func steps(r *builder.Result) map[string][]frontend.Step {
	steps := map[string][]frontend.Step{}
	for _, p := range r.Platforms {
		steps[platforms.Format(p.Platform)] = p.Steps
	}
	return steps
}

// salt returns a number that no process ends with, and that no other build uses.
func salt() int32 {
	var b [4]byte
	rand.Read(b[:]) //nolint:errcheck // never fails
	return int32(binary.BigEndian.Uint32(b[:])>>1 | 1<<10)
}

// pause waits until every step of the second build begins at least two seconds after its like in the
// first did, and one after it ended: a clock that a step writes down has moved on by then, also one
// that counts in seconds or, as in zip files, in pairs of them. What the first took from the cache
// was made before it started, and perhaps only just.
// Where the minute is to be another, it waits for that.
func pause(ctx context.Context, first *builder.Result, minute bool) error {
	until := first.Started.Add(2 * time.Second)
	if began := first.LastRunStarted.Add(2 * time.Second); began.After(until) {
		until = began
	}
	if end := first.LastRunFinished.Add(time.Second); end.After(until) {
		until = end
	}
	if minute {
		if next := first.Finished.Truncate(time.Minute).Add(time.Minute + time.Second); next.After(until) {
			until = next
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(until)):
		return nil
	}
}

// Names returns the names of an image: each of tags as a full reference, and with the hash of its
// build args: NAME:args-HASH, or NAME:TAG-args-HASH.
func Names(tags []string, argsHash string) ([]string, error) {
	var names []string
	for _, tag := range tags {
		named, err := reference.ParseNormalizedNamed(tag)
		if err != nil {
			return nil, fmt.Errorf("%q is not a name for an image: %w", tag, err)
		}
		if _, ok := named.(reference.Digested); ok {
			return nil, fmt.Errorf("%q is not a name for an image: it has a digest", tag)
		}
		argsTag := "args-" + argsHash
		if tagged, ok := named.(reference.Tagged); ok {
			argsTag = tagged.Tag() + "-" + argsTag
		}
		withArgs, err := reference.WithTag(reference.TrimNamed(named), argsTag)
		if err != nil {
			return nil, fmt.Errorf("%q has no room for the hash of its build args: %w", tag, err)
		}
		names = append(names, reference.TagNameOnly(named).String(), withArgs.String())
	}
	return names, nil
}
