package publish

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// A Promotion is an image of one repository that is to have a name in another.
type Promotion struct {
	from    name.Digest
	to      name.Tag
	desc    *remote.Descriptor
	options []remote.Option
}

// NewPromotion looks src up in its registry. dst is the name that the image is to have: it has no digest. The error is a *UsageError if either is no
// reference. A nil keychain means anonymous access, and a nil transport the default one.
func NewPromotion(ctx context.Context, src, dst string, keychain authn.Keychain, transport http.RoundTripper) (*Promotion, error) {
	from, err := name.ParseReference(src)
	if err != nil {
		return nil, usagef("%v", err)
	}
	p := &Promotion{}
	if p.to, err = name.NewTag(dst); err != nil {
		return nil, usagef("%v", err)
	}
	if keychain == nil {
		keychain = authn.NewMultiKeychain()
	}
	p.options = []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(keychain)}
	if transport != nil {
		p.options = append(p.options, remote.WithTransport(transport))
	}
	if p.desc, err = remote.Get(from, p.options...); err != nil {
		return nil, fmt.Errorf("looking up %q: %w", src, err)
	}
	p.from = from.Context().Digest(p.desc.Digest.String())
	return p, nil
}

// From returns the name of the image with its digest, and To the name that it is to have.
func (p *Promotion) From() string { return p.from.String() }

// To returns the name that the image is to have.
func (p *Promotion) To() string { return p.to.String() }

// Digest returns the digest of the manifest or of the index.
func (p *Promotion) Digest() v1.Hash { return p.desc.Digest }

// Labels returns the labels of the image, of each of its platforms.
func (p *Promotion) Labels() ([]map[string]string, error) {
	var labels []map[string]string
	add := func(img v1.Image) error {
		config, err := img.ConfigFile()
		if err == nil {
			labels = append(labels, config.Config.Labels)
		}
		return err
	}
	if !p.desc.MediaType.IsIndex() {
		img, err := p.desc.Image()
		if err != nil {
			return nil, err
		}
		return labels, add(img)
	}
	index, err := p.desc.ImageIndex()
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range manifest.Manifests {
		if !d.MediaType.IsImage() || d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" {
			continue
		}
		img, err := index.Image(d.Digest)
		if err != nil {
			return nil, err
		}
		if err := add(img); err != nil {
			return nil, err
		}
	}
	return labels, nil
}

// Copy copies the image as it was looked up, and all that it refers to. The tag is written last, when the repository has all blobs, and then has the
// same digest.
func (p *Promotion) Copy() error {
	err := p.copy()
	if err != nil {
		return fmt.Errorf("copying %q to %q: %w", p.from, p.to, err)
	}
	desc, err := remote.Head(p.to, p.options...)
	if err != nil {
		return fmt.Errorf("looking up %q: %w", p.to, err)
	}
	if desc.Digest != p.desc.Digest {
		return fmt.Errorf("%q has the digest %s, and not %s: another program wrote it at the same time", p.to, desc.Digest, p.desc.Digest)
	}
	return nil
}

func (p *Promotion) copy() error {
	if p.desc.MediaType.IsIndex() {
		index, err := p.desc.ImageIndex()
		if err != nil {
			return err
		}
		return remote.WriteIndex(p.to, index, p.options...)
	}
	img, err := p.desc.Image()
	if err != nil {
		return err
	}
	return remote.Write(p.to, img, p.options...)
}
