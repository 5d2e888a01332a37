package diff

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/tartest"
)

var epoch = time.Unix(1700000000, 0)

type file = tartest.Entry

func regular(name, body string) file {
	return file{Header: tar.Header{Name: name, Mode: 0o644, ModTime: epoch, Typeflag: tar.TypeReg}, Body: body}
}

func special(name string, kind byte) file {
	return file{Header: tar.Header{Name: name, Mode: 0o644, ModTime: epoch, Typeflag: kind}}
}

func blob(data []byte) Blob {
	return Blob{Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
}

func xattr(name, value string) func(*tar.Header) {
	return func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr." + name: value} }
}

func TestLayersDiffer(t *testing.T) {
	a := regular("dir/a", "body")
	link := special("l", tar.TypeSymlink).With(func(h *tar.Header) { h.Linkname = "x" })
	dev := special("d", tar.TypeChar).With(func(h *tar.Header) { h.Devmajor, h.Devminor = 1, 3 })
	changed := func(path string, what ...string) []Path { return []Path{{path, Changed, what}} }
	tests := []struct {
		name          string
		first, second []file
		want          []Path
	}{
		{"added", nil, []file{a}, []Path{{"/dir/a", Added, nil}}},
		{"removed", []file{a}, nil, []Path{{"/dir/a", Removed, nil}}},
		{"renamed", []file{a}, []file{a.With(func(h *tar.Header) { h.Name = "dir/b" })}, []Path{{"/dir/a", Removed, nil}, {"/dir/b", Added, nil}}},
		{"whiteout", nil, []file{special("dir/.wh.a", tar.TypeReg)}, []Path{{"/dir/.wh.a", Added, nil}}},
		{"content", []file{a}, []file{regular("dir/a", "bodY")}, changed("/dir/a", "content")},
		{"size", []file{a}, []file{regular("dir/a", "body\x00")}, changed("/dir/a", "content")},
		{"mode", []file{a}, []file{a.With(func(h *tar.Header) { h.Mode = 0o755 })}, changed("/dir/a", "mode")},
		{"setuid", []file{a}, []file{a.With(func(h *tar.Header) { h.Mode |= 0o4000 })}, changed("/dir/a", "mode")},
		{"uid", []file{a}, []file{a.With(func(h *tar.Header) { h.Uid = 1 })}, changed("/dir/a", "owner")},
		{"gid", []file{a}, []file{a.With(func(h *tar.Header) { h.Gid = 1 })}, changed("/dir/a", "owner")},
		{"uid for gid", []file{a.With(func(h *tar.Header) { h.Gid = 1 })}, []file{a.With(func(h *tar.Header) { h.Uid = 1 })}, changed("/dir/a", "owner")},
		{"time", []file{a}, []file{a.With(func(h *tar.Header) { h.ModTime = epoch.Add(-time.Second) })}, changed("/dir/a", "time")},
		{"part of a second", []file{a}, []file{a.With(func(h *tar.Header) { h.ModTime, h.Format = epoch.Add(1), tar.FormatPAX })}, changed("/dir/a", "time")},
		{"link target", []file{link}, []file{link.With(func(h *tar.Header) { h.Linkname = "y" })}, changed("/l", "target")},
		{"kind of link", []file{link}, []file{link.With(func(h *tar.Header) { h.Typeflag = tar.TypeLink })}, changed("/l", "type")},
		{"file for a directory", []file{special("d/", tar.TypeDir)}, []file{special("d", tar.TypeReg)}, changed("/d", "type")},
		{"major", []file{dev}, []file{dev.With(func(h *tar.Header) { h.Devmajor = 2 })}, changed("/d", "device")},
		{"minor", []file{dev}, []file{dev.With(func(h *tar.Header) { h.Devminor = 2 })}, changed("/d", "device")},
		{"block device", []file{dev}, []file{dev.With(func(h *tar.Header) { h.Typeflag = tar.TypeBlock })}, changed("/d", "type")},
		{"attribute added", []file{a}, []file{a.With(xattr("user.a", "1"))}, changed("/dir/a", "xattrs")},
		{"attribute changed", []file{a.With(xattr("user.a", "2"))}, []file{a.With(xattr("user.a", "1"))}, changed("/dir/a", "xattrs")},
		{"attribute renamed", []file{a.With(xattr("user.b", "1"))}, []file{a.With(xattr("user.a", "1"))}, changed("/dir/a", "xattrs")},
		{"empty attribute", []file{a}, []file{a.With(xattr("user.a", ""))}, changed("/dir/a", "xattrs")},
		{"several", []file{a}, []file{{Header: tar.Header{Name: "dir/a", Typeflag: tar.TypeReg, Mode: 0o600, Uid: 1, ModTime: epoch.Add(time.Second)}, Body: "x"}}, changed("/dir/a", "content", "mode", "owner", "time")},
		{"sorted", []file{regular("b", ""), regular("a/b", ""), regular("c", "1")}, []file{regular("c", "2"), regular("a", "")},
			[]Path{{"/a", Added, nil}, {"/a/b", Removed, nil}, {"/b", Removed, nil}, {"/c", Changed, []string{"content"}}}},
		{"the last of a path counts", []file{regular("a", "1"), regular("a", "2")}, []file{regular("a", "1")}, changed("/a", "content")},
		{"only one of many", []file{a, regular("x", "x"), link}, []file{a, regular("x", "y"), link}, changed("/x", "content")},
	}
	reverse := map[Change]Change{Added: Removed, Removed: Added, Changed: Changed}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			first, second := tartest.Tar(t, test.first...), tartest.Tar(t, test.second...)
			got, err := Layers(t.Context(), blob(first), blob(second))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			back, err := Layers(t.Context(), blob(second), blob(first))
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Clone(test.want)
			for i := range want {
				want[i].Change = reverse[want[i].Change]
			}
			if diff := cmp.Diff(want, back); diff != "" {
				t.Errorf("the other way round:\n%s", diff)
			}
		})
	}
}

