package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An Entry is one image of a Store's list.
type Entry struct {
	Names      []string // normalised references, sorted; none for an image without a name
	Descriptor ocispec.Descriptor
	Platforms  []string  // sorted, such as "linux/arm64"
	Created    time.Time // of the first platform, zero if it does not say
	Size       int64     // of all its blobs in the store, in bytes

	// Err says why the image cannot be read, most often a *DamagedError; what is known are names and digest.
	Err error
}

// A NotFoundError says that a name or digest does not lead to one image. It wraps
// errdefs.ErrNotFound.
type NotFoundError struct {
	Ref string
	// Candidates are the images whose digests begin with Ref, if there are several.
	Candidates []digest.Digest
}

func (e *NotFoundError) Error() string {
	if len(e.Candidates) > 0 {
		return fmt.Sprintf("image %q: the digests of %d images begin so", e.Ref, len(e.Candidates))
	}
	return fmt.Sprintf("image %q is not in the store", e.Ref)
}

// Unwrap returns errdefs.ErrNotFound.
func (e *NotFoundError) Unwrap() error { return errdefs.ErrNotFound }

// minPrefix is how many digits of a digest name an image.
const minPrefix = 6

// Tag gives an image in the store more names. A name that another image has moves; an image that
// loses its last name stays, without one. All names change at once or none does. Names are
// references in any form that Docker takes; a missing tag is "latest", digests are refused.
func (s *Store) Tag(ctx context.Context, names []string, desc ocispec.Descriptor) error {
	s.use.RLock()
	defer s.use.RUnlock()
	refs, err := ParseNames(names)
	if err != nil {
		return err
	}
	if _, err := s.Info(ctx, desc.Digest); errdefs.IsNotFound(err) {
		return &NotFoundError{Ref: desc.Digest.String()}
	} else if err != nil {
		return fmt.Errorf("tag image %s: %w", desc.Digest, err)
	}
	err = s.withIndexLock(ctx, func() error {
		entries, err := s.readIndex()
		if err != nil {
			return err
		}
		for _, ref := range refs {
			entries = tagEntry(entries, ref.String(), Plain(desc))
		}
		return s.writeIndex(entries)
	})
	if err != nil {
		return fmt.Errorf("tag image %s: %w", desc.Digest, err)
	}
	return nil
}

// ParseNames parses names into references with a tag.
func ParseNames(names []string) ([]reference.NamedTagged, error) {
	var refs []reference.NamedTagged
	for _, name := range names {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return nil, fmt.Errorf("image name %q: %w", name, err)
		}
		if _, ok := named.(reference.Digested); ok {
			return nil, fmt.Errorf("image name %q: a digest cannot be given as a name", name)
		}
		refs = append(refs, reference.TagNameOnly(named).(reference.NamedTagged))
	}
	return refs, nil
}

// addEntry lists an image without a name, unless it is listed.
func addEntry(entries []ocispec.Descriptor, desc ocispec.Descriptor) []ocispec.Descriptor {
	if !slices.ContainsFunc(entries, func(e ocispec.Descriptor) bool { return e.Digest == desc.Digest }) {
		entries = append(entries, desc)
	}
	return sortEntries(entries)
}

// tagEntry gives name to the image of desc.
func tagEntry(entries []ocispec.Descriptor, name string, desc ocispec.Descriptor) []ocispec.Descriptor {
	var kept, lost []ocispec.Descriptor
	for _, e := range entries {
		switch n := entryName(e); {
		case n == name:
			lost = append(lost, Plain(e))
		case n == "" && e.Digest == desc.Digest: // it has a name now
		default:
			kept = append(kept, e)
		}
	}
	desc.Annotations = map[string]string{images.AnnotationImageName: name, ocispec.AnnotationRefName: name}
	kept = append(kept, desc)
	for _, e := range lost {
		kept = addEntry(kept, e)
	}
	return sortEntries(kept)
}

