package diff

import (
	"archive/tar"
	"context"
	"fmt"
	"io"

	"github.com/kedge-build/kedge/internal/layer"
	"github.com/opencontainers/go-digest"
)

// A Blob is a stored layer, whose compression does not matter. The zero value stands for a layer that an
// image does not have.
type Blob struct {
	Open func() (io.ReadCloser, error)
	// Digest is that of the blob and DiffID that of its content. An empty one is not checked.
	Digest, DiffID digest.Digest
}

// Reader starts to read the layer. Its errors are those of [layer.Reader].
func (b Blob) Reader(ctx context.Context) (*layer.Reader, error) {
	if b.Open == nil {
		return layer.Open(ctx, io.NopCloser(eof{}), layer.Digests{})
	}
	rc, err := b.Open()
	if err != nil {
		return nil, err
	}
	return layer.Open(ctx, rc, layer.Digests{Blob: b.Digest, DiffID: b.DiffID})
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// entries calls fn with each entry of a layer, and checks its digests.
func (l *imageLayer) entries(ctx context.Context, t *names, fn func(*tar.Header, io.Reader) error) (err error) {
	if l.parts != nil {
		err = readParts(ctx, l, t, fn)
	} else {
		err = readWhole(ctx, l, fn)
	}
	if err != nil {
		return fmt.Errorf("reading layer %s: %w", l.blob.Digest, err)
	}
	return nil
}

func readWhole(ctx context.Context, l *imageLayer, fn func(*tar.Header, io.Reader) error) error {
	r, err := l.blob.Reader(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Each(fn)
}
