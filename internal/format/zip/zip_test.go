package zip

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/kedge-build/kedge/internal/format"
)

var (
	old   = time.Date(2020, 1, 2, 3, 4, 6, 0, time.UTC)
	epoch = time.Date(2025, 1, 2, 3, 4, 6, 0, time.UTC)
	late  = time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)
)

// archive returns an archive with two members of a time.
func archive(t testing.TB, when time.Time, comment string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range []string{"a", "dir/b"} {
		f, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: when})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, strings.Repeat(name, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.SetComment(comment); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestClamp(t *testing.T) {
	for _, comment := range []string{"", "a comment", "PK\x05\x06", "PK\x05\x06" + strings.Repeat("\x00", 18) + "the signature of the record before it"} {
		whole := archive(t, late, comment)
		got, ok := Clamp(whole, epoch)
		if !ok || !bytes.Equal(whole, archive(t, late, comment)) {
			t.Fatalf("comment %q: clamped: %v", comment, ok)
		}
		if again, _ := Clamp(archive(t, late.Add(time.Hour), comment), epoch); !bytes.Equal(got, again) {
			t.Errorf("comment %q: the time stays", comment)
		}
		r, err := Open(bytes.NewReader(got), int64(len(got)), 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.File {
			rc, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(rc)
			if err != nil || string(body) != strings.Repeat(f.Name, 100) || !f.Modified.Equal(epoch) {
				t.Errorf("%s: %d bytes, %v, %v", f.Name, len(body), f.Modified, err)
			}
		}
		early := archive(t, old, comment)
		if got, ok := Clamp(early, epoch); !ok || !bytes.Equal(got, early) {
			t.Error("an earlier time changes")
		}
	}
}

func TestClampFaults(t *testing.T) {
	whole := archive(t, late, "a comment")
	for n := range whole {
		if got, ok := Clamp(whole[:n], epoch); ok || !bytes.Equal(got, whole[:n]) {
			t.Errorf("the first %d bytes are taken for an archive", n)
		}
	}
	end := endOf(whole)
	for name, at := range map[string]int{"entries": end + 10, "offset of the directory": end + 16, "local header": 0} {
		broken := bytes.Clone(whole)
		broken[at] ^= 0xff
		if got, ok := Clamp(broken, epoch); ok || !bytes.Equal(got, broken) {
			t.Errorf("%s: it is taken for an archive", name)
		}
	}
}

// An encrypted member may check its password by the time.
func TestClampEncrypted(t *testing.T) {
	whole := archive(t, late, "")
	central := bytes.LastIndex(whole, []byte("PK\x01\x02"))
	for _, at := range []int{6, central + 8} {
		encrypted := bytes.Clone(whole)
		encrypted[at] |= 1
		if got, ok := Clamp(encrypted, epoch); ok || !bytes.Equal(got, encrypted) {
			t.Errorf("with the flag at %d, the archive changes", at)
		}
	}
}

func TestOpenBounds(t *testing.T) {
	whole := archive(t, late, "")
	if _, err := Open(bytes.NewReader(whole), int64(len(whole)), 1); !errors.Is(err, format.ErrTooLarge) {
		t.Errorf("two members within a bound of one: %v", err)
	}
	// The end of the directory claims one entry of no length at the start; its comment holds another such record.
	entry := append(binary.LittleEndian.AppendUint32(nil, centralMagic), make([]byte, centralSize-4)...)
	directory := bytes.Repeat(entry, maxDirectory/len(entry)+1)
	n := len(directory) / len(entry)
	end := binary.LittleEndian.AppendUint32(nil, endMagic)
	end = append(end, 0, 0, 0, 0)
	end = binary.LittleEndian.AppendUint16(end, uint16(n))
	end = binary.LittleEndian.AppendUint16(end, uint16(n))
	end = binary.LittleEndian.AppendUint32(end, uint32(len(directory)))
	end = binary.LittleEndian.AppendUint32(end, 0)
	decoy := append(binary.LittleEndian.AppendUint32(nil, endMagic), make([]byte, endSize-4)...)
	end = append(binary.LittleEndian.AppendUint16(end, uint16(len(decoy)+1)), append(decoy, 'x')...)
	huge := append(directory, end...)
	if _, err := Open(bytes.NewReader(huge), int64(len(huge)), 1<<30); !errors.Is(err, format.ErrTooLarge) {
		t.Errorf("a directory of %d bytes: %v", len(directory), err)
	}
}

func TestWithoutTimes(t *testing.T) {
	const extended, other = "UT\x05\x00\x01\x00\x00\x00\x00", "ux\x01\x00\x01"
	for extra, want := range map[string]string{extended + other: other, other: other, extended: "", "UT\xff\xff": "UT\xff\xff", "": ""} {
		if got := WithoutTimes([]byte(extra)); string(got) != want {
			t.Errorf("%q became %q, want %q", extra, got, want)
		}
	}
}

func FuzzClamp(f *testing.F) {
	f.Add(archive(f, late, ""), epoch.Unix())
	f.Add(archive(f, late, "PK\x05\x06"), epoch.Unix())
	f.Add([]byte("PK\x05\x06"+strings.Repeat("\x00", 18)), int64(0))
	f.Fuzz(func(t *testing.T, content []byte, seconds int64) {
		before := bytes.Clone(content)
		latest := time.Unix(seconds%(1<<31), 0)
		got, ok := Clamp(content, latest)
		if !bytes.Equal(before, content) || len(got) != len(content) || !ok && !bytes.Equal(got, content) {
			t.Fatal("the content changed")
		}
		if again, _ := Clamp(got, latest); ok && !bytes.Equal(got, again) {
			t.Fatal("clamping again changes it")
		}
		if z, err := Open(bytes.NewReader(content), int64(len(content)), 10); err == nil && len(z.File) > 10 {
			t.Fatalf("%d members", len(z.File))
		}
	})
}
