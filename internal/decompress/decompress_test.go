package decompress

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const all = Gzip | Zstd | Bzip2 | XZ

func streams(t testing.TB) map[string][]byte {
	t.Helper()
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	if _, err := io.WriteString(w, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	zw, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	plain := zw.EncodeAll([]byte("hello\n"), nil)
	decode := func(s string) []byte {
		data, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	return map[string][]byte{
		"plain":                         []byte("hello\n"),
		"gzip":                          gz.Bytes(),
		"zstd":                          plain,
		"zstd behind a skippable frame": append([]byte{0x52, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 'x', 'y'}, plain...),
		"bzip2":                         decode("QlpoOTFBWSZTWcHAgOIAAAFBAAAQAkSgADDNAMNGKZcXckU4UJDBwIDi"),
		"xz":                            decode("/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQAFaGVsbG8KAAAApWCX8ZT2/eAAAR4GwS+kHR+2830BAAAAAARZWg=="),
	}
}

func TestOpen(t *testing.T) {
	for name, data := range streams(t) {
		s, err := Open(bytes.NewReader(data), all)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := io.ReadAll(s)
		s.Close()
		if err != nil || string(got) != "hello\n" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if (s.Format == 0) != (name == "plain") {
			t.Errorf("%s: format %v", name, s.Format)
		}
		// A format that the caller does not accept is left as it is.
		s, err = Open(bytes.NewReader(data), 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s, with no format accepted: %q, %v", name, got, err)
		}
		s.Close()
	}
}

func TestTruncated(t *testing.T) {
	for name, data := range streams(t) {
		if name == "plain" {
			continue
		}
		s, err := Open(bytes.NewReader(data[:len(data)-3]), all)
		if err == nil {
			_, err = io.ReadAll(s)
			s.Close()
		}
		if err == nil {
			t.Errorf("%s: a truncated stream is read without an error", name)
		}
	}
}

func TestHugeWindow(t *testing.T) {
	// A frame header with a window of 3.75 TiB.
	s, err := Open(bytes.NewReader([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0, 0, 0}), Zstd)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := io.ReadAll(s); !errors.Is(err, zstd.ErrWindowSizeExceeded) {
		t.Errorf("a window of terabytes: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	for _, data := range streams(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Open(bytes.NewReader(data), all)
		if err != nil {
			return
		}
		defer s.Close()
		if n, err := io.Copy(io.Discard, io.LimitReader(s, 16<<20)); s.Format == 0 && (err != nil || n != int64(len(data))) {
			t.Errorf("a plain stream of %d bytes: %d read, %v", len(data), n, err)
		}
	})
}
