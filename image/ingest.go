package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/kedge-build/kedge/internal/chunk"
	"github.com/kedge-build/kedge/internal/filesum"
	"github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/internal/strictjson"
	"github.com/kedge-build/kedge/rules"
	"github.com/kedge-build/kedge/secret"
	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An Ingest is a content.Store that receives one export of a builder, the raw image, and writes the
// canonical image from it. It claims to have the blobs that need not be sent: those of the Store, and raw
// layers whose canonical form the Store has. It keeps everything else until Close.
type Ingest struct {
	blobStore // the blobs that the builder sent
	store     *store.Store
	draft     *store.Draft
	epoch     time.Time
	opts      IngestOptions
	rawRecord func() func(raw digest.Digest) (store.Record, bool)
	claimed   sync.Map     // digests of raw layers that Info claimed to have
	needed    sync.Map     // digests of those that turned out to be needed
	checked   sync.Map     // by digest of a blob of the Store: whether its content was right
	surveys   []keptSurvey // of this export
	open      sync.Once    // for earlier
	earlier   *earlier
}

type blobStore interface{ content.Store }

// A Source describes the image for one platform, as the builder knows it.
type Source struct {
	Platform ocispec.Platform
	// BaseLayers and BaseHistory count the layers and history entries of the base image, from the lowest.
	// They are kept unchanged.
	BaseLayers, BaseHistory int
	// BaseRef is the reference of the base image, if it has one. It allows a push to mount the base layers
	// within the registry.
	BaseRef string
	// Keep lists, for layers by index, the paths that no rule changes, with everything below them.
	Keep map[int][]string
	// Run names the layers, by index, that a RUN instruction made. The files of other layers are inputs.
	Run map[int]bool
	// Mounts names the layers whose RUN could read files that no layer has to have.
	Mounts map[int]bool
	// Copies are, for layers that a COPY took from a stage with a RUN, what it took, and Inputs the paths to which
	// COPY and ADD brought files in that stage.
	Copies map[int][]rules.Copy
	Inputs map[int][]string
	// Copied names the layers, by index, that a COPY or ADD made, which deletes nothing.
	Copied map[int]bool
	// Lines are the lines of the Dockerfile behind the layers, and File is its name in errors.
	Lines map[int]int
	File  string
	// Texts are those of the instructions behind the layers, with the values of the arguments.
	Texts map[int]string
	// Text is what the Dockerfile and its arguments say: values and digests in it were chosen.
	Text string
	// Downloads are the files that RUNs are known to have downloaded.
	Downloads []digest.Digest
	// Clock is how far the clock of RUNs was ahead.
	Clock time.Duration
}

// Options are choices for Ingest.Write. The zero value is a plain build.
type Options struct {
	Labels map[string]string // set in the image config, over labels of the same name
	// DropLabels are labels that the image config does not keep from a base image.
	DropLabels []string
	Rules      rules.Set
	// Annotations are written into manifests and indexes. Write returns an *AnnotationError for one that
	// the image has no place for.
	Annotations []Annotation
	// Secrets are values, by id, that must not be in new layers, configs and attestations: Write returns a
	// *secret.LeakError if it finds one. It skips values of fewer than secret.MinSecret bytes.
	Secrets map[string][]byte
}

// A NotSentError says that Write needs a raw layer that the builder did not send. The Store has canonical
// forms of it, but over other layers than now. Another export into the same Ingest sends it.
type NotSentError struct{ Layer digest.Digest }

func (e *NotSentError) Error() string {
	return fmt.Sprintf("layer %s was not sent, and is needed", e.Layer)
}

// IngestOptions are choices for NewIngest. The zero value is a plain build.
type IngestOptions struct {
	// Check reads each blob of the Store before relying on it. A damaged blob is sent or made again.
	Check bool
	// Sums, if not nil, remembers which blobs are whole. Without Check, each is read once, and again if its file
	// changes.
	Sums *filesum.Cache
	// Place names what is built: parts of layers that are equal to those of its last image are not compressed again.
	// Empty: nothing is remembered.
	Place string
	// Second is for the second build of a verification, which takes nothing from memory. Its layers
	// usually exist already, so Write computes the diffID of each before compressing anything. It implies
	// Check.
	Second bool
}

