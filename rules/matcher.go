package rules

import (
	"iter"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/internal/layer"
)

// A Layer says how a layer came about, and what the image says about paths. Paths have no slash before them.
type Layer struct {
	// Run says that a RUN made it, or a COPY from a stage with a RUN.
	Run bool
	// Mounts says that the RUN could read files that no layer has to have: a value may come from there.
	Mounts bool
	// Copies are what a COPY took from such a stage; empty if a RUN made the layer.
	Copies []Copy
	// Inputs are the paths to which COPY and ADD brought files in that stage.
	Inputs []string
	Keep   []string // patterns of the paths that the user wants left alone
	// Named are paths that the image's configuration or a symbolic link names.
	Named []string
	// Volumes are the paths of the image's volumes.
	Volumes []string
	// Asked are the ids of the rules with a word of the Dockerfile, or whose files the image is configured to need; see Asked.
	Asked []string
}

// A Copy is one source of a COPY, which may be a pattern, and its target: a file, or the folder that it goes
// into. Both have no slashes around them; the root is empty.
type Copy struct{ From, To string }

// sources returns the paths that a file may have had in the stage that it was copied from.
func (c Copy) sources(name string) []string {
	switch {
	case name == c.To:
		return []string{c.From}
	case below(name, c.To):
		rest := strings.TrimPrefix(strings.TrimPrefix(name, c.To), "/")
		return []string{path.Join(c.From, rest), path.Join(path.Dir(c.From), rest)}
	}
	return nil
}

