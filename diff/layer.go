// Package diff says why two images differ.
package diff

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// Path is one path that two layers disagree about.
type Path struct {
	Path   string `json:"path"` // from the root on: /etc/passwd
	Change Change `json:"change"`
	// What differs about a changed path: type, content, mode, owner, time, target, device, xattrs.
	What []string `json:"what,omitempty"`
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

// Layers compares two uncompressed layer tars, in any order of their entries, and returns the paths
// that differ, sorted. It holds a header and a hash for every entry, and no content.
func Layers(first, second io.Reader) ([]Path, error) {
	a, err := read(first)
	if err != nil {
		return nil, fmt.Errorf("reading the first layer: %w", err)
	}
	b, err := read(second)
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

// rooted is the path that an entry's name stands for.
func rooted(name string) string { return path.Clean("/" + name) }

func read(r io.Reader) (map[string]entry, error) {
	entries := map[string]entry{}
	if r == nil {
		return entries, nil
	}
	content, buf := newSummer(), make([]byte, 128<<10)
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
		e := entry{header: *h}
		if _, err := io.CopyBuffer(onlyWriter{content}, onlyReader{t}, buf); err != nil {
			return nil, err
		}
		e.sum = content.sum()
		entries[strings.TrimSuffix(h.Name, "/")] = e
	}
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
		{"xattrs", maps.Equal(xattrs(a), xattrs(b))},
	} {
		if !c.same {
			what = append(what, c.name)
		}
	}
	return what
}

func xattrs(h tar.Header) map[string]string {
	attrs := map[string]string{}
	for k, v := range h.PAXRecords {
		if strings.HasPrefix(k, "SCHILY.xattr.") {
			attrs[k] = v
		}
	}
	return attrs
}
