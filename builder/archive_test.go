package builder

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/tartest"
)

// tarOf returns an archive whose files hold zeros.
func tarOf(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	entries := make([]tartest.Entry, len(headers))
	for i, h := range headers {
		entries[i] = tartest.Entry{Header: h, Body: string(make([]byte, h.Size))}
	}
	return tartest.Tar(t, entries...)
}

// A damaged archive is refused, even if the damage is after its last entry, and leaves no file.
func TestNewArchive(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	plain := tarOf(t, tar.Header{Name: "Dockerfile", Mode: 0o644, Size: 2000})
	packed := tartest.Gzip(t, plain)
	flipped := bytes.Clone(packed)
	flipped[len(flipped)-6] ^= 1 // of the checksum
	tests := []struct {
		name   string
		data   []byte
		broken bool
	}{
		{"plain", plain, false},
		{"with more zeros", append(bytes.Clone(plain), make([]byte, 4096)...), false},
		{"gzip", packed, false},
		{"without entries", make([]byte, 1024), false},
		{"cut in a file", plain[:1000], true},
		{"cut in a header", plain[:100], true},
		{"gzip, cut", packed[:len(packed)-9], true},
		{"gzip, cut in its checksum", packed[:len(packed)-2], true},
		{"gzip, another checksum", flipped, true},
		{"only the head of bzip2", []byte("BZh9"), true},
		{"only the head of xz", []byte("\xfd7zXZ\x00"), true},
		{"no archive", bytes.Repeat([]byte("FROM x\n"), 200), true},
	}
	for _, test := range tests {
		a, err := NewArchive(bytes.NewReader(test.data))
		var broken *ArchiveError
		if errors.As(err, &broken) != test.broken || !test.broken && err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if err == nil {
			if err := a.Close(); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		}
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// The builder gets everything but the times of an archive and the commit that git archive records.
func TestRetimed(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	in := tarOf(t,
		tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "0123"}},
		tar.Header{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o750, ModTime: time.Unix(5, 0)},
		tar.Header{Name: "dir/file", Mode: 0o4755, Size: 3, Uid: 1000, Uname: "me", ModTime: time.Unix(1, 5), AccessTime: time.Unix(2, 7), Format: tar.FormatPAX,
			PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}},
		tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "dir/file"},
	)
	var out bytes.Buffer
	if err := retimed(bytes.NewReader(in), func(*tar.Header) {}, retiming{w: &out, epoch: at}); err != nil {
		t.Fatal(err)
	}
	type entry struct {
		Name, Link, Xattr string
		Mode, Size        int64
		Uid               int
	}
	var got []entry
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(at) || !h.AccessTime.IsZero() {
			t.Errorf("%s: %v, %v", h.Name, h.ModTime, h.AccessTime)
		}
		got = append(got, entry{h.Name, h.Linkname, h.PAXRecords["SCHILY.xattr.user.a"], h.Mode, h.Size, h.Uid})
	}
	want := []entry{
		{Name: "dir/", Mode: 0o750},
		{Name: "dir/file", Mode: 0o4755, Size: 3, Uid: 1000, Xattr: "b"},
		{Name: "link", Link: "dir/file"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A copy that keeps times has none before the epoch, and keeps fractions of a second. The other copy has the same entries.
func TestRetimedKeep(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	late := at.Add(time.Hour + 1500*time.Millisecond)
	in := tarOf(t,
		tar.Header{Name: "early", Mode: 0o644, Size: 3, ModTime: at.Add(-time.Hour)},
		tar.Header{Name: "late", Mode: 0o644, Size: 3, ModTime: late, Format: tar.FormatPAX},
		tar.Header{Name: "whole", Mode: 0o644, Size: 3, ModTime: late.Truncate(time.Second)},
	)
	var own, stamped bytes.Buffer
	if err := retimed(bytes.NewReader(in), func(*tar.Header) {}, retiming{w: &own, epoch: at, keep: true}, retiming{w: &stamped, epoch: at}); err != nil {
		t.Fatal(err)
	}
	times := func(r io.Reader) map[string]time.Time {
		m := map[string]time.Time{}
		for r := tar.NewReader(r); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				return m
			}
			if err != nil {
				t.Fatal(err)
			}
			m[h.Name] = h.ModTime
		}
	}
	if diff := cmp.Diff(map[string]time.Time{"early": at, "late": late, "whole": late.Truncate(time.Second)}, times(&own)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]time.Time{"early": at, "late": at, "whole": at}, times(&stamped)); diff != "" {
		t.Error(diff)
	}
}
