package builder

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kedge-build/kedge/builder/gitdir"
	"github.com/kedge-build/kedge/internal/filesum"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
	"golang.org/x/sync/errgroup"
)

// contextTimes chooses the times of the files that are sent from build contexts, so that a build does not
// see when they were checked out. It also records the files that were sent.
//
// Every file gets the epoch. BuildKit's sync skips a file whose size and mtime did not change, so the
// nanoseconds hold 30 bits of the file's SHA-256, and an edit changes them. They do not reach a layer,
// whose times are whole seconds.
//
// The mounts in own keep the times of their files, but no time before the epoch. A file's time is moved by
// up to two milliseconds, to hold 20 bits of its SHA-256.
type contextTimes struct {
	mu    sync.Mutex
	epoch time.Time
	own   map[string]bool     // mounts
	sent  map[string]sentFile // by mount and path
	modes map[string]modes    // by mount
	lost  error               // why the first file that could not be read was not

	sums    *filesum.Cache
	reading sync.WaitGroup // reads ahead
}

// A sentFile is what matters of a path that was sent.
type sentFile struct {
	mode uint32
	link string
	sum  string // SHA-256; empty unless it is a regular file
}

// modes are the modes of files that git tracks, and of their folders.
type modes map[string]os.FileMode

// newModes returns the modes of tracked files. The value of each says whether it is executable.
func newModes(tracked map[string]bool) modes {
	m := modes{}
	for path, executable := range tracked {
		m[path] = 0o644
		if executable {
			m[path] = 0o755
		}
		for dir := filepath.Dir(path); dir != "." && m[dir] == 0; dir = filepath.Dir(dir) {
			m[dir] = os.ModeDir | 0o755
		}
	}
	return m
}

// apply returns git's mode of a path, whose mode in the folder is another. Git's does not apply if the
// path is no longer of the tracked type.
func (m modes) apply(path string, mode os.FileMode) os.FileMode {
	if want, ok := m[path]; ok && want.Type() == mode.Type() {
		return want
	}
	return mode
}

// seconds returns the epoch in seconds since 1970, or 0 if it is not known yet.
func (c *contextTimes) seconds() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch.IsZero() {
		return 0
	}
	return c.epoch.Unix()
}

func (c *contextTimes) setEpoch(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch = t
}

// keep makes the files of a mount keep their own times.
func (c *contextTimes) keep(mount string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own == nil {
		c.own = map[string]bool{}
	}
	c.own[mount] = true
}

