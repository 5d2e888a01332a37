// Package format holds what the parsers in its folders share. Each folder reads one file format, from
// files that may be hostile: a parser bounds what it reads and returns an error instead of panicking.
package format

import (
	"errors"
	"fmt"
)

// ErrTooLarge is wrapped by the errors about files that hold more than a parser takes.
var ErrTooLarge = errors.New("too large")

// A PanicError is a panic that Contain turned into an error.
type PanicError struct {
	Value any // the value that the parser panicked with
}

func (e *PanicError) Error() string { return fmt.Sprintf("malformed file: %v", e.Value) }

// Contain calls parse and returns its error, or a *PanicError if it panics. Parsers that hand a file to
// code that is not hardened, such as debug/elf, run in it.
func Contain(parse func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{p}
		}
	}()
	return parse()
}
