package diff

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
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

// withTar has fn read the tar of a layer, whatever its compression, and then checks the blob against
// its digest.
func withTar(ctx context.Context, l *layer, fn func(*tar.Reader) error) error {
	want, err := l.Digest()
	if err != nil {
		return err
	}
	if err := readBlob(ctx, l, want.Hex, fn); err != nil {
		return fmt.Errorf("reading layer %s: %w", want, err)
	}
	return nil
}

func readBlob(ctx context.Context, l *layer, want string, fn func(*tar.Reader) error) error {
	rc, err := l.Compressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	blob := &blobReader{ctx: ctx, r: rc, sum: sha256.New()}
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
	err = fn(tar.NewReader(r))
	if err == nil {
		// What follows the end of the archive is padding, but the checksum covers it.
		_, err = io.Copy(io.Discard, r)
	}
	// A blob with another digest is the cause of whatever failed.
	if _, rerr := io.Copy(io.Discard, br); rerr != nil {
		return rerr
	}
	if got := hex.EncodeToString(blob.sum.Sum(nil)); got != want {
		return &DigestError{"sha256:" + want, "sha256:" + got}
	}
	return err
}

// blobReader hashes what is read, and fails once ctx is done.
type blobReader struct {
	ctx context.Context
	r   io.Reader
	sum hash.Hash
}

func (b *blobReader) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	n, err := b.r.Read(p)
	_, _ = b.sum.Write(p[:n])
	return n, err
}
