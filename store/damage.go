package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/kedge-build/kedge/internal/filesum"
	"github.com/kedge-build/kedge/internal/layer"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A DamagedError says that a blob or the index of a store is missing or has the wrong content.
type DamagedError struct {
	Dir  string
	Blob digest.Digest // that is missing or damaged; empty for the store's index
	Err  error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("image store %q is damaged: %v", e.Dir, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// CheckSize returns a *DamagedError unless the store has a blob of the size in desc.
func (s *Store) CheckSize(ctx context.Context, desc ocispec.Descriptor) error {
	info, err := s.Info(ctx, desc.Digest)
	if errdefs.IsNotFound(err) {
		return &DamagedError{s.dir, desc.Digest, err}
	}
	if err == nil && info.Size != desc.Size {
		err = &DamagedError{s.dir, desc.Digest, fmt.Errorf("blob %s has %d bytes, its descriptor says %d", desc.Digest, info.Size, desc.Size)}
	}
	return err
}

// CheckBlob returns a *DamagedError unless the store has a blob with the size and digest of desc. It reads
// the blob.
func (s *Store) CheckBlob(ctx context.Context, desc ocispec.Descriptor) error {
	if err := s.CheckSize(ctx, desc); err != nil {
		return err
	}
	ra, err := s.ReaderAt(ctx, desc)
	if err != nil {
		return err
	}
	defer ra.Close()
	verifier := desc.Digest.Verifier()
	if _, err := io.Copy(verifier, layer.Cancellable(ctx, content.NewReader(ra))); err != nil {
		return fmt.Errorf("read blob %s: %w", desc.Digest, err)
	}
	if !verifier.Verified() {
		return s.Mismatch(desc.Digest)
	}
	return nil
}

// Whole reports whether the store has a blob with its digest. It reads the blob unless sums knows its file.
func (s *Store) Whole(dgst digest.Digest, sums *filesum.Cache) bool {
	path, err := s.blobPath(dgst)
	if err != nil || dgst.Algorithm() != digest.SHA256 {
		return false
	}
	sum, err := sums.Sum(path)
	return err == nil && hex.EncodeToString(sum[:]) == dgst.Encoded()
}

// Learn makes sums know a blob that was just written with its digest.
func (s *Store) Learn(dgst digest.Digest, sums *filesum.Cache) {
	path, err := s.blobPath(dgst)
	if err != nil || dgst.Algorithm() != digest.SHA256 {
		return
	}
	if sum, err := hex.DecodeString(dgst.Encoded()); err == nil {
		sums.Learn(path, filesum.Sum(sum))
	}
}

// Mismatch returns the *DamagedError about a blob that does not have its digest.
func (s *Store) Mismatch(dgst digest.Digest) error {
	return &DamagedError{s.dir, dgst, fmt.Errorf("blob %s: its content has another digest", dgst)}
}

// check reads all blobs of an image, except those that are known to be sound, and adds to sound. The error
// is a *DamagedError, unless a blob cannot be read.
func (s *Store) check(ctx context.Context, desc ocispec.Descriptor, sound map[digest.Digest]bool) error {
	return s.walk(ctx, desc, func(d ocispec.Descriptor) error {
		if sound[d.Digest] {
			return nil
		}
		err := s.CheckBlob(ctx, d)
		sound[d.Digest] = err == nil
		return err
	})
}

// Blame returns the *DamagedError that explains why reading or delivering an image failed with err. If the
// image is sound, it returns err. It reads every blob, so call it only after a failure.
func (s *Store) Blame(ctx context.Context, desc ocispec.Descriptor, err error) error {
	var damaged *DamagedError
	if err == nil || ctx.Err() != nil || errors.As(err, &damaged) {
		return err
	}
	if found := s.check(ctx, desc, map[digest.Digest]bool{}); errors.As(found, &damaged) {
		return found
	}
	return err
}

// unlistable wraps err, for an image whose manifests or configs cannot be read, in a *DamagedError, unless
// it is one already or a lack of permission.
func (s *Store) unlistable(desc ocispec.Descriptor, err error) error {
	var damaged *DamagedError
	if err == nil || errors.As(err, &damaged) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	return &DamagedError{s.dir, desc.Digest, err}
}

// Complete returns the descriptors of all blobs of an image, or a *DamagedError if one is missing or has
// another size.
func (s *Store) Complete(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var blobs []ocispec.Descriptor
	err := s.walk(ctx, desc, func(d ocispec.Descriptor) error {
		blobs = append(blobs, d)
		return s.CheckSize(ctx, d)
	})
	return blobs, err
}
