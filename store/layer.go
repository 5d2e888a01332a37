package store

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/kedge-build/kedge/internal/layer"
)

// ReadLayer calls fn for every entry of a layer, and then checks the diffID. The content of the entry can
// be read until fn returns.
func (s *Store) ReadLayer(ctx context.Context, l Layer, fn func(*tar.Header, io.Reader) error) error {
	ra, err := s.ReaderAt(ctx, l.Descriptor)
	if err != nil {
		return err
	}
	defer ra.Close()
	r, err := layer.Open(ctx, content.NewReader(ra), layer.Digests{DiffID: l.DiffID})
	if err != nil {
		return fmt.Errorf("read layer %s: %w", l.Descriptor.Digest, err)
	}
	defer r.Close()
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read layer %s: %w", l.Descriptor.Digest, err)
		}
		if err := fn(h, r); err != nil {
			return fmt.Errorf("read layer %s: entry %.200q: %w", l.Descriptor.Digest, h.Name, err)
		}
	}
}
