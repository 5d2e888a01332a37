// Package lock is the lockfile: which source of a build is which content.
//
// A lockfile stands beside its Dockerfile as <Dockerfile>.lock and is meant to be committed. It is
// parsed strictly, formatted canonically, and written by rename. docs/lockfile.md is its
// specification.
package lock

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// formatVersion is the version of the format that this package writes, and the only one that it reads.
const formatVersion = 1

// MaxEpoch is the latest epoch, in seconds since 1970: file times that count nanoseconds end there, in
// the year 2262.
const MaxEpoch = 1<<63/1_000_000_000 - 1

// Kind says what a source is, and with that what pins it.
type Kind string

// The kinds of sources. A Kind is the name of its table in the file.
const (
	Image Kind = "image" // an image reference, pinned by the digest of its index or manifest
	URL   Kind = "url"   // an http or https URL, pinned by the sha256 of its body
	Git   Kind = "git"   // a git remote with an optional #ref, pinned by a commit
)

var kinds = []Kind{Image, URL, Git}

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

// File is what a lockfile says. The zero value is the empty lock.
type File struct {
	// Target is the declared target: a stage's name, or its index where it has none. Empty: not declared.
	Target string
	// Last is the Dockerfile's last stage, where that is knowingly not the target. Empty: it is.
	Last string
	// Epoch is the SOURCE_DATE_EPOCH of the build, in whole seconds. Zero: not declared.
	Epoch time.Time
	// Rules is the version of the normalisation rules that the image is written by. Zero: not declared.
	Rules int

	pins map[Source]string
}

// Pin returns what s is locked to: a digest (sha256:…), or for Git a commit in hex.
func (f *File) Pin(s Source) (string, bool) {
	pin, ok := f.pins[s]
	return pin, ok
}

// Add locks s to pin. A source that is locked stays as it is: Add then reports a *ConflictError, or
// nil where it says the same.
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

// Sources returns what is locked, in the order of the file.
func (f *File) Sources() []Source {
	return slices.SortedFunc(maps.Keys(f.pins), compareSources)
}

// Keep returns a copy of f with only the pins of those sources for which keep is true.
func (f *File) Keep(keep func(Source) bool) *File {
	kept := &File{Target: f.Target, Last: f.Last, Epoch: f.Epoch, Rules: f.Rules, pins: maps.Clone(f.pins)}
	maps.DeleteFunc(kept.pins, func(s Source, _ string) bool { return !keep(s) })
	return kept
}

// Clone returns a copy of f.
func (f *File) Clone() *File {
	return f.Keep(func(Source) bool { return true })
}

// Change is one source that two lockfiles disagree about. Old or New is empty where that file does
// not have it.
type Change struct {
	Source   Source
	Old, New string
}

// Changes returns what turns the pins of f into those of to, in the order of the file.
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

// ConflictError says that a source is locked to something else than what was found.
type ConflictError struct {
	Source        Source
	Locked, Found string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s %q is locked to %s, not %s", e.Source.Kind, e.Source.Ref, e.Locked, e.Found)
}
