package image

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"fmt"
	"runtime"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/rules"
	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// A rawLayer is a layer as the builder made it. Its diffID comes from the config and is not checked yet.
type rawLayer struct {
	digest, diffID digest.Digest
	size           int64
	// under is a digest of what the canonical form depends on besides the layer, the epoch and archives: the
	// layers below, which of them are the base image's, the rules, what they must keep, and how each layer
	// came about.
	under  digest.Digest
	origin rules.Layer
	line   int    // of the Dockerfile; 0 if no line is known
	adds   bool   // see scanner
	text   string // see scanner
}

// raws returns the new layers of an export, lowest first.
func (e export) raws(set rules.Set, v *view) []rawLayer {
	var raws []rawLayer
	under := fmt.Sprintf("%d %q %q\n", set.Version, set.Off, e.config.diffIDs[:e.BaseLayers])
	if v != nil {
		under += fmt.Sprintf("2 %q %q %q %q %q %v\n", v.named, v.volumes, v.words, v.asked, v.texts, e.Clock)
	}
	for i := e.BaseLayers; i < len(e.layers); i++ {
		under += fmt.Sprintf("%q %v ", e.Keep[i], e.Run[i])
		origin := rules.Layer{Run: e.Run[i], Keep: e.Keep[i]}
		if v != nil {
			under += fmt.Sprintf("%q %q %v %q ", e.Copies[i], e.Inputs[i], e.Mounts[i], e.Texts[i])
			origin.Copies, origin.Inputs, origin.Named, origin.Volumes, origin.Asked = e.Copies[i], e.Inputs[i], v.named, v.volumes, v.asked
			if origin.Mounts = e.Mounts[i]; origin.Mounts {
				origin.Named = append(slices.Clone(v.named), paths(e.Texts[i])...) // a mounted file may have been copied there
			}
		}
		raws = append(raws, rawLayer{
			digest: e.layers[i].Digest, diffID: e.config.diffIDs[i], size: e.layers[i].Size,
			under: digest.FromString(under), origin: origin, line: e.Lines[i], adds: e.Copied[i], text: e.Texts[i],
		})
		under += string(e.config.diffIDs[i]) + "\n"
	}
	return raws
}

// writeLayers returns the canonical layers of each export, lowest first.
func (in *Ingest) writeLayers(ctx context.Context, exports []export, set rules.Set) ([][]store.Layer, error) {
	w := &layerWriter{in: in, set: set, done: map[string]*store.Layer{}}
	w.group, ctx = errgroup.WithContext(ctx)
	w.group.SetLimit(min(runtime.GOMAXPROCS(0), maxLayers))
	layers := make([][]*store.Layer, len(exports))
	var err error
	for i, e := range exports {
		if layers[i], err = w.export(ctx, e); err != nil {
			break
		}
	}
	// If a layer in progress failed, it failed first.
	if gerr := w.group.Wait(); gerr != nil {
		return nil, gerr
	}
	if err != nil {
		return nil, err
	}
	out := make([][]store.Layer, len(exports))
	for i := range layers {
		for _, l := range layers[i] {
			out[i] = append(out[i], *l)
		}
	}
	return out, nil
}

// A layerWriter writes several layers at the same time. It plans them one after the other.
type layerWriter struct {
	in    *Ingest
	set   rules.Set
	group *errgroup.Group
	done  map[string]*store.Layer // by raw layer and its under; complete when the group is
}

// export starts to write the new layers of an export.
func (w *layerWriter) export(ctx context.Context, e export) ([]*store.Layer, error) {
	var layers []*store.Layer
	below, n := &tree{}, 0 // what the lowest n layers hold together
	var v *view
	if w.set.Version > 1 && e.BaseLayers < len(e.layers) {
		var err error
		below.sums = map[[sha256.Size]byte]bool{}
		if v, err = w.in.view(ctx, e); err != nil {
			return nil, err
		}
	}
	raws := e.raws(w.set, v)
	known, err := w.known(ctx, raws, v)
	if err != nil {
		return nil, err
	}
	for i, raw := range raws {
		key := raw.digest.String() + raw.under.String()
		if r, ok := known[i]; ok {
			if r.RawDiffID != raw.diffID {
				return nil, fmt.Errorf("layer %s: its diffID is %s, the config says %s", raw.digest, r.RawDiffID, raw.diffID)
			}
			layers = append(layers, new(newLayer(r, raw.digest)))
			v.ran(r.Days)
			continue
		}
		for ; n < e.BaseLayers+i; n++ {
			l := store.Layer{Descriptor: e.layers[n], DiffID: e.config.diffIDs[n]}
			if n >= e.BaseLayers {
				l = *layers[n-e.BaseLayers]
			}
			entries, err := w.in.entries(ctx, l)
			if err != nil {
				return nil, fmt.Errorf("layer %s: %w", l.Descriptor.Digest, err)
			}
			below.apply(entries)
		}
		p, err := w.plan(ctx, raw, below, i+1 == len(raws), v, e)
		if err != nil {
			return nil, atLine(fmt.Errorf("layer %s: %w", raw.digest, err), e.File, raw.line)
		}
		v.ran(p.days)
		n++
		if w.done[key] == nil {
			l := &store.Layer{}
			w.done[key] = l
			w.group.Go(func() (err error) {
				if *l, err = w.in.writeLayer(ctx, raw, p, i+1 < len(raws)); err != nil {
					return fmt.Errorf("layer %s: %w", raw.digest, err)
				}
				return nil
			})
		}
		layers = append(layers, w.done[key])
	}
	return layers, nil
}

