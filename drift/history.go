package drift

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kedge-build/kedge/internal/git"
)

// A History is what git has of a record, the oldest build first.
type History struct {
	Builds []Build
	Often  []Often // what has moved in more than one build, the most frequent first
	// Shallow says that the clone lacks older commits.
	Shallow bool
}

// A Build is a commit that changed the record.
type Build struct {
	Commit   string // in hex
	Time     time.Time
	Subject  string // of the commit
	Reason   string // of the record
	Digest   string
	Base     string
	Size     int64 // of the files, in bytes
	Download int64 // of the layers' blobs, in bytes
	Files    int
	Packages int
	Layers   []Layer
	Findings map[string]int // of lint, by rule
	// Moved says what differs from the build before, the largest first: packages, folders and layers. The first
	// build has none.
	Moved []Move
}

// A Move is something that differs between two builds that follow each other.
type Move struct {
	Kind  string // package, folder, layer or base
	Name  string
	From  string // the version of a package; empty for an added one
	To    string
	Bytes int64 // by which a folder or a layer has grown
}

// Often counts in how many builds something has moved.
type Often struct {
	Kind, Name string
	Builds     int
	// Rules counts those of the builds that came with findings of lint, by rule.
	Rules map[string]int
}

const (
	maxOften = 100 // entries of a history's list of what moves often
	maxMoves = 200 // moves of a build
	batch    = 50  // builds that are read from git at once
)

// A GitError says that git could not tell about a record.
type GitError struct {
	Dir string
	Err error
}

func (e *GitError) Error() string {
	return fmt.Sprintf("asking git about %q: %v", e.Dir, e.Err)
}

func (e *GitError) Unwrap() error { return e.Err }

// Log returns the history of the record in dir, of the last builds only if most is not 0. It follows the first
// parents of commits, so a merged branch is one build. It reads no lists of files. environ is what git runs in.
func Log(ctx context.Context, environ []string, dir string, most int) (*History, error) {
	h := &History{}
	args := []string{"log", "--first-parent", "--no-show-signature", "--format=%H %ct %s"}
	if most > 0 {
		args = append(args, "-n", strconv.Itoa(most))
	}
	// The folder may be gone, and git does not start in one that is not there.
	parent, name := filepath.Split(filepath.Clean(dir))
	parent = cmp.Or(parent, ".")
	image := filepath.ToSlash(filepath.Join(name, imageFile))
	out, err := git.Run(ctx, parent, environ, nil, append(args, "--", image)...)
	if err != nil {
		return nil, &GitError{dir, err}
	}
	shallow, err := git.Run(ctx, parent, environ, nil, "rev-parse", "--is-shallow-repository")
	if err != nil {
		return nil, &GitError{dir, err}
	}
	h.Shallow = strings.TrimSpace(string(shallow)) == "true"
	for line := range strings.Lines(string(out)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		seconds, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return nil, &GitError{dir, err}
		}
		h.Builds = append(h.Builds, Build{Commit: fields[0], Time: time.Unix(seconds, 0).UTC(), Subject: strings.ToValidUTF8(fields[2], "\uFFFD")})
	}
	slices.Reverse(h.Builds)
	var before *summary
	kept := h.Builds[:0]
	for builds := range slices.Chunk(h.Builds, batch) {
		summaries, err := summaries(ctx, environ, parent, name, builds)
		if err != nil {
			return nil, &GitError{dir, err}
		}
		for i, s := range summaries {
			if s == nil {
				continue // the commit removed the record, or it is damaged
			}
			b := builds[i]
			s.fill(&b)
			if before != nil {
				b.Moved = s.moves(before)
			}
			kept, before = append(kept, b), s
		}
	}
	h.Builds = kept
	h.Often = often(h.Builds)
	return h, nil
}

// A summary is a record without its files.
type summary struct {
	image    *document
	layers   []Layer
	packages []string
}

// summaries reads the records of some builds; nil stands for one that is not there.
func summaries(ctx context.Context, environ []string, dir, record string, builds []Build) ([]*summary, error) {
	var ask bytes.Buffer
	for _, b := range builds {
		for _, file := range []string{imageFile, packagesFile} {
			fmt.Fprintf(&ask, "%s:./%s/%s\n", b.Commit, record, file)
		}
	}
	out, err := git.Run(ctx, dir, environ, ask.Bytes(), "cat-file", "--batch")
	if err != nil {
		return nil, err
	}
	var texts [][]byte // nil for a file that is not there
	for len(out) > 0 {
		line, rest, _ := bytes.Cut(out, []byte("\n"))
		if bytes.HasSuffix(line, []byte(" missing")) {
			texts, out = append(texts, nil), rest
			continue
		}
		size, err := strconv.Atoi(string(line[bytes.LastIndexByte(line, ' ')+1:]))
		if err != nil || size < 0 || size >= len(rest) {
			return nil, fmt.Errorf("git cat-file says %.100q", line)
		}
		texts, out = append(texts, rest[:size:size]), rest[size+1:]
	}
	if len(texts) != 2*len(builds) {
		return nil, errors.New("git cat-file ended early")
	}
	list := make([]*summary, len(builds))
	for i := range builds {
		image, layers, err := parseImage(imageFile, texts[2*i])
		if err != nil || texts[2*i] == nil {
			continue
		}
		list[i] = &summary{image, layers, strings.Fields(string(texts[2*i+1]))}
	}
	return list, nil
}

