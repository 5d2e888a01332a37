package network

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/gofrs/flock"
	"github.com/kedge-build/kedge/internal/strictjson"
	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The artifact of a record: an OCI manifest whose first layer is the record, and whose other layers are the
// bodies.
const (
	artifactType    = "application/vnd.kedge.downloads.v1"
	recordMediaType = "application/vnd.kedge.downloads.v1+text"
	bodyMediaType   = "application/octet-stream"
	recordPath      = "dev.kedge.record" // annotation of an entry of the index: the path of the record's file
)

// A Kept is a record that the cache lists.
type Kept struct {
	Path   string // of its file
	Record *Record
}

// Keep lists a record, by the path of its file, instead of an earlier one. Prune leaves its bodies alone.
func (c *Cache) Keep(ctx context.Context, path string, r *Record) (ocispec.Descriptor, error) {
	desc, err := c.artifact(r)
	if err != nil {
		return desc, fmt.Errorf("write the cache of downloads %q: %w", c.dir, err)
	}
	listed := desc
	listed.Annotations = map[string]string{recordPath: path}
	return desc, c.list(ctx, listed)
}

// list lists an artifact or an image in the index, instead of an earlier one of the same file and name.
func (c *Cache) list(ctx context.Context, d ocispec.Descriptor) error {
	same := func(o ocispec.Descriptor) bool {
		return o.Annotations[recordPath] == d.Annotations[recordPath] && o.Annotations[baseName] == d.Annotations[baseName]
	}
	return c.withIndex(ctx, func() error {
		entries, err := c.readIndex()
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(entries, same); i >= 0 && entries[i].Digest == d.Digest {
			return nil
		}
		entries = append(slices.DeleteFunc(entries, same), d)
		slices.SortFunc(entries, func(a, b ocispec.Descriptor) int {
			return cmp.Or(cmp.Compare(a.Annotations[recordPath], b.Annotations[recordPath]), cmp.Compare(a.Annotations[baseName], b.Annotations[baseName]))
		})
		return c.writeIndex(entries)
	})
}

// artifact writes the artifact of a record without the bodies, and returns its manifest.
func (c *Cache) artifact(r *Record) (ocispec.Descriptor, error) {
	text := r.Format()
	layers := []ocispec.Descriptor{{MediaType: recordMediaType, Digest: digest.FromBytes(text), Size: int64(len(text))}}
	for _, e := range r.Bodies() {
		layers = append(layers, ocispec.Descriptor{MediaType: bodyMediaType, Digest: e.Digest, Size: e.Size})
	}
	manifest, err := strictjson.Encode(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: artifactType, Config: ocispec.DescriptorEmptyJSON, Layers: layers,
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Digest: digest.FromBytes(manifest), Size: int64(len(manifest)),
	}
	for _, data := range [][]byte{ocispec.DescriptorEmptyJSON.Data, text, manifest} {
		if err := c.Put(digest.FromBytes(data), bytes.NewReader(data)); err != nil {
			return desc, err
		}
	}
	return desc, nil
}

// Records returns the records that the cache lists, sorted by path. A record that cannot be read is an error
// beside the others.
func (c *Cache) Records() (kept []Kept, err error) {
	entries, err := c.readIndex()
	if err != nil {
		return nil, err
	}
	var bad []error
	for _, d := range entries {
		if d.Annotations[baseName] != "" {
			continue
		}
		r, err := c.readArtifact(d)
		if err != nil {
			bad = append(bad, fmt.Errorf("the record of %s: %w", d.Annotations[recordPath], err))
			continue
		}
		kept = append(kept, Kept{Path: d.Annotations[recordPath], Record: r})
	}
	return kept, errors.Join(bad...)
}

