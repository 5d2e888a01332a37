package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/rules"
)

// An entry describes an entry of a layer in its canonical form. Fields are exported for encoding/gob.
type entry struct {
	Name         string // without slashes around it
	Type         byte
	Mode         int64
	UID, GID     int
	Size         int64
	Link         string
	Major, Minor int64
	Xattrs       string // sha256 of the extended attributes; empty for none
	Time         int64  // of modification, in seconds since 1970
	// Sum is the sha256 of the content of a file that was read. A file that a rule rewrites is hashed in
	// its rewritten form, a compiled Python file in a neutral one.
	Sum []byte
	// Source is the time of its source that a compiled Python file records.
	Source *uint32

	rawTime int64       // in the build
	rule    *rules.Rule // the rule that applies to the file, nil for none
	facts   rules.Facts // for the rule
	folder  bool        // whose content a rule may drop
	undo    bool        // the rule only added to what the layers below have
	bond    rules.Bond  // for the rule
	off     bool        // a compiled file that no rule rewrites
	skip    bool        // no file, but a global header
}

// repeats reports whether two entries differ in nothing but their times.
func (e *entry) repeats(o *entry) bool {
	if e.off || e.Type != o.Type || e.Mode != o.Mode || e.UID != o.UID || e.GID != o.GID || e.Link != o.Link ||
		e.Major != o.Major || e.Minor != o.Minor || e.Xattrs != o.Xattrs {
		return false
	}
	if e.Type != tar.TypeReg {
		return true
	}
	return e.Size == o.Size && len(e.Sum) > 0 && string(e.Sum) == string(o.Sum)
}

// endOfTime is an epoch later than every timestamp.
var endOfTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// A scanner reads the entries of layers.
type scanner struct {
	epoch time.Time      // of the image
	clamp time.Time      // the epoch for the layer's times
	rules *rules.Matcher // of the rules that apply; nil for none
	read  func(*entry) bool
	made  bool // the layer is new
	adds  bool // a COPY or ADD made it, which deletes nothing

	// For rules of version 2 and later; nil and zero for others.
	below   *tree
	view    *view
	chosen  func(string) bool
	clock   int64           // seconds
	text    string          // quotable, of the instructions behind the layer, and of the arguments
	private map[string]bool // by the name that a rule takes for a tool's: whether others may not read it

	days     []int64         // on which a RUN wrote accounts
	archives map[string]bool // see store.Record
}

// scan returns the entries of a layer in their order. It reads the files that read selects and those
// that a rule has to see.
func (s *scanner) scan(r *layer.Reader) ([]entry, error) {
	var entries []entry
	sum := sha256.New()
	buf := make([]byte, 64<<10)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read layer: %w", err)
		}
		if err := s.checkWhiteout(h); err != nil {
			return nil, err
		}
		rawTime := h.ModTime.Unix()
		if !rules.Canonicalise(h, s.clamp) {
			entries = append(entries, entry{skip: true})
			continue
		}
		e := entry{
			Name: layer.Clean(h.Name), Type: h.Typeflag, Mode: h.Mode, UID: h.Uid, GID: h.Gid, Size: h.Size, Link: h.Linkname,
			Major: h.Devmajor, Minor: h.Devminor, Xattrs: xattrSum(h), Time: h.ModTime.Unix(), rawTime: rawTime,
		}
		if e.Type == tar.TypeLink {
			e.Link = layer.Clean(e.Link)
		}
		if err := s.inspect(&e, r); err != nil {
			return nil, fmt.Errorf("read layer: entry %q: %w", h.Name, err)
		}
		if e.Type == tar.TypeReg && e.Sum == nil && s.read(&e) {
			sum.Reset()
			if _, err := io.CopyBuffer(sum, onlyReader{r}, buf); err != nil {
				return nil, fmt.Errorf("read layer: entry %q: %w", h.Name, err)
			}
			e.Sum = sum.Sum(nil)
		}
		entries = append(entries, e)
	}
}

