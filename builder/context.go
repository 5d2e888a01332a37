package builder

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// contextTimes gives the files of a build context times that follow from their content, so that the
// time of a checkout reaches no build, and remembers what was sent.
//
// All get the epoch. BuildKit's sync takes a file for unchanged when its size and mtime are, so that
// a file's nanoseconds carry 30 bits of its sha256: an edit moves them. A layer's times are whole
// seconds, so that they end there.
//
// The mounts in own are sent with their own times, which are not before the epoch either. A file's is
// up to two milliseconds later, with 20 bits of its sha256 below the first one.
type contextTimes struct {
	mu    sync.Mutex
	epoch time.Time
	own   map[string]bool
	sent  map[string]string // what was sent of each path, by mount and path
	modes map[string]modes  // by mount
}

// modes are those that git records, of files and of the folders they are in.
type modes map[string]os.FileMode

// newModes returns the modes of tracked files, and whether each is executable.
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

// of returns the mode of a path that has another in the folder of the context. git records none for
// what is there in place of a file that it tracks.
func (m modes) of(path string, mode os.FileMode) os.FileMode {
	if want, ok := m[path]; ok && want.Type() == mode.Type() {
		return want
	}
	return mode
}

func (c *contextTimes) setEpoch(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch = t
}

// keep has the files of a mount sent with their own times.
func (c *contextTimes) keep(mount string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own == nil {
		c.own = map[string]bool{}
	}
	c.own[mount] = true
}

// filter is a filesync.FilterOptFunc for the mounts in roots. Paths for which leave is true are left
// out.
func (c *contextTimes) filter(roots map[string]fsutil.FS, leave func(mount, path string) bool) func(string, *fsutil.FilterOpt) error {
	return func(name string, opt *fsutil.FilterOpt) error {
		root, ok := roots[name]
		if !ok {
			return nil
		}
		opt.Map = func(path string, st *fstypes.Stat) fsutil.MapResult {
			if leave(name, path) {
				return fsutil.MapResultExclude
			}
			var sum []byte
			if os.FileMode(st.Mode).IsRegular() {
				var err error
				if sum, err = fileSum(root, path); err != nil {
					// Sending it will fail with the same error, and say so.
					return fsutil.MapResultKeep
				}
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			st.Mode = uint32(c.modes[name].of(path, os.FileMode(st.Mode)))
			c.sent[name+"\x00"+path] = fmt.Sprintf("%o %q %x", st.Mode, st.Linkname, sum)
			st.ModTime = c.of(name, st.ModTime, sum)
			return fsutil.MapResultKeep
		}
		return nil
	}
}

// of returns the time of a file in a mount that has the time own, all in nanoseconds. What is no file
// has no sum.
func (c *contextTimes) of(mount string, own int64, sum []byte) int64 {
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

// changed returns a path of which the two builds were sent something else, or nothing.
func changed(first, second map[string]string) (string, bool) {
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
func sentFrom(sent map[string]string, mount string) []string {
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

// ChangedContextError says that a file of the build context, or the Dockerfile, changed between two
// builds that are to be compared.
type ChangedContextError struct{ Path string }

func (e *ChangedContextError) Error() string {
	return fmt.Sprintf("%q changed between the two builds: they cannot be compared", e.Path)
}
