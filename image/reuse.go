package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/kedge-build/kedge/internal/chunk"
	"github.com/kedge-build/kedge/rules"
	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// earlier has the compressed chunks of the image that was written last for the same place. The listings that find
// them save compression, so one that is missing, or of another version of kedge, does no harm.
type earlier struct {
	blobs []content.ReaderAt
	parts map[chunk.Sum]earlierPart
}

type earlierPart struct {
	blob int
	chunk.Part
}

// partsID is the id of the listing of a layer's chunks.
func partsID(blob digest.Digest) digest.Digest {
	return digest.FromString(fmt.Sprintf("chunks 1 %d %s", rules.Version, blob))
}

// placeID is the id of the listing of the layers of the image that was written last for a place.
func placeID(place string) digest.Digest { return digest.FromString("place 1 " + place) }

// openEarlier returns what there is for a place.
func (in *Ingest) openEarlier(ctx context.Context) *earlier {
	e := &earlier{parts: map[chunk.Sum]earlierPart{}}
	blobs, _ := in.store.Listing(placeID(in.opts.Place))
	for _, blob := range strings.Fields(string(blobs)) {
		dgst := digest.Digest(blob)
		parts, ok := in.store.Listing(partsID(dgst))
		if !ok {
			continue
		}
		ra, err := in.store.ReaderAt(ctx, ocispec.Descriptor{Digest: dgst})
		if err != nil {
			continue
		}
		for _, p := range chunk.DecodeParts(parts) {
			e.parts[p.Content] = earlierPart{len(e.blobs), p}
		}
		e.blobs = append(e.blobs, ra)
	}
	return e
}

// find is a chunk.Source.
func (e *earlier) find(content chunk.Sum) (io.ReaderAt, chunk.Part, bool) {
	p, ok := e.parts[content]
	if !ok {
		return nil, chunk.Part{}, false
	}
	return e.blobs[p.blob], p.Part, true
}

// close closes the blobs. A nil earlier has none.
func (e *earlier) close() {
	if e == nil {
		return
	}
	for _, b := range e.blobs {
		b.Close()
	}
	e.blobs = nil
}

// keepPlace keeps which layers were written last for a place.
func (in *Ingest) keepPlace(layers [][]store.Layer) {
	if in.opts.Place == "" || in.opts.Second {
		return
	}
	var blobs []string
	for _, l := range layers {
		for _, l := range l {
			blobs = append(blobs, l.Descriptor.Digest.String())
		}
	}
	list := []byte(strings.Join(blobs, "\n"))
	if had, ok := in.store.Listing(placeID(in.opts.Place)); !ok || !bytes.Equal(had, list) {
		in.draft.KeepListing(placeID(in.opts.Place), list)
	}
}
