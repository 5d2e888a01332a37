package filesum

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// later is a clock by which every file of a test has been as it is for some time.
func later() time.Time { return time.Now().Add(time.Minute) }

var large = strings.Repeat("one\n", worthBytes/4) // a file that is worth saving

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	if st.Ctim.Nsec == 0 {
		t.Fatal("a change at a whole second, or a file system without finer times")
	}
}

// check tests that c returns the sum of a file's content, whatever it knows.
func check(t testing.TB, c *Cache, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if sum, err := c.Sum(path); err != nil || sum != sha256.Sum256(content) {
		t.Errorf("%s: the sum of another content, %v", path, err)
	}
}

func save(t testing.TB, c *Cache) {
	t.Helper()
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
}

// saved returns a file and a cache file that has its sum.
func saved(t testing.TB) (cache, file string) {
	t.Helper()
	dir := t.TempDir()
	cache, file = filepath.Join(dir, "data", "sums"), filepath.Join(dir, "file")
	write(t, file, large)
	c := Open(cache, later)
	check(t, c, file)
	save(t, c)
	if _, ok := Open(cache, later).Known(file); !ok {
		t.Fatal("the file is not known")
	}
	return cache, file
}

func TestEdits(t *testing.T) {
	other := strings.Replace(large, "one", "two", 1)
	for name, edit := range map[string]func(t *testing.T, file string, old os.FileInfo) error{
		"content": func(t *testing.T, file string, _ os.FileInfo) error { return os.WriteFile(file, []byte(other), 0o644) },
		"size":    func(t *testing.T, file string, _ os.FileInfo) error { return os.Truncate(file, 3) },
		"size and mtime stay": func(t *testing.T, file string, old os.FileInfo) error {
			write(t, file, other)
			return os.Chtimes(file, old.ModTime(), old.ModTime())
		},
		"mtime in the past": func(t *testing.T, file string, _ os.FileInfo) error {
			write(t, file, other)
			return os.Chtimes(file, time.Unix(1, 0), time.Unix(1, 0))
		},
		"another file with the old one's mtime": func(t *testing.T, file string, old os.FileInfo) error {
			write(t, file+".new", other)
			if err := os.Chtimes(file+".new", old.ModTime(), old.ModTime()); err != nil {
				return err
			}
			return os.Rename(file+".new", file)
		},
		"through a hard link": func(t *testing.T, file string, old os.FileInfo) error {
			if err := os.Link(file, file+".link"); err != nil {
				return err
			}
			write(t, file+".link", other)
			return os.Chtimes(file, old.ModTime(), old.ModTime())
		},
	} {
		t.Run(name, func(t *testing.T) {
			cache, file := saved(t)
			open := Open(cache, later)
			old, err := os.Lstat(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := edit(t, file, old); err != nil {
				t.Fatal(err)
			}
			check(t, open, file)
			check(t, Open(cache, later), file)
		})
	}
}

// A hard link and a file that was moved to another folder are known: they have the same content.
func TestSameFile(t *testing.T) {
	cache, file := saved(t)
	if err := os.Link(file, file+".link"); err != nil {
		t.Fatal(err)
	}
	c := Open(cache, later)
	check(t, c, file+".link") // a new link changes the ctime
	if _, ok := c.Known(file); !ok {
		t.Error("two links of one file were read twice")
	}
}

// A file whose time is that of the read, or later, is read again.
func TestRacy(t *testing.T) {
	for name, test := range map[string]struct {
		since time.Duration // from the last change to the read
		mtime time.Duration // from now, if it is not zero
		known bool
	}{
		"read at once":             {since: 0},
		"read within the guard":    {since: guard - time.Second},
		"read later":               {since: guard + time.Minute, known: true},
		"mtime in the future":      {since: guard + time.Minute, mtime: time.Hour},
		"the clock was set back":   {since: -time.Hour},
		"mtime in the past, racy":  {since: 0, mtime: -time.Hour},
		"mtime in the past, later": {since: guard + time.Minute, mtime: -time.Hour, known: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cache, file := filepath.Join(dir, "sums"), filepath.Join(dir, "file")
			write(t, file, large)
			if test.mtime != 0 {
				at := time.Now().Add(test.mtime)
				if err := os.Chtimes(file, at, at); err != nil {
					t.Fatal(err)
				}
			}
			now := func() time.Time { return time.Now().Add(test.since) }
			c := Open(cache, now)
			check(t, c, file)
			if _, ok := c.Known(file); !ok {
				t.Error("the same cache reads it again")
			}
			save(t, c)
			if _, ok := Open(cache, now).Known(file); ok != test.known {
				t.Errorf("known: %v", ok)
			}
		})
	}
}

// Times of whole seconds are those of file systems in which an edit may keep the ctime.
func TestWholeSecond(t *testing.T) {
	for nanoseconds, want := range map[int64]bool{0: false, 1: true} {
		st := unix.Stat_t{Mtim: unix.Timespec{Sec: 5}, Ctim: unix.Timespec{Sec: 5, Nsec: nanoseconds}}
		if got := settled(&st, time.Unix(100, 0)); got != want {
			t.Errorf("%d ns: %v", nanoseconds, got)
		}
	}
}

