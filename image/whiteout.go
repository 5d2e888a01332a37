package image

import (
	"errors"
	"fmt"

	"github.com/kedge-build/kedge/internal/layer"
)

// A WhiteoutError says that a build made a file whose name, in a layer, deletes another file.
type WhiteoutError struct {
	Path string // in the image
	File string // the name of the Dockerfile
	Line int    // of it; 0 if no line is known
}

func (e *WhiteoutError) Error() string {
	line := ""
	if e.Line > 0 {
		line = fmt.Sprintf("%s:%d: ", e.File, e.Line)
	}
	return fmt.Sprintf("%s%q: a file with this name deletes others when the image is unpacked", line, e.Path)
}

// atLine returns an error about the layer that a line of a Dockerfile made.
func atLine(err error, file string, line int) error {
	var whiteout *WhiteoutError
	var unnamed *layer.WhiteoutError
	switch {
	case errors.As(err, &whiteout):
		return &WhiteoutError{Path: whiteout.Path, File: file, Line: line}
	case errors.As(err, &unnamed):
		return &WhiteoutError{Path: unnamed.Path, File: file, Line: line}
	}
	return err
}
