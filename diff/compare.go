package diff

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/kedge-build/kedge/diff/packages"
	"github.com/kedge-build/kedge/internal/layer"
	"golang.org/x/sync/errgroup"
)

// comparison compares two images by their layers.
type comparison struct {
	a, b    *opened
	shared  int // the number of lowest layers that both have
	want    map[string]bool
	tempDir string
	result  *Result

	mu    sync.Mutex
	table *table
	trees map[v1.Hash]*tree // of the layers that have been read, by diffID
}

func (c *comparison) run(ctx context.Context) error {
	c.table, c.trees = newTable(), map[v1.Hash]*tree{}
	if err := c.readUpper(ctx); err != nil {
		return err
	}
	if c.want["layer"] {
		c.compareLayers()
	}
	if !c.want["file"] && !wantsPackages(c.want) {
		return nil
	}
	a, b := c.table.squash(c.upper(c.a)), c.table.squash(c.upper(c.b))
	if c.shared > 0 && undecided(a, b) {
		err := c.read(ctx, c.a.layers[:c.shared])
		switch {
		case ctx.Err() != nil:
			return err
		case err != nil:
			c.note("the shared layers could not be read, and what one image alone has above them counts as new: %v", err)
		default:
			var below []*tree
			for _, l := range c.a.layers[:c.shared] {
				below = append(below, c.trees[l.diffID])
			}
			base := c.table.squash(below)
			a = c.table.squash(append([]*tree{base}, c.upper(c.a)...))
			b = c.table.squash(append([]*tree{base}, c.upper(c.b)...))
		}
	}
	if c.want["file"] {
		c.result.Files = c.table.files(a, b, false)
	}
	if wantsPackages(c.want) {
		return c.comparePackages(ctx, a, b)
	}
	return nil
}

func (c *comparison) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Notes = append(c.result.Notes, fmt.Sprintf(format, args...))
}

// upper returns the trees of the layers above the shared ones.
func (c *comparison) upper(o *opened) []*tree {
	var trees []*tree
	for _, l := range o.layers[c.shared:] {
		trees = append(trees, c.trees[l.diffID])
	}
	return trees
}

// read reads layers, each diffID once, several at the same time.
func (c *comparison) read(ctx context.Context, layers []imageLayer) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(min(max(runtime.GOMAXPROCS(0), 2), 8))
	begun := map[v1.Hash]bool{}
	for i := range layers {
		l := &layers[i]
		if begun[l.diffID] {
			continue
		}
		begun[l.diffID] = true
		group.Go(func() error {
			t, notes, err := readTree(ctx, l, c.want, c.table)
			if err != nil {
				return err
			}
			for _, n := range notes {
				c.note("%s", n)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.trees[l.diffID] = t
			return nil
		})
	}
	return group.Wait()
}

func (c *comparison) compareLayers() {
	at := func(layers []imageLayer, i int) (string, *tree) {
		if i >= len(layers) {
			return "", &tree{}
		}
		return layers[i].diffID.String(), c.trees[layers[i].diffID]
	}
	for i := c.shared; i < max(len(c.a.layers), len(c.b.layers)); i++ {
		old, x := at(c.a.layers, i)
		new, y := at(c.b.layers, i)
		if old != new {
			c.result.Layers = append(c.result.Layers, Layer{Index: i, First: old, Second: new, Files: c.table.files(x, y, true)})
		}
	}
}

// packageID identifies a package, which may have several versions.
type packageID struct{ kind, name string }

