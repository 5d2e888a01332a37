package chunk

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// write writes parts. Each begins with an entry.
func write(t testing.TB, n, step int, parts ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, 6, n)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if err := w.Cut(); err != nil {
			t.Fatal(err)
		}
		for p := range slices.Chunk(p, step) {
			if _, err := w.Write(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// mixed returns n bytes. Half of them are compressible.
func mixed(n int) []byte {
	b := bytes.Repeat([]byte("a line of text\n"), n/15+1)[:n]
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n / 2 {
		b[i] = byte(r.Uint32())
	}
	return b
}

type found struct {
	content int
	flags   Flags
}

func scan(t testing.TB, blob []byte) (list []found, err error) {
	t.Helper()
	s := NewScanner(bytes.NewReader(blob))
	for s.Scan() {
		at := int(s.Offset())
		if !bytes.Equal(s.Bytes(), blob[at:at+len(s.Bytes())]) {
			t.Errorf("the chunk is not the one at %d", at)
		}
		n, err := io.Copy(io.Discard, NewReader(bytes.NewReader(s.Bytes())))
		if err != nil {
			t.Error(err)
		}
		list = append(list, found{int(n), s.Flags()})
	}
	return list, s.Err()
}

func TestWriter(t *testing.T) {
	parts := [][]byte{[]byte("first"), mixed(2*Size + 7), {}, mixed(Size), []byte("last")}
	whole := bytes.Join(parts, nil)
	blob := write(t, 2, 1<<20, parts...)
	zr, err := stdgzip.NewReader(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	if !zr.ModTime.IsZero() || zr.OS != 255 {
		t.Errorf("the header has the time %v and the system %d", zr.ModTime, zr.OS)
	}
	if got, err := io.ReadAll(zr); err != nil || !bytes.Equal(got, whole) {
		t.Errorf("gzip does not read it: %v", err)
	}
	got, err := scan(t, blob)
	want := []found{{5, Start}, {Size, Start}, {Size, 0}, {7, 0}, {Size, Start}, {4, Start}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(found{})); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	for _, n := range []int{1, 7} {
		for _, step := range []int{1000, Size, 1 << 21} {
			if !bytes.Equal(write(t, n, step, parts...), blob) {
				t.Errorf("%d at once and writes of %d bytes give other bytes", n, step)
			}
		}
	}
}

func TestWriterMark(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, 6, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range []string{"one", "two", "three"} {
		if i == 1 {
			w.Mark(Apart)
		}
		if _, err := io.WriteString(w, p); err != nil {
			t.Fatal(err)
		}
		if w.Pending() != len(p) {
			t.Errorf("%d bytes are pending, want %d", w.Pending(), len(p))
		}
		if err := w.Cut(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := scan(t, b.Bytes())
	if d := cmp.Diff([]found{{3, Start}, {3, Start | Apart}, {5, Start}}, got, cmp.AllowUnexported(found{})); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
}

type full struct{ left int }

var errFull = errors.New("no space")

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriterFails(t *testing.T) {
	for _, n := range []int{1, 4} {
		w, err := NewWriter(&full{Size}, 6, n)
		if err != nil {
			t.Fatal(err)
		}
		content := mixed(Size)
		var failed error
		for range 50 {
			if _, failed = w.Write(content); failed != nil {
				break
			}
		}
		if !errors.Is(failed, errFull) {
			t.Errorf("writing on and on: %v", failed)
		}
		if err := w.Close(); !errors.Is(err, errFull) || err.Error() != errFull.Error() {
			t.Errorf("closing: %v", err)
		}
	}
	w, err := NewWriter(&full{10}, 6, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "short"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, errFull) {
		t.Errorf("closing: %v", err)
	}
	if _, err := NewWriter(io.Discard, 100, 1); err == nil {
		t.Error("level 100 is taken")
	}
}

func TestScannerRefuses(t *testing.T) {
	good := write(t, 1, 100, []byte("one"), []byte("two"))
	var plain bytes.Buffer
	zw := stdgzip.NewWriter(&plain)
	if _, err := io.WriteString(zw, "three"); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	long := bytes.Clone(good)
	copy(long[len(header):], mark(maxLength+1, Start))
	for name, blob := range map[string][]byte{
		"plain gzip":         plain.Bytes(),
		"plain gzip after":   append(bytes.Clone(good), plain.Bytes()...),
		"text":               []byte(strings.Repeat("text ", 100)),
		"cut off":            good[:len(good)-1],
		"cut off in a mark":  good[:len(header)+7],
		"cut off in a chunk": good[:len(header)+markSize+2],
		"nothing":            nil,
		"length of too much": long,
		"something behind":   append(bytes.Clone(good), 0),
	} {
		if _, err := scan(t, blob); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := NewScanner(io.MultiReader(bytes.NewReader(good), errReader{}))
	for s.Scan() {
	}
	if !errors.Is(s.Err(), errFull) {
		t.Errorf("a read that fails: %v", s.Err())
	}
}

func TestReader(t *testing.T) {
	parts := [][]byte{[]byte("first"), mixed(Size + 7), []byte("last")}
	blob := write(t, 1, 1<<20, parts...)
	chunks := blob[len(header) : len(blob)-trailerSize]
	if got, err := io.ReadAll(NewReader(bytes.NewReader(chunks))); err != nil || !bytes.Equal(got, bytes.Join(parts, nil)) {
		t.Errorf("the chunks have other content: %v", err)
	}
	for name, run := range map[string][]byte{
		"cut off":       chunks[:len(chunks)-1],
		"cut in a mark": chunks[:13],
		"an end within": slices.Concat(chunks, lastBlock, chunks),
		"the end, too":  blob[len(header):],
	} {
		if _, err := io.ReadAll(NewReader(bytes.NewReader(run))); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := io.ReadAll(NewReader(errReader{})); !errors.Is(err, errFull) {
		t.Errorf("a read that fails: %v", err)
	}
}

// Other programs read the format. The test uses those of this machine; gzip must be there.
func TestReaders(t *testing.T) {
	parts := [][]byte{[]byte("first"), mixed(Size + 7), []byte("last")}
	file := filepath.Join(t.TempDir(), "a.gz")
	if err := os.WriteFile(file, write(t, 1, 1<<20, parts...), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, reader := range [][]string{
		{"gzip", "-dc", file},
		{"pigz", "-dc", file},
		{"busybox", "gzip", "-dc", file},
		{"perl", "-MIO::Uncompress::Gunzip=gunzip", "-e", `gunzip $ARGV[0] => "-" or die`, file},
		{"python3", "-c", "import sys, zlib; d = zlib.decompressobj(31); sys.stdout.buffer.write(d.decompress(open(sys.argv[1], 'rb').read())); assert d.eof and not d.unused_data", file},
	} {
		if _, err := exec.LookPath(reader[0]); err != nil && reader[0] != "gzip" {
			continue
		}
		got, err := exec.Command(reader[0], reader[1:]...).Output()
		if err != nil || !bytes.Equal(got, bytes.Join(parts, nil)) {
			t.Errorf("%s read %d bytes: %v", reader[0], len(got), err)
		}
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errFull }

func FuzzScanner(f *testing.F) {
	f.Add(write(f, 1, 100, []byte("one"), []byte("two")))
	f.Add(slices.Concat(header, mark(3, Start), []byte("abc"), lastBlock))
	f.Fuzz(func(t *testing.T, blob []byte) {
		s, n := NewScanner(bytes.NewReader(blob)), len(header)
		for s.Scan() {
			if int(s.Offset()) != n || !bytes.Equal(s.Bytes(), blob[n:n+len(s.Bytes())]) {
				t.Fatal("a chunk differs from the stream")
			}
			n += len(s.Bytes())
			if _, err := io.CopyN(io.Discard, NewReader(bytes.NewReader(s.Bytes())), 8<<20); err == nil {
				t.Log("more than a chunk may hold")
			}
		}
		if err := s.Err(); err == nil && n != len(blob)-trailerSize || err != nil && !errors.Is(err, ErrNone) {
			t.Errorf("%d of %d bytes: %v", n, len(blob), err)
		}
	})
}
