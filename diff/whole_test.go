package diff

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/opencontainers/go-digest"
)

// TestLayersChecksDigests: a blob with another content than the image says is an error, and no difference.
func TestLayersChecksDigests(t *testing.T) {
	good := tartest.Tar(t, regular("a", "body"))
	for _, bad := range []Blob{
		{Digest: digest.FromString("another")},
		{DiffID: digest.FromString("another")},
	} {
		bad.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(good)), nil }
		var wrong *layer.DigestError
		if paths, err := Layers(t.Context(), blob(good), bad); !errors.As(err, &wrong) || paths != nil {
			t.Errorf("%+v: %v, %v", bad, paths, err)
		}
	}
}
