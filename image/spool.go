package image

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A spool is a content.Writer into a local content store, in dir, that does not wait for the disk: most blobs are
// removed again soon, and those that stay are synced when the Store adopts them.
type spool struct {
	dir      string
	status   content.Status
	file     *os.File // nil once it is closed
	digester digest.Digester
}

// newSpool starts to write a blob.
func newSpool(dir string, opts content.WriterOpts) (*spool, error) {
	alg := digest.Canonical
	if d := opts.Desc.Digest; d != "" {
		if err := d.Validate(); err != nil {
			return nil, fmt.Errorf("%q: %w: %w", d, err, errdefs.ErrInvalidArgument)
		}
		alg = d.Algorithm()
	}
	// The mode is that of a blob, minus the umask.
	file, err := os.OpenFile(filepath.Join(dir, "spool-"+rand.Text()), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o444)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &spool{
		dir: dir, file: file, digester: alg.Digester(),
		status: content.Status{Ref: opts.Ref, Total: opts.Desc.Size, Expected: opts.Desc.Digest, StartedAt: now, UpdatedAt: now},
	}, nil
}

func (s *spool) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	s.digester.Hash().Write(p[:n])
	s.status.Offset += int64(n)
	return n, err
}

func (s *spool) Digest() digest.Digest { return s.digester.Digest() }

func (s *spool) Status() (content.Status, error) { return s.status, nil }

// Truncate implements content.Writer, for size 0.
func (s *spool) Truncate(size int64) error {
	if size != 0 {
		return errors.New("truncate to another size than 0")
	}
	s.status.Offset = 0
	s.digester.Hash().Reset()
	if _, err := s.file.Seek(0, 0); err != nil {
		return err
	}
	return s.file.Truncate(0)
}

// Commit gives the blob its name in the content store.
func (s *spool) Commit(_ context.Context, size int64, expected digest.Digest, _ ...content.Opt) error {
	defer s.Close()
	if size > 0 && size != s.status.Offset {
		return fmt.Errorf("blob of %d bytes, expected %d: %w", s.status.Offset, size, errdefs.ErrFailedPrecondition)
	}
	dgst := s.Digest()
	if expected != "" && expected != dgst {
		return fmt.Errorf("blob %s, expected %s: %w", dgst, expected, errdefs.ErrFailedPrecondition)
	}
	if err := s.file.Close(); err != nil { // it can be the first to say that the disk is full
		return err
	}
	target := filepath.Join(s.dir, ocispec.ImageBlobsDir, dgst.Algorithm().String(), dgst.Encoded())
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return os.Rename(s.file.Name(), target)
}

// Close ends the writer. A blob that was not committed is removed.
func (s *spool) Close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if rerr := os.Remove(s.file.Name()); !errors.Is(rerr, os.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	s.file = nil
	return err
}
