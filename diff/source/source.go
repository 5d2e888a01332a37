// Package source opens images by name: from registries, Docker Engines, OCI layouts and archives, Docker
// archives, and kedge's own store.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/kedge-build/kedge/store"
)

// Options select the places that names can lead to.
type Options struct {
	// Platform selects an image of an index. An image without an index must be for it. The zero value
	// selects linux on this machine's architecture, and accepts an image without an index for any
	// platform.
	Platform *v1.Platform
	// Store is kedge's own store, nil for none.
	Store *store.Store
	// Keychain has the credentials for registries. Nil means anonymous access.
	Keychain authn.Keychain
	// Docker returns the output of docker save for an image of the Docker Engine. Nil means that there is
	// no Engine.
	Docker func(ctx context.Context, name string) (io.ReadCloser, error)
	// InDocker reports whether a Docker Engine has an image. Open calls it for names without a prefix. It
	// returns false if no Engine answers at once. Nil means never.
	InDocker func(ctx context.Context, name string) bool
	// TempDir is for copies of archives that do not allow random access: compressed ones, and those of an
	// Engine. Empty means the system's directory.
	TempDir string

	platforms *[]v1.Platform // takes those of indexes, for Platforms
}

// An Image is an open image. Its layers are read from their source, so it must be closed after the last
// use.
type Image struct {
	v1.Image
	remote bool // in a registry
	close  []func() error
}

