package kedge

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/kedge-build/kedge/lint"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/network"
	"github.com/kedge-build/kedge/rules"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// A project is Options with everything read that they name.
type project struct {
	env     Env
	options Options
	input
	name       string // of the Dockerfile, in messages
	text       []byte // of the Dockerfile
	parsed     *frontend.Dockerfile
	lockfile   string // empty if nothing holds the lock
	lock       *lock.File
	lockExists bool
	committed  bool  // the lock is part of a git context
	unwritable error // why the lockfile cannot be written; nil if it can
	rules      rules.Set

	// ownPolicy is the digest of the lock that the DOCKERFILE.rego was made of, if kedge wrote it.
	ownPolicy digest.Digest
	record    *network.Record // of downloads, which the lock names; nil if it names none
	// otherRecord reports that there is no such record: the one in its place is missing or another.
	otherRecord bool

	pins  *lock.File           // the lock that the build starts from
	stale map[lock.Source]bool // sources of the lock that pins leaves out, to be looked up again
	fetch fetched

	linted   func() ([]lint.Finding, error) // what lint finds before the build; it waits for that
	stopLint func()
}

// close ends lint if that still runs, and removes what was made for the input.
func (p *project) close() error {
	if p.linted != nil {
		p.stopLint()
		_, _ = p.linted()
	}
	return p.input.close()
}

// fetched describes a context or Dockerfile that the builder fetched. The zero value stands for a build
// that has neither.
type fetched struct {
	committed time.Time            // when the commit of a git context was made
	policy    []byte               // the DOCKERFILE.rego in the context; nil if there is none
	used      map[lock.Source]bool // sources of the lock that fetching used
}

// parse reads the Dockerfile, the lock and the context that o names. The caller must close the project.
func parse(ctx context.Context, env Env, o Options) (*project, error) {
	p, err := open(ctx, env, o)
	if err != nil {
		return nil, err
	}
	if err := p.readRecord(); err != nil {
		return nil, errors.Join(err, p.close())
	}
	if err := p.load(ctx, Refresh{}); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// open is the part of parse that needs no builder.
func open(ctx context.Context, env Env, o Options) (_ *project, err error) {
	in, err := readInput(ctx, env.Stdin, o.Context, o.Dockerfile)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close())
		}
	}()
	p := &project{env: env, options: o, input: in, name: in.dockerfile.String(), lockfile: o.Lockfile, lock: &lock.File{}}
	if p.lockfile == "" && in.dockerfile.Path != "" {
		p.lockfile = lock.Path(in.dockerfile.Path)
	}
	text := in.dockerfile.Data
	if in.dockerfile.Path != "" {
		if text, err = wholefile.Read(in.dockerfile.Path, maxDockerfile); err != nil {
			return nil, fmt.Errorf("reading the Dockerfile: %w", err)
		}
	}
	if text != nil {
		if err := p.parseDockerfile(text); err != nil {
			return nil, err
		}
	}
	if err := p.readLock(); err != nil {
		return nil, err
	}
	if err := p.checkRules(); err != nil {
		return nil, err
	}
	return p, nil
}

// checkRules chooses the rules of the version that the lock declares.
func (p *project) checkRules() (err error) {
	p.rules = p.options.Normalize
	p.rules.Version = p.lock.Rules
	if p.rules, err = p.rules.Check(); err != nil {
		return fmt.Errorf("%s: %w", p.lockfile, err)
	}
	return nil
}

func (p *project) parseDockerfile(text []byte) (err error) {
	p.text = text
	p.parsed, err = frontend.ParseFor(p.options.Args["BUILDKIT_SYNTAX"], p.name, text)
	return err
}

func (p *project) readLock() (err error) {
	if p.lockfile == "" {
		if p.options.Locked && !p.mayBeCommitted() {
			return &NoLockfileError{p.name}
		}
		return nil
	}
	if p.lock, p.lockExists, err = lock.Read(p.lockfile); err != nil {
		return err
	}
	if p.options.Locked {
		return nil
	}
	file, err := wholefile.Follow(p.lockfile)
	if err != nil {
		return err
	}
	if err := unix.Access(filepath.Dir(file), unix.W_OK); err != nil {
		p.unwritable = &UnwritableError{Lockfile: p.lockfile, Err: err}
	}
	if p.options.Lockfile != "" && !p.lockExists {
		return p.unwritable // now, and not after the build
	}
	return nil
}

