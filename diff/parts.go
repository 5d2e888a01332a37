package diff

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/kedge-build/kedge/internal/chunk"
	"github.com/kedge-build/kedge/internal/layer"
	"golang.org/x/sync/errgroup"
)

// kedge compresses layers in chunks. Equal chunks of two blobs hold the same entries, so two such layers
// can be compared without decompressing all of them. Only the lowest pair of layers that differ is read
// this way, and only if the skipped parts cannot matter. The last of several entries for a path counts, so
// both layers must have their equal parts in the same order, and a path that is read in both must be at
// the same place among them.

// maxParts bounds the parts of a layer, because all of them are in memory and a chunk of a few bytes can
// claim to start one. In layers of kedge a part usually has 64 entries or half of chunk.Size.
const maxParts = 256 << 10

// part is a run of chunks, from the start of an entry to the end of an entry.
type part struct {
	offset, size int64 // in the blob, in bytes
	last         bool
	apart        bool
	sum          sum
	place        int // 2n+1 for the nth part, from 0, that the other layer has too; 2n for parts before it
}

// readUpper reads the layers above the shared ones.
func (c *comparison) readUpper(ctx context.Context) error {
	upper := func() []imageLayer { return slices.Concat(c.a.layers[c.shared:], c.b.layers[c.shared:]) }
	if first, second, ok := c.lowest(); ok {
		if err := leaveOutEqual(ctx, first, second); err != nil {
			return err
		}
		if first.parts != nil {
			if err := c.read(ctx, upper()); ctx.Err() != nil || err == nil && c.settled() {
				return err
			}
			// More of the layers matters, or their chunks are not what they claim.
			first.parts, second.parts, c.result.Notes = nil, nil, nil
			first.places, second.places = nil, nil
			clear(c.trees)
		}
	}
	return c.read(ctx, upper())
}

// lowest returns the lowest layers of the two images that differ. ok is false if one image has no such
// layer, or has the other's somewhere else.
func (c *comparison) lowest() (first, second *imageLayer, ok bool) {
	a, b := c.a.layers[c.shared:], c.b.layers[c.shared:]
	if len(a) == 0 || len(b) == 0 {
		return nil, nil, false
	}
	has := func(layers []imageLayer, id v1.Hash) bool {
		return slices.ContainsFunc(layers, func(l imageLayer) bool { return l.diffID == id })
	}
	if has(a[1:], a[0].diffID) || has(b[1:], b[0].diffID) || has(b, a[0].diffID) || has(a, b[0].diffID) {
		return nil, nil, false
	}
	return &a[0], &b[0], true
}

// leaveOutEqual sets the parts of two layers that must be read because the other layer has no equal part.
// It leaves them nil if a layer is not in chunks, or if their equal parts are in another order.
func leaveOutEqual(ctx context.Context, first, second *imageLayer) error {
	var all [2][]part
	group, gctx := errgroup.WithContext(ctx)
	for i, l := range []*imageLayer{first, second} {
		group.Go(func() (err error) {
			if all[i], err = scan(gctx, l); err == nil && all[i] == nil {
				err = chunk.ErrNone // stop scanning the other layer
			}
			return err
		})
	}
	if err := group.Wait(); errors.Is(err, chunk.ErrNone) {
		return nil
	} else if err != nil {
		return err
	}
	parts1, common1 := without(all[0], all[1])
	parts2, common2 := without(all[1], all[0])
	if slices.Equal(common1, common2) {
		first.parts, second.parts = parts1, parts2
		first.places, second.places = map[name]int{}, map[name]int{}
	}
	return nil
}

// without returns the parts that others does not have, and those that mean something to other parts. It
// also returns the sums of the parts that others has.
func without(parts, others []part) (rest []part, common []sum) {
	equal := map[sum]bool{}
	for _, p := range others {
		equal[p.sum] = true
	}
	rest = []part{}
	for _, p := range parts {
		p.place = 2 * len(common)
		if equal[p.sum] {
			p.place++
			common = append(common, p.sum)
		}
		if p.apart || !equal[p.sum] {
			rest = append(rest, p)
		}
	}
	return rest, common
}

// scan returns the parts of a layer and checks the digest of its blob. There are none if the blob is not
// in chunks, has more than maxParts parts, or does not allow random access.
func scan(ctx context.Context, l *imageLayer) (parts []part, err error) {
	rc, err := l.blob.Open()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	if _, ok := rc.(io.ReaderAt); !ok {
		return nil, nil
	}
	verifier := l.blob.Digest.Verifier()
	s, sum := chunk.NewScanner(io.TeeReader(layer.Cancellable(ctx, rc), verifier)), newSummer()
	for s.Scan() {
		if s.Flags()&chunk.Start != 0 {
			n := len(parts)
			if n == maxParts {
				return nil, nil
			}
			if n > 0 {
				parts[n-1].sum = sum.sum()
			}
			parts = append(parts, part{offset: s.Offset()})
		}
		if len(parts) == 0 {
			return nil, nil
		}
		p := &parts[len(parts)-1]
		p.size += int64(len(s.Bytes()))
		p.apart = p.apart || s.Flags()&chunk.Apart != 0
		_, _ = sum.Write(s.Bytes())
	}
	if err := s.Err(); errors.Is(err, chunk.ErrNone) || len(parts) == 0 {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading layer %s: %w", l.blob.Digest, err)
	}
	if !verifier.Verified() {
		return nil, fmt.Errorf("reading layer %s: %w", l.blob.Digest, &layer.DigestError{Kind: "digest", Want: l.blob.Digest})
	}
	last := &parts[len(parts)-1]
	last.sum, last.last = sum.sum(), true
	return parts, nil
}

