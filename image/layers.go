package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// A rawLayer is a layer as the builder made it. The diffID is what the config says of it.
type rawLayer struct {
	digest, diffID digest.Digest
	size           int64
	// under is a digest of what the canonical form depends on besides the layer and the epoch: the
	// layers below, which of them are the base image's, the rules, what they are to keep, and which
	// layers a RUN made.
	under digest.Digest
	keep  []string
	run   bool
}

// raws returns the new layers of an export, lowest first.
func (e export) raws(rules Rules) []rawLayer {
	var raws []rawLayer
	under := fmt.Sprintf("%d %q %q\n", rules.Version, rules.Off, e.config.diffIDs[:e.BaseLayers])
	for i := e.BaseLayers; i < len(e.layers); i++ {
		under += fmt.Sprintf("%q %v ", e.Keep[i], e.Run[i])
		raws = append(raws, rawLayer{
			digest: e.layers[i].Digest, diffID: e.config.diffIDs[i], size: e.layers[i].Size,
			under: digest.FromString(under), keep: e.Keep[i], run: e.Run[i],
		})
		under += string(e.config.diffIDs[i]) + "\n"
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
		// A second build is to be looked at, and not to be remembered.
		if !w.in.opts.Second {
			if r, ok := w.in.store.rawRecord(raw.digest, w.in.epoch, raw.under); ok && w.in.sound(ctx, r.Digest) {
				if r.RawDiffID != raw.diffID {
					return nil, fmt.Errorf("layer %s: its diffID is %s, the config says %s", raw.digest, r.RawDiffID, raw.diffID)
				}
				layers = append(layers, new(newLayer(r, raw.digest)))
				continue
			}
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

// plan decides about a new layer over below, which it changes into the tree with the layer. Of the
// highest layer it reads only what below may have as well.
func (w *layerWriter) plan(ctx context.Context, raw rawLayer, below *tree, highest bool) (*plan, error) {
	rules := w.rules.matcher(raw.keep, raw.run)
	s := scanner{epoch: w.in.epoch, clamp: w.in.epoch, rules: rules}
	s.read = func(e *entry) bool {
		o := below.lookup(e.Name)
		return !highest || o != nil && o.Type == e.Type && o.Size == e.Size
	}
	var entries []entry
	scan := func() error {
		return w.in.readRaw(ctx, raw, func(src io.Reader) error {
			src, release, err := decompress(src)
			if err != nil {
				return err
			}
			defer release()
			entries, err = s.scan(ctx, src)
			return err
		})
	}
	if err := scan(); err != nil {
		return nil, err
	}
	// Only now is it known which files have more names.
	if linked := linkedBelow(entries, below); len(linked) > 0 {
		first := s.read
		s.read = func(e *entry) bool { return first(e) || linked[e.Name] }
		if err := scan(); err != nil {
			return nil, err
		}
	}
	return below.plan(entries, w.in.epoch, w.rules, rules), nil
}

// writeLayer writes a new layer as it was planned. whole says that the plan is made from all of its
// content, so that what it holds is known for later builds.
func (in *Ingest) writeLayer(ctx context.Context, raw rawLayer, p *plan, whole bool) (Layer, error) {
	if in.opts.Second {
		var diffID digest.Digest
		err := in.readRaw(ctx, raw, func(src io.Reader) (err error) {
			diffID, err = p.canonicalise(ctx, nil, src, raw.diffID)
			return err
		})
		if err != nil {
			return Layer{}, err
		}
		if r, ok := in.store.readRecord(diffName(diffID)); ok && in.sound(ctx, r.Digest) {
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
	if !in.opts.Second {
		r.Raw, r.RawDiffID, r.RawSize, r.Epoch, r.Under = raw.digest, raw.diffID, raw.size, in.epoch.Unix(), raw.under
		if err := in.writeRecord(r); err != nil {
			return Layer{}, err
		}
		if whole {
			in.keepEntries(entriesName(r.DiffID), p.kept)
		}
	}
	return newLayer(r, raw.digest), nil
}

// entries returns what a layer of the base image, or one that the Store has, holds.
func (in *Ingest) entries(ctx context.Context, l Layer) ([]entry, error) {
	name := entriesName(l.DiffID)
	if entries, ok := in.store.readEntries(name); ok {
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
	verifier := l.DiffID.Verifier()
	src = io.TeeReader(src, verifier)
	s := scanner{epoch: in.epoch, clamp: endOfTime, read: func(*entry) bool { return true }}
	entries, err := s.scan(ctx, src)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, src); err != nil {
		return nil, fmt.Errorf("read layer: %w", err)
	}
	if !verifier.Verified() {
		return nil, fmt.Errorf("the layer's content does not have the diffID %s that its config names", l.DiffID)
	}
	entries = slices.DeleteFunc(entries, func(e entry) bool { return e.skip })
	in.keepEntries(name, entries)
	return entries, nil
}

// entriesName is the name of the file in layers with what a layer holds.
func entriesName(diffID digest.Digest) string {
	return fmt.Sprintf("entries-%s-%s-%d.gob", diffID.Algorithm(), diffID.Encoded(), recordVersion)
}

// readEntries returns what a layer holds, if that has been kept and is whole.
func (s *Store) readEntries(name string) (entries []entry, ok bool) {
	data, err := os.ReadFile(s.path(layersDir, name))
	if err != nil || len(data) < sha256.Size {
		return nil, false
	}
	sum, data := data[:sha256.Size], data[sha256.Size:]
	if got := sha256.Sum256(data); !bytes.Equal(sum, got[:]) {
		return nil, false
	}
	return entries, gob.NewDecoder(bytes.NewReader(data)).Decode(&entries) == nil
}

// keepEntries keeps for later builds what a layer holds. Where that fails, they read the layer.
func (in *Ingest) keepEntries(name string, entries []entry) {
	var b bytes.Buffer
	if gob.NewEncoder(&b).Encode(entries) != nil {
		return
	}
	sum := sha256.Sum256(b.Bytes())
	in.recordMu.Lock()
	defer in.recordMu.Unlock()
	_ = writeRename(filepath.Join(in.dir, name), in.store.path(layersDir, name), append(sum[:], b.Bytes()...))
}
