package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/gofrs/flock"
	"github.com/kedge-build/kedge/internal/strictjson"
	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Store keeps images in a directory that is an OCI image layout
// (https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md). It is a
// content.InfoReaderProvider; new content comes through a Draft.
//
// Beside the layout's files the directory holds
//
//	layers/     records and listings of layers
//	builds/     records of builds
//	tmp/        one directory for each Draft, which holds its lock
//	store.lock  shared by all users of the store, exclusive for Prune
//	index.lock  exclusive, held for moments, for index.json and tmp
//
// Every blob in blobs is complete, because blobs are written in tmp and renamed. So several processes
// can use a store at the same time. One that fails or is killed leaves only its directory in tmp.
// A Store is safe for use by several goroutines.
type Store struct {
	dir  string
	lock *flock.Flock

	// use does for goroutines what store.lock does for processes.
	use sync.RWMutex
}

// A BusyError says that a store cannot be pruned because another goroutine or process is using it.
type BusyError struct{ Dir string }

func (e *BusyError) Error() string { return fmt.Sprintf("image store %q is in use", e.Dir) }

// An OpenError says that the store in Dir cannot be opened or created.
type OpenError struct {
	Dir string
	Err error
}

func (e *OpenError) Error() string { return fmt.Sprintf("open image store %q: %v", e.Dir, e.Err) }

func (e *OpenError) Unwrap() error { return e.Err }

const (
	storeLock = "store.lock"
	indexLock = "index.lock"
	layersDir = "layers"
	tmpDir    = "tmp"
)

// LayoutFile is the content of the file oci-layout.
const LayoutFile = `{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`

// lockRetry is the pause between attempts to take a lock.
const lockRetry = 20 * time.Millisecond

// Open opens the store in dir and creates it if dir is absent or empty. It refuses a directory that holds
// something else. It waits until ctx is done while another process prunes. The error is an *OpenError.
func Open(ctx context.Context, dir string) (*Store, error) {
	s, err := open(ctx, dir)
	if err != nil {
		return nil, &OpenError{Dir: dir, Err: err}
	}
	return s, nil
}

func open(ctx context.Context, dir string) (_ *Store, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	s := &Store{dir: dir, lock: flock.New(filepath.Join(dir, storeLock))}
	if _, err := s.lock.TryRLockContext(ctx, lockRetry); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.lock.Unlock())
		}
	}()
	for _, sub := range []string{filepath.Join("blobs", "sha256"), layersDir, tmpDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	err = s.withIndexLock(ctx, func() error {
		if _, err := s.cleanTmp(); err != nil {
			return err
		}
		// Write oci-layout last: it says that the layout is complete.
		if _, err := os.Stat(s.path(ocispec.ImageLayoutFile)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := s.writeIndex(nil); err != nil {
			return err
		}
		return s.replaceFile(ocispec.ImageLayoutFile, []byte(LayoutFile))
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// checkDir refuses a directory that is neither a store nor empty. It also refuses a foreign OCI image
// layout, because Prune would empty it.
func checkDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 && !IsStore(entries) {
		return errors.New("the directory is not empty and not an image store")
	}
	data, err := os.ReadFile(filepath.Join(dir, ocispec.ImageLayoutFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var layout ocispec.ImageLayout
	if err := json.Unmarshal(data, &layout); err != nil {
		return fmt.Errorf("read %q: %w", ocispec.ImageLayoutFile, err)
	}
	if layout.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("OCI image layout of version %q, want %q", layout.Version, ocispec.ImageLayoutVersion)
	}
	return nil
}

// Close lets other processes prune the store. Close every Draft first.
func (s *Store) Close() error {
	if err := s.lock.Unlock(); err != nil {
		return fmt.Errorf("close image store %q: %w", s.dir, err)
	}
	return nil
}

// Dir returns the directory of the store.
func (s *Store) Dir() string { return s.dir }

// Use keeps the store from being pruned until release is called.
func (s *Store) Use() (release func()) {
	s.use.RLock()
	return s.use.RUnlock
}

// TempFile creates a file in the store's directory for temporary files. The caller must remove it.
func (s *Store) TempFile(pattern string) (*os.File, error) {
	return os.CreateTemp(s.path(tmpDir), pattern)
}

// IsStore reports whether the entries of a directory are those of a Store.
func IsStore(entries []fs.DirEntry) bool {
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == storeLock })
}

// Info implements content.InfoProvider. The labels name the known repositories of a base layer, in
// containerd's form (containerd.io/distribution.source.HOST).
func (s *Store) Info(_ context.Context, dgst digest.Digest) (content.Info, error) {
	path, err := s.blobPath(dgst)
	if err != nil {
		return content.Info{}, err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return content.Info{}, notFound(dgst, err)
	}
	return content.Info{
		Digest:    dgst,
		Size:      fi.Size(),
		CreatedAt: fi.ModTime(),
		UpdatedAt: fi.ModTime(),
		Labels:    SourceLabels(s.sources(dgst)),
	}, nil
}

// ReaderAt implements content.Provider.
func (s *Store) ReaderAt(_ context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	path, err := s.blobPath(desc.Digest)
	if err != nil {
		return nil, err
	}
	ra, err := local.OpenReader(path)
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", desc.Digest, err)
	}
	return ra, nil
}

func notFound(dgst digest.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob %s: %w", dgst, errdefs.ErrNotFound)
	}
	return fmt.Errorf("blob %s: %w", dgst, err)
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *Store) blobPath(dgst digest.Digest) (string, error) {
	if err := dgst.Validate(); err != nil {
		return "", fmt.Errorf("digest %q: %w", dgst, err)
	}
	return s.path(ocispec.ImageBlobsDir, dgst.Algorithm().String(), dgst.Encoded()), nil
}

