package publish

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"

	"github.com/kedge-build/kedge/internal/layer"
	"golang.org/x/sys/unix"
)

// A folderWriter writes a rootFS into a folder.
type folderWriter struct {
	ctx   context.Context
	fs    *rootFS
	top   *os.Root
	first map[*inode]string // path of each written file, for hard links
	// beside is the name of a file until it is complete. No image and no other command uses it.
	beside string
	delete bool // what the rootFS does not have
	sweep  bool // what commands that were killed left
}

func (fs *rootFS) writeFolder(ctx context.Context, dir string, remove bool) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	unlock, alone, err := lockDir(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	top, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer top.Close()
	w := &folderWriter{ctx: ctx, fs: fs, top: top, first: map[*inode]string{}, beside: temporary + rand.Text(), delete: remove, sweep: alone}
	return w.children(top, "", fs.root)
}

// children writes the content of the folder at the path parent, which in has open.
func (w *folderWriter) children(in *os.Root, parent string, n *fileNode) error {
	dir, err := in.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, name := range slices.Sorted(maps.Keys(n.Children)) {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		c, full := n.Children[name], path.Join(parent, name)
		if c.Kind == tar.TypeDir {
			err = w.folder(in, dir, name, full, c)
		} else {
			err = w.file(in, dir, name, full, c.File)
		}
		if err != nil {
			return err
		}
	}
	if w.delete || w.sweep {
		return w.removeOthers(in, dir, n)
	}
	return nil
}

// removeOthers removes what the folder dir has and n does not, or only temporary files of other commands.
func (w *folderWriter) removeOthers(in *os.Root, dir *os.File, n *fileNode) error {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if n.Children[name] == nil && (w.delete || isTemporary(name, "")) {
			if err := in.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// folder writes a folder and its content.
func (w *folderWriter) folder(in *os.Root, dir *os.File, name, full string, n *fileNode) error {
	info, err := in.Lstat(name)
	if err == nil && !info.IsDir() {
		err = in.Remove(name)
		info = nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if info == nil {
		if err := in.Mkdir(name, 0o700); err != nil {
			return err
		}
	}
	sub, err := in.OpenRoot(name)
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := w.children(sub, full, n); err != nil {
		return err
	}
	f, err := sub.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	setXattrs(f, n.File.header)
	if err := f.Chmod(n.File.header.FileInfo().Mode()); err != nil {
		return err
	}
	return setTime(dir, name, n.File.header)
}

// file writes anything but a folder under the name beside, and then renames it.
func (w *folderWriter) file(in *os.Root, dir *os.File, name, full string, f *inode) (err error) {
	if first, ok := w.first[f]; ok {
		err = w.link(dir, first)
	} else {
		err = w.make(in, dir, f)
	}
	if err == nil {
		w.first[f] = full
		err = w.place(in, name)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", full, errors.Join(err, in.RemoveAll(w.beside)))
	}
	return nil
}

// place renames the finished file to name, replacing whatever is there.
func (w *folderWriter) place(in *os.Root, name string) error {
	if info, err := in.Lstat(name); err == nil && info.IsDir() {
		if err := in.RemoveAll(name); err != nil {
			return err
		}
	}
	return in.Rename(w.beside, name)
}

// link creates a hard link. It opens the folder of its target from the top, because that may be anywhere.
func (w *folderWriter) link(dir *os.File, target string) error {
	from, err := w.top.Open(path.Dir(target))
	if err != nil {
		return err
	}
	defer from.Close()
	return unix.Linkat(int(from.Fd()), path.Base(target), int(dir.Fd()), w.beside, 0)
}

func (w *folderWriter) make(in *os.Root, dir *os.File, f *inode) error {
	h := f.header
	switch h.Typeflag {
	case tar.TypeSymlink:
		if err := in.Symlink(h.Linkname, w.beside); err != nil {
			return err
		}
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
		number := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
		if err := unix.Mknodat(int(dir.Fd()), w.beside, kind|0o600, int(number)); err != nil {
			return &os.PathError{Op: "mknod", Path: h.FileInfo().Mode().Type().String(), Err: err}
		}
		if err := in.Chmod(w.beside, h.FileInfo().Mode().Perm()); err != nil {
			return err
		}
	default:
		if err := w.regular(in, f); err != nil {
			return err
		}
	}
	return setTime(dir, w.beside, h)
}

func (w *folderWriter) regular(in *os.Root, f *inode) error {
	out, err := in.OpenFile(w.beside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, interruptible(w.ctx, w.fs.content(f)))
	setXattrs(out, f.header)
	if err == nil {
		err = out.Chmod(f.header.FileInfo().Mode())
	}
	return errors.Join(err, out.Close())
}

// setXattrs sets extended attributes and, like BuildKit, ignores errors: a file system may not support an
// attribute, or allow it only for root.
func setXattrs(f *os.File, h *tar.Header) {
	for k, v := range layer.Xattrs(h) {
		_ = unix.Fsetxattr(int(f.Fd()), layer.XattrName(k), []byte(v), 0)
	}
}

// setTime sets the times of the file called name in dir. It does not follow a symbolic link.
func setTime(dir *os.File, name string, h *tar.Header) error {
	t := unix.NsecToTimespec(h.ModTime.UnixNano())
	if err := unix.UtimesNanoAt(int(dir.Fd()), name, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimensat", Path: name, Err: err}
	}
	return nil
}