func (c *Cache) readArtifact(desc ocispec.Descriptor) (*Record, error) {
	data, err := c.read(desc.Digest, maxManifest)
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	if len(m.Layers) == 0 || m.Layers[0].MediaType != recordMediaType {
		return nil, fmt.Errorf("%s is not the artifact of a record of downloads", desc.Digest)
	}
	if data, err = c.read(m.Layers[0].Digest, maxFile); err != nil {
		return nil, err
	}
	return Parse("record", data)
}

func (c *Cache) read(dgst digest.Digest, limit int64) ([]byte, error) {
	f, err := c.Open(dgst)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// Export writes a body to a file.
func (c *Cache) Export(dgst digest.Digest, path string) error {
	f, err := c.Open(dgst)
	if err != nil {
		return err
	}
	defer f.Close()
	return wholefile.Write(path, 0o644, func(w io.Writer) error { _, err := io.Copy(w, f); return err })
}

// Info implements content.InfoProvider.
func (c *Cache) Info(_ context.Context, dgst digest.Digest) (content.Info, error) {
	info, err := os.Stat(c.blob(dgst))
	if errors.Is(err, fs.ErrNotExist) {
		err = errdefs.ErrNotFound
	}
	if err != nil {
		return content.Info{}, fmt.Errorf("cached download %s: %w", dgst, err)
	}
	return content.Info{Digest: dgst, Size: info.Size()}, nil
}

// ReaderAt implements content.Provider. It returns a *DamagedError for a body with another content.
func (c *Cache) ReaderAt(_ context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	f, err := c.Open(desc.Digest)
	if err != nil {
		return nil, err
	}
	f.Close()
	return local.OpenReader(c.blob(desc.Digest))
}

// A Usage says how much a record takes in the cache.
type Usage struct {
	Path      string
	Downloads int   // answers
	Bytes     int64 // of its bodies that the cache has
	Only      int64 // of those, the bytes that no other record has
	Missing   int   // bodies that the cache lacks
}

// Usage returns what each record takes, sorted by path, and the bytes of all files and of those that no record
// needs.
func (c *Cache) Usage() (records []Usage, total, unused int64, err error) {
	kept, bad := c.Records()
	users := map[digest.Digest]int{}
	bodies := make([][]Entry, len(kept))
	for i, k := range kept {
		bodies[i] = k.Record.Bodies()
		for _, e := range bodies[i] {
			users[e.Digest]++
		}
	}
	needed, err := c.needed()
	if err != nil {
		return nil, 0, 0, err
	}
	sizes := map[digest.Digest]int64{}
	for d, size := range c.blobs(&err) {
		sizes[d] = size
		total += size
		if !needed[d] {
			unused += size
		}
	}
	if err != nil {
		return nil, 0, 0, err
	}
	for i, k := range kept {
		u := Usage{Path: k.Path, Downloads: k.Record.Len()}
		for _, e := range bodies[i] {
			size, ok := sizes[e.Digest]
			if !ok {
				u.Missing++
			}
			u.Bytes += size
			if users[e.Digest] == 1 {
				u.Only += size
			}
		}
		records = append(records, u)
	}
	return records, total, unused, bad
}

// needed returns the digests of all files that the index needs.
func (c *Cache) needed() (map[digest.Digest]bool, error) {
	entries, err := c.readIndex()
	if err != nil {
		return nil, err
	}
	needed := map[digest.Digest]bool{}
	for _, d := range entries {
		c.children(d, needed)
	}
	return needed, nil
}

// blobs yields the digests and sizes of all files. It sets err if the folder cannot be read.
func (c *Cache) blobs(err *error) func(yield func(digest.Digest, int64) bool) {
	return func(yield func(digest.Digest, int64) bool) {
		var entries []os.DirEntry
		if entries, *err = os.ReadDir(c.path("blobs", "sha256")); *err != nil {
			return
		}
		for _, e := range entries {
			d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
			info, statErr := e.Info()
			if d.Validate() != nil || statErr != nil {
				continue
			}
			if !yield(d, info.Size()) {
				return
			}
		}
	}
}

// Damaged reads every file, and returns the digests of those with another content.
func (c *Cache) Damaged(ctx context.Context) (damaged []digest.Digest, err error) {
	for d := range c.blobs(&err) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		f, err := c.Open(d)
		var bad *DamagedError
		switch {
		case errors.As(err, &bad):
			damaged = append(damaged, d)
		case err == nil:
			f.Close()
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return damaged, err
}

// Pruned says what Prune removed.
type Pruned struct {
	Records []string // paths of records whose files are gone
	Files   int
	Bytes   int64
}

// Prune removes records whose files are gone, and bodies that no other record needs, or that are damaged. With
// all it removes everything. It does not wait: the error is a *BusyError while another process has the cache
// open.
func (c *Cache) Prune(ctx context.Context, all bool) (p Pruned, err error) {
	// A shared lock cannot become an exclusive one, so for a moment there is no lock.
	if err := c.lock.Unlock(); err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, c.lock.RLock()) }()
	exclusive := flock.New(c.path(cacheLock))
	ok, err := exclusive.TryLock()
	if err != nil {
		return p, err
	}
	if !ok {
		return p, &BusyError{c.dir}
	}
	defer exclusive.Unlock()
	err = c.withIndex(ctx, func() error { return c.prune(ctx, all, &p) })
	return p, err
}

