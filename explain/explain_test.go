package explain

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/cause"
	"github.com/kedge-build/kedge/diff"
	"github.com/kedge-build/kedge/internal/tartest"
)

func holding(t testing.TB, files ...string) diff.Blob {
	t.Helper()
	var entries []tartest.Entry
	for f := range slices.Chunk(files, 2) {
		e := tartest.Entry{Header: tar.Header{Name: f[0], Mode: 0o644, ModTime: time.Unix(1700000000, 0)}, Body: f[1]}
		if target, ok := strings.CutPrefix(e.Body, "-> "); ok {
			e.Typeflag, e.Linkname, e.Body = tar.TypeSymlink, target, ""
		}
		entries = append(entries, e)
	}
	layer := tartest.Tar(t, entries...)
	return diff.Blob{Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer)), nil }}
}

func changed(path string) diff.Path {
	return diff.Path{Path: path, Change: diff.Changed, What: []string{"content"}}
}

func TestFiles(t *testing.T) {
	const one, two = "6f1ed002-ab55-4b1b-8b5c-2d0b6a7a1c11", "0c2a3f5e-91d4-4d0e-b0f7-6e9b3a54d8aa"
	tests := []struct {
		name          string
		first, second []diff.Blob
		path          diff.Path
		want          cause.Kind
	}{
		{"content", []diff.Blob{holding(t, "id", one)}, []diff.Blob{holding(t, "id", two)}, changed("id"), cause.UUID},
		{"with a slash before it", []diff.Blob{holding(t, "./id", one)}, []diff.Blob{holding(t, "id", two)}, changed("/id"), cause.UUID},
		{"the highest layer counts", []diff.Blob{holding(t, "id", two), holding(t, "id", one)}, []diff.Blob{holding(t, "id", one), holding(t, "id", two)}, changed("id"), cause.UUID},
		{"in other layers", []diff.Blob{holding(t, "id", one), holding(t, "other", "")}, []diff.Blob{holding(t, "other", ""), holding(t, "id", two)}, changed("id"), cause.UUID},
		{"the last of a layer counts", []diff.Blob{holding(t, "id", two, "id", one)}, []diff.Blob{holding(t, "id", two)}, changed("id"), cause.UUID},
		{"a link", []diff.Blob{holding(t, "l", "-> a")}, []diff.Blob{holding(t, "l", "-> b")}, diff.Path{Path: "l", Change: diff.Changed, What: []string{"target"}}, cause.LinkTarget},
		{"only in one", nil, []diff.Blob{holding(t, "id", two)}, diff.Path{Path: "id", Change: diff.Added}, cause.OneBuildOnly},
		{"nothing to see", []diff.Blob{holding(t, "a", "x")}, []diff.Blob{holding(t, "a", "y")}, changed("gone"), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			files, err := Files(t.Context(), test.first, test.second, []diff.Path{test.path}, cause.Hints{})
			if err != nil {
				t.Fatal(err)
			}
			if len(files) != 1 || files[0].Path.Path != test.path.Path {
				t.Fatalf("%+v", files)
			}
			if test.want == "" {
				if files[0].Causes != nil {
					t.Errorf("%+v", files[0].Causes)
				}
			} else if len(files[0].Causes) == 0 || files[0].Causes[0].Kind != test.want {
				t.Errorf("got %+v, want %s", files[0].Causes, test.want)
			}
		})
	}
}

func TestExcerpt(t *testing.T) {
	lines := func(n int, last string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "line %d\n", i+1)
		}
		return b.String() + last
	}
	tests := []struct {
		name          string
		first, second string
		offset, line  int
		begins        string
		truncated     bool
	}{
		{"short", "a", "b", 0, 1, "a", false},
		{"far in", lines(1000, "a\n"), lines(1000, "b\n"), 7866, 887, "line 887\n", false},
		{"more behind it", "a" + lines(1000, ""), "b" + lines(1000, ""), 0, 1, "aline 1\n", true},
		{"one long line", strings.Repeat("x", 10000) + "a", strings.Repeat("x", 10000) + "b", 8976, 1, "xxx", false},
		{"nothing on the other side", lines(1000, ""), "", 0, 1, "line 1\n", true},
	}
	for _, test := range tests {
		files, err := Files(t.Context(), []diff.Blob{holding(t, "f", test.first)}, []diff.Blob{holding(t, "f", test.second)}, []diff.Path{changed("f")}, cause.Hints{})
		if err != nil {
			t.Fatal(err)
		}
		v := files[0].First
		if v.Offset != int64(test.offset) || v.Line != test.line || !strings.HasPrefix(string(v.Excerpt), test.begins) || v.Truncated != test.truncated || len(v.Excerpt) > excerpt {
			t.Errorf("%s: offset %d, line %d, %d bytes, truncated %v, %.20q", test.name, v.Offset, v.Line, len(v.Excerpt), v.Truncated, v.Excerpt)
		}
		if want := test.first[v.Offset : v.Offset+int64(len(v.Excerpt))]; cmp.Diff(want, string(v.Excerpt)) != "" {
			t.Errorf("%s: not what is there", test.name)
		}
	}
}

