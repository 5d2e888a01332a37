package store

import (
	"archive/tar"
	"context"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/kedge-build/kedge/internal/layer"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// OpenBlob opens a blob for reading from its start.
func OpenBlob(ctx context.Context, from content.Provider, desc ocispec.Descriptor) (io.ReadCloser, error) {
	ra, err := from.ReaderAt(ctx, desc)
	if err != nil {
		return nil, err
	}
	return NewReader(ra), nil
}

// NewReader returns a reader of a blob from its start. Its Close closes ra.
func NewReader(ra content.ReaderAt) io.ReadCloser { return blobReader{content.NewReader(ra), ra} }

type blobReader struct {
	io.Reader
	io.Closer
}

// OpenLayer opens a layer of an image. The Reader checks its diffID.
func OpenLayer(ctx context.Context, from content.Provider, l Layer) (*layer.Reader, error) {
	blob, err := OpenBlob(ctx, from, l.Descriptor)
	if err != nil {
		return nil, err
	}
	return layer.Open(ctx, blob, layer.Digests{DiffID: l.DiffID})
}

// ReadLayer calls fn for every entry of a layer, and then checks the diffID. The content of the entry can
// be read until fn returns.
func (s *Store) ReadLayer(ctx context.Context, l Layer, fn func(*tar.Header, io.Reader) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read layer %s: %w", l.Descriptor.Digest, err)
		}
	}()
	r, err := OpenLayer(ctx, s, l)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Each(fn)
}
