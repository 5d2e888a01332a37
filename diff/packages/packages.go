// Package packages reads which packages a file of an image says are installed, without running
// anything of the image. Files are hostile input: every reader bounds what it holds in memory and
// returns an error, or fewer packages, for content that it does not understand.
package packages

import (
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/kedge-build/kedge/internal/format"
)

// Package is one package, of one of the [Kinds].
type Package struct {
	Kind    string
	Name    string
	Version string
}

// Kinds returns the types of package URLs that are read (https://github.com/package-url/purl-spec), in the order in which they are shown.
func Kinds() []string {
	return []string{"deb", "apk", "rpm", "pypi", "npm", "golang", "gem", "maven", "cargo"}
}

// The limits that hold whatever an image says.
const (
	maxPackages = 1 << 18 // packages of one file
	maxField    = 4 << 10 // bytes of a name or version; longer ones are cut
	maxDocument = 4 << 20 // bytes of a file that is decoded at once
	maxLine     = 1 << 20 // bytes of a line; the rest of a longer one is ignored
)

// A Stream reads the packages of a file from its beginning.
type Stream func(io.Reader) ([]Package, error)

// A Random reads the packages of a file of the given size in bytes, at any place.
type Random func(r io.ReaderAt, size int64) ([]Package, error)

// ForStream returns the Stream for the file at path p (with slashes, none in front) and the kind of its
// packages; nil if no package manager keeps a file at that path.
func ForStream(p string) (Stream, string) {
	dir, base := path.Split(p)
	dir = strings.TrimSuffix(dir, "/")
	switch {
	case p == "var/lib/dpkg/status", dir == "var/lib/dpkg/status.d" && path.Ext(base) != ".md5sums":
		return dpkg, "deb"
	case p == "lib/apk/db/installed", p == "usr/lib/apk/db/installed":
		return apk, "apk"
	case base == "METADATA" && strings.HasSuffix(dir, ".dist-info"),
		base == "PKG-INFO" && strings.HasSuffix(dir, ".egg-info"),
		strings.HasSuffix(base, ".egg-info"):
		return python, "pypi"
	case base == "package.json" && isNodeModule(dir):
		return npm, "npm"
	case strings.HasSuffix(base, ".gemspec") && (path.Base(dir) == "specifications" || strings.HasSuffix(dir, "specifications/default")):
		return gem, "gem"
	}
	return nil, ""
}

// isNodeModule reports whether dir is the directory of a module, node_modules/NAME or
// node_modules/@SCOPE/NAME, and not one within it.
func isNodeModule(dir string) bool {
	parent := path.Dir(dir)
	if strings.HasPrefix(path.Base(parent), "@") {
		parent = path.Dir(parent)
	}
	return path.Base(parent) == "node_modules"
}

// ForRandom is ForStream for files that must be read at random.
func ForRandom(p string) (Random, string) {
	switch path.Base(p) {
	case "rpmdb.sqlite", "Packages.db", "Packages":
		switch path.Dir(p) {
		case "var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm":
			return guard(rpm), "rpm"
		}
	}
	switch path.Ext(p) {
	case ".jar", ".war", ".ear":
		return guard(jar), "maven"
	}
	return nil, ""
}

// guard returns read with its panics contained.
func guard(read Random) Random {
	return func(r io.ReaderAt, size int64) (list []Package, err error) {
		err = format.Contain(func() (err error) {
			list, err = read(r, size)
			return err
		})
		return list, err
	}
}

// IsDatabase reports whether a package manager keeps packages of a kind in its database, which must be
// readable, and not in files that anyone may put anywhere in any state.
func IsDatabase(kind string) bool { return kind == "deb" || kind == "apk" || kind == "rpm" }

// list collects packages.
type list struct {
	kind string
	all  []Package
}

// add adds a package, unless it has no name. It returns an error if there are too many.
func (l *list) add(name, version string) error {
	name, version = field(name), field(version)
	if name == "" {
		return nil
	}
	if len(l.all) == maxPackages {
		return fmt.Errorf("more than %d packages", maxPackages)
	}
	l.all = append(l.all, Package{l.kind, name, version})
	return nil
}

// field returns a copy, so that a short name does not keep a whole file in memory.
func field(s string) string {
	s = strings.TrimSpace(s)
	return strings.Clone(s[:min(len(s), maxField)])
}