// NewIngest starts an export into st. The image is written for epoch, in whole seconds. The caller must
// close the Ingest; until then the store cannot be pruned.
func NewIngest(ctx context.Context, st *store.Store, epoch time.Time, opts IngestOptions) (*Ingest, error) {
	in := &Ingest{store: st, epoch: time.Unix(epoch.Unix(), 0).UTC(), opts: opts}
	in.rawRecord = sync.OnceValue(func() func(digest.Digest) (store.Record, bool) { return st.RawRecords(in.epoch) })
	var err error
	if in.draft, err = st.NewDraft(ctx); err != nil {
		return nil, fmt.Errorf("start an export: %w", err)
	}
	if in.blobStore, err = local.NewStore(in.draft.Dir()); err != nil {
		return nil, errors.Join(fmt.Errorf("start an export: %w", err), in.draft.Close())
	}
	return in, nil
}

// Close discards the export and frees its files. It may be called more than once.
func (in *Ingest) Close() error {
	if in.opts.Sums != nil {
		_ = in.opts.Sums.Save() // without it the next build reads the blobs again
	}
	in.earlier.close()
	if err := in.draft.Close(); err != nil {
		return fmt.Errorf("end an export: %w", err)
	}
	return nil
}

// Info implements content.InfoProvider. It knows the blobs that Writer says exist.
func (in *Ingest) Info(ctx context.Context, dgst digest.Digest) (content.Info, error) {
	info, err := in.blobStore.Info(ctx, dgst)
	if err == nil || !errdefs.IsNotFound(err) {
		return info, err
	}
	if in.sound(ctx, dgst) {
		if info, err := in.store.Info(ctx, dgst); err == nil {
			return info, nil
		}
	}
	if _, needed := in.needed.Load(dgst); needed || in.opts.Second {
		return content.Info{}, err
	}
	if r, ok := in.rawRecord()(dgst); ok && in.sound(ctx, r.Digest) {
		in.claimed.Store(dgst, true)
		return content.Info{Digest: dgst, Size: r.RawSize}, nil
	}
	return content.Info{}, err
}

// sound reports whether a blob of the Store can be relied on.
func (in *Ingest) sound(ctx context.Context, dgst digest.Digest) bool {
	if sound, ok := in.checked.Load(dgst); ok {
		return sound.(bool)
	}
	if !in.opts.Check && !in.opts.Second {
		return in.opts.Sums == nil || in.store.Whole(dgst, in.opts.Sums)
	}
	info, err := in.store.Info(ctx, dgst)
	if err != nil {
		return false
	}
	err = in.store.CheckBlob(ctx, ocispec.Descriptor{Digest: dgst, Size: info.Size})
	if ctx.Err() == nil {
		in.checked.Store(dgst, err == nil)
	}
	return err == nil
}

// Writer implements content.Ingester. The error wraps errdefs.ErrAlreadyExists if the blob need not be
// sent.
func (in *Ingest) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var w content.WriterOpts
	for _, opt := range opts {
		if err := opt(&w); err != nil {
			return nil, err
		}
	}
	if dgst := w.Desc.Digest; dgst != "" {
		// containerd calls Info again before it commits, without the size.
		if info, err := in.store.Info(ctx, dgst); err == nil && w.Desc.Size > 0 && info.Size != w.Desc.Size {
			in.checked.Store(dgst, false)
		}
		if _, err := in.Info(ctx, dgst); err == nil {
			return nil, fmt.Errorf("blob %s: %w", dgst, errdefs.ErrAlreadyExists)
		}
	}
	return newSpool(in.draft.Dir(), w)
}

// ReaderAt implements content.Provider for blobs that were sent and for those of the Store.
func (in *Ingest) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	ra, err := in.blobStore.ReaderAt(ctx, desc)
	if errdefs.IsNotFound(err) {
		return in.store.ReaderAt(ctx, desc)
	}
	return ra, err
}

