package drift

import (
	"bufio"
	"bytes"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// keep reports whether Read needs the text of a file: it names the distribution, or sources of packages.
func keep(name string) bool {
	return name == "etc/os-release" || name == "usr/lib/os-release" || sourceParser(name) != nil
}

// sourcesOf returns the sources that a file of an image names, if it is the configuration of a package manager.
// They have no user names and no passwords.
func sourcesOf(name string, text []byte) []string {
	parse := sourceParser(name)
	if parse == nil {
		return nil
	}
	var list []string
	for _, s := range parse(text) {
		fields := strings.Fields(strings.ToValidUTF8(s, "\uFFFD"))
		for i, f := range fields {
			fields[i] = withoutUser(f)
		}
		list = append(list, strings.Join(fields, " "))
	}
	return list
}

// sourceParser returns what reads the sources in a file, nil if no package manager has a file at that path.
func sourceParser(name string) func([]byte) []string {
	dir, base := path.Split(name)
	ext := path.Ext(base)
	switch {
	case name == "etc/apt/sources.list", dir == "etc/apt/sources.list.d/" && ext == ".list":
		return aptLines
	case dir == "etc/apt/sources.list.d/" && ext == ".sources":
		return aptParagraphs
	case name == "etc/apk/repositories", dir == "etc/apk/repositories.d/" && ext == ".list":
		return func(text []byte) []string { return prefixed("apk", text) }
	case dir == "etc/yum.repos.d/" && ext == ".repo":
		return func(text []byte) []string { return assigned("rpm", text, "baseurl", "mirrorlist", "metalink") }
	case base == "pip.conf" && (dir == "etc/" || dir == "root/.config/pip/" || dir == "root/.pip/"):
		return func(text []byte) []string {
			return assigned("pypi", text, "index-url", "extra-index-url", "find-links")
		}
	case base == ".npmrc", base == "npmrc" && (dir == "etc/" || dir == "usr/local/etc/"):
		return func(text []byte) []string { return assigned("npm", text, "registry") }
	}
	return nil
}

// textLines returns the lines of a text without comments.
func textLines(text []byte) []string {
	var list []string
	scan := bufio.NewScanner(bytes.NewReader(text))
	for scan.Scan() {
		line, _, _ := strings.Cut(scan.Text(), "#")
		list = append(list, strings.TrimSpace(line))
	}
	return list
}

var aptOptions = regexp.MustCompile(`\[[^\]]*\]`)

// aptLines reads the one-line form of sources.list(5).
func aptLines(text []byte) []string {
	var list []string
	for _, line := range textLines(text) {
		if fields := strings.Fields(aptOptions.ReplaceAllString(line, "")); len(fields) > 2 && (fields[0] == "deb" || fields[0] == "deb-src") {
			list = append(list, strings.Join(fields, " "))
		}
	}
	return list
}

// aptParagraphs reads the deb822 form of sources.list(5), into the one-line form.
func aptParagraphs(text []byte) []string {
	var list []string
	fields, last := map[string]string{}, ""
	end := func() {
		if strings.EqualFold(fields["enabled"], "no") {
			fields = map[string]string{}
		}
		for t := range strings.FieldsSeq(fields["types"]) {
			for uri := range strings.FieldsSeq(fields["uris"]) {
				for suite := range strings.FieldsSeq(fields["suites"]) {
					list = append(list, strings.TrimSpace(strings.Join([]string{t, uri, suite, fields["components"]}, " ")))
				}
			}
		}
		fields, last = map[string]string{}, ""
	}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(line, ":")
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			end()
		case line[0] == ' ' || line[0] == '\t':
			fields[last] += " " + strings.TrimSpace(line)
		case ok:
			last = strings.ToLower(key)
			fields[last] = strings.TrimSpace(value)
		}
	}
	end()
	return list
}

func prefixed(kind string, text []byte) []string {
	var list []string
	for _, line := range textLines(text) {
		if line != "" {
			list = append(list, kind+" "+line)
		}
	}
	return list
}

// assigned returns the values of some keys in lines of KEY = VALUE. A key may have a scope before a colon, as in
// npm's configuration.
func assigned(kind string, text []byte, keys ...string) []string {
	var list []string
	for _, line := range textLines(text) {
		key, value, ok := strings.Cut(line, "=")
		if i := strings.LastIndexByte(key, ':'); i >= 0 {
			key = key[i+1:]
		}
		for _, k := range keys {
			if ok && strings.TrimSpace(key) == k && strings.TrimSpace(value) != "" {
				list = append(list, kind+" "+strings.TrimSpace(value))
			}
		}
	}
	return list
}

// assignments reads os-release(5).
func assignments(text []byte) map[string]string {
	values := map[string]string{}
	for _, line := range textLines(text) {
		if key, value, ok := strings.Cut(line, "="); ok {
			values[key] = strings.ToValidUTF8(strings.Trim(value, `"'`), "\uFFFD")
		}
	}
	return values
}

// withoutUser returns a URL without the user name and the password in it.
func withoutUser(s string) string {
	if !strings.Contains(s, "://") || !strings.Contains(s, "@") {
		return s
	}
	u, err := url.Parse(s)
	if err != nil || u.User == nil {
		before, rest, _ := strings.Cut(s, "://")
		return before + "://" + rest[strings.LastIndexByte(rest, '@')+1:]
	}
	u.User = nil
	return u.String()
}
