package image

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kedge-build/kedge/internal/chunk"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
)

// manyFiles is a layer of several chunks. The edited file is in one of them.
func manyFiles(t testing.TB, edit string) rawImage {
	var entries []tartest.Entry
	for i := range 60 {
		body := string(tartest.Noise(50_000)) + fmt.Sprint(i)
		if i == 20 {
			body += edit
		}
		entries = append(entries, file(fmt.Sprintf("srv/%02d", i), body))
	}
	return rawImage{platform: amd64, layers: [][]byte{tartest.Tar(t, entries...)}}
}

// reused builds an image and counts the chunks of its layer, and those that the last image of the place had.
func reused(t testing.TB, s *store.Store, o IngestOptions, raw rawImage) (blob digest.Digest, chunks, had int) {
	t.Helper()
	x := newExport(t, raw)
	in := testIngest(t, s, o)
	img, _ := x.write(t, in, sourcesOf([]rawImage{raw}), Options{})
	blob = img.Manifests[0].Layers[0].Descriptor.Digest
	list, _ := s.Listing(partsID(blob))
	for _, p := range chunk.DecodeParts(list) {
		chunks++
		if in.earlier != nil {
			if _, ok := in.earlier.parts[p.Content]; ok {
				had++
			}
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	return blob, chunks, had
}

// TestReuse: a layer with chunks of the last image has the digest of one that is compressed as a whole, even if the
// store or what it remembers is damaged.
func TestReuse(t *testing.T) {
	here := IngestOptions{Place: "here"}
	want, chunks, had := reused(t, testStore(t), IngestOptions{}, manyFiles(t, "edited"))
	if chunks+had > 0 {
		t.Errorf("without a place, %d chunks are remembered", chunks)
	}
	for _, test := range []struct {
		name   string
		before string // the place of the image before
		then   IngestOptions
		damage func(t *testing.T, s *store.Store, blob digest.Digest)
		reuses bool
	}{
		{name: "reused", before: "here", then: here, reuses: true},
		{name: "another place", before: "there", then: here},
		{name: "second build", before: "here", then: IngestOptions{Place: "here", Second: true}},
		{name: "without a cache", before: "here", then: IngestOptions{Place: "here", Check: true}, reuses: true},
		{name: "flipped bit", before: "here", then: here, reuses: true, damage: func(t *testing.T, s *store.Store, blob digest.Digest) {
			list, _ := s.Listing(partsID(blob))
			path, err := blobPath(s, blob)
			if err != nil {
				t.Fatal(err)
			}
			data := []byte(readFile(t, path))
			for _, p := range chunk.DecodeParts(list) {
				data[p.Offset+int64(p.Length)-1] ^= 1 // in every chunk
			}
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
			writeFile(t, path, data)
		}},
		{name: "no blob", before: "here", then: here, damage: func(t *testing.T, s *store.Store, blob digest.Digest) { removeBlob(t, s, blob) }},
		{name: "damaged listings", before: "here", then: here, damage: func(t *testing.T, s *store.Store, blob digest.Digest) {
			lists, err := filepath.Glob(storePath(s, "layers", "entries-*"))
			if err != nil || len(lists) == 0 {
				t.Fatal(lists, err)
			}
			for _, path := range lists {
				data := []byte(readFile(t, path))
				data[len(data)-1] ^= 1
				writeFile(t, path, data)
			}
		}},
		{name: "parts of another blob", before: "here", then: here, reuses: true, damage: func(t *testing.T, s *store.Store, blob digest.Digest) {
			list, _ := s.Listing(partsID(blob))
			parts := chunk.DecodeParts(list)
			for i := range parts {
				parts[i].Offset, parts[i].Length = parts[(i+1)%len(parts)].Offset, parts[(i+1)%len(parts)].Length
			}
			in := testIngest(t, s, IngestOptions{})
			in.draft.KeepListing(partsID(blob), chunk.EncodeParts(parts))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := testStore(t)
			before, chunks, _ := reused(t, s, IngestOptions{Place: test.before}, manyFiles(t, ""))
			if chunks < 4 {
				t.Fatalf("the layer has %d chunks", chunks)
			}
			if test.damage != nil {
				test.damage(t, s, before)
			}
			blob, chunks, had := reused(t, s, test.then, manyFiles(t, "edited"))
			if blob != want {
				t.Errorf("the blob is %s, compressed as a whole %s", blob, want)
			}
			if (had > 0) != test.reuses || had == chunks && chunks > 0 {
				t.Errorf("%d of %d chunks were known", had, chunks)
			}
		})
	}
}

// TestReuseAcrossLayers: a chunk is found in whichever layer it was.
func TestReuseAcrossLayers(t *testing.T) {
	s := testStore(t)
	layer := manyFiles(t, "").layers[0]
	first := tartest.Tar(t, file("first", "1"))
	reused(t, s, IngestOptions{Place: "here"}, rawImage{platform: amd64, layers: [][]byte{first, layer}})
	raw := rawImage{platform: amd64, layers: [][]byte{layer, first}}
	_, chunks, had := reused(t, s, IngestOptions{Place: "here"}, raw)
	if had != chunks || chunks == 0 {
		t.Errorf("%d of %d chunks were known", had, chunks)
	}
	list, ok := s.Listing(placeID("here"))
	if names := bytes.Fields(list); !ok || len(names) != 2 || slices.ContainsFunc(names, func(n []byte) bool { return digest.Digest(n).Validate() != nil }) {
		t.Errorf("the place has %q", list)
	}
}
