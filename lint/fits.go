package lint

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v3"
	"golang.org/x/mod/modfile"
)

// maxManifest bounds what is read of a manifest or a lockfile.
const maxManifest = 32 << 20

// open opens a regular file of the context. It refuses a pipe, which could block.
func (p *project) open(name string) (fs.File, error) {
	info, err := fs.Stat(p.Context, name)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		return nil, err
	}
	return p.Context.Open(name)
}

// read returns the content of a file of the context. If it has more bytes than limit, Check fails.
func (p *project) read(name string, limit int64) ([]byte, error) {
	f, err := p.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		p.large = fmt.Errorf("%q is larger than %d MiB: lint reads no more", filepath.Join(p.Dir, filepath.FromSlash(name)), limit>>20)
		err = p.large
	}
	return data, err
}

func checkFits(p *project, add func(Finding)) {
	p.installs(func(in install) {
		if in.fits == nil {
			return
		}
		for _, lockfile := range in.locks {
			for _, manifest := range in.named {
				if path.Dir(lockfile) != path.Dir(manifest) {
					continue
				}
				m, err := p.read(manifest, maxManifest)
				if err != nil {
					continue
				}
				l, err := p.read(lockfile, maxManifest)
				if err != nil {
					continue
				}
				if why := in.fits(m, l); why != "" {
					add(Finding{Line: p.at(in.i, in.c), Message: fmt.Sprintf("%s does not fit %s: %s", lockfile, manifest, why), Fix: fmt.Sprintf("Run %s, and commit what it writes.", in.write)})
				}
			}
		}
	})
}

// A packageJSON is what a package.json says about dependencies.
type packageJSON struct {
	Dependencies, DevDependencies, OptionalDependencies, PeerDependencies map[string]string
}

// specifiers returns those of all dependencies that are installed, by name.
func (m packageJSON) specifiers() map[string]string {
	all := map[string]string{}
	for _, part := range []map[string]string{m.Dependencies, m.DevDependencies, m.OptionalDependencies} {
		maps.Copy(all, part)
	}
	return all
}