// Join returns the descriptor of an index over several exports that the Ingest has received. A root that is a manifest
// must have its platform.
func (in *Ingest) Join(ctx context.Context, roots []ocispec.Descriptor) (ocispec.Descriptor, error) {
	joined := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, root := range roots {
		if !images.IsIndexType(root.MediaType) {
			joined.Manifests = append(joined.Manifests, root)
			continue
		}
		var index ocispec.Index
		if err := store.ReadDocument(ctx, in, root, &index); err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("read exported image %s: %w", root.Digest, err)
		}
		joined.Manifests = append(joined.Manifests, index.Manifests...)
	}
	data, err := strictjson.Encode(joined)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: joined.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return desc, in.spoolBlob(ctx, desc, data)
}

// Write writes the canonical image of an export into the Store and lists it there, without a name if it
// has none. The top of the export, root, is a manifest or an index. There must be a Source for every
// platform. An image for one platform is a manifest, even if root is an index; attestations are in an
// index of their own.
//
// Write normalises and compresses several new layers at the same time. If it fails or ctx is done, the
// Store lists what it listed before. After a *NotSentError the caller should export again into the same Ingest.
func (in *Ingest) Write(ctx context.Context, root ocispec.Descriptor, sources []Source, opts Options) (store.Image, error) {
	set, err := opts.Rules.Check()
	if err != nil {
		return store.Image{}, err
	}
	exports, err := in.exports(ctx, root, sources)
	if err != nil {
		return store.Image{}, fmt.Errorf("read exported image %s: %w", root.Digest, err)
	}
	notes := annotations(opts.Annotations)
	var targets []ocispec.Platform
	attested := false
	for _, e := range exports {
		targets, attested = append(targets, e.Platform), attested || e.attestation.Digest != ""
	}
	if err := CheckAnnotations(notes, targets); err != nil {
		return store.Image{}, err
	}
	for _, e := range exports {
		if err := in.adoptBase(ctx, e); err != nil {
			return store.Image{}, fmt.Errorf("write image: %w", err)
		}
	}
	layers, err := in.writeLayers(ctx, exports, set)
	if err != nil {
		return store.Image{}, fmt.Errorf("write image: %w", err)
	}
	in.keepSurveys()
	in.keepPlace(layers)
	var img store.Image
	for i, e := range exports {
		m, err := in.writeManifest(ctx, e, layers[i], opts)
		if err != nil {
			return store.Image{}, fmt.Errorf("write image for %s: %w", platforms.FormatAll(e.Platform), err)
		}
		img.Manifests = append(img.Manifests, m)
	}
	// The index of the attestations has the annotations, too.
	index := len(targets) > 1 || !attested && notes.needIndex()
	if img.Descriptor, err = in.writeTop(ctx, img.Manifests, index, notes); err != nil {
		return store.Image{}, fmt.Errorf("write image: %w", err)
	}
	if img.Attested, err = in.writeAttestations(ctx, exports, img.Manifests, notes); err != nil {
		return store.Image{}, fmt.Errorf("write image: %w", err)
	}
	var bases []secret.Base
	for _, e := range exports {
		bases = append(bases, secret.Base{Layers: e.BaseLayers, History: e.BaseHistory})
	}
	if err := secret.Check(ctx, in.store, img, bases, opts.Secrets); err != nil {
		return store.Image{}, err
	}
	if err := in.list(ctx, img, exports); err != nil {
		return store.Image{}, fmt.Errorf("write image %s: %w", img.Descriptor.Digest, err)
	}
	return img, nil
}

// An export is the raw image of one platform.
type export struct {
	Source
	manifest    ocispec.Descriptor // as the builder wrote it
	rawConfig   digest.Digest
	attestation ocispec.Descriptor   // about the manifest; zero if there is none
	layers      []ocispec.Descriptor // as the builder describes them
	config      *config
	base        reference.Named // nil if there is none
}

