// Package filesum computes the SHA-256 of files and remembers it, so that a file that did not change is
// read once. It knows a file by device, inode, size, mtime and ctime, as git's index does. An edit
// changes the ctime even if it keeps the size and sets the mtime back: no call sets a ctime.
//
//	c := filesum.Open(path, time.Now)
//	sum, err := c.Sum("/src/main.c")
//	…
//	err = c.Save()
//
// The sum of a file is not remembered beyond one Cache if its ctime could stay the same in an edit:
//   - if a time of the file is less than two seconds before it was read, or later. File systems and clocks
//     have ticks, and two changes in one tick have one time. git calls such a file racy.
//   - if its ctime is a whole second. So are all times in file systems without finer ones, and in images
//     such as squashfs, in which they are made up.
//
// A program that writes to mapped memory changes the ctime only with its first write to a page after the
// kernel has saved it. Such an edit is seen with the next one, as by git.
package filesum

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/sys/unix"
)

// Sum is the SHA-256 of a file.
type Sum = [sha256.Size]byte

// key identifies the content of a file: device, inode, size, mtime and ctime, in big endian.
type key [40]byte

// record is a key, its sum, and the day of its last use, in days since 1970.
type record [len(key{}) + sha256.Size + 4]byte

func newRecord(k key, s Sum, day uint32) (r record) {
	copy(r[:], k[:])
	copy(r[len(k):], s[:])
	binary.BigEndian.PutUint32(r[len(r)-4:], day)
	return r
}

func (r *record) key() key    { return key(r[:len(key{})]) }
func (r *record) sum() Sum    { return Sum(r[len(key{}) : len(r)-4]) }
func (r *record) day() uint32 { return binary.BigEndian.Uint32(r[len(r)-4:]) }

const (
	maxRecords = 256 << 10
	// What is worth writing the file for. Reading less again takes no longer than writing.
	worthBytes, worthFiles = 4 << 20, 256
	// guard is how long before it is read a file must have changed last, for its sum to be saved.
	guard = 2 * time.Second
)

// Cache computes sums and remembers them. It is safe for concurrent use.
type Cache struct {
	path  string
	now   func() time.Time
	saved table
	reads singleflight.Group

	mu    sync.Mutex
	known map[key]Sum    // by this Cache
	added map[key]record // to save
	fresh int64          // bytes that records lacked and that added has
	stale bool           // a record was used for the first time on this day
}

// Open returns a Cache that knows the sums in the file at path. It knows none that are damaged, and none if the file
// does not exist, and it saves none if path is empty. now is the clock that times files.
func Open(path string, now func() time.Time) *Cache {
	return &Cache{path: path, now: now, saved: table{path: path}, known: map[key]Sum{}, added: map[key]record{}}
}

// Sum returns the SHA-256 of the regular file at path. It does not follow a symlink.
func (c *Cache) Sum(path string) (Sum, error) {
	if s, ok := c.Known(path); ok {
		return s, nil
	}
	s, err, _ := c.reads.Do(path, func() (any, error) { return c.read(path) })
	if err != nil {
		return Sum{}, err
	}
	return s.(Sum), nil
}

// Known returns the SHA-256 of the file at path, if it is known without reading the file.
func (c *Cache) Known(path string) (Sum, bool) {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return Sum{}, false
	}
	return c.find(keyOf(&st))
}

func keyOf(st *unix.Stat_t) (k key) {
	for i, v := range []uint64{
		uint64(st.Dev), st.Ino, uint64(st.Size), uint64(st.Mtim.Nano()), uint64(st.Ctim.Nano()),
	} {
		binary.BigEndian.PutUint64(k[8*i:], v)
	}
	return k
}

func (c *Cache) find(k key) (Sum, bool) {
	if r, ok := c.saved.find(k); ok {
		if today := c.today(); r.day() != today {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.added[k], c.stale = newRecord(k, r.sum(), today), true
		}
		return r.sum(), true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.known[k]
	return s, ok
}

func (c *Cache) today() uint32 { return uint32(c.now().Unix() / (24 * 60 * 60)) }

var buffers = sync.Pool{New: func() any { return new([128 << 10]byte) }}

// read computes a file's sum, and remembers it if the file did not change meanwhile.
func (c *Cache) read(path string) (s Sum, err error) {
	started := c.now()
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return s, err
	}
	defer f.Close()
	var before, after unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &before); err != nil {
		return s, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	h, buf := sha256.New(), buffers.Get().(*[128 << 10]byte)
	defer buffers.Put(buf)
	// Without the file's own WriteTo, which would not use the buffer.
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{f}, buf[:]); err != nil {
		return s, err
	}
	h.Sum(s[:0])
	if err := unix.Fstat(int(f.Fd()), &after); err != nil {
		return s, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	k := keyOf(&before)
	if k != keyOf(&after) {
		return s, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[k] = s
	if settled(&before, started) {
		c.added[k] = newRecord(k, s, c.today())
		c.fresh += before.Size
	}
	return s, nil
}

// Learn remembers the SHA-256 of a file that the caller has just written, and that no program edits. So an edit with the
// same ctime is no danger.
func (c *Cache) Learn(path string, s Sum) {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil || st.Ctim.Nano()%int64(time.Second) == 0 {
		return
	}
	k := keyOf(&st)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[k], c.added[k] = s, newRecord(k, s, c.today())
	c.fresh += st.Size
}

// settled reports whether a file that is read at a time gets another ctime in every later edit.
func settled(st *unix.Stat_t, read time.Time) bool {
	return max(st.Mtim.Nano(), st.Ctim.Nano()) < read.Add(-guard).UnixNano() && st.Ctim.Nano()%int64(time.Second) != 0
}

// Save writes new sums to the file, with those that are there, if they are worth it. It drops the sums that
// were not used for the longest time if there are too many.
func (c *Cache) Save() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.path == "" || !c.stale && c.fresh < worthBytes && len(c.added) < worthFiles {
		return nil
	}
	all := slices.DeleteFunc(readTable(c.path), func(r record) bool { // another process may have written it
		_, ok := c.added[r.key()]
		return ok
	})
	for _, r := range c.added {
		all = append(all, r)
	}
	if len(all) > maxRecords {
		slices.SortFunc(all, func(a, b record) int { return int(b.day()) - int(a.day()) })
		all = all[:maxRecords]
	}
	if err := writeTable(c.path, all); err != nil {
		return err
	}
	clear(c.added)
	c.fresh, c.stale = 0, false
	return nil
}
