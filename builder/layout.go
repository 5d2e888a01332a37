package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/moby/buildkit/util/contentutil"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layout is an image in an OCI layout, which is a folder of this machine.
type Layout struct {
	Dir    string
	Digest digest.Digest // of the image's index or manifest
}

// maxIndex bounds the bytes of a layout's index.json: about 50,000 images.
const maxIndex = 16 << 20

// parseLayout parses DIR[:TAG][@DIGEST] as docker buildx does. The tag defaults to latest. If no image has
// the tag and the layout has only one image, that one is meant.
func parseLayout(word string) (*Layout, error) {
	l := &Layout{Dir: word}
	if dir, sum, ok := cutLast(word, "@"); ok && strings.Contains(sum, ":") && !strings.Contains(sum, "/") {
		var err error
		if l.Digest, err = digest.Parse(sum); err != nil {
			return nil, fmt.Errorf("%q: %w", sum, err)
		}
		l.Dir = dir
	}
	tag := ""
	if dir, last, ok := cutLast(l.Dir, ":"); ok && reference.TagRegexp.FindString(last) == last && last != "" {
		l.Dir, tag = dir, last
	}
	data, err := wholefile.Read(filepath.Join(l.Dir, ocispec.ImageIndexFile), maxIndex)
	if err != nil {
		return nil, fmt.Errorf("not an OCI layout: %w", err)
	}
	if l.Digest != "" {
		return l, nil
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("reading %q: %w", filepath.Join(l.Dir, ocispec.ImageIndexFile), err)
	}
	l.Digest, err = tagged(index, tag)
	return l, err
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// tagged returns the digest of the image with a tag.
func tagged(index ocispec.Index, tag string) (digest.Digest, error) {
	want := tag
	if want == "" {
		want = "latest"
	}
	images := map[digest.Digest]bool{} // an image can be listed under several names
	for _, m := range index.Manifests {
		if m.Annotations[ocispec.AnnotationRefName] == want {
			return m.Digest, m.Digest.Validate()
		}
		images[m.Digest] = true
	}
	switch {
	case len(images) == 1:
		return index.Manifests[0].Digest, index.Manifests[0].Digest.Validate()
	case len(images) == 0:
		return "", errors.New("the OCI layout has no image")
	}
	return "", fmt.Errorf("the OCI layout has %d images, and none with the tag %q", len(images), want)
}

// id is the daemon's name for the layout.
func (l *Layout) id() string { return "kedge-" + digest.FromString(l.Dir).Encoded()[:32] }

// stores returns the stores from which the daemon reads images, by their id.
func (j *job) stores() map[string]content.Store {
	stores := map[string]content.Store{localStore: j.locals.store()}
	if j.downloads != nil {
		stores[relayStore] = j.downloads.store
	}
	for _, c := range j.req.Contexts {
		if c.Layout != nil {
			stores[c.Layout.id()] = layoutStore{Store: contentutil.NewBuffer(), dir: c.Layout.Dir}
		}
	}
	return stores
}

// layoutStore reads the blobs of an OCI layout. containerd's own store would write to the folder, to test
// its file system. A write by the daemon, which makes none, would go to memory.
type layoutStore struct {
	content.Store
	dir string
}

// stat returns the path of a blob, which must be a regular file: opening a pipe could block for ever.
func (s layoutStore) stat(dgst digest.Digest) (string, fs.FileInfo, error) {
	if err := dgst.Validate(); err != nil {
		return "", nil, fmt.Errorf("digest %q: %w: %w", dgst, err, errdefs.ErrInvalidArgument)
	}
	path := filepath.Join(s.dir, ocispec.ImageBlobsDir, dgst.Algorithm().String(), dgst.Encoded())
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("blob %s: %w", dgst, errdefs.ErrNotFound)
	case err == nil && !info.Mode().IsRegular():
		err = &wholefile.NotRegularError{Path: path, Mode: info.Mode()}
	}
	return path, info, err
}

// Info implements content.InfoProvider.
func (s layoutStore) Info(_ context.Context, dgst digest.Digest) (content.Info, error) {
	_, fi, err := s.stat(dgst)
	if err != nil {
		return content.Info{}, err
	}
	return content.Info{Digest: dgst, Size: fi.Size(), CreatedAt: fi.ModTime(), UpdatedAt: fi.ModTime()}, nil
}

// ReaderAt implements content.Provider.
func (s layoutStore) ReaderAt(_ context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	path, _, err := s.stat(desc.Digest)
	if err != nil {
		return nil, err
	}
	return local.OpenReader(path)
}
