package publish

import (
	"fmt"

	"github.com/distribution/reference"
)

// Names returns the names that tags stand for: each as a full reference, and with the hash of the build args,
// as NAME:args-HASH or NAME:TAG-args-HASH. A tag that is no name of an image, has a digest or leaves no room
// for the hash is an error.
func Names(tags []string, argsHash string) ([]string, error) {
	var names []string
	for _, tag := range tags {
		named, err := reference.ParseNormalizedNamed(tag)
		if err != nil {
			return nil, fmt.Errorf("%q is not a name for an image: %w", tag, err)
		}
		if _, ok := named.(reference.Digested); ok {
			return nil, fmt.Errorf("%q is not a name for an image: it has a digest", tag)
		}
		argsTag := "args-" + argsHash
		if tagged, ok := named.(reference.Tagged); ok {
			argsTag = tagged.Tag() + "-" + argsTag
		}
		withArgs, err := reference.WithTag(reference.TrimNamed(named), argsTag)
		if err != nil {
			return nil, fmt.Errorf("%q has no room for the hash of its build args: %w", tag, err)
		}
		names = append(names, reference.TagNameOnly(named).String(), withArgs.String())
	}
	return names, nil
}
