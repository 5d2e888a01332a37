package image

import (
	"errors"
	"io"
	"os"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// TestDamage damages each blob of an image in each way: what reads it says so, what needs another does
// not, and Prune removes it so that the same image can be written again.
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
	type blobOf func(Manifest) digest.Digest
	manifest := func(m Manifest) digest.Digest { return m.Descriptor.Digest }
	config := func(m Manifest) digest.Digest { return m.Config }
	layer := func(m Manifest) digest.Digest { return m.Layers[0].Descriptor.Digest }
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
			for name, img := range map[string]Image{"bad": bad, "good": good} {
				if err := s.Tag(t.Context(), []string{name}, img.Descriptor); err != nil {
					t.Fatal(err)
				}
			}
			path, err := s.blobPath(tt.blob(bad.Manifests[0]))
			if err != nil {
				t.Fatal(err)
			}
			os.Chmod(path, 0o644)
			tt.damage(t, path)

			list, err := s.Images(t.Context())
			if err != nil || len(list) != 2 {
				t.Fatalf("list: %+v, %v", list, err)
			}
			var damaged *DamagedError
			if got := !errors.As(list[0].Err, &damaged); got != tt.listed || list[1].Err != nil {
				t.Errorf("listed with %v and %v", list[0].Err, list[1].Err)
			}
			for name, export := range map[string]func(Image) error{
				"oci":    func(i Image) error { return s.Export(t.Context(), io.Discard, i.Descriptor, nil, OCI) },
				"docker": func(i Image) error { return s.Export(t.Context(), io.Discard, i.Descriptor, nil, Docker) },
				"tar":    func(i Image) error { return s.ExportTar(t.Context(), io.Discard, i.Descriptor, RootOptions{}) },
				"dir":    func(i Image) error { return s.ExportDir(t.Context(), t.TempDir()+"/d", i.Descriptor, nil) },
			} {
				if err := export(bad); !errors.As(err, &damaged) || damaged.Blob != tt.blob(bad.Manifests[0]) {
					t.Errorf("%s: %v", name, err)
				}
				if err := export(good); err != nil {
					t.Errorf("%s of another image: %v", name, err)
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
			if err := s.Export(t.Context(), io.Discard, again.Descriptor, nil, OCI); err != nil || again.Descriptor.Digest != bad.Descriptor.Digest {
				t.Errorf("written again: %s, %v", again.Descriptor.Digest, err)
			}
		})
	}
}
