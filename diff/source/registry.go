package source

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// registry opens an image of a registry. Layers are fetched when they are read.
func (o Options) registry(ctx context.Context, s string, img *Image) error {
	ref, err := name.ParseReference(s)
	if err != nil {
		return &UsageError{s, err.Error()}
	}
	keychain := o.Keychain
	if keychain == nil {
		keychain = authn.NewMultiKeychain() // anonymous
	}
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(keychain)}
	img.remote = true
	desc, err := remote.Get(ref, options...)
	if err != nil {
		return err
	}
	if !desc.MediaType.IsIndex() {
		if img.Image, err = desc.Image(); err != nil {
			return err
		}
		return o.check(img.Image)
	}
	for range maxIndexes {
		index, err := desc.ImageIndex()
		if err != nil {
			return err
		}
		manifest, err := index.IndexManifest()
		if err != nil {
			return err
		}
		var d v1.Descriptor
		if d, err = o.pick(manifest.Manifests, false); err != nil {
			return err
		}
		if desc, err = remote.Get(ref.Context().Digest(d.Digest.String()), options...); err != nil {
			return err
		}
		if !desc.MediaType.IsIndex() {
			img.Image, err = desc.Image()
			return err
		}
	}
	return fmt.Errorf("indexes are nested more than %d deep", maxIndexes)
}