func entryName(e ocispec.Descriptor) string { return e.Annotations[images.AnnotationImageName] }

// sortEntries sorts by name, those without one last.
func sortEntries(entries []ocispec.Descriptor) []ocispec.Descriptor {
	slices.SortFunc(entries, func(a, b ocispec.Descriptor) int {
		na, nb := entryName(a), entryName(b)
		if (na == "") != (nb == "") {
			return strings.Compare(nb, na)
		}
		return strings.Compare(na+a.Digest.String(), nb+b.Digest.String())
	})
	return entries
}

// Images lists the images, sorted by name, those without one last. Layers are not looked at.
func (s *Store) Images(ctx context.Context) ([]Entry, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	entries, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	var list []Entry
	at := map[digest.Digest]int{}
	for _, e := range entries {
		i, ok := at[e.Digest]
		if !ok {
			entry, err := s.entry(ctx, Plain(e))
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if err != nil {
				entry = Entry{Descriptor: Plain(e), Err: s.unlistable(e, err)}
			}
			i = len(list)
			at[e.Digest] = i
			list = append(list, entry)
		}
		if name := entryName(e); name != "" {
			list[i].Names = append(list[i].Names, name)
		}
	}
	return list, nil
}

func (s *Store) entry(ctx context.Context, desc ocispec.Descriptor) (Entry, error) {
	img, err := s.Image(ctx, desc)
	if err != nil {
		return Entry{}, err
	}
	entry := Entry{Descriptor: desc}
	for i, m := range img.Manifests {
		entry.Platforms = append(entry.Platforms, platforms.FormatAll(m.Platform))
		if i == 0 {
			entry.Created = m.Created
		}
	}
	slices.Sort(entry.Platforms)
	err = s.walk(ctx, desc, func(d ocispec.Descriptor) error {
		entry.Size += d.Size
		return nil
	})
	return entry, err
}

// Resolve returns the image that ref leads to: a name, in any form that Docker takes, a digest, or
// at least six digits that only one digest begins with. If there is none, or more than one, the
// error is a *NotFoundError.
func (s *Store) Resolve(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	if ctx.Err() != nil {
		return ocispec.Descriptor{}, context.Cause(ctx)
	}
	entries, err := s.readIndex()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if name, ok := lookupName(ref); ok {
		for _, e := range entries {
			if entryName(e) == name {
				return Plain(e), nil
			}
		}
	}
	matches := map[digest.Digest]ocispec.Descriptor{}
	if match, ok := lookupDigest(ref); ok {
		for _, e := range entries {
			if match(e.Digest) {
				matches[e.Digest] = Plain(e)
			}
		}
	}
	found := slices.Sorted(maps.Keys(matches))
	if len(found) == 1 {
		return matches[found[0]], nil
	}
	return ocispec.Descriptor{}, &NotFoundError{Ref: ref, Candidates: found}
}

// lookupName returns the name that ref stands for in the index, if it is one.
func lookupName(ref string) (string, bool) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", false
	}
	if _, ok := named.(reference.Digested); ok {
		return "", false
	}
	return reference.TagNameOnly(named).String(), true
}

// lookupDigest returns how to tell the digests that ref stands for, if it is one or begins one.
func lookupDigest(ref string) (func(digest.Digest) bool, bool) {
	if named, err := reference.ParseNormalizedNamed(ref); err == nil {
		if d, ok := named.(reference.Digested); ok {
			return func(dgst digest.Digest) bool { return dgst == d.Digest() }, true
		}
	}
	prefix := strings.TrimPrefix(ref, "sha256:")
	// Decode wants whole bytes; a last digit alone is as good.
	if _, err := hex.DecodeString(prefix + strings.Repeat("0", len(prefix)%2)); err != nil || len(prefix) < minPrefix {
		return nil, false
	}
	prefix = strings.ToLower(prefix)
	return func(dgst digest.Digest) bool { return strings.HasPrefix(dgst.Encoded(), prefix) }, true
}
