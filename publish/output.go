package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/kedge-build/kedge/store"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// A Type is a form in which an image leaves the store, by docker's name for it.
type Type string

const (
	// OCI is an OCI image layout: a tar of it, or a directory.
	OCI Type = "oci"
	// Docker is a tar of the same with the manifest.json that `docker load` of older Docker Engines needs,
	// or, without a destination, the Engine itself. manifest.json names one image, so that it is missing if
	// there are several platforms: only an Engine with the containerd image store loads that.
	Docker Type = "docker"
	// Image names the image in the store, and may push it.
	Image Type = "image"
	// Local is a folder with the files of the image.
	Local Type = "local"
	// Tar is a tar of them.
	Tar Type = "tar"
	// CacheOnly delivers nothing.
	CacheOnly Type = "cacheonly"
)

// An Output is one place that an image is delivered to.
type Output struct {
	Type     Type
	Dest     string   // a path, or "-" for standard output; none for Image, CacheOnly and an Engine
	Dir      bool     // Dest is a directory
	Names    []string // of the image, if the build has no tags
	Push     bool     // only of an Image
	ByDigest bool     // push it without a tag
	Root     RootOptions
	// DeleteAnywhere lets Root.Delete apply to a folder that is not below the current one.
	DeleteAnywhere bool
}

// files reports whether an output is the files of an image instead of the image.
func (o Output) files() bool { return o.Type == Local || o.Type == Tar }

// ships reports whether an output takes the image away from this machine. Files and the Engine do not.
func (o Output) ships() bool {
	return o.Type == OCI || o.Type == Docker && o.Dest != "" || o.Push
}

// load reports whether an output is loaded into Docker.
func (o Output) load() bool { return o.Type == Docker && o.Dest == "" }

// Place returns o with the destination that its type has by default. The error says why the two do not go
// together.
func (o Output) Place() (Output, error) {
	switch {
	case o.Type == Local:
		o.Dir = true
	case o.Dest == "" && (o.Type == Tar || o.Type == OCI && !o.Dir):
		o.Dest = "-"
	case o.Dest != "" && (o.Type == Image || o.Type == CacheOnly):
		return o, usagef("type=%s has no dest", o.Type)
	}
	if o.Dir && o.Dest == "" {
		return o, usagef("dest=DIR is missing")
	}
	if o.Dir && o.Dest == "-" {
		return o, usagef("a directory cannot go to stdout")
	}
	if o.Dir && o.Type == Docker {
		return o, usagef("tar=false is for type=oci")
	}
	return o, nil
}

// check finds before the build that an output cannot be written.
func (o Output) check() error {
	if o.Dest == "-" || o.Dest == "" {
		return nil
	}
	dir := filepath.Dir(o.Dest)
	if o.Type == Local {
		dir = filepath.Clean(o.Dest)
	}
	if o.Root.Delete && !o.DeleteAnywhere {
		if below, err := belowCurrent(o.Dest); err != nil {
			return fmt.Errorf("writing %q: %w", o.Dest, err)
		} else if !below {
			// In buildx's words.
			return usagef("local output mode=delete for destination %q requires --allow=buildx.local.delete", o.Dest)
		}
	}
	return checkPath(o.Dest, o.Dir, dir)
}

// belowCurrent reports whether a path, which need not exist, is below the current folder. Symbolic links count
// as what they lead to.
func belowCurrent(path string) (bool, error) {
	current, err := filepath.Abs(".")
	if err == nil {
		current, err = filepath.EvalSymlinks(current)
	}
	if err != nil {
		return false, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return false, err
	}
	missing := ""
	for {
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			rel, err := filepath.Rel(current, filepath.Join(real, missing))
			return rel != "." && filepath.IsLocal(rel), err
		}
		if !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return false, err
		}
		if _, err := os.Lstat(path); err == nil {
			return false, nil // a symbolic link that leads nowhere yet
		}
		path, missing = filepath.Dir(path), filepath.Join(filepath.Base(path), missing)
	}
}

// CheckFile returns an error if a file cannot be written to path. It writes nothing.
func CheckFile(path string) error {
	if dir, _ := filepath.Split(path); dir != "" { // not cleaned: it is followed as the kernel does
		if _, err := os.Stat(dir); err != nil {
			return fmt.Errorf("writing %q: %w", path, err)
		}
	}
	return checkPath(path, false, filepath.Dir(path))
}

// checkPath checks the path of a file or directory to write, and the folder that it will be created in.
func checkPath(path string, isDir bool, dir string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("writing %q: %w", path, err)
	case err == nil && info.IsDir() && !isDir:
		return usagef("output %q is a directory", path)
	case err == nil && !info.IsDir() && isDir:
		return usagef("output %q is a file", path)
	case err == nil && !info.IsDir() && !info.Mode().IsRegular(): // it is written to, and not replaced
		if err := unix.Access(path, unix.W_OK); err != nil {
			return fmt.Errorf("writing %q: %w", path, err)
		}
		return nil
	}
	// Missing folders are created.
	for _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir); _, err = os.Stat(dir) {
		dir = filepath.Dir(dir)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return fmt.Errorf("writing %q: directory %q: %w", path, dir, err)
	}
	return nil
}

// Write writes an image to the destination of o, and replaces an existing file. An Image and CacheOnly have no
// destination. Dest "-" means stdout. The error is a *TargetError if the image must stay on this machine.
func (o Output) Write(ctx context.Context, st *store.Store, desc ocispec.Descriptor, names []string, stdout io.Writer) error {
	if o.ships() {
		if err := checkTarget(ctx, st, desc); err != nil {
			return err
		}
	}
	write := func(w io.Writer) error { return writeArchive(ctx, st, w, desc, names, o.Type) }
	switch {
	case o.Type == CacheOnly || o.Type == Image:
		return nil
	case o.Type == Local:
		return writeFolder(ctx, st, o.Dest, desc, o.Root)
	case o.Type == Tar:
		write = func(w io.Writer) error { return writeTar(ctx, st, w, desc, o.Root) }
	case o.Type == OCI && o.Dir:
		return writeLayout(ctx, st, o.Dest, desc, names)
	}
	if o.Dest == "-" {
		_, err := wholefile.Await(ctx, func() (struct{}, error) { return struct{}{}, write(stdout) }) // it may be a pipe
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.Dest), 0o755); err != nil {
		return fmt.Errorf("writing %q: %w", o.Dest, err)
	}
	return WriteFile(ctx, o.Dest, write)
}

// WriteFile replaces the file at path in one step. It writes to a device or a pipe directly, and waits for the
// reader of a pipe until ctx is done.
func WriteFile(ctx context.Context, path string, write func(io.Writer) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing %q: %w", path, err)
		}
	}()
	if Replaceable(path) {
		return wholefile.Write(path, 0o666, write)
	}
	f, stop, err := wholefile.OpenPipe(ctx, path, os.O_WRONLY)
	if err != nil {
		return err
	}
	defer stop()
	return errors.Join(write(f), f.Close())
}

// Replaceable reports whether path is a file or does not exist.
func Replaceable(path string) bool {
	info, err := os.Stat(path)
	return err != nil || info.Mode().IsRegular()
}
