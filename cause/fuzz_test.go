package cause

import (
	"compress/gzip"
	"testing"
	"unicode"

	"github.com/klauspost/compress/zstd"
)

func FuzzFind(f *testing.F) {
	a, b := entry{"a", text1, moment1, 0}, entry{"a", text2, moment2, 0}
	f.Add("x", []byte(text1), []byte(text2))
	f.Add("x", tarOf(f, a), tarOf(f, b))
	f.Add("x", zipOf(f, a), zipOf(f, b))
	f.Add("x", arOf(a), arOf(b))
	f.Add("x", cpioOf(a), cpioOf(b))
	f.Add("x", gzipOf(f, []byte(text1), gzip.Header{}, 9), gzipOf(f, []byte(text2), gzip.Header{}, 9))
	f.Add("x", zstdOf(f, []byte(text1), zstd.SpeedDefault), zstdOf(f, []byte(text2), zstd.SpeedDefault))
	f.Add("x", unbase64(f, xz1), unbase64(f, xz2))
	f.Add("x", unbase64(f, bz1), unbase64(f, bz2))
	f.Add("x", []byte(`{"a": 1, "b": [1, 2]}`), []byte(`{"b": [2, 1], "a": 1}`))
	f.Add("etc/machine-id", []byte("9f86d081884c7d659a2feaa0c55ad015\n"), []byte("\n"))
	f.Add("x.pem", []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), []byte("-----BEGIN PRIVATE KEY-----\nAAAB\n-----END PRIVATE KEY-----\n"))
	f.Add("x", []byte("\xfe\xed\xfe\xed\x00\x00\x00\x02\x00\x00\x00\x01"), []byte("\xfe\xed\xfe\xed\x00\x00\x00\x02\x00\x00\x00\x02"))
	f.Add("x", []byte("\x7fELF\x02\x01\x01"), []byte("\x7fELF\x02\x01\x02"))
	f.Add("x", []byte("SQLite format 3\x00\x10\x00\x01\x01\x00"), []byte("SQLite format 3\x00\x10\x00\x01\x01\x01"))
	f.Add("x.pyc", []byte("\xa7\x0d\r\n\x00\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08\xe3"), []byte("\xa7\x0d\r\n\x00\x00\x00\x00\x01\x02\x03\x05\x05\x06\x07\x08\xe3"))
	f.Add("x.MAD", ariaTable(1024, 1, "row", moment1), ariaTable(1024, 2, "wor", moment2))
	f.Add("x.fmt", texPool(texTree1+texName), texPool(texTree2+texName))
	f.Add("x.fmt", luaStrings(texTree1+texName), luaStrings(texTree2+texName))
	f.Add("x.log", []byte("This is TeX, Version 3\n("+texTree1+texName+"\n1 strings of total length 115\n"), []byte("This is TeX, Version 3\n("+texTree2+texName+"\n1 strings of total length 100\n"))
	f.Add("rndc.key", []byte("key \"k\" { algorithm hmac-md5; secret \"AAAA\"; };"), []byte("key \"k\" { algorithm hmac-md5; secret \"BBBB\"; };"))
	f.Fuzz(func(t *testing.T, name string, first, second []byte) {
		causes, err := Find(t.Context(), name, fileOf(first), fileOf(second), hints)
		if err != nil {
			t.Fatal(err)
		}
		if same := string(first) == string(second); same != (len(causes) == 0) {
			t.Fatalf("the same: %v, causes %+v", same, causes)
		}
		for _, c := range causes {
			if c.Why == "" || c.Fix == "" || c.Count < 1 || c.Offset < -1 || describe(c.Kind).Kind != c.Kind {
				t.Errorf("incomplete: %+v", c)
			}
			for _, s := range []string{c.First, c.Second, c.Where, c.Why, c.Format} {
				for _, r := range s {
					if !unicode.IsPrint(r) && r != unicode.ReplacementChar {
						t.Fatalf("%q is not printable", s)
					}
				}
			}
		}
	})
}