func (s *summary) fill(b *Build) {
	b.Reason, b.Digest, b.Base, b.Layers = s.image.Reason, s.image.Digest, s.image.Base, s.layers
	b.Size, b.Download, b.Files, b.Packages = s.image.Size, s.image.Download, s.image.Files, s.image.Packages
	b.Findings = s.image.Findings
}

// moves returns what differs from the build before.
func (s *summary) moves(before *summary) []Move {
	var list []Move
	if a, b := before.image.Base, s.image.Base; a != b {
		list = append(list, Move{Kind: "base", Name: "base", From: a, To: b})
	}
	for _, p := range comparePackages(before.packages, s.packages) {
		list = append(list, Move{Kind: "package", Name: p.Kind + "/" + p.Name, From: p.First, To: p.Second})
	}
	var sized []Move
	grown := map[string]int64{}
	for folder, n := range s.image.Folders {
		grown[folder] += n
	}
	for folder, n := range before.image.Folders {
		grown[folder] -= n
	}
	for folder, n := range grown {
		if n != 0 {
			sized = append(sized, Move{Kind: "folder", Name: folder, Bytes: n})
		}
	}
	sized = append(sized, layerMoves(before.layers, s.layers)...)
	slices.SortFunc(sized, func(a, b Move) int {
		return cmp.Or(cmp.Compare(max(b.Bytes, -b.Bytes), max(a.Bytes, -a.Bytes)), cmp.Compare(a.Kind+a.Name, b.Kind+b.Name))
	})
	list = append(list, sized...)
	return list[:min(len(list), maxMoves)]
}

// layerMoves pairs layers by the instruction that made them, and those of one instruction by their order.
func layerMoves(before, now []Layer) []Move {
	type step struct {
		by string
		nr int
	}
	index := func(list []Layer) map[step]Layer {
		m := map[step]Layer{}
		seen := map[string]int{}
		for _, l := range list {
			m[step{l.By, seen[l.By]}] = l
			seen[l.By]++
		}
		return m
	}
	a, b := index(before), index(now)
	var list []Move
	for k, l := range b {
		old := a[k]
		if old.DiffID != l.DiffID {
			list = append(list, Move{Kind: "layer", Name: l.By, Bytes: l.Size - old.Size})
		}
		delete(a, k)
	}
	for k, l := range a {
		list = append(list, Move{Kind: "layer", Name: k.by, Bytes: -l.Size})
	}
	return list
}

// often counts the builds in which something has moved, if there are several.
func often(builds []Build) []Often {
	type thing struct{ kind, name string }
	counts := map[thing]*Often{}
	for i := range builds {
		seen := map[thing]bool{}
		for _, m := range builds[i].Moved {
			key := thing{m.Kind, m.Name}
			if seen[key] {
				continue
			}
			seen[key] = true
			if counts[key] == nil {
				counts[key] = &Often{Kind: m.Kind, Name: m.Name, Rules: map[string]int{}}
			}
			counts[key].Builds++
			for rule := range builds[i].Findings {
				counts[key].Rules[rule]++
			}
		}
	}
	var list []Often
	for _, o := range counts {
		if o.Builds > 1 {
			list = append(list, *o)
		}
	}
	slices.SortFunc(list, func(a, b Often) int {
		return cmp.Or(cmp.Compare(b.Builds, a.Builds), cmp.Compare(a.Kind+a.Name, b.Kind+b.Name))
	})
	return list[:min(len(list), maxOften)]
}

// Uncommitted returns the paths that differ from the last commit. A path outside of a checkout is never one of them.
// The error is a *GitError.
func Uncommitted(ctx context.Context, environ []string, paths ...string) (changed []string, err error) {
	for _, path := range paths {
		dir, name := filepath.Split(filepath.Clean(path))
		dir = cmp.Or(dir, ".")
		if !git.InCheckout(dir) {
			continue
		}
		out, err := git.Run(ctx, dir, environ, nil, "--literal-pathspecs", "status", "--porcelain", "--ignored", "--untracked-files=all", "--", name)
		if err != nil {
			return nil, &GitError{path, err}
		}
		if len(out) > 0 {
			changed = append(changed, path)
		}
	}
	return changed, nil
}

// LoadCommit reads the record that dir has in a commit. ok is false if git knows no such commit, or if that has no
// such record. A *GitError says that there is no git.
func LoadCommit(ctx context.Context, environ []string, dir, commit string) (r *Record, ok bool, err error) {
	parent, name := filepath.Split(filepath.Clean(dir))
	parent = cmp.Or(parent, ".")
	if strings.HasPrefix(commit, "-") {
		return nil, false, nil
	}
	out, err := git.Run(ctx, parent, environ, nil, "ls-tree", "-r", "-z", "--full-tree", "--name-only", commit+":./"+name)
	if errors.Is(err, exec.ErrNotFound) {
		return nil, false, &GitError{dir, err}
	}
	if err != nil {
		return nil, false, ctx.Err()
	}
	texts := map[string][]byte{}
	for file := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if texts[file], err = git.Run(ctx, parent, environ, nil, "cat-file", "blob", commit+":./"+name+"/"+file); err != nil {
			return nil, false, &GitError{dir, err}
		}
	}
	r, err = parse(commit+":"+name, texts)
	return r, err == nil, err
}
