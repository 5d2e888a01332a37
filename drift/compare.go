package drift

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/kedge-build/kedge/diff"
)

// A Difference is how two images differ, as their records say.
type Difference struct {
	First, Second *Record
	Files         []FileChange // sorted by path, without those in Apart
	Apart         []FileChange // below volumes and the paths that Settings.Tmpfs lists: a container replaces them
	Packages      []Package
	Config        []diff.Setting // with "base" for the distribution
	Sources       []diff.Setting // where packages come from: the key is the source
	NewlyMarked   []Marked
}

// A FileChange is a path that differs.
type FileChange struct {
	diff.File
	Bytes int64 // by which its image has grown
}

// A Package is a package that differs. Versions of several installed at once are joined by ", ".
type Package struct {
	diff.Package
	Step Step // of a changed one
}

// Marked is a path that is privileged or world-writable and was not.
type Marked struct {
	Path string
	What string // "setuid", "setgid", "capabilities" or "world-writable"
}

// Compare compares two records. The paths below the folders in tmpfs, and below the volumes of either image, count
// apart.
func Compare(first, second *Record, tmpfs []string) *Difference {
	d := &Difference{First: first, Second: second}
	apart := append(slices.Clone(tmpfs), append(first.volumes(), second.volumes()...)...)
	for a, b := range pairs(first.Files, second.Files) {
		if a != nil && b != nil && same(a, b) {
			continue
		}
		f := FileChange{File: diff.File{Path: diff.Path{Change: diff.Changed}}}
		switch {
		case a == nil:
			f.Path.Path, f.Change, f.Second = b.Path, diff.Added, b.stat()
		case b == nil:
			f.Path.Path, f.Change, f.First = a.Path, diff.Removed, a.stat()
		default:
			f.Path.Path, f.First, f.Second, f.What = a.Path, a.stat(), b.stat(), what(a, b)
		}
		if a != nil {
			f.Bytes -= a.bytes()
		}
		if b != nil {
			f.Bytes += b.bytes()
		}
		if below(f.Path.Path, apart) {
			d.Apart = append(d.Apart, f)
		} else {
			d.Files = append(d.Files, f)
		}
		if b != nil {
			d.mark(a, b)
		}
	}
	d.Packages = comparePackages(first.Packages, second.Packages)
	x, y := maps.Clone(first.Config), maps.Clone(second.Config)
	for m, r := range map[*map[string]string]*Record{&x: first, &y: second} {
		if r.Base != "" {
			(*m)["base"] = r.Base
		}
	}
	d.Config = settings(x, y)
	d.Sources = settings(set(first.Sources), set(second.Sources))
	return d
}

// same reports whether two paths are equal, but for which of several names of a file comes first.
func same(a, b *File) bool {
	x := *a
	x.linked = b.linked
	return x == *b
}

// what lists what differs about a path that both images have, in the words of package diff.
func what(a, b *File) []string {
	var list []string
	for _, c := range []struct {
		name string
		same bool
	}{
		{"type", a.Type == b.Type}, {"content", a.Digest == b.Digest}, {"mode", a.Mode == b.Mode}, {"owner", a.UID == b.UID && a.GID == b.GID},
		{"target", a.Target == b.Target}, {"device", a.Device == b.Device}, {"xattrs", a.Xattrs == b.Xattrs},
	} {
		if !c.same {
			list = append(list, c.name)
		}
	}
	return list
}

// mark notes what b may do that a, which may be nil, may not.
func (d *Difference) mark(a, b *File) {
	if a == nil {
		a = &File{}
	}
	for _, m := range []struct {
		what     string
		had, has bool
	}{
		{"setuid", a.privileged() && a.Mode&0o4000 != 0, b.privileged() && b.Mode&0o4000 != 0},
		{"setgid", a.privileged() && a.Mode&0o2000 != 0, b.privileged() && b.Mode&0o2000 != 0},
		{"capabilities", false, b.privileged() && strings.Contains(b.Xattrs, capability) && a.Xattrs != b.Xattrs},
		{"world-writable", a.Type != "" && a.writable(), b.writable()},
	} {
		if m.has && !m.had {
			d.NewlyMarked = append(d.NewlyMarked, Marked{b.Path, m.what})
		}
	}
}

