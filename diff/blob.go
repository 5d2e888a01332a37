package diff

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxZstdWindow is what `zstd -19 --long` needs; a frame that asks for more is refused, because its
// window is allocated at once.
const maxZstdWindow = 128 << 20

// DigestError says that a blob does not have the content that its digest stands for.
type DigestError struct{ Want, Got string }

func (e *DigestError) Error() string {
	return fmt.Sprintf("the blob has the digest %s, not %s", e.Got, e.Want)
}

// entries calls fn with each entry of a layer, whatever its compression, and then checks the blob against
// its digest.
func entries(ctx context.Context, l *layer, fn func(*tar.Header, io.Reader) error) error {
	want, err := l.Digest()
	if err != nil {
		return err
	}
	if l.parts != nil {
		err = readParts(ctx, l, fn)
	} else {
		err = readBlob(ctx, l, want.Hex, fn)
	}
	if err != nil {
		return fmt.Errorf("reading layer %s: %w", want, err)
	}
	return nil
}

func readBlob(ctx context.Context, l *layer, want string, fn func(*tar.Header, io.Reader) error) error {
	rc, err := l.Compressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	blob := &blobReader{interruptible{ctx, rc}, sha256.New()}
	br := bufio.NewReaderSize(blob, 256<<10)
	magic, err := br.Peek(4)
	if err != nil && err != io.EOF {
		return err
	}
	var r io.Reader = br
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		zr, err := gzip.NewReader(br)
		if err != nil {
			return err
		}
		defer zr.Close()
		r = zr
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		zr, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return err
		}
		defer zr.Close()
		r = zr
	}
	err = each(tar.NewReader(r), fn)
	if err == nil {
		// What follows the end of the archive is padding, but the checksum covers it.
		_, err = io.Copy(io.Discard, r)
	}
	// A blob with another digest is the cause of whatever failed.
	if _, rerr := io.Copy(io.Discard, br); rerr != nil {
		return rerr
	}
	if derr := blob.check(want); derr != nil {
		return derr
	}
	return err
}

// each calls fn with each entry of an archive.
func each(t *tar.Reader, fn func(*tar.Header, io.Reader) error) error {
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(h, t); err != nil {
			return fmt.Errorf("entry %.200q: %w", h.Name, err)
		}
	}
}

// blobReader hashes what is read.
type blobReader struct {
	interruptible
	sum hash.Hash
}

func (b *blobReader) Read(p []byte) (int, error) {
	n, err := b.interruptible.Read(p)
	_, _ = b.sum.Write(p[:n])
	return n, err
}

// interruptible fails once ctx is done.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, context.Cause(i.ctx)
	}
	return i.r.Read(p)
}

// check returns a *DigestError if what was read has another digest than want, in hex.
func (b *blobReader) check(want string) error {
	if got := hex.EncodeToString(b.sum.Sum(nil)); got != want {
		return &DigestError{"sha256:" + want, "sha256:" + got}
	}
	return nil
}
