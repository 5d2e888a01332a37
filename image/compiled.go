package image

import (
	"archive/tar"
	"path"
	"strings"

	"github.com/kedge-build/kedge/internal/format/pyc"
)

// noSource is the time that a stale compiled file records for its source. With the epoch, Python would
// take the file for fresh, because the changed source has the epoch, too.
const noSource = 1<<32 - 1

// A source is the file that a compiled file was compiled from.
type source struct {
	there      bool
	here       bool  // the layer has an entry for it
	raw, final int64 // its time in the build and in the image
}

// sourceOf returns the source of a compiled file of a layer over t. It may be called before repeated
// entries are dropped.
func (p *plan) sourceOf(e *entry, layer layerIndex, t *tree) source {
	name := pyc.Source(e.Name)
	below := t.lookup(name)
	if i, here := layer.index[name]; here {
		above := &layer.entries[i]
		_, dropped := p.drop[i]
		if below != nil && (dropped || !p.decided && above.repeats(below)) {
			return source{there: true, here: true, raw: above.rawTime, final: below.Time}
		}
		return source{there: true, here: true, raw: above.rawTime, final: above.Time}
	}
	if below != nil {
		return source{there: true, raw: below.Time, final: below.Time}
	}
	return source{}
}

// A layerIndex finds the entries of a layer by name.
type layerIndex struct {
	entries []entry
	index   map[string]int  // the last entry with a name
	twice   map[string]bool // names with several entries
}

func indexed(entries []entry) layerIndex {
	layer := layerIndex{entries, make(map[string]int, len(entries)), map[string]bool{}}
	for i := range entries {
		if _, ok := layer.index[entries[i].Name]; ok {
			layer.twice[entries[i].Name] = true
		}
		layer.index[entries[i].Name] = i
	}
	return layer
}

func (l layerIndex) lookup(name string) *entry {
	if i, ok := l.index[name]; ok {
		return &l.entries[i]
	}
	return nil
}

// recorded returns the source time that a compiled file records in the image, if it is old in the build.
func (s source) recorded(old uint32, epoch int64) uint32 {
	switch late := int64(old) > epoch; {
	case !s.there && late:
		return uint32(epoch)
	case !s.there:
		return old
	case old == uint32(s.raw):
		return uint32(s.final)
	case !late && old != uint32(s.final):
		return old // stale
	case late && !s.here && s.final <= epoch:
		return uint32(s.final) // compiled by a later step than the one that wrote the source
	}
	return noSource
}

// sameSource reports whether a compiled file that repeats a lower one will record the same source time. It
// is true for files that are not compiled.
func (p *plan) sameSource(e, below *entry, layer layerIndex, t *tree) bool {
	return e.Source == nil || below.Source == nil || e.rule == nil ||
		p.sourceOf(e, layer, t).recorded(*e.Source, p.epoch.Unix()) == *below.Source
}

// keepStale changes the time of a source in the layer if a lower layer has a file compiled from an older
// version. Both versions may have the epoch and the same size, and then Python would take the compiled
// file for fresh.
func (p *plan) keepStale(layer layerIndex, t *tree) {
	compiled := map[string]map[string][]uint32{} // by folder and module
	for i := range layer.entries {
		e := &layer.entries[i]
		module, ok := strings.CutSuffix(path.Base(e.Name), ".py")
		if _, drop := p.drop[i]; drop || e.skip || !ok || e.Type != tar.TypeReg {
			continue
		}
		dir := parent(e.Name)
		if compiled[dir] == nil {
			compiled[dir] = compiledIn(dir, layer, t)
		}
		taken := map[int64]bool{}
		for _, time := range compiled[dir][module] {
			taken[int64(time)] = true
		}
		for taken[e.Time] {
			e.Time--
			p.time[i] = e.Time
		}
	}
}

// compiledIn returns the source times that the compiled files of a folder record, by module. It skips
// files that the layer compiles again.
func compiledIn(dir string, entries layerIndex, t *tree) map[string][]uint32 {
	times := map[string][]uint32{}
	for _, dir := range []string{dir, path.Join(dir, "__pycache__")} {
		node := t.Lookup(dir)
		if node == nil {
			continue
		}
		for base, child := range node.Children {
			if child.Entry == nil || child.Entry.Source == nil {
				continue
			}
			source := pyc.Source(child.Entry.Name)
			if again, from := entries.lookup(path.Join(dir, base)), entries.lookup(source); again != nil && (again.Source == nil || from == nil || *again.Source == uint32(from.rawTime)) {
				continue
			}
			module := strings.TrimSuffix(path.Base(source), ".py")
			times[module] = append(times[module], *child.Entry.Source)
		}
	}
	return times
}
