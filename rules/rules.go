// Package rules says what stays out of new layers: a table of files that tools leave behind and that differ
// from build to build, the rewrites that give such files one form, and the one form of a tar header.
package rules

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
)

// Version names the bytes that kedge makes of a given raw layer: the forms, the rules, the tar writer and the
// compressor. Every change that moves a digest raises it, and cached results of an older version are not used.
const Version = 2

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

	// Never says what the rule leaves alone, one or two sentences. Version 1 has none.
	Never string

	// covers, if set, decides by the content of a file.
	covers func(content []byte, f Facts) bool

	// rewrite, if set, returns the canonical content. It must leave its own results unchanged. Without it the
	// change to the file is dropped.
	rewrite func(content []byte, f Facts) []byte

	// bond, if set, says which files of a layer belong together.
	bond func(content []byte, f Facts) Bond

	// name, if set, must match the path, too.
	name *regexp.Regexp

	beside  []string       // one of these must be in the same folder
	head    bool           // covers decides by the beginning of a file
	whole   bool           // it drops everything at and below its paths, also folders and links, whatever the content
	log     bool           // a change to what lower layers have is dropped only if it added to the end
	empties bool           // its rewrite loses what the file says
	choice  bool           // what it rewrites may have been chosen: a COPY that asks for it by name gets it as it is
	value   bool           // what it finds could also be a value from a file that a RUN mounted
	offline bool           // it leaves files alone in an image that is configured for use without a network
	private bool           // it drops a folder or file that the name rule knows only if others may not read it
	asked   *regexp.Regexp // words with which a Dockerfile asks for what the rule would drop
	spares  bool           // with one of those words, the rule leaves alone what it would rewrite, too

	run bool // version 1: only in layers that a RUN made, or a COPY from a stage that has one
}

// Facts are what a rewrite may need to know.
type Facts struct {
	Epoch int64 // seconds since 1970

	// Neutral asks for the form that two versions share if they differ only by what the rewrite removes.
	// Files are compared in this form.
	Neutral bool

	// Source is the time that a compiled file must name as that of its source; nil for other files.
	Source *uint32

	Name  string  // the path of the file, without a slash before it
	Made  int64   // when the file was written, in seconds since 1970
	Clock int64   // how far the clock of the RUN was ahead, in seconds
	Days  []int64 // the days since 1970 on which RUNs of the image ran
	// Linked says that a symbolic link of the image leads to the file.
	Linked bool
	// Asked says that the Dockerfile has one of the rule's words.
	Asked bool
	// Chosen reports whether a word stands in the Dockerfile, an argument or another file of the image. Nil
	// knows no word.
	Chosen func(word string) bool
}

// latest returns the latest time that a program of the RUN can have written into the file. A later one was chosen.
// A day allows for time zones. A file with an old time of its own says nothing about the RUN.
func (f Facts) latest() int64 {
	if f.Made <= f.Epoch {
		return math.MaxInt64
	}
	return f.Made + max(f.Clock, 0) + day
}

// ReadsContent reports whether the rule needs the content of a file.
func (r *Rule) ReadsContent() bool { return r.covers != nil || r.rewrite != nil }

// Covers reports whether the rule applies to a file with this content.
func (r *Rule) Covers(content []byte, f Facts) bool { return r.covers == nil || r.covers(content, f) }

// Drops reports whether the rule drops files; if not, it rewrites them.
func (r *Rule) Drops() bool { return r.rewrite == nil }

// Loses reports whether the rule takes away what a file says, and not only when it was written.
func (r *Rule) Loses() bool { return r.Drops() || r.empties }

// ByBeginning reports whether the first MaxBeginning bytes of a file suffice for the rule, which drops it.
func (r *Rule) ByBeginning() bool { return r.head }

// heeds reports whether the rule leaves everything alone if it is asked for it.
func (r *Rule) heeds() bool { return r.Drops() || r.spares }

// Beside returns names of files. The rule applies only to a file that has one of them beside it; nil means to any
// file.
func (r *Rule) Beside() []string { return r.beside }

// Bonds reports whether the rule drops only files that are out of date, and those that follow one; see Bond.
func (r *Rule) Bonds() bool { return r.bond != nil }

// Bond returns how a file that the rule covers depends on others.
func (r *Rule) Bond(content []byte, f Facts) Bond { return r.bond(content, f) }

// Whole reports whether the rule also drops folders and links.
func (r *Rule) Whole() bool { return r.whole }

// Chooses reports whether what the rule rewrites may have been chosen.
func (r *Rule) Chooses() bool { return r.choice }

// Grows reports whether the rule undoes only those changes to what lower layers have that add to the end of a file.
func (r *Rule) Grows() bool { return r.log }

// Rewrite returns the canonical content of a file.
func (r *Rule) Rewrite(content []byte, f Facts) []byte { return r.rewrite(content, f) }

// MaxRead is the size in bytes up to which rules read a file. They hold it in memory.
const MaxRead = 16 << 20

// MaxBeginning is the size in bytes of the beginning of a file by which some rules know larger ones.
const MaxBeginning = 64 << 10

// IDs of the rules that need more than one file to decide.
const (
	Repeats           = "repeats"
	WhiteoutOfNothing = "whiteout-of-nothing"
)

// ContextGit is the id of the rule for .git folders in build contexts, which package builder/gitdir follows.
const ContextGit = "context-git"

// lookup returns the rule with an id in the newest version that has it, or nil.
func lookup(id string) *Rule {
	for _, t := range [][]Rule{table, table1} {
		if i := slices.IndexFunc(t, func(r Rule) bool { return r.ID == id }); i >= 0 {
			return &t[i]
		}
	}
	return nil
}

// ids returns the id of every rule of every version, in the order of the tables.
func ids() []string {
	var all []string
	for _, r := range slices.Concat(table, table1) {
		if !slices.Contains(all, r.ID) {
			all = append(all, r.ID)
		}
	}
	return all
}

// Describe says what the rule with an id does and why it may; both are empty if there is no such rule.
func Describe(id string) (what, why string) {
	if r := lookup(id); r != nil {
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
			for _, id := range ids() {
				off[id] = true
			}
		case len(word) > 1 && (word[0] == '-' || word[0] == '+'):
			if lookup(word[1:]) == nil {
				return Set{}, fmt.Errorf("there is no normalisation rule %q", word[1:])
			}
			off[word[1:]] = word[0] == '-'
		default:
			return Set{}, fmt.Errorf("%q is not all, none, -RULE or +RULE", word)
		}
	}
	var set Set
	for _, id := range ids() { // one order, whatever the order of the words
		if off[id] {
			set.Off = append(set.Off, id)
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
	return slices.ContainsFunc(s.table(), func(r Rule) bool { return r.ID == id && s.enabled(&r) })
}

func (s Set) table() []Rule {
	if s.Version == 1 {
		return table1
	}
	return table
}

func (s Set) enabled(r *Rule) bool { return r.since <= s.Version && !slices.Contains(s.Off, r.ID) }