// named returns the path that a COPY asked for on the way to a source: of a pattern, what it matched, or the folder that it
// takes everything of.
func (c Copy) named(source string) string {
	if !strings.ContainsAny(c.From, `*?[\`) {
		return c.From
	}
	parts, n := strings.Split(source, "/"), strings.Count(c.From, "/")+1
	if n > len(parts) {
		return c.From
	}
	if strings.Trim(path.Base(c.From), "*") == "" {
		n--
	}
	return path.Join(parts[:n]...)
}

// below reports whether a path is below a folder.
func below(name, folder string) bool { return folder == "" || strings.HasPrefix(name, folder+"/") }

// A Matcher finds the rules that may apply to a path of one layer.
type Matcher struct {
	index
	layer   Layer
	version int
	keep    []pattern
	named   [][]string
}

// A pattern is a rule's path, in parts.
type pattern struct {
	rule  *Rule
	parts []string
}

// An index finds the patterns of rules that match a path.
type index struct {
	first map[string][]pattern // by the first part of a path
	later map[string][]pattern // by the part after a leading **
	any   []pattern            // patterns whose part after ** is itself a pattern
}

// newIndex returns an index of those rules of a table that are wanted.
func newIndex(table []Rule, wanted func(*Rule) bool) index {
	x := index{first: map[string][]pattern{}, later: map[string][]pattern{}}
	for i := range table {
		if r := &table[i]; wanted(r) {
			x.add(r)
		}
	}
	return x
}

// has reports whether a pattern matches a path.
func (x *index) has(name string) bool {
	for range x.matching(name) {
		return true
	}
	return false
}

func (x *index) add(r *Rule) {
	for _, parts := range split(r.paths) {
		p := pattern{r, parts}
		switch {
		case parts[0] != "**":
			x.first[parts[0]] = append(x.first[parts[0]], p)
		case strings.ContainsAny(parts[1], `*?[\`):
			x.any = append(x.any, p)
		default:
			x.later[parts[1]] = append(x.later[parts[1]], p)
		}
	}
}

// matching returns the patterns that match a path. One can come twice.
func (x *index) matching(name string) iter.Seq[pattern] {
	return func(yield func(pattern) bool) {
		parts := strings.Split(name, "/")
		try := func(patterns []pattern) bool {
			for _, p := range patterns {
				if match(p.parts, parts) && !yield(p) {
					return false
				}
			}
			return true
		}
		if !try(x.first[parts[0]]) {
			return
		}
		for _, part := range parts {
			if !try(x.later[part]) {
				return
			}
		}
		try(x.any)
	}
}

// Matcher returns a matcher for the rules of s in a layer.
func (s Set) Matcher(l Layer) *Matcher {
	m := &Matcher{layer: l, version: s.Version}
	m.index = newIndex(s.table(), func(r *Rule) bool { return s.enabled(r) && (l.Run || s.Version == 1 && !r.run) })
	for _, glob := range l.Keep {
		m.keep = append(m.keep, pattern{parts: strings.Split(layer.Clean(glob), "/")})
	}
	for _, name := range l.Named {
		m.named = append(m.named, strings.Split(name, "/"))
	}
	return m
}

// split returns the parts of each path of a rule, once for each kind of home directory.
func split(paths []string) [][]string {
	var all [][]string
	for _, glob := range paths {
		parts := strings.Split(glob, "/")
		if parts[0] != "~" {
			all = append(all, parts)
			continue
		}
		all = append(all, append([]string{"root"}, parts[1:]...), append([]string{"home", "*"}, parts[1:]...))
	}
	return all
}

// Find returns the rules that may apply to a path, which has no slashes around it; the first that covers the
// content does.
func (m *Matcher) Find(name string) []*Rule {
	var found []*Rule
	for p := range m.matching(name) {
		if m.version == 1 || !slices.Contains(found, p.rule) && m.allows(p, name) {
			found = append(found, p.rule)
		}
	}
	switch {
	case len(found) == 0 || m.Keeps(name):
		return nil
	case m.version == 1:
		return found[:1]
	}
	return found
}

// allows reports whether a rule may touch a path that its pattern matches: if it loses something, neither the
// image nor the one who copied it must have asked for it.
func (m *Matcher) allows(p pattern, name string) bool {
	if p.rule.name != nil && !p.rule.name.MatchString(name) {
		return false
	}
	if m.brought(name) || p.rule.value && m.layer.Mounts || p.rule.heeds() && slices.Contains(m.layer.Asked, p.rule.ID) {
		return false
	}
	if p.rule.choice && len(m.layer.Copies) > 0 {
		return m.madeWhereCopied(p, name)
	}
	if !p.rule.Loses() {
		return true
	}
	if slices.ContainsFunc(m.layer.Volumes, func(v string) bool { return name == v || below(name, v) }) {
		return false
	}
	for i, named := range m.layer.Named {
		parts := m.named[i]
		if rest, ok := strings.CutPrefix(named, "~/"); ok {
			named = home.FindString(name) + rest
			parts = strings.Split(named, "/")
		}
		if asksFor(parts, p.parts) && (name == named || below(name, named) || below(named, name) || match(parts, strings.Split(name, "/"))) {
			return false
		}
	}
	return len(m.layer.Copies) == 0 || m.madeWhereCopied(p, name)
}

// home is the home folder that a path is in.
var home = regexp.MustCompile(`^(?:root|home/[^/]+)/`)

// inRoot returns a path that begins with ~ as root has it.
func inRoot(name string) string {
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		return "root/" + rest
	}
	return name
}

// brought reports whether a COPY or ADD brought the very file to the stage that it was copied from.
func (m *Matcher) brought(name string) bool {
	return slices.ContainsFunc(m.layer.Copies, func(c Copy) bool {
		return slices.ContainsFunc(c.sources(name), func(source string) bool { return slices.Contains(m.layer.Inputs, source) })
	})
}

// madeWhereCopied reports whether the stage that a COPY took a file from had it where the tool of the rule writes
// it, and the COPY asked for a folder far above.
func (m *Matcher) madeWhereCopied(p pattern, name string) bool {
	for _, c := range m.layer.Copies {
		sources := c.sources(name)
		if len(sources) == 0 {
			continue
		}
		if slices.ContainsFunc(sources, func(source string) bool {
			from := strings.Split(c.named(source), "/")
			return asksFor(from, p.parts) || slices.ContainsFunc(caches, func(c []string) bool { return len(c) == len(from) && match(c, from) })
		}) {
			return false
		}
		there := slices.ContainsFunc(sources, func(source string) bool { return p.rule.matches(source) })
		asked := slices.ContainsFunc(m.layer.Inputs, func(input string) bool {
			return asksFor(strings.Split(input, "/"), p.parts) && slices.ContainsFunc(sources, func(source string) bool {
				return source == input || below(source, input)
			})
		})
		if there && !asked {
			return true
		}
	}
	return false
}

// matches reports whether a path is one of the rule's.
func (r *Rule) matches(name string) bool {
	parts := strings.Split(name, "/")
	return slices.ContainsFunc(split(r.paths), func(p []string) bool { return match(p, parts) })
}

// shared are folders that many programs use: a path that names one asks for none of the rules' files.
var shared = split([]string{"*", "home/*", "~/.cache", "~/.config", "~/.local", "~/.local/share", "var/*", "usr/*", "usr/local/*", "usr/share/*"})

// caches are those of the shared folders that hold nothing else: a COPY of one asks for what is in it.
var caches = split([]string{"~/.cache", "var/cache", "var/log"})

// asksFor reports whether a path that a person named is one of a rule's, below one, or the folder of the tool.
func asksFor(name, pattern []string) bool {
	if pattern[len(pattern)-1] == "**" {
		pattern = pattern[:len(pattern)-1]
	}
	if match(pattern, name) {
		return true
	}
	if slices.Contains(pattern, "**") || len(name) >= len(pattern) || !match(pattern[:len(name)], name) {
		return false
	}
	return !slices.ContainsFunc(shared, func(p []string) bool { return len(p) == len(name) && match(p, name) })
}

var (
	losing   = newIndex(table, (*Rule).Loses)
	known    = newIndex(table, func(*Rule) bool { return true })
	archives = newIndex(table, func(r *Rule) bool { return r.ID == "gzip-header" || r.ID == "zip-header" })
	// concerned are the patterns of the rules that heed what an image names.
	concerned = func() [][]string {
		var all [][]string
		for _, r := range table {
			if r.Loses() || r.ID == "machine-id" {
				all = append(all, split(r.paths)...)
			}
		}
		return all
	}()
)

// Concerns reports whether it matters to a rule of version 2 or later that the image names a path.
func Concerns(name string) bool {
	parts := strings.Split(inRoot(name), "/")
	return slices.ContainsFunc(concerned, func(p []string) bool { return asksFor(parts, p) })
}

// Loses reports whether a rule of version 2 or later may drop or empty a path.
func Loses(name string) bool {
	name = inRoot(name)
	for p := range losing.matching(name) {
		if p.rule.name == nil || p.rule.name.MatchString(name) {
			return true
		}
	}
	return false
}

// Leads reports whether a folder is above a path that a rule of version 2 or later may drop or empty.
func Leads(folder string) bool {
	parts := strings.Split(folder, "/")
	return slices.ContainsFunc(concerned, func(p []string) bool {
		return len(parts) < len(p) && !slices.Contains(p[:len(parts)], "**") && match(p[:len(parts)], parts)
	})
}

// fixed are the paths without a pattern of the rules that lose something.
var fixed = func() []string {
	var all []string
	for _, r := range table {
		if r.Loses() {
			all = append(all, slices.DeleteFunc(slices.Clone(r.paths), func(p string) bool { return strings.Contains(p, "*") })...)
		}
	}
	return all
}()

// Picked returns the paths that a pattern of a shell matches, of those rules that lose something. One that takes all
// of a folder picks none.
func Picked(glob string) []string {
	if strings.Trim(path.Base(glob), "*") == "" {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(fixed), func(p string) bool {
		ok, err := path.Match(glob, p)
		return !ok || err != nil
	})
}

// ByName returns the paths that a text names by the name of the file, of those rules that lose something, if it names the
// folder, too.
func ByName(text string) []string {
	return slices.DeleteFunc(slices.Clone(fixed), func(p string) bool {
		dir, base := path.Split(p)
		return !strings.Contains(base, ".") || !strings.Contains(text, base) || !strings.Contains(text, path.Join("/", strings.TrimPrefix(dir, "~"))) || !bare(text, base)
	})
}

// bare reports whether a text has a name that is a word by itself.
func bare(text, name string) bool {
	return slices.Contains(strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\n;,&|\"'`()<>={}[]", r) }), name)
}

// Copied reports whether a COPY took the layer from a stage.
func (m *Matcher) Copied() bool { return len(m.layer.Copies) > 0 }

// offline are words of a configuration that needs its caches.
var offline = regexp.MustCompile(`(?i)[\w-]*(?:offline|no[-_]index|ccache)`)

// isOffline reports whether a configuration has one of these words, which are no preference.
func isOffline(configuration string) bool {
	return slices.ContainsFunc(offline.FindAllString(configuration, -1), func(word string) bool { return !strings.Contains(strings.ToLower(word), "prefer") })
}

// Asked returns the ids of the rules whose files a Dockerfile asks for by one of the rules' words, or that an image
// with such a configuration needs.
func Asked(dockerfile, configuration string) []string {
	var ids []string
	for _, r := range table {
		if r.asked != nil && r.asked.MatchString(dockerfile) || r.offline && isOffline(configuration) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// AskedByScript returns the ids of the rules that leave everything alone because of a word in a script.
func AskedByScript(script string) []string {
	var ids []string
	for _, r := range table {
		if r.asked != nil && r.heeds() && r.asked.MatchString(script) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// Asked reports whether the Dockerfile has one of a rule's words.
func (m *Matcher) Asked(r *Rule) bool { return slices.Contains(m.layer.Asked, r.ID) }

// Known reports whether a path is one of a rule of version 2 or later.
func Known(name string) bool { return known.has(name) }

// Archive reports whether a rule knows a path as that of an archive, by its ending.
func Archive(name string) bool { return archives.has(name) }

// Private returns the part of a path that a rule takes for a tool's only if it is private; empty for none.
func (r *Rule) Private(name string) string {
	if !r.private {
		return ""
	}
	return tmpPrivate.FindString(name)
}

// OnlyFolder reports whether tools have only folders by a name that the rule knows.
func (r *Rule) OnlyFolder(name string) bool { return r.private && tmpFolders.MatchString(name) }

// Linked reports whether the image names a path.
func (m *Matcher) Linked(name string) bool { return slices.Contains(m.layer.Named, name) }

// Keeps reports whether the user asked for a path to be left alone.
func (m *Matcher) Keeps(name string) bool {
	return len(m.keep) > 0 && slices.ContainsFunc(m.keep, func(k pattern) bool { return match(k.parts, strings.Split(name, "/")) })
}

// match reports whether a pattern covers a path.
func match(pattern, name []string) bool {
	for i, p := range pattern {
		if p == "**" {
			rest := pattern[i+1:]
			if len(rest) == 0 {
				return len(name) > i
			}
			for j := i; j < len(name); j++ {
				if match(rest, name[j:]) {
					return true
				}
			}
			return false
		}
		if i >= len(name) {
			return false
		}
		if ok, err := path.Match(p, name[i]); !ok || err != nil {
			return false
		}
	}
	return true
}
