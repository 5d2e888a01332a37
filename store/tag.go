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

// An Entry is an image in the list of a Store.
type Entry struct {
	Names      []string // normalised references, sorted; none for an image without a name
	Descriptor ocispec.Descriptor
	Platforms  []string  // sorted, such as "linux/arm64"
	Created    time.Time // of the first platform, zero if it does not say
	Size       int64     // of all its blobs in the store, in bytes

	// Err says why the image cannot be read. It is most often a *DamagedError. Then only Names and
	// Descriptor are set.
	Err error
}

// A NotFoundError says that a name or digest matches no image, or several. It wraps errdefs.ErrNotFound.
type NotFoundError struct {
	Ref string
	// Candidates are the digests that start with Ref, if there are several.
	Candidates []digest.Digest
}

func (e *NotFoundError) Error() string {
	if len(e.Candidates) > 0 {
		return fmt.Sprintf("image %q: it starts the digests of %d images", e.Ref, len(e.Candidates))
	}
	return fmt.Sprintf("image %q is not in the store", e.Ref)
}

// Unwrap returns errdefs.ErrNotFound.
func (e *NotFoundError) Unwrap() error { return errdefs.ErrNotFound }

// minPrefix is the least number of digits of a digest that can stand for an image.
const minPrefix = 6

// Tag adds names to an image in the store. A name of another image moves. An image that loses its last
// name stays without a name. Either all names change or none. A name is a reference in any form that
// Docker accepts. A missing tag is "latest"; digests are refused.
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

// addEntry adds an entry without a name, unless the image has an entry.
func addEntry(entries []ocispec.Descriptor, desc ocispec.Descriptor) []ocispec.Descriptor {
	if !slices.ContainsFunc(entries, func(e ocispec.Descriptor) bool { return e.Digest == desc.Digest }) {
		entries = append(entries, desc)
	}
	return sortEntries(entries)
}

// tagEntry moves name to the image of desc.
func tagEntry(entries []ocispec.Descriptor, name string, desc ocispec.Descriptor) []ocispec.Descriptor {
	var kept, lost []ocispec.Descriptor
	for _, e := range entries {
		switch n := entryName(e); {
		case n == name:
			lost = append(lost, Plain(e))
		case n == "" && e.Digest == desc.Digest: // the unnamed entry goes
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

// sortEntries sorts by name, with unnamed entries last.
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

// Images returns all images, sorted by name, with unnamed images last. It does not look at layers.
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

// Resolve returns the image that ref names: by a name in any form that Docker accepts, by a digest, or by
// at least six leading digits of one digest. If there is no image, or several, the error is a
// *NotFoundError.
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

// lookupName returns the name in the index that ref stands for, if ref is a name.
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

// lookupDigest returns a function that matches digests, if ref is a digest or starts one.
func lookupDigest(ref string) (func(digest.Digest) bool, bool) {
	if named, err := reference.ParseNormalizedNamed(ref); err == nil {
		if d, ok := named.(reference.Digested); ok {
			return func(dgst digest.Digest) bool { return dgst == d.Digest() }, true
		}
	}
	prefix := strings.TrimPrefix(ref, "sha256:")
	// Decode accepts only whole bytes, and ref may end after one digit of a byte.
	if _, err := hex.DecodeString(prefix + strings.Repeat("0", len(prefix)%2)); err != nil || len(prefix) < minPrefix {
		return nil, false
	}
	prefix = strings.ToLower(prefix)
	return func(dgst digest.Digest) bool { return strings.HasPrefix(dgst.Encoded(), prefix) }, true
}
