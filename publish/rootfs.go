package publish

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/store"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// RootOptions are choices for ExportFolder and ExportTar. The zero value exports all of an image.
type RootOptions struct {
	// Split has each platform in a folder of its own, such as linux_amd64. Nil: where there are
	// several platforms.
	Split *bool
	// Source is the folder of the image that is exported; empty for its root. Links within the image
	// are followed.
	Source string
}

// A PathError says what in an image cannot be exported as a file tree.
type PathError struct {
	Path   string // in the image
	Reason string
}

func (e *PathError) Error() string { return fmt.Sprintf("%q: %s", "/"+e.Path, e.Reason) }

// ExportTar writes the root file system of an image to w, its layers on top of each other, as a tar:
// folders before what is in them, sorted, with the owners, modes and times that the image says. The
// bytes depend on the image and o alone. When it fails, what w got is no whole tar.
func ExportTar(ctx context.Context, st *store.Store, w io.Writer, desc ocispec.Descriptor, o RootOptions) error {
	return exportRoot(ctx, st, desc, o, func(fs *rootFS) error { return fs.writeTar(ctx, w) })
}

// ExportFolder writes the root file system of an image into dir, which it makes if it is absent. What
// is there already stays, unless the image has something at the same path. Modes and times are those
// that the image says; the owner is who runs this, as BuildKit has it. No path or link of the image
// leads out of dir. All layers are read before the first file is written.
func ExportFolder(ctx context.Context, st *store.Store, dir string, desc ocispec.Descriptor, o RootOptions) error {
	return exportRoot(ctx, st, desc, o, func(fs *rootFS) error { return fs.writeFolder(ctx, dir) })
}

func exportRoot(ctx context.Context, st *store.Store, desc ocispec.Descriptor, o RootOptions, write func(*rootFS) error) error {
	defer st.Use()()
	fs, err := readRootFS(ctx, st, desc, o)
	if err == nil {
		defer fs.spool.Close()
		err = write(fs)
	} else {
		err = st.Blame(ctx, desc, err)
	}
	if err != nil {
		return fmt.Errorf("export the files of image %s: %w", desc.Digest, err)
	}
	return nil
}

// A rootFS is what the layers of an image result in. The content of its files is in spool.
type rootFS struct {
	root  *fileNode
	spool *os.File
	end   int64 // of spool
}

// A fileNode is a name in a rootFS.
type fileNode struct {
	file     *inode
	children map[string]*fileNode // nil unless it is a folder
}

// An inode is a file, folder or link. Hard links share one.
type inode struct {
	header *tar.Header
	at, n  int64 // the content in the spool
}

// newFolder returns a folder that no layer names, only what is in it.
func newFolder(when time.Time) *fileNode {
	h := &tar.Header{Typeflag: tar.TypeDir, Mode: 0o755, ModTime: when}
	return &fileNode{file: &inode{header: h}, children: map[string]*fileNode{}}
}

func (n *fileNode) is(kind byte) bool { return n.file.header.Typeflag == kind }

// readRootFS reads the layers of an image. The caller must close the spool.
func readRootFS(ctx context.Context, st *store.Store, desc ocispec.Descriptor, o RootOptions) (_ *rootFS, err error) {
	img, err := st.Image(ctx, desc)
	if err != nil {
		return nil, err
	}
	fs := &rootFS{}
	if fs.spool, err = st.TempFile("rootfs-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, fs.spool.Close())
		}
	}()
	// It has no name from here on, so that nothing can leave it behind. Prune may have been there before.
	if err := os.Remove(fs.spool.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	split := len(img.Manifests) > 1
	if o.Split != nil {
		split = *o.Split
	}
	for _, m := range img.Manifests {
		root, err := fs.read(ctx, st, m)
		if err != nil {
			return nil, fmt.Errorf("platform %s: %w", platforms.Format(m.Platform), err)
		}
		if o.Source != "" {
			if root, err = root.folder(o.Source); err != nil {
				return nil, err
			}
		}
		if fs.root == nil {
			fs.root = newFolder(m.Created)
		}
		if split {
			top := newFolder(m.Created)
			top.children = root.children
			fs.root.children[strings.ReplaceAll(platforms.Format(m.Platform), "/", "_")] = top
			continue
		}
		if err := fs.root.merge("", root); err != nil {
			return nil, err
		}
	}
	return fs, nil
}

