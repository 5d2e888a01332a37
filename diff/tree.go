package diff

import (
	"archive/tar"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kedge-build/kedge/diff/packages"
	"github.com/kedge-build/kedge/internal/layer"
)

// whiteout is the type of a path that a layer removes from the layers below it.
const whiteout = 'w'

// node is a path of a layer, without its content. A hard link shares the node of its target, and layers share
// equal nodes, so no one changes a node.
type node struct {
	*header
	size   int64
	sum    sum   // of the content
	time   int64 // in seconds since 1970
	nanos  int32
	path   name // of the content in source
	target string
}

// header is what many nodes have in common.
type header struct {
	kind         byte // a tar type, or whiteout
	opaque       bool // a directory that hides its content in lower layers
	program      bool // an ELF file that may name packages
	mode         uint16
	uid, gid     int
	major, minor int64
	xattrs       sum         // zero for none
	source       *imageLayer // the layer with the content; nil for a mark
}

// withOpaque returns n with another opaque mark.
func (n *node) withOpaque(opaque bool) *node {
	if n.opaque == opaque {
		return n
	}
	h, marked := *n.header, *n
	h.opaque = opaque
	marked.header = &h
	return &marked
}

// equal reports whether two nodes are the same but for the layers that they are from.
func (n *node) equal(o *node) bool {
	x, y := *n, *o
	g, h := *n.header, *o.header
	x.header, y.header = nil, nil
	g.source, h.source = nil, nil
	return x == y && g == h
}

// A table is what the trees of a comparison share.
type table struct {
	*names
	mu       sync.Mutex
	nodes    tree // the last one of each path
	headers  map[header]*header
	packages map[*node][]packages.Package
}

func newTable() *table {
	return &table{names: newNames(), headers: map[header]*header{}, packages: map[*node][]packages.Package{}}
}

// share returns a node with these values. If packages may be read from the file later, only hard links share its
// node: the node then says which layer to read.
func (t *table) share(n node, found []packages.Package, later bool) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.nodes.get(n.path); old != nil && !later && n.equal(old) {
		return old
	}
	h, ok := t.headers[*n.header]
	if !ok {
		copied := *n.header
		h = &copied
		t.headers[copied] = h
	}
	added := &node{h, n.size, n.sum, n.time, n.nanos, n.path, n.target}
	t.nodes.set(n.path, added)
	if len(found) > 0 {
		t.packages[added] = found
	}
	return added
}

// tree holds the nodes of one or several layers by their names.
type tree struct {
	pages []*[treePage]*node
	size  int
}

const treePage = 64

// get returns the node of a path, or nil.
func (t *tree) get(n name) *node {
	if i := int(n / treePage); i < len(t.pages) && t.pages[i] != nil {
		return t.pages[i][n%treePage]
	}
	return nil
}

// set changes the node of a path. A nil one removes the path.
func (t *tree) set(n name, to *node) {
	i := int(n / treePage)
	if i >= len(t.pages) {
		t.pages = append(t.pages, make([]*[treePage]*node, i+1-len(t.pages))...)
	}
	if t.pages[i] == nil {
		t.pages[i] = new([treePage]*node)
	}
	at := &t.pages[i][n%treePage]
	if *at != nil {
		t.size--
	}
	if to != nil {
		t.size++
	}
	*at = to
}

func (t *tree) all() iter.Seq2[name, *node] {
	return func(yield func(name, *node) bool) {
		for i, page := range t.pages {
			if page == nil {
				continue
			}
			for j, n := range page {
				if n != nil && !yield(name(i*treePage+j), n) {
					return
				}
			}
		}
	}
}

func (t *tree) clone() *tree {
	c := &tree{pages: slices.Clone(t.pages), size: t.size}
	for i, page := range c.pages {
		if page != nil {
			copied := *page
			c.pages[i] = &copied
		}
	}
	return c
}

// union returns the names that one of two trees has at least.
func union(a, b *tree) iter.Seq[name] {
	return func(yield func(name) bool) {
		for n := range a.all() {
			if !yield(n) {
				return
			}
		}
		for n := range b.all() {
			if a.get(n) == nil && !yield(n) {
				return
			}
		}
	}
}

