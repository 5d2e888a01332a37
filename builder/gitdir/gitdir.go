// Package gitdir writes the .git folders of a build context in one form, so that two clones of a commit are the
// same context.
//
//	files := gitdir.New(folder, options)   // an fsutil.FS
//	files.Walk(ctx, "", fn)                // as folder's, but for .git folders
//
// A .git folder counts if its content is that of a repository: HEAD, objects and refs. The repositories of
// submodules, in .git/modules, have the same form. Objects, configuration, hooks, stashes and everything
// that git does not make by itself stay. See https://git-scm.com/docs/gitrepository-layout.
package gitdir

import (
	"bytes"
	"context"
	"errors"
	"io"
	gofs "io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// Options are choices for New.
type Options struct {
	// KeepModes leaves modes as they are.
	KeepModes bool
	// Epoch returns the time of new entries in logs, in seconds since 1970.
	Epoch func() int64
}

// FS is a folder whose .git folders have one form.
type FS struct {
	fsutil.FS
	options Options
	left    atomic.Pointer[string] // why .git folders stay as they are

	mu    sync.Mutex
	repos map[string]*repo // by the path of the .git folder
}

// A Repo is a .git folder that FS has walked through.
type Repo struct {
	Path string // of the .git folder, with slashes
	// Own lists what only this clone has, or another one may have in another form, in words for the user.
	Own []string
	// Credentials lists settings of the configuration that hold a password or a token.
	Credentials []string
}

// New returns files with .git folders in one form.
func New(files fsutil.FS, o Options) *FS {
	return &FS{FS: files, options: o, repos: map[string]*repo{}}
}

// Leave makes f leave .git folders as they are from now on. why says it to the user, as Own does.
func (f *FS) Leave(why string) { f.left.Store(&why) }

// Repos returns the .git folders that f has walked through, sorted by path.
func (f *FS) Repos() []Repo {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Repo
	for _, name := range slices.Sorted(maps.Keys(f.repos)) {
		r := f.repos[name]
		all = append(all, Repo{name, r.own, r.credentials})
	}
	return all
}

// Content returns the content of a file if f has written it, and it is not that of the folder.
func (f *FS) Content(name string) ([]byte, bool) {
	name = filepath.ToSlash(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	for dir, r := range f.repos {
		if strings.HasPrefix(name, dir+"/") {
			content, ok := r.content[name]
			return content, ok
		}
	}
	return nil, false
}

// Open implements fsutil.FS.
func (f *FS) Open(name string) (io.ReadCloser, error) {
	if content, ok := f.Content(name); ok {
		return io.NopCloser(bytes.NewReader(content)), nil
	}
	return f.FS.Open(name)
}

// Walk implements fsutil.FS. A walk that begins inside a .git folder shows it as it is.
func (f *FS) Walk(ctx context.Context, target string, fn gofs.WalkDirFunc) error {
	return f.FS.Walk(ctx, target, func(name string, e gofs.DirEntry, err error) error {
		if err != nil || e == nil || !e.IsDir() || filepath.Base(name) != ".git" {
			return fn(name, e, err)
		}
		top := &folder{DirEntry: e, read: sync.OnceValues(func() (*repo, error) { return f.read(ctx, name) }), name: name}
		if err := fn(name, top, nil); err != nil { // it may be left out, and then nothing is read
			return err
		}
		r, err := top.read()
		if r == nil || err != nil {
			return err
		}
		if err := r.walk(filepath.ToSlash(name), fn); err != nil {
			return err
		}
		return filepath.SkipDir
	})
}

// folder is the entry of a folder that may be a repository.
type folder struct {
	gofs.DirEntry
	name string
	read func() (*repo, error)
}

// Info implements fs.DirEntry.
func (e *folder) Info() (gofs.FileInfo, error) {
	r, err := e.read()
	if err != nil {
		return nil, err
	}
	if r == nil {
		return e.DirEntry.Info()
	}
	return &fsutil.StatInfo{Stat: r.entries[filepath.ToSlash(e.name)].Clone()}, nil
}

// maxRead bounds the bytes of a file that is read as a whole, and maxEntries the files of a .git folder.
const (
	maxRead    = 256 << 20
	maxEntries = 2_000_000
)

// read returns the .git folder with a path in its one form, or nil if it is no repository.
func (f *FS) read(ctx context.Context, dir string) (*repo, error) {
	r := &repo{entries: map[string]*fstypes.Stat{}, content: map[string][]byte{}, open: f.FS.Open, options: f.options}
	err := f.FS.Walk(ctx, dir, func(name string, e gofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*fstypes.Stat)
		if !ok || len(r.entries) >= maxEntries {
			return errSkip
		}
		if os.FileMode(st.Mode).IsRegular() && st.Linkname != "" {
			if st, err = f.unlinked(ctx, name); err != nil {
				return err
			}
		}
		r.entries[filepath.ToSlash(name)] = st
		return nil
	})
	name := filepath.ToSlash(dir)
	left := f.left.Load()
	switch {
	case errors.Is(err, errSkip), err == nil && !r.isRepo(name):
		return nil, nil
	case err != nil:
		return nil, err
	case left != nil:
		r.config(name)
		r.add("%s", *left)
	default:
		r.form(name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.repos[name] = r
	return r, nil
}

// unlinked returns a file that has another name in the same folder as a file of its own.
func (f *FS) unlinked(ctx context.Context, name string) (st *fstypes.Stat, err error) {
	err = f.FS.Walk(ctx, name, func(_ string, e gofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			st, _ = info.Sys().(*fstypes.Stat)
		}
		return err
	})
	if err == nil && st == nil {
		err = os.ErrNotExist
	}
	return st, err
}

var errSkip = errors.New("not a folder to change")

// walk calls fn for everything below the .git folder, in the order of a walk.
func (r *repo) walk(dir string, fn gofs.WalkDirFunc) error {
	names := slices.SortedFunc(maps.Keys(r.entries), func(a, b string) int { return strings.Compare(order(a), order(b)) })
	skipped := ""
	for _, name := range names {
		if name == dir || skipped != "" && strings.HasPrefix(name, skipped) {
			continue
		}
		st := r.entries[name].Clone()
		switch err := fn(filepath.FromSlash(name), &fsutil.DirEntryInfo{Stat: st}, nil); {
		case errors.Is(err, filepath.SkipDir) && os.FileMode(st.Mode).IsDir():
			skipped = name + "/"
		case errors.Is(err, filepath.SkipDir):
			skipped = path.Dir(name) + "/"
		case err != nil:
			return err
		}
	}
	return nil
}

// order returns what a path is sorted by: folder by folder.
func order(name string) string { return strings.ReplaceAll(name, "/", "\x00") }
