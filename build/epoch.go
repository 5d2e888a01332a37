package build

import (
	"fmt"
	"os"
	"os/exec"
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
func (e Epoch) choose(dir string, locked time.Time) (time.Time, func(time.Time) time.Time) {
	fallback := func() time.Time {
		if t, ok := headTime(dir); ok {
			return t
		}
		return earliest
	}
	switch {
	case e.mode == "at":
		return e.at, nil
	case e.mode == "git":
		return fallback(), nil
	case e.mode == "" && !locked.IsZero():
		return locked, nil
	}
	return time.Time{}, func(newest time.Time) time.Time {
		// Some images say 1970 for "no date".
		if newest.Before(earliest) {
			return fallback()
		}
		return newest.UTC().Truncate(time.Second)
	}
}

// headTime returns the commit time of the git checkout that dir is in.
func headTime(dir string) (time.Time, bool) {
	cmd := exec.Command("git", "log", "-1", "--no-show-signature", "--format=%ct")
	cmd.Dir = dir
	// In a git hook these name the repository of the hook.
	for _, kv := range os.Environ() {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE":
		default:
			cmd.Env = append(cmd.Env, kv)
		}
	}
	out, err := cmd.Output()
	if err != nil {
		return time.Time{}, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil || n < earliest.Unix() {
		return time.Time{}, false
	}
	return time.Unix(n, 0).UTC(), true
}