// entryReader reads one layer into a tree.
type entryReader struct {
	layer *imageLayer
	want  map[string]bool
	table *table
	namer namer
	tree  *tree
	notes []string
	buf   []byte
	scan  packages.Scanner

	summer *summer // of the current entry
}

// readTree reads a layer. The notes say which package databases in it are damaged.
func readTree(ctx context.Context, l *imageLayer, want map[string]bool, t *table) (*tree, []string, error) {
	e := &entryReader{
		layer: l, want: want, table: t, namer: namer{names: t.names}, tree: &tree{},
		buf: make([]byte, 128<<10), summer: newSummer(),
	}
	err := l.entries(ctx, t.names, e.entry)
	return e.tree, e.notes, err
}

func (e *entryReader) entry(h *tar.Header, t io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if w, ok := layer.ParseWhiteout(layer.Clean(h.Name)); ok {
		return e.whiteout(w)
	}
	p, err := e.namer.number(h.Name)
	if err != nil {
		return err
	}
	n := node{
		header: &header{
			kind: h.Typeflag, mode: uint16(h.Mode & 0o7777), uid: h.Uid, gid: h.Gid,
			major: h.Devmajor, minor: h.Devminor, xattrs: sumXattrs(h), source: e.layer,
		},
		time: h.ModTime.Unix(), nanos: int32(h.ModTime.Nanosecond()), path: p,
	}
	switch n.kind {
	case tar.TypeSymlink, tar.TypeLink:
		n.target = strings.Clone(h.Linkname)
	case tar.TypeCont, tar.TypeGNUSparse, '\x00':
		n.kind = tar.TypeReg
	}
	if n.kind == tar.TypeLink {
		to, err := e.namer.number(h.Linkname)
		if err != nil {
			return err
		}
		if to := e.tree.get(to); to != nil && to.kind != whiteout {
			e.tree.set(p, to)
			return nil
		}
	}
	if old := e.tree.get(p); old != nil && n.kind == tar.TypeDir {
		n.opaque = old.opaque || old.kind == whiteout
	}
	if n.kind != tar.TypeReg {
		e.tree.set(p, e.table.share(n, nil, false))
		return nil
	}
	n.size = h.Size
	file := layer.Clean(h.Name)
	found, err := e.content(&n, file, t)
	if err != nil {
		return err
	}
	read, _ := packages.ForRandom(file)
	e.tree.set(p, e.table.share(n, found, n.program || read != nil))
	return nil
}

// whiteout marks the path that a whiteout hides in lower layers. The whiteout may come before or after an
// entry of its own layer for that path, which it does not hide.
func (e *entryReader) whiteout(w layer.Whiteout) error {
	p, err := e.namer.number(w.Path)
	if err != nil {
		return err
	}
	n := e.tree.get(p)
	switch {
	case w.Path == "" && !w.Opaque:
	case w.Opaque && (n == nil || n.kind == whiteout):
		e.tree.set(p, &node{header: &header{kind: tar.TypeDir, opaque: true}})
	case n == nil:
		e.tree.set(p, &node{header: &header{kind: whiteout}})
	case w.Opaque || n.kind == tar.TypeDir:
		e.tree.set(p, n.withOpaque(true))
	}
	return nil
}

