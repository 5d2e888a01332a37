package builder

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layout is an image in a folder of this machine that is an OCI layout.
type Layout struct {
	Dir    string
	Digest digest.Digest // of the image's index or manifest
}

// parseLayout reads DIR[:TAG][@DIGEST], as docker buildx does: without a tag it is latest, and where no
// image has the tag, the only one there is.
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
	data, err := os.ReadFile(filepath.Join(l.Dir, ocispec.ImageIndexFile))
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

// tagged returns the image of a layout that has a tag.
func tagged(index ocispec.Index, tag string) (digest.Digest, error) {
	want := tag
	if want == "" {
		want = "latest"
	}
	images := map[digest.Digest]bool{} // one may be there under several names
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

// id is what the daemon knows a layout by.
func (l *Layout) id() string { return "kedge-" + digest.FromString(l.Dir).Encoded()[:32] }

// layouts returns the stores that the daemon is to read images of, by their id.
func (r *Request) layouts() (map[string]content.Store, error) {
	stores := map[string]content.Store{}
	for _, c := range r.Contexts {
		if c.Layout == nil {
			continue
		}
		store, err := local.NewStore(c.Layout.Dir)
		if err != nil {
			return nil, fmt.Errorf("opening OCI layout %q: %w", c.Layout.Dir, err)
		}
		stores[c.Layout.id()] = store
	}
	return stores, nil
}
