// Package layer opens the layers of images. It is the only code that does: it decompresses them, checks
// their digests, bounds what a hostile layer can claim, and gives whiteouts one meaning.
//
//	r, err := layer.Open(ctx, blob, layer.Digests{Blob: desc.Digest, DiffID: diffID})
//	if err != nil {
//		return err
//	}
//	defer r.Close()
//	for {
//		h, err := r.Next()
//		if errors.Is(err, io.EOF) {
//			return nil // the layer ends here, and its digests are right
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

	"github.com/kedge-build/kedge/internal/decompress"
	"github.com/opencontainers/go-digest"
)

const (
	// maxEntries bounds the entries of a layer, because readers keep them in memory.
	maxEntries = 2_000_000
	// maxNames bounds the paths and the extended attributes of a layer, in bytes. A layer compresses a
	// thousandfold, so the size of its blob bounds nothing.
	maxNames = 512 << 20
	// maxPath is the length of the longest path that Linux accepts, in bytes.
	maxPath = 4096
	// maxSparse bounds a sparse file, in bytes: a header of one block can claim exabytes of zeros.
	// BuildKit writes no sparse entries.
	maxSparse = 8 << 30
)

// xattrPrefix starts the PAX records that hold extended attributes.
const xattrPrefix = "SCHILY.xattr."

// Digests are the digests that a layer must have. An empty one is not checked.
type Digests struct {
	Blob   digest.Digest // of the layer as it is stored
	DiffID digest.Digest // of the uncompressed tar
}

// A DigestError says that the content of a layer does not have the digest that its image names.
type DigestError struct {
	Kind string // "digest" or "diffID"
	Want digest.Digest
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("the layer's content does not have the %s %s that its image names", e.Kind, e.Want)
}

// ErrTooLarge says that a layer has more entries, or longer names, than a reader holds in memory.
var ErrTooLarge = fmt.Errorf("the layer has more than %d entries, or their names more than %d MiB", maxEntries, maxNames>>20)

// A Budget is what the entries of a layer may still take. The zero value is that of a whole layer.
type Budget struct{ entries, names int }

func (b *Budget) spend(h *tar.Header) error {
	b.entries++
	b.names += len(h.Name) + len(h.Linkname)
	for k, v := range h.PAXRecords {
		b.names += len(k) + len(v)
	}
	if b.entries > maxEntries || b.names > maxNames {
		return ErrTooLarge
	}
	return nil
}

// A Reader reads the entries of one layer, in their order.
type Reader struct {
	tar    *tar.Reader
	budget *Budget
	// Open sets the rest.
	content io.Reader // the uncompressed tar, through its verifier
	stored  io.Reader // the layer as it is stored, through its verifier
	stream  *decompress.Stream
	blob    io.Closer
	checks  []check
}

type check struct {
	err      DigestError
	verifier digest.Verifier
}

// Open starts to read a layer, which may be a plain tar, gzip or zstd, whatever its media type says.
// Reading fails when ctx is done. The Reader owns blob: Close closes it, as does an Open that fails.
func Open(ctx context.Context, blob io.ReadCloser, want Digests) (_ *Reader, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, blob.Close())
		}
	}()
	r := &Reader{budget: &Budget{}, blob: blob}
	if r.stored, err = r.verify(Cancellable(ctx, blob), DigestError{"digest", want.Blob}); err != nil {
		return nil, err
	}
	if r.stream, err = decompress.Open(r.stored, decompress.Gzip|decompress.Zstd); err != nil {
		return nil, err
	}
	if r.content, err = r.verify(r.stream, DigestError{"diffID", want.DiffID}); err != nil {
		r.stream.Close()
		return nil, err
	}
	r.tar = tar.NewReader(r.content)
	return r, nil
}

// A Blob is a stored layer.
type Blob interface {
	io.ReaderAt
	io.Closer
}

// OpenPlain starts to read an uncompressed layer whose digests were checked. It reads little of the content that its
// caller skips. Reading fails when ctx is done. The Reader owns blob.
func OpenPlain(ctx context.Context, blob Blob, size int64) *Reader {
	return &Reader{tar: tar.NewReader(&window{ctx: ctx, r: blob, size: size}), budget: &Budget{}, blob: blob}
}

// NewReader returns a Reader of a part of an uncompressed layer, whose digests it cannot check. All parts
// of a layer share one Budget.
func NewReader(part io.Reader, b *Budget) *Reader {
	return &Reader{tar: tar.NewReader(part), budget: b}
}

