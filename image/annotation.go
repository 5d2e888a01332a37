package image

import (
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An Annotation is a key and a value in a manifest, an index or a descriptor, but not in the image config.
type Annotation struct {
	On         AnnotationPlace
	Platform   *ocispec.Platform // of the manifest; nil for all
	Key, Value string
}

// An AnnotationPlace is a place for an Annotation.
type AnnotationPlace string

// The places of annotations. A descriptor is part of an index or, for the top of an image, of the
// index.json of an exported OCI layout.
const (
	OnManifest           AnnotationPlace = "manifest"
	OnManifestDescriptor AnnotationPlace = "manifest-descriptor"
	OnIndex              AnnotationPlace = "index"
	OnIndexDescriptor    AnnotationPlace = "index-descriptor"
)

// An AnnotationError says that an image has no place for an annotation.
type AnnotationError struct {
	Annotation Annotation
	Reason     string
}

func (e *AnnotationError) Error() string {
	return fmt.Sprintf("annotation %q of the %s: %s", e.Annotation.Key, e.Annotation.On, e.Reason)
}

// CheckAnnotations returns an *AnnotationError for the first annotation that has no place in an image for
// these platforms. No platforms stand for one unknown platform, which may be any.
func CheckAnnotations(all []Annotation, targets []ocispec.Platform) error {
	for _, a := range all {
		found := a.Platform == nil || len(targets) == 0
		for _, p := range targets {
			found = found || platformKey(*a.Platform) == platformKey(p)
		}
		if !found {
			return &AnnotationError{a, "the image is not for " + platforms.FormatAll(*a.Platform)}
		}
	}
	return nil
}

type annotations []Annotation

// needIndex reports whether an annotation has its place in an index, so that an image for one platform gets one.
func (as annotations) needIndex() bool {
	return slices.ContainsFunc(as, func(a Annotation) bool { return a.On == OnIndex || a.On == OnIndexDescriptor })
}

// collect returns the annotations of one place, nil for none. Those for a single platform override those for
// all.
func (as annotations) collect(place AnnotationPlace, platform *ocispec.Platform) map[string]string {
	var all, own map[string]string
	for _, a := range as {
		to := &all
		if a.Platform != nil {
			if platform == nil || platformKey(*a.Platform) != platformKey(*platform) {
				continue
			}
			to = &own
		}
		if a.On != place {
			continue
		}
		if *to == nil {
			*to = map[string]string{}
		}
		(*to)[a.Key] = a.Value
	}
	if all == nil {
		return own
	}
	maps.Copy(all, own)
	return all
}
