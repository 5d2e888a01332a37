package store

import (
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestIsAttestation: BuildKit marks attestations in two ways. A manifest with only a part of a mark is an
// image.
func TestIsAttestation(t *testing.T) {
	kind := func(v string) map[string]string { return map[string]string{"vnd.docker.reference.type": v} }
	for _, test := range []struct {
		desc ocispec.Descriptor
		want bool
	}{
		{ocispec.Descriptor{}, false},
		{ocispec.Descriptor{Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"}}, false},
		{ocispec.Descriptor{Annotations: kind("attestation-manifest")}, true},
		{ocispec.Descriptor{Annotations: kind("another")}, false},
		{ocispec.Descriptor{Platform: &ocispec.Platform{OS: "unknown", Architecture: "unknown"}}, true},
		{ocispec.Descriptor{Platform: &ocispec.Platform{OS: "unknown", Architecture: "amd64"}}, false},
	} {
		if got := IsAttestation(test.desc); got != test.want {
			t.Errorf("%+v: %v", test.desc, got)
		}
	}
}
