package network

import (
	"net/url"
	"path"
	"regexp"
	"strings"
)

// A Package is a version of a package, as the URL of its file names it.
type Package struct {
	Kind    string // the type of a package URL: deb, apk, rpm, pypi, npm, golang, cargo, gem or maven
	Name    string
	Version string
}

// A pattern finds the package of a URL's path, or of its last element.
type pattern struct {
	kind string
	form *regexp.Regexp
	base bool // form is about the last element of the path
	// make returns name and version of the groups of form; nil: they are the first two.
	make func(groups []string) (name, version string)
}

// patterns are tried in this order.
var patterns = []pattern{
	{"deb", regexp.MustCompile(`^([a-z0-9][a-z0-9+.-]*)_([^_]+)_[a-z0-9-]+\.u?deb$`), true, nil},
	{"apk", regexp.MustCompile(`^([A-Za-z0-9][\w+.-]*?)-(\d[\w.+]*-r\d+)\.apk$`), true, nil},
	{"rpm", regexp.MustCompile(`^([\w+.-]+)-([^-]+-[^-]+)\.(?:noarch|src|[a-z]\w*)\.d?rpm$`), true, nil},
	{"pypi", regexp.MustCompile(`^([A-Za-z0-9._]+)-([A-Za-z0-9.!+_]+)(?:-\d[^-]*)?-[^-]+-[^-]+-[^-]+\.whl$`), true, pypiName},
	{"gem", regexp.MustCompile(`/gems/([A-Za-z0-9._-]+?)-(\d[A-Za-z0-9.]*(?:-[a-z0-9_-]+)?)\.gem$`), false, nil},
	{"cargo", regexp.MustCompile(`/([A-Za-z0-9_-]+)/([^/]+)/download$`), false, nil},
	{"cargo", regexp.MustCompile(`^([A-Za-z0-9_-]+?)-(\d[\w.+-]*)\.crate$`), true, nil},
	{"npm", regexp.MustCompile(`/((?:@[^/]+/)?[^/@]+)/-/[^/]*?-(\d[^/]*)\.tgz$`), false, nil},
	{"golang", regexp.MustCompile(`^/(?:.*/)?([^/]+\.[^/]+(?:/[^@]+)?)/@v/([^/]+)\.(?:zip|mod|info)$`), false, goName},
	{"maven", regexp.MustCompile(`/(?:maven2?|repository/[^/]+|m2|public)/(.+)/([^/]+)/(\d[^/]*)/([^/]+)\.(?:jar|pom|war|aar|module)$`), false, mavenName},
	{"pypi", regexp.MustCompile(`/packages/(?:.*/)?([A-Za-z0-9._-]+?)-(\d[A-Za-z0-9.!+]*)\.(?:tar\.gz|tar\.bz2|zip)$`), false, pypiName},
}

// packageOf returns the package whose file a canonical URL names. It goes by the forms of well-known
// repositories, also on mirrors.
func packageOf(text string) (Package, bool) {
	u, err := url.Parse(text)
	if err != nil || len(u.Path) > maxURL {
		return Package{}, false
	}
	base := path.Base(u.Path)
	for _, p := range patterns {
		subject := u.Path
		if p.base {
			subject = base
		}
		groups := p.form.FindStringSubmatch(subject)
		if groups == nil {
			continue
		}
		found := Package{Kind: p.kind, Name: groups[1], Version: groups[2]}
		if p.make != nil {
			found.Name, found.Version = p.make(groups)
		}
		if found.Name != "" && found.Version != "" {
			return found, true
		}
	}
	return Package{}, false
}

var separators = regexp.MustCompile(`[-_.]+`)

// pypiName returns a name as https://packaging.python.org/en/latest/specifications/name-normalization/ has it.
func pypiName(groups []string) (name, version string) {
	return strings.ToLower(separators.ReplaceAllString(groups[1], "-")), groups[2]
}

// goName returns a module's path and version, in which a proxy writes an upper-case letter as ! and the lower-case
// letter (https://go.dev/ref/mod#module-proxy).
func goName(groups []string) (name, version string) {
	return unescapeGo(groups[1]), unescapeGo(groups[2])
}

func unescapeGo(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '!' && i+1 < len(s) && s[i+1] >= 'a' && s[i+1] <= 'z' {
			i++
			b.WriteByte(s[i] - 'a' + 'A')
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mavenName returns group and artifact, if the file is named after them.
func mavenName(groups []string) (name, version string) {
	group, artifact, version, file := groups[1], groups[2], groups[3], groups[4]
	if !strings.HasPrefix(file, artifact+"-"+version) {
		return "", ""
	}
	return strings.ReplaceAll(group, "/", ".") + ":" + artifact, version
}
