package kedge

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Checkout lists files that were sent to the builder and that another checkout lacks or has with other
// modes. Paths are sorted; a folder stands for everything in it. All lists are empty with Options.KeepModes.
type Checkout struct {
	Ignored   []string // ignored by git, so that another checkout lacks them
	Untracked []string // not added to git, with the same effect
	Modes     []string // executable here and not in git, or the reverse; they were sent with git's mode
	// NotChecked is why the lists are incomplete.
	NotChecked error
}

// checkout asks git about the files sent to the builder. Both maps are by the directory of a context.
func checkout(ctx context.Context, environ []string, tracked map[string]map[string]bool, sent map[string][]string) (c Checkout) {
	for dir, files := range tracked {
		if len(files) == 0 {
			continue // not part of a checkout, or a folder that is ignored as a whole
		}
		var unknown, left, modes []string
		for _, path := range sent[dir] {
			info, err := os.Lstat(filepath.Join(dir, path))
			switch executable, ok := files[path]; {
			case err != nil || info.IsDir() && !ok:
				unknown = append(unknown, path)
			case !ok:
				unknown, left = append(unknown, path), append(left, path)
			case info.Mode().IsRegular() && executable != (info.Mode()&0o100 != 0):
				modes = append(modes, path)
			}
		}
		var ignored, modules []string
		var err error
		if len(unknown) > 0 {
			modules, err = gitModules(ctx, dir, environ)
		}
		if err == nil {
			ignored, err = inModules(dir, modules, unknown, func(dir string, paths []string) ([]string, error) { return gitIgnored(ctx, dir, environ, paths) })
		}
		if err == nil {
			left, err = inModules(dir, modules, left, func(dir string, paths []string) ([]string, error) { return gitUntracked(ctx, dir, environ, paths) })
		}
		if err == nil {
			modes, err = ifModesCount(ctx, dir, environ, modes)
		}
		if err != nil {
			c.NotChecked = err
			return c
		}
		c.Ignored = append(c.Ignored, joined(dir, ignored)...)
		c.Untracked = append(c.Untracked, joined(dir, left)...)
		c.Modes = append(c.Modes, joined(dir, modes)...)
	}
	c.Ignored, c.Untracked, c.Modes = tops(c.Ignored), tops(c.Untracked), tops(c.Modes)
	return c
}

func joined(dir string, paths []string) []string {
	for i := range paths {
		paths[i] = filepath.Join(dir, paths[i])
	}
	return paths
}

// tops sorts paths and drops those below another one.
func tops(paths []string) []string {
	slices.Sort(paths)
	var tops []string
	for _, path := range paths {
		if n := len(tops); n == 0 || path != tops[n-1] && !strings.HasPrefix(path, tops[n-1]+"/") {
			tops = append(tops, path)
		}
	}
	return tops
}
