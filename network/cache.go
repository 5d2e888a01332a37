package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/kedge-build/kedge/internal/strictjson"
	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// A Cache keeps the bodies of downloads in a directory that is an OCI image layout
// (https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md). Its index lists the records of
// Dockerfiles, each as an artifact whose layers are the record and the bodies.
//
// Beside the layout's files the directory holds
//
//	tmp/        files that are being written; their processes hold a lock on them
//	cache.lock  shared by all users of the cache, exclusive for Prune
//	index.lock  exclusive, held for moments, for index.json
//
// Every file in blobs is whole, because it is written in tmp and renamed. Several processes can use a Cache
// at the same time. A Cache is safe for use by several goroutines.
type Cache struct {
	dir  string
	lock *flock.Flock

	mu    sync.Mutex
	sound map[digest.Digest]stamp // files that had their digest
}

// A stamp tells whether a file has changed.
type stamp struct {
	ino          uint64
	size         int64
	mtime, ctime syscall.Timespec
}

const (
	cacheLock = "cache.lock"
	indexLock = "index.lock"
	tmpDir    = "tmp"
	lockRetry = 20 * time.Millisecond
)

// OpenCache opens the cache in dir and creates it if it does not exist. It waits until ctx is done while
// another process prunes.
func OpenCache(ctx context.Context, dir string) (*Cache, error) {
	c := &Cache{dir: dir, lock: flock.New(filepath.Join(dir, cacheLock)), sound: map[digest.Digest]stamp{}}
	if err := c.open(ctx); err != nil {
		return nil, fmt.Errorf("open the cache of downloads %q: %w", dir, err)
	}
	return c, nil
}

func (c *Cache) open(ctx context.Context) error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.path(cacheLock)); len(entries) > 0 && err != nil {
		return errors.New("the directory is not empty and not a cache of downloads")
	}
	if _, err := c.lock.TryRLockContext(ctx, lockRetry); err != nil {
		return err
	}
	for _, sub := range []string{filepath.Join("blobs", "sha256"), tmpDir} {
		if err := os.MkdirAll(c.path(sub), 0o755); err != nil {
			return errors.Join(err, c.lock.Unlock())
		}
	}
	c.sweep()
	layout := []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)
	err = c.withIndex(ctx, func() error {
		if _, err := os.Stat(c.path(ocispec.ImageLayoutFile)); err == nil {
			return nil
		}
		if err := c.writeIndex(nil); err != nil {
			return err
		}
		return wholefile.WriteVia(c.path(tmpDir), c.path(ocispec.ImageLayoutFile), layout, 0o644)
	})
	if err != nil {
		return errors.Join(err, c.lock.Unlock())
	}
	return nil
}

// Close lets other processes prune the cache.
func (c *Cache) Close() error { return c.lock.Unlock() }

// Dir returns the directory of the cache.
func (c *Cache) Dir() string { return c.dir }

func (c *Cache) path(elem ...string) string {
	return filepath.Join(append([]string{c.dir}, elem...)...)
}

func (c *Cache) blob(dgst digest.Digest) string {
	return c.path("blobs", dgst.Algorithm().String(), dgst.Encoded())
}

