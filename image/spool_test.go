package image

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestSpool: a blob is in the content store once it is committed with its size and digest, and nothing stays of others.
func TestSpool(t *testing.T) {
	const text = "content"
	right := digest.FromString(text)
	for _, test := range []struct {
		name     string
		size     int64
		expected digest.Digest
		again    bool // it is sent from the start once more
		ok       bool
	}{
		{"right", int64(len(text)), right, false, true},
		{"unknown", 0, "", false, true},
		{"sent again", int64(len(text)), right, true, true},
		{"another size", 8, right, false, false},
		{"another digest", int64(len(text)), digest.FromString("other"), false, false},
	} {
		dir := t.TempDir()
		w, err := newSpool(dir, content.WriterOpts{Desc: ocispec.Descriptor{Digest: test.expected}})
		if err != nil {
			t.Fatal(err)
		}
		if test.again {
			if _, err := w.Write([]byte("a longer text")); err != nil {
				t.Fatal(err)
			}
			if err := w.Truncate(0); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		err = w.Commit(t.Context(), test.size, test.expected)
		if (err == nil) != test.ok || err != nil && !errdefs.IsFailedPrecondition(err) {
			t.Errorf("%s: %v", test.name, err)
		}
		if err := w.Close(); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		data, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", right.Encoded()))
		if (err == nil && string(data) == text) != test.ok {
			t.Errorf("%s: %q, %v", test.name, data, err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "spool-*")); err != nil || len(left) > 0 {
			t.Errorf("%s: %q is left, %v", test.name, left, err)
		}
	}
	if _, err := newSpool(t.TempDir(), content.WriterOpts{Desc: ocispec.Descriptor{Digest: "sha256:x"}}); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}
