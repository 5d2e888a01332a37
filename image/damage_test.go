package image

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/filesum"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
)

// TestDamage damages each blob of an image in several ways. Whoever reads the blob reports it, users of
// other blobs do not, and Prune removes the image so that it can be written again.
func TestDamage(t *testing.T) {
	flip := func(t *testing.T, path string) {
		data := []byte(readFile(t, path))
		data[len(data)/2] ^= 1
		writeFile(t, path, data)
	}
	cut := func(t *testing.T, path string) {
		if err := os.Truncate(path, 3); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t *testing.T, path string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	type blobOf func(store.Manifest) digest.Digest
	manifest := func(m store.Manifest) digest.Digest { return m.Descriptor.Digest }
	config := func(m store.Manifest) digest.Digest { return m.Config }
	layer := func(m store.Manifest) digest.Digest { return m.Layers[0].Descriptor.Digest }
	for name, tt := range map[string]struct {
		blob   blobOf
		damage func(*testing.T, string)
		listed bool // which reads no layers
	}{
		"manifest changed": {manifest, flip, false},
		"manifest cut":     {manifest, cut, false},
		"manifest gone":    {manifest, remove, false},
		"config changed":   {config, flip, false},
		"config cut":       {config, cut, false},
		"config gone":      {config, remove, false},
		"layer changed":    {layer, flip, true},
		"layer cut":        {layer, cut, true},
		"layer gone":       {layer, remove, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := testStore(t)
			bad, _ := build(t, s, Options{}, small(t, "bad"))
			good, _ := build(t, s, Options{}, small(t, "good"))
			for name, img := range map[string]store.Image{"bad": bad, "good": good} {
				if err := s.Tag(t.Context(), []string{name}, img.Descriptor); err != nil {
					t.Fatal(err)
				}
			}
			path, err := blobPath(s, tt.blob(bad.Manifests[0]))
			if err != nil {
				t.Fatal(err)
			}
			os.Chmod(path, 0o644)
			tt.damage(t, path)

			list, err := s.Images(t.Context())
			if err != nil || len(list) != 2 {
				t.Fatalf("list: %+v, %v", list, err)
			}
			var damaged *store.DamagedError
			if got := !errors.As(list[0].Err, &damaged); got != tt.listed || list[1].Err != nil {
				t.Errorf("listed with %v and %v", list[0].Err, list[1].Err)
			}
			for _, img := range []store.Image{bad, good} {
				err := s.Blame(t.Context(), img.Descriptor, errFull)
				if isDamaged := errors.As(err, &damaged); isDamaged != (img.Descriptor.Digest == bad.Descriptor.Digest) || isDamaged && damaged.Blob != tt.blob(bad.Manifests[0]) {
					t.Errorf("%s: %v", img.Descriptor.Digest, err)
				}
			}

			p, err := s.Prune(t.Context(), false)
			if err != nil || len(p.Damaged) != 1 || !gocmp.Equal(p.Images, []digest.Digest{bad.Descriptor.Digest}) {
				t.Fatalf("pruned %+v, %v", p, err)
			}
			if diff := gocmp.Diff(map[string][]string{short(good): {"docker.io/library/good:latest"}}, names(t, s)); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			again, _ := build(t, s, Options{}, small(t, "bad"))
			if err := s.Blame(t.Context(), again.Descriptor, errFull); err != errFull || again.Descriptor.Digest != bad.Descriptor.Digest {
				t.Errorf("written again: %s, %v", again.Descriptor.Digest, err)
			}
		})
	}
}

// TestDamageIsMended damages each blob of an image. A build that makes the blob again, or that reads blobs
// before it relies on them or knows their sums, replaces it. Other builds only check its size.
func TestDamageIsMended(t *testing.T) {
	flip := func(data []byte) []byte { data[len(data)/2] ^= 1; return data }
	cut := func(data []byte) []byte { return data[:3] }
	empty := func([]byte) []byte { return nil }
	type blobOf func(store.Manifest) digest.Digest
	manifest := func(m store.Manifest) digest.Digest { return m.Descriptor.Digest }
	config := func(m store.Manifest) digest.Digest { return m.Config }
	base := func(m store.Manifest) digest.Digest { return m.Layers[0].Descriptor.Digest }
	layer := func(m store.Manifest) digest.Digest { return m.Layers[1].Descriptor.Digest }
	with := func(at time.Time) rawImage {
		return rawImage{
			platform: amd64, base: [][]byte{tartest.Tar(t, file("base", "b"))},
			layers: [][]byte{tartest.Tar(t, file("a", "a").With(func(h *tar.Header) { h.ModTime = at }))},
		}
	}
	same, anew := with(late), with(late.Add(time.Minute)) // which has another raw layer
	for name, tt := range map[string]struct {
		blob   blobOf
		damage func([]byte) []byte
		opts   IngestOptions
		img    rawImage
		mended bool
	}{
		"manifest changed":                  {manifest, flip, IngestOptions{}, same, true},
		"config cut":                        {config, cut, IngestOptions{}, same, true},
		"layer changed, remembered":         {layer, flip, IngestOptions{}, same, false},
		"layer changed, remembered, read":   {layer, flip, IngestOptions{Check: true}, same, true},
		"layer changed, remembered, sums":   {layer, flip, IngestOptions{Sums: filesum.Open("", time.Now)}, same, true},
		"layer changed, made again":         {layer, flip, IngestOptions{}, anew, true},
		"layer changed, second build":       {layer, flip, IngestOptions{Second: true}, anew, true},
		"layer changed, second build, same": {layer, flip, IngestOptions{Second: true}, same, true},
		"layer cut":                         {layer, cut, IngestOptions{}, same, true},
		"layer empty":                       {layer, empty, IngestOptions{}, same, true},
		"base layer changed":                {base, flip, IngestOptions{}, same, false},
		"base layer changed, sums":          {base, flip, IngestOptions{Sums: filesum.Open("", time.Now)}, same, true},
		"base layer changed, read":          {base, flip, IngestOptions{Check: true}, same, true},
		"base layer changed, second build":  {base, flip, IngestOptions{Second: true}, same, true},
		"base layer cut":                    {base, cut, IngestOptions{}, same, true},
		"base layer empty":                  {base, empty, IngestOptions{}, anew, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := testStore(t)
			want, _ := build(t, s, Options{}, same)
			path, err := blobPath(s, tt.blob(want.Manifests[0]))
			if err != nil {
				t.Fatal(err)
			}
			good := readFile(t, path)
			os.Chmod(path, 0o644)
			writeFile(t, path, tt.damage([]byte(good)))
			open, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer open.Close()

			got, _ := buildAgain(t, s, tt.opts, Options{}, tt.img)
			if got.Descriptor.Digest != want.Descriptor.Digest {
				t.Fatalf("image %s, want %s", got.Descriptor.Digest, want.Descriptor.Digest)
			}
			if mended := readFile(t, path) == good; mended != tt.mended {
				t.Errorf("mended: %v", mended)
			}
			if data, err := io.ReadAll(open); err != nil || string(data) == good {
				t.Errorf("who had it open reads %d other bytes, %v", len(data), err)
			}
			err = s.Blame(t.Context(), got.Descriptor, errFull)
			if sound := err == errFull; sound != tt.mended {
				t.Errorf("check: %v", err)
			}
		})
	}
}