// fits compares the dependencies with the specifiers that a lockfile was made from.
func (m packageJSON) fits(locked map[string]string) string {
	wanted := m.specifiers()
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		switch spec, ok := locked[name]; {
		case !ok:
			return fmt.Sprintf("it lacks %s", name)
		case spec != wanted[name]:
			return fmt.Sprintf("it was made for %s %s, not %s", name, spec, wanted[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(locked)) {
		_, wants := wanted[name]
		if _, peer := m.PeerDependencies[name]; !wants && !peer {
			return fmt.Sprintf("it still has %s", name)
		}
	}
	return ""
}

// npmFits compares package.json with what package-lock.json was made from. Locks of version 1 do not have that.
func npmFits(manifest, lock []byte) string {
	var want packageJSON
	var have struct{ Packages map[string]packageJSON }
	if json.Unmarshal(manifest, &want) != nil || json.Unmarshal(lock, &have) != nil {
		return ""
	}
	root, ok := have.Packages[""]
	if !ok {
		return ""
	}
	return want.fits(root.specifiers())
}

// npmEmpty reports whether a package.json has no dependencies.
func npmEmpty(manifest []byte) bool {
	var m packageJSON
	return json.Unmarshal(manifest, &m) == nil && len(m.Dependencies)+len(m.DevDependencies)+len(m.OptionalDependencies) == 0
}

// composerEmpty reports whether a composer.json requires nothing but PHP and its extensions.
func composerEmpty(manifest []byte) bool {
	var m struct {
		Require map[string]string
		Dev     map[string]string `json:"require-dev"`
	}
	if json.Unmarshal(manifest, &m) != nil {
		return false
	}
	for _, part := range []map[string]string{m.Require, m.Dev} {
		for name := range part {
			if strings.Contains(name, "/") {
				return false
			}
		}
	}
	return true
}

// goFits looks for the sum of each required module. One that is replaced has another, or none.
func goFits(manifest, lock []byte) string {
	m, err := modfile.Parse("go.mod", manifest, nil)
	if err != nil {
		return ""
	}
	replaced := map[string]bool{}
	for _, r := range m.Replace {
		replaced[r.Old.Path] = true
	}
	sums := map[string]bool{}
	for line := range strings.Lines(string(lock)) {
		if f := strings.Fields(line); len(f) == 3 {
			sums[f[0]+" "+strings.TrimSuffix(f[1], "/go.mod")] = true
		}
	}
	for _, r := range m.Require {
		if !replaced[r.Mod.Path] && !sums[r.Mod.Path+" "+r.Mod.Version] {
			return fmt.Sprintf("it has no sum of %s %s", r.Mod.Path, r.Mod.Version)
		}
	}
	return ""
}

var (
	tomlTable = regexp.MustCompile(`(?m)^\[([^\]]+)\]\s*$`)
	tomlKey   = regexp.MustCompile(`(?m)^"?([A-Za-z0-9_-]+)"?\s*(?:\.|=)`)
	lockName  = regexp.MustCompile(`(?m)^name = "([^"]+)"$`)
)

// cargoFits looks for each dependency in Cargo.lock. A dependency under another name is left alone.
func cargoFits(manifest, lock []byte) string {
	locked := map[string]bool{}
	for _, m := range lockName.FindAllSubmatch(lock, -1) {
		locked[string(m[1])] = true
	}
	tables := tomlTable.FindAllSubmatchIndex(manifest, -1)
	for n, at := range tables {
		name := string(manifest[at[2]:at[3]])
		if name != "dependencies" && name != "build-dependencies" && name != "dev-dependencies" {
			continue
		}
		end := len(manifest)
		if n+1 < len(tables) {
			end = tables[n+1][0]
		}
		body := string(manifest[at[1]:end])
		for _, key := range tomlKey.FindAllStringSubmatch(body, -1) {
			if !locked[key[1]] && !strings.Contains(body, "package") {
				return fmt.Sprintf("it lacks %s", key[1])
			}
		}
	}
	return ""
}

var gemName = regexp.MustCompile(`(?m)^gem\s+["']([^"']+)["']`)

// bundlerFits looks for each gem at the top of a Gemfile among the DEPENDENCIES of its lock.
func bundlerFits(manifest, lock []byte) string {
	_, section, ok := strings.Cut(string(lock), "\nDEPENDENCIES\n")
	if !ok {
		return ""
	}
	section, _, _ = strings.Cut(section, "\n\n")
	var names []string
	for line := range strings.Lines(section) {
		if f := strings.Fields(line); len(f) > 0 {
			names = append(names, strings.TrimSuffix(f[0], "!"))
		}
	}
	for _, m := range gemName.FindAllStringSubmatch(string(manifest), -1) {
		if !slices.Contains(names, m[1]) {
			return fmt.Sprintf("it lacks %s", m[1])
		}
	}
	return ""
}

// pnpmFits compares package.json with what pnpm-lock.yaml was made from. What changes dependencies on the way, such as
// overrides, makes the answer unknown, as does a name with two specifiers.
func pnpmFits(manifest, lock []byte) string {
	type specifiers map[string]struct{ Specifier string }
	var want packageJSON
	var have struct {
		Importers map[string]struct {
			Dependencies         specifiers `yaml:"dependencies"`
			DevDependencies      specifiers `yaml:"devDependencies"`
			OptionalDependencies specifiers `yaml:"optionalDependencies"`
		} `yaml:"importers"`
		Overrides any    `yaml:"overrides"`
		Ignored   any    `yaml:"ignoredOptionalDependencies"`
		Pnpmfile  string `yaml:"pnpmfileChecksum"`
	}
	if json.Unmarshal(manifest, &want) != nil || yaml.Unmarshal(lock, &have) != nil || have.Overrides != nil || have.Ignored != nil || have.Pnpmfile != "" {
		return ""
	}
	root, ok := have.Importers["."]
	if !ok {
		return ""
	}
	for name, spec := range want.DevDependencies {
		if other, twice := want.Dependencies[name]; twice && other != spec {
			return ""
		}
	}
	locked := map[string]string{}
	for _, part := range []specifiers{root.Dependencies, root.DevDependencies, root.OptionalDependencies} {
		for name, d := range part {
			locked[name] = d.Specifier
		}
	}
	return want.fits(locked)
}

// composerFits looks for each requirement among the locked packages, and what they replace or provide.
func composerFits(manifest, lock []byte) string {
	var want struct {
		Require map[string]string
		Dev     map[string]string `json:"require-dev"`
	}
	type packages []struct {
		Name             string
		Replace, Provide json.RawMessage // an object, or an empty list
	}
	var have struct {
		Packages packages
		Dev      packages `json:"packages-dev"`
	}
	if json.Unmarshal(manifest, &want) != nil || json.Unmarshal(lock, &have) != nil {
		return ""
	}
	locked := map[string]bool{}
	for _, p := range append(have.Packages, have.Dev...) {
		locked[strings.ToLower(p.Name)] = true
		for _, raw := range []json.RawMessage{p.Replace, p.Provide} {
			var names map[string]any
			_ = json.Unmarshal(raw, &names) // an empty list has no names
			for name := range names {
				locked[strings.ToLower(name)] = true
			}
		}
	}
	for _, part := range []map[string]string{want.Require, want.Dev} {
		for _, name := range slices.Sorted(maps.Keys(part)) {
			if strings.Contains(name, "/") && !locked[strings.ToLower(name)] {
				return fmt.Sprintf("it lacks %s", name)
			}
		}
	}
	return ""
}

// pyproject is what a pyproject.toml says about libraries.
type pyproject struct {
	Project struct {
		Name         string              `toml:"name"`
		Dependencies []string            `toml:"dependencies"`
		Optional     map[string][]string `toml:"optional-dependencies"`
		Dynamic      []string            `toml:"dynamic"`
	} `toml:"project"`
	Tool struct {
		Poetry struct {
			Dependencies map[string]any `toml:"dependencies"`
			Dev          map[string]any `toml:"dev-dependencies"`
			Group        map[string]struct {
				Dependencies map[string]any `toml:"dependencies"`
			} `toml:"group"`
		} `toml:"poetry"`
	} `toml:"tool"`
}

// pythonLock is what poetry.lock and uv.lock have in common.
type pythonLock struct {
	Package []struct {
		Name     string `toml:"name"`
		Metadata struct {
			Requires []struct {
				Name string `toml:"name"`
			} `toml:"requires-dist"`
		} `toml:"metadata"`
	} `toml:"package"`
}

var (
	requirementName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*`)
	nameSeparators  = regexp.MustCompile(`[-_.]+`)
)

// pythonName returns the name of a requirement in its normal form.
func pythonName(requirement string) string {
	return strings.ToLower(nameSeparators.ReplaceAllString(requirementName.FindString(strings.TrimSpace(requirement)), "-"))
}

// poetryFits looks for each dependency in poetry.lock. One that is not for every machine may not be there.
func poetryFits(manifest, lock []byte) string {
	var m pyproject
	var l pythonLock
	if toml.Unmarshal(manifest, &m) != nil || toml.Unmarshal(lock, &l) != nil {
		return ""
	}
	locked := map[string]bool{}
	for _, p := range l.Package {
		locked[pythonName(p.Name)] = true
	}
	var wanted []string
	for _, r := range m.Project.Dependencies {
		if !strings.Contains(r, ";") {
			wanted = append(wanted, r)
		}
	}
	tables := []map[string]any{m.Tool.Poetry.Dependencies, m.Tool.Poetry.Dev}
	for _, g := range m.Tool.Poetry.Group {
		tables = append(tables, g.Dependencies)
	}
	for _, t := range tables {
		for name, value := range t {
			if table, ok := value.(map[string]any); ok && table["python"] == nil && table["markers"] == nil && table["platform"] == nil {
				value = ""
			}
			if _, ok := value.(string); ok && name != "python" {
				wanted = append(wanted, name)
			}
		}
	}
	slices.Sort(wanted)
	for _, name := range wanted {
		if !locked[pythonName(name)] {
			return fmt.Sprintf("it lacks %s", requirementName.FindString(name))
		}
	}
	return ""
}

// uvFits compares the names of the dependencies in pyproject.toml with those that uv.lock was made from.
func uvFits(manifest, lock []byte) string {
	var m pyproject
	var l pythonLock
	if toml.Unmarshal(manifest, &m) != nil || toml.Unmarshal(lock, &l) != nil || len(m.Project.Dynamic) > 0 {
		return ""
	}
	wanted := slices.Clone(m.Project.Dependencies)
	for _, extra := range m.Project.Optional {
		wanted = append(wanted, extra...)
	}
	for i := range wanted {
		wanted[i] = pythonName(wanted[i])
	}
	slices.Sort(wanted)
	for _, p := range l.Package {
		if p.Name != pythonName(m.Project.Name) {
			continue
		}
		var locked []string
		for _, r := range p.Metadata.Requires {
			locked = append(locked, pythonName(r.Name))
		}
		slices.Sort(locked)
		for _, name := range wanted {
			if !slices.Contains(locked, name) && name != p.Name { // an extra can name the project itself
				return fmt.Sprintf("it lacks %s", name)
			}
		}
		for _, name := range locked {
			if !slices.Contains(wanted, name) {
				return fmt.Sprintf("it still has %s", name)
			}
		}
	}
	return ""
}
