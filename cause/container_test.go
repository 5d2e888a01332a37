package cause

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/klauspost/compress/zstd"

	"github.com/kedge-build/kedge/internal/format/ar"
)

const (
	text1 = "built 2026-11-23T14:41:54Z\n"
	text2 = "built 2026-11-23T14:52:07Z\n"

	// Both texts, compressed by xz and bzip2.
	xz1 = "/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQAaYnVpbHQgMjAyNi0xMS0yM1QxNDo0MTo1NFoKAAAH7UMdKiRJsgABMxv3GYheH7bzfQEAAAAABFla"
	xz2 = "/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQAaYnVpbHQgMjAyNi0xMS0yM1QxNDo1MjowN1oKAABQsayma9ZjGQABMxv3GYheH7bzfQEAAAAABFla"
	bz1 = "QlpoOTFBWSZTWfHKsqsAAAtbgAAQQAJ/EAQQECQGACAAIoyHqGajIU0yMTExHhhqwLbXmSCii5QzEz8XckU4UJDxyrKr"
	bz2 = "QlpoOTFBWSZTWTEU7gkAAAtbgAAQQAJ/kAQQECQGACAAIo9QZB6RkKZMTIMjC+0UhWyNFMILUJZoeI+LuSKcKEgYincEgA=="
)

// An entry is a member of a test's archive.
type entry struct {
	name, body string
	time       time.Time
	uid        int
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	list := make([]tartest.Entry, len(entries))
	for i, e := range entries {
		list[i] = tartest.Entry{Header: tar.Header{Name: e.name, Mode: 0o644, ModTime: e.time, Uid: e.uid, Typeflag: tar.TypeReg}, Body: e.body}
	}
	return tartest.Tar(t, list...)
}

func zipOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		f, err := w.CreateHeader(&zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: e.time})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func arOf(entries ...entry) []byte {
	b := []byte(ar.Magic)
	for _, e := range entries {
		b = fmt.Appendf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", e.name+"/", max(e.time.Unix(), 0), e.uid, 0, "100644", len(e.body))
		b = append(b, e.body...)
		if len(e.body)%2 == 1 {
			b = append(b, '\n')
		}
	}
	return b
}

func cpioOf(entries ...entry) []byte {
	var b []byte
	pad := func() {
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	for i, e := range append(entries, entry{name: "TRAILER!!!"}) {
		b = fmt.Appendf(b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", i+1, 0o100644, e.uid, 0, 1, max(e.time.Unix(), 0), len(e.body), 0, 0, 0, 0, len(e.name)+1, 0)
		b = append(append(b, e.name...), 0)
		pad()
		b = append(b, e.body...)
		pad()
	}
	return b
}

func gzipOf(t testing.TB, body []byte, h gzip.Header, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Header = h
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstdOf(t testing.TB, body []byte, level zstd.EncoderLevel) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level))
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(body, nil)
}

func unbase64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// seen holds the fields of a Cause that the tests of containers compare.
type seen struct {
	Kind   Kind
	Where  string
	Format string
}

