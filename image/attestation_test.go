package image

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/kedge-build/kedge/store"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// attested adds BuildKit's attestations to an export of one image.
func attested(t testing.TB, x *rawExport, platform ocispec.Platform, statements ...string) {
	t.Helper()
	var mf ocispec.Manifest
	for _, s := range statements {
		d := x.add(inToto, []byte(s))
		d.Annotations = map[string]string{predicateType: "https://example.com/p", "containerd.io/uncompressed": d.Digest.String()}
		mf.Layers = append(mf.Layers, d)
	}
	mf.Layers = append(mf.Layers, x.add("application/vnd.example.other", []byte("x")))
	mf.Config = x.add(ocispec.MediaTypeImageConfig, []byte("{}"))
	about := x.add(ocispec.MediaTypeImageManifest, marshal(t, mf))
	about.Platform = &nowhere
	about.Annotations = map[string]string{referenceType: attestationKind, referenceDigest: x.root.Digest.String()}
	image := x.root
	image.Platform = &platform
	x.root = x.add(ocispec.MediaTypeImageIndex, marshal(t, ocispec.Index{Manifests: []ocispec.Descriptor{image, about}}))
}

func TestAttestations(t *testing.T) {
	s := testStore(t)
	raw := rawImage{platform: amd64, base: [][]byte{tartest.Gzip(t, tartest.Tar(t, file("b", "")))}, layers: [][]byte{tartest.Tar(t, file("a", "1"))}}
	plainImage, _ := build(t, s, Options{}, raw)

	x := newExport(t, raw)
	rawManifest := x.root.Digest
	var mf ocispec.Manifest
	if err := json.Unmarshal(x.data[rawManifest], &mf); err != nil {
		t.Fatal(err)
	}
	base, layer := mf.Layers[0], mf.Layers[1]
	attested(t, x, amd64,
		fmt.Sprintf(`{"subject":[{"name":"n","digest":{"sha256":%q}}],"predicate":{"n":1.50,"c":"layerID: %s","l":[{"digest":%q,"size":%d,"mediaType":"raw"},{"digest":%q,"size":7}],"k":%q}}`,
			rawManifest.Encoded(), layer.Digest, layer.Digest, layer.Size, base.Digest, mf.Config.Digest),
		`{"predicate":{"<&>":"sha256:none"}}`)
	in := testIngest(t, s, IngestOptions{})
	x.send(t, in)
	img, err := in.Write(t.Context(), x.root, sourcesOf([]rawImage{raw}), Options{Annotations: []Annotation{{OnIndex, nil, "i", "1"}}})
	if err != nil {
		t.Fatal(err)
	}
	m := img.Manifests[0]
	if img.Descriptor.Digest != plainImage.Descriptor.Digest || img.Top().Digest == img.Descriptor.Digest {
		t.Errorf("with attestations the image is %s, not %s", img.Descriptor.Digest, plainImage.Descriptor.Digest)
	}
	var index ocispec.Index
	if err := json.Unmarshal([]byte(mustRead(t, s, img.Attested)), &index); err != nil {
		t.Fatal(err)
	}
	about := index.Manifests[1]
	if len(index.Manifests) != 2 || index.Manifests[0].Digest != m.Descriptor.Digest || about.Annotations[referenceDigest] != m.Descriptor.Digest.String() ||
		!store.IsAttestation(about) || index.Annotations["i"] != "1" {
		t.Errorf("%+v", index)
	}
	var am ocispec.Manifest
	if err := json.Unmarshal([]byte(mustRead(t, s, about)), &am); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range am.Layers {
		got = append(got, l.Annotations[predicateType]+" "+mustRead(t, s, l))
	}
	canonical := m.Layers[1].Descriptor
	want := []string{
		fmt.Sprintf(`https://example.com/p {"predicate":{"c":"layerID: %s","k":"%s","l":[{"digest":"%s","mediaType":"%s","size":%d},{"digest":"%s","size":7}],"n":1.50},"subject":[{"digest":{"sha256":"%s"},"name":"n"}]}`,
			canonical.Digest, m.Config, canonical.Digest, canonical.MediaType, canonical.Size, base.Digest, m.Descriptor.Digest.Encoded()),
		fmt.Sprintf(`https://example.com/p {"predicate":{"<&>":"sha256:none"},"subject":[{"digest":{"sha256":"%s"},"name":"_"}]}`, m.Descriptor.Digest.Encoded()),
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
	// Both are listed, can be read back, and leave the store whole.
	back, err := s.Image(t.Context(), img.Top())
	if err != nil || len(back.Manifests) != 1 || back.Manifests[0].Descriptor.Digest != m.Descriptor.Digest {
		t.Errorf("%+v, %v", back, err)
	}
	list, err := s.Images(t.Context())
	if err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	if blobs, err := s.Complete(t.Context(), img.Top()); err != nil || !slices.ContainsFunc(blobs, func(d ocispec.Descriptor) bool { return d.Digest == about.Digest }) {
		t.Errorf("the attestations are missing: %v, %v", blobs, err)
	}
}
