package bake

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tonistiigi/go-csvvalue"
)

// Allowed is what a user allows a definition.
type Allowed struct {
	Words []string // as --allow has them
	Set   []string // as --set has them: the paths and entitlements in them are allowed
	Paths bool     // whether paths outside of the working folder need to be allowed
}

// A PrivilegeError says that a definition needs more than it is allowed. Its words are those of docker buildx.
type PrivilegeError struct {
	Needs []string // "Read access to path ../src"
	Flags []string // "--allow=fs.read=../src"
}

func (e *PrivilegeError) Error() string {
	return fmt.Sprintf("additional privileges requested: pass %q to grant requested privileges", strings.Join(e.Flags, " "))
}

// privileges are what a target needs or a user grants.
type privileges struct {
	words         []string // entitlements that are no paths
	reads, writes []string // paths
}

// Check returns a *PrivilegeError if the definition needs more than the user allows, as docker buildx bake does: an
// entitlement of a RUN, a path outside the working folder, the SSH agent, or an output that deletes files.
func (d *Definition) Check(allowed Allowed) error {
	granted, err := allowed.parse()
	if err != nil {
		return err
	}
	var needed privileges
	for _, t := range d.Targets {
		needed.words = append(needed.words, t.needs.words...)
		needed.reads = append(needed.reads, t.needs.reads...)
		needed.writes = append(needed.writes, t.needs.writes...)
	}
	e := &PrivilegeError{}
	words := needed.words
	slices.Sort(words)
	for _, word := range slices.Compact(words) {
		kind, _, _ := strings.Cut(word, "=")
		if slices.Contains(granted.words, word) || slices.Contains(granted.words, kind) || kind == "ssh" && !allowed.Paths {
			continue
		}
		e.Needs = append(e.Needs, meaning(kind, word))
		e.Flags = append(e.Flags, "--allow="+word)
	}
	if allowed.Paths {
		if err := e.paths("Read", "fs.read", d.dir, needed.reads, granted.reads); err != nil {
			return err
		}
		if err := e.paths("Write", "fs.write", d.dir, needed.writes, granted.writes); err != nil {
			return err
		}
	}
	if len(e.Flags) > 0 {
		return e
	}
	return nil
}

// meaning says what an entitlement allows.
func meaning(kind, word string) string {
	switch kind {
	case "network.host":
		return "Running build containers that can access host network"
	case "security.insecure":
		return "Running privileged containers that can make system changes"
	case "ssh":
		return "Forwarding default SSH agent socket"
	case deletes:
		return "Deleting stale files from local output destinations"
	}
	return "Access to " + strings.Replace(word, "=", " ", 1)
}

// deletes is the entitlement of an output that deletes what is not part of it.
const deletes = "buildx.local.delete"

// paths adds the needed paths that are not below a granted one.
func (e *PrivilegeError) paths(access, flag, dir string, needed, granted []string) error {
	if slices.Contains(granted, "*") {
		return nil
	}
	var allowed, missing []string
	for _, path := range append(granted, ".") {
		found, rest, err := resolve(dir, path)
		if err != nil {
			return err
		}
		allowed = append(allowed, filepath.Join(found, rest))
	}
	for _, path := range needed {
		found, _, err := resolve(dir, path) // to create the rest is to write to this
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(allowed, func(parent string) bool { return below(parent, found) }) {
			missing = append(missing, found)
		}
	}
	slices.Sort(missing)
	here := allowed[len(allowed)-1]
	for _, path := range slices.Compact(missing) {
		if rel, err := filepath.Rel(here, path); err == nil && !strings.HasPrefix(rel, "../..") {
			path = rel
		}
		e.Needs = append(e.Needs, access+" access to path "+path)
		e.Flags = append(e.Flags, "--allow="+flag+"="+path)
	}
	return nil
}

func below(parent, path string) bool {
	rel, err := filepath.Rel(parent, path)
	return err == nil && filepath.IsLocal(rel)
}

// resolve follows the links of a path, relative to dir, as the kernel does. It returns the part that exists and the
// rest.
func resolve(dir, path string) (found, rest string, err error) {
	if !filepath.IsAbs(path) {
		path = dir + "/" + path // not joined: ".." after a link is above its target
	}
	parts := strings.Split(path, "/")
	found = "/"
	for links := 0; len(parts) > 0; {
		part := parts[0]
		parts = parts[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			found = filepath.Dir(found)
			continue
		}
		next := filepath.Join(found, part)
		info, err := os.Lstat(next)
		switch {
		case err != nil:
			rest = filepath.Join(append([]string{part}, parts...)...)
			if filepath.IsLocal(rest) {
				return found, rest, nil
			}
			parts = strings.Split(filepath.Join(found, rest), "/")
			found = "/"
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(next)
			if err != nil {
				return "", "", err
			}
			if links++; links > 255 {
				return "", "", fmt.Errorf("path %q has too many links", path)
			}
			if filepath.IsAbs(target) {
				found = "/"
			}
			parts = append(strings.Split(target, "/"), parts...)
		default:
			found = next
		}
	}
	return found, "", nil
}

