package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"testing"

	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/opencontainers/go-digest"
)

// tarball returns an archive of entries. A file contains its name.
func tarball(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	entries := make([]tartest.Entry, len(headers))
	for i, h := range headers {
		entries[i].Header = h
		if h.Typeflag == 0 {
			entries[i].Typeflag, entries[i].Body = tar.TypeReg, "body of "+h.Name
		}
	}
	return tartest.Tar(t, entries...)
}

// closer counts how often a blob is closed.
type closer struct {
	io.Reader
	closed int
}

func (c *closer) Close() error { c.closed++; return nil }

// read returns the names of a layer, and the content of its files.
func read(t testing.TB, blob []byte, want Digests) (names []string, content string, err error) {
	t.Helper()
	c := &closer{Reader: bytes.NewReader(blob)}
	defer func() {
		if c.closed != 1 {
			t.Errorf("the blob was closed %d times", c.closed)
		}
	}()
	r, err := Open(t.Context(), c, want)
	if err != nil {
		return nil, "", err
	}
	defer r.Close()
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names, content, nil
		}
		if err != nil {
			return names, content, err
		}
		body, err := io.ReadAll(r)
		if err != nil {
			return names, content, err
		}
		names, content = append(names, h.Name), content+string(body)
	}
}

// TestCompression reads one layer in every form in which images store it.
func TestCompression(t *testing.T) {
	plain := tarball(t, tar.Header{Name: "a"}, tar.Header{Name: "b"})
	for name, blob := range map[string][]byte{
		"plain":                         plain,
		"plain, with padding":           append(bytes.Clone(plain), make([]byte, 4096)...),
		"gzip":                          tartest.Gzip(t, plain),
		"gzip of two members":           append(tartest.Gzip(t, plain[:700]), tartest.Gzip(t, plain[700:])...),
		"zstd":                          tartest.Zstd(t, plain),
		"zstd behind a skippable frame": append([]byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 'x'}, tartest.Zstd(t, plain)...),
	} {
		content := plain
		if strings.Contains(name, "padding") {
			content = blob
		}
		names, body, err := read(t, blob, Digests{digest.FromBytes(blob), digest.FromBytes(content)})
		if err != nil || strings.Join(names, " ") != "a b" || body != "body of abody of b" {
			t.Errorf("%s: %q, %q, %v", name, names, body, err)
		}
	}
	if names, _, err := read(t, nil, Digests{}); err != nil || len(names) > 0 {
		t.Errorf("an empty layer: %q, %v", names, err)
	}
}

