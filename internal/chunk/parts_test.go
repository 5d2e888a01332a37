package chunk

import (
	"bytes"
	"io"
	"slices"
	"sync/atomic"
	"testing"
)

// reusing writes parts like write, with chunks of an earlier stream, and counts those that it asked for and found.
func reusing(t testing.TB, old []byte, known []Part, parts ...[]byte) (blob []byte, now []Part, found int) {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, 6, 3)
	if err != nil {
		t.Fatal(err)
	}
	var hits atomic.Int64
	w.Reuse(func(content Sum) (io.ReaderAt, Part, bool) {
		i := slices.IndexFunc(known, func(p Part) bool { return p.Content == content })
		if i < 0 {
			return nil, Part{}, false
		}
		hits.Add(1)
		return bytes.NewReader(old), known[i], true
	})
	for _, p := range parts {
		if err := w.Cut(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), w.Parts(), int(hits.Load())
}

// TestReuse: a stream with chunks of another one has the bytes of one that is compressed as a whole, even if the other
// one is damaged.
func TestReuse(t *testing.T) {
	was := [][]byte{mixed(1000), mixed(Size + 5), []byte("old"), mixed(2 * Size)}
	is := [][]byte{[]byte("new"), mixed(Size + 5), mixed(1000), []byte("another"), mixed(2 * Size), mixed(1000)}
	old, parts, found := reusing(t, nil, nil, was...)
	if want := write(t, 2, 1<<20, was...); !bytes.Equal(old, want) || found != 0 {
		t.Fatalf("a stream whose parts are listed differs, or %d chunks were found", found)
	}
	if got := DecodeParts(append(EncodeParts(parts), 1, 2)); !slices.Equal(got, parts) || len(got) != 6 {
		t.Fatalf("%d parts became %d", len(parts), len(got))
	}
	want := write(t, 2, 1<<20, is...)
	got, now, found := reusing(t, old, parts, is...)
	if !bytes.Equal(got, want) || found != 6 {
		t.Errorf("%d chunks were reused, and the stream is the same: %v", found, bytes.Equal(got, want))
	}
	if _, again, found := reusing(t, got, now, is...); !slices.Equal(again, now) || found != len(now) {
		t.Errorf("%d of %d chunks were reused", found, len(now))
	}
	for i := range parts {
		damaged := bytes.Clone(old)
		damaged[parts[i].Offset+int64(parts[i].Length/2)] ^= 1
		if got, _, _ := reusing(t, damaged, parts, is...); !bytes.Equal(got, want) {
			t.Errorf("a damaged chunk %d changes the stream", i)
		}
		for _, wrong := range []func(*Part){
			func(p *Part) { p.Offset++ }, func(p *Part) { p.Offset = 1 << 40 }, func(p *Part) { p.Offset = -1 },
			func(p *Part) { p.Length-- }, func(p *Part) { p.Length = 1 << 31 }, func(p *Part) { p.Length = 0 },
		} {
			list := slices.Clone(parts)
			wrong(&list[i])
			if got, _, _ := reusing(t, old, list, is...); !bytes.Equal(got, want) {
				t.Errorf("a wrong part %d changes the stream", i)
			}
		}
	}
	if got, _, _ := reusing(t, old[:len(old)/2], parts, is...); !bytes.Equal(got, want) {
		t.Error("a stream that was cut off changes another one")
	}
}