// parse returns what is granted.
func (a Allowed) parse() (p privileges, err error) {
	for _, word := range a.Words {
		kind, value, hasValue := strings.Cut(word, "=")
		switch kind {
		case "network.host", "security.insecure", "ssh", deletes:
			if hasValue {
				return p, fmt.Errorf("%s does not accept a value", kind)
			}
			p.words = append(p.words, kind)
		case "device":
			p.words = append(p.words, word)
		case "fs.read":
			p.reads = append(p.reads, value)
		case "fs.write":
			p.writes = append(p.writes, value)
		case "fs":
			p.reads, p.writes = append(p.reads, value), append(p.writes, value)
		case "image", "image.push", "image.load": // buildx asks for none of them
		default:
			return p, fmt.Errorf("unknown entitlement key %q", kind)
		}
	}
	for _, set := range a.Set {
		key, value, _ := strings.Cut(set, "=")
		key = strings.TrimSuffix(key, "+")
		parts := strings.SplitN(key, ".", 3)
		if len(parts) < 2 {
			continue
		}
		e := entry{text: value}
		switch parts[1] {
		case "entitlement", "entitlements":
			p.words = append(p.words, value)
		case "cache-from":
			p.reads = append(p.reads, e.value("src"))
		case "cache-to":
			p.writes = append(p.writes, e.value("dest"))
		case "secret", "secrets":
			p.reads = append(p.reads, e.value("src"))
		case "ssh":
			_, paths, _ := strings.Cut(value, "=")
			p.reads = append(p.reads, strings.Split(paths, ",")...)
		case "output":
			if dest := e.value("dest"); dest != "" {
				p.writes = append(p.writes, dest)
			} else if !strings.Contains(value, "=") {
				p.writes = append(p.writes, value)
			}
		}
	}
	// An empty path would allow the working folder, which is allowed.
	empty := func(path string) bool { return path == "" }
	p.reads, p.writes = slices.DeleteFunc(p.reads, empty), slices.DeleteFunc(p.writes, empty)
	return p, nil
}

// require records what a target needs.
func (t *Target) require(p *printedTarget) {
	n := &t.needs
	for _, e := range p.Entitlements {
		kind, _, _ := strings.Cut(e, "=")
		if kind == "network.host" || kind == "security.insecure" || kind == "device" {
			n.words = append(n.words, e)
		}
	}
	if p.Network == "host" {
		n.words = append(n.words, "network.host")
	}
	if !t.Remote() {
		n.reads = append(n.reads, t.Context)
	}
	if t.Inline == nil && t.Dockerfile != "" && !strings.Contains(t.Dockerfile, "://") {
		n.reads = append(n.reads, t.Dockerfile)
	}
	for _, path := range t.contexts {
		if layout, ok := strings.CutPrefix(path, "oci-layout://"); ok {
			path, _, _ = strings.Cut(layout, "@")
			if i := strings.LastIndex(path, ":"); i > strings.LastIndex(path, "/") {
				path = path[:i]
			}
			n.reads = append(n.reads, path)
		} else if !Remote(path) {
			n.reads = append(n.reads, path)
		}
	}
	for _, e := range p.Output {
		if dest := e.value("dest"); dest != "" && dest != "-" {
			n.writes = append(n.writes, dest)
		}
		if e.value("type") == "local" && e.value("mode") == "delete" {
			n.words = append(n.words, deletes)
			t.words = append(t.words, "--allow="+deletes)
		}
	}
	for _, e := range p.CacheTo {
		if e.value("type") == "local" {
			n.writes = append(n.writes, e.value("dest"))
		}
	}
	for _, e := range p.CacheFrom {
		if e.value("type") == "local" {
			n.reads = append(n.reads, e.value("src"))
		}
	}
	for _, e := range p.Secret {
		switch src := e.value("src"); {
		case src != "":
			n.reads = append(n.reads, src)
		case e.value("env") == "" && e.value("type") != "env":
			n.reads = append(n.reads, e.value("id")) // the file that has the name of the secret
		}
	}
	for _, e := range p.SSH {
		if _, paths, ok := strings.Cut(e.ssh(), "="); ok {
			n.reads = append(n.reads, strings.Split(paths, ",")...)
		} else {
			n.words = append(n.words, "ssh")
		}
	}
}

// value returns an attribute of an entry, or "".
func (e entry) value(key string) string {
	if v, ok := e.fields[key]; ok {
		return fmt.Sprint(v)
	}
	fields, err := csvvalue.Fields(e.text, nil)
	if err != nil {
		return "" // kedge build refuses the entry
	}
	for _, field := range fields {
		if k, v, ok := strings.Cut(field, "="); ok && strings.EqualFold(k, key) {
			return v
		}
	}
	return ""
}