// filter returns a filesync.FilterOptFunc for the mounts in roots. It leaves out the paths that leave
// accepts. It reads files ahead until ctx ends; the caller must finish c.
func (c *contextTimes) filter(ctx context.Context, roots map[string]fsutil.FS, leave func(mount, path string) bool) func(string, *fsutil.FilterOpt) error {
	return func(name string, opt *fsutil.FilterOpt) error {
		root, ok := roots[name]
		if !ok {
			return nil
		}
		sum := func(path string) ([]byte, error) { return fileSum(root, path) }
		if dir, ok := root.(folder); ok {
			sum = c.folderSum(ctx, dir, *opt)
		}
		opt.Map = func(path string, st *fstypes.Stat) fsutil.MapResult {
			if leave(name, path) {
				return fsutil.MapResultExclude
			}
			var content []byte
			if os.FileMode(st.Mode).IsRegular() {
				var err error
				if content, err = sum(path); err != nil {
					c.lose(err) // the sync sends an empty file
					return fsutil.MapResultKeep
				}
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			st.Mode = uint32(c.modes[name].apply(path, os.FileMode(st.Mode)))
			c.sent[name+"\x00"+path] = sentFile{st.Mode, st.Linkname, string(content)}
			st.ModTime = c.time(name, st.ModTime, content)
			return fsutil.MapResultKeep
		}
		return nil
	}
}

// An UnreadableError says that a file cannot be read that a build context or a Dockerfile's folder sends.
type UnreadableError struct{ Err error }

func (e *UnreadableError) Error() string { return fmt.Sprintf("reading the build context: %v", e.Err) }

func (e *UnreadableError) Unwrap() error { return e.Err }

func (c *contextTimes) lose(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost == nil {
		c.lost = &UnreadableError{err}
	}
}

// unreadable returns an *UnreadableError if a file that was sent could not be read. BuildKit takes it for an empty one.
func (c *contextTimes) unreadable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// time returns the time to send for a file in a mount. own is its time on disk. Both are in nanoseconds.
// sum is nil unless it is a regular file.
func (c *contextTimes) time(mount string, own int64, sum []byte) int64 {
	t, room := int64(0), time.Second
	if !c.epoch.IsZero() {
		t = c.epoch.Unix() * int64(time.Second)
	}
	if c.own[mount] && own > t {
		t, room = own, time.Millisecond
	}
	if sum == nil {
		return t
	}
	if below := t % int64(room); below > 0 {
		t += int64(room) - below
	}
	return t + int64(binary.BigEndian.Uint32(sum))%int64(room)
}

// folder is a folder of this machine.
type folder struct {
	fsutil.FS
	dir string     // without symlinks
	git *gitdir.FS // FS, if .git folders have one form; otherwise nil
}

func newFolder(dir string) (folder, error) {
	fs, err := fsutil.NewFS(dir)
	if err != nil {
		return folder{}, err
	}
	dir, err = filepath.EvalSymlinks(dir)
	return folder{FS: fs, dir: dir}, err
}

// withPlainGit returns f with .git folders in one form.
func (f folder) withPlainGit(keepModes bool, epoch func() int64) folder {
	f.git = gitdir.New(f.FS, gitdir.Options{KeepModes: keepModes, Epoch: epoch})
	f.FS = f.git
	return f
}

// written returns the sum of a file that is sent otherwise than it is in the folder.
func (f folder) written(path string) (sum [sha256.Size]byte, ok bool) {
	if f.git == nil {
		return sum, false
	}
	content, ok := f.git.Content(path)
	return sha256.Sum256(content), ok
}

// manyReads is how many files a sync reads by itself before it reads ahead. If few changed, another walk
// takes longer than reading them.
const manyReads = 16

// folderSum returns a function that returns the sums of files in dir, for one sync. If many are not known,
// it reads ahead those that opt selects.
func (c *contextTimes) folderSum(ctx context.Context, dir folder, opt fsutil.FilterOpt) func(path string) ([]byte, error) {
	reads := 0
	return func(path string) ([]byte, error) {
		if sum, ok := dir.written(path); ok {
			return sum[:], nil
		}
		path = filepath.Join(dir.dir, path)
		if sum, ok := c.sums.Known(path); ok {
			return sum[:], nil
		}
		if reads++; reads == manyReads {
			c.reading.Go(func() { c.readAhead(ctx, dir, opt) })
		}
		sum, err := c.sums.Sum(path)
		return sum[:], err
	}
}

// readAhead computes the sums of the files that a sync will send, several at once. The sync itself reports
// files that cannot be read.
func (c *contextTimes) readAhead(ctx context.Context, dir folder, opt fsutil.FilterOpt) {
	opt.Map = nil
	files, err := fsutil.NewFilterFS(dir, &opt)
	if err != nil {
		return
	}
	var group errgroup.Group
	group.SetLimit(runtime.NumCPU())
	_ = files.Walk(ctx, "", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			group.Go(func() error {
				if ctx.Err() == nil {
					_, _ = c.sums.Sum(filepath.Join(dir.dir, path))
				}
				return nil
			})
		}
		return nil
	})
	_ = group.Wait()
}

// finish ends the reading ahead by a call of stop, and saves the sums. Without them, the next build only
// takes longer.
func (c *contextTimes) finish(stop func()) {
	stop()
	c.reading.Wait()
	_ = c.sums.Save()
}

func fileSum(root fsutil.FS, path string) ([]byte, error) {
	f, err := root.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// changed returns a path that differs between the files sent to two builds, if there is one.
func changed(first, second map[string]sentFile) (string, bool) {
	for _, key := range slices.Sorted(maps.Keys(first)) {
		if first[key] != second[key] {
			return withoutMount(key), true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(second)) {
		if _, ok := first[key]; !ok {
			return withoutMount(key), true
		}
	}
	return "", false
}

// sentFrom returns the paths that were sent from a mount, sorted.
func sentFrom(sent map[string]sentFile, mount string) []string {
	var paths []string
	for key := range sent {
		if path, ok := strings.CutPrefix(key, mount+"\x00"); ok {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

func withoutMount(key string) string {
	_, path, _ := strings.Cut(key, "\x00")
	return path
}

// ChangedContextError says that a file of the build context, or the Dockerfile, changed between the two
// builds of a verification, or before each node of one build had it.
type ChangedContextError struct {
	Path  string
	Nodes bool
}

func (e *ChangedContextError) Error() string {
	if e.Nodes {
		return fmt.Sprintf("%q changed before each node had it: their platforms are no single build", e.Path)
	}
	return fmt.Sprintf("%q changed between the two builds: they cannot be compared", e.Path)
}
