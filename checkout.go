package kedge

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/builder"
)

// A Checkout is what git says of the files that a build was sent, where its modes count: their paths,
// sorted; a folder stands for what is in it.
type Checkout struct {
	Ignored   []string // git ignores them, so that another checkout lacks them
	Untracked []string // nobody has added them to git, with the same effect
	Modes     []string // they are executable, or not, otherwise than git records, which is what was sent
	// NotChecked says why that is not known.
	NotChecked error
}

// checkout asks git about what a build was sent, by the directory of each context.
func (p *project) checkout(ctx context.Context, req *builder.Request, sent map[string][]string) (c Checkout) {
	for dir, files := range req.Tracked {
		if len(files) == 0 {
			continue // no part of a checkout, or a folder that all of it ignores
		}
		var others []string
		var modes, left []string
		for _, path := range sent[dir] {
			info, err := os.Lstat(filepath.Join(dir, path))
			switch executable, ok := files[path]; {
			case err != nil || info.IsDir() && !ok:
				others = append(others, path)
			case !ok:
				others, left = append(others, path), append(left, path)
			case info.Mode().IsRegular() && executable != (info.Mode()&0o100 != 0):
				modes = append(modes, path)
			}
		}
		ignored, err := ignored(ctx, dir, p.Env, others)
		if err == nil {
			left, err = untracked(ctx, dir, p.Env, left)
		}
		if err == nil {
			modes, err = differing(ctx, dir, p.Env, modes)
		}
		if err != nil {
			c.NotChecked = err
			return c
		}
		c.Ignored, c.Untracked, c.Modes = append(c.Ignored, in(dir, ignored)...), append(c.Untracked, in(dir, left)...), append(c.Modes, in(dir, modes)...)
	}
	c.Ignored, c.Untracked, c.Modes = tops(c.Ignored), tops(c.Untracked), tops(c.Modes)
	return c
}

func in(dir string, paths []string) []string {
	for i := range paths {
		paths[i] = filepath.Join(dir, paths[i])
	}
	return paths
}

// tops sorts paths and leaves out what is below another one.
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