// inspect finds the rule for an entry and reads the content if the rule depends on it. Files are compared
// by their rewritten content. A rewritten compiled Python file depends on other files, so it is compared
// in a form that does not.
func (s *scanner) inspect(e *entry, r io.Reader) error {
	if _, ok := layer.ParseWhiteout(e.Name); ok || s.rules == nil && !strings.HasSuffix(e.Name, ".pyc") {
		return nil
	}
	var found []*rules.Rule
	if s.rules != nil {
		found = s.rules.Find(e.Name)
	}
	if s.view != nil {
		found = s.narrow(e, found)
	}
	if len(found) > 0 && found[0].Whole() {
		e.rule = found[0]
		return nil
	}
	byContent, compiled := slices.ContainsFunc(found, (*rules.Rule).ReadsContent), strings.HasSuffix(e.Name, ".pyc")
	if !byContent {
		if len(found) > 0 {
			e.rule = found[0]
		}
		if !compiled {
			return nil
		}
	}
	if e.Type == tar.TypeReg && e.Size > rules.MaxRead && s.view != nil {
		return s.inspectLarge(e, found, r)
	}
	if e.Type != tar.TypeReg || e.Size > rules.MaxRead {
		return nil
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if byContent {
		s.choose(e, found, content, func() string {
			sums := newFileSums(s.view.kinds, e.Size)
			_, _ = sums.Write(content)
			return sums.key()
		})
	}
	if compiled {
		e.Source = rules.PycSourceTime(content)
	}
	switch {
	case e.Source != nil && e.rule != nil:
		neutral := e.facts
		neutral.Neutral = true
		content = e.rule.Rewrite(content, neutral)
	case e.Source != nil:
		content = rules.NeutralPyc(content)
		e.off = true
	case e.rule != nil && !e.rule.Drops():
		content = e.rule.Rewrite(content, e.facts)
	}
	e.Size = int64(len(content))
	sum := sha256.Sum256(content)
	e.Sum = sum[:]
	return nil
}

// inspectLarge finds the rule for a file whose beginning alone is held in memory.
func (s *scanner) inspectLarge(e *entry, found []*rules.Rule, r io.Reader) error {
	found = slices.DeleteFunc(slices.Clone(found), func(r *rules.Rule) bool {
		return !r.ByBeginning() || r.Grows() && s.below.lookup(e.Name) != nil
	})
	if len(found) == 0 {
		return nil
	}
	sum, sums := sha256.New(), newFileSums(s.view.kinds, e.Size)
	both := io.MultiWriter(sum, sums)
	head, err := io.ReadAll(io.TeeReader(io.LimitReader(r, rules.MaxBeginning), both))
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(both, onlyReader{r}, make([]byte, 256<<10)); err != nil {
		return err
	}
	e.Sum = sum.Sum(nil)
	if !s.below.sums[[sha256.Size]byte(e.Sum)] {
		s.choose(e, found, head, sums.key)
	}
	return nil
}

// choose sets the first rule that covers the content of a file, or its beginning. key is that of its digests.
func (s *scanner) choose(e *entry, found []*rules.Rule, content []byte, key func() string) {
	e.facts = rules.Facts{Epoch: s.epoch.Unix(), Name: e.Name}
	if s.view == nil {
		if found[0].Covers(content, e.facts) {
			e.rule = found[0]
		}
		return
	}
	sum := sha256.Sum256(content)
	if len(content) > 0 && (s.below.sums[sum] || quotes(s.text, content)) {
		return // it was there, or was moved, or stands in the Dockerfile
	}
	if e.Name == "etc/shadow" || e.Name == "etc/shadow-" {
		if s.rules.Copied() {
			s.days = append(s.days, rules.StageDays(s.epoch.Unix(), e.rawTime, s.clock)...)
		} else {
			s.days = append(s.days, rules.BuildDays(e.rawTime, s.clock)...)
		}
	}
	e.facts.Made, e.facts.Clock, e.facts.Chosen, e.facts.Linked = e.rawTime, s.clock, s.chosen, s.rules.Linked(e.Name)
	e.facts.Days = slices.Concat(s.view.days, s.days)
	for _, r := range found {
		part, ok := content, true
		o := s.below.lookup(e.Name)
		undo := o != nil && r.Grows()
		if undo {
			part, ok = grown(o, content)
		}
		e.facts.Asked = s.rules.Asked(r)
		unpacked := e.rawTime < s.epoch.Unix() && (r.Loses() || r.Chooses()) // it is older than the build
		if !ok || unpacked || !r.Covers(part, e.facts) || s.held(r, content, key, e.facts) {
			continue
		}
		e.rule, e.undo = r, undo
		if r.Bonds() {
			e.bond = r.Bond(part, e.facts)
		}
		return
	}
}

// grown returns what a file has more than one of the layers below, if it begins with all that that one has.
func grown(below *entry, content []byte) (more []byte, ok bool) {
	if below.Size > int64(len(content)) {
		return nil, false
	}
	sum := sha256.Sum256(content[:below.Size])
	return content[below.Size:], string(sum[:]) == string(below.Sum)
}

// held reports whether a rule would change a file although the image holds its digest, or a signature beside it. What
// becomes of a compiled file shows later.
func (s *scanner) held(r *rules.Rule, content []byte, key func() string, f rules.Facts) bool {
	if source := rules.PycSourceTime(content); !r.Drops() && (source == nil || int64(*source) <= f.Epoch) && bytes.Equal(content, r.Rewrite(content, f)) {
		return false
	}
	if s.archives == nil {
		s.archives = map[string]bool{}
	}
	keys := []string{key()}
	if rules.Archive(f.Name) {
		keys = append(keys, signedKey+f.Name, summedKey+path.Base(f.Name))
	}
	held := false
	for _, key := range keys {
		s.archives[key] = s.view.held(key)
		held = held || s.archives[key]
	}
	return held
}

// maxQuoted is the size in bytes up to which a file may stand in a Dockerfile.
const maxQuoted = 64 << 10

// escapes are what echo and printf make of a text.
var escapes = strings.NewReplacer(`\t`, "\t", `\n`, "\n", `\"`, `"`, `\\`, `\`)

// telling matches a line that is not in a Dockerfile by chance.
var telling = regexp.MustCompile(`.{6}|[A-Za-z]{3}`)

// quotable returns a text for quotes: as it is, and as echo and printf write it.
func quotable(text string) string { return text + "\n" + escapes.Replace(text) }

// quotes reports whether each line of a file stands in the quotable text of its instruction: echo, printf or a
// here-document wrote it. Comments and short lines say nothing of their own.
func quotes(text string, content []byte) bool {
	if len(content) > maxQuoted {
		return false
	}
	own := false
	for line := range bytes.Lines(content) {
		line = bytes.TrimSpace(line)
		if !strings.Contains(text, string(line)) {
			return false
		}
		own = own || telling.Match(line) && line[0] != '#'
	}
	return own
}

// narrow returns the rules that may touch an entry of this type over what the layers below have at its path.
func (s *scanner) narrow(e *entry, found []*rules.Rule) []*rules.Rule {
	below := s.below.lookup(e.Name)
	if e.Type == tar.TypeDir {
		e.folder = below == nil && slices.ContainsFunc(found, (*rules.Rule).Drops)
	}
	return slices.DeleteFunc(slices.Clone(found), func(r *rules.Rule) bool {
		switch {
		case r.Loses() && e.Xattrs != "":
			return true
		case r.Whole():
			return below != nil || s.readable(r, e) || r.OnlyFolder(e.Name) && e.Type != tar.TypeDir
		case e.Type != tar.TypeReg:
			return true
		case below == nil || !r.Loses():
			return false
		}
		return below.Type != e.Type || below.Mode != e.Mode || below.UID != e.UID || below.GID != e.GID || below.Xattrs != e.Xattrs
	})
}

// readable reports whether others may read a file or folder that a rule takes for a tool's only if it is private, or
// the layer does not have it.
func (s *scanner) readable(r *rules.Rule, e *entry) bool {
	name := r.Private(e.Name)
	if name == "" {
		return false
	}
	if name == e.Name {
		if s.private == nil {
			s.private = map[string]bool{}
		}
		s.private[name] = e.Mode&0o077 == 0
	}
	return !s.private[name]
}

// checkWhiteout refuses a file that is called like a whiteout: a layer with it would delete another file. A
// builder writes whiteouts without content and, but for folders, without permissions; a COPY needs none.
func (s *scanner) checkWhiteout(h *tar.Header) error {
	w, ok := layer.ParseWhiteout(layer.Clean(h.Name))
	if !s.made || !ok || h.Size == 0 && (h.Mode&0o7777 == 0 && !s.adds || w.Opaque) {
		return nil
	}
	return &WhiteoutError{Path: "/" + layer.Clean(h.Name)}
}

func xattrSum(h *tar.Header) string {
	b := sha256.New()
	any := false
	for k, v := range layer.Xattrs(h) {
		fmt.Fprintf(b, "%q=%q\n", k, v)
		any = true
	}
	if !any {
		return ""
	}
	return string(b.Sum(nil))
}

// A tree is the file system that layers result in.
type tree struct {
	layer.Overlay[*entry]
	sums map[[sha256.Size]byte]bool // of all files that were in a layer; only for rules of version 2 and later
}

// lookup returns the entry at a path, nil if there is none or no layer names the folder there.
func (t *tree) lookup(name string) *entry {
	if n := t.Lookup(name); n != nil {
		return n.Entry
	}
	return nil
}

// inodeOf returns the file with a path, nil if there is none. For a hard link it is the link's target.
func (t *tree) inodeOf(name string) *entry {
	if n := t.Lookup(name); n != nil {
		return n.File
	}
	return nil
}

// apply adds a canonical layer on top. It ignores entries that have no place in a file system, so that
// they never cause an entry of a later layer to be dropped.
func (t *tree) apply(entries []entry) {
	for i := range entries {
		if w, ok := layer.ParseWhiteout(entries[i].Name); ok {
			t.Hide(w)
		}
	}
	for i := range entries {
		e := &entries[i]
		if _, ok := layer.ParseWhiteout(e.Name); !ok && !e.skip {
			_ = t.Add(e.Name, e.Type, e.Link, e)
			if len(e.Sum) == sha256.Size && t.sums != nil {
				t.sums[[sha256.Size]byte(e.Sum)] = true
			}
		}
	}
}

// A plan says what to do with the entries of a layer, by index.
type plan struct {
	epoch   time.Time
	drop    map[int]string // the id of the rule
	time    map[int]int64  // modification time in seconds since 1970, if it changes
	rewrite map[int]change
	decided bool          // drop is complete
	kept    []entry       // the entries that stay
	touched map[int]touch // paths that a rule dropped or changed; complete once the layer is written

	days     []int64         // see store.Record
	archives map[string]bool // see store.Record
}

// A touch is a path that a rule dropped or changed.
type touch struct{ rule, path string }

// A change is a rewrite of a file's content.
type change struct {
	rule  *rules.Rule
	facts rules.Facts
}

// plan decides what to do with the entries of a new layer over t, and adds the layer to t.
func (t *tree) plan(entries []entry, epoch time.Time, set rules.Set, m *rules.Matcher) *plan {
	p := &plan{epoch: epoch, drop: map[int]string{}, time: map[int]int64{}, rewrite: map[int]change{}, touched: map[int]touch{}}
	whiteouts := set.Has(rules.WhiteoutOfNothing)
	t.spare(entries)
	spareFresh(entries)
	for i := range entries {
		if w, ok := layer.ParseWhiteout(entries[i].Name); ok && !t.Hide(w) && whiteouts && !m.Keeps(entries[i].Name) {
			p.drop[i] = rules.WhiteoutOfNothing
		} else if e := &entries[i]; !ok && e.rule != nil && (e.rule.Drops() || e.undo) {
			p.drop[i] = e.rule.ID
		}
	}
	p.keepNeeded(entries)
	p.dropEmptied(entries, t)
	index := indexed(entries)
	if set.Has(rules.Repeats) {
		p.dropRepeats(index, t, m)
	}
	p.decided = true
	p.keepStale(index, t)
	for i := range entries {
		if e := &entries[i]; e.Source != nil && e.rule != nil {
			e.Source = new(p.sourceOf(e, index, t).recorded(*e.Source, epoch.Unix()))
		}
	}
	for i, e := range entries {
		if _, ok := p.drop[i]; !ok && !e.skip {
			p.kept = append(p.kept, e)
		}
	}
	t.apply(p.kept)
	for i := range entries {
		e := &entries[i]
		if _, ok := p.drop[i]; ok || e.rule == nil || e.rule.Drops() || e.undo {
			continue
		}
		e.facts.Epoch, e.facts.Source = epoch.Unix(), e.Source
		p.rewrite[i] = change{e.rule, e.facts}
	}
	for i, id := range p.drop {
		p.touched[i] = touch{id, entries[i].Name}
	}
	return p
}

// spare takes back the rules of files that lack the company that the rule wants.
func (t *tree) spare(entries []entry) {
	wants := func(e *entry) bool { return e.rule != nil && e.rule.Beside() != nil }
	if !slices.ContainsFunc(entries, func(e entry) bool { return wants(&e) }) {
		return
	}
	index := indexed(entries)
	for i := range entries {
		e := &entries[i]
		if !wants(e) {
			continue
		}
		if !slices.ContainsFunc(e.rule.Beside(), func(name string) bool {
			name = path.Join(parent(e.Name), name)
			return index.lookup(name) != nil || t.lookup(name) != nil
		}) {
			e.rule = nil
		}
	}
}

// spareFresh takes back the rules of files with bonds that are neither out of date nor follow one that is.
func spareFresh(entries []entry) {
	follow := map[string][]*entry{} // by a name of what they follow
	var next []*entry
	for i := range entries {
		e := &entries[i]
		if e.rule == nil || !e.rule.Bonds() {
			continue
		}
		for _, name := range e.bond.Follows {
			follow[name] = append(follow[name], e)
		}
		if e.bond.Stale {
			next = append(next, e)
		}
	}
	stale := map[*entry]bool{}
	for len(next) > 0 {
		e := next[len(next)-1]
		next = next[:len(next)-1]
		if stale[e] {
			continue
		}
		stale[e] = true
		for _, name := range e.bond.Is {
			next = append(next, follow[name]...)
		}
	}
	for i := range entries {
		if e := &entries[i]; e.rule != nil && e.rule.Bonds() && !stale[e] {
			e.rule = nil
		}
	}
}

// normalised returns the paths that rules dropped or changed, sorted, by the id of the rule; nil if
// there are none.
func (p *plan) normalised() map[string][]string {
	var paths map[string][]string
	for _, t := range p.touched {
		if paths == nil {
			paths = map[string][]string{}
		}
		paths[t.rule] = append(paths[t.rule], t.path)
	}
	for _, names := range paths {
		slices.Sort(names)
	}
	return paths
}

// keepNeeded keeps an entry after all if an entry that stays needs it: the target of a hard link, or the
// folder of a file.
func (p *plan) keepNeeded(entries []entry) {
	needed := map[string]bool{}
	for i := len(entries) - 1; i >= 0; i-- {
		e := &entries[i]
		if _, ok := p.drop[i]; ok && !needed[e.Name] {
			continue
		}
		delete(p.drop, i)
		if e.Type == tar.TypeLink {
			needed[e.Link] = true
		}
		for dir := parent(e.Name); dir != "" && !needed[dir]; dir = parent(dir) {
			needed[dir] = true
		}
	}
}

// dropEmptied drops folders that rules have emptied, if they are new and have the owner of their parent
// folder, and a mode that programs give them unasked.
func (p *plan) dropEmptied(entries []entry, t *tree) {
	dropped, stays := map[string]string{}, map[string]bool{}
	folders := map[string]*entry{}
	for i := range entries {
		if entries[i].Type == tar.TypeDir {
			folders[entries[i].Name] = &entries[i]
		}
	}
	for i := len(entries) - 1; i >= 0; i-- {
		e := &entries[i]
		up := parent(e.Name)
		if id, ok := p.drop[i]; ok {
			if id != rules.WhiteoutOfNothing {
				dropped[up] = id
			}
			continue
		}
		outer := folders[up]
		if outer == nil {
			outer = t.lookup(up)
		}
		if id := dropped[e.Name]; e.folder && id != "" && !stays[e.Name] && outer != nil && outer.UID == e.UID && outer.GID == e.GID && (e.Mode == outer.Mode || e.Mode == 0o755 || e.Mode == 0o700) {
			p.drop[i], dropped[up] = id, id
			continue
		}
		stays[up] = true
	}
}

// dropRepeats drops entries that t has already. A folder stays if the layer has something below it,
// because a Docker Engine creates missing folders with its own mode, and that mode would hide the folder
// below. Such a folder keeps its time from t unless an entry was added to it or removed from it.
func (p *plan) dropRepeats(index layerIndex, t *tree, m *rules.Matcher) {
	entries := index.entries
	linked, moved, needed := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i := len(entries) - 1; i >= 0; i-- { // a folder comes before its files
		e := &entries[i]
		if _, ok := p.drop[i]; ok || e.skip {
			continue
		}
		below := t.lookup(e.Name)
		if e.Type == tar.TypeLink {
			if !linked[e.Name] && !index.twice[e.Name] && !m.Keeps(e.Name) && index.repeatsLinked(e, t) {
				p.drop[i] = rules.Repeats
				continue
			}
			linked[e.Link] = true // a file comes before its links
		}
		if below != nil && !index.twice[e.Name] && !m.Keeps(e.Name) && e.repeats(below) && !p.redated(e, below) && p.sameSource(e, below, index, t) {
			switch {
			case e.Type == tar.TypeDir && !needed[e.Name], e.Type != tar.TypeDir && e.Type != tar.TypeLink && !linked[e.Name]:
				p.drop[i] = rules.Repeats
				continue
			case e.Type == tar.TypeDir && !moved[e.Name]:
				e.Time = min(below.Time, p.epoch.Unix())
				p.time[i] = e.Time
			}
		}
		if below == nil {
			moved[parent(e.Name)] = true
		}
		needed[parent(e.Name)] = true
	}
}

// redated reports whether a step gave a file another time that is no time of the build, as touch -d does.
func (p *plan) redated(e, below *entry) bool {
	return e.Type == tar.TypeReg && e.rawTime < p.epoch.Unix() && e.rawTime != below.Time
}

// repeatsLinked reports whether a hard link leads to the same content that t has by that name. If a file
// gets another name, some snapshotters list all of its names, and an overlay only the new one.
func (l layerIndex) repeatsLinked(link *entry, t *tree) bool {
	file, below := l.lookup(link.Link), t.inodeOf(link.Name)
	return file != nil && below != nil && !l.twice[file.Name] && file.Type == tar.TypeReg && file.Source == nil && file.repeats(below)
}

// linkedBelow returns the names of files that the scan did not read, and that have a hard link by whose
// name below may have the same file.
func linkedBelow(entries []entry, below *tree) map[string]bool {
	names, files := map[string]bool{}, map[string]*entry{}
	for i := range entries {
		e := &entries[i]
		switch e.Type {
		case tar.TypeReg:
			files[e.Name] = e
		case tar.TypeLink:
			file, o := files[e.Link], below.inodeOf(e.Name)
			if file != nil && o != nil && file.Sum == nil && o.Type == tar.TypeReg && o.Size == file.Size {
				names[file.Name] = true
			}
		}
	}
	return names
}

// parent returns the folder of a path, "" for the root.
func parent(name string) string {
	if dir := path.Dir(name); dir != "." {
		return dir
	}
	return ""
}
