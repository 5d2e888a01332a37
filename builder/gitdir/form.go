package gitdir

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/internal/format/gitindex"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// repo is a .git folder. Paths are those in the context, with slashes.
type repo struct {
	entries map[string]*fstypes.Stat
	content map[string][]byte // of the files that are not as they are in the folder
	open    func(string) (io.ReadCloser, error)
	options Options

	own, credentials []string
}

// isRepo reports whether a folder is a repository, as git decides it.
func (r *repo) isRepo(dir string) bool {
	head, ok := r.file(dir+"/HEAD", 4<<10)
	return ok && r.isDir(dir+"/objects") && r.isDir(dir+"/refs") && (symbolic(head) != "" || isHash(strings.TrimSpace(string(head))))
}

func (r *repo) isDir(name string) bool {
	st := r.entries[name]
	return st != nil && os.FileMode(st.Mode).IsDir()
}

// file returns the content of a regular file of at most a number of bytes.
func (r *repo) file(name string, most int64) ([]byte, bool) {
	st := r.entries[name]
	if st == nil || !os.FileMode(st.Mode).IsRegular() || st.Size > most {
		return nil, false
	}
	f, err := r.open(name)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, most+1))
	return content, err == nil && int64(len(content)) <= most
}

// set writes a file.
func (r *repo) set(name string, content []byte) {
	st := &fstypes.Stat{Path: name, Mode: 0o644}
	if old := r.entries[name]; old != nil && !r.isDir(name) { // a folder of a branch that is gone may be left
		st = old.Clone()
		st.Linkname = ""
	}
	for dir := path.Dir(name); r.entries[dir] == nil && dir != "."; dir = path.Dir(dir) {
		r.entries[dir] = &fstypes.Stat{Path: dir, Mode: uint32(os.ModeDir | 0o755)}
	}
	st.Size = int64(len(content))
	r.entries[name], r.content[name] = st, content
}

func (r *repo) add(format string, args ...any) { r.own = append(r.own, fmt.Sprintf(format, args...)) }

// below returns the files below a folder, sorted, without the folder's own path.
func (r *repo) below(dir string) []string {
	var names []string
	for name, st := range r.entries {
		if rest, ok := strings.CutPrefix(name, dir+"/"); ok && !os.FileMode(st.Mode).IsDir() {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	return names
}

// form gives a repository and those of its submodules one form.
func (r *repo) form(dir string) {
	for _, name := range slices.Sorted(maps.Keys(r.entries)) {
		if strings.HasPrefix(name, dir+"/modules/") && r.isDir(name) && r.isRepo(name) {
			r.one(name)
		}
	}
	r.one(dir)
}

// one gives one repository its form.
func (r *repo) one(dir string) {
	config := r.config(dir)
	head, _ := r.file(dir+"/HEAD", 4<<10)
	refs := r.refs(dir, config)
	r.drop(dir)
	r.logs(dir, symbolic(head), refs)
	if content, ok := r.file(dir+"/index", maxRead); ok {
		if plain, ok := gitindex.Plain(content); ok {
			r.set(dir+"/index", plain)
		} else {
			r.add("its index is split, sparse or damaged")
		}
	}
	if content, ok := r.file(dir+"/shallow", maxRead); ok {
		lines := strings.Fields(string(content))
		slices.Sort(lines)
		r.set(dir+"/shallow", []byte(strings.Join(lines, "\n")+"\n"))
		r.add("it is a shallow clone")
	}
	r.prune(dir)
	if !r.options.KeepModes && !config.shared {
		r.modes(dir)
	}
	r.judge(dir, symbolic(head) == "")
}

// made are files that git makes from its own version's templates, by a command that ran, or to be faster. git works
// without them. Those of a template count only with the text that git gives them.
var made = []struct {
	pattern string
	content func([]byte) bool
}{
	{"ORIG_HEAD", nil}, {"FETCH_HEAD", nil}, {"COMMIT_EDITMSG", nil}, {"gc.log", nil}, {"gc.pid", nil},
	{"hooks/*.sample", nil},
	{"description", func(b []byte) bool { return bytes.HasPrefix(b, []byte("Unnamed repository; edit this file")) }},
	{"info/exclude", func(b []byte) bool {
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				return false
			}
		}
		return true
	}},
	{"objects/info/commit-graph", nil}, {"objects/info/commit-graphs/*", nil}, {"objects/pack/pack-*.rev", nil},
	{"objects/pack/tmp_*", nil}, {"objects/pack/.tmp-*", nil}, {"objects/??/tmp_obj_*", nil},
}

