package image

import (
	"errors"
	"fmt"

	"github.com/kedge-build/kedge/internal/layer"
)

// A WhiteoutError says that a build made a file whose name, in a layer, deletes another file.
type WhiteoutError struct {
	Path string // in the image
	File string // the name of the Dockerfile, if it is known
	Line int    // of the Dockerfile; 0 if no line is known
}

func (e *WhiteoutError) Error() string {
	line := ""
	switch {
	case e.Line > 0 && e.File != "":
		line = fmt.Sprintf("%s:%d: ", e.File, e.Line)
	case e.Line > 0:
		line = fmt.Sprintf("line %d: ", e.Line)
	}
	return fmt.Sprintf("%s%q: a file with this name deletes others when the image is unpacked", line, e.Path)
}

// atLine returns an error about the layer that a line of the Dockerfile made.
func atLine(err error, line int) error {
	var whiteout *WhiteoutError
	var unnamed *layer.WhiteoutError
	switch {
	case errors.As(err, &whiteout):
		return &WhiteoutError{Path: whiteout.Path, Line: line}
	case errors.As(err, &unnamed):
		return &WhiteoutError{Path: unnamed.Path, Line: line}
	}
	return err
}