func TestDamage(t *testing.T) {
	cache, file := saved(t)
	whole, err := os.ReadFile(cache)
	if err != nil {
		t.Fatal(err)
	}
	flipped := func(i int) []byte {
		b := slices.Clone(whole)
		b[i] ^= 1
		return b
	}
	for name, data := range map[string][]byte{
		"empty": {}, "half": whole[:len(whole)/2], "a byte more": append(slices.Clone(whole), 0),
		"magic": flipped(0), "checksum": flipped(len(whole) - 1), "inode": flipped(len(magic) + 15),
		"sum": flipped(len(magic) + len(key{})), "day": flipped(len(whole) - crc32.Size - 1),
		"no record": whole[:len(magic)], "zeros": make([]byte, len(whole)),
	} {
		if err := os.WriteFile(cache, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c := Open(cache, later)
		if _, ok := c.Known(file); ok {
			t.Errorf("%s: was believed", name)
		}
		check(t, c, file)
		save(t, c)
		if mended, err := os.ReadFile(cache); err != nil || !bytes.Equal(mended, whole) {
			t.Errorf("%s: the file was not mended: %v", name, err)
		}
	}
	if err := os.Remove(cache); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(cache, 0o600); err != nil {
		t.Fatal(err)
	}
	check(t, Open(cache, later), file) // does not wait for a writer
}

// Two processes write whole files, and the second one keeps the first one's sums.
func TestProcesses(t *testing.T) {
	dir := t.TempDir()
	cache := filepath.Join(dir, "sums")
	var caches []*Cache
	var files []string
	for i := range 8 {
		file := filepath.Join(dir, fmt.Sprint(i))
		write(t, file, large)
		c := Open(cache, later)
		check(t, c, file)
		caches, files = append(caches, c), append(files, file)
	}
	for _, c := range caches[:2] {
		save(t, c)
	}
	c := Open(cache, later)
	for _, file := range files[:2] {
		if _, ok := c.Known(file); !ok {
			t.Errorf("%s was lost", file)
		}
	}
	var wg sync.WaitGroup
	for _, c := range caches[2:] {
		wg.Go(func() { save(t, c) })
		wg.Go(func() {
			if len(readTable(cache)) == 0 {
				t.Error("a torn file")
			}
		})
	}
	wg.Wait()
}

func TestBounded(t *testing.T) {
	cache, file := saved(t)
	c := Open(cache, func() time.Time { return later().Add(24 * time.Hour) })
	for i := range maxRecords {
		k := key{byte(i), byte(i >> 8), byte(i >> 16)}
		c.added[k] = newRecord(k, Sum{1}, c.today())
	}
	save(t, c)
	info, err := os.Stat(cache)
	if err != nil || info.Size() != int64(len(magic)+maxBlocks*blockSize) {
		t.Errorf("%v, %v", info, err)
	}
	reopened := Open(cache, later)
	if _, ok := reopened.Known(file); ok {
		t.Error("the least recently used record was kept")
	}
	k := key{1, 2, 3}
	if sum, ok := reopened.find(k); !ok || sum != (Sum{1}) {
		t.Error("a record of a full file was not found")
	}
}

// TestTable finds each record of a file of several blocks, and of one with a damaged block all those of the others.
func TestTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sums")
	var all []record
	for i := range 3*blockRecords + 7 {
		all = append(all, newRecord(numbered(2*i), Sum{byte(i)}, 1))
	}
	if err := writeTable(path, all); err != nil {
		t.Fatal(err)
	}
	count := func() (found int) {
		table := table{path: path}
		for i := range 2*len(all) + 1 {
			r, ok := table.find(numbered(i))
			if ok && (i%2 == 1 || r != all[i/2]) {
				t.Errorf("%d: another record", i)
			}
			if ok {
				found++
			}
		}
		return found
	}
	if n := count(); n != len(all) || !slices.Equal(readTable(path), all) {
		t.Errorf("%d of %d records were found", n, len(all))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(magic)+blockSize+100] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := count(); n > len(all)-blockRecords || n < blockRecords {
		t.Errorf("%d of %d records were found beside a damaged block", n, len(all))
	}
}

func numbered(i int) (k key) {
	binary.BigEndian.PutUint32(k[:], uint32(i))
	return k
}

// Little is not worth writing, and a record that is used gets another day only once.
func TestWorth(t *testing.T) {
	cache, _ := saved(t)
	before, err := os.Stat(cache)
	if err != nil {
		t.Fatal(err)
	}
	small := filepath.Join(t.TempDir(), "small")
	write(t, small, "one")
	c := Open(cache, later)
	check(t, c, small)
	save(t, c)
	if after, err := os.Stat(cache); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was written for three bytes: %v", err)
	}
}

func TestUse(t *testing.T) {
	cache, file := saved(t)
	tomorrow := func() time.Time { return later().Add(24 * time.Hour) }
	for _, want := range []bool{true, false} {
		before, err := os.Stat(cache)
		if err != nil {
			t.Fatal(err)
		}
		c := Open(cache, tomorrow)
		check(t, c, file)
		save(t, c)
		if after, err := os.Stat(cache); err != nil || os.SameFile(before, after) == want {
			t.Errorf("written: %v, want %v; %v", !want, want, err)
		}
	}
}

func TestNotRegular(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "file"), "one")
	for _, name := range []string{"link", "gone", "."} {
		if _, err := Open("", time.Now).Sum(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s has a sum", name)
		}
	}
}

// TestLearn: a file that was just written is known, in this Cache and in later ones, until it is edited.
func TestLearn(t *testing.T) {
	dir := t.TempDir()
	cache, file := filepath.Join(dir, "sums"), filepath.Join(dir, "file")
	write(t, file, large)
	c := Open(cache, time.Now)
	c.Learn(file, sha256.Sum256([]byte(large)))
	save(t, c)
	for _, c := range []*Cache{c, Open(cache, time.Now)} {
		if sum, ok := c.Known(file); !ok || sum != sha256.Sum256([]byte(large)) {
			t.Error("the file is not known")
		}
	}
	time.Sleep(20 * time.Millisecond) // more than a tick
	write(t, file, strings.Replace(large, "one", "two", 1))
	check(t, Open(cache, time.Now), file)
	c.Learn(filepath.Join(dir, "missing"), sha256.Sum256(nil)) // nothing to know
}
