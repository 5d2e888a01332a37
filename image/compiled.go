package image

import (
	"archive/tar"
	"path"
	"strings"

	"github.com/kedge-build/kedge/internal/format/pyc"
)

// noSource is the time of no source: what is compiled from one that has changed since must not be
// taken for fresh because both have the epoch.
const noSource = 1<<32 - 1

// A source is the file that another was compiled from.
type source struct {
	there      bool
	here       bool  // the layer has an entry for it
	raw, final int64 // its time as the build had it, and as the image has it
}

// sourceOf returns the source of a compiled file of a layer, whose entries at has, over t. It may be
// asked before what repeats is dropped.
func (p *plan) sourceOf(e *entry, at layerIndex, t *tree) source {
	name := pyc.Source(e.Name)
	below := t.lookup(name)
	if i, here := at.index[name]; here {
		above := &at.entries[i]
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
	index   map[string]int  // the last of a name
	twice   map[string]bool // names of several
}

func indexed(entries []entry) layerIndex {
	at := layerIndex{entries, make(map[string]int, len(entries)), map[string]bool{}}
	for i := range entries {
		if _, ok := at.index[entries[i].Name]; ok {
			at.twice[entries[i].Name] = true
		}
		at.index[entries[i].Name] = i
	}
	return at
}

func (l layerIndex) lookup(name string) *entry {
	if i, ok := l.index[name]; ok {
		return &l.entries[i]
	}
	return nil
}

// now returns what a compiled file is to say of the time of its source, which it says is was.
func (s source) now(was uint32, epoch int64) uint32 {
	switch late := int64(was) > epoch; {
	case !s.there && late:
		return uint32(epoch)
	case !s.there:
		return was
	case was == uint32(s.raw):
		return uint32(s.final)
	case !late && was != uint32(s.final):
		return was // stale
	case late && !s.here && s.final <= epoch:
		return uint32(s.final) // compiled by a later step than that which wrote the source
	}
	return noSource
}

// sameSource reports whether a compiled file that repeats another will also name the same time of
// its source; it is true for other files.
func (p *plan) sameSource(e, below *entry, at layerIndex, t *tree) bool {
	return e.Source == nil || below.Source == nil || e.rule == nil ||
		p.sourceOf(e, at, t).now(*e.Source, p.epoch.Unix()) == *below.Source
}

// keepStale moves the time of a source that the layer has and that lower layers hold compiled, so that
// Python does not take the one for the other: both may have the epoch, and the size that Python looks at,
// too, may be the same.
func (p *plan) keepStale(at layerIndex, t *tree) {
	compiled := map[string]map[string][]uint32{} // by folder and module
	for i := range at.entries {
		e := &at.entries[i]
		module, ok := strings.CutSuffix(path.Base(e.Name), ".py")
		if _, drop := p.drop[i]; drop || e.skip || !ok || e.Type != tar.TypeReg {
			continue
		}
		dir := parent(e.Name)
		if compiled[dir] == nil {
			compiled[dir] = compiledIn(dir, at, t)
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

// compiledIn returns the times that the compiled files of a folder name, by module. Those that the
// layer makes anew are not among them.
func compiledIn(dir string, at layerIndex, t *tree) map[string][]uint32 {
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
			if anew, made := at.lookup(path.Join(dir, base)), at.lookup(source); anew != nil && (anew.Source == nil || made == nil || *anew.Source == uint32(made.rawTime)) {
				continue
			}
			module := strings.TrimSuffix(path.Base(source), ".py")
			times[module] = append(times[module], *child.Entry.Source)
		}
	}
	return times
}
