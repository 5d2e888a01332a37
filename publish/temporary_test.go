package publish

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func mustMake(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte("left"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func left(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// What a killed command left beside an output is removed, and nothing that only looks like it.
func TestLeftoversAreRemoved(t *testing.T) {
	s := testStore(t)
	img := build(t, s, small(t, "a"))
	t.Run("layout", func(t *testing.T) {
		dir := t.TempDir()
		out := filepath.Join(dir, "out")
		dead, mine, other := ".out"+temporary+rand.Text(), ".out"+temporary+"mine", ".other"+temporary+rand.Text()
		mustMake(t, filepath.Join(dir, dead, "new", "blob"), filepath.Join(dir, mine, "f"), filepath.Join(dir, other, "f"))
		living, unlock, err := makeBeside(t.Context(), out)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeLayout(t.Context(), s, out, img.Descriptor, nil); err != nil {
			t.Fatal(err)
		}
		want := []string{other, filepath.Base(living), mine, "out"}
		slices.Sort(want)
		if got := left(t, dir); !slices.Equal(got, want) {
			t.Errorf("left %q, want %q", got, want)
		}
		unlock()
		if err := writeLayout(t.Context(), s, out, img.Descriptor, nil); err != nil {
			t.Fatal(err)
		}
		if got := left(t, dir); slices.Contains(got, filepath.Base(living)) || !slices.Contains(got, "out") {
			t.Errorf("left %q", got)
		}
	})
	t.Run("folder", func(t *testing.T) {
		dir := t.TempDir()
		dead := temporary + rand.Text()
		mustMake(t, filepath.Join(dir, dead), filepath.Join(dir, temporary+"mine"), filepath.Join(dir, "mine", dead))
		if err := writeFolder(t.Context(), s, dir, img.Descriptor, RootOptions{}); err != nil {
			t.Fatal(err)
		}
		got := left(t, dir)
		if slices.Contains(got, dead) || !slices.Contains(got, temporary+"mine") {
			t.Errorf("left %q", got)
		}
		if got := left(t, filepath.Join(dir, "mine")); !slices.Equal(got, []string{dead}) {
			t.Errorf("a folder that the image does not have: %q", got)
		}
	})
}
