package builder

import (
	"slices"
	"strings"

	"github.com/kedge-build/kedge/builder/gitdir"
)

// leaveParts leaves the .git folders of a context as they are if the build names a part of one: it asks for
// the file that is there.
func (j *job) leaveParts(def *definition) {
	for _, p := range def.parts {
		for _, take := range p.graph.Taken() {
			mount, _ := strings.CutPrefix(take.Source, "local://")
			if f, ok := j.folders[mount]; ok && f.git != nil && namesPart(take.Path) {
				f.git.Leave("a step or an ignore file names a part of it, so that it stays as it is")
			}
		}
	}
}

// namesPart reports whether a path or pattern is below a .git folder.
func namesPart(name string) bool {
	parts := strings.Split(strings.TrimPrefix(name, "!"), "/")
	i := slices.Index(parts, ".git")
	return i >= 0 && i+1 < len(parts) && slices.ContainsFunc(parts[i+1:], func(p string) bool { return strings.Trim(p, "*") != "" })
}

// repos returns the .git folders that were sent, also in part, by the folder of the context.
func (j *job) repos(sent map[string][]string) map[string][]gitdir.Repo {
	all := map[string][]gitdir.Repo{}
	for mount, dir := range j.req.Directories() {
		f := j.folders[mount]
		if f.git == nil {
			continue
		}
		for _, r := range f.git.Repos() {
			if i, _ := slices.BinarySearch(sent[dir], r.Path+"/"); i < len(sent[dir]) && strings.HasPrefix(sent[dir][i], r.Path+"/") {
				all[dir] = append(all[dir], r)
			}
		}
	}
	if a := j.req.Context.Archive; a != nil {
		all[""] = a.repos
	}
	return all
}
