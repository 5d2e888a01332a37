package publish

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Names returns the names that tags stand for: each as a full reference, followed by the one with the hash of the
// build args, NAME:args-HASH or NAME:TAG-args-HASH. A tag that is no name of an image, has a digest or leaves no room
// for the hash is an error.
func Names(tags []string, argsHash string) ([]string, error) {
	var names []string
	for _, tag := range tags {
		named, err := reference.ParseNormalizedNamed(tag)
		if err != nil {
			return nil, fmt.Errorf("invalid tag %q: %w%s", tag, err, misplaced(tag)) // in buildx's words
		}
		if _, ok := named.(reference.Digested); ok {
			return nil, fmt.Errorf("invalid tag %q: it has a digest", tag)
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

// asked returns those of Names' result that have no hash. An Engine gets no others: it keeps an image as long as
// it has a name, so that docker rmi NAME would remove nothing.
func asked(names []string) []string {
	var plain []string
	for i := 0; i < len(names); i += 2 {
		plain = append(plain, names[i])
	}
	return plain
}

// byDigest returns the repositories of Names' result, each once and with a digest.
func byDigest(names []string, sum digest.Digest) []string {
	var all []string
	for _, name := range names {
		if named, err := reference.ParseNormalizedNamed(name); err == nil {
			all = append(all, named.Name()+"@"+sum.String())
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// firstTagged returns the first tag that is written with one, or "".
func firstTagged(tags []string) string {
	for _, tag := range tags {
		if named, err := reference.ParseNormalizedNamed(tag); err == nil && !reference.IsNameOnly(named) {
			return tag
		}
	}
	return ""
}

// misplaced says which character of an invalid name is the first that cannot be where it is. It returns "" if
// that cannot be told, or if the name lacks something.
func misplaced(name string) string {
	if strings.Contains(name, "@") || !utf8.ValidString(name) {
		return ""
	}
	if lower := strings.ToLower(name); len(lower) == len(name) {
		if _, err := reference.ParseNormalizedNamed(lower); err == nil { // only the case of letters is wrong
			for i, r := range name {
				end := i + utf8.RuneLen(r)
				if _, err := reference.ParseNormalizedNamed(name[:end] + lower[end:]); err != nil {
					return fmt.Sprintf(": %q at character %d", r, utf8.RuneCountInString(name[:end]))
				}
			}
		}
	}
	for i, r := range name {
		begun, fits := name[:i+utf8.RuneLen(r)], false
		for _, rest := range []string{"", "a", ".a/a"} { // a tag or a folder may follow
			_, err := reference.Parse(begun + rest)
			fits = fits || err == nil
		}
		if !fits {
			return fmt.Sprintf(": %q at character %d", r, utf8.RuneCountInString(begun))
		}
	}
	return ""
}