// content hashes a file and returns the packages that it names.
func (e *entryReader) content(n *node, file string, t io.Reader) (found []packages.Package, err error) {
	r := io.TeeReader(onlyReader{t}, e.summer)
	if read, kind := packages.ForStream(file); read != nil && e.want[kind] {
		found, err = read(r)
		if err != nil && packages.IsDatabase(kind) {
			e.notes = append(e.notes, fmt.Sprintf("the packages of %q could not be read: %v", file, err))
		}
		if _, err := io.CopyBuffer(io.Discard, onlyReader{r}, e.buf); err != nil {
			return nil, err
		}
	} else if e.want["golang"] || e.want["cargo"] {
		e.scan.Reset()
		if err := copyBoth(e.summer, &e.scan, t, e.buf); err != nil {
			return nil, err
		}
		n.program = e.scan.Found()
	} else if _, err := io.CopyBuffer(onlyWriter{e.summer}, onlyReader{t}, e.buf); err != nil {
		return nil, err
	}
	n.sum = e.summer.sum()
	return found, nil
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
// given ones may have such paths, too. The result may be the lowest tree itself.
func (t *table) squash(trees []*tree) *tree {
	if len(trees) == 0 {
		return &tree{}
	}
	if len(trees) == 1 {
		return trees[0]
	}
	result := trees[0].clone()
	for _, upper := range trees[1:] {
		type change struct {
			path name
			to   *node
		}
		var changes []change
		hides := false
		for p, n := range upper.all() {
			hides = hides || n.opaque || n.kind != tar.TypeDir
			changes = append(changes, change{p, over(t.resolve(n, result), result.get(p))})
		}
		if hides {
			for p := range result.all() {
				if t.hidden(upper, p) {
					result.set(p, nil)
				}
			}
		}
		for _, c := range changes {
			result.set(c.path, c.to)
		}
	}
	return result
}

// resolve returns what a hard link to a path of a lower layer leads to, and any other node as it is.
func (t *table) resolve(n *node, lower *tree) *node {
	if n.kind != tar.TypeLink {
		return n
	}
	if to, ok := t.find(n.target); ok {
		if to := lower.get(to); to != nil && to.kind != whiteout {
			return to
		}
	}
	return n
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
	return merged.withOpaque(upper.opaque || lower.opaque || lower.kind != tar.TypeDir)
}

// hidden reports whether an upper layer hides a path of lower layers by one of its parents.
func (t *table) hidden(upper *tree, p name) bool {
	for p != 0 {
		p = t.parent(p)
		if n := upper.get(p); n != nil && (n.opaque || n.kind != tar.TypeDir) {
			return true
		}
	}
	return false
}

// undecided reports whether the layers below decide how two trees differ. They do if only one of the trees
// has a path or a mark, or if a link leads to a path that neither has.
func undecided(a, b *tree) bool {
	if a.size != b.size {
		return true
	}
	for p, x := range a.all() {
		y := b.get(p)
		if y == nil || (x.source == nil) != (y.source == nil) || x.opaque != y.opaque || (x.kind == tar.TypeDir) != (y.kind == tar.TypeDir) ||
			(x.kind == whiteout) != (y.kind == whiteout) ||
			(x.kind == tar.TypeLink || y.kind == tar.TypeLink) && (x.kind != y.kind || x.target != y.target) {
			return true
		}
	}
	return false
}

// files compares two trees. If the trees are single layers, marks count as paths.
func (t *table) files(a, b *tree, marks bool) []File {
	list := []File{}
	for p := range union(a, b) {
		x, y := a.get(p), b.get(p)
		if x == y {
			continue
		}
		if !marks {
			x, y = visible(x), visible(y)
		}
		switch {
		case x == nil && y == nil:
		case p == 0 && (x == nil || y == nil): // every tree has a root, even without an entry
		case x == nil:
			list = append(list, File{Path: Path{Path: t.absolute(p), Change: Added}, Second: y.stat()})
		case y == nil:
			list = append(list, File{Path: Path{Path: t.absolute(p), Change: Removed}, First: x.stat()})
		default:
			if what := x.differences(y, marks); len(what) > 0 {
				list = append(list, File{Path{t.absolute(p), Changed, what}, x.stat(), y.stat()})
			}
		}
	}
	slices.SortFunc(list, func(a, b File) int { return strings.Compare(a.Path.Path, b.Path.Path) })
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
		{"time", n.time == o.time && n.nanos == o.nanos},
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
		Type: kinds[n.kind], Size: n.size, Mode: strconv.FormatUint(uint64(n.mode), 8), UID: n.uid, GID: n.gid,
		Time: time.Unix(n.time, int64(n.nanos)).UTC().Format(time.RFC3339Nano), Target: n.target,
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
