package builder

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// contextTimes gives the files of a build context times that follow from their content, so that the
// time of a checkout reaches no build.
//
// All get the epoch. BuildKit's sync takes a file for unchanged when its size and mtime are, so that
// a file's nanoseconds carry 30 bits of its sha256: an edit moves them. A layer's times are whole
// seconds, so that they end there.
type contextTimes struct {
	mu    sync.Mutex
	epoch time.Time
	seen  map[string]uint32 // by context and path
	moved []string          // files that changed since an earlier walk
}

func (c *contextTimes) setEpoch(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch = t
}

// filter is a filesync.FilterOptFunc for the local directories in roots.
func (c *contextTimes) filter(roots map[string]fsutil.FS) func(string, *fsutil.FilterOpt) error {
	return func(name string, opt *fsutil.FilterOpt) error {
		root, ok := roots[name]
		if !ok {
			return nil
		}
		opt.Map = func(path string, st *fstypes.Stat) fsutil.MapResult {
			nanos := uint32(0)
			if os.FileMode(st.Mode).IsRegular() {
				sum, err := fileSum(root, path)
				if err != nil {
					// Sending it will fail with the same error, and say so.
					return fsutil.MapResultKeep
				}
				nanos = sum % uint32(time.Second)
				c.note(name+"\x00"+path, path, nanos)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			st.ModTime = c.epoch.Unix()*int64(time.Second) + int64(nanos)
			return fsutil.MapResultKeep
		}
		return nil
	}
}

func (c *contextTimes) note(key, path string, nanos uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.seen[key]; ok && old != nanos {
		c.moved = append(c.moved, path)
	}
	c.seen[key] = nanos
}

func fileSum(root fsutil.FS, path string) (uint32, error) {
	f, err := root.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(h.Sum(nil)), nil
}

// ChangedContextError says that a file of the build context changed between two builds that are to
// be compared.
type ChangedContextError struct{ Path string }

func (e *ChangedContextError) Error() string {
	return fmt.Sprintf("%q in the build context changed while it was built", e.Path)
}