// Check reads the layers of an image of this machine, and returns an error if one does not have its digest. It
// does nothing for an image of a registry.
func (i *Image) Check(ctx context.Context) error {
	if i.remote {
		return nil
	}
	layers, err := i.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		if err := checkLayer(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

func checkLayer(ctx context.Context, l v1.Layer) error {
	want, err := l.Digest()
	if err != nil {
		return err
	}
	blob, err := l.Compressed()
	if err != nil {
		return fmt.Errorf("reading layer %s: %w", want, err)
	}
	defer blob.Close()
	verifier := digestOf(want).Verifier()
	if _, err := io.Copy(verifier, layer.Cancellable(ctx, blob)); err != nil {
		return fmt.Errorf("reading layer %s: %w", want, err)
	}
	if !verifier.Verified() {
		return &layer.DigestError{Kind: "digest", Want: digestOf(want)}
	}
	return nil
}

// Close closes the source of the image.
func (i *Image) Close() error {
	var err error
	for _, fn := range i.close {
		err = errors.Join(err, fn())
	}
	return err
}

// A UsageError says that a name is not valid.
type UsageError struct{ Name, Why string }

func (e *UsageError) Error() string { return fmt.Sprintf("image %q: %s", e.Name, e.Why) }

// Prefixes that say where an image is. They are skopeo's, except for store:, which is kedge's own.
const (
	registryPrefix      = "docker://"
	daemonPrefix        = "docker-daemon:"
	layoutPrefix        = "oci:"
	ociArchivePrefix    = "oci-archive:"
	dockerArchivePrefix = "docker-archive:"
	storePrefix         = "store:"
)

// Open opens the image that name stands for:
//
//	docker://REF, or REF        in a registry
//	docker-daemon:NAME          in a Docker Engine
//	oci:DIR[:NAME|@DIGEST]      in an OCI layout
//	oci-archive:FILE[:NAME]     in a tar of one, also compressed
//	docker-archive:FILE[:NAME]  in what docker save writes, also compressed
//	store:NAME                  in kedge's store, by name or digest
//
// A name without a prefix is a path if there is an image at it, otherwise an image of kedge's store
// if it has one, otherwise one of the Docker Engine that InDocker knows of, otherwise a registry's.
func Open(ctx context.Context, name string, o Options) (*Image, error) {
	img := &Image{}
	err := o.open(ctx, name, img)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening image %q: %w", name, err), img.Close())
	}
	return img, nil
}

// Platforms returns the platforms of an index, without attestations, and none for a single image. It ignores the
// platform of the options.
func Platforms(ctx context.Context, name string, o Options) ([]v1.Platform, error) {
	var found []v1.Platform
	o.Platform, o.platforms = nil, &found
	img, err := Open(ctx, name, o)
	if err == nil {
		err = img.Close()
	}
	if missing := (*PlatformError)(nil); errors.As(err, &missing) && len(found) > 0 {
		err = nil // it has none for this machine
	}
	return found, err
}

func (o Options) open(ctx context.Context, name string, img *Image) error {
	for _, p := range []struct {
		prefix string
		open   func(context.Context, string, *Image) error
	}{
		{registryPrefix, o.registry},
		{daemonPrefix, o.daemon},
		{layoutPrefix, o.layout},
		{ociArchivePrefix, o.archive},
		{dockerArchivePrefix, o.archive},
		{storePrefix, o.store},
	} {
		rest, ok := strings.CutPrefix(name, p.prefix)
		if !ok {
			continue
		}
		if rest == "" {
			return &UsageError{name, "nothing follows " + p.prefix}
		}
		return p.open(ctx, rest, img)
	}
	info, err := os.Stat(name)
	folder := err == nil && info.IsDir()
	if err == nil {
		if !folder {
			return o.archive(ctx, name, img)
		}
		if _, err := os.Stat(filepath.Join(name, "oci-layout")); err == nil {
			return o.layout(ctx, name, img)
		}
	}
	if o.Store != nil {
		if err := o.store(ctx, name, img); !errdefs.IsNotFound(err) {
			return err
		}
	}
	if o.InDocker != nil && o.InDocker(ctx, name) {
		return o.daemon(ctx, name, img)
	}
	err = o.registry(ctx, name, img)
	var usage *UsageError
	switch {
	case errors.As(err, &usage) && folder:
		return &UsageError{name, "it is a folder without an image: one with an image is an OCI layout"}
	case err == nil || ctx.Err() != nil || usage != nil:
		return err
	}
	return &NowhereError{Name: name, Err: err}
}

// A NowhereError says that no image was found for a name without a prefix: not at a path of that name, not
// in the store, not in an Engine that answers, and not in a registry.
type NowhereError struct {
	Name string
	Err  error // the registry's
}

func (e *NowhereError) Error() string {
	return "it is no path, neither kedge's store nor a Docker Engine that answers has it, and the registry says: " + e.Err.Error()
}

func (e *NowhereError) Unwrap() error { return e.Err }

// store opens an image in kedge's store.
func (o Options) store(ctx context.Context, name string, img *Image) error {
	if o.Store == nil {
		return fmt.Errorf("%w: there is no store", errdefs.ErrNotFound)
	}
	desc, err := o.Store.Resolve(ctx, name)
	if err != nil {
		return err
	}
	b := func(h v1.Hash) (io.ReadCloser, int64, error) {
		d := desc
		if d.Digest.String() != h.String() {
			d.Digest = digestOf(h)
		}
		r, err := o.Store.ReaderAt(ctx, d)
		if err != nil {
			return nil, 0, err
		}
		return &section{io.NewSectionReader(r, 0, r.Size()), r}, r.Size(), nil
	}
	root, err := descriptor(desc)
	if err != nil {
		return err
	}
	img.Image, err = o.choose(b, []v1.Descriptor{root}, 0)
	return err
}

// layout opens an image in an OCI layout.
func (o Options) layout(_ context.Context, name string, img *Image) error {
	dir, which := cutName(name, func(p string) bool {
		_, err := os.Stat(filepath.Join(p, "oci-layout"))
		return err == nil
	})
	index, err := readFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return err
	}
	b := func(h v1.Hash) (io.ReadCloser, int64, error) {
		return wholefile.Open(filepath.Join(dir, "blobs", h.Algorithm, h.Hex))
	}
	img.Image, err = o.fromIndex(b, index, which)
	return err
}

// cutName splits PATH[:NAME] and PATH@DIGEST at the first place where the text before it is a path.
func cutName(s string, isPath func(string) bool) (path, which string) {
	if isPath(s) {
		return s, ""
	}
	for i := len(s) - 1; i > 0; i-- {
		if (s[i] == ':' || s[i] == '@') && isPath(s[:i]) {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// platform returns the platform to choose, and whether the caller requested it.
func (o Options) platform() (v1.Platform, bool) {
	if o.Platform != nil {
		return *o.Platform, true
	}
	return v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, false
}
