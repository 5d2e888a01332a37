// Package rules says what stays out of new layers: a table of files that tools leave behind and that differ
// from build to build, the rewrites that give such files one form, and the one form of a tar header.
package rules

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/internal/layer"
)

// Version names the bytes that kedge makes of a given raw layer: the forms, the rules, the tar writer and the
// compressor. Every change that moves a digest raises it, and cached results of an older version are not used.
const Version = 1

// A Rule drops files that change from build to build and that no program needs, or rewrites a part of them.
type Rule struct {
	ID    string // lower-case words with dashes; never reused for another rule
	since int    // the Version that brought it
	What  string // what happens, one sentence
	Why   string // why nothing is lost, one sentence
	Link  string // where the format or the cause is described

	// paths are the files of the rule, in the syntax of path.Match for each part of a path; ~ stands for the
	// home directories. A pattern covers everything below its match as well, and only that if it ends in /**.
	paths []string

	// run limits the rule to layers made by a RUN, or by a COPY from a stage that has one. What other
	// instructions bring is an input, and a checksum elsewhere may cover it.
	run bool

	// is, if set, decides by the content of a file.
	is func(content []byte) bool

	// rewrite, if set, returns the canonical content. It must leave its own results unchanged. Without it the
	// change to the file is dropped.
	rewrite func(content []byte, f Facts) []byte
}

// Facts are what a rewrite may need to know.
type Facts struct {
	Epoch int64 // seconds since 1970

	// Neutral asks for the form that two versions share if they differ only by what the rewrite removes.
	// Files are compared in this form.
	Neutral bool

	// Source is the time that a compiled file must name as that of its source; nil for other files.
	Source *uint32
}

// ReadsContent reports whether the rule needs the content of a file.
func (r *Rule) ReadsContent() bool { return r.is != nil || r.rewrite != nil }

// Covers reports whether the rule applies to a file with this content.
func (r *Rule) Covers(content []byte) bool { return r.is == nil || r.is(content) }

// Drops reports whether the rule drops files; if not, it rewrites them.
func (r *Rule) Drops() bool { return r.rewrite == nil }

// Rewrite returns the canonical content of a file.
func (r *Rule) Rewrite(content []byte, f Facts) []byte { return r.rewrite(content, f) }

// MaxRead is the size in bytes up to which rules read a file. They hold it in memory.
const MaxRead = 16 << 20

// IDs of the rules that need more than one file to decide.
const (
	Repeats           = "repeats"
	WhiteoutOfNothing = "whiteout-of-nothing"
)

// Lookup returns the rule with an id, or nil.
func Lookup(id string) *Rule {
	i := slices.IndexFunc(table, func(r Rule) bool { return r.ID == id })
	if i < 0 {
		return nil
	}
	return &table[i]
}

// Describe says what the rule with an id does and why it may; both are empty if there is no such rule.
func Describe(id string) (what, why string) {
	if r := Lookup(id); r != nil {
		return r.What, r.Why
	}
	return "", ""
}

// A Set is a choice among the rules of a version. The zero value is every rule of the newest.
type Set struct {
	Version int      // 0 is the newest
	Off     []string // ids
}

// A VersionError says that a set needs rules of a later kedge.
type VersionError struct{ Version int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("normalisation rules of version %d: this kedge knows them up to %d", e.Version, Version)
}

// Parse reads a choice of rules: all, none, or a list of -ID and +ID separated by commas, in which the last word
// on a rule counts. The list may begin with all or none.
func Parse(s string) (Set, error) {
	off := map[string]bool{}
	for i, word := range strings.Split(s, ",") {
		switch {
		case word == "all" && i == 0:
		case word == "none" && i == 0:
			for _, r := range table {
				off[r.ID] = true
			}
		case len(word) > 1 && (word[0] == '-' || word[0] == '+'):
			if Lookup(word[1:]) == nil {
				return Set{}, fmt.Errorf("there is no normalisation rule %q", word[1:])
			}
			off[word[1:]] = word[0] == '-'
		default:
			return Set{}, fmt.Errorf("%q is not all, none, -RULE or +RULE", word)
		}
	}
	var set Set
	for _, r := range table { // one order, whatever the order of the words
		if off[r.ID] {
			set.Off = append(set.Off, r.ID)
		}
	}
	return set, nil
}

// Check returns s with its version filled in, or a *VersionError.
func (s Set) Check() (Set, error) {
	if s.Version == 0 {
		s.Version = Version
	}
	if s.Version < 0 || s.Version > Version {
		return Set{}, &VersionError{s.Version}
	}
	return s, nil
}

// Has reports whether the rule with this id is on.
func (s Set) Has(id string) bool {
	r := Lookup(id)
	return r != nil && s.on(r)
}

func (s Set) on(r *Rule) bool { return r.since <= s.Version && !slices.Contains(s.Off, r.ID) }

// A Matcher finds the rule that covers a path.
type Matcher struct {
	first map[string][]pattern // by the first part of a path
	later map[string][]pattern // by the part after a leading **
	any   []pattern            // patterns whose part after ** is itself a pattern
	keep  []pattern
}

// A pattern is a rule's path, in parts.
type pattern struct {
	rule  *Rule
	parts []string
}

// Matcher returns a matcher for the rules of s in one layer; run says that a RUN made the layer. No rule covers
// the paths that match keep.
func (s Set) Matcher(keep []string, run bool) *Matcher {
	m := &Matcher{first: map[string][]pattern{}, later: map[string][]pattern{}}
	for i := range table {
		if !s.on(&table[i]) || table[i].run && !run {
			continue
		}
		for _, glob := range table[i].paths {
			for _, parts := range expand(glob) {
				p := pattern{&table[i], parts}
				switch {
				case parts[0] != "**":
					m.first[parts[0]] = append(m.first[parts[0]], p)
				case strings.ContainsAny(parts[1], `*?[\`):
					m.any = append(m.any, p)
				default:
					m.later[parts[1]] = append(m.later[parts[1]], p)
				}
			}
		}
	}
	for _, glob := range keep {
		m.keep = append(m.keep, pattern{parts: strings.Split(layer.Clean(glob), "/")})
	}
	return m
}

// expand returns the parts of a glob, once for each kind of home directory.
func expand(glob string) [][]string {
	parts := strings.Split(glob, "/")
	if parts[0] != "~" {
		return [][]string{parts}
	}
	return [][]string{append([]string{"root"}, parts[1:]...), append([]string{"home", "*"}, parts[1:]...)}
}

// Find returns the rule that covers a path, which has no slashes around it, or nil.
func (m *Matcher) Find(name string) *Rule {
	parts := strings.Split(name, "/")
	r := firstMatch(m.first[parts[0]], parts)
	for i := 0; r == nil && i < len(parts); i++ {
		r = firstMatch(m.later[parts[i]], parts)
	}
	if r == nil {
		r = firstMatch(m.any, parts)
	}
	if r == nil || m.Keeps(name) {
		return nil
	}
	return r
}

func firstMatch(patterns []pattern, name []string) *Rule {
	for _, p := range patterns {
		if match(p.parts, name) {
			return p.rule
		}
	}
	return nil
}

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
