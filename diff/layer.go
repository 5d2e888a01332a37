// Package diff compares images and layers.
package diff

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/internal/layer"
)

// Path is a path that differs between two layers.
type Path struct {
	Path   string // absolute: /etc/passwd
	Change Change
	// What lists what differs about a changed path: type, content, mode, owner, time, target, device,
	// xattrs.
	What []string
}

// Change is how a path differs between a first and a second layer.
type Change string

// The changes of a Path.
const (
	Added   Change = "added" // only the second has it
	Removed Change = "removed"
	Changed Change = "changed"
)

// entry is a tar entry without its content.
type entry struct {
	header tar.Header
	sum    sum
}

// Layers compares two layers, in any order of their entries, and returns the paths that differ, sorted. It
// keeps a header and a hash of every entry, and no content. It checks the digests of both.
func Layers(ctx context.Context, first, second Blob) ([]Path, error) {
	a, err := read(ctx, first)
	if err != nil {
		return nil, fmt.Errorf("reading the first layer: %w", err)
	}
	b, err := read(ctx, second)
	if err != nil {
		return nil, fmt.Errorf("reading the second layer: %w", err)
	}
	var paths []Path
	for name, x := range a {
		y, ok := b[name]
		if !ok {
			paths = append(paths, Path{Path: rooted(name), Change: Removed})
		} else if what := differences(x, y); len(what) > 0 {
			paths = append(paths, Path{Path: rooted(name), Change: Changed, What: what})
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			paths = append(paths, Path{Path: rooted(name), Change: Added})
		}
	}
	slices.SortFunc(paths, func(a, b Path) int { return strings.Compare(a.Path, b.Path) })
	return paths, nil
}

// rooted returns the absolute path for the name of an entry.
func rooted(name string) string { return path.Clean("/" + name) }

func read(ctx context.Context, b Blob) (map[string]entry, error) {
	r, err := b.Reader(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	entries := map[string]entry{}
	content, buf := newSummer(), make([]byte, 128<<10)
	err = r.Each(func(h *tar.Header, r io.Reader) error {
		e := entry{header: *h}
		if _, err := io.CopyBuffer(onlyWriter{content}, onlyReader{r}, buf); err != nil {
			return err
		}
		e.sum = content.sum()
		entries[layer.Clean(h.Name)] = e
		return nil
	})
	return entries, err
}

func differences(x, y entry) []string {
	a, b := x.header, y.header
	var what []string
	for _, c := range []struct {
		name string
		same bool
	}{
		{"type", a.Typeflag == b.Typeflag},
		{"content", a.Size == b.Size && x.sum == y.sum},
		{"mode", a.Mode == b.Mode},
		{"owner", a.Uid == b.Uid && a.Gid == b.Gid},
		{"time", a.ModTime.Equal(b.ModTime)},
		{"target", a.Linkname == b.Linkname},
		{"device", a.Devmajor == b.Devmajor && a.Devminor == b.Devminor},
		{"xattrs", sumXattrs(&a) == sumXattrs(&b)},
	} {
		if !c.same {
			what = append(what, c.name)
		}
	}
	return what
}
