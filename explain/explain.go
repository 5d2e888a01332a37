// Package explain finds out why two images differ. For each path it gives the causes that its two versions
// show.
package explain

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
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

// File is a path that differs between two images or layers, and the causes.
type File struct {
	diff.Path
	Causes []cause.Cause
	// Package is the Debian package that came or went with the path; empty for none.
	Package string
	// First and Second are the two versions of the path. A version is nil if that side lacks the path, or
	// if it was not examined.
	First  *Version
	Second *Version
}

// Version is one of the two versions of a path.
type Version struct {
	Header tar.Header
	// Excerpt is a part of the content, around the first difference or from the beginning.
	Excerpt   []byte
	Offset    int64 // of the excerpt, in bytes
	Line      int   // of its first line, from 1; 0 if unknown
	Truncated bool  // the content continues
}

// Limits, because an image may contain anything.
const (
	maxFiles   = 2000      // paths that are examined; the others get no causes
	maxFile    = 256 << 20 // bytes of a file
	maxContent = 2 << 30   // bytes of all files of an image, which are spooled to disk
	excerpt    = 4 << 10   // bytes
)

// Files explains each of the paths. The layers of both sides are given lowest first; if several have a
// path, the highest counts.
func Files(ctx context.Context, first, second []diff.Blob, paths []diff.Path, h cause.Hints) ([]File, error) {
	files := make([]File, len(paths))
	wanted := map[string]bool{}
	for i, p := range paths {
		files[i].Path = p
		if name := layer.Clean(p.Path); i < maxFiles || listOf(name) != "" {
			wanted[name] = true
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
	attribute(files, sides)
	group, ctx = errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i := range files {
		f := &files[i]
		a, b := sides[0].found[layer.Clean(f.Path.Path)], sides[1].found[layer.Clean(f.Path.Path)]
		switch f.Change { // a lower layer may still have a removed path
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
				redact(f.First, f.Second)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return files, nil
}

// infoDir is where dpkg keeps the files about its packages.
const infoDir = "var/lib/dpkg/info/"

// listOf returns the package whose paths dpkg lists in the file with a name, or "".
func listOf(name string) string {
	list, ok := strings.CutPrefix(name, infoDir)
	if pkg, isList := strings.CutSuffix(list, ".list"); ok && isList {
		pkg, _, _ = strings.Cut(pkg, ":") // the architecture
		return pkg
	}
	return ""
}

// attribute finds the paths that came or went with a package.
func attribute(files []File, sides [2]*side) {
	at := map[string]*File{}
	for i := range files {
		if f := &files[i]; f.Change != diff.Changed {
			at[layer.Clean(f.Path.Path)] = f
		}
	}
	for name, list := range at {
		pkg := listOf(name)
		content := sides[0].found[name]
		if list.Change == diff.Added {
			content = sides[1].found[name]
		}
		if pkg == "" || content == nil || content.content == nil {
			continue
		}
		add := func(name string) {
			if f := at[name]; f != nil && f.Change == list.Change && (f.Package == "" || pkg < f.Package) {
				f.Package = pkg
			}
		}
		stem := strings.TrimSuffix(name, "list")
		for _, kind := range []string{"list", "md5sums", "conffiles", "preinst", "postinst", "prerm", "postrm", "triggers", "shlibs", "symbols", "templates", "config"} {
			add(stem + kind)
		}
		for lines := bufio.NewScanner(content.content); lines.Scan(); {
			add(layer.Clean(lines.Text()))
			add(layer.Clean("usr" + lines.Text())) // dpkg knows /bin, and the image has /usr/bin
		}
	}
}

// side is one of the two sides, as far as it was read.
type side struct {
	found map[string]*found
	spool *os.File // the contents, one after another
	size  int64
}

func (s *side) close() {
	if s != nil && s.spool != nil {
		s.spool.Close()
	}
}

// found is a path on one side. Nil stands for a path that is not there.
type found struct {
	header  tar.Header
	content *io.SectionReader // nil for no content
	left    bool              // the content is too large to read
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

// collect finds the wanted paths and copies their contents to an unlinked file.
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
	here := map[string]*found{} // of several entries in a layer the last counts
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
	maps.Copy(s.found, here)
	return nil
}

// version returns the header of f and an excerpt around the first difference from other.
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
				// Start at the beginning of a line, if it is near.
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

// secret reports whether the content must not be shown, because it contains keys or password hashes.
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

// random reports whether the content may contain a randomly generated secret.
func (f *File) random() bool {
	return slices.ContainsFunc(f.Causes, func(c cause.Cause) bool {
		return c.Kind == cause.Random || c.Kind == cause.Unknown || c.Kind == cause.OneBuildOnly
	})
}

// maxKey is the largest size, in bytes, of a binary file that may consist of nothing but a key.
const maxKey = 512

// redact shortens everything that looks like a secret to its beginning. Either version may be nil.
func redact(first, second *Version) {
	var excerpts [2][]byte
	for i, v := range []*Version{first, second} {
		if v == nil {
			continue
		}
		if v.Header.Size <= maxKey && !utf8.Valid(v.Excerpt) {
			v.hide()
		}
		excerpts[i] = v.Excerpt
	}
	excerpts[0], excerpts[1] = cause.Redact(excerpts[0], excerpts[1])
	for i, v := range []*Version{first, second} {
		if v != nil {
			v.Excerpt = excerpts[i]
		}
	}
}

// hide removes the content.
func (v *Version) hide() {
	if v != nil {
		v.Excerpt, v.Truncated = nil, false
	}
}

// maxCounted is the largest offset, in bytes, up to which lines are counted.
const maxCounted = 4 << 20

// differs returns the offset of the first difference, or the length of the shorter content.
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
