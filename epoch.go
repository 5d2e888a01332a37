package kedge

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kedge-build/kedge/internal/git"
	"github.com/kedge-build/kedge/lock"
)

// Epoch says where SOURCE_DATE_EPOCH comes from. The zero value takes it from the Dockerfile's global ARG of
// that name, else from the lock, else from the base images, else from git, else it is 1980-01-01.
type Epoch struct {
	time time.Time // for mode "time"
	mode string    // "", "git", "base", "context" or "time"
}

// ParseEpoch reads "git" (the commit time of the context's HEAD), "base" (the newest base image), "context"
// (the commit time of a git context that the builder fetches; for other contexts it says nothing, as in
// BuildKit), or a number of seconds since 1970. The empty string is the zero value.
func ParseEpoch(s string) (Epoch, error) {
	switch s {
	case "", "git", "base", "context":
		return Epoch{mode: s}, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > lock.MaxEpoch {
		return Epoch{}, fmt.Errorf("source date epoch %q is not a number of seconds since 1970, git, base or context", s)
	}
	return Epoch{time: time.Unix(n, 0).UTC(), mode: "time"}, nil
}

// Explicit reports whether e is not the zero value.
func (e Epoch) Explicit() bool { return e.mode != "" }

// epoch returns where the build's epoch comes from. The Dockerfile's global ARG counts if no option says it.
func (p *project) epoch() (Epoch, error) {
	e := p.options.Epoch
	if !e.Explicit() {
		value, err := p.parsed.Epoch(p.options.Args)
		if err != nil {
			return Epoch{}, err
		}
		if e, err = ParseEpoch(value); err != nil {
			return Epoch{}, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if e.mode != "context" {
		return e, nil
	}
	if committed := p.fetch.committed; !committed.IsZero() {
		return Epoch{time: committed, mode: "time"}, nil
	}
	return Epoch{}, nil
}

// earliest is the first time that old archive formats can hold, and the epoch if nothing else gives one.
var earliest = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// choose returns the epoch, or a function that returns it for the creation time of the newest base image.
func (e Epoch) choose(locked time.Time, committed func() (time.Time, error)) (time.Time, func(time.Time) time.Time, error) {
	switch {
	case e.mode == "time":
		return e.time, nil, nil
	case e.mode == "git":
		t, err := committed()
		if err != nil {
			return t, nil, fmt.Errorf("taking the source date epoch from git: %w", err)
		}
		return t, nil, nil
	case e.mode == "" && !locked.IsZero():
		return locked, nil, nil
	}
	return time.Time{}, func(newest time.Time) time.Time {
		// Some images give 1970 for "no date".
		if !newest.Before(earliest) {
			return newest.UTC().Truncate(time.Second)
		}
		if t, err := committed(); err == nil && !t.Before(earliest) {
			return t
		}
		return earliest
	}, nil
}

// commitTime returns when the context's commit was made.
func (p *project) commitTime(ctx context.Context) (time.Time, error) {
	switch c := p.context; {
	case c.Dir != "":
		return headTime(ctx, c.Dir, p.env.Environ)
	case !p.fetch.committed.IsZero():
		return p.fetch.committed, nil
	default:
		return time.Time{}, errors.New("the build context is neither a directory nor a git repository")
	}
}

// headTime returns the commit time of HEAD in the git checkout that dir is in.
func headTime(ctx context.Context, dir string, environ []string) (time.Time, error) {
	out, err := git.Run(ctx, dir, environ, nil, "log", "-1", "--no-show-signature", "--format=%ct")
	if err != nil {
		return time.Time{}, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil || n < 0 || n > lock.MaxEpoch {
		return time.Time{}, fmt.Errorf("%q is not the time of a commit", out)
	}
	return time.Unix(n, 0).UTC(), nil
}
