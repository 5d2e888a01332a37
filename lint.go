package kedge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/aymanbagabas/go-udiff"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/internal/git"
	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/kedge-build/kedge/lint"
)

// Linted is what Lint found.
type Linted struct {
	Dockerfile string // as the user gave it
	Findings   []lint.Finding
	Patch      string // a unified diff of the Dockerfile with the edits of the findings; empty if there are none

	path  string
	fixed []byte
	edits int
}

// Lint finds in the Dockerfile, the context and the lockfile that o names what lets builds differ. It needs no
// builder, builds nothing and writes nothing. Of a context that is no folder it reads the Dockerfile alone; a
// Dockerfile that only the builder can read is a *RemoteLintError.
func Lint(ctx context.Context, env Env, o Options) (_ *Linted, err error) {
	p, err := open(ctx, env, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if p.text == nil {
		return nil, &RemoteLintError{p.name}
	}
	l := &Linted{Dockerfile: p.name, path: p.dockerfile.Path}
	if l.Findings, err = p.lint(ctx); err != nil {
		return nil, err
	}
	if l.fixed, l.edits = lint.Apply(p.text, l.Findings); l.edits > 0 {
		name := patchName(p.dockerfile)
		l.Patch = udiff.Unified("a/"+name, "b/"+name, string(p.text), string(l.fixed))
	}
	return l, nil
}

// Fix writes the Dockerfile with the edits of the findings, and returns how many it made. The findings that are left
// are those without one. It writes nothing if the Dockerfile is not a file.
func (l *Linted) Fix() (int, error) {
	if l.path == "" || l.edits == 0 {
		return 0, nil
	}
	if err := wholefile.WriteBytes(l.path, l.fixed, 0o644); err != nil {
		return 0, fmt.Errorf("writing the Dockerfile: %w", err)
	}
	l.Findings = slices.DeleteFunc(l.Findings, func(f lint.Finding) bool { return f.Edit != nil })
	return l.edits, nil
}

// A LintError says that Options.Lint forbids to build what lint finds errors in.
type LintError struct {
	Dockerfile string
	Findings   []lint.Finding
}

func (e *LintError) Error() string {
	for _, f := range e.Findings {
		if f.Level == lint.Error {
			return fmt.Sprintf("%s:%d: %s [%s]", f.File, f.Line, f.Message, f.Rule)
		}
	}
	return e.Dockerfile + ": lint found errors"
}

// lint returns the findings about p.
func (p *project) lint(ctx context.Context) ([]lint.Finding, error) {
	in := lint.Input{
		Name: p.name, Dockerfile: p.text, Target: p.options.Target, Args: p.options.Args,
		Lockfile: p.lockfile, DownloadsLocked: p.lock.Downloads != "", Now: p.env.now(),
	}
	if in.Target == "" {
		in.Target = p.lock.Target
	}
	if len(p.options.Platforms) == 1 {
		in.Platform = p.options.Platforms[0]
	}
	if p.lockExists {
		in.Lock = p.lock
		in.LockUntracked = notInGit(ctx, p.lockfile, p.env.Environ)
	}
	if dir := p.context.Dir; dir != "" {
		in.Dir, in.Context = dir, os.DirFS(dir)
		_, in.Ignore = builder.IgnoreFile(p.dockerfile, dir)
		if tracked, err := gitTracked(ctx, dir, p.env.Environ); err == nil && tracked != nil {
			in.Tracked = map[string]bool{}
			for name := range tracked {
				in.Tracked[name] = true
			}
		}
	}
	return lint.Check(ctx, in)
}

// lintFirst returns the findings about the Dockerfile before it is built, or a *LintError if the options forbid errors. It leaves
// out what is missing in the lock, which the build adds. Lint has no say in whether a build works: unless the options
// ask for it, its own failure is no finding.
func (p *project) lintFirst(ctx context.Context) ([]lint.Finding, error) {
	if p.options.Lint == LintOff {
		return nil, nil
	}
	found, err := p.lint(ctx)
	found = slices.DeleteFunc(found, func(f lint.Finding) bool { return f.Rule == "lock" || f.Level == lint.Info })
	if p.options.Lint == LintWarn {
		return found, ctx.Err()
	}
	if err == nil && lint.Failed(found) {
		err = &LintError{p.name, found}
	}
	return found, err
}

// notInGit returns "untracked" or "ignored" if a file is in a checkout that does not have it, and "" otherwise.
func notInGit(ctx context.Context, file string, environ []string) string {
	dir, name := filepath.Split(file)
	if dir == "" {
		dir = "."
	}
	if !git.InCheckout(dir) {
		return ""
	}
	if out, err := git.Run(ctx, dir, environ, nil, "--literal-pathspecs", "ls-files", "-z", "--", name); err != nil || len(out) > 0 {
		return ""
	}
	if ignored, err := gitIgnored(ctx, dir, environ, []string{name}); err == nil && slices.Contains(ignored, name) {
		return "ignored"
	}
	return "untracked"
}

// A RemoteLintError says that a Dockerfile is not on this machine.
type RemoteLintError struct{ Dockerfile string }

func (e *RemoteLintError) Error() string {
	return e.Dockerfile + ": lint reads a Dockerfile of this machine, or one from standard input"
}
