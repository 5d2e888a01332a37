// Package explain says why two images differ: for each path, the cause that its two versions show.
package explain

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kedge-build/kedge/cause"
	"github.com/kedge-build/kedge/diff"
	"github.com/kedge-build/kedge/internal/layer"
	"golang.org/x/sync/errgroup"
)

// File is a path that two images or layers differ in, and why.
type File struct {
	diff.Path
	Causes []cause.Cause
	// First and Second are what the path is in either; nil where it is not there, or was not looked at.
	First  *Version
	Second *Version
}

// Version is one of the two versions of a path.
type Version struct {
	Header tar.Header
	// Excerpt is a part of the content, around the first difference or from the beginning.
	Excerpt   []byte
	Offset    int64 // of the excerpt, in bytes
	Line      int   // of its first line, from 1; 0 where unknown
	Truncated bool  // there is more behind it
}

// What is looked at is bounded: an image may hold whatever its author likes.
const (
	maxFiles   = 2000      // paths that are looked at; the others have no causes
	maxFile    = 256 << 20 // bytes of a file
	maxContent = 2 << 30   // bytes of all files of an image; they are on disk meanwhile
	excerpt    = 4 << 10   // bytes
)

// Files explains each of paths. The layers of the two are given lowest first; of those that hold a
// path the highest counts.
func Files(ctx context.Context, first, second []diff.Blob, paths []diff.Path, h cause.Hints) ([]File, error) {
	files := make([]File, len(paths))
	wanted := map[string]bool{}
	for i, p := range paths {
		files[i].Path = p
		if i < maxFiles {
			wanted[layer.Clean(p.Path)] = true
		}
	}
	if len(wanted) == 0 {
		return files, nil
	}
	var sides [2]*side
	group, gctx := errgroup.WithContext(ctx)
	for i, layers := range [2][]diff.Blob{first, second} {
		group.Go(func() (err error) {
			sides[i], err = collect(gctx, layers, wanted)
			return err
		})
	}
	err := group.Wait()
	defer func() {
		for _, s := range sides {
			s.close()
		}
	}()
	if err != nil {
		return nil, err
	}
	group, ctx = errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i := range files {
		f := &files[i]
		a, b := sides[0].found[layer.Clean(f.Path.Path)], sides[1].found[layer.Clean(f.Path.Path)]
		switch f.Change { // a lower layer may have what is gone
		case diff.Added:
			a = nil
		case diff.Removed:
			b = nil
		}
		if a == nil && b == nil {
			continue
		}
		group.Go(func() (err error) {
			if a.whole() && b.whole() {
				if f.Causes, err = cause.Find(ctx, f.Path.Path, a.file(), b.file(), h); err != nil {
					return fmt.Errorf("explaining %q: %w", f.Path.Path, err)
				}
			} else {
				f.Causes = []cause.Cause{{
					Kind: cause.Unopened, Offset: -1, Count: 1,
					Why: "It was not looked into: it is too large, or there are too many.",
				}}
			}
			f.First, f.Second = a.version(b), b.version(a)
			if f.secret() {
				f.First.hide()
				f.Second.hide()
			} else if f.random() {
				f.First.redact()
				f.Second.redact()
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return files, nil
}

// side is what was found in one of the two.
type side struct {
	found map[string]*found
	spool *os.File // the contents, one behind the other
	size  int64
}

func (s *side) close() {
	if s != nil && s.spool != nil {
		s.spool.Close()
	}
}

// found is a path in one of the two. A nil one is not there.
type found struct {
	header  tar.Header
	content *io.SectionReader // nil where there is none
	left    bool              // there is one, and it is too large
}

func (f *found) whole() bool { return f == nil || !f.left }

func (f *found) file() *cause.File {
	if f == nil {
		return nil
	}
	if f.content == nil {
		return cause.FileOf(&f.header, nil)
	}
	return cause.FileOf(&f.header, f.content)
}

// collect finds the wanted paths, and keeps their content in a file that has no name.
func collect(ctx context.Context, layers []diff.Blob, wanted map[string]bool) (_ *side, err error) {
	s := &side{found: map[string]*found{}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.spool, err = os.CreateTemp("", "kedge-explain-"); err != nil {
		return nil, err
	}
	if err := os.Remove(s.spool.Name()); err != nil {
		return nil, err
	}
	for i := len(layers) - 1; i >= 0 && len(s.found) < len(wanted); i-- {
		if err := s.read(ctx, layers[i], wanted); err != nil {
			return nil, fmt.Errorf("reading layer %d: %w", i, err)
		}
	}
	return s, nil
}

func (s *side) read(ctx context.Context, blob diff.Blob, wanted map[string]bool) error {
	r, err := blob.Reader(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	here := map[string]*found{} // within a layer the last counts
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name := layer.Clean(h.Name)
		if !wanted[name] || s.found[name] != nil {
			continue
		}
		f := &found{header: *h}
		here[name] = f
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if h.Size > maxFile || s.size+h.Size > maxContent {
			f.left = true
			continue
		}
		n, err := io.Copy(s.spool, r)
		if err != nil {
			return err
		}
		f.content = io.NewSectionReader(s.spool, s.size, n)
		s.size += n
	}
	for name, f := range here {
		s.found[name] = f
	}
	return nil
}

// version returns what is shown of f beside other.
func (f *found) version(other *found) *Version {
	if f == nil {
		return nil
	}
	v := &Version{Header: f.header}
	if f.content == nil {
		return v
	}
	from := int64(0)
	if other != nil && other.content != nil {
		from = differs(f.content, other.content)
	}
	v.Line = 1
	if from > excerpt/4 {
		from -= excerpt / 4
		v.Line = 0
		if from <= maxCounted {
			head := make([]byte, from)
			if n, _ := f.content.ReadAt(head, 0); int64(n) == from {
				// From the beginning of a line, if that is near.
				if i := bytes.LastIndexByte(head, '\n'); from-int64(i) < excerpt/4 {
					from = int64(i) + 1
				}
				v.Line = bytes.Count(head[:from], []byte("\n")) + 1
			}
		}
	} else {
		from = 0
	}
	v.Offset = from
	v.Excerpt = make([]byte, min(excerpt, f.content.Size()-from))
	n, _ := f.content.ReadAt(v.Excerpt, from)
	v.Excerpt = v.Excerpt[:n]
	v.Truncated = from+int64(n) < f.content.Size()
	return v
}

// secret reports whether the content is not to be shown: keys, and hashes of passwords.
func (f *File) secret() bool {
	if slices.ContainsFunc(f.Causes, func(c cause.Cause) bool {
		return c.Kind == cause.PrivateKey || c.Kind == cause.SSHKey || c.Kind == cause.SecretKey || c.Kind == cause.Keystore
	}) {
		return true
	}
	name := strings.TrimRight(path.Base(f.Path.Path), "-")
	if name == "shadow" || name == "gshadow" {
		return true
	}
	for _, v := range []*Version{f.First, f.Second} {
		if v != nil && bytes.Contains(v.Excerpt, []byte("PRIVATE KEY-----")) {
			return true
		}
	}
	return false
}

// random reports whether the content may have a secret in it that was made by chance.
func (f *File) random() bool {
	return slices.ContainsFunc(f.Causes, func(c cause.Cause) bool {
		return c.Kind == cause.Random || c.Kind == cause.Unknown || c.Kind == cause.OneBuildOnly
	})
}

// maxKey is up to which size, in bytes, a file that is no text may be nothing but a key.
const maxKey = 512

// redact leaves the beginnings of what looks like a secret.
func (v *Version) redact() {
	switch {
	case v == nil:
	case v.Header.Size <= maxKey && !utf8.Valid(v.Excerpt):
		v.hide()
	default:
		v.Excerpt = cause.Redact(v.Excerpt)
	}
}

// hide takes the content away.
func (v *Version) hide() {
	if v != nil {
		v.Excerpt, v.Truncated = nil, false
	}
}

// maxCounted is up to which offset lines are counted.
const maxCounted = 4 << 20

// differs returns the offset of the first difference, or where the shorter one ends.
func differs(a, b *io.SectionReader) int64 {
	const step = 64 << 10
	x, y := make([]byte, step), make([]byte, step)
	for at := int64(0); ; at += step {
		n, _ := a.ReadAt(x, at)
		m, _ := b.ReadAt(y, at)
		for i := range min(n, m) {
			if x[i] != y[i] {
				return at + int64(i)
			}
		}
		if n < step || m < step {
			return at + int64(min(n, m))
		}
	}
}
