package diff

import (
	"archive/tar"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/kedge-build/kedge/diff/packages"
	"github.com/kedge-build/kedge/internal/layer"
)

// whiteout is the type of a path that a layer removes from the layers below it.
const whiteout = 'w'

// node is a path of a layer, without its content. A hard link shares the node of its target.
type node struct {
	kind         byte // a tar type, or whiteout
	opaque       bool // a directory that hides its content in lower layers
	program      bool // an ELF file that may name packages
	mode         int64
	uid, gid     int
	size         int64
	time         time.Time
	target       string
	major, minor int64
	sum          sum // of the content
	xattrs       sum // zero for none
	packages     []packages.Package
	source       *imageLayer // the layer with the content
	path         string      // the path of the content in source
}

// tree holds the paths of one or several layers, without a leading slash. The root is ".".
type tree map[string]*node

// entryReader reads one layer into a tree.
type entryReader struct {
	layer *imageLayer
	want  map[string]bool
	tree  tree
	notes []string
	buf   []byte
	scan  packages.Scanner

	summer *summer // of the current entry
}

// readTree reads a layer. The notes say which package databases in it are damaged.
func readTree(ctx context.Context, l *imageLayer, want map[string]bool) (tree, []string, error) {
	e := &entryReader{layer: l, want: want, tree: tree{}, buf: make([]byte, 128<<10), summer: newSummer()}
	err := l.entries(ctx, e.entry)
	return e.tree, e.notes, err
}

// clean returns a path in the form of a tree's keys.
func clean(name string) string {
	p := path.Clean("/" + name)[1:]
	if p == "" {
		return "."
	}
	return p
}

func (e *entryReader) entry(h *tar.Header, t io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := strings.Clone(clean(h.Name))
	if w, ok := layer.ParseWhiteout(layer.Clean(h.Name)); ok {
		e.whiteout(w)
		return nil
	}
	if h.Typeflag == tar.TypeLink {
		if n := e.tree[clean(h.Linkname)]; n != nil && n.kind != whiteout {
			e.tree[name] = n
			return nil
		}
	}
	n := &node{
		kind: h.Typeflag, mode: h.Mode & 0o7777, uid: h.Uid, gid: h.Gid, time: h.ModTime,
		major: h.Devmajor, minor: h.Devminor, xattrs: sumXattrs(h), source: e.layer, path: name,
	}
	switch n.kind {
	case tar.TypeSymlink, tar.TypeLink:
		n.target = strings.Clone(h.Linkname)
	case tar.TypeCont, tar.TypeGNUSparse, '\x00':
		n.kind = tar.TypeReg
	}
	if n.kind == tar.TypeReg {
		n.size = h.Size
		if err := e.content(n, t); err != nil {
			return err
		}
	}
	if old := e.tree[name]; old != nil && n.kind == tar.TypeDir {
		n.opaque = old.opaque || old.kind == whiteout
	}
	e.tree[name] = n
	return nil
}

// whiteout marks the path that a whiteout hides in lower layers. The whiteout may come before or after an
// entry of its own layer for that path, which it does not hide.
func (e *entryReader) whiteout(w layer.Whiteout) {
	name := clean(w.Path)
	n := e.tree[name]
	switch {
	case w.Path == "" && !w.Opaque:
	case w.Opaque && (n == nil || n.kind == whiteout):
		e.tree[name] = &node{kind: tar.TypeDir, opaque: true}
	case n == nil:
		e.tree[name] = &node{kind: whiteout}
	case w.Opaque || n.kind == tar.TypeDir:
		n.opaque = true
	}
}

// content hashes a file and collects the packages that it names.
func (e *entryReader) content(n *node, t io.Reader) error {
	r := io.TeeReader(onlyReader{t}, e.summer)
	if read, kind := packages.ForStream(n.path); read != nil && e.want[kind] {
		var err error
		n.packages, err = read(r)
		if err != nil && packages.IsDatabase(kind) {
			e.notes = append(e.notes, fmt.Sprintf("the packages of %q could not be read: %v", n.path, err))
		}
		if _, err := io.CopyBuffer(io.Discard, onlyReader{r}, e.buf); err != nil {
			return err
		}
	} else if e.want["go"] || e.want["cargo"] {
		e.scan.Reset()
		if err := copyBoth(e.summer, &e.scan, t, e.buf); err != nil {
			return err
		}
		n.program = e.scan.Found()
	} else if _, err := io.CopyBuffer(onlyWriter{e.summer}, onlyReader{t}, e.buf); err != nil {
		return err
	}
	n.sum = e.summer.sum()
	return nil
}