// Open opens the body with a digest, whose bytes it has checked. The error wraps fs.ErrNotExist if the cache
// does not have the body, and is a *DamagedError if its file has other bytes.
func (c *Cache) Open(dgst digest.Digest) (*os.File, error) {
	if err := dgst.Validate(); err != nil {
		return nil, err
	}
	f, err := os.Open(c.blob(dgst))
	if err != nil {
		return nil, err
	}
	if err := c.check(f, dgst); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Has reports whether the cache has a file for a digest. It does not read the file.
func (c *Cache) Has(dgst digest.Digest) bool {
	_, err := os.Stat(c.blob(dgst))
	return err == nil
}

// check reads a file, unless this process has done so and the file has not changed since.
func (c *Cache) check(f *os.File, dgst digest.Digest) error {
	now, err := stampOf(f)
	if err != nil {
		return err
	}
	c.mu.Lock()
	known, ok := c.sound[dgst]
	c.mu.Unlock()
	if ok && known == now {
		return nil
	}
	verifier := dgst.Verifier()
	if _, err := io.Copy(verifier, f); err != nil {
		return fmt.Errorf("read the cached download %s: %w", dgst, err)
	}
	if !verifier.Verified() {
		return &DamagedError{Digest: dgst}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	c.trust(dgst, now)
	return nil
}

// A stream checks a body while it is read: it returns the last bytes only if the whole body has its digest, and a
// *DamagedError otherwise. It must be read from start to end.
type stream struct {
	file  *os.File
	cache *Cache
	stamp stamp
	dgst  digest.Digest
	sum   hash.Hash
	n     int64
}

// stream opens a body that Open would have to read and check first. It returns nil if Open is the better choice: the
// body is missing, has another size, or was checked before.
func (c *Cache) stream(dgst digest.Digest, size int64) *stream {
	if dgst.Validate() != nil {
		return nil
	}
	f, err := os.Open(c.blob(dgst))
	if err != nil {
		return nil
	}
	now, err := stampOf(f)
	c.mu.Lock()
	known, ok := c.sound[dgst]
	c.mu.Unlock()
	if err != nil || now.size != size || ok && known == now {
		f.Close()
		return nil
	}
	return &stream{file: f, cache: c, stamp: now, dgst: dgst, sum: dgst.Algorithm().Hash()}
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.file.Read(p)
	s.sum.Write(p[:n])
	if s.n += int64(n); s.n < s.stamp.size && err == nil {
		return n, nil
	}
	if s.n != s.stamp.size || digest.NewDigest(s.dgst.Algorithm(), s.sum) != s.dgst {
		return 0, &DamagedError{Digest: s.dgst}
	}
	s.cache.trust(s.dgst, s.stamp)
	return n, err
}

// Close implements io.Closer.
func (s *stream) Close() error { return s.file.Close() }

// Seek implements io.Seeker.
func (s *stream) Seek(offset int64, whence int) (int64, error) {
	at, err := s.file.Seek(offset, whence)
	s.n = at
	s.sum.Reset()
	return at, err
}

func (c *Cache) trust(dgst digest.Digest, s stamp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sound[dgst] = s
}

func stampOf(f *os.File) (stamp, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		return stamp{}, err
	}
	return stamp{ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}, nil
}

// Put adds a body. It keeps only bytes that have the digest; for others the error is a *DamagedError.
func (c *Cache) Put(dgst digest.Digest, body io.Reader) error {
	f, err := c.draft()
	if err != nil {
		return err
	}
	defer c.discard(f)
	verifier := dgst.Verifier()
	if _, err := io.Copy(io.MultiWriter(f, verifier), body); err != nil {
		return err
	}
	if !verifier.Verified() {
		return &DamagedError{Digest: dgst}
	}
	return c.adopt(f, dgst)
}

// draft creates a file in tmp, and locks it as a sign that its process lives.
func (c *Cache) draft() (*os.File, error) {
	for {
		f, err := os.CreateTemp(c.path(tmpDir), "body-")
		if err != nil {
			return nil, err
		}
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if _, err := os.Lstat(f.Name()); err == nil {
			return f, nil
		}
		f.Close() // a sweep came between
	}
}

// adopt gives a draft its name. The draft stays open for those who read it.
func (c *Cache) adopt(f *os.File, dgst digest.Digest) error {
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), c.blob(dgst)); err != nil {
		return err
	}
	if s, err := stampOf(f); err == nil {
		c.trust(dgst, s)
	}
	return nil
}

// discard closes a draft, and removes it unless it was adopted.
func (c *Cache) discard(f *os.File) {
	_ = os.Remove(f.Name())
	f.Close()
}

// sweep removes files in tmp that no living process has locked.
func (c *Cache) sweep() {
	entries, _ := os.ReadDir(c.path(tmpDir))
	for _, e := range entries {
		f, err := os.Open(c.path(tmpDir, e.Name()))
		if err != nil {
			continue
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.Remove(f.Name())
		}
		f.Close()
	}
}

// Sync writes everything that the cache has to disk.
func (c *Cache) Sync() error {
	f, err := os.Open(c.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("write the cache of downloads %q to disk: %w", c.dir, err)
	}
	return nil
}

// withIndex runs fn while no other process changes index.json.
func (c *Cache) withIndex(ctx context.Context, fn func() error) error {
	lock := flock.New(c.path(indexLock))
	if _, err := lock.TryLockContext(ctx, lockRetry); err != nil {
		return err
	}
	defer lock.Unlock()
	return fn()
}

func (c *Cache) readIndex() ([]ocispec.Descriptor, error) {
	data, err := wholefile.Read(c.path(ocispec.ImageIndexFile), 64<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("read %q: %w", c.path(ocispec.ImageIndexFile), err)
	}
	return index.Manifests, nil
}

func (c *Cache) writeIndex(entries []ocispec.Descriptor) error {
	if entries == nil {
		entries = []ocispec.Descriptor{}
	}
	data, err := strictjson.Encode(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: entries,
	})
	if err != nil {
		return err
	}
	return wholefile.WriteVia(c.path(tmpDir), c.path(ocispec.ImageIndexFile), data, 0o644)
}
