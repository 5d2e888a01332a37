package frontend

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Copied returns the paths that each COPY, ADD and RUN --mount=type=bind of a Dockerfile takes from the main build context,
// as they are written: relative to the context, perhaps with wildcards or variables. The keys are the lines that the
// instructions begin at. URLs, here-documents and mounts of the whole context are not among them.
func Copied(dockerfile []byte) map[int][]string {
	res, err := parser.Parse(bytes.NewReader(dockerfile))
	if err != nil {
		return nil
	}
	copied := map[int][]string{}
	for _, n := range res.AST.Children {
		instruction, err := instructions.ParseInstruction(n)
		if err != nil {
			continue
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
		if len(paths) > 0 {
			copied[n.StartLine] = paths
		}
	}
	return copied
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