// errParts says that a part does not hold whole entries, although the headers of its chunks say so.
var errParts = errors.New("its chunks do not end where they say")

// errTwice says that a layer has several entries for one path, which kedge never writes. A link means the
// entry before it, and that may be in a part that is not read.
var errTwice = errors.New("two entries for one path")

// readParts calls fn with each entry of the parts of a layer and records the places of the entries. The
// blob must have been checked.
func readParts(ctx context.Context, l *imageLayer, t *names, fn func(*tar.Header, io.Reader) error) error {
	rc, err := l.blob.Open()
	if err != nil {
		return err
	}
	defer rc.Close()
	r, ok := rc.(io.ReaderAt)
	if !ok {
		return errParts
	}
	clear(l.places)
	var budget layer.Budget
	namer := namer{names: t}
	for _, p := range l.parts {
		err := readPart(ctx, r, p, &budget, func(h *tar.Header, r io.Reader) error {
			if err := fn(h, r); err != nil {
				return err
			}
			n, err := namer.number(h.Name)
			if err != nil {
				return err
			}
			if _, twice := l.places[n]; twice {
				return errTwice
			}
			l.places[n] = p.place
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readPart appends an entry of its own to the part. A tar reader finds that entry only if the part ends
// with the end of an entry.
func readPart(ctx context.Context, r io.ReaderAt, p part, b *layer.Budget, fn func(*tar.Header, io.Reader) error) error {
	content := chunk.NewReader(layer.Cancellable(ctx, io.NewSectionReader(r, p.offset, p.size)))
	behind := bytes.NewReader(endEntry)
	found := false
	err := layer.NewReader(io.MultiReader(content, behind), b).Each(func(h *tar.Header, r io.Reader) error {
		if h.Name == endName && behind.Len() < len(endEntry) {
			found = true
			return nil
		}
		return fn(h, r)
	})
	if err == nil && !found && !p.last {
		err = errParts
	}
	return err
}

// endName may also be the name of an entry of the layer, which is then read before the end of the part.
const endName = "end"

var endEntry = func() []byte {
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: endName, Typeflag: tar.TypeReg}); err != nil {
		panic(err)
	}
	return b.Bytes()
}()

// settled reports whether the parts that were read of the lowest layers are all that matters.
func (c *comparison) settled() bool {
	first, second := c.a.layers[c.shared].places, c.b.layers[c.shared].places
	for name, place := range first {
		if other, ok := second[name]; ok && other != place {
			return false
		}
	}
	a, b := c.upper(c.a), c.upper(c.b)
	if !marksEqual(a[0], b[0]) || !marksEqual(b[0], a[0]) {
		return false
	}
	dropEqualLinks(a[0], b[0])
	x, y := c.table.squash(a), c.table.squash(b)
	if slices.ContainsFunc([]*tree{a[0], b[0], x, y}, hasLinks) {
		return false
	}
	// Layers above that both images have do the same to both.
	same := slices.EqualFunc(c.a.layers[c.shared+1:], c.b.layers[c.shared+1:], func(x, y imageLayer) bool { return x.diffID == y.diffID })
	return same || !undecided(x, y)
}

// hasLinks reports whether there are hard links to files that were not read.
func hasLinks(t *tree) bool {
	for _, n := range t.all() {
		if n.kind == tar.TypeLink {
			return true
		}
	}
	return false
}

// marksEqual reports whether tree b has all whiteouts and opaque directories of a. A mark in only one
// image may hide a path that was not read.
func marksEqual(a, b *tree) bool {
	for p, x := range a.all() {
		if !x.opaque && x.source != nil {
			continue
		}
		if y := b.get(p); y == nil || y.kind != x.kind || y.opaque != x.opaque || (y.source == nil) != (x.source == nil) {
			return false
		}
	}
	return true
}

// dropEqualLinks removes hard links to files that were not read, if both trees have the same.
func dropEqualLinks(a, b *tree) {
	for p, x := range a.all() {
		if y := b.get(p); x.kind == tar.TypeLink && y != nil && len(x.differences(y, true)) == 0 {
			a.set(p, nil)
			b.set(p, nil)
		}
	}
}