// withIndexLock runs fn while no other process changes index.json or the directories in tmp.
func (s *Store) withIndexLock(ctx context.Context, fn func() error) (err error) {
	lock := flock.New(s.path(indexLock))
	if _, err := lock.TryLockContext(ctx, lockRetry); err != nil {
		return fmt.Errorf("lock index: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	return fn()
}

// readIndex returns the entries of index.json. An image has one for each of its names, or one without a
// name.
func (s *Store) readIndex() ([]ocispec.Descriptor, error) {
	data, err := os.ReadFile(s.path(ocispec.ImageIndexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &DamagedError{s.dir, "", err}
	}
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, &DamagedError{s.dir, "", fmt.Errorf("read %q: %w", ocispec.ImageIndexFile, err)}
	}
	return index.Manifests, nil
}

// writeIndex replaces index.json. The index lock must be held.
func (s *Store) writeIndex(entries []ocispec.Descriptor) error {
	data, err := LayoutIndex(entries)
	if err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	return s.replaceFile(ocispec.ImageIndexFile, data)
}

// LayoutIndex renders the index.json of an OCI image layout.
func LayoutIndex(entries []ocispec.Descriptor) ([]byte, error) {
	if entries == nil {
		entries = []ocispec.Descriptor{}
	}
	return strictjson.Encode(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: entries,
	})
}

// replaceFile replaces a file at the top of the store. The index lock must be held: it keeps cleanTmp from
// removing the temporary file.
func (s *Store) replaceFile(name string, data []byte) error {
	if err := wholefile.WriteVia(s.path(tmpDir), s.path(name), data, 0o666); err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	return nil
}

// cleanTmp removes the files of dead processes in tmp and returns their size in bytes. The index lock must
// be held, because directories in tmp are created and locked under it.
func (s *Store) cleanTmp() (freed int64, err error) {
	entries, err := os.ReadDir(s.path(tmpDir))
	if err != nil {
		return 0, fmt.Errorf("clean up: %w", err)
	}
	for _, e := range entries {
		n, err := cleanEntry(s.path(tmpDir, e.Name()), e.IsDir())
		if err != nil {
			return freed, fmt.Errorf("clean up: %w", err)
		}
		freed += n
	}
	return freed, nil
}

// cleanEntry removes an entry of tmp unless a live process owns it. An entry that disappears meanwhile, or
// has no lock any more, is being removed by its owner.
func cleanEntry(path string, isDir bool) (freed int64, err error) {
	if isDir {
		lock := flock.New(filepath.Join(path, draftLock), flock.SetFlag(os.O_RDWR))
		dead, err := lock.TryLock()
		if errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(path) // empty: its owner died before locking it
			return 0, nil
		}
		if err != nil || !dead {
			return 0, err
		}
		defer lock.Unlock()
	}
	if freed, err = diskSize(path); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	return freed, os.RemoveAll(path)
}

func diskSize(root string) (size int64, err error) {
	err = filepath.WalkDir(root, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		fi, err := e.Info()
		if err == nil {
			size += fi.Size()
		}
		return err
	})
	return size, err
}

