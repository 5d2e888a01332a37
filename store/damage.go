package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A DamagedError says that a store cannot be read as what it is.
type DamagedError struct {
	Dir  string
	Blob digest.Digest // that is missing, or not what its digest says; empty: the store's index
	Err  error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("image store %q is damaged: %v", e.Dir, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// CheckSize returns a *DamagedError unless the store has a blob with the size that desc says.
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

// CheckBlob returns a *DamagedError unless a blob is what desc says.
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
	if _, err := io.Copy(verifier, &cancelReader{ctx, content.NewReader(ra)}); err != nil {
		return fmt.Errorf("read blob %s: %w", desc.Digest, err)
	}
	if !verifier.Verified() {
		return s.Mismatch(desc.Digest)
	}
	return nil
}

// Mismatch returns the *DamagedError about a blob that does not have its digest.
func (s *Store) Mismatch(dgst digest.Digest) error {
	return &DamagedError{s.dir, dgst, fmt.Errorf("blob %s: its content has another digest", dgst)}
}

// check reads all blobs of an image but those that are known to be sound, to which it adds. The error
// is a *DamagedError unless a blob cannot be read at all.
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

// Blame returns the *DamagedError that explains why an image could not be read or was not taken, if
// there is one, and else err. Only what failed is worth reading every blob again.
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

// unlistable returns err, for an image whose manifests and configs cannot be read, as a *DamagedError
// unless something else is the cause.
func (s *Store) unlistable(desc ocispec.Descriptor, err error) error {
	var damaged *DamagedError
	if err == nil || errors.As(err, &damaged) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	return &DamagedError{s.dir, desc.Digest, err}
}

// Complete returns all blobs of an image, or a *DamagedError if one is missing or of another size.
func (s *Store) Complete(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var blobs []ocispec.Descriptor
	err := s.walk(ctx, desc, func(d ocispec.Descriptor) error {
		blobs = append(blobs, d)
		return s.CheckSize(ctx, d)
	})
	return blobs, err
}

type cancelReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
