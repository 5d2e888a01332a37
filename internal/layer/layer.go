// Package layer opens the layers of images. It is the only code that does: it detects the compression,
// checks digests, bounds what a hostile layer can claim and gives whiteouts one meaning.
//
//	r, err := layer.Open(ctx, blob, layer.Digests{Blob: desc.Digest, DiffID: diffID})
//	if err != nil {
//		return err
//	}
//	defer r.Close()
//	for {
//		h, err := r.Next()
//		if errors.Is(err, io.EOF) {
//			return nil // and the digests are right
//		}
//		if err != nil {
//			return err
//		}
//		...
//	}
package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	// MaxPath is the length of the longest path that Linux accepts, in bytes.
	MaxPath = 4096
	// MaxEntries bounds the entries of a layer, because readers keep them in memory.
	MaxEntries = 2_000_000
	// maxSparse bounds a sparse file, in bytes: a header of one block can claim exabytes of zeros.
	// BuildKit writes no sparse entries.
	maxSparse = 8 << 30
)

// XattrPrefix starts the PAX records that hold extended attributes.
const XattrPrefix = "SCHILY.xattr."

// Digests are the digests that a layer must have. An empty one is not checked.
type Digests struct {
	Blob   digest.Digest // of the layer as it is stored
	DiffID digest.Digest // of the uncompressed tar
}

// A DigestError says that the content of a layer does not have the digest that the image names.
type DigestError struct {
	Kind string // "digest" or "diffID"
	Want digest.Digest
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("the layer's content does not have the %s %s", e.Kind, e.Want)
}

// A Reader reads the entries of one layer, in their order.
type Reader struct {
	src     io.Reader // the uncompressed tar, through the verifier of the diffID
	blob    io.Reader // the stored layer, through the verifier of the blob
	tar     *tar.Reader
	release func()
	checks  []check
	entries int
}

type check struct {
	err      DigestError
	verifier digest.Verifier
}

// Open starts to read a layer, which may be a plain tar, gzip or zstd, whatever its media type says.
// Reading fails when ctx is done. The caller must close the Reader.
func Open(ctx context.Context, blob io.Reader, want Digests) (*Reader, error) {
	r := &Reader{blob: &cancelReader{ctx, blob}}
	var err error
	if r.blob, err = r.verify(r.blob, DigestError{"digest", want.Blob}); err != nil {
		return nil, err
	}
	if r.src, r.release, err = Decompress(r.blob); err != nil {
		return nil, err
	}
	if r.src, err = r.verify(r.src, DigestError{"diffID", want.DiffID}); err != nil {
		r.release()
		return nil, err
	}
	r.tar = tar.NewReader(r.src)
	return r, nil
}

// verify returns src so that what is read from it is checked at the end.
func (r *Reader) verify(src io.Reader, e DigestError) (io.Reader, error) {
	if e.Want == "" {
		return src, nil
	}
	if err := e.Want.Validate(); err != nil {
		return nil, fmt.Errorf("%s %q: %w", e.Kind, e.Want, err)
	}
	v := e.Want.Verifier()
	r.checks = append(r.checks, check{e, v})
	return io.TeeReader(src, v), nil
}

// Next returns the header of the next entry, whose content Read then returns. The error is io.EOF at
// the end of a layer that has the digests it must have, and a *DigestError if it has others.
func (r *Reader) Next() (*tar.Header, error) {
	h, err := r.tar.Next()
	if errors.Is(err, io.EOF) {
		return nil, r.end()
	}
	if err != nil {
		return nil, err
	}
	if r.entries++; r.entries > MaxEntries {
		return nil, fmt.Errorf("more than %d entries", MaxEntries)
	}
	if err := checkHeader(h); err != nil {
		return nil, fmt.Errorf("entry %.200q: %w", h.Name, err)
	}
	return h, nil
}

// end reads the padding behind the tar and the compressed stream, which the digests cover.
func (r *Reader) end() error {
	for _, rest := range []io.Reader{r.src, r.blob} {
		if _, err := io.Copy(io.Discard, rest); err != nil {
			return err
		}
	}
	for _, c := range r.checks {
		if !c.verifier.Verified() {
			return &c.err
		}
	}
	return io.EOF
}

// Read reads the content of the entry that Next returned last.
func (r *Reader) Read(p []byte) (int, error) { return r.tar.Read(p) }

// Close releases the decompressor. It does not close the blob.
func (r *Reader) Close() { r.release() }

// checkHeader refuses what a layer cannot hold.
func checkHeader(h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir,
		tar.TypeFifo, tar.TypeCont, tar.TypeGNUSparse, tar.TypeXGlobalHeader:
	default:
		return fmt.Errorf("unknown type %q", h.Typeflag)
	}
	if len(h.Name) > MaxPath || len(h.Linkname) > MaxPath {
		return fmt.Errorf("path of more than %d bytes", MaxPath)
	}
	if Clean(h.Name) == "" && h.Typeflag != tar.TypeDir && h.Typeflag != tar.TypeXGlobalHeader {
		return errors.New("the root is no folder")
	}
	if leavesRoot(h.Name) || h.Typeflag == tar.TypeLink && leavesRoot(h.Linkname) {
		return errors.New(`path with ".."`)
	}
	if h.Size > maxSparse && IsSparse(h) {
		return fmt.Errorf("sparse file of %d bytes, more than %d", h.Size, int64(maxSparse))
	}
	return nil
}

func leavesRoot(name string) bool { return slices.Contains(strings.Split(name, "/"), "..") }

// IsSparse reports whether an entry is a sparse file, of which the tar has only the parts that are not zero.
func IsSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// Clean returns the path of an entry without slashes around it, "" for the root.
func Clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// Xattrs returns the PAX records of the extended attributes, sorted by key.
func Xattrs(h *tar.Header) iter.Seq2[string, string] {
	return func(yield func(record, value string) bool) {
		for _, k := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			if strings.HasPrefix(k, XattrPrefix) && !yield(k, h.PAXRecords[k]) {
				return
			}
		}
	}
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
