// Package lock reads and writes lockfiles, which pin each source of a build to its content.
//
// A lockfile is <Dockerfile>.lock next to its Dockerfile, and is meant to be committed. Parsing is
// strict and formatting canonical. docs/lockfile.md specifies the format.
//
//	debian := lock.Source{Kind: lock.Image, Ref: "docker.io/library/debian:bookworm-slim"}
//	err := lock.Update(ctx, lock.Path("Dockerfile"), func(f *lock.File) error {
//		return f.Add(debian, "sha256:…")
//	})
package lock

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// formatVersion is the only version of the format that this package reads and writes.
const formatVersion = 1

// MaxEpoch is the latest epoch, in seconds since 1970. It is in the year 2262, where file times in
// nanoseconds end.
const MaxEpoch = 1<<63/1_000_000_000 - 1

// Kind is the kind of a source. It decides what a pin looks like.
type Kind string

// The kinds of sources. A Kind is the name of its table in the file.
const (
	Image Kind = "image" // an image reference, pinned by the digest of its index or manifest
	Local Kind = "local" // the same for an image that only this machine has, in kedge's store or a Docker Engine
	URL   Kind = "url"   // an http or https URL, pinned by the sha256 of its body
	Git   Kind = "git"   // a git remote with an optional #ref, pinned by a commit
)

var kinds = []Kind{Image, Local, URL, Git}

// Source is something that a build fetches.
type Source struct {
	Kind Kind
	// Ref is the resolved reference: docker.io/library/debian:bookworm-slim, https://host/file.tar,
	// https://host/repository.git#branch.
	Ref string
}

func (s Source) String() string { return s.Ref }

func compareSources(a, b Source) int {
	return cmp.Or(
		cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)),
		cmp.Compare(a.Ref, b.Ref),
	)
}

// File is the content of a lockfile. The zero value is the empty lock.
type File struct {
	// Target is the declared target: the name of a stage, or the index of one without a name. It is empty
	// if none is declared.
	Target string
	// Last is the Dockerfile's last stage if the user declared another target. Otherwise it is empty.
	Last string
	// StrictTarget says that no other target can be built with this lock. Without it, another target can be
	// built, and its image cannot be delivered.
	StrictTarget bool
	// Epoch is the SOURCE_DATE_EPOCH of the build, in whole seconds. It is zero if none is declared.
	Epoch time.Time
	// Rules is the version of the rules for the image's files. It is zero if none is declared.
	Rules int
	// Downloads is the digest of the record of what RUN steps download, which is a file of its own. It is empty
	// if downloads are not locked.
	Downloads digest.Digest
	// Environment is the compile environment of the RUN steps behind the declared target: the sorted values that
	// a variable has, by stage and name, with a space between ("build CFLAGS"). It says what was, and decides
	// nothing.
	Environment map[string][]string

	pins map[Source]string
}

// Pin returns the pin of s: a digest (sha256:…), or for Git a commit in hex.
func (f *File) Pin(s Source) (string, bool) {
	pin, ok := f.pins[s]
	return pin, ok
}

// Add pins s. It never moves a pin: if s has another one, Add returns a *ConflictError.
func (f *File) Add(s Source, pin string) error {
	if err := check(s, pin); err != nil {
		return err
	}
	if old, ok := f.pins[s]; ok && old != pin {
		return &ConflictError{Source: s, Locked: old, Found: pin}
	}
	if f.pins == nil {
		f.pins = map[Source]string{}
	}
	f.pins[s] = pin
	return nil
}

// Sources returns the pinned sources in the order of the file.
func (f *File) Sources() []Source {
	return slices.SortedFunc(maps.Keys(f.pins), compareSources)
}

// Keep returns a copy of f with only the sources that keep accepts.
func (f *File) Keep(keep func(Source) bool) *File {
	kept := *f
	kept.pins, kept.Environment = maps.Clone(f.pins), maps.Clone(f.Environment)
	maps.DeleteFunc(kept.pins, func(s Source, _ string) bool { return !keep(s) })
	return &kept
}

// Clone returns a copy of f.
func (f *File) Clone() *File {
	return f.Keep(func(Source) bool { return true })
}

// Change is a source that two lockfiles pin differently. Old or New is empty if a file does not pin it.
type Change struct {
	Source   Source
	Old, New string
}

// Changes returns the differences between the pins of f and to, in the order of the file.
func (f *File) Changes(to *File) []Change {
	var changes []Change
	for s, pin := range f.pins {
		if now := to.pins[s]; now != pin {
			changes = append(changes, Change{Source: s, Old: pin, New: now})
		}
	}
	for s, pin := range to.pins {
		if _, ok := f.pins[s]; !ok {
			changes = append(changes, Change{Source: s, New: pin})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return compareSources(a.Source, b.Source) })
	return changes
}

// EnvironmentChange is a variable of the compile environment that two lockfiles have with other values. Old or New is
// empty if a file does not have it.
type EnvironmentChange struct {
	Variable string // a key of File.Environment
	Old, New []string
}

// EnvironmentChanges returns the differences between the compile environments of f and to, in the order of the file.
func (f *File) EnvironmentChanges(to *File) []EnvironmentChange {
	var changes []EnvironmentChange
	for _, name := range slices.Sorted(maps.Keys(f.Environment)) {
		if now := to.Environment[name]; !slices.Equal(now, f.Environment[name]) {
			changes = append(changes, EnvironmentChange{name, f.Environment[name], now})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(to.Environment)) {
		if _, ok := f.Environment[name]; !ok {
			changes = append(changes, EnvironmentChange{name, nil, to.Environment[name]})
		}
	}
	slices.SortStableFunc(changes, func(a, b EnvironmentChange) int { return cmp.Compare(a.Variable, b.Variable) })
	return changes
}

// ConflictError says that Source is locked to another pin than the one that was found.
type ConflictError struct {
	Source        Source
	Locked, Found string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s %q is locked to %s, not %s", e.Source.Kind, e.Source.Ref, e.Locked, e.Found)
}
