package chunk

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// write writes the parts, each of which begins with an entry.
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

// mixed returns n bytes, of which half compress.
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
		zr, err := stdgzip.NewReader(bytes.NewReader(s.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, zr)
		if err != nil {
			t.Fatal(err)
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
		t.Errorf("gzip does not read what was written: %v", err)
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
		if err := w.Close(); !errors.Is(err, errFull) {
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
	long[lengthAt+3] = 0xff
	for name, blob := range map[string][]byte{
		"plain gzip":          plain.Bytes(),
		"plain gzip after":    append(bytes.Clone(good), plain.Bytes()...),
		"text":                []byte(strings.Repeat("text ", 100)),
		"cut off":             good[:len(good)-1],
		"cut off in a header": good[:len(good)/2+3],
		"length of too much":  long,
		"something behind":    append(bytes.Clone(good), 0),
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
	if list, err := scan(t, nil); len(list) > 0 || err != nil {
		t.Errorf("nothing: %v, %v", list, err)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errFull }

func FuzzScanner(f *testing.F) {
	f.Add(write(f, 1, 100, []byte("one"), []byte("two")))
	f.Add([]byte{0x1f, 0x8b, 8, 4})
	f.Fuzz(func(t *testing.T, blob []byte) {
		s, n := NewScanner(bytes.NewReader(blob)), 0
		for s.Scan() {
			if !bytes.Equal(s.Bytes(), blob[n:n+len(s.Bytes())]) {
				t.Fatal("a chunk is not what is there")
			}
			n += len(s.Bytes())
		}
		if err := s.Err(); err == nil && n != len(blob) || err != nil && !errors.Is(err, ErrNone) {
			t.Errorf("%d of %d bytes: %v", n, len(blob), err)
		}
	})
}
