package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// apply applies a layer. Among its items, "d/" is a folder, "l -> t" a symbolic link, "h = t" a hard link,
// and anything else a file or a whiteout.
func apply(o *Overlay[string], number int, items ...string) error {
	type entry struct {
		name, link string
		kind       byte
	}
	var entries []entry
	for _, item := range items {
		e := entry{name: item, kind: tar.TypeReg}
		if name, link, ok := strings.Cut(item, " -> "); ok {
			e = entry{name, link, tar.TypeSymlink}
		} else if name, link, ok := strings.Cut(item, " = "); ok {
			e = entry{name, link, tar.TypeLink}
		} else if strings.HasSuffix(item, "/") {
			e.kind = tar.TypeDir
		}
		e.name = Clean(e.name)
		if w, ok := ParseWhiteout(e.name); ok {
			o.Hide(w)
			continue
		}
		entries = append(entries, e)
	}
	for _, e := range entries {
		if err := o.Add(e.name, e.kind, e.link, fmt.Sprintf("%s of %d", e.name, number)); err != nil {
			return err
		}
	}
	return nil
}

// TestOverlay has the cases in which kedge's former readers of layers disagreed. The results are those of
// containerd (pkg/archive, applyNaive) and Docker (moby/go-archive, UnpackLayer), with one exception from
// the specification: whiteouts never hide entries of their own layer.
func TestOverlay(t *testing.T) {
	for _, test := range []struct {
		name   string
		layers [][]string
		want   string
	}{
		{"a file over a file", [][]string{{"a"}, {"a"}}, "a:a of 1"},
		{"whiteout", [][]string{{"a", "b"}, {".wh.a"}}, "b:b of 0"},
		{"whiteout of nothing", [][]string{{"a"}, {".wh.x", "d/.wh.x"}}, "a:a of 0"},
		{"whiteout of its own layer's file", [][]string{{"a"}, {"a", ".wh.a"}}, "a:a of 1"},
		{"whiteout before its own layer's file", [][]string{{"a"}, {".wh.a", "a"}}, "a:a of 1"},
		{"whiteout of a folder that comes again", [][]string{{"d/", "d/a"}, {"d/", "d/b", ".wh.d"}}, "d:d of 1 d/b:d/b of 1"},
		{"opaque folder", [][]string{{"d/", "d/a", "d/e/", "d/e/a"}, {"d/", "d/b", "d/.wh..wh..opq"}}, "d:d of 1 d/b:d/b of 1"},
		{"opaque folder without an entry", [][]string{{"d/", "d/a"}, {"d/.wh..wh..opq"}}, "d:d of 0"},
		{"opaque root", [][]string{{"a", "d/"}, {".wh..wh..opq", "b"}}, "b:b of 1"},
		{"marks of AUFS", [][]string{{"plnk", "a"}, {".wh..wh.plnk", ".wh..wh.aufs", "d/.wh..wh..opaque"}}, "a:a of 0 plnk:plnk of 0"},
		{"whiteout of no name", [][]string{{"d/", "d/a"}, {"d/.wh.", "d/.wh..", "d/.wh..."}}, "d:d of 0 d/a:d/a of 0"},
		{"a folder over a folder", [][]string{{"d/", "d/a"}, {"d/"}}, "d:d of 1 d/a:d/a of 0"},
		{"a file over a folder", [][]string{{"d/", "d/a"}, {"d"}}, "d:d of 1"},
		{"a folder over a link to a folder", [][]string{{"d/", "d/a", "l -> d"}, {"l/", "l/b"}}, "d:d of 0 d/a:d/a of 0 l:l of 1 l/b:l/b of 1"},
		{"through a link", [][]string{{"usr/", "usr/lib/", "lib -> usr/lib"}, {"lib/a"}}, "lib:lib of 0 usr:usr of 0 usr/lib:usr/lib of 0 usr/lib/a:lib/a of 1"},
		{"whiteout through a link", [][]string{{"usr/", "usr/lib/", "usr/lib/a", "lib -> usr/lib"}, {"lib/.wh.a"}}, "lib:lib of 0 usr:usr of 0 usr/lib:usr/lib of 0"},
		{"whiteout of a link", [][]string{{"d/", "d/a", "l -> d"}, {".wh.l"}}, "d:d of 0 d/a:d/a of 0"},
		{"through a link out of the root", [][]string{{"d/", "l -> ../../d"}, {"l/a"}}, "d:d of 0 d/a:l/a of 1 l:l of 0"},
		{"through an absolute link", [][]string{{"d/", "e/", "e/l -> /d"}, {"e/l/a"}}, "d:d of 0 d/a:e/l/a of 1 e:e of 0 e/l:e/l of 0"},
		{"implied folders", [][]string{{"a/b/c"}}, "a: a/b: a/b/c:a/b/c of 0"},
		{"hard link", [][]string{{"a", "b = a"}}, "a:a of 0 b:a of 0"},
		{"hard link to a lower layer's file", [][]string{{"a"}, {"b = /a", ".wh.x"}}, "a:a of 0 b:a of 0"},
		{"hard link whose target goes later", [][]string{{"a"}, {"b = a"}, {".wh.a"}}, "b:a of 0"},
		{"hard link whose target changes later", [][]string{{"a"}, {"b = a"}, {"a"}}, "a:a of 2 b:a of 0"},
	} {
		var o Overlay[string]
		for i, items := range test.layers {
			if err := apply(&o, i, items...); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		}
		var got []string
		for name, n := range o.Root().All() {
			got = append(got, name+":"+n.File)
		}
		if diff := gocmp.Diff(test.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestOverlayRefuses(t *testing.T) {
	var chain []string
	for i := range maxLinks + 1 {
		chain = append(chain, fmt.Sprintf("l%d -> l%d", i, i+1))
	}
	for _, test := range []struct {
		name   string
		layers [][]string
		want   string
	}{
		{"below a file", [][]string{{"a"}, {"a/b"}}, `"/a/b": its parent is not a folder`},
		{"far below a file", [][]string{{"a"}, {"a/b/c"}}, "there is no such folder"},
		{"hard link to nothing", [][]string{{"h = a"}}, `"/h": it is a hard link to "/a", which is not there`},
		{"hard link to a removed file", [][]string{{"a"}, {".wh.a", "h = a"}}, "which is not there"},
		{"hard link to a folder", [][]string{{"d/"}, {"h = d"}}, "which is not there"},
		{"a link to itself", [][]string{{"l -> l"}, {"l/a"}}, "too many symbolic links"},
		{"many links", [][]string{chain, {"l0/a"}}, "too many symbolic links"},
	} {
		var o Overlay[string]
		var err error
		for i, items := range test.layers {
			err = errors.Join(err, apply(&o, i, items...))
		}
		var refused *PathError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// TestOverlayBound: implied folders are bounded, because a short entry can imply thousands.
func TestOverlayBound(t *testing.T) {
	var o Overlay[struct{}]
	o.implied = maxEntries - 5
	err := o.Add("a/b/c/d/e/f/g/h", tar.TypeReg, "", struct{}{})
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
}

func TestHideReports(t *testing.T) {
	var o Overlay[string]
	if err := apply(&o, 0, "d/", "d/a", "e/", "l -> d"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{".wh.x": false, "e/.wh..wh..opq": false, "x/.wh..wh..opq": false, "d/.wh..wh.x": false, "d/a/.wh.b": false} {
		w, ok := ParseWhiteout(name)
		if !ok || o.Hide(w) != want {
			t.Errorf("%s hides %v", name, !want)
		}
	}
	for _, name := range []string{"l/.wh.a", ".wh.d"} {
		if w, _ := ParseWhiteout(name); !o.Hide(w) {
			t.Errorf("%s hides nothing", name)
		}
	}
	if _, ok := ParseWhiteout("d/a.wh.b"); ok {
		t.Error("a file is taken for a whiteout")
	}
}

func TestImplied(t *testing.T) {
	o := Overlay[string]{Implied: func() string { return "implied" }}
	if err := o.Add("a/b", tar.TypeReg, "", "file"); err != nil {
		t.Fatal(err)
	}
	if got := o.Root().File + " " + o.Lookup("a").File + " " + o.Lookup("a/b").File; got != "implied implied file" {
		t.Error(got)
	}
	if err := o.Add("", tar.TypeDir, "", "root"); err != nil || o.Root().File != "root" {
		t.Errorf("%v, %v", o.Root().File, err)
	}
	if o.Lookup("a/x/y") != nil || o.Lookup("") != o.Root() {
		t.Error("Lookup finds what is not there")
	}
}
