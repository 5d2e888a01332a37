package network

import (
	"fmt"
	"maps"

	"github.com/opencontainers/go-digest"
)

// A NotLockedError says that a step asked for something that the record has no answer to.
type NotLockedError struct {
	Step        Step
	Method, URL string
}

func (e *NotLockedError) Error() string {
	return fmt.Sprintf("%s: %s %s is not locked", e.Step.place(), e.Method, e.URL)
}

// An UnreplayableError says that a step asked for something that no record can answer.
type UnreplayableError struct {
	Step        Step
	Method, URL string
	What        string // in words: "a git clone over https"
	Advice      string // what to use instead
}

func (e *UnreplayableError) Error() string {
	return fmt.Sprintf("%s: %s %s cannot be recorded: %s", e.Step.place(), e.Method, e.URL, e.What)
}

// A ConflictError says that a request has two different answers.
type ConflictError struct{ Method, URL string }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s %s: another command recorded another answer", e.Method, e.URL)
}

// A LimitError says that a server sent more than kedge takes.
type LimitError struct {
	URL   string
	What  string // what is limited, in the plural: "bytes of a body"
	Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s: more than %d %s", e.URL, e.Limit, e.What)
}

// A FetchError says that an answer could not be fetched.
type FetchError struct {
	URL string
	Err error
}

func (e *FetchError) Error() string { return fmt.Sprintf("fetch %s: %v", e.URL, e.Err) }

func (e *FetchError) Unwrap() error { return e.Err }

// A MissingError says that bodies of a record are not to be had.
type MissingError struct {
	Entries []Entry
	Why     map[digest.Digest]string // where each was looked for, and what came; nothing without a look
}

// Add adds the bodies that another error says are missing.
func (e *MissingError) Add(other *MissingError) {
	e.Entries = append(e.Entries, other.Entries...)
	if e.Why == nil {
		e.Why = map[digest.Digest]string{}
	}
	maps.Copy(e.Why, other.Why)
}

func (e *MissingError) Error() string {
	verb := "are"
	if len(e.Entries) == 1 {
		verb = "is"
	}
	text := fmt.Sprintf("%d of the locked downloads %s missing", len(e.Entries), verb)
	for _, m := range e.Entries {
		text += fmt.Sprintf("\n%s (%s)", m.URL, m.Digest)
		if why := e.Why[m.Digest]; why != "" {
			text += ": " + why
		}
	}
	return text
}

// A DamagedError says that a file of the cache has another content than its name says.
type DamagedError struct{ Digest digest.Digest }

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the cached download %s is damaged", e.Digest)
}

// A RestoredError says that a step got part of a damaged body. The body has been fetched again, and the build must
// start over.
type RestoredError struct{ Entry Entry }

func (e *RestoredError) Error() string {
	return fmt.Sprintf("the cached download of %s (%s) was damaged, and has been fetched again", e.Entry.URL, e.Entry.Digest)
}

// A BusyError says that the cache cannot be pruned because another process is using it.
type BusyError struct{ Dir string }

func (e *BusyError) Error() string { return fmt.Sprintf("the cache of downloads %q is in use", e.Dir) }

func (s Step) place() string {
	if s.File == "" {
		return s.Name
	}
	return fmt.Sprintf("%s:%d", s.File, s.Line)
}
