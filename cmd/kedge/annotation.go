package main

import (
	"regexp"
	"strings"

	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/image"
)

// placeForm matches the place of an annotation: TYPE or TYPE[PLATFORM].
var placeForm = regexp.MustCompile(`^([a-z-]+)(?:\[([A-Za-z0-9_/-]+)\])?$`)

// attrForm matches an attribute of an output that is an annotation: annotation-TYPE[PLATFORM].KEY.
var attrForm = regexp.MustCompile(`^annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_/-]+)\])?\.(\S+)$`)

// parseAnnotations reads --annotation, [TYPE[PLATFORM],...:]KEY=VALUE, as docker does.
func parseAnnotations(values []string) ([]image.Annotation, error) {
	var all []image.Annotation
	for _, value := range values {
		if value == "" {
			continue
		}
		name, v, ok := strings.Cut(value, "=")
		if !ok {
			return nil, usagef("annotation %q is not KEY=VALUE", value)
		}
		places, key, ok := strings.Cut(name, ":")
		if !ok {
			places, key = string(image.OnManifest), name
		}
		if key == "" {
			continue // which docker ignores, too
		}
		for place := range strings.SplitSeq(places, ",") {
			m := placeForm.FindStringSubmatch(place)
			if m == nil {
				return nil, usagef("annotation %q: %q is not TYPE or TYPE[PLATFORM]", value, place)
			}
			a, err := annotation(m[1], m[2], key, v)
			if err != nil {
				return nil, usagef("annotation %q: %v", value, err)
			}
			all = append(all, a)
		}
	}
	return all, nil
}

// annotationAttr reads an annotation among the attributes of an output. For any other attribute, ok is false.
func annotationAttr(key, value string) (a image.Annotation, ok bool, err error) {
	m := attrForm.FindStringSubmatch(key)
	if m == nil {
		return image.Annotation{}, false, nil
	}
	if m[1] == "" {
		m[1] = string(image.OnManifest)
	}
	a, err = annotation(m[1], m[2], m[3], value)
	return a, true, err
}

func annotation(place, platform, key, value string) (image.Annotation, error) {
	a := image.Annotation{On: image.AnnotationPlace(place), Key: key, Value: value}
	switch a.On {
	case image.OnManifest, image.OnManifestDescriptor:
	case image.OnIndex, image.OnIndexDescriptor:
		if platform != "" {
			return a, usagef("an index is not for one platform")
		}
	default:
		return a, usagef("%q is not manifest, index, manifest-descriptor or index-descriptor", place)
	}
	if platform != "" {
		parsed, err := platforms.Parse(platform)
		if err != nil {
			return a, usagef("platform %q: %v", platform, err)
		}
		a.Platform = &parsed
	}
	return a, nil
}