// merge adds the tree of another platform. Only folders may be in both.
func (n *fileNode) merge(at string, o *fileNode) error {
	for _, name := range slices.Sorted(maps.Keys(o.children)) {
		c, have := o.children[name], n.children[name]
		switch {
		case have == nil:
			n.children[name] = c
		case have.is(tar.TypeDir) && c.is(tar.TypeDir):
			if err := have.merge(path.Join(at, name), c); err != nil {
				return err
			}
		default:
			return &PathError{path.Join(at, name), "two platforms have it, and platform-split=false leaves one place for both"}
		}
	}
	return nil
}

// read puts the layers of an image on top of each other, and then fetches what is to be seen of their
// files.
func (fs *rootFS) read(ctx context.Context, st *store.Store, m store.Manifest) (*fileNode, error) {
	root := newFolder(m.Created)
	wanted := make([]map[int]*inode, len(m.Layers)) // files by their place in the layer
	for i, l := range m.Layers {
		wanted[i] = map[int]*inode{}
		var added []*inode
		var names []string
		at := 0
		err := st.ReadLayer(ctx, l, func(h *tar.Header, _ io.Reader) error {
			at++
			if len(added) == layer.MaxEntries {
				return fmt.Errorf("more than %d entries", layer.MaxEntries)
			}
			if h.Typeflag == tar.TypeXGlobalHeader {
				return nil
			}
			f := &inode{header: plainHeader(h)}
			if f.header.Typeflag == tar.TypeReg {
				wanted[i][at] = f
			}
			added, names = append(added, f), append(names, layer.Clean(h.Name))
			return nil
		})
		if err != nil {
			return nil, err
		}
		// A whiteout hides what lower layers have, wherever it stands in its layer.
		for j := range added {
			if target, below, ok := whiteout(names[j]); ok {
				root.whiteout(target, below)
				added[j] = nil
			}
		}
		for j, f := range added {
			if f == nil {
				continue
			}
			if err := root.put(names[j], f, m.Created); err != nil {
				return nil, err
			}
		}
	}
	seen := map[*inode]bool{}
	root.each("", func(_ string, n *fileNode) error { seen[n.file] = true; return nil }) //nolint:errcheck // has none
	for i, l := range m.Layers {
		maps.DeleteFunc(wanted[i], func(_ int, f *inode) bool { return !seen[f] || f.header.Size == 0 })
		if len(wanted[i]) == 0 {
			continue
		}
		at := 0
		err := st.ReadLayer(ctx, l, func(h *tar.Header, r io.Reader) error {
			at++
			f := wanted[i][at]
			if f == nil {
				return nil
			}
			n, err := io.Copy(fs.spool, r)
			f.at, f.n = fs.end, n
			fs.end += n
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return root, nil
}

// plainHeader returns what is exported of an entry.
func plainHeader(h *tar.Header) *tar.Header {
	p := &tar.Header{
		Typeflag: h.Typeflag, Linkname: h.Linkname, Mode: h.Mode & 0o7777, Uid: h.Uid, Gid: h.Gid,
		ModTime: h.ModTime, Devmajor: h.Devmajor, Devminor: h.Devminor,
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		p.Typeflag, p.Size = tar.TypeReg, h.Size
	case tar.TypeLink:
		p.Linkname = layer.Clean(h.Linkname)
	}
	for k, v := range layer.Xattrs(h) {
		if p.PAXRecords == nil {
			p.PAXRecords = map[string]string{}
		}
		p.PAXRecords[k] = v
	}
	return p
}

// whiteout removes what the layers so far have at a path, or below it.
func (n *fileNode) whiteout(target string, below bool) {
	dir, base := path.Split(target)
	if below {
		if at, err := n.follow(target, nil); err == nil && at.is(tar.TypeDir) {
			at.children = map[string]*fileNode{}
		}
		return
	}
	if at, err := n.follow(strings.TrimSuffix(dir, "/"), nil); err == nil {
		delete(at.children, base)
	}
}

// maxLinks is how many symbolic links may lead to one path, as Linux has it.
const maxLinks = 40

// follow returns what is at a path below n, the root. Symbolic links are followed as a process in the
// image would: none leads out of n. Where something is missing, make, if it is not nil, makes it.
func (n *fileNode) follow(name string, make func() *fileNode) (*fileNode, error) {
	stack, rest, links := []*fileNode{n}, name, 0
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		at := stack[len(stack)-1]
		switch part {
		case "", ".":
			continue
		case "..":
			stack = stack[:max(1, len(stack)-1)]
			continue
		}
		next := at.children[part]
		if next == nil || at.children == nil {
			if make == nil || !at.is(tar.TypeDir) {
				return nil, &PathError{layer.Clean(name), "there is no such folder in the image"}
			}
			next = make()
			at.children[part] = next
		}
		if next.is(tar.TypeSymlink) {
			if links++; links > maxLinks {
				return nil, &PathError{layer.Clean(name), "too many symbolic links"}
			}
			target := next.file.header.Linkname
			if strings.HasPrefix(target, "/") {
				stack = stack[:1]
			}
			if rest = target + "/" + rest; len(rest) > 2*layer.MaxPath {
				return nil, &PathError{layer.Clean(name), "too many symbolic links"}
			}
			continue
		}
		if stack = append(stack, next); len(stack) > layer.MaxPath {
			return nil, &PathError{layer.Clean(name), "too deep"}
		}
	}
	return stack[len(stack)-1], nil
}

// folder returns the folder at a path.
func (n *fileNode) folder(name string) (*fileNode, error) {
	at, err := n.follow(name, nil)
	if err == nil && !at.is(tar.TypeDir) {
		err = &PathError{layer.Clean(name), "it is no folder"}
	}
	return at, err
}

// put places an entry of a layer.
func (n *fileNode) put(name string, f *inode, when time.Time) error {
	if name == "" {
		if f.header.Typeflag == tar.TypeDir {
			n.file = f
		}
		return nil
	}
	dir, base := path.Split(name)
	at, err := n.follow(strings.TrimSuffix(dir, "/"), func() *fileNode { return newFolder(when) })
	if err != nil {
		return err
	}
	if !at.is(tar.TypeDir) {
		return &PathError{name, "it is in what is no folder"}
	}
	if f.header.Typeflag == tar.TypeLink {
		linkDir, linkBase := path.Split(f.header.Linkname)
		from, err := n.follow(strings.TrimSuffix(linkDir, "/"), nil)
		if err != nil || from.children[linkBase] == nil || from.children[linkBase].is(tar.TypeDir) {
			return &PathError{name, fmt.Sprintf("it is a hard link to %q, which is not there", "/"+f.header.Linkname)}
		}
		f = from.children[linkBase].file
	}
	next := &fileNode{file: f}
	if f.header.Typeflag == tar.TypeDir {
		next.children = map[string]*fileNode{}
		if have := at.children[base]; have != nil && have.is(tar.TypeDir) {
			next.children = have.children
		}
	}
	at.children[base] = next
	return nil
}

// each calls fn for all that is below n, sorted, folders before what is in them.
func (n *fileNode) each(at string, fn func(name string, n *fileNode) error) error {
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		c, full := n.children[name], path.Join(at, name)
		if err := fn(full, c); err != nil {
			return err
		}
		if err := c.each(full, fn); err != nil {
			return err
		}
	}
	return nil
}

func (fs *rootFS) content(f *inode) io.Reader { return io.NewSectionReader(fs.spool, f.at, f.n) }

func (fs *rootFS) writeTar(ctx context.Context, w io.Writer) error {
	tw := tar.NewWriter(w)
	first := map[*inode]string{}
	err := fs.root.each("", func(name string, n *fileNode) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h := *n.file.header
		h.Name = name
		if h.Typeflag == tar.TypeDir {
			h.Name += "/"
		} else if target, ok := first[n.file]; ok {
			h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, target, 0, nil
		} else {
			first[n.file] = name
		}
		if err := tw.WriteHeader(&h); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		if h.Typeflag == tar.TypeReg {
			_, err := io.Copy(tw, interruptible(ctx, fs.content(n.file)))
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	return tw.Close()
}

// whiteout returns the path that an entry hides, or the folder whose content it hides.
func whiteout(name string) (target string, below, ok bool) {
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	if base == ".wh..wh..opq" {
		return dir, true, true
	}
	if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
		return path.Join(dir, hidden), false, true
	}
	return "", false, false
}