func TestContainers(t *testing.T) {
	a, b := entry{"usr/bin/a", text1, moment1, 0}, entry{"usr/bin/b", "constant\n", moment1, 0}
	changed := entry{"usr/bin/a", text2, moment1, 0}
	later, owned := b, b
	later.time, owned.uid = moment2, 7
	stamp := func(where string) []seen { return []seen{{Timestamp, where, "RFC 3339"}} }
	words := []byte(strings.Repeat("the quick brown fox jumps over the lazy dog ", 100))
	nested := func(e entry) []byte {
		return arOf(entry{"debian-binary", "2.0\n", moment1, 0}, entry{"data.tar.gz", string(gzipOf(t, tarOf(t, e, b), gzip.Header{}, 9)), moment1, 0})
	}
	for _, c := range []struct {
		name          string
		first, second []byte
		want          []seen
	}{
		{"gzip", gzipOf(t, []byte(text1), gzip.Header{}, 9), gzipOf(t, []byte(text2), gzip.Header{}, 9), stamp("")},
		{"gzip mtime", gzipOf(t, words, gzip.Header{ModTime: moment1}, 9), gzipOf(t, words, gzip.Header{ModTime: moment2}, 9), []seen{{ArchiveHeader, "", "gzip mtime"}}},
		{"gzip name", gzipOf(t, words, gzip.Header{Name: "a"}, 9), gzipOf(t, words, gzip.Header{Name: "b"}, 9), []seen{{ArchiveHeader, "", "gzip name"}}},
		{"gzip OS", gzipOf(t, words, gzip.Header{OS: 3}, 9), gzipOf(t, words, gzip.Header{OS: 255}, 9), []seen{{ArchiveHeader, "", "gzip OS byte"}}},
		{"gzip level", gzipOf(t, words, gzip.Header{}, 1), gzipOf(t, words, gzip.Header{}, 9), []seen{{Compression, "", "gzip"}}},
		{"xz", unbase64(t, xz1), unbase64(t, xz2), stamp("")},
		{"bzip2", unbase64(t, bz1), unbase64(t, bz2), stamp("")},
		{"zstd", zstdOf(t, []byte(text1), zstd.SpeedDefault), zstdOf(t, []byte(text2), zstd.SpeedDefault), stamp("")},
		{"zstd level", zstdOf(t, words, zstd.SpeedFastest), append(zstdOf(t, words[:2000], zstd.SpeedDefault), zstdOf(t, words[2000:], zstd.SpeedDefault)...), []seen{{Compression, "", "zstd"}}},

		{"tar", tarOf(t, a, b), tarOf(t, changed, b), stamp("usr/bin/a")},
		{"tar with a dot", tarOf(t, entry{"./.profile", text1, moment1, 0}), tarOf(t, entry{"./.profile", text2, moment1, 0}), stamp(".profile")},
		{"tar mtime", tarOf(t, a, b), tarOf(t, a, later), []seen{{ArchiveHeader, "", "tar mtime"}}},
		{"tar owner", tarOf(t, a, b), tarOf(t, a, owned), []seen{{ArchiveHeader, "", "tar owner"}}},
		{"tar order", tarOf(t, a, b), tarOf(t, b, a), []seen{{Order, "", "tar members"}}},
		{"tar member", tarOf(t, a, b), tarOf(t, a), []seen{{OneBuildOnly, "usr/bin/b", ""}}},
		{"tar padding", tarOf(t, a, b), append(tarOf(t, a, b), make([]byte, 512)...), []seen{{ArchiveHeader, "", "tar"}}},
		{"zip", zipOf(t, a, b), zipOf(t, changed, b), stamp("usr/bin/a")},
		{"zip mtime", zipOf(t, a, b), zipOf(t, a, later), []seen{{ArchiveHeader, "", "zip mtime"}}},
		{"zip order", zipOf(t, a, b), zipOf(t, b, a), []seen{{Order, "", "zip members"}}},
		{"ar", arOf(entry{"a.txt", text1, moment1, 0}), arOf(entry{"a.txt", text2, moment1, 0}), stamp("a.txt")},
		{"ar mtime", arOf(entry{"a.o", "x", moment1, 0}), arOf(entry{"a.o", "x", moment2, 0}), []seen{{ArchiveHeader, "", "ar mtime"}}},
		{"ar objects", arOf(entry{name: "a.o"}, entry{name: "b.o"}), arOf(entry{name: "b.o"}, entry{name: "a.o"}), []seen{{ParallelOrder, "", "ar members"}}},
		{"ar files", arOf(entry{name: "a"}, entry{name: "b"}), arOf(entry{name: "b"}, entry{name: "a"}), []seen{{Order, "", "ar members"}}},
		{"cpio", cpioOf(a, b), cpioOf(changed, b), stamp("usr/bin/a")},
		{"cpio mtime", cpioOf(a, b), cpioOf(a, later), []seen{{ArchiveHeader, "", "cpio mtime"}}},
		{"cpio inode", cpioOf(a, b), cpioOf(b, a), []seen{{ArchiveHeader, "", "cpio inode"}, {Order, "", "cpio members"}}},

		{"deb", nested(a), nested(changed), stamp("data.tar.gz!/usr/bin/a")},
		{"zip in tar", tarOf(t, entry{"x.jar", string(zipOf(t, a)), moment1, 0}), tarOf(t, entry{"x.jar", string(zipOf(t, changed)), moment1, 0}), stamp("x.jar!/usr/bin/a")},
		{"one is none", tarOf(t, a), []byte("no tar"), []seen{{Unknown, "", ""}}},
		{"damaged", gzipOf(t, words, gzip.Header{}, 9)[:40], gzipOf(t, words, gzip.Header{}, 1)[:40], []seen{{Unopened, "", ""}}},
		{"damaged ar", append(arOf(b), "x"...), append(arOf(b), "y"...), []seen{{Unopened, "", ""}}},
		{"hostile name", tarOf(t, entry{"\x1b[2J/<script>", text1, moment1, 0}), tarOf(t, entry{"\x1b[2J/<script>", text2, moment1, 0}), stamp(`\x1b[2J/<script>`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := find(t, "x", c.first, c.second, hints)
			var have []seen
			for _, g := range got {
				have = append(have, seen{g.Kind, g.Where, g.Format})
			}
			if diff := cmp.Diff(c.want, have); diff != "" {
				t.Errorf("(-want +got):\n%s\n%+v", diff, got)
			}
		})
	}
}

