package gunzip

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	klauspost "github.com/klauspost/compress/gzip"
)

// texts are contents of many kinds.
func texts() map[string][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300<<10)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	words := []string{"the ", "quick ", "brown ", "fox\n", "jumps ", "over ", "\x00\x00\x00\x00\x00\x00", "a"}
	var text bytes.Buffer
	for text.Len() < 1<<20 {
		text.WriteString(words[random.IntN(len(words))])
	}
	skewed := make([]byte, 500<<10) // rare symbols get long codes
	for i := range skewed {
		skewed[i] = byte(int(random.ExpFloat64()*6) & 0xff)
	}
	far := append(append(bytes.Clone(noise[:window]), noise[:window]...), noise[:300]...)
	return map[string][]byte{
		"empty": nil, "one": []byte("x"), "noise": noise, "text": text.Bytes(), "skewed": skewed, "far": far,
		"zeros": make([]byte, 1<<20), "pairs": bytes.Repeat([]byte("ab"), 1<<16), "threes": bytes.Repeat([]byte("abc"), 1<<16),
		"sevens": bytes.Repeat([]byte("abcdefg"), 1<<15), "eights": bytes.Repeat([]byte("abcdefgh"), 1<<15),
	}
}

func packed(t testing.TB, content []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Name, w.Comment, w.Extra = "name", "comment", []byte("extra")
	_, err = w.Write(content)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReader(t *testing.T) {
	for name, content := range texts() {
		for level := gzip.HuffmanOnly; level <= gzip.BestCompression; level++ {
			z := packed(t, content, level)
			for how, r := range map[string]io.Reader{
				"whole": bytes.NewReader(z), "halves": iotest.HalfReader(bytes.NewReader(z)), "with EOF": iotest.DataErrReader(bytes.NewReader(z)),
			} {
				got, err := io.ReadAll(NewReader(r))
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("%s, level %d, %s: %d bytes of %d, %v", name, level, how, len(got), len(content), err)
				}
			}
			var b bytes.Buffer
			if n, err := NewReader(bytes.NewReader(z)).WriteTo(&b); err != nil || n != int64(len(content)) || !bytes.Equal(b.Bytes(), content) {
				t.Errorf("%s, level %d: WriteTo: %d bytes, %v", name, level, n, err)
			}
		}
	}
}

func TestReaderMembers(t *testing.T) {
	a, b := packed(t, []byte("first "), 6), packed(t, []byte("second"), 0)
	got, err := io.ReadAll(NewReader(iotest.OneByteReader(bytes.NewReader(append(a, b...)))))
	if err != nil || string(got) != "first second" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestReaderRefuses(t *testing.T) {
	z := packed(t, []byte(strings.Repeat("content ", 100)), 6)
	for n := range len(z) {
		if _, err := io.ReadAll(NewReader(bytes.NewReader(z[:n]))); err == nil {
			t.Errorf("%d bytes of %d are taken", n, len(z))
		}
	}
	for i := range len(z) {
		if i >= 3 && i < len(z)-8 { // neither the checksum nor the magic
			continue
		}
		damaged := bytes.Clone(z)
		damaged[i] ^= 0xff
		if _, err := io.ReadAll(NewReader(bytes.NewReader(damaged))); err == nil {
			t.Errorf("byte %d is another, and it is taken", i)
		}
	}
	if _, err := io.ReadAll(NewReader(bytes.NewReader(append(bytes.Clone(z), "trailing"...)))); err == nil {
		t.Error("what follows is taken")
	}
	broken := errors.New("broken")
	if _, err := io.ReadAll(NewReader(io.MultiReader(bytes.NewReader(z[:20]), iotest.ErrReader(broken)))); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

// FuzzReader has to say what another implementation says.
func FuzzReader(f *testing.F) {
	for _, content := range texts() {
		for _, level := range []int{gzip.HuffmanOnly, 0, 1, 9} {
			f.Add(packed(f, content[:min(len(content), 2000)], level))
		}
	}
	f.Fuzz(func(t *testing.T, z []byte) {
		const limit = 4 << 20
		got, err := io.ReadAll(io.LimitReader(NewReader(bytes.NewReader(z)), limit))
		var want []byte
		zr, werr := klauspost.NewReader(bytes.NewReader(z))
		if werr == nil {
			want, werr = io.ReadAll(io.LimitReader(zr, limit))
		}
		if (err == nil) != (werr == nil) {
			t.Fatalf("%v, not %v", err, werr)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Fatal("another content")
		}
	})
}

func BenchmarkReader(b *testing.B) {
	content := texts()["text"]
	z := packed(b, content, 6)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		if _, err := io.Copy(io.Discard, NewReader(bytes.NewReader(z))); err != nil {
			b.Fatal(err)
		}
	}
}
