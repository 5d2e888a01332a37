// Package trace looks in an image for the day on which it was built, and for facts about the machine that
// built it. Two builds that follow each other on one machine agree on both, so comparing them shows neither.
//
//	found, err := trace.Find(ctx, images, manifest, steps, trace.Search{Builds: windows, Machine: facts})
//
// Find reads the layers that a RUN made, once, as a stream. Files that a package owns do not count.
package trace

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/store"
)

// A Kind says what a Finding is about.
type Kind string

// The kinds of a Finding.
const (
	Timestamp Kind = "timestamp" // the day of the build
	Machine   Kind = "machine"   // a Fact
)

// A Finding is a file that would differ on another day, or on another machine.
type Finding struct {
	Layer       int // counted from the lowest
	Line        int // of the Dockerfile; 0 if unknown
	Instruction string
	Path        string // absolute
	Kind        Kind
	What        string // the form of the date, or the name of the Fact
	Text        string // the date as the file has it; empty for a Fact
	// Certain is set if only the clock can have brought the date.
	Certain bool
	Why     string // if the finding is not certain, what speaks against it; empty for a Fact
}

// A Window is the time in which a build ran its steps.
type Window struct{ From, To time.Time }

// A Fact is a value that a program can read about the machine that it runs on.
type Fact struct {
	Name  string // what it is, as in "boot ID"
	Value string
	// Asked restricts the search to steps whose text one of these regular expressions matches, in short texts with
	// a line that is the value, or NAME=VALUE. It is for values that occur everywhere.
	Asked []string
	// Digits is the least number of digits of a value that is not known. Value is then empty.
	Digits int
}

// Search says what to look for. The zero value finds nothing.
type Search struct {
	Builds  []Window
	Zone    *time.Location // the time zone of the steps; nil: UTC
	Machine []Fact
	// A file may have the days of these, whatever the clock says: the epoch, the commit and the newest base image.
	Epoch, Commit, Base time.Time
	// Given are texts that the build was given, such as the Dockerfile and build args.
	Given []string
	// Inputs calls fn for each file of the build context that this machine has, with its path; it may be nil.
	Inputs func(ctx context.Context, fn func(path string, content []byte)) error
}

// maxFindings bounds what Find returns.
const maxFindings = 1000

// Find looks in the layers of m that steps made. steps are those of the layers above the base image, lowest
// first. The result is sorted by layer and path.
func Find(ctx context.Context, st *store.Store, m store.Manifest, steps []frontend.Step, s Search) ([]Finding, error) {
	base := len(m.Layers) - len(steps)
	if base < 0 {
		return nil, fmt.Errorf("looking for dates in the image: %d steps for %d layers", len(steps), len(m.Layers))
	}
	f := newFinder(s)
	if len(f.dates.forms) == 0 && len(f.facts) == 0 {
		return nil, nil
	}
	var found []*candidate
	for i, step := range steps {
		if !step.Run {
			continue
		}
		in, err := f.layer(ctx, st, m.Layers[base+i], newOrigin(step))
		if err != nil {
			return nil, fmt.Errorf("looking for dates in the image: %w", err)
		}
		for _, c := range in {
			c.Layer, c.Line, c.Instruction = base+i, c.origin.line, c.origin.instruction
		}
		found = append(found, in...)
	}
	if len(found) == 0 {
		return nil, nil
	}
	if err := f.weigh(ctx, st, m, steps, found); err != nil {
		return nil, fmt.Errorf("looking for dates in the image: %w", err)
	}
	return chosen(found), nil
}

// chosen returns the findings that count: of a file's dates one, and of too many those that are certain.
func chosen(found []*candidate) []Finding {
	found = slices.DeleteFunc(found, func(c *candidate) bool { return c.dropped })
	slices.SortStableFunc(found, func(a, b *candidate) int {
		switch {
		case a.Certain == b.Certain:
			return 0
		case a.Certain:
			return -1
		}
		return 1
	})
	type file struct {
		layer int
		path  string
	}
	dated := map[file]bool{}
	var all []Finding
	for _, c := range found {
		at := file{c.Layer, c.Path}
		if c.Kind == Timestamp && dated[at] || len(all) == maxFindings {
			continue
		}
		dated[at] = dated[at] || c.Kind == Timestamp
		all = append(all, c.Finding)
	}
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(a.Layer-b.Layer, strings.Compare(a.Path, b.Path))
	})
	return all
}