func copyBoth(a, b io.Writer, r io.Reader, buf []byte) error {
	for {
		n, err := r.Read(buf)
		// Neither a hash nor a Scanner fails.
		_, _ = a.Write(buf[:n])
		_, _ = b.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// onlyReader and onlyWriter hide other methods, so that io.CopyBuffer uses its buffer.
type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }

// sumXattrs returns a hash of all extended attributes, zero for none.
func sumXattrs(h *tar.Header) (all sum) {
	if len(h.PAXRecords) == 0 {
		return all
	}
	var b []byte
	for k, v := range layer.Xattrs(h) {
		b = binary.AppendUvarint(b, uint64(len(k)))
		b = append(b, k...)
		b = binary.AppendUvarint(b, uint64(len(v)))
		b = append(b, v...)
	}
	if len(b) == 0 {
		return all
	}
	s := newSummer()
	_, _ = s.Write(b)
	return s.sum()
}

// squash lays trees over each other, the lowest first. Whiteouts, opaque directories, and files that
// replace a directory hide paths of lower trees. Their marks stay in the result, because layers below the
// given ones may have such paths, too.
func squash(trees []tree) tree {
	if len(trees) == 0 {
		return tree{}
	}
	result := maps.Clone(trees[0])
	for _, upper := range trees[1:] {
		lower := result
		result = make(tree, len(lower)+len(upper))
		hides := false
		for _, n := range upper {
			hides = hides || n.opaque || n.kind != tar.TypeDir
		}
		for name, n := range lower {
			if !hides || !hidden(upper, name) {
				result[name] = n
			}
		}
		for name, n := range upper {
			if n.kind == tar.TypeLink { // its target is in a lower layer
				if to := lower[clean(n.target)]; to != nil && to.kind != whiteout {
					n = to
				}
			}
			result[name] = over(n, lower[name])
		}
	}
	return result
}

// over merges a path that both an upper and a lower layer have.
func over(upper, lower *node) *node {
	if lower == nil || upper.kind != tar.TypeDir {
		return upper
	}
	// An opaque mark does not describe the directory itself. Paths that the lower layer hides stay hidden.
	merged := upper
	if upper.source == nil && lower.kind == tar.TypeDir {
		merged = lower
	}
	if opaque := upper.opaque || lower.opaque || lower.kind != tar.TypeDir; opaque != merged.opaque {
		copied := *merged
		copied.opaque = opaque
		merged = &copied
	}
	return merged
}

// hidden reports whether an upper layer hides a path of lower layers by one of its parents.
func hidden(upper tree, name string) bool {
	for dir := name; dir != "."; {
		dir = parent(dir)
		if n := upper[dir]; n != nil && (n.opaque || n.kind != tar.TypeDir) {
			return true
		}
	}
	return false
}

// parent is path.Dir for a clean path.
func parent(name string) string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i]
	}
	return "."
}

// undecided reports whether the layers below decide how two trees differ. They do if only one of the trees
// has a path or a mark, or if a link leads to a path that neither has.
func undecided(a, b tree) bool {
	if len(a) != len(b) {
		return true
	}
	for name, x := range a {
		y := b[name]
		if y == nil || (x.source == nil) != (y.source == nil) || x.opaque != y.opaque || (x.kind == tar.TypeDir) != (y.kind == tar.TypeDir) ||
			(x.kind == whiteout) != (y.kind == whiteout) ||
			(x.kind == tar.TypeLink || y.kind == tar.TypeLink) && (x.kind != y.kind || x.target != y.target) {
			return true
		}
	}
	return false
}

// files compares two trees. If the trees are single layers, marks count as paths.
func files(a, b tree, marks bool) []File {
	list := []File{}
	for _, name := range unionKeys(a, b) {
		x, y := a[name], b[name]
		if x == y {
			continue
		}
		if !marks {
			x, y = visible(x), visible(y)
		}
		switch {
		case x == nil && y == nil:
		case name == "." && (x == nil || y == nil): // every tree has a root, even without an entry
		case x == nil:
			list = append(list, File{Path: Path{Path: rooted(name), Change: Added}, Second: y.stat()})
		case y == nil:
			list = append(list, File{Path: Path{Path: rooted(name), Change: Removed}, First: x.stat()})
		default:
			if what := x.differences(y, marks); len(what) > 0 {
				list = append(list, File{Path{rooted(name), Changed, what}, x.stat(), y.stat()})
			}
		}
	}
	return list
}

// visible returns nil for a node that is only a mark: a whiteout, or an opaque mark of a directory that
// the layer does not have.
func visible(n *node) *node {
	if n == nil || n.kind == whiteout || n.source == nil {
		return nil
	}
	return n
}

func (n *node) differences(o *node, marks bool) []string {
	var what []string
	for _, c := range []struct {
		name string
		same bool
	}{
		{"type", n.kind == o.kind},
		{"content", n.kind != o.kind || n.size == o.size && n.sum == o.sum},
		{"mode", n.mode == o.mode},
		{"owner", n.uid == o.uid && n.gid == o.gid},
		{"time", n.time.Equal(o.time)},
		{"target", n.target == o.target},
		{"device", n.major == o.major && n.minor == o.minor},
		{"xattrs", n.xattrs == o.xattrs},
		{"opaque", !marks || n.opaque == o.opaque},
	} {
		if !c.same {
			what = append(what, c.name)
		}
	}
	return what
}

var kinds = map[byte]string{
	tar.TypeReg: "file", tar.TypeDir: "directory", tar.TypeSymlink: "symlink", tar.TypeChar: "char",
	tar.TypeBlock: "block", tar.TypeFifo: "fifo", tar.TypeLink: "hardlink", whiteout: "whiteout",
}

func (n *node) stat() *Stat {
	s := &Stat{
		Type: kinds[n.kind], Size: n.size, Mode: strconv.FormatInt(n.mode, 8), UID: n.uid, GID: n.gid,
		Time: n.time.UTC().Format(time.RFC3339Nano), Target: n.target,
	}
	if s.Type == "" {
		s.Type = strconv.QuoteRune(rune(n.kind))
	}
	if n.kind == tar.TypeChar || n.kind == tar.TypeBlock {
		s.Device = fmt.Sprintf("%d:%d", n.major, n.minor)
	}
	return s
}

// sameContent reports whether two nodes have the same content.
func (n *node) sameContent(o *node) bool {
	return n.kind == o.kind && n.size == o.size && n.sum == o.sum
}
