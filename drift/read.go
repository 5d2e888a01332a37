package drift

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/kedge-build/kedge/diff"
	"github.com/kedge-build/kedge/diff/packages"
	"github.com/kedge-build/kedge/internal/format/elf"
	"github.com/kedge-build/kedge/internal/layer"
	ocidigest "github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// The limits of what reading holds in memory or keeps.
const (
	maxLayers   = 1000     // as in package diff
	maxInMemory = 16 << 20 // bytes of a file that must be read at random; a larger one goes to a temporary file
	maxSpooled  = 8 << 30  // bytes of a temporary file
	maxKept     = 64 << 10 // bytes of a small text file, such as /etc/os-release
	readers     = 2        // layers that are read at the same time
)

// Read reads an image of one platform, each of its layers once, and checks their digests. The notes say which
// package databases are damaged. Memory grows with the number of paths, not with their content.
func Read(ctx context.Context, img v1.Image) (_ *Record, notes []string, err error) {
	digest, err := img.Digest()
	if err != nil {
		return nil, nil, err
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		return nil, nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, nil, err
	}
	r := &Record{Digest: digest.String()}
	if p := config.Platform(); p != nil {
		r.Platform = p.String()
	}
	if r.Config, err = diff.Settings(raw); err != nil {
		return nil, nil, fmt.Errorf("reading the image's config: %w", err)
	}
	for _, key := range []string{"created", "architecture", "os", "variant"} { // a time, and the platform
		delete(r.Config, key)
	}
	blobs, err := layers(img, config, r)
	if err != nil {
		return nil, nil, err
	}
	read := make([]*reading, len(blobs))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for i, b := range blobs {
		read[i] = &reading{buf: make([]byte, 0, 128<<10), hash: sha256.New()}
		group.Go(func() error {
			if err := read[i].layer(gctx, b); err != nil {
				return fmt.Errorf("reading layer %s: %w", b.Digest, err)
			}
			read[i].buf = nil
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	var tree layer.Overlay[*entry]
	tree.Implied = func() *entry { return &entry{file: File{Type: "directory", Mode: 0o755}} }
	for i, l := range read {
		r.Layers[i].Size = l.size
		notes = append(notes, l.notes...)
		if err := l.apply(&tree); err != nil {
			return nil, nil, fmt.Errorf("layer %s: %w", blobs[i].Digest, err)
		}
		read[i] = nil
	}
	r.fill(&tree)
	slices.Sort(notes)
	return r, notes, nil
}

// layers returns the blobs of an image's layers, and fills in what the manifest and the history say of them.
func layers(img v1.Image, config *v1.ConfigFile, r *Record) ([]diff.Blob, error) {
	list, err := img.Layers()
	if err != nil {
		return nil, err
	}
	if len(list) > maxLayers {
		return nil, fmt.Errorf("it has %d layers, more than %d", len(list), maxLayers)
	}
	if len(list) != len(config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("its manifest has %d layers, its config %d", len(list), len(config.RootFS.DiffIDs))
	}
	var made []string
	for _, h := range config.History {
		if !h.EmptyLayer {
			made = append(made, h.CreatedBy)
		}
	}
	var blobs []diff.Blob
	for i, l := range list {
		digest, err := l.Digest()
		if err != nil {
			return nil, err
		}
		size, err := l.Size()
		if err != nil {
			return nil, err
		}
		r.Download += size
		diffID := config.RootFS.DiffIDs[i].String()
		recorded := Layer{DiffID: diffID}
		if len(made) == len(list) {
			recorded.By = strings.ToValidUTF8(made[i], "\uFFFD")
		}
		r.Layers = append(r.Layers, recorded)
		blobs = append(blobs, diff.Blob{Open: l.Compressed, Digest: ocidigest.Digest(digest.String()), DiffID: ocidigest.Digest(diffID)})
	}
	return blobs, nil
}

// An entry is an entry of a layer.
type entry struct {
	name, link string
	kind       byte
	file       File
	packages   []packages.Package
	kept       []byte // the content of a small text file that keep accepts
	counted    bool   // fill has seen the file, under this or another name
}

// A reading is a layer that is being read.
type reading struct {
	entries   []*entry
	whiteouts []layer.Whiteout
	size      int64
	notes     []string

	buf  []byte
	hash hash.Hash
	scan packages.Scanner
}

func (l *reading) layer(ctx context.Context, b diff.Blob) error {
	r, err := b.Reader(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Each(l.entry)
}

func (l *reading) entry(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := strings.Clone(layer.Clean(h.Name))
	if w, ok := layer.ParseWhiteout(name); ok {
		l.whiteouts = append(l.whiteouts, w)
		return nil
	}
	e := &entry{name: name, kind: h.Typeflag, file: File{Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid, Xattrs: xattrs(h)}}
	switch e.kind {
	case tar.TypeLink:
		e.link = strings.Clone(h.Linkname)
	case tar.TypeSymlink:
		e.link = strings.Clone(h.Linkname)
		e.file.Target = e.link
	case tar.TypeChar, tar.TypeBlock:
		e.file.Device = fmt.Sprintf("%d:%d", h.Devmajor, h.Devminor)
	case tar.TypeCont, tar.TypeGNUSparse, '\x00':
		e.kind = tar.TypeReg
	}
	e.file.Type = types[e.kind]
	if e.kind == tar.TypeReg {
		e.file.Size = h.Size
		l.size += h.Size
		if err := l.content(e, r); err != nil {
			return err
		}
	}
	l.entries = append(l.entries, e)
	return nil
}

// content hashes a file and collects the packages that it names.
func (l *reading) content(e *entry, r io.Reader) error {
	l.hash.Reset()
	size := e.file.Size
	random, kind := packages.ForRandom(e.name)
	var err error
	switch read, streamKind := packages.ForStream(e.name); {
	case read != nil:
		e.packages, err = read(io.TeeReader(r, l.hash))
		l.damaged(e.name, streamKind, err)
		err = l.rest(r)
	case keep(e.name) && size <= maxKept:
		e.kept = make([]byte, size)
		if _, err = io.ReadFull(r, e.kept); err == nil {
			l.hash.Write(e.kept)
		}
	case random != nil:
		err = l.spooled(r, size, func(at io.ReaderAt) {
			var failed error
			e.packages, failed = random(at, size)
			l.damaged(e.name, kind, failed)
		})
	default:
		err = l.program(e, r)
	}
	if err != nil {
		return err
	}
	e.file.Digest = "sha256:" + hex.EncodeToString(l.hash.Sum(nil))
	return nil
}

// damaged notes that a package database could not be read.
func (l *reading) damaged(name, kind string, err error) {
	if err != nil && packages.IsDatabase(kind) {
		l.notes = append(l.notes, fmt.Sprintf("the packages of %q could not be read: %v", "/"+name, err))
	}
}

// rest hashes the remainder of a file.
func (l *reading) rest(r io.Reader) error {
	buf := l.buf[:cap(l.buf)]
	for {
		n, err := r.Read(buf)
		l.hash.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// program hashes a file, and reads the packages of one that is a program with packages in it.
func (l *reading) program(e *entry, r io.Reader) error {
	magic := l.buf[:len(elf.Magic)]
	n, err := io.ReadFull(r, magic)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if n < len(elf.Magic) || string(magic) != elf.Magic {
		l.hash.Write(magic[:n])
		return l.rest(r)
	}
	l.scan.Reset()
	return l.spooled(io.MultiReader(strings.NewReader(elf.Magic), r), e.file.Size, func(at io.ReaderAt) {
		if l.scan.Found() {
			e.packages, _ = packages.Program(at, e.file.Size)
		}
	})
}

// spooled hashes and scans a file, and then calls fn with its content, in memory or in a temporary file.
func (l *reading) spooled(r io.Reader, size int64, fn func(io.ReaderAt)) (err error) {
	if size <= maxInMemory {
		l.buf = slices.Grow(l.buf[:0], int(size))
		data := l.buf[:size]
		if _, err := io.ReadFull(r, data); err != nil {
			return err
		}
		l.hash.Write(data)
		_, _ = l.scan.Write(data)
		fn(bytes.NewReader(data))
		return nil
	}
	if size > maxSpooled {
		return l.rest(r) // no package database is that large
	}
	f, err := os.CreateTemp("", "kedge-drift-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if err := l.rest(io.TeeReader(r, io.MultiWriter(f, &l.scan))); err != nil {
		return err
	}
	fn(f)
	return nil
}

// xattrs returns the extended attributes of an entry as a File has them.
func xattrs(h *tar.Header) string {
	var list []string
	for k, v := range layer.Xattrs(h) {
		list = append(list, url.QueryEscape(layer.XattrName(k))+"="+base64.StdEncoding.EncodeToString([]byte(v)))
	}
	return strings.Join(list, ",")
}

// apply lays the layer over the ones below.
func (l *reading) apply(o *layer.Overlay[*entry]) error {
	for _, w := range l.whiteouts {
		o.Hide(w)
	}
	for _, e := range l.entries {
		if err := o.Add(e.name, e.kind, e.link, e); err != nil {
			return err
		}
	}
	return nil
}

// fill takes from the file system of an image what the record has of it.
func (r *Record) fill(o *layer.Overlay[*entry]) {
	distribution := r.distribution(o)
	for name, n := range o.Root().All() {
		e := n.File
		f := e.file
		f.Path, f.linked = "/"+name, e.counted
		e.counted = true
		r.Files = append(r.Files, f)
		if f.linked {
			continue
		}
		for _, p := range e.packages {
			r.Packages = append(r.Packages, purl(p, distribution))
		}
		if e.kept != nil {
			r.Sources = append(r.Sources, sourcesOf(name, e.kept)...)
		}
	}
	slices.Sort(r.Packages)
	r.Sources = unique(r.Sources)
}

// distribution returns the ID of the image's distribution and fills in the base.
func (r *Record) distribution(o *layer.Overlay[*entry]) string {
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		if n, err := o.Follow(name); err == nil && n.File != nil && n.File.kept != nil {
			values := assignments(n.File.kept)
			id := values["ID"]
			r.Base = strings.TrimSpace(id + " " + values["VERSION_ID"])
			return id
		}
	}
	return ""
}

func octal(mode int64) string { return strconv.FormatInt(mode, 8) }
