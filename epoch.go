package kedge

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kedge-build/kedge/lock"
)

// Epoch says where SOURCE_DATE_EPOCH comes from. The zero value: from the lock, else from the base
// images, else from git, else it is 1980-01-01.
type Epoch struct {
	at   time.Time
	mode string
}

// ParseEpoch reads "git" (the commit time of the context's HEAD), "base" (the newest base image), or
// a number of seconds since 1970. The empty string is the zero value.
func ParseEpoch(s string) (Epoch, error) {
	switch s {
	case "", "git", "base":
		return Epoch{mode: s}, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > lock.MaxEpoch {
		return Epoch{}, fmt.Errorf("source date epoch %q is not a number of seconds since 1970, git or base", s)
	}
	return Epoch{at: time.Unix(n, 0).UTC(), mode: "at"}, nil
}

// Explicit reports whether e is not the zero value.
func (e Epoch) Explicit() bool { return e.mode != "" }

// earliest is the first time that archive formats of old can hold, and the epoch of what has none.
var earliest = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// choose returns the epoch, or how to get it from the newest base image.
func (e Epoch) choose(locked time.Time, committed func() (time.Time, error)) (time.Time, func(time.Time) time.Time, error) {
	switch {
	case e.mode == "at":
		return e.at, nil, nil
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
		// Some images say 1970 for "no date".
		if !newest.Before(earliest) {
			return newest.UTC().Truncate(time.Second)
		}
		if t, err := committed(); err == nil && !t.Before(earliest) {
			return t
		}
		return earliest
	}, nil
}

// commitTime returns when the commit was made that the context is at.
func (p *project) commitTime(ctx context.Context) (time.Time, error) {
	switch c := p.input.context; {
	case c.Dir != "":
		return headTime(ctx, c.Dir, p.Env)
	case !p.committed.IsZero():
		return p.committed, nil
	default:
		return time.Time{}, errors.New("the build context is neither a directory nor a git repository")
	}
}

// headTime returns the commit time of the git checkout that dir is in.
func headTime(ctx context.Context, dir string, env []string) (time.Time, error) {
	out, err := git(ctx, dir, env, nil, "log", "-1", "--no-show-signature", "--format=%ct")
	if err != nil {
		return time.Time{}, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil || n < 0 || n > lock.MaxEpoch {
		return time.Time{}, fmt.Errorf("%q is no time of a commit", out)
	}
	return time.Unix(n, 0).UTC(), nil
}