func TestHeaderClock(t *testing.T) {
	e := entry{"a", "x", moment1, 0}
	l := entry{"a", "x", moment2, 0}
	got := find(t, "x", tarOf(t, e, e), tarOf(t, l, l), hints)
	if len(got) != 1 || got[0].Clock != BuildClock || got[0].Count != 2 || got[0].First != "2026-11-23T14:41:54Z" {
		t.Errorf("%+v", got)
	}
	// The member holds its own modification time.
	odd1, odd2 := time.Date(2020, 1, 1, 1, 1, 1, 0, time.UTC), time.Date(2020, 1, 1, 1, 1, 9, 0, time.UTC)
	got = find(t, "x",
		tarOf(t, entry{"a", odd1.Format(time.RFC3339), odd1, 0}), tarOf(t, entry{"a", odd2.Format(time.RFC3339), odd2, 0}), hints)
	if len(got) != 2 || got[1].Kind != Timestamp || got[1].Clock != FileClock {
		t.Errorf("%+v", got)
	}
}

func TestDepth(t *testing.T) {
	nest := func(b []byte, n int) []byte {
		for range n {
			b = gzipOf(t, b, gzip.Header{}, 1)
		}
		return b
	}
	for n, want := range map[int]Kind{maxDepth: Timestamp, maxDepth + 1: Unopened} {
		got := find(t, "x", nest([]byte(text1), n), nest([]byte(text2), n), hints)
		if diff := cmp.Diff([]Kind{want}, kindsOf(got)); diff != "" {
			t.Errorf("%d deep (-want +got):\n%s", n, diff)
		}
	}
}

// A bomb is reported, and takes neither the memory nor the time that it claims.
func TestBomb(t *testing.T) {
	if testing.Short() {
		t.Skip("unpacks 1 GiB")
	}
	bomb := func(last string) []byte {
		var b bytes.Buffer
		w, err := gzip.NewWriterLevel(&b, 1)
		if err != nil {
			t.Fatal(err)
		}
		zeros := make([]byte, 1<<20)
		for range maxInflated>>20 + 1 {
			_, _ = w.Write(zeros)
		}
		_, _ = io.WriteString(w, last)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	got := find(t, "x", bomb("a"), bomb("b"), hints)
	if len(got) != 1 || got[0].Kind != Unopened || !strings.Contains(got[0].Why, "1024 MiB") {
		t.Errorf("%+v", got)
	}
}

// Content that does not fit into memory is compared in a file.
func TestSpill(t *testing.T) {
	f := &finder{ctx: t.Context(), memory: maxMemory - 100_000}
	want := bytes.Repeat([]byte("0123456789"), 30_000)
	s, err := f.spool(bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	if s.file == nil || f.memory != maxMemory-100_000 {
		t.Errorf("in memory: %d", f.memory)
	}
	got, err := io.ReadAll(s.SectionReader)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
	}
	s.close()
}

func TestManyMembers(t *testing.T) {
	list := make([]entry, 1000)
	other := make([]entry, len(list))
	for i := range list {
		list[i] = entry{fmt.Sprintf("f%d", i), text1, moment1, 0}
		other[i] = entry{fmt.Sprintf("f%d", i), text2, moment1, 0}
	}
	got := find(t, "x", tarOf(t, list...), tarOf(t, other...), hints)
	total := 0
	for _, c := range got {
		total += c.Count
	}
	if len(got) != maxCauses || total != len(list) {
		t.Errorf("%d causes of %d places, want %d of %d", len(got), total, maxCauses, len(list))
	}
}

// A file with too many differing places has a cause that says so, and is compared in time.
func TestManyPlaces(t *testing.T) {
	if testing.Short() {
		t.Skip("ten thousand places")
	}
	body := func(n string) string {
		return strings.Repeat("some words that are the same, then "+n+" and others\n", maxSpans)
	}
	var first, second []entry
	for i := range maxPlaces/maxSpans + 2 {
		first = append(first, entry{fmt.Sprintf("f%d", i), body("apples"), moment1, 0})
		second = append(second, entry{fmt.Sprintf("f%d", i), body("orange"), moment1, 0})
	}
	got := find(t, "x", tarOf(t, first...), tarOf(t, second...), hints)
	total := 0
	for _, c := range got {
		if c.Kind != Unknown {
			t.Errorf("%+v", c)
		}
		total += c.Count
	}
	if want := len(first) * maxSpans; total != want {
		t.Errorf("%d places, want %d", total, want)
	}
}
