package builder

import (
	"archive/tar"
	"bufio"
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

	"github.com/kedge-build/kedge/builder/gitdir"
	"github.com/kedge-build/kedge/internal/decompress"
	"github.com/moby/buildkit/session/upload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Archive is a build context that came as a tar archive. Its content is in an unlinked file, which
// disappears with the process.
type Archive struct {
	file *os.File
	sum  string // SHA-256 of the entries without their times

	repos []gitdir.Repo
}

// ArchiveError says that an archive is damaged.
type ArchiveError struct{ Err error }

func (e *ArchiveError) Error() string {
	return fmt.Sprintf("reading the archive with the build context: %v", e.Err)
}

func (e *ArchiveError) Unwrap() error { return e.Err }

// NewArchive reads a tar archive, plain or compressed with gzip, bzip2, xz or zstd. The caller must Close
// it. The error is an *ArchiveError, or comes from writing the file.
func NewArchive(r io.Reader) (*Archive, error) {
	file, err := os.CreateTemp("", "kedge-context-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	a, sum := &Archive{file: file}, sha256.New()
	content, err := decompress.Open(r, decompress.Gzip|decompress.Zstd|decompress.Bzip2|decompress.XZ)
	if err != nil {
		return nil, errors.Join(&ArchiveError{err}, file.Close())
	}
	defer content.Close()
	err = retimed(content, a.note, retiming{file, time.Time{}, true}, retiming{sum, time.Unix(0, 0), false})
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	a.sum = fmt.Sprintf("%x", sum.Sum(nil))
	return a, nil
}

// Close frees the archive's file.
func (a *Archive) Close() error { return a.file.Close() }

// retiming is a copy of an archive with other times: the epoch, or for a copy that keeps times the later
// of an entry's own time and the epoch.
type retiming struct {
	w     io.Writer
	epoch time.Time
	keep  bool
}

func (c retiming) time(own time.Time) time.Time {
	if c.keep && own.After(c.epoch) {
		return own
	}
	return c.epoch
}

// note records the .git folders of a.
func (a *Archive) note(h *tar.Header) {
	name := path.Clean(h.Name)
	if dir, file := path.Split(name); file == "HEAD" && path.Base(dir) == ".git" {
		a.repos = append(a.repos, gitdir.Repo{Path: path.Clean(dir), Own: []string{"it came in an archive, which is left as it is"}})
	}
}

// retimed writes copies of a tar archive. It calls seen for each entry first.
func retimed(r io.Reader, seen func(*tar.Header), copies ...retiming) error {
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
		seen(h)
		switch h.Typeflag {
		case tar.TypeXGlobalHeader:
			continue // git archive records the commit in it
		case tar.TypeGNUSparse:
			h.Typeflag = tar.TypeReg // the reader fills the holes
		}
		h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
		for i, c := range copies {
			entry := *h
			if entry.ModTime, entry.Format = c.time(h.ModTime), tar.FormatUnknown; entry.ModTime.Nanosecond() > 0 {
				entry.Format = tar.FormatPAX // other formats round to seconds
			}
			if err := out[i].WriteHeader(&entry); err != nil {
				return &ArchiveError{fmt.Errorf("%q: %w", h.Name, err)}
			}
		}
		if err := copyEntry(content, in); err != nil {
			return err
		}
	}
	// The checksum of the compressed archive comes after its last entry.
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

// copyEntry copies the content of an entry. A failure to read is an *ArchiveError, a failure to write not.
func copyEntry(w io.Writer, r io.Reader) error {
	read := &readError{r: r}
	_, err := io.Copy(w, read)
	if read.err != nil {
		return &ArchiveError{read.err}
	}
	return err
}

// readError records the error of a reader.
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

// Uploads reports whether a source is c, an archive that this machine uploads.
func (c Context) Uploads(source string) bool {
	return c.Archive != nil && strings.HasPrefix(source, "http://buildkit-session/"+c.Archive.sum)
}

// uploads sends an archive to the daemon, as often as it asks.
type uploads struct{ archive *Archive }

// uploadURL is the URL by which the daemon fetches a, with the times of a retiming.
func (a *Archive) uploadURL(epoch time.Time, keep bool) string {
	seconds, sep := int64(0), "-"
	if !epoch.IsZero() {
		seconds = epoch.Unix()
	}
	if keep {
		sep = "+"
	}
	return fmt.Sprintf("http://buildkit-session/%s%s%d", a.sum, sep, seconds)
}

// Register implements session.Attachable.
func (u uploads) Register(server *grpc.Server) { upload.RegisterUploadServer(server, u) }

// Pull implements upload.UploadServer.
func (u uploads) Pull(stream upload.Upload_PullServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	name := ""
	if p := md.Get("urlpath"); len(p) > 0 {
		name = path.Base(p[0])
	}
	seconds, ok := strings.CutPrefix(name, u.archive.sum+"-")
	keep := false
	if !ok {
		seconds, keep = strings.CutPrefix(name, u.archive.sum+"+")
	}
	epoch, err := strconv.ParseInt(seconds, 10, 64)
	if !ok && !keep || err != nil {
		return fmt.Errorf("nothing to upload as %q", name)
	}
	w := bufio.NewWriterSize(messages{stream}, 1<<20)
	if err := retimed(io.NewSectionReader(u.archive.file, 0, math.MaxInt64), func(*tar.Header) {}, retiming{w, time.Unix(epoch, 0), keep}); err != nil {
		return err
	}
	return w.Flush()
}

// messages writes to a stream.
type messages struct{ stream upload.Upload_PullServer }

func (m messages) Write(b []byte) (int, error) {
	const most = 3 << 20 // below gRPC's limit for a message
	for sent := 0; sent < len(b); sent += most {
		if err := m.stream.Send(&upload.BytesMessage{Data: b[sent:min(sent+most, len(b))]}); err != nil {
			return sent, err
		}
	}
	return len(b), nil
}