// drop leaves out what git makes by itself.
func (r *repo) drop(dir string) {
	served := r.entries[dir+"/hooks/post-update"] != nil // by a web server alone
	for _, name := range r.below(dir) {
		full := dir + "/" + name
		switch {
		case !served && (name == "info/refs" || name == "objects/info/packs"): // git gc writes them
			delete(r.entries, full)
		case strings.HasPrefix(name, "modules/"), strings.HasPrefix(name, "worktrees/"):
		case strings.HasPrefix(name, "logs/") && name != "logs/refs/stash":
			delete(r.entries, full)
		default:
			for _, m := range made {
				if ok, _ := path.Match(m.pattern, name); !ok {
					continue
				}
				if m.content != nil {
					if content, ok := r.file(full, 64<<10); !ok || !m.content(content) {
						continue
					}
				}
				delete(r.entries, full)
			}
		}
	}
}

// logs writes a log with one entry for HEAD and for each branch, if there were any: programs read the
// commit from their last line.
func (r *repo) logs(dir, head string, refs map[string]string) {
	if !r.isDir(dir+"/logs") || refs == nil {
		return
	}
	entry := func(name, hash string) {
		line := fmt.Sprintf("%s %s git <git@localhost> %d +0000\tclone\n", strings.Repeat("0", len(hash)), hash, max(0, r.options.Epoch()))
		r.set(dir+"/logs/"+name, []byte(line))
	}
	for name, hash := range refs {
		if strings.HasPrefix(name, "refs/heads/") {
			entry(name, hash)
		}
	}
	if hash := refs[head]; hash != "" {
		entry("HEAD", hash)
	} else if hash := refs["HEAD"]; hash != "" {
		entry("HEAD", hash)
	}
}

// prune leaves out empty folders that git makes when it needs them.
func (r *repo) prune(dir string) {
	keep := []string{"refs", "refs/heads", "refs/tags", "objects", "objects/info", "objects/pack"}
	full := map[string]bool{}
	for name := range r.entries {
		if !r.isDir(name) {
			for d := path.Dir(name); d != "." && !full[d]; d = path.Dir(d) {
				full[d] = true
			}
		}
	}
	for name := range r.entries {
		rest, ok := strings.CutPrefix(name, dir+"/")
		if !ok || !r.isDir(name) || full[name] || slices.Contains(keep, rest) {
			continue
		}
		switch top, _, _ := strings.Cut(rest, "/"); top {
		case "hooks", "info", "branches", "refs", "objects", "logs":
			delete(r.entries, name)
		}
	}
}

// inRepo reports whether a folder below dir is a repository, or in one.
func (r *repo) inRepo(name, dir string) bool {
	for ; name != dir; name = path.Dir(name) {
		if r.isRepo(name) {
			return true
		}
	}
	return false
}

// modes gives files the modes that git gives them with the usual umask.
func (r *repo) modes(dir string) {
	for name, st := range r.entries {
		rest, ok := strings.CutPrefix(name, dir+"/")
		mode := os.FileMode(st.Mode)
		if !ok && name != dir || strings.HasPrefix(rest, "modules/") && (!mode.IsDir() || r.inRepo(name, dir)) {
			continue
		}
		switch {
		case mode.IsDir():
			mode = os.ModeDir | 0o755
		case !mode.IsRegular():
			continue
		case strings.HasPrefix(rest, "objects/") && !strings.HasPrefix(rest, "objects/info/"):
			mode = 0o444
		case mode&0o100 != 0 && !isGits(rest):
			mode = 0o755
		default:
			mode = 0o644
		}
		st.Mode = uint32(mode)
	}
}

// isGits reports whether a file is one that git writes, which is no program whatever its mode.
func isGits(name string) bool {
	top, _, deep := strings.Cut(name, "/")
	if deep {
		return slices.Contains([]string{"info", "logs", "objects", "refs", "worktrees"}, top)
	}
	return slices.Contains([]string{"HEAD", "config", "description", "index", "packed-refs", "shallow"}, top)
}

// underway are files of a command that has not ended, such as a merge with conflicts.
var underway = []string{"MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "BISECT_LOG", "rebase-merge", "rebase-apply", "sequencer"}

// judge notes what another clone would not have, or have in another form.
func (r *repo) judge(dir string, detached bool) {
	if detached {
		r.add("its HEAD is no branch")
	}
	for _, name := range r.below(dir + "/hooks") {
		r.add("it has the hook %s", name)
	}
	for _, name := range underway {
		if r.entries[dir+"/"+name] != nil {
			r.add("a merge, a rebase or the like is under way")
			break
		}
	}
	for _, is := range []struct{ name, what string }{
		{"refs/stash", "it has a stash"}, {"worktrees", "it has further work trees"},
		{"objects/info/alternates", "it borrows objects from another repository"}, {"reftable", "its references are in a reftable"},
	} {
		if r.entries[dir+"/"+is.name] != nil {
			r.add("%s", is.what)
		}
	}
}