// verify returns src such that what is read from it is checked at the end.
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
// the end of a layer that has its digests, a *DigestError if it has others, and ErrTooLarge. A blob with a
// wrong digest often fails in another way first; Next then still returns the *DigestError.
func (r *Reader) Next() (*tar.Header, error) {
	h, err := r.tar.Next()
	if err != nil {
		return nil, r.end(err)
	}
	if err := r.budget.spend(h); err != nil {
		return nil, err
	}
	if err := checkHeader(h); err != nil {
		return nil, r.end(fmt.Errorf("entry %.200q: %w", h.Name, err))
	}
	return h, nil
}

// Each calls fn with each entry that is left, and with its content. Its error is that of Next, but nil at the end
// of the layer, or that of fn with the entry's name.
func (r *Reader) Each(fn func(*tar.Header, io.Reader) error) error {
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(h, r); err != nil {
			return fmt.Errorf("entry %.200q: %w", h.Name, err)
		}
	}
}

// end returns why a layer ends: err, or a wrong digest, which explains any other error. It reads the
// padding behind the tar and behind the compressed stream, which the digests cover.
func (r *Reader) end(err error) error {
	if r.stream == nil {
		return err
	}
	if errors.Is(err, io.EOF) {
		if _, rerr := io.Copy(io.Discard, r.content); rerr != nil {
			err = rerr
		}
	}
	whole := errors.Is(err, io.EOF)
	if !whole {
		r.stream.Close() // a decoder may read ahead at the same time
	}
	if _, rerr := io.Copy(io.Discard, r.stored); rerr != nil {
		if whole {
			err = rerr
		}
		return err
	}
	for _, c := range r.checks {
		if (whole || c.err.Kind == "digest") && !c.verifier.Verified() {
			return &c.err
		}
	}
	return err
}

// Read reads the content of the entry that Next returned last.
func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.tar.Read(p)
	if err != nil && err != io.EOF {
		err = r.end(err)
	}
	return n, err
}

// Close frees the decompressor and closes the blob.
func (r *Reader) Close() error {
	if r.stream != nil {
		r.stream.Close()
	}
	if r.blob == nil {
		return nil
	}
	return r.blob.Close()
}

// A WhiteoutError says that a layer has a whiteout that names nothing.
type WhiteoutError struct{ Path string }

func (e *WhiteoutError) Error() string { return fmt.Sprintf("%q: whiteout of no name", e.Path) }

// checkHeader refuses what a layer cannot hold.
func checkHeader(h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir,
		tar.TypeFifo, tar.TypeCont, tar.TypeGNUSparse, tar.TypeXGlobalHeader:
	default:
		return fmt.Errorf("unknown type %q", h.Typeflag)
	}
	if len(h.Name) > maxPath || len(h.Linkname) > maxPath {
		return fmt.Errorf("path of more than %d bytes", maxPath)
	}
	if leavesRoot(h.Name) || h.Typeflag == tar.TypeLink && leavesRoot(h.Linkname) {
		return errors.New(`path with ".."`)
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if Clean(h.Name) == "" && h.Typeflag != tar.TypeDir {
		return errors.New("the root is no folder")
	}
	switch path.Base(Clean(h.Name)) {
	case whiteoutPrefix, whiteoutPrefix + ".", whiteoutPrefix + "..":
		return &WhiteoutError{Path: "/" + Clean(h.Name)} // containerd refuses it, too (pkg/archive, validateWhiteout)
	}
	if h.Size > maxSparse && IsSparse(h) {
		return fmt.Errorf("sparse file of %d bytes, more than %d", h.Size, int64(maxSparse))
	}
	return nil
}

func leavesRoot(name string) bool {
	return strings.Contains(name, "..") && slices.Contains(strings.Split(name, "/"), "..")
}

// IsSparse reports whether an entry is a sparse file, whose zeros are not in the tar.
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
func Clean(name string) string {
	// Almost every name is clean but for what tar puts around it.
	p := strings.TrimPrefix(strings.Trim(name, "/"), "./")
	if strings.HasPrefix(p, ".") || strings.HasPrefix(p, "/") || strings.Contains(p, "/.") || strings.Contains(p, "//") {
		p = path.Clean("/" + name)[1:]
	}
	return p
}

// Xattrs returns the PAX records of the extended attributes, sorted by key.
func Xattrs(h *tar.Header) iter.Seq2[string, string] {
	return func(yield func(record, value string) bool) {
		if len(h.PAXRecords) == 0 {
			return
		}
		for _, k := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			if strings.HasPrefix(k, xattrPrefix) && !yield(k, h.PAXRecords[k]) {
				return
			}
		}
	}
}

// XattrName returns the name of the extended attribute in a record that Xattrs returned.
func XattrName(record string) string { return strings.TrimPrefix(record, xattrPrefix) }

// Cancellable returns a reader of r that fails with the cause of ctx once ctx is done.
func Cancellable(ctx context.Context, r io.Reader) io.Reader { return &cancelReader{ctx, r} }

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
