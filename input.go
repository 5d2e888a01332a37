package kedge

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/moby/buildkit/util/archiveutil"
)

// An InputError says that a context and a Dockerfile do not go together, or that standard input holds
// neither.
type InputError struct{ What, Hint string }

func (e *InputError) Error() string { return e.What }

// maxDockerfile is the size limit of a Dockerfile on this machine, in bytes. The frontend has the same.
const maxDockerfile = 16 << 20

// An input is a build context and its Dockerfile.
type input struct {
	context    builder.Context
	dockerfile builder.Dockerfile
}

// close removes the copy of a context that was read from standard input.
func (in input) close() error {
	if in.context.Archive != nil {
		return in.context.Archive.Close()
	}
	return nil
}

// readInput returns the input that two words of a command line name. The caller must close it.
func readInput(ctx context.Context, stdin io.Reader, dir, dockerfile string) (input, error) {
	switch {
	case dir == "":
		return input{}, &InputError{What: "the build context has no name", Hint: "the current directory is . (a dot)"}
	case dir == "-" && dockerfile == "-":
		return input{}, &InputError{What: "standard input cannot be both the build context and the Dockerfile"}
	case dir == "-":
		return wholefile.Await(ctx, func() (input, error) { return readStdin(stdin, dockerfile) })
	}
	c, err := builder.ParseContext(dir)
	if err != nil {
		return input{}, err
	}
	if dockerfile != "-" {
		return input{c, c.Dockerfile(dockerfile)}, nil
	}
	return wholefile.Await(ctx, func() (input, error) {
		data, err := readDockerfile(stdin)
		return input{c, builder.Dockerfile{Data: data}}, err
	})
}

// readStdin reads a context, or a Dockerfile without one, from standard input.
func readStdin(stdin io.Reader, dockerfile string) (input, error) {
	r := bufio.NewReader(stdin)
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
		return input{c, c.Dockerfile(dockerfile)}, nil
	}
	if dockerfile != "" {
		return input{}, &InputError{
			What: fmt.Sprintf("standard input is not a tar archive, and so a Dockerfile, but -f %s names one, too", dockerfile),
			Hint: "leave -f out; for a Dockerfile on standard input and a context: -f - DIR",
		}
	}
	data, err := readDockerfile(r)
	return input{dockerfile: builder.Dockerfile{Data: data}}, err
}

func readDockerfile(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxDockerfile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading standard input: %w", err)
	case len(bytes.TrimSpace(data)) == 0:
		return nil, errors.New("standard input is empty: neither a Dockerfile nor a tar archive came from it")
	case len(data) > maxDockerfile:
		return nil, fmt.Errorf("the Dockerfile on standard input is larger than %d bytes", maxDockerfile)
	}
	return data, nil
}
