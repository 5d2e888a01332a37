package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

type blob struct {
	*bytes.Reader
	closed int
}

func (b *blob) Close() error { b.closed++; return nil }

// TestOpenPlain reads a layer as OpenPlain and Open give it, all files or every third one.
func TestOpenPlain(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, size := range []int{0, 1, 511, 512, 513, 16 << 10, 16<<10 + 1, 100_000, 3, 70_000, 7} {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("n", 40*i) + fmt.Sprint(i), Size: int64(size)}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte{byte(i)}, size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	list := func(r *Reader, every int) (all string, err error) {
		for i := 0; ; i++ {
			h, err := r.Next()
			if err != nil {
				return all, err
			}
			all += fmt.Sprint(len(h.Name), h.Size)
			if i%every == 0 {
				content, err := io.ReadAll(r)
				if err != nil {
					return all, err
				}
				all += string(content)
			}
		}
	}
	for _, every := range []int{1, 3, 100} {
		plain := &blob{Reader: bytes.NewReader(b.Bytes())}
		r := OpenPlain(t.Context(), plain, int64(b.Len()))
		got, err := list(r, every)
		if !errors.Is(err, io.EOF) || r.Close() != nil || plain.closed != 1 {
			t.Errorf("%v, closed %d times", err, plain.closed)
		}
		open, err := Open(t.Context(), io.NopCloser(bytes.NewReader(b.Bytes())), Digests{})
		if err != nil {
			t.Fatal(err)
		}
		if want, err := list(open, every); got != want || !errors.Is(err, io.EOF) {
			t.Errorf("every %d: %d bytes, want %d: %v", every, len(got), len(want), err)
		}
	}
	for _, cut := range []int{100, 700, b.Len() / 2, b.Len() - 1024 - 512} {
		for _, size := range []int{cut, b.Len()} { // it is short, or shorter than it was
			r := OpenPlain(t.Context(), &blob{Reader: bytes.NewReader(b.Bytes()[:cut])}, int64(size))
			if _, err := list(r, 100); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d of %d bytes: %v", cut, size, err)
			}
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("interrupted")
	cancel(cause)
	if _, err := OpenPlain(ctx, &blob{Reader: bytes.NewReader(b.Bytes())}, int64(b.Len())).Next(); !errors.Is(err, cause) {
		t.Error(err)
	}
}
