package drift

import (
	"cmp"
	"strings"

	"github.com/kedge-build/kedge/diff/packages"
	packageurl "github.com/package-url/packageurl-go"
)

// purl returns the package URL of a package in an image of a distribution.
func purl(p packages.Package, distribution string) string {
	u := packageurl.PackageURL{Type: p.Kind, Name: p.Name, Version: p.Version}
	switch p.Kind {
	case "deb":
		u.Namespace = cmp.Or(distribution, "debian")
	case "apk":
		u.Namespace = cmp.Or(distribution, "alpine")
	case "rpm":
		u.Namespace = distribution
	case "npm", "golang":
		if i := strings.LastIndexByte(p.Name, '/'); i >= 0 {
			u.Namespace, u.Name = p.Name[:i], p.Name[i+1:]
		}
	case "maven":
		if group, name, ok := strings.Cut(p.Name, ":"); ok {
			u.Namespace, u.Name = group, name
		}
	}
	_ = u.Normalize() // a package of any name is recorded
	return strings.ToValidUTF8(u.ToString(), "\uFFFD")
}

// A versioned is a package URL in its parts: the kind is its type, and the name has no version.
type versioned struct{ kind, name, version string }

// parsePURL returns the parts of a package URL that a record has. Of one that it cannot read, the name is all.
func parsePURL(s string) versioned {
	u, err := packageurl.FromString(s)
	if err != nil {
		return versioned{name: s}
	}
	name := u.Name
	if u.Namespace != "" && !packages.IsDatabase(u.Type) {
		name = u.Namespace + "/" + u.Name
	}
	return versioned{u.Type, name, u.Version}
}
