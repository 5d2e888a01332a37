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

// RootOptions say which files of an image Local and Tar have. The zero value is all.
type RootOptions struct {
	// Split gives each platform a folder of its own, such as linux_amd64. If it is nil, it does so if there
	// are several platforms.
	Split *bool
	// Source is the folder of the image that is exported. Symbolic links in the image are followed. Empty is
	// the root.
	Source string
	// Delete removes from the folder of a Local what the image does not have.
	Delete bool
}

// A PathError says which path of an image cannot be exported as a file tree, and why.
type PathError = layer.PathError

// writeTar writes the root file system of an image to w as a tar: sorted, folders before their content, with
// the owners, modes and times of the image. The bytes depend on the image and o alone. If it fails, w has part
// of a tar.
func writeTar(ctx context.Context, st *store.Store, w io.Writer, desc ocispec.Descriptor, o RootOptions) error {
	return exportRoot(ctx, st, desc, o, func(fs *rootFS) error { return fs.writeTar(ctx, w) })
}

// writeFolder writes the root file system of an image into dir, which it creates if it is absent. Existing
// files stay unless the image has the same path, or o.Delete is set. Modes and times are those of the image; the owner is the
// user who runs kedge, as with BuildKit. No path or link of the image leads out of dir. Nothing is written
// before all layers are read.
func writeFolder(ctx context.Context, st *store.Store, dir string, desc ocispec.Descriptor, o RootOptions) error {
	return exportRoot(ctx, st, desc, o, func(fs *rootFS) error { return fs.writeFolder(ctx, dir, o.Delete) })
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

// A rootFS is the root file system of an image. The content of its files is in spool.
type rootFS struct {
	root  *fileNode
	spool *os.File
	end   int64 // of spool
}

// A fileNode is a name in a rootFS. Hard links share an inode, which is their File.
type fileNode = layer.Node[*inode]

// An inode is a file, folder or link. Hard links share one.
type inode struct {
	header *tar.Header
	// The content in the spool.
	offset, size int64
}

// newFolder returns a folder that no layer has an entry for, only for its content.
func newFolder(when time.Time) *fileNode {
	h := &tar.Header{Typeflag: tar.TypeDir, Mode: 0o755, ModTime: when}
	return &fileNode{Kind: h.Typeflag, File: &inode{header: h}, Children: map[string]*fileNode{}}
}

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
	// Without a name the file is gone when it is closed, also if kedge is killed. Prune may have removed it already.
	if err := os.Remove(fs.spool.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	split := len(img.Manifests) > 1
	if o.Split != nil {
		split = *o.Split
	}
	for _, m := range img.Manifests {
		files, err := fs.read(ctx, st, m)
		if err != nil {
			return nil, fmt.Errorf("platform %s: %w", platforms.Format(m.Platform), err)
		}
		root, err := files.Follow(o.Source)
		if err == nil && root.Kind != tar.TypeDir {
			err = &PathError{Path: layer.Clean(o.Source), Reason: "it is no folder"}
		}
		if err != nil {
			return nil, err
		}
		if fs.root == nil {
			fs.root = newFolder(m.Created)
		}
		if split {
			top := newFolder(m.Created)
			top.Children = root.Children
			fs.root.Children[strings.ReplaceAll(platforms.Format(m.Platform), "/", "_")] = top
			continue
		}
		if err := merge("", fs.root, root); err != nil {
			return nil, err
		}
	}
	return fs, nil
}

// merge adds the tree o of another platform to n, both at the path dir. Only folders may be in both.
func merge(dir string, n, o *fileNode) error {
	for _, name := range slices.Sorted(maps.Keys(o.Children)) {
		c, have := o.Children[name], n.Children[name]
		switch {
		case have == nil:
			n.Children[name] = c
		case have.Kind == tar.TypeDir && c.Kind == tar.TypeDir:
			if err := merge(path.Join(dir, name), have, c); err != nil {
				return err
			}
		default:
			return &PathError{Path: path.Join(dir, name), Reason: "two platforms have it, and platform-split=false leaves one place for both"}
		}
	}
	return nil
}

// read reads the files of an image for one platform, and copies their content into the spool.
func (fs *rootFS) read(ctx context.Context, st *store.Store, m store.Manifest) (*layer.Overlay[*inode], error) {
	files := &layer.Overlay[*inode]{Implied: func() *inode { return newFolder(m.Created).File }}
	contents := make([]map[int]*inode, len(m.Layers)) // regular files by their position in the layer
	for i, l := range m.Layers {
		var err error
		if contents[i], err = addLayer(ctx, st, files, l); err != nil {
			return nil, err
		}
	}
	visible := map[*inode]bool{}
	for _, n := range files.Root().All() {
		visible[n.File] = true
	}
	for i, l := range m.Layers {
		maps.DeleteFunc(contents[i], func(_ int, f *inode) bool { return !visible[f] || f.header.Size == 0 })
		if err := fs.copy(ctx, st, l, contents[i]); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// addLayer lays a layer over files, and returns its regular files by their position in the layer.
func addLayer(ctx context.Context, st *store.Store, files *layer.Overlay[*inode], l store.Layer) (map[int]*inode, error) {
	contents := map[int]*inode{}
	var added []*inode
	var names []string
	position := 0
	err := st.ReadLayer(ctx, l, func(h *tar.Header, _ io.Reader) error {
		position++
		if h.Typeflag == tar.TypeXGlobalHeader {
			return nil
		}
		name := layer.Clean(h.Name)
		if w, ok := layer.ParseWhiteout(name); ok {
			files.Hide(w) // before anything of its layer is added
			return nil
		}
		f := &inode{header: plainHeader(h)}
		if f.header.Typeflag == tar.TypeReg {
			contents[position] = f
		}
		added, names = append(added, f), append(names, name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, f := range added {
		if err := files.Add(names[i], f.header.Typeflag, f.header.Linkname, f); err != nil {
			return nil, err
		}
	}
	return contents, nil
}

// copy copies the content of those files of a layer that have a position in contents into the spool.
func (fs *rootFS) copy(ctx context.Context, st *store.Store, l store.Layer, contents map[int]*inode) error {
	if len(contents) == 0 {
		return nil
	}
	position := 0
	return st.ReadLayer(ctx, l, func(_ *tar.Header, r io.Reader) error {
		position++
		f := contents[position]
		if f == nil {
			return nil
		}
		n, err := io.Copy(fs.spool, r)
		f.offset, f.size = fs.end, n
		fs.end += n
		return err
	})
}

// plainHeader returns the fields of an entry that are exported.
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

func (fs *rootFS) content(f *inode) io.Reader { return io.NewSectionReader(fs.spool, f.offset, f.size) }

func (fs *rootFS) writeTar(ctx context.Context, w io.Writer) error {
	tw := tar.NewWriter(w)
	first := map[*inode]string{}
	for name, n := range fs.root.All() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h := *n.File.header
		h.Name = name
		if h.Typeflag == tar.TypeDir {
			h.Name += "/"
		} else if target, ok := first[n.File]; ok {
			h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, target, 0, nil
		} else {
			first[n.File] = name
		}
		if err := tw.WriteHeader(&h); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.Copy(tw, interruptible(ctx, fs.content(n.File))); err != nil {
				return err
			}
		}
	}
	return tw.Close()
}