// TestLayersAreTheSame compares tars that differ, with entries that do not.
func TestLayersAreTheSame(t *testing.T) {
	dir, a, b := special("dir/", tar.TypeDir), regular("dir/a", "body"), regular("dir/b", "").With(xattr("user.a", "1"))
	first := tartest.Tar(t, dir, a, b)
	tests := map[string][]byte{
		"same":                   first,
		"order":                  tartest.Tar(t, b, a, dir),
		"GNU format":             tartest.Tar(t, dir, a.With(func(h *tar.Header) { h.Format = tar.FormatGNU }), b),
		"PAX format":             tartest.Tar(t, dir, a.With(func(h *tar.Header) { h.Format = tar.FormatPAX }), b),
		"other records":          tartest.Tar(t, dir, a.With(func(h *tar.Header) { h.PAXRecords = map[string]string{"comment": "x"} }), b),
		"zone":                   tartest.Tar(t, dir, a.With(func(h *tar.Header) { h.ModTime = epoch.In(time.FixedZone("x", 3600)) }), b),
		"padding":                append(slices.Clone(first), make([]byte, 10240)...),
		"no end mark":            first[:len(first)-1024],
		"directory, no slash":    tartest.Tar(t, dir.With(func(h *tar.Header) { h.Name = "dir" }), a, b),
		"written twice the same": tartest.Tar(t, dir, a, a, b),
	}
	for name, second := range tests {
		got, err := Layers(t.Context(), blob(first), blob(second))
		if err != nil || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got, err := Layers(t.Context(), Blob{}, Blob{}); err != nil || got != nil {
		t.Errorf("nothing: %v, %v", got, err)
	}
}

func TestBrokenLayers(t *testing.T) {
	good := tartest.Tar(t, regular("a", strings.Repeat("x", 2000)))
	broken := map[string][]byte{
		"in a header":  good[:100],
		"in content":   good[:1000],
		"no tar":       bytes.Repeat([]byte("no tar"), 200),
		"bad checksum": append([]byte("b"), good[1:]...),
		"gzip":         append([]byte{0x1f, 0x8b, 8}, make([]byte, 600)...),
	}
	for name, data := range broken {
		if got, err := Layers(t.Context(), blob(good), blob(data)); err == nil || got != nil || !strings.Contains(err.Error(), "second") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if got, err := Layers(t.Context(), blob(data), blob(good)); err == nil || got != nil || !strings.Contains(err.Error(), "first") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	boom := errors.New("boom")
	failing := Blob{Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(good[:700]), errReader{boom})), nil
	}}
	if _, err := Layers(t.Context(), blob(good), failing); !errors.Is(err, boom) {
		t.Errorf("a reader that fails: %v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// excessive reports whether a tar claims more content than it holds, as a sparse file does.
func excessive(data []byte) bool {
	total := int64(0)
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err != nil {
			return false
		}
		if total += h.Size; h.Size > 1<<20 || total > 1<<20 {
			return true
		}
	}
}

func FuzzLayers(f *testing.F) {
	good := tartest.Tar(f, special("dir/", tar.TypeDir), regular("dir/a", "body").With(xattr("user.a", "1")))
	f.Add(good, good)
	f.Add(good, tartest.Tar(f, regular("dir/a", "")))
	f.Add(good[:700], []byte{})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		if excessive(first) || excessive(second) {
			return
		}
		got, err := Layers(t.Context(), blob(first), blob(second))
		if err != nil {
			return
		}
		for i, p := range got {
			if (p.Change == Changed) != (len(p.What) > 0) {
				t.Errorf("%v", p)
			}
			if i > 0 && got[i-1].Path >= p.Path {
				t.Errorf("%q comes after %q", p.Path, got[i-1].Path)
			}
		}
		back, err := Layers(t.Context(), blob(second), blob(first))
		if err != nil || len(back) != len(got) {
			t.Errorf("one way %v, the other %v, %v", got, back, err)
		}
		if same, err := Layers(t.Context(), blob(first), blob(first)); err != nil || same != nil {
			t.Errorf("a layer differs from itself: %v, %v", same, err)
		}
	})
}