func (c *Cache) prune(ctx context.Context, all bool, p *Pruned) error {
	c.sweep()
	entries, err := c.readIndex()
	if err != nil {
		return err
	}
	kept := slices.DeleteFunc(slices.Clone(entries), func(d ocispec.Descriptor) bool {
		_, err := os.Lstat(d.Annotations[recordPath])
		gone := all || errors.Is(err, fs.ErrNotExist)
		if gone {
			p.Records = append(p.Records, d.Annotations[recordPath])
		}
		return gone
	})
	// The index comes first, so that it never lists a manifest that is gone.
	if err := c.writeIndex(kept); err != nil {
		return err
	}
	needed, err := c.needed()
	if err != nil {
		return err
	}
	damaged, err := c.Damaged(ctx)
	if err != nil {
		return err
	}
	for d, size := range c.blobs(&err) {
		if needed[d] && !slices.Contains(damaged, d) {
			continue
		}
		if err := os.Remove(c.blob(d)); err != nil {
			return err
		}
		p.Files++
		p.Bytes += size
	}
	return err
}

// A Use is an entry of a record that the cache lists.
type Use struct {
	Path  string // of the record
	Entry Entry
	Steps []string // names of the steps that asked for it
}

// A NotKeptError says that no record that the cache lists has a download.
type NotKeptError struct{ Name string }

func (e *NotKeptError) Error() string { return fmt.Sprintf("no record has the download %q", e.Name) }

// Uses returns the entries with a URL or a digest, of all records. The error is a *NotKeptError if there are
// none.
func (c *Cache) Uses(name string) ([]Use, error) {
	records, err := c.Records()
	var uses []Use
	canonical := name
	if u, parseErr := url.Parse(name); parseErr == nil {
		if text, canonicalErr := canonicalURL(u); canonicalErr == nil {
			canonical = text
		}
	}
	for _, k := range records {
		steps := k.Record.Steps()
		for _, e := range k.Record.Entries() {
			if e.URL != canonical && string(e.Digest) != name {
				continue
			}
			use := Use{Path: k.Path, Entry: e}
			for _, id := range e.Steps {
				use.Steps = append(use.Steps, steps[id])
			}
			uses = append(uses, use)
		}
	}
	if len(uses) == 0 {
		err = errors.Join(err, &NotKeptError{name})
	}
	return uses, err
}

// Missing returns the bodies of a record for which the cache has no file, or nil. It does not read the files.
func (c *Cache) Missing(r *Record) error {
	missing := slices.DeleteFunc(r.Bodies(), func(e Entry) bool { return c.Has(e.Digest) })
	if len(missing) > 0 {
		return &MissingError{Entries: missing}
	}
	return nil
}