// comparePackages compares the packages in the files that differ.
func (c *comparison) comparePackages(ctx context.Context, a, b *tree) error {
	type pair struct{ x, y *node }
	var pairs []pair
	files := map[*imageLayer]map[name][]pending{}
	ask := func(p name, n *node) {
		if n == nil || n.kind != tar.TypeReg {
			return
		}
		later := pending{node: n}
		if read, kind := packages.ForRandom(c.table.absolute(p)[1:]); read != nil && c.want[kind] {
			later.read, later.kind = read, kind
		} else if n.program {
			later.read = packages.Program
		} else {
			return
		}
		if files[n.source] == nil {
			files[n.source] = map[name][]pending{}
		}
		files[n.source][n.path] = append(files[n.source][n.path], later)
	}
	for p := range union(a, b) {
		x, y := visible(a.get(p)), visible(b.get(p))
		if x == nil && y == nil || x != nil && y != nil && x.sameContent(y) {
			continue
		}
		ask(p, x)
		ask(p, y)
		pairs = append(pairs, pair{x, y})
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(2) // each may hold a database in memory
	for l, wanted := range files {
		group.Go(func() error { return c.readPending(gctx, l, wanted) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	old, new := map[packageID][]string{}, map[packageID][]string{}
	for _, p := range pairs {
		c.collect(old, p.x)
		c.collect(new, p.y)
	}
	c.result.Packages = packageChanges(old, new)
	return nil
}

func (c *comparison) collect(into map[packageID][]string, n *node) {
	if n == nil {
		return
	}
	for _, p := range c.table.packages[n] {
		if c.want[p.Kind] {
			id := packageID{p.Kind, p.Name}
			into[id] = append(into[id], p.Version)
		}
	}
}

func packageChanges(old, new map[packageID][]string) []Package {
	list := []Package{}
	versions := func(list []string) string {
		slices.Sort(list)
		return strings.Join(slices.Compact(list), ", ")
	}
	for id, before := range old {
		p := Package{Kind: id.kind, Name: id.name, Change: Changed, First: versions(before)}
		after, ok := new[id]
		if p.Second = versions(after); !ok {
			p.Change = Removed
		}
		if !ok || p.First != p.Second {
			list = append(list, p)
		}
	}
	for id, after := range new {
		if _, ok := old[id]; !ok {
			list = append(list, Package{Kind: id.kind, Name: id.name, Change: Added, Second: versions(after)})
		}
	}
	kinds := packages.Kinds()
	slices.SortFunc(list, func(a, b Package) int {
		if d := slices.Index(kinds, a.Kind) - slices.Index(kinds, b.Kind); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list
}

// pending is a file whose packages need random access. It is read once it is known to differ.
type pending struct {
	node *node
	kind string
	read packages.Random
}

// The limits for pending files, in bytes.
const (
	maxInMemory = 32 << 20
	maxSpooled  = 8 << 30
)

// readPending reads a layer again, for the packages of some files.
func (c *comparison) readPending(ctx context.Context, l *imageLayer, wanted map[name][]pending) error {
	namer := namer{names: c.table.names}
	return l.entries(ctx, c.table.names, func(h *tar.Header, r io.Reader) error {
		p, err := namer.number(h.Name)
		if err != nil {
			return err
		}
		list := wanted[p]
		if len(list) == 0 || list[0].node.size != h.Size {
			return nil
		}
		return c.spooled(r, h.Size, func(r io.ReaderAt) { c.readPackages(h.Name, list, r, h.Size) })
	})
}

func (c *comparison) readPackages(name string, list []pending, r io.ReaderAt, size int64) {
	for _, p := range list {
		found, err := p.read(r, size)
		if err != nil && packages.IsDatabase(p.kind) {
			c.note("the packages of %q could not be read: %v", layer.Clean(name), err)
		}
		c.mu.Lock()
		c.table.packages[p.node] = found
		c.mu.Unlock()
	}
}

// spooled calls fn with the content of r, in memory or in a temporary file.
func (c *comparison) spooled(r io.Reader, size int64, fn func(io.ReaderAt)) (err error) {
	if size > maxSpooled {
		return nil // no package database is that large
	}
	if size <= maxInMemory {
		data := make([]byte, size)
		if _, err := io.ReadFull(r, data); err != nil {
			return err
		}
		fn(bytes.NewReader(data))
		return nil
	}
	f, err := os.CreateTemp(c.tempDir, "kedge-diff-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	fn(f)
	return nil
}