// pairs merges two sorted lists of files: each path comes once, with nil for the list that lacks it.
func pairs(a, b []File) func(yield func(a, b *File) bool) {
	return func(yield func(a, b *File) bool) {
		for len(a) > 0 || len(b) > 0 {
			var x, y *File
			c := 0
			switch {
			case len(a) == 0:
				c = 1
			case len(b) == 0:
				c = -1
			default:
				c = comparePaths(a[0].Path, b[0].Path)
			}
			if c <= 0 {
				x, a = &a[0], a[1:]
			}
			if c >= 0 {
				y, b = &b[0], b[1:]
			}
			if !yield(x, y) {
				return
			}
		}
	}
}

// volumes returns the paths of the image's volumes.
func (r *Record) volumes() []string {
	var list []string
	for key := range r.Config {
		if name, ok := configName(key, "Volumes"); ok {
			list = append(list, name)
		}
	}
	return list
}

// configName returns the name in a key of an entry of the config, such as /data in config.Volumes["/data"] or PATH
// in config.Env.PATH.
func configName(key, of string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(key, "config."+of)
	if !ok || rest == "" {
		return "", false
	}
	if name, ok := strings.CutPrefix(rest, "."); ok {
		return name, true
	}
	name, err := strconv.Unquote(strings.TrimSuffix(strings.TrimPrefix(rest, "["), "]"))
	return name, err == nil
}

// below reports whether a path is one of the folders, or below one.
func below(path string, folders []string) bool {
	for _, f := range folders {
		f = strings.TrimRight(f, "/")
		if rest, ok := strings.CutPrefix(path, f); ok && f != "" && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

func set(list []string) map[string]string {
	m := map[string]string{}
	for _, s := range list {
		m[s] = s
	}
	return m
}

// settings compares two maps.
func settings(a, b map[string]string) []diff.Setting {
	var list []diff.Setting
	keys := maps.Clone(a)
	maps.Copy(keys, b)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		x, had := a[key]
		y, has := b[key]
		switch {
		case !had:
			list = append(list, diff.Setting{Key: key, Change: diff.Added, Second: y})
		case !has:
			list = append(list, diff.Setting{Key: key, Change: diff.Removed, First: x})
		case x != y:
			list = append(list, diff.Setting{Key: key, Change: diff.Changed, First: x, Second: y})
		}
	}
	return list
}

// comparePackages compares two lists of purls.
func comparePackages(a, b []string) []Package {
	type id struct{ kind, name string }
	versions := func(list []string) map[id][]string {
		m := map[id][]string{}
		for _, s := range list {
			v := parsePURL(s)
			m[id{v.kind, v.name}] = append(m[id{v.kind, v.name}], v.version)
		}
		for k, v := range m {
			slices.SortFunc(v, func(a, b string) int { return compareVersions(k.kind, a, b) })
			m[k] = slices.Compact(v)
		}
		return m
	}
	x, y := versions(a), versions(b)
	keys := maps.Clone(x)
	maps.Copy(keys, y)
	var list []Package
	for k := range keys {
		was, is := x[k], y[k]
		p := Package{Package: diff.Package{Kind: k.kind, Name: k.name, Change: diff.Changed, First: strings.Join(was, ", "), Second: strings.Join(is, ", ")}}
		switch {
		case was == nil:
			p.Change = diff.Added
		case is == nil:
			p.Change = diff.Removed
		case p.First == p.Second:
			continue
		default:
			// With several versions at once, the highest counts.
			p.Step = step(k.kind, was[len(was)-1], is[len(is)-1])
			if p.Step == "" {
				p.Step = Patch
			}
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b Package) int {
		return strings.Compare(a.Kind+"\x00"+a.Name, b.Kind+"\x00"+b.Name)
	})
	return list
}
