package image

import (
	"bufio"
	"bytes"
	"context"
	"encoding/gob"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// A rawLayer is a layer as the builder made it. The diffID is what the config says of it.
type rawLayer struct {
	digest, diffID digest.Digest
	size           int64
	// under says what the canonical form depends on besides the layer and the epoch: the layers
	// below, the rules, and what they are to keep.
	under digest.Digest
	keep  []string
}

// raws returns the new layers of an export, lowest first.
func (e export) raws(rules Rules) []rawLayer {
	var raws []rawLayer
	for i := e.BaseLayers; i < len(e.layers); i++ {
		under := digest.FromString(fmt.Sprintf("%d %q %q %q", rules.Version, rules.Off, e.Keep[i], e.config.diffIDs[:i]))
		raws = append(raws, rawLayer{
			digest: e.layers[i].Digest, diffID: e.config.diffIDs[i], size: e.layers[i].Size, under: under, keep: e.Keep[i],
		})
	}
	return raws
}

// writeLayers returns the canonical layers of each export, lowest first.
func (in *Ingest) writeLayers(ctx context.Context, exports []export, rules Rules) ([][]Layer, error) {
	w := &layerWriter{in: in, rules: rules, done: map[string]*Layer{}}
	w.group, ctx = errgroup.WithContext(ctx)
	w.group.SetLimit(min(runtime.GOMAXPROCS(0), maxLayers))
	layers := make([][]*Layer, len(exports))
	var err error
	for i, e := range exports {
		if layers[i], err = w.export(ctx, e); err != nil {
			break
		}
	}
	// What is under way has failed first, if it has.
	if gerr := w.group.Wait(); gerr != nil {
		return nil, gerr
	}
	if err != nil {
		return nil, err
	}
	out := make([][]Layer, len(exports))
	for i := range layers {
		for _, l := range layers[i] {
			out[i] = append(out[i], *l)
		}
	}
	return out, nil
}

// A layerWriter writes layers side by side. What is to become of each it decides one after the other.
type layerWriter struct {
	in    *Ingest
	rules Rules
	group *errgroup.Group
	done  map[string]*Layer // by the raw layer and what is under it; complete when the group is
}

// export begins to write the new layers of an export.
func (w *layerWriter) export(ctx context.Context, e export) ([]*Layer, error) {
	var layers []*Layer
	below, n := &tree{}, 0 // what the lowest n layers hold together
	raws := e.raws(w.rules)
	for i, raw := range raws {
		key := raw.digest.String() + raw.under.String()
		if r, ok := w.in.store.rawRecord(raw.digest, w.in.epoch, raw.under); ok {
			if r.RawDiffID != raw.diffID {
				return nil, fmt.Errorf("layer %s: its diffID is %s, the config says %s", raw.digest, r.RawDiffID, raw.diffID)
			}
			layers = append(layers, new(newLayer(r, raw.digest)))
			continue
		}
		for ; n < e.BaseLayers+i; n++ {
			l := Layer{Descriptor: e.layers[n], DiffID: e.config.diffIDs[n]}
			if n >= e.BaseLayers {
				l = *layers[n-e.BaseLayers]
			}
			entries, err := w.in.entries(ctx, l)
			if err != nil {
				return nil, fmt.Errorf("layer %s: %w", l.Descriptor.Digest, err)
			}
			below.apply(entries)
		}
		p, err := w.plan(ctx, raw, below, i+1 == len(raws))
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", raw.digest, err)
		}
		n++
		if w.done[key] == nil {
			l := &Layer{}
			w.done[key] = l
			w.group.Go(func() (err error) {
				if *l, err = w.in.writeLayer(ctx, raw, p); err != nil {
					return fmt.Errorf("layer %s: %w", raw.digest, err)
				}
				return nil
			})
		}
		layers = append(layers, w.done[key])
	}
	return layers, nil
}

