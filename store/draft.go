package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/distribution/reference"
	"github.com/gofrs/flock"
	"github.com/kedge-build/kedge/internal/strictjson"
	"github.com/kedge-build/kedge/rules"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Draft is a directory in a Store that holds blobs which are not yet part of it. The Store cannot be
// pruned until the Draft is closed. A Draft is safe for use by several goroutines.
type Draft struct {
	store *Store
	dir   string
	lock  *flock.Flock
	close sync.Once
}

const draftLock = "lock"

// NewDraft creates a Draft. The caller must close it.
func (s *Store) NewDraft(ctx context.Context) (_ *Draft, err error) {
	s.use.RLock()
	d := &Draft{store: s}
	defer func() {
		if err != nil {
			s.use.RUnlock()
		}
	}()
	err = s.withIndexLock(ctx, func() error {
		if d.dir, err = os.MkdirTemp(s.path(tmpDir), "ingest-"); err != nil {
			return err
		}
		d.lock = flock.New(filepath.Join(d.dir, draftLock))
		return d.lock.Lock()
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Dir returns the Draft's directory, in which a content store may keep blobs.
func (d *Draft) Dir() string { return d.dir }

// Close removes the Draft with the blobs that were not adopted. It may be called more than once.
func (d *Draft) Close() (err error) {
	d.close.Do(func() {
		err = errors.Join(d.remove(), d.lock.Unlock())
		d.store.use.RUnlock()
	})
	return err
}

// remove removes the directory, and its lock last: other processes remove a directory that they can lock.
func (d *Draft) remove() error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != draftLock {
			err = errors.Join(err, os.RemoveAll(filepath.Join(d.dir, e.Name())))
		}
	}
	return errors.Join(err, os.RemoveAll(d.dir))
}

// Adopt writes a blob of the Draft to disk and moves it into the Store, where it replaces a blob with that name, and reports
// whether it did. If the Draft does not have the blob, the Store must: else the error wraps
// errdefs.ErrNotFound.
func (d *Draft) Adopt(ctx context.Context, dgst digest.Digest) (moved bool, err error) {
	target, err := d.store.blobPath(dgst)
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return false, err
	}
	draft := filepath.Join(d.dir, ocispec.ImageBlobsDir, dgst.Algorithm().String(), dgst.Encoded())
	if err := syncFile(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := os.Rename(draft, target); err != nil {
		// The blob was not sent, or two layers share it and it was moved already.
		if _, err := d.store.Info(ctx, dgst); err == nil {
			return false, nil
		}
		return false, notFound(dgst, err)
	}
	return true, nil
}

// A Source names a repository, with its host, that has a blob.
type Source struct {
	Blob ocispec.Descriptor
	Repo reference.Named
}

// List adds images without a name to the index, if they are not there yet, and records where blobs of
// base images came from. All blobs must have been adopted.
func (d *Draft) List(ctx context.Context, tops []ocispec.Descriptor, sources []Source) error {
	if err := syncFile(d.store.path(ocispec.ImageBlobsDir, "sha256")); err != nil {
		return err
	}
	return d.store.withIndexLock(ctx, func() error {
		for _, src := range sources {
			if err := d.recordSource(src); err != nil {
				return err
			}
		}
		entries, err := d.store.readIndex()
		if err != nil {
			return err
		}
		for _, top := range tops {
			entries = addEntry(entries, Plain(top))
		}
		return d.store.writeIndex(entries)
	})
}

// syncFile writes a file to disk, or the renames in a directory.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// recordSource records that a repository has a blob. The index lock must be held.
func (d *Draft) recordSource(src Source) error {
	repo := reference.TrimNamed(src.Repo).String()
	r, ok := d.store.readRecord(sourceName(src.Blob.Digest))
	if !ok {
		r = Record{Digest: src.Blob.Digest, Size: src.Blob.Size}
	}
	if slices.Contains(r.Repos, repo) || len(r.Repos) >= maxRepos {
		return nil
	}
	r.Repos = append(r.Repos, repo)
	slices.Sort(r.Repos)
	return d.WriteRecord(r)
}

// WriteRecord keeps r for later builds, with the versions of records and rules.
func (d *Draft) WriteRecord(r Record) error {
	r.Version, r.Rules = recordVersion, 0
	if r.Raw != "" || r.DiffID != "" {
		r.Rules = rules.Version
	}
	data, err := strictjson.Encode(r)
	if err != nil {
		return err
	}
	if err := d.writeLayerFile(r.name(), data); err != nil {
		return fmt.Errorf("write layer record: %w", err)
	}
	return nil
}

// writeLayerFile does not wait for the disk: what a crash damages is ignored.
func (d *Draft) writeLayerFile(name string, data []byte) error {
	tmp := filepath.Join(d.dir, "layer-"+rand.Text())
	if err := os.WriteFile(tmp, data, 0o666); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, d.store.path(layersDir, name))
}

// KeepListing keeps the listing of a layer, which is a form of its entries that only the caller knows. A
// listing saves reading the layer again, so a failure to write it does no harm and is not reported.
func (d *Draft) KeepListing(diffID digest.Digest, listing []byte) {
	sum := sha256.Sum256(listing)
	_ = d.writeLayerFile(listingName(diffID), append(sum[:], listing...))
}

// Listing returns what KeepListing kept for a layer, if it is whole.
func (s *Store) Listing(diffID digest.Digest) (listing []byte, ok bool) {
	data, err := os.ReadFile(s.path(layersDir, listingName(diffID)))
	if err != nil || len(data) < sha256.Size {
		return nil, false
	}
	sum, listing := data[:sha256.Size], data[sha256.Size:]
	got := sha256.Sum256(listing)
	return listing, bytes.Equal(sum, got[:])
}

func listingName(diffID digest.Digest) string {
	return fmt.Sprintf("entries-%s-%s-%d.gob", diffID.Algorithm(), diffID.Encoded(), recordVersion)
}
