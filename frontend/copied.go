package frontend

import "github.com/moby/buildkit/frontend/dockerfile/instructions"

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
