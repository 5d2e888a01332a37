package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// The images that were used last stay, and so does one that a command uses. What is not complete is not found.
func TestEngineImages(t *testing.T) {
	dir := t.TempDir()
	put := func(name, sum string, age time.Duration) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if sum != "" {
			if err := os.WriteFile(filepath.Join(path, digestFile), []byte(sum), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	sum := digest.FromString("x").String()
	for i := range 6 {
		put("sha256-"+strconv.Itoa(i), sum, time.Duration(i+1)*time.Hour)
	}
	put("sha256-cut", sum[:20], 0)
	put("sha256-begun", "", 0)
	put("new-1", "", 0)
	put("new-2", "", 0)

	using := engineImages{dir: dir}
	if found := using.find("sha256:5"); found == nil || found.Digest.String() != sum {
		t.Fatalf("found %+v", found)
	}
	writing, err := using.use(filepath.Join(dir, "new-2"))
	if err != nil {
		t.Fatal(err)
	}
	defer writing.Unlock()
	other := engineImages{dir: dir}
	for _, id := range []string{"sha256:cut", "sha256:begun", "sha256:none"} {
		if found := other.find(id); found != nil {
			t.Errorf("%s: %+v", id, found)
		}
	}
	if found := other.find("sha256:2"); found == nil {
		t.Fatal("not found")
	}
	if err := other.prune(0); err != nil {
		t.Fatal(err)
	}
	if got := folders(t, dir); len(got) != 3 { // one of using, one of other, one that is being written
		t.Errorf("in use: %q", got)
	}
	if err := other.close(); err != nil {
		t.Fatal(err)
	}
	for i := 10; i < 16; i++ {
		put("sha256-"+strconv.Itoa(i), sum, time.Duration(i)*time.Hour)
	}
	if other.find("sha256:15") == nil {
		t.Fatal("not found")
	}
	if err := other.close(); err != nil {
		t.Fatal(err)
	}
	// The four that were used last, and what is being written. using's is among them.
	want := []string{"new-2", "sha256-10", "sha256-15", "sha256-2", "sha256-5"}
	if got := folders(t, dir); !slices.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
}

func folders(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
