package builder

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/moby/buildkit/session/upload"
	"github.com/therootcompany/xz"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Archive is a build context that came as a tar archive. It lies in a file without a name, which is
// gone with the process, however that ends.
type Archive struct {
	file *os.File
	sum  string // of the entries
}

// ArchiveError says that an archive cannot be read to its end.
type ArchiveError struct{ Err error }

func (e *ArchiveError) Error() string {
	return fmt.Sprintf("reading the archive with the build context: %v", e.Err)
}

func (e *ArchiveError) Unwrap() error { return e.Err }

// NewArchive reads a tar archive, plain or compressed with gzip, bzip2, xz or zstd. The error is an
// *ArchiveError, or one of writing the file. The caller must Close it.
func NewArchive(r io.Reader) (*Archive, error) {
	file, err := os.CreateTemp("", "kedge-context-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	a, sum := &Archive{file: file}, sha256.New()
	if r, err = decompressed(r); err == nil {
		err = retimed(r, retiming{file, time.Time{}, true}, retiming{sum, time.Unix(0, 0), false})
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	a.sum = fmt.Sprintf("%x", sum.Sum(nil))
	return a, nil
}

// Close gives the file back.
func (a *Archive) Close() error { return a.file.Close() }

// decompressed returns what r is when it is unpacked.
func decompressed(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	head, _ := b.Peek(6)
	var err error
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		r, err = gzip.NewReader(b)
	case bytes.HasPrefix(head, []byte("BZh")):
		r = bzip2.NewReader(b)
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		r, err = xz.NewReader(b, 0)
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		r, err = zstd.NewReader(b, zstd.WithDecoderConcurrency(1))
	default:
		return b, nil
	}
	if err != nil {
		return nil, &ArchiveError{err}
	}
	return r, nil
}

// retiming is a copy of an archive in which every entry has the time at or, where it keeps its own, no
// earlier one.
type retiming struct {
	w   io.Writer
	at  time.Time
	own bool
}

func (c retiming) of(t time.Time) time.Time {
	if c.own && t.After(c.at) {
		return t
	}
	return c.at
}

// retimed copies a tar archive.
func retimed(r io.Reader, copies ...retiming) error {
	in, out, contents := tar.NewReader(r), make([]*tar.Writer, len(copies)), make([]io.Writer, len(copies))
	for i, c := range copies {
		out[i] = tar.NewWriter(c.w)
		contents[i] = out[i]
	}
	content := io.MultiWriter(contents...)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return &ArchiveError{err}
		}
		switch h.Typeflag {
		case tar.TypeXGlobalHeader:
			continue // where git archive keeps the commit
		case tar.TypeGNUSparse:
			h.Typeflag = tar.TypeReg // it was read with its holes
		}
		h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
		for i, c := range copies {
			entry := *h
			if entry.ModTime, entry.Format = c.of(h.ModTime), tar.FormatUnknown; entry.ModTime.Nanosecond() > 0 {
				entry.Format = tar.FormatPAX // the others round a time to seconds
			}
			if err := out[i].WriteHeader(&entry); err != nil {
				return &ArchiveError{fmt.Errorf("%q: %w", h.Name, err)}
			}
		}
		if err := copyEntry(content, in); err != nil {
			return err
		}
	}
	// What follows the archive's end may say that it is not the one that was packed.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return &ArchiveError{err}
	}
	for _, w := range out {
		if err := w.Close(); err != nil {
			return err
		}
	}
	return nil
}

// copyEntry tells an archive that cannot be read from a file that cannot be written.
func copyEntry(w io.Writer, r io.Reader) error {
	read := &readError{r: r}
	_, err := io.Copy(w, read)
	if read.err != nil {
		return &ArchiveError{read.err}
	}
	return err
}

// readError keeps the error of a reader.
type readError struct {
	r   io.Reader
	err error
}

func (r *readError) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// uploads hands archives to the daemon, as often as it asks.
type uploads struct{ archive *Archive }

// uploadURL is what the daemon fetches a with entries of that time by, or with their own where they are later.
func (a *Archive) uploadURL(t time.Time, own bool) string {
	seconds, sep := int64(0), "-"
	if !t.IsZero() {
		seconds = t.Unix()
	}
	if own {
		sep = "+"
	}
	return fmt.Sprintf("http://buildkit-session/%s%s%d", a.sum, sep, seconds)
}

// Register is part of session.Attachable.
func (u uploads) Register(server *grpc.Server) { upload.RegisterUploadServer(server, u) }

// Pull is part of upload.UploadServer.
func (u uploads) Pull(stream upload.Upload_PullServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	name := ""
	if p := md.Get("urlpath"); len(p) > 0 {
		name = path.Base(p[0])
	}
	seconds, ok := strings.CutPrefix(name, u.archive.sum+"-")
	own := false
	if !ok {
		seconds, own = strings.CutPrefix(name, u.archive.sum+"+")
	}
	epoch, err := strconv.ParseInt(seconds, 10, 64)
	if !ok && !own || err != nil {
		return fmt.Errorf("nothing to upload as %q", name)
	}
	w := bufio.NewWriterSize(messages{stream}, 1<<20)
	if err := retimed(io.NewSectionReader(u.archive.file, 0, math.MaxInt64), retiming{w, time.Unix(epoch, 0), own}); err != nil {
		return err
	}
	return w.Flush()
}

// messages writes to a stream.
type messages struct{ stream upload.Upload_PullServer }

func (m messages) Write(b []byte) (int, error) {
	const most = 3 << 20 // below what a message may have
	for sent := 0; sent < len(b); sent += most {
		if err := m.stream.Send(&upload.BytesMessage{Data: b[sent:min(sent+most, len(b))]}); err != nil {
			return sent, err
		}
	}
	return len(b), nil
}