// plan decides about a new layer over below, which it changes into the tree with the layer. Of the
// highest layer it reads only what below may have as well.
func (w *layerWriter) plan(ctx context.Context, raw rawLayer, below *tree, highest bool) (*plan, error) {
	s := scanner{epoch: w.in.epoch, clamp: w.in.epoch, rules: w.rules.matcher(raw.keep), all: Rules{Version: w.rules.Version}.matcher(nil)}
	s.read = func(e *entry) bool {
		o := below.lookup(e.Name)
		return !highest || o != nil && o.Type == e.Type && o.Size == e.Size
	}
	var entries []entry
	err := w.in.readRaw(ctx, raw, func(src io.Reader) error {
		src, release, err := decompress(src)
		if err != nil {
			return err
		}
		defer release()
		entries, err = s.scan(ctx, src)
		return err
	})
	if err != nil {
		return nil, err
	}
	p := below.plan(entries, w.in.epoch, w.rules)
	if !highest {
		p.kept = kept(entries, p)
	}
	return p, nil
}

func kept(entries []entry, p *plan) []entry {
	var kept []entry
	for i, e := range entries {
		if _, ok := p.drop[i]; !ok && !e.skip {
			kept = append(kept, e)
		}
	}
	return kept
}

// writeLayer writes a new layer as it was planned.
func (in *Ingest) writeLayer(ctx context.Context, raw rawLayer, p *plan) (Layer, error) {
	if in.second {
		var diffID digest.Digest
		err := in.readRaw(ctx, raw, func(src io.Reader) (err error) {
			diffID, err = p.canonicalise(ctx, io.Discard, src, raw.diffID)
			return err
		})
		if err != nil {
			return Layer{}, err
		}
		if r, ok := in.store.readRecord(diffName(diffID)); ok {
			r.Normalised = p.normalised() // which may differ where the result does not
			return newLayer(r, raw.digest), nil
		}
	}
	r, err := in.compressLayer(ctx, raw, p)
	if err != nil {
		return Layer{}, err
	}
	if err := in.adopt(ctx, r.Digest); err != nil {
		return Layer{}, err
	}
	r.Normalised = p.normalised()
	if err := in.writeRecord(r); err != nil {
		return Layer{}, err
	}
	// A raw layer that is only compared is not seen again, so there is nothing to remember.
	if !in.second {
		r.Raw, r.RawDiffID, r.RawSize, r.Epoch, r.Under = raw.digest, raw.diffID, raw.size, in.epoch.Unix(), raw.under
		if err := in.writeRecord(r); err != nil {
			return Layer{}, err
		}
		if p.kept != nil {
			in.keepEntries(r.DiffID, p.kept)
		}
	}
	return newLayer(r, raw.digest), nil
}

// entries returns what a layer of the base image, or one that the Store has, holds.
func (in *Ingest) entries(ctx context.Context, l Layer) ([]entry, error) {
	if entries, err := in.store.readEntries(in.entriesName(l.DiffID)); err == nil {
		return entries, nil
	}
	ra, err := in.ReaderAt(ctx, ocispec.Descriptor{Digest: l.Descriptor.Digest})
	if err != nil {
		return nil, err
	}
	defer ra.Close()
	src, release, err := decompress(interruptible(ctx, content.NewReader(ra)))
	if err != nil {
		return nil, fmt.Errorf("read layer: %w", err)
	}
	defer release()
	s := scanner{epoch: in.epoch, clamp: endOfTime, all: Rules{Version: RulesVersion}.matcher(nil), read: func(*entry) bool { return true }}
	entries, err := s.scan(ctx, src)
	if err != nil {
		return nil, err
	}
	in.keepEntries(l.DiffID, entries)
	return entries, nil
}

// entriesName is the name of the file in layers with what a layer holds. It depends on the epoch
// because the sums of some files do.
func (in *Ingest) entriesName(diffID digest.Digest) string {
	return fmt.Sprintf("entries-%s-%s-%d-%d.gob", diffID.Algorithm(), diffID.Encoded(), in.epoch.Unix(), RulesVersion)
}

func (s *Store) readEntries(name string) (entries []entry, err error) {
	f, err := os.Open(s.path(layersDir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return entries, gob.NewDecoder(bufio.NewReader(f)).Decode(&entries)
}

// keepEntries saves work for later builds. Where it fails, they do the work.
func (in *Ingest) keepEntries(diffID digest.Digest, entries []entry) {
	var b bytes.Buffer
	if gob.NewEncoder(&b).Encode(entries) != nil {
		return
	}
	in.recordMu.Lock()
	defer in.recordMu.Unlock()
	name := in.entriesName(diffID)
	_ = writeRename(filepath.Join(in.dir, name), in.store.path(layersDir, name), b.Bytes())
}