// exports finds the manifest of each source below root and reads it. It returns them sorted by platform.
func (in *Ingest) exports(ctx context.Context, root ocispec.Descriptor, sources []Source) ([]export, error) {
	manifests := []ocispec.Descriptor{root}
	about := map[string]ocispec.Descriptor{}
	if images.IsIndexType(root.MediaType) {
		var index ocispec.Index
		if err := store.ReadDocument(ctx, in, root, &index); err != nil {
			return nil, err
		}
		for _, d := range index.Manifests {
			if subject := d.Annotations[referenceDigest]; store.IsAttestation(d) && subject != "" {
				about[subject] = d
			}
		}
		manifests = slices.DeleteFunc(index.Manifests, store.IsAttestation)
	} else if !images.IsManifestType(root.MediaType) {
		return nil, fmt.Errorf("media type %q is neither a manifest nor an index", root.MediaType)
	} else if len(sources) == 1 {
		manifests[0].Platform = &sources[0].Platform
	}
	if len(manifests) != len(sources) {
		return nil, fmt.Errorf("it is for %d platforms, want %d", len(manifests), len(sources))
	}
	byPlatform := map[string]ocispec.Descriptor{}
	for _, m := range manifests {
		if m.Platform == nil {
			return nil, fmt.Errorf("manifest %s has no platform", m.Digest)
		}
		byPlatform[platformKey(*m.Platform)] = m
	}
	var exports []export
	for _, src := range sources {
		key := platformKey(src.Platform)
		m, ok := byPlatform[key]
		if !ok {
			return nil, fmt.Errorf("it has no manifest of its own for %s", key)
		}
		delete(byPlatform, key)
		e, err := in.readExport(ctx, m, src)
		if err != nil {
			return nil, fmt.Errorf("platform %s: %w", key, err)
		}
		e.attestation = about[m.Digest.String()]
		exports = append(exports, e)
	}
	slices.SortFunc(exports, func(a, b export) int {
		return strings.Compare(platformKey(a.Platform), platformKey(b.Platform))
	})
	return exports, nil
}

func platformKey(p ocispec.Platform) string {
	return platforms.FormatAll(platforms.Normalize(p))
}

func (in *Ingest) readExport(ctx context.Context, desc ocispec.Descriptor, src Source) (export, error) {
	var mf ocispec.Manifest
	if err := store.ReadDocument(ctx, in, desc, &mf); err != nil {
		return export{}, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	data, err := store.ReadBlob(ctx, in, mf.Config, store.MaxDocument)
	if err != nil {
		return export{}, fmt.Errorf("config %s: %w", mf.Config.Digest, err)
	}
	cfg, err := parseConfig(data)
	if err != nil {
		return export{}, fmt.Errorf("config %s: %w", mf.Config.Digest, err)
	}
	if len(mf.Layers) != len(cfg.diffIDs) {
		return export{}, fmt.Errorf("the manifest has %d layers, the config %d", len(mf.Layers), len(cfg.diffIDs))
	}
	if src.BaseLayers < 0 || src.BaseLayers > len(mf.Layers) {
		return export{}, fmt.Errorf("%d layers of the base image, but %d in all", src.BaseLayers, len(mf.Layers))
	}
	src.Platform = platforms.Normalize(src.Platform)
	e := export{Source: src, manifest: desc, rawConfig: mf.Config.Digest, layers: mf.Layers, config: cfg}
	if src.BaseRef != "" {
		if e.base, err = reference.ParseNormalizedNamed(src.BaseRef); err != nil {
			return export{}, fmt.Errorf("base image %q: %w", src.BaseRef, err)
		}
	}
	return e, nil
}

// adopt moves a blob that the builder sent or Write made into the Store.
func (in *Ingest) adopt(ctx context.Context, dgst digest.Digest) error {
	moved, err := in.draft.Adopt(ctx, dgst)
	if moved {
		in.checked.Store(dgst, true)
		if in.opts.Sums != nil {
			in.store.Learn(dgst, in.opts.Sums)
		}
	}
	return err
}

// adoptBase adds the layers of the base image to the Store, unchanged.
func (in *Ingest) adoptBase(ctx context.Context, e export) error {
	for _, l := range e.layers[:e.BaseLayers] {
		err := in.adopt(ctx, l.Digest)
		if errdefs.IsNotFound(err) {
			return in.notSent(l.Digest, err) // it may have been a new layer once
		}
		if err != nil {
			return fmt.Errorf("base layer: %w", err)
		}
		if err := in.store.CheckSize(ctx, l); err != nil {
			return fmt.Errorf("base layer: %w", err)
		}
	}
	return nil
}

// notSent returns a *NotSentError if a layer is missing because Info claimed to have it, else err.
func (in *Ingest) notSent(raw digest.Digest, err error) error {
	if _, ok := in.claimed.Load(raw); ok {
		in.needed.Store(raw, true)
		return &NotSentError{raw}
	}
	return err
}

func newLayer(r store.Record, raw digest.Digest) store.Layer {
	return store.Layer{
		Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: r.Digest, Size: r.Size},
		DiffID:     r.DiffID,
		Raw:        raw,
		Normalised: r.Normalised,
	}
}