// load is the part of parse that may need a builder: it fetches a remote context or Dockerfile, and pins
// them. It drops the pins that r refreshes first.
func (p *project) load(ctx context.Context, r Refresh) (err error) {
	if p.stale, err = p.refreshed(r); err != nil {
		return err
	}
	p.pins = p.lock.Keep(func(s lock.Source) bool { return !p.stale[s] })
	if r.All {
		p.pins.Epoch, p.pins.Rules = time.Time{}, 0
	}
	req := p.inputs(p.pins)
	if !req.Remote() {
		return nil
	}
	if p.mayBeCommitted() {
		req.Locked = false // a lock cannot name the commit that it is part of
	}
	req, wait := p.env.display(req, "loading")
	loaded, err := p.env.Builder.Load(ctx, req)
	wait()
	if err != nil {
		return err
	}
	p.pins, p.fetch = loaded.Lock, fetched{loaded.Committed, loaded.Policy, loaded.Used}
	if p.mayBeCommitted() {
		if err := p.takeCommitted(loaded); err != nil {
			return err
		}
	}
	if p.dockerfile.URL != "" {
		p.dockerfile.Data = loaded.Dockerfile
	}
	if p.parsed == nil {
		return p.parseDockerfile(loaded.Dockerfile)
	}
	return nil
}

// mayBeCommitted reports whether the lock, if there is one, is next to the Dockerfile in a git context.
func (p *project) mayBeCommitted() bool {
	return p.lockfile == "" && p.dockerfile.Inside != "" && p.context.Git()
}

// takeCommitted makes the lock in a git context that of the build, with the commit itself.
func (p *project) takeCommitted(loaded *builder.Loaded) (err error) {
	if loaded.Lockfile == nil {
		if p.options.Locked {
			return &NoLockfileError{p.name}
		}
		return nil
	}
	p.lockfile = fmt.Sprintf("%s in %s", lock.Path(p.name), p.context)
	f, err := lock.Parse(p.lockfile, loaded.Lockfile)
	if err != nil {
		return err
	}
	p.pins = f.Keep(func(s lock.Source) bool { return !loaded.Used[s] })
	for s := range loaded.Used {
		if pin, ok := loaded.Lock.Pin(s); ok {
			if err := p.pins.Add(s, pin); err != nil {
				return err
			}
		}
	}
	p.lock, p.lockExists, p.committed = p.pins.Clone(), true, true
	p.unwritable = &UnwritableError{Lockfile: p.lockfile, Err: errors.New("it is part of the commit")}
	return p.checkRules()
}

// inputs returns a request that says what to fetch, but not yet what to build from it.
func (p *project) inputs(pins *lock.File) *builder.Request {
	o := p.options
	return &builder.Request{
		Context: p.context, Dockerfile: p.dockerfile, Parsed: p.parsed,
		Platforms: o.Platforms, Args: o.Args, Contexts: o.Contexts, NoCache: o.NoCache, Settings: o.Settings,
		Local: p.env.Local, Lock: pins, Locked: o.Locked, KeepModes: o.KeepModes, PlainGit: p.rules.Has(rules.ContextGit), Vary: o.Vary.Builder, Clock: o.Vary.Clock, Auth: p.env.Auth, Now: p.env.Now, Sums: p.env.Sums,
	}
}

// An UnwritableError says that the lockfile cannot be written.
type UnwritableError struct {
	Lockfile string
	Err      error
}

func (e *UnwritableError) Error() string {
	return fmt.Sprintf("the lockfile %q cannot be written: %v", e.Lockfile, e.Err)
}

func (e *UnwritableError) Unwrap() error { return e.Err }

// A NoLockfileError says that a lockfile is needed, and that a Dockerfile read from standard input, a URL
// or a remote context has no place for one next to it.
type NoLockfileError struct{ Dockerfile string }

func (e *NoLockfileError) Error() string {
	return fmt.Sprintf("the Dockerfile %q is not a file on this machine: it has no place for a lockfile next to it", e.Dockerfile)
}