// known returns the records of those raw layers, by index, whose canonical form the Store has: none of a second build,
// which must be made from its own content. The error is a *NotSentError if others are needed that were not sent. All of
// them are noted, so that one more export is enough.
func (w *layerWriter) known(ctx context.Context, raws []rawLayer, v *view) (map[int]store.Record, error) {
	known := map[int]store.Record{}
	if w.in.opts.Second {
		return known, nil
	}
	var missing error
	for i, raw := range raws {
		if r, ok := w.in.store.RawRecord(raw.digest, w.in.epoch, raw.under); ok && w.in.sound(ctx, r.Digest) && v.agrees(r) {
			known[i] = r
		} else if _, err := w.in.blobStore.Info(ctx, raw.digest); errdefs.IsNotFound(err) {
			missing = cmp.Or(missing, w.in.notSent(raw.digest, nil))
		}
	}
	return known, missing
}

// plan decides about a new layer over below, which it changes into the tree with the layer. Of the
// highest layer it reads only what below may have as well.
func (w *layerWriter) plan(ctx context.Context, raw rawLayer, below *tree, highest bool, v *view, e export) (*plan, error) {
	matcher := w.set.Matcher(raw.origin)
	s := scanner{epoch: w.in.epoch, clamp: w.in.epoch, rules: matcher, made: true, adds: raw.adds}
	if v != nil {
		s.below, s.view, s.clock, s.chosen, s.text = below, v, int64(e.Clock.Seconds()), v.chosen, quotable(raw.text+v.texts)
	}
	s.read = func(e *entry) bool {
		o := below.lookup(e.Name)
		return !highest || o != nil && o.Type == e.Type && o.Size == e.Size
	}
	var entries []entry
	scan := func() (err error) {
		return w.in.readRaw(ctx, raw, func(r *layer.Reader) error {
			s.days, s.archives = nil, nil
			entries, err = s.scan(r)
			return err
		})
	}
	if err := scan(); err != nil {
		return nil, err
	}
	// The first scan shows which files have other names.
	if linked := linkedBelow(entries, below); len(linked) > 0 {
		first := s.read
		s.read = func(e *entry) bool { return first(e) || linked[e.Name] }
		if err := scan(); err != nil {
			return nil, err
		}
	}
	p := below.plan(entries, w.in.epoch, w.set, matcher)
	p.days, p.archives = s.days, s.archives
	return p, nil
}

// agrees reports whether the archives of a layer are known by a digest in the image if they were when its record
// was written.
func (v *view) agrees(r store.Record) bool {
	for key, held := range r.Archives {
		if v == nil || v.held(key) != held {
			return false
		}
		if set, _, ok := readKey(key); ok && !held && v.kinds&^set != 0 {
			return false // a digest of another kind may have come
		}
	}
	return true
}

// ran notes the days on which a RUN of a layer ran.
func (v *view) ran(days []int64) {
	if v != nil {
		v.days = append(v.days, days...)
	}
}

// writeLayer writes a new layer according to its plan. If whole is set, the plan comes from reading all of
// its content, so that its entries can be kept for later builds.
func (in *Ingest) writeLayer(ctx context.Context, raw rawLayer, p *plan, whole bool) (store.Layer, error) {
	if in.opts.Second {
		var diffID digest.Digest
		err := in.readRaw(ctx, raw, func(src *layer.Reader) (err error) {
			diffID, err = p.canonicalise(nil, src)
			return err
		})
		if err != nil {
			return store.Layer{}, err
		}
		if r, ok := in.store.DiffRecord(diffID); ok && in.sound(ctx, r.Digest) {
			r.Normalised = p.normalised() // may differ although the result does not
			return newLayer(r, raw.digest), nil
		}
	}
	r, err := in.compressLayer(ctx, raw, p)
	if err != nil {
		return store.Layer{}, err
	}
	if err := in.adopt(ctx, r.Digest); err != nil {
		return store.Layer{}, err
	}
	r.Normalised, r.Days, r.Archives = p.normalised(), p.days, p.archives
	if err := in.draft.WriteRecord(r); err != nil {
		return store.Layer{}, err
	}
	// The raw layer of a second build never comes again, so there is nothing to remember.
	if !in.opts.Second {
		r.Raw, r.RawDiffID, r.RawSize, r.Epoch, r.Under = raw.digest, raw.diffID, raw.size, in.epoch.Unix(), raw.under
		if err := in.draft.WriteRecord(r); err != nil {
			return store.Layer{}, err
		}
		if whole {
			in.keepEntries(r.DiffID, p.kept)
		}
	}
	return newLayer(r, raw.digest), nil
}

// entries returns the entries of a layer of the base image or of the Store.
func (in *Ingest) entries(ctx context.Context, l store.Layer) ([]entry, error) {
	if listing, ok := in.store.Listing(l.DiffID); ok {
		if entries, ok := decodeEntries(listing); ok {
			return entries, nil
		}
	}
	r, err := store.OpenLayer(ctx, in, l)
	if err != nil {
		return nil, fmt.Errorf("read layer: %w", err)
	}
	defer r.Close()
	s := scanner{epoch: in.epoch, clamp: endOfTime, read: func(*entry) bool { return true }}
	entries, err := s.scan(r)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e entry) bool { return e.skip })
	in.keepEntries(l.DiffID, entries)
	return entries, nil
}

func decodeEntries(listing []byte) (entries []entry, ok bool) {
	return entries, gob.NewDecoder(bytes.NewReader(listing)).Decode(&entries) == nil
}

// keepEntries keeps the entries of a layer for later builds.
func (in *Ingest) keepEntries(diffID digest.Digest, entries []entry) {
	var b bytes.Buffer
	if gob.NewEncoder(&b).Encode(entries) == nil {
		in.draft.KeepListing(diffID, b.Bytes())
	}
}
