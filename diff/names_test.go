package diff

import (
	"fmt"
	"path"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TestNames has more and longer paths than one chunk of text and one of the table hold.
func TestNames(t *testing.T) {
	table := newNames()
	n := namer{names: table}
	byName, byPath := map[name]string{0: "/"}, map[string]name{}
	for i := range 20_000 {
		p := fmt.Sprintf("a/%d/%s/%d", i%7, strings.Repeat("x", i%251), i)
		for _, p := range []string{p, "/" + p, "./" + p + "/", path.Dir(p), path.Dir(p)} {
			got, err := n.number(p)
			if err != nil {
				t.Fatal(err)
			}
			want := path.Clean("/" + p)
			if old, ok := byName[got]; ok && old != want {
				t.Fatalf("%q and %q have the same number", old, want)
			}
			if old, ok := byPath[want]; ok && old != got {
				t.Fatalf("%q has two numbers", want)
			}
			byName[got], byPath[want] = want, got
		}
	}
	for n, p := range byName {
		if got := table.absolute(n); got != p {
			t.Errorf("%q is read as %q", p, got)
		}
		if got, ok := table.find(p); !ok || got != n {
			t.Errorf("%q is found as %d, %v", p, got, ok)
		}
		if got := table.absolute(table.parent(n)); got != path.Dir(p) {
			t.Errorf("%q is in %q", p, got)
		}
	}
	if _, ok := table.find("a/1/none"); ok {
		t.Error("a path that was never numbered is found")
	}
}

// TestMemory: two layers of a million entries that are almost the same take less than 150 MB, and twice that if all
// entries differ.
func TestMemory(t *testing.T) {
	const entries = 10_000
	large := func(body func(i int) string) v1.Image {
		var files []file
		for i := range entries {
			files = append(files, regular(fmt.Sprintf("srv/app/modules/package-%d/lib/part-%d/source-%d.js", i/2000, i/20, i), body(i)))
		}
		return picture(t, files)
	}
	some := func(i int) string { return fmt.Sprint(i, i%(entries/3) == 1) }
	first := large(func(i int) string { return fmt.Sprint(i, false) })
	for _, tt := range []struct {
		name   string
		second v1.Image
		files  int
		limit  uint64 // in bytes, for each path
	}{
		{"almost the same", large(some), 3, 150},
		{"all different", large(func(i int) string { return fmt.Sprint(i, true) }), entries, 300},
	} {
		a, err := open(first)
		if err != nil {
			t.Fatal(err)
		}
		b, err := open(tt.second)
		if err != nil {
			t.Fatal(err)
		}
		want, err := Options{Types: []string{"golang"}}.wanted()
		if err != nil {
			t.Fatal(err)
		}
		before := live()
		c := comparison{a: a, b: b, want: want, result: &Result{}}
		if err := c.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		each := (max(live(), before) - before) / entries
		if each > tt.limit {
			t.Errorf("%s: %d bytes for each path, more than %d", tt.name, each, tt.limit)
		}
		if got := len(c.table.files(c.trees[a.layers[0].diffID], c.trees[b.layers[0].diffID], false)); got != tt.files {
			t.Errorf("%s: %d files differ, not %d", tt.name, got, tt.files)
		}
	}
}

// live returns the bytes of the heap that are in use.
func live() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestTooManyPaths: the folders above a path count, too.
func TestTooManyPaths(t *testing.T) {
	n := namer{names: newNames()}
	n.names.limit = 3
	for _, p := range []string{"a/b/c", "a/b"} {
		if _, err := n.number(p); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.number("a/b/c/d"); err == nil || !strings.Contains(err.Error(), "more than 3 paths") {
		t.Errorf("too many paths: %v", err)
	}
}
