package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/kedge-build/kedge/store"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// writeArchive writes an image to w, as OCI or Docker. The bytes depend on the image, the names and the type
// alone. If it fails or ctx is done, w has part of an archive.
func writeArchive(ctx context.Context, st *store.Store, w io.Writer, desc ocispec.Descriptor, names []string, kind Type) error {
	defer st.Use()()
	if err := exportArchive(ctx, st, w, desc, names, kind); err != nil {
		return fmt.Errorf("export image %s: %w", desc.Digest, err)
	}
	return nil
}

func exportArchive(ctx context.Context, st *store.Store, w io.Writer, desc ocispec.Descriptor, names []string, kind Type) error {
	refs, err := exportNames(names)
	if err != nil {
		return err
	}
	opts := []archive.ExportOpt{archive.WithManifest(annotated(desc), refs...), archive.WithAllPlatforms()}
	switch kind {
	case OCI:
		opts = append(opts, archive.WithSkipDockerManifest())
	case Docker:
		img, err := st.Image(ctx, desc)
		if err != nil {
			return st.Blame(ctx, desc, err)
		}
		if len(img.Manifests) == 1 {
			// manifest.json can name the one image, also if there are attestations.
			opts = append(opts, archive.WithPlatform(platforms.OnlyStrict(img.Manifests[0].Platform)))
		}
	default:
		return fmt.Errorf("type %q is not an archive", kind)
	}
	if _, err := st.Complete(ctx, desc); err != nil {
		return st.Blame(ctx, desc, err)
	}
	// archive.Export ignores ctx and the error of the last write.
	var failed error
	out := writerFunc(func(p []byte) (int, error) {
		if failed == nil && ctx.Err() != nil {
			failed = context.Cause(ctx)
		}
		if failed != nil {
			return 0, failed
		}
		var n int
		n, failed = w.Write(p)
		return n, failed
	})
	err = archive.Export(ctx, st, out, opts...)
	if failed != nil {
		return failed
	}
	return st.Blame(ctx, desc, err) // archive.Export does not say whose digest is wrong
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// exportNames returns names in full, sorted, each once.
func exportNames(names []string) ([]string, error) {
	refs, err := store.ParseNames(names)
	if err != nil {
		return nil, err
	}
	var sorted []string
	for _, ref := range refs {
		sorted = append(sorted, ref.String())
	}
	slices.Sort(sorted)
	return slices.Compact(sorted), nil
}

// writeLayout writes an image to dir as an OCI image layout. It replaces a layout and an empty directory, and
// refuses any other. If it fails or ctx is done, it does not change dir.
func writeLayout(ctx context.Context, st *store.Store, dir string, desc ocispec.Descriptor, names []string) error {
	defer st.Use()()
	if err := exportLayout(ctx, st, dir, desc, names); err != nil {
		return fmt.Errorf("export image %s to directory %q: %w", desc.Digest, dir, err)
	}
	return nil
}

func exportLayout(ctx context.Context, st *store.Store, dir string, desc ocispec.Descriptor, names []string) (err error) {
	refs, err := exportNames(names)
	if err != nil {
		return err
	}
	blobs, err := st.Complete(ctx, desc)
	if err != nil {
		return st.Blame(ctx, desc, err)
	}
	dir = filepath.Clean(dir)
	if err := checkReplaceable(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	beside, unlock, err := makeBeside(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	layout, old := filepath.Join(beside, "new"), filepath.Join(beside, "old")
	// What was in dir is removed only after the new layout replaced it.
	defer func() { err = errors.Join(err, os.RemoveAll(layout), os.Remove(beside)) }()
	for _, b := range blobs {
		if err := copyBlob(ctx, st, layout, b); err != nil {
			return err
		}
	}
	index, err := store.LayoutIndex(namedEntries(annotated(desc), refs))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(layout, ocispec.ImageIndexFile), index, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(layout, ocispec.ImageLayoutFile), []byte(store.LayoutFile), 0o644); err != nil {
		return err
	}
	if err := replaceDir(layout, dir, old); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(old), sweepBeside(dir))
}

// checkReplaceable refuses a directory with anything but an OCI image layout in it, and a store.
func checkReplaceable(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	has := func(name string) bool {
		return slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == name })
	}
	if !has(ocispec.ImageLayoutFile) || store.IsStore(entries) {
		return errors.New("the directory is not empty and not an OCI image layout")
	}
	return nil
}

// replaceDir renames layout to dir, and an existing dir to old.
func replaceDir(layout, dir, old string) error {
	err := os.Rename(dir, old)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	had := err == nil
	if err := os.Rename(layout, dir); err != nil {
		if had {
			err = errors.Join(err, os.Rename(old, dir))
		}
		return err
	}
	return nil
}

// copyBlob copies a blob into an OCI image layout and checks its digest.
func copyBlob(ctx context.Context, st *store.Store, layout string, desc ocispec.Descriptor) error {
	ra, err := st.ReaderAt(ctx, desc)
	if err != nil {
		return err
	}
	defer ra.Close()
	path := filepath.Join(layout, ocispec.ImageBlobsDir, desc.Digest.Algorithm().String(), desc.Digest.Encoded())
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	verifier := desc.Digest.Verifier()
	if _, err := io.Copy(io.MultiWriter(f, verifier), interruptible(ctx, content.NewReader(ra))); err != nil {
		return errors.Join(err, f.Close())
	}
	if !verifier.Verified() {
		return errors.Join(st.Mismatch(desc.Digest), f.Close())
	}
	return f.Close()
}

// annotated returns desc with only those fields that find the blob, and its annotations.
func annotated(desc ocispec.Descriptor) ocispec.Descriptor {
	d := store.Plain(desc)
	d.Annotations = desc.Annotations
	return d
}

// namedEntries returns the index entries of a layout that holds one image. Their annotations are those of
// containerd and BuildKit: ref.name is the tag, which is unique in the layout.
func namedEntries(desc ocispec.Descriptor, refs []string) []ocispec.Descriptor {
	if len(refs) == 0 {
		return []ocispec.Descriptor{desc}
	}
	var entries []ocispec.Descriptor
	for _, ref := range refs {
		e := desc
		e.Annotations = maps.Clone(desc.Annotations)
		if e.Annotations == nil {
			e.Annotations = map[string]string{}
		}
		e.Annotations[images.AnnotationImageName] = ref
		if named, err := reference.ParseNamed(ref); err == nil {
			if tagged, ok := named.(reference.Tagged); ok {
				e.Annotations[ocispec.AnnotationRefName] = tagged.Tag()
			}
		}
		entries = append(entries, e)
	}
	return entries
}

// interruptible returns a reader of r that fails when ctx is done.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return r.Read(p)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
