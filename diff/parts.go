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

// A layer in chunks that both images have a like of, kedge's own, need not be decompressed as a whole: what
// is the same, byte for byte, in two blobs holds the same entries. So only the lowest pair of layers that
// differ is read in parts, and only where what is left out of them cannot matter. Of several entries for one
// path the last one counts, so that what both have must be in one order, and what is read of a path at one
// place in it.

// maxParts bounds the parts of a layer that is read so: all of them are in memory, and a chunk of a few bytes may
// claim to be one. Those of kedge's layers have 64 entries or half of chunk.Size each, as a rule.
const maxParts = 256 << 10

// part is a run of chunks, from where an entry begins to where one ends.
type part struct {
	offset, size int64 // in the blob, in bytes
	last         bool
	apart        bool
	sum          sum
	place        int // among the parts that the other layer has, too: 2n+1 is the nth of them, from 0, and 2n before it
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
			// Either more of them matters, or they are not what the blobs say.
			first.parts, second.parts, c.result.Notes = nil, nil, nil
			first.places, second.places = nil, nil
			clear(c.trees)
		}
	}
	return c.read(ctx, upper())
}

// lowest returns the lowest layers of the two that differ. They are not ok where one of the images has none,
// or has the other's elsewhere.
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

// leaveOutEqual sets the parts of two layers that have to be read because the other has no equal one. It
// leaves them nil where one of the layers is not in chunks, or has what both have in another order.
func leaveOutEqual(ctx context.Context, first, second *imageLayer) error {
	var all [2][]part
	group, gctx := errgroup.WithContext(ctx)
	for i, l := range []*imageLayer{first, second} {
		group.Go(func() (err error) {
			if all[i], err = scan(gctx, l); err == nil && all[i] == nil {
				err = chunk.ErrNone // the other is of no use then
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
		first.places, second.places = map[string]int{}, map[string]int{}
	}
	return nil
}

// without returns the parts that others has no equal of, and those that mean something to others. Common are
// those of which others has an equal.
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

// scan returns the parts of a layer and checks the blob against its digest. There are none if the blob is not in chunks,
// has more than maxParts, or cannot be read from any place in it.
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
	s, sum := chunk.NewScanner(io.TeeReader(&cancelReader{ctx, rc}, verifier)), newSummer()
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

// errParts says that a part does not hold whole entries, whatever the headers of its chunks say.
var errParts = errors.New("its chunks do not end where they say")

// errTwice says that a layer has several entries for one path, as none does that kedge wrote. A link means the one before
// it, and that may be in what is not read.
var errTwice = errors.New("two entries for one path")

// readParts calls fn with each entry of the parts of a layer, whose blob has been checked, and notes the places
// of the entries.
func readParts(ctx context.Context, l *imageLayer, fn func(*tar.Header, io.Reader) error) error {
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
	for _, p := range l.parts {
		err := readPart(ctx, r, p, &budget, func(h *tar.Header, r io.Reader) error {
			if err := fn(h, r); err != nil {
				return err
			}
			name := clean(h.Name)
			if _, twice := l.places[name]; twice {
				return errTwice
			}
			l.places[name] = p.place
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readPart puts an entry of its own behind the part: only where the part's entries end with it is that one
// found.
func readPart(ctx context.Context, r io.ReaderAt, p part, b *layer.Budget, fn func(*tar.Header, io.Reader) error) error {
	content := chunk.NewReader(&cancelReader{ctx, io.NewSectionReader(r, p.offset, p.size)})
	behind := bytes.NewReader(endEntry)
	found := false
	err := each(layer.NewReader(io.MultiReader(content, behind), b), func(h *tar.Header, r io.Reader) error {
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

// endName may be the name of an entry of the layer, too: that one is not read from behind the part.
const endName = "end"

var endEntry = func() []byte {
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: endName, Typeflag: tar.TypeReg}); err != nil {
		panic(err)
	}
	return b.Bytes()
}()

// settled reports whether what was read of the lowest layers in parts is all that matters.
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
	x, y := squash(a), squash(b)
	if slices.ContainsFunc([]tree{a[0], b[0], x, y}, hasLinks) {
		return false
	}
	// The layers above that both images have do the same to both.
	same := slices.EqualFunc(c.a.layers[c.shared+1:], c.b.layers[c.shared+1:], func(x, y imageLayer) bool { return x.diffID == y.diffID })
	return same || !undecided(x, y)
}

// hasLinks reports whether there are hard links to what was not read.
func hasLinks(t tree) bool {
	for _, n := range t {
		if n.kind == tar.TypeLink {
			return true
		}
	}
	return false
}

// marksEqual reports whether the second tree has all whiteouts and opaque directories of the first: what is hidden
// in one image alone may be what was not read.
func marksEqual(a, b tree) bool {
	for name, x := range a {
		if !x.opaque && x.source != nil {
			continue
		}
		if y := b[name]; y == nil || y.kind != x.kind || y.opaque != x.opaque || (y.source == nil) != (x.source == nil) {
			return false
		}
	}
	return true
}

// dropEqualLinks removes the hard links to what was not read that two trees have alike.
func dropEqualLinks(a, b tree) {
	for name, x := range a {
		if y := b[name]; x.kind == tar.TypeLink && y != nil && len(x.differences(y, true)) == 0 {
			delete(a, name)
			delete(b, name)
		}
	}
}