// Pruned lists the things that Prune removed.
type Pruned struct {
	Images []digest.Digest // no longer listed
	// Damaged lists those of Images that had a name and were damaged.
	Damaged []Entry
	Blobs   []digest.Digest
	Bytes   int64 // freed by blobs and by files of dead processes
}

// Prune removes images without a name, damaged images, blobs that no image needs, files of dead processes,
// and records of layers that are gone. If all is set, it removes every image and blob. It reads every blob
// that it keeps. It does not wait: the error is a *BusyError while a Draft is open or another process has
// the store open.
func (s *Store) Prune(ctx context.Context, all bool) (_ Pruned, err error) {
	if !s.use.TryLock() {
		return Pruned{}, &BusyError{s.dir}
	}
	defer s.use.Unlock()
	// A shared lock cannot become an exclusive one, so for a moment there is no lock. No goroutine of this
	// Store needs one now.
	if err := s.lock.Unlock(); err != nil {
		return Pruned{}, fmt.Errorf("prune image store %q: %w", s.dir, err)
	}
	defer func() { err = errors.Join(err, s.lock.RLock()) }()
	lock := flock.New(s.path(storeLock))
	ok, err := lock.TryLock()
	if err != nil {
		return Pruned{}, fmt.Errorf("prune image store %q: %w", s.dir, err)
	}
	if !ok {
		return Pruned{}, &BusyError{s.dir}
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()

	var p Pruned
	err = s.withIndexLock(ctx, func() error { return s.prune(ctx, all, &p) })
	if err != nil {
		return p, fmt.Errorf("prune image store %q: %w", s.dir, err)
	}
	return p, nil
}

func (s *Store) prune(ctx context.Context, all bool, p *Pruned) error {
	var err error
	if p.Bytes, err = s.cleanTmp(); err != nil {
		return err
	}
	entries, err := s.readIndex()
	if err != nil {
		return err
	}
	var kept []ocispec.Descriptor
	live := map[digest.Digest]bool{}
	broken := map[digest.Digest]error{}
	sound := map[digest.Digest]bool{}
	drop := func(e ocispec.Descriptor) {
		if !slices.Contains(p.Images, e.Digest) {
			p.Images = append(p.Images, e.Digest)
		}
	}
	for _, e := range entries {
		name := entryName(e)
		if all || name == "" {
			drop(e)
			continue
		}
		err, known := broken[e.Digest]
		if !known {
			err = s.check(ctx, e, sound)
			broken[e.Digest] = err
		}
		if damaged := (*DamagedError)(nil); errors.As(err, &damaged) {
			p.Damaged = append(p.Damaged, Entry{Names: []string{name}, Descriptor: Plain(e), Err: err})
			drop(e)
			continue
		}
		if err != nil {
			return err
		}
		kept = append(kept, e)
		err = s.walk(ctx, e, func(d ocispec.Descriptor) error {
			live[d.Digest] = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	// Remove records first: on a full disk that makes room for the index.
	if err := s.pruneListings(); err != nil {
		return err
	}
	// Write the index before removing blobs, so that it never names a missing blob.
	if err := s.writeIndex(kept); err != nil {
		return err
	}
	if err := s.pruneBlobs(ctx, live, p); err != nil {
		return err
	}
	if err := s.pruneBuilds(all, live); err != nil {
		return err
	}
	return s.pruneRecords(all)
}

func (s *Store) pruneBlobs(ctx context.Context, live map[digest.Digest]bool, p *Pruned) error {
	algorithms, err := os.ReadDir(s.path(ocispec.ImageBlobsDir))
	if err != nil {
		return err
	}
	for _, alg := range algorithms {
		blobs, err := os.ReadDir(s.path(ocispec.ImageBlobsDir, alg.Name()))
		if err != nil {
			return err
		}
		for _, b := range blobs {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			dgst := digest.NewDigestFromEncoded(digest.Algorithm(alg.Name()), b.Name())
			if dgst.Validate() != nil || live[dgst] {
				continue
			}
			fi, err := b.Info()
			if err != nil {
				return err
			}
			if err := os.Remove(s.path(ocispec.ImageBlobsDir, alg.Name(), b.Name())); err != nil {
				return err
			}
			p.Blobs = append(p.Blobs, dgst)
			p.Bytes += fi.Size()
		}
	}
	return nil
}