// TestSecrets: the content of keys and password files is hidden, and that of similar files is shown.
func TestSecrets(t *testing.T) {
	key := func(body string) string {
		return "-----BEGIN OPENSSH PRIVATE KEY-----\n" + strings.Repeat(body, 17) + "\n-----END OPENSSH PRIVATE KEY-----\n"
	}
	for _, test := range []struct {
		path, first, second string
		shown               bool
	}{
		{"home/a/id", key("b3Bl"), key("bnNz"), false},
		{"etc/shadow", "a:$6$x$y:1::::::\n", "a:$6$z$y:1::::::\n", false},
		{"etc/shadow-", "a:$6$x$y:1::::::\n", "a:$6$z$y:1::::::\n", false},
		{"etc/shadows", "a", "b", true},
	} {
		files, err := Files(t.Context(), []diff.Blob{holding(t, test.path, test.first)}, []diff.Blob{holding(t, test.path, test.second)}, []diff.Path{changed(test.path)}, cause.Hints{})
		if err != nil {
			t.Fatal(err)
		}
		if f := files[0]; f.First == nil || (f.First.Excerpt != nil) != test.shown || (f.Second.Excerpt != nil) != test.shown {
			t.Errorf("%s: %+v", test.path, f.First)
		}
	}
}

// TestRandomSecrets: causes and excerpts show only the beginning of a random secret.
func TestRandomSecrets(t *testing.T) {
	const key, other = "q83vEjRWeJCrze8SNFZ4kKvN7wx2", "ZmFrZSBieSBkaWNlIHJvbGxlZDI1"
	const hex, otherHex = "9f86d081884c7d659a2feaa0c55ad015", "2c26b46b68ffc68ff99b453c1d304134"
	for _, test := range []struct {
		name, first, second string
		want                string // the excerpt of the first
	}{
		{"base64", "secret " + key + "\n", "secret " + other + "\n", "secret q83v************************\n"},
		{"hex", "token=" + hex + "\n", "token=" + otherHex + "\n", "token=9f86****************************\n"},
		{"in one build", "secret " + key + "\n", "", "secret q83v************************\n"},
		{"a key of bytes", "\xff\x80\xc3\x28\x91\xe2\x12\xbe\xd4\xe4\x9f\xa4\x36\xe6\x91\xaa", "\x91\xaa\xff\x80\xe2\x28\xc3\x12\xe4\xbe\x9f\xd4\x36\xa4\x77\xe6", ""},
		{"a path", "see /usr/lib/x86_64-linux-gnu/libLLVM-14.so, one\n", "see /usr/lib/x86_64-linux-gnu/libLLVM-14.so, two\n", "see /usr/lib/x86_64-linux-gnu/libLLVM-14.so, one\n"},
		{"words", "InternationalizationHelper1 one\n", "InternationalizationHelper1 two\n", "InternationalizationHelper1 one\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			second, change := []diff.Blob{holding(t, "f", test.second)}, diff.Path{Path: "/f", Change: diff.Changed}
			if test.second == "" {
				second, change.Change = nil, diff.Removed
			}
			files, err := Files(t.Context(), []diff.Blob{holding(t, "f", test.first)}, second, []diff.Path{change}, cause.Hints{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(files[0].First.Excerpt)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, c := range files[0].Causes {
				if s := c.First + c.Second; strings.Contains(s, key[4:]) || strings.Contains(s, other[4:]) || strings.Contains(s, hex[4:]) {
					t.Errorf("%q and %q are shown", c.First, c.Second)
				}
			}
		})
	}
}

func TestFilesFail(t *testing.T) {
	boom := errors.New("boom")
	broken := diff.Blob{Open: func() (io.ReadCloser, error) { return nil, boom }}
	good := []diff.Blob{holding(t, "a", "x")}
	for name, pair := range map[string][2][]diff.Blob{"first": {{broken}, good}, "second": {good, {broken}}} {
		if _, err := Files(t.Context(), pair[0], pair[1], []diff.Path{changed("a")}, cause.Hints{}); !errors.Is(err, boom) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if files, err := Files(t.Context(), []diff.Blob{broken}, nil, nil, cause.Hints{}); err != nil || len(files) != 0 {
		t.Errorf("nothing to explain: %v, %v", files, err)
	}
}

func TestManyFiles(t *testing.T) {
	var paths []diff.Path
	for i := range maxFiles + 10 {
		paths = append(paths, changed(fmt.Sprint(i)))
	}
	files, err := Files(t.Context(), []diff.Blob{holding(t, "2009", "a")}, []diff.Blob{holding(t, "2009", "b")}, paths, cause.Hints{})
	if err != nil || len(files) != len(paths) || files[maxFiles+9].Causes != nil {
		t.Errorf("%d files, %v", len(files), err)
	}
}

// What came or went with a Debian package is attributed to it, also where usr was merged; what only lies beside it is
// not.
func TestPackages(t *testing.T) {
	list := holding(t, "var/lib/dpkg/info/jq.list", "/.\n/bin\n/bin/jq\n/usr/share/doc/jq\n/etc/both\n", "usr/bin/jq", "x", "usr/bin/mine", "x", "etc/both", "x",
		"var/lib/dpkg/info/other:amd64.list", "/etc/both\n")
	var paths []diff.Path
	for _, name := range []string{"/etc/both", "/usr/bin/jq", "/usr/bin/mine", "/usr/share/doc/jq", "/var/lib/dpkg/info/jq.list", "/var/lib/dpkg/info/jq.md5sums", "/var/lib/dpkg/info/other:amd64.list"} {
		paths = append(paths, diff.Path{Path: name, Change: diff.Removed})
	}
	paths = append(paths, diff.Path{Path: "/bin/jq", Change: diff.Added}, changed("/usr/share/doc"))
	files, err := Files(t.Context(), []diff.Blob{list}, nil, paths, cause.Hints{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.Package)
	}
	if d := cmp.Diff([]string{"jq", "jq", "", "jq", "jq", "jq", "other", "", ""}, got); d != "" {
		t.Error(d)
	}
}