// openRaw opens a raw layer. The Reader checks its diffID, unless that is the digest that the layer had when it came.
func (in *Ingest) openRaw(ctx context.Context, l store.Layer) (*layer.Reader, error) {
	dgst := l.Descriptor.Digest
	if l.DiffID == "" {
		return nil, errors.New("the config names no diffID")
	}
	ra, err := in.blobStore.ReaderAt(ctx, l.Descriptor)
	sent := err == nil
	if errdefs.IsNotFound(err) {
		ra, err = in.store.ReaderAt(ctx, l.Descriptor)
	}
	if errdefs.IsNotFound(err) {
		return nil, in.notSent(dgst, err)
	}
	if err != nil {
		return nil, err
	}
	if ra.Size() != l.Descriptor.Size {
		return nil, errors.Join(fmt.Errorf("it has %d bytes, its descriptor says %d", ra.Size(), l.Descriptor.Size), ra.Close())
	}
	if sent && dgst == l.DiffID {
		return layer.OpenPlain(ctx, ra, ra.Size()), nil
	}
	return layer.Open(ctx, store.NewReader(ra), layer.Digests{DiffID: l.DiffID})
}

// readRaw calls fn with a raw layer.
func (in *Ingest) readRaw(ctx context.Context, raw rawLayer, fn func(*layer.Reader) error) error {
	r, err := in.openRaw(ctx, store.Layer{Descriptor: ocispec.Descriptor{Digest: raw.digest, Size: raw.size}, DiffID: raw.diffID})
	if err != nil {
		return err
	}
	defer r.Close()
	return fn(r)
}

// compressLayer writes the canonical blob of a raw layer into the Draft.
func (in *Ingest) compressLayer(ctx context.Context, raw rawLayer, p *plan) (r store.Record, err error) {
	w, err := newSpool(in.draft.Dir(), content.WriterOpts{})
	if err != nil {
		return r, err
	}
	defer w.Close()
	var known chunk.Source
	if in.opts.Place != "" && !in.opts.Second {
		in.open.Do(func() { in.earlier = in.openEarlier(ctx) })
		known = in.earlier.find
	}
	var parts []chunk.Part
	err = in.readRaw(ctx, raw, func(src *layer.Reader) (err error) {
		r.DiffID, parts, err = p.compress(w, src, known)
		return err
	})
	if err != nil {
		return r, err
	}
	r.Digest, r.Size = w.Digest(), w.status.Offset
	if err := w.Commit(ctx, r.Size, r.Digest); err != nil {
		return r, err
	}
	if known != nil {
		in.draft.KeepListing(partsID(r.Digest), chunk.EncodeParts(parts))
	}
	return r, nil
}

