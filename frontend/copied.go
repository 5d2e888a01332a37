package frontend

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Copied returns the paths that the COPY, ADD or RUN --mount=type=bind at a line of a Dockerfile takes from the main
// build context, as they are written: relative to the context, perhaps with wildcards or variables. It returns none
// for any other instruction, for URLs, for here-documents, and for a mount of the whole context.
func Copied(dockerfile []byte, line int) []string {
	res, err := parser.Parse(bytes.NewReader(dockerfile))
	if err != nil {
		return nil
	}
	for _, n := range res.AST.Children {
		if line < n.StartLine || line > n.EndLine {
			continue
		}
		instruction, err := instructions.ParseInstruction(n)
		if err != nil {
			return nil
		}
		var paths []string
		switch c := instruction.(type) {
		case *instructions.CopyCommand:
			if c.From == "" {
				paths = c.SourcePaths
			}
		case *instructions.AddCommand:
			for _, p := range c.SourcePaths {
				if !strings.Contains(p, "://") && !strings.HasPrefix(p, "git@") {
					paths = append(paths, p)
				}
			}
		case *instructions.RunCommand:
			paths = slices.DeleteFunc(Bound(c), func(p string) bool { return path.Clean("/"+p) == "/" })
		}
		return paths
	}
	return nil
}

// Bound returns the paths that a RUN mounts from the main build context, as they are written. An empty one is the whole
// context.
func Bound(c *instructions.RunCommand) []string {
	// Without it, a mount has neither type nor source.
	if err := c.Expand(func(word string) (string, error) { return word, nil }); err != nil {
		return nil
	}
	var paths []string
	for _, m := range instructions.GetMounts(c) {
		if m.Type == instructions.MountTypeBind && m.From == "" {
			paths = append(paths, m.Source)
		}
	}
	return paths
}
