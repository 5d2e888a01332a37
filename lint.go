package kedge

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/internal/git"
	"github.com/kedge-build/kedge/lint"
)

// Lint finds in the Dockerfile, the context and the lockfile that o names what lets builds differ. It needs no
// builder, builds nothing and writes nothing. Of a context that is no folder it reads the Dockerfile alone; a
// Dockerfile that only the builder can read is a *RemoteLintError.
func Lint(ctx context.Context, env Env, o Options) (_ []lint.Finding, err error) {
	p, err := open(ctx, env, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if p.text == nil {
		return nil, &RemoteLintError{p.name}
	}
	in := lint.Input{
		Name: p.name, Dockerfile: p.text, Target: o.Target, Args: o.Args,
		Lockfile: p.lockfile, DownloadsLocked: p.lock.Downloads != "", Now: env.now(),
	}
	if in.Target == "" {
		in.Target = p.lock.Target
	}
	if len(o.Platforms) == 1 {
		in.Platform = o.Platforms[0]
	}
	if p.lockExists {
		in.Lock = p.lock
		in.LockUntracked = notInGit(ctx, p.lockfile, env.Environ)
	}
	if dir := p.context.Dir; dir != "" {
		in.Context = os.DirFS(dir)
		_, in.Ignore = builder.IgnoreFile(p.dockerfile, dir)
		if tracked, err := gitTracked(ctx, dir, env.Environ); err == nil && tracked != nil {
			in.Tracked = map[string]bool{}
			for name := range tracked {
				in.Tracked[name] = true
			}
		}
	}
	return lint.Check(ctx, in)
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
	if out, err := git.Run(ctx, dir, environ, nil, "ls-files", "-z", "--", name); err != nil || len(out) > 0 {
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
