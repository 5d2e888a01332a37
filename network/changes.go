package network

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
)

// Changes are the differences between two records, for a reviewer.
type Changes struct {
	// Hosts are those that the new record has and the old one has not, sorted: a package that suddenly comes from
	// elsewhere is what an attack looks like.
	Hosts    []string
	Gone     []string // hosts that only the old record has, sorted
	Packages []PackageChange
	Others   []EntryChange // answers that are no files of packages
}

// A PackageChange is a package whose versions differ.
type PackageChange struct {
	Kind, Name string
	Old, New   []string // versions, sorted; empty: the record does not have the package
	// Rebuilt are versions that both records have, with other bytes. A repository that never changes what it has
	// published has none.
	Rebuilt []string
}

// An EntryChange is a request with another answer. Old or New is nil if that record has none.
type EntryChange struct {
	Method, URL string
	Old, New    *Entry
}

// Compare returns what differs between two records; a nil record has nothing. Steps, and answers of packages
// that differ in headers alone, do not count.
func Compare(before, after *Record) Changes {
	var c Changes
	sides := [2]map[string]Entry{}
	hosts := [2]map[string]bool{}
	versions := [2]map[Package]map[string]string{} // of a package: the digests of its files, by their names
	for i, r := range []*Record{before, after} {
		sides[i], hosts[i], versions[i] = map[string]Entry{}, map[string]bool{}, map[Package]map[string]string{}
		if r == nil {
			continue
		}
		for _, e := range r.Entries() {
			u, err := url.Parse(e.URL)
			if err != nil {
				continue
			}
			hosts[i][u.Host] = true
			if p, ok := packageOf(e.URL); ok && e.Status == 200 {
				if versions[i][p] == nil {
					versions[i][p] = map[string]string{}
				}
				versions[i][p][e.Method+" "+u.Path] = e.Digest.String()
				continue
			}
			sides[i][entryKey(e.Method, e.URL)+fields("vary:", e.Vary)] = e
		}
	}
	c.Hosts, c.Gone = missingFrom(hosts[0], hosts[1]), missingFrom(hosts[1], hosts[0])
	c.Packages = comparePackages(versions[0], versions[1])
	c.Others = compareOthers(sides[0], sides[1])
	return c
}

// missingFrom returns what b has and a has not, sorted.
func missingFrom(a, b map[string]bool) []string {
	var only []string
	for name := range b {
		if !a[name] {
			only = append(only, name)
		}
	}
	slices.Sort(only)
	return only
}

func comparePackages(before, after map[Package]map[string]string) []PackageChange {
	byName := map[Package]*PackageChange{}
	change := func(p Package) *PackageChange {
		name := Package{Kind: p.Kind, Name: p.Name}
		if byName[name] == nil {
			byName[name] = &PackageChange{Kind: p.Kind, Name: p.Name}
		}
		return byName[name]
	}
	for p, files := range before {
		c := change(p)
		c.Old = append(c.Old, p.Version)
		for name, dgst := range after[p] {
			if old, ok := files[name]; ok && old != dgst && !slices.Contains(c.Rebuilt, p.Version) {
				c.Rebuilt = append(c.Rebuilt, p.Version)
			}
		}
	}
	for p := range after {
		c := change(p)
		c.New = append(c.New, p.Version)
	}
	var changes []PackageChange
	for _, c := range byName {
		slices.Sort(c.Old)
		slices.Sort(c.New)
		slices.Sort(c.Rebuilt)
		if !slices.Equal(c.Old, c.New) || len(c.Rebuilt) > 0 {
			changes = append(changes, *c)
		}
	}
	slices.SortFunc(changes, func(a, b PackageChange) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return changes
}

func compareOthers(before, after map[string]Entry) []EntryChange {
	var changes []EntryChange
	for key, old := range before {
		now, ok := after[key]
		switch {
		case !ok:
			changes = append(changes, EntryChange{Method: old.Method, URL: old.URL, Old: &old})
		case old.Status != now.Status || old.Digest != now.Digest || old.Size != now.Size || !maps.Equal(old.Header, now.Header):
			changes = append(changes, EntryChange{Method: old.Method, URL: old.URL, Old: &old, New: &now})
		}
	}
	for key, now := range after {
		if _, ok := before[key]; !ok {
			changes = append(changes, EntryChange{Method: now.Method, URL: now.URL, New: &now})
		}
	}
	slices.SortFunc(changes, func(a, b EntryChange) int {
		return cmp.Or(cmp.Compare(a.URL, b.URL), cmp.Compare(a.Method, b.Method))
	})
	return changes
}
