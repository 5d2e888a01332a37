package gitdir

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
)

// symbolic returns the reference that the content of a symbolic one names, or "".
func symbolic(content []byte) string {
	name, ok := strings.CutPrefix(string(content), "ref:")
	if name = strings.TrimSpace(name); !ok || !strings.HasPrefix(name, "refs/") {
		return ""
	}
	return name
}

func isHash(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

// packed reads the packed-refs of a repository. It reports whether they are understood.
func (r *repo) packed(dir string) (map[string]string, bool) {
	refs := map[string]string{}
	if r.entries[dir+"/packed-refs"] == nil {
		return refs, true
	}
	content, ok := r.file(dir+"/packed-refs", maxRead)
	if !ok {
		return nil, false
	}
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSuffix(line, "\n")
		hash, name, ok := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(line, "#"), strings.HasPrefix(line, "^"): // a tag's commit, which git can look up
		case !ok || !isHash(hash) || !strings.HasPrefix(name, "refs/"):
			return nil, false
		default:
			refs[name] = hash
		}
	}
	return refs, true
}

// refs writes the references as a clone has them: each branch in a file of its own, tags and the branches
// of remotes in packed-refs. It returns the hashes of all, and that of HEAD if it is no branch; nil if
// they are not understood, and stay.
func (r *repo) refs(dir string, c config) map[string]string {
	packed, ok := r.packed(dir)
	if !ok || c.reftable {
		return nil
	}
	all, loose := maps.Clone(packed), map[string]string{}
	for _, name := range r.below(dir + "/refs") {
		content, ok := r.file(dir+"/refs/"+name, 4<<10)
		hash := strings.TrimSpace(string(content))
		if ok && isHash(hash) {
			all["refs/"+name], loose["refs/"+name] = hash, hash
		} else if symbolic(content) == "" {
			return nil
		}
	}
	for name, hash := range all {
		switch {
		case strings.HasPrefix(name, "refs/heads/"):
			delete(packed, name)
			r.set(dir+"/"+name, []byte(hash+"\n"))
		case strings.HasPrefix(name, "refs/tags/"), strings.HasPrefix(name, "refs/remotes/"):
			packed[name] = hash
			delete(r.entries, dir+"/"+name)
		case loose[name] != "":
			delete(packed, name)
		}
	}
	if len(packed) == 0 {
		delete(r.entries, dir+"/packed-refs")
	} else {
		var b strings.Builder
		b.WriteString("# pack-refs with: sorted \n")
		for _, name := range slices.Sorted(maps.Keys(packed)) {
			fmt.Fprintf(&b, "%s %s\n", packed[name], name)
		}
		r.set(dir+"/packed-refs", []byte(b.String()))
	}
	if head, ok := r.file(dir+"/HEAD", 4<<10); ok && isHash(strings.TrimSpace(string(head))) {
		all["HEAD"] = strings.TrimSpace(string(head))
	}
	return all
}

// config is what the form depends on in a repository's configuration.
type config struct {
	shared   bool // git chooses other modes
	reftable bool
}

// config reads the configuration, which stays as it is, and notes credentials in it.
func (r *repo) config(dir string) config {
	var c config
	content, _ := r.file(dir+"/config", 1<<20)
	section := ""
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			end := strings.LastIndexByte(line, ']')
			if end < 0 {
				continue
			}
			section, line = strings.TrimSpace(line[1:end]), strings.TrimSpace(line[end+1:])
		}
		key, value, _ := strings.Cut(line, "=")
		key, value = strings.ToLower(strings.TrimSpace(key)), strings.Trim(strings.TrimSpace(value), `"`)
		kind, name, _ := strings.Cut(section, " ")
		kind = strings.ToLower(kind)
		switch {
		case kind == "core" && key == "sharedrepository":
			c.shared = value != "umask" && value != "false" && value != "0"
		case kind == "extensions" && key == "refstorage":
			c.reftable = value != "files"
		case kind == "http" && key == "extraheader" && value != "",
			hasPassword(value), kind == "url" && hasPassword(strings.Trim(name, `"`)):
			r.credentials = append(r.credentials, fmt.Sprintf("%s of [%s]", key, withoutPassword(section)))
		}
	}
	if st := r.entries[dir+"/refs/heads"]; st != nil && !os.FileMode(st.Mode).IsDir() {
		c.reftable = true // git puts a file there
	}
	return c
}

// minToken is the length from which a user's name is taken for a token.
const minToken = 20

// hasPassword reports whether a text is a URL with a password, or with a token for the user's name.
func hasPassword(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.User == nil || u.Host == "" {
		return false
	}
	_, password := u.User.Password()
	return password || len(u.User.Username()) >= minToken
}

// withoutPassword returns the name of a section that can be shown.
func withoutPassword(section string) string {
	kind, name, _ := strings.Cut(section, " ")
	u, err := url.Parse(strings.Trim(name, `"`))
	if err != nil || u.User == nil {
		return section
	}
	u.User = nil
	return fmt.Sprintf("%s %q", kind, u)
}