func (in *Ingest) writeManifest(ctx context.Context, e export, layers []store.Layer, opts Options) (store.Manifest, error) {
	m := store.Manifest{Platform: e.Platform, Created: in.epoch}
	mf := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Layers:    []ocispec.Descriptor{},

		Annotations: annotations(opts.Annotations).collect(OnManifest, &e.Platform),
	}
	var diffIDs []digest.Digest
	for i, desc := range e.layers {
		l := store.Layer{Descriptor: store.Plain(desc), DiffID: e.config.diffIDs[i]}
		if i >= e.BaseLayers {
			l = layers[i-e.BaseLayers]
		}
		m.Layers = append(m.Layers, l)
		mf.Layers = append(mf.Layers, l.Descriptor)
		diffIDs = append(diffIDs, l.DiffID)
	}
	cfg, err := e.config.canonical(in.epoch, e.BaseHistory, diffIDs, opts.Labels, opts.DropLabels)
	if err != nil {
		return store.Manifest{}, fmt.Errorf("config: %w", err)
	}
	if mf.Config, err = in.writeBlob(ctx, ocispec.MediaTypeImageConfig, cfg); err != nil {
		return store.Manifest{}, err
	}
	m.Config = mf.Config.Digest
	data, err := strictjson.Encode(mf)
	if err != nil {
		return store.Manifest{}, err
	}
	if m.Descriptor, err = in.writeBlob(ctx, ocispec.MediaTypeImageManifest, data); err != nil {
		return store.Manifest{}, err
	}
	return m, nil
}

// inIndex returns the descriptor of a manifest for an index.
func inIndex(m store.Manifest, notes annotations) ocispec.Descriptor {
	d := m.Descriptor
	d.Platform, d.Annotations = &m.Platform, notes.collect(OnManifestDescriptor, &m.Platform)
	return d
}

// writeTop writes an index if that is set, and returns the top of the image.
func (in *Ingest) writeTop(ctx context.Context, manifests []store.Manifest, index bool, notes annotations) (ocispec.Descriptor, error) {
	var descs []ocispec.Descriptor
	for _, m := range manifests {
		descs = append(descs, inIndex(m, notes))
	}
	if !index {
		descs[0].Platform = nil
		return descs[0], nil
	}
	return in.writeIndex(ctx, descs, notes)
}

func (in *Ingest) writeIndex(ctx context.Context, descs []ocispec.Descriptor, notes annotations) (ocispec.Descriptor, error) {
	data, err := strictjson.Encode(ocispec.Index{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   ocispec.MediaTypeImageIndex,
		Manifests:   descs,
		Annotations: notes.collect(OnIndex, nil),
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	top, err := in.writeBlob(ctx, ocispec.MediaTypeImageIndex, data)
	top.Annotations = notes.collect(OnIndexDescriptor, nil)
	return top, err
}

func (in *Ingest) writeBlob(ctx context.Context, mediaType string, data []byte) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if in.store.CheckBlob(ctx, desc) == nil { // cheap, because it is small
		return desc, nil
	}
	if err := in.spoolBlob(ctx, desc, data); err != nil {
		return ocispec.Descriptor{}, err
	}
	return desc, in.adopt(ctx, desc.Digest)
}

// spoolBlob writes a blob into the Draft.
func (in *Ingest) spoolBlob(ctx context.Context, desc ocispec.Descriptor, data []byte) error {
	w, err := newSpool(in.draft.Dir(), content.WriterOpts{Desc: desc})
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Commit(ctx, desc.Size, desc.Digest)
}

// list adds a written image to the index, with the repositories of its base layers.
func (in *Ingest) list(ctx context.Context, img store.Image, exports []export) error {
	var sources []store.Source
	for _, e := range exports {
		if e.base == nil {
			continue
		}
		for _, l := range e.layers[:e.BaseLayers] {
			sources = append(sources, store.Source{Blob: l, Repo: e.base})
		}
	}
	tops := []ocispec.Descriptor{img.Descriptor}
	if img.Attested.Digest != "" {
		tops = append(tops, img.Attested)
	}
	return in.draft.List(ctx, tops, sources)
}
