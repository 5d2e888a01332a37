package kedge

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/kedge-build/kedge/builder"
	"github.com/moby/buildkit/util/archiveutil"
)

// InputError says that a context and a Dockerfile do not go together, or that standard input is not
// what they need.
type InputError struct{ What, Hint string }

func (e *InputError) Error() string { return e.What }

// maxStdin is how long a Dockerfile on standard input may be: as long as the frontend reads one.
const maxStdin = 16 << 20

// input is what a build is made from.
type input struct {
	context    builder.Context
	dockerfile builder.Dockerfile
}

// close gives back what was read of standard input.
func (in input) close() error {
	if in.context.Archive != nil {
		return in.context.Archive.Close()
	}
	return nil
}

// input returns what the words of a command line name. The caller must close it.
func (o *Options) input(ctx context.Context) (input, error) {
	switch {
	case o.Context == "":
		return input{}, &InputError{What: "the build context has no name", Hint: "the current directory is . (a dot)"}
	case o.Context == "-" && o.Dockerfile == "-":
		return input{}, &InputError{What: "standard input cannot be both the build context and the Dockerfile"}
	case o.Context == "-":
		return interruptible(ctx, o.stdin)
	}
	c, err := builder.ParseContext(o.Context)
	if err != nil {
		return input{}, err
	}
	if o.Dockerfile != "-" {
		return input{c, c.Place(o.Dockerfile)}, nil
	}
	return interruptible(ctx, func() (input, error) {
		data, err := readDockerfile(o.Stdin)
		return input{c, builder.Dockerfile{Data: data}}, err
	})
}

// stdin reads the context, or a Dockerfile without one, from standard input.
func (o *Options) stdin() (input, error) {
	r := bufio.NewReader(o.Stdin)
	head, err := r.Peek(1024) // as docker buildx does
	if err != nil && !errors.Is(err, io.EOF) {
		return input{}, fmt.Errorf("reading standard input: %w", err)
	}
	if archiveutil.IsArchive(head) {
		archive, err := builder.NewArchive(r)
		if err != nil {
			return input{}, err
		}
		c := builder.Context{Archive: archive}
		return input{c, c.Place(o.Dockerfile)}, nil
	}
	if o.Dockerfile != "" {
		return input{}, &InputError{
			What: fmt.Sprintf("standard input is not a tar archive, and so a Dockerfile, but -f %s names one, too", o.Dockerfile),
			Hint: "leave -f out; for a Dockerfile on standard input and a context: -f - DIR",
		}
	}
	data, err := readDockerfile(r)
	return input{dockerfile: builder.Dockerfile{Data: data}}, err
}

func readDockerfile(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxStdin+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading standard input: %w", err)
	case len(bytes.TrimSpace(data)) == 0:
		return nil, errors.New("standard input is empty: neither a Dockerfile nor a tar archive came from it")
	case len(data) > maxStdin:
		return nil, fmt.Errorf("the Dockerfile on standard input is larger than %d bytes", maxStdin)
	}
	return data, nil
}

// interruptible runs what reads standard input, and leaves it behind when ctx ends: a read from a pipe
// or a terminal cannot be ended.
func interruptible(ctx context.Context, read func() (input, error)) (input, error) {
	type result struct {
		input
		error
	}
	done := make(chan result, 1)
	go func() {
		in, err := read()
		done <- result{in, err}
	}()
	select {
	case <-ctx.Done():
		return input{}, ctx.Err()
	case r := <-done:
		return r.input, r.error
	}
}