func TestDigests(t *testing.T) {
	plain := tarball(t, tar.Header{Name: "a"})
	other := digest.FromString("another")
	broken := bytes.Clone(tartest.Gzip(t, plain))
	broken[len(broken)-20] ^= 1
	for _, test := range []struct {
		name string
		blob []byte
		want Digests
		kind string
	}{
		{"another diffID", tartest.Gzip(t, plain), Digests{DiffID: other}, "diffID"},
		{"another digest", tartest.Gzip(t, plain), Digests{Blob: other, DiffID: digest.FromBytes(plain)}, "digest"},
		{"another digest of a plain layer", plain, Digests{Blob: other}, "digest"},
		{"bytes behind the tar", append(bytes.Clone(plain), 'x'), Digests{DiffID: digest.FromBytes(plain)}, "diffID"},
		{"a damaged blob", broken, Digests{Blob: digest.FromBytes(tartest.Gzip(t, plain))}, "digest"},
		{"a truncated blob", tartest.Gzip(t, plain)[:40], Digests{Blob: digest.FromBytes(tartest.Gzip(t, plain))}, "digest"},
		{"a blob that is no tar", []byte(strings.Repeat("x", 600)), Digests{Blob: other}, "digest"},
		{"a truncated zstd blob", tartest.Zstd(t, plain)[:40], Digests{Blob: other}, "digest"},
	} {
		_, _, err := read(t, test.blob, test.want)
		var wrong *DigestError
		if !errors.As(err, &wrong) || wrong.Kind != test.kind {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	for _, bad := range []Digests{{Blob: "sha256:x"}, {DiffID: "none"}} {
		if _, _, err := read(t, plain, bad); !errors.Is(err, digest.ErrDigestInvalidLength) && !errors.Is(err, digest.ErrDigestInvalidFormat) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestTruncated(t *testing.T) {
	plain := tarball(t, tar.Header{Name: "a"}, tar.Header{Name: "b"})
	for name, blob := range map[string][]byte{
		"gzip":         tartest.Gzip(t, plain)[:60],
		"gzip trailer": tartest.Gzip(t, plain)[:len(tartest.Gzip(t, plain))-4],
		"zstd":         tartest.Zstd(t, plain)[:50],
		"tar":          plain[:516],
		"tar header":   plain[:100],
	} {
		if _, _, err := read(t, blob, Digests{}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefused(t *testing.T) {
	sparse := tar.Header{Name: "holes", Typeflag: tar.TypeReg}
	for want, h := range map[string]tar.Header{
		"unknown type":                       {Name: "a", Typeflag: 'A'},
		`entry "../a": path with`:            {Name: "../a"},
		`entry "a/../b": path with`:          {Name: "a/../b"},
		`entry "l": path with`:               {Name: "l", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"},
		"path of more than":                  {Name: strings.Repeat("a/", 3000) + "f"},
		"the root is no folder":              {Name: "/."},
		`entry ".wh.": "/.wh.": white`:       {Name: ".wh."},
		`entry "d/.wh..": "/d/.wh..": white`: {Name: "d/.wh.."},
		`"/d/.wh...": whiteout of no name`:   {Name: "d/.wh..."},
	} {
		if _, _, err := read(t, tarball(t, h), Digests{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	sparse.Size, sparse.PAXRecords = maxSparse+1, map[string]string{"GNU.sparse.major": "1"}
	if err := checkHeader(&sparse); err == nil {
		t.Error("a sparse file of terabytes is accepted")
	}
	// A symbolic link may lead anywhere: it is resolved within the root.
	if _, _, err := read(t, tarball(t, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../../../etc"}), Digests{}); err != nil {
		t.Error(err)
	}
}

// repeated is a tar of n empty files with one name, made while it is read.
type repeated struct {
	header []byte
	left   int
	rest   []byte
}

func (r *repeated) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.left == 0 {
			return 0, io.EOF
		}
		r.left--
		r.rest = r.header
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func TestMillionsOfEntries(t *testing.T) {
	if testing.Short() {
		t.Skip("reads a million entries")
	}
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: "a", Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		before, entries int
		want            error
	}{
		{0, 1_000_000, io.EOF},
		{maxEntries - 10, 10, io.EOF},
		{maxEntries - 10, 11, ErrTooLarge},
	} {
		r, err := Open(t.Context(), io.NopCloser(&repeated{header: b.Bytes(), left: test.entries}), Digests{})
		if err != nil {
			t.Fatal(err)
		}
		r.budget.entries = test.before
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, test.want) {
			t.Errorf("%d entries after %d: %v, want %v", test.entries, test.before, err, test.want)
		}
	}
}

// TestBudget: the parts of a layer share a budget. Names and attributes count, too.
func TestBudget(t *testing.T) {
	part := tarball(t, tar.Header{Name: "a", PAXRecords: map[string]string{xattrPrefix + "user.a": "x"}})
	for _, b := range []*Budget{{entries: maxEntries}, {names: maxNames - 10}} {
		if _, err := NewReader(bytes.NewReader(part), b).Next(); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%+v: %v", b, err)
		}
	}
	if h, err := NewReader(bytes.NewReader(part), &Budget{}).Next(); err != nil || h.Name != "a" {
		t.Errorf("%v, %v", h, err)
	}
}

func TestInterrupted(t *testing.T) {
	cause := errors.New("interrupted")
	for name, blob := range map[string][]byte{
		"plain": tarball(t, tar.Header{Name: "a"}), "zstd": tartest.Zstd(t, tarball(t, tar.Header{Name: "a"})),
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		r, err := Open(ctx, io.NopCloser(io.MultiReader(bytes.NewReader(blob), &repeated{header: make([]byte, 512), left: 1 << 30})), Digests{Blob: digest.FromBytes(blob)})
		if err != nil {
			t.Fatal(err)
		}
		cancel(cause)
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, cause) {
			t.Errorf("%s: %v", name, err)
		}
		r.Close()
	}
}

func TestXattrs(t *testing.T) {
	h := &tar.Header{PAXRecords: map[string]string{xattrPrefix + "user.b": "2", "mtime": "1", xattrPrefix + "user.a": "1"}}
	var got []string
	for k, v := range Xattrs(h) {
		got = append(got, XattrName(k)+"="+v)
	}
	if strings.Join(got, " ") != "user.a=1 user.b=2" {
		t.Errorf("%q", got)
	}
}

// FuzzReader reads anything as a layer and adds it to an Overlay. All paths stay within the root and the
// bounds.
func FuzzReader(f *testing.F) {
	layers := [][]byte{
		tarball(f, tar.Header{Name: "a"}, tar.Header{Name: "d/", Typeflag: tar.TypeDir}, tar.Header{Name: "d/.wh..wh..opq"}),
		tarball(f, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/l"}, tar.Header{Name: "l/a"}),
		tarball(f, tar.Header{Name: ".wh."}),
		tarball(f, tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "a"}, tar.Header{Name: ".wh.a"}),
		tarball(f, tar.Header{Name: "x", PAXRecords: map[string]string{xattrPrefix + "user.a": "1"}}),
		nil,
	}
	for _, data := range layers {
		f.Add(data)
		f.Add(tartest.Gzip(f, data))
		f.Add(tartest.Zstd(f, data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		blob := io.NopCloser(bytes.NewReader(data))
		r, err := Open(t.Context(), blob, Digests{Blob: digest.FromBytes(data)})
		if err != nil {
			return
		}
		defer r.Close()
		var o Overlay[*tar.Header]
		read := int64(0)
		for {
			h, err := r.Next()
			if err != nil {
				break
			}
			name := Clean(h.Name)
			if strings.HasPrefix(name, "../") || strings.HasPrefix(name, "/") || len(name) > maxPath {
				t.Fatalf("name %q", name)
			}
			if w, ok := ParseWhiteout(name); ok {
				o.Hide(w)
			} else if err := o.Add(name, h.Typeflag, h.Linkname, h); err == nil && h.Typeflag != tar.TypeXGlobalHeader && o.Lookup(name) == nil {
				if n, err := o.Follow(name); err != nil && n != nil {
					t.Errorf("%q was added and is not there", name)
				}
			}
			n, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			if read += n; err != nil || read > 16<<20 {
				break
			}
		}
		for name, n := range o.Root().All() {
			if n.Kind != tar.TypeDir && len(n.Children) > 0 {
				t.Errorf("%q is no folder, and has children", name)
			}
		}
	})
}

func ExampleOpen() {
	ctx := context.Background()
	blob := tartest.Gzip(&testing.T{}, tarball(&testing.T{}, tar.Header{Name: "etc/motd"}))
	r, err := Open(ctx, io.NopCloser(bytes.NewReader(blob)), Digests{Blob: digest.FromBytes(blob)})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	for {
		h, err := r.Next()
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(h.Name)
	}
	// Output:
	// etc/motd
	// EOF
}

// TestClean: the path of most names is found without path.Clean, and is the same.
func TestClean(t *testing.T) {
	parts := []string{"", ".", "..", "a", ".a", "b.", "c d", "/"}
	for _, a := range parts {
		for _, b := range parts {
			for _, c := range parts {
				for _, d := range parts {
					name := strings.Join([]string{a, b, c, d}, "/")
					if got, want := Clean(name), path.Clean("/" + name)[1:]; got != want {
						t.Errorf("%q: %q, not %q", name, got, want)
					}
					if got, want := Clean(name[1:]), path.Clean("/" + name[1:])[1:]; len(a) > 0 && got != want {
						t.Errorf("%q: %q, not %q", name[1:], got, want)
					}
				}
			}
		}
	}
}
