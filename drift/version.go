package drift

import (
	"cmp"
	"strings"

	"github.com/kedge-build/kedge/diff/packages"
)

// A Step is how far a package's version has moved.
type Step string

// The steps. Major is also a change of the epoch, and Patch also one of the part behind the third number, such as a
// distribution's revision.
const (
	Major Step = "major"
	Minor Step = "minor"
	Patch Step = "patch"
	Down  Step = "down"
)

// step returns how far the version of a package of a purl type has moved, "" if both versions are equal to the
// package manager.
func step(kind, from, to string) Step {
	c := compareVersions(kind, from, to)
	switch {
	case c == 0:
		return ""
	case c > 0:
		return Down
	}
	a, b := numbers(from), numbers(to)
	switch {
	case a[0] != b[0] || a[1] != b[1]:
		return Major
	case a[2] != b[2]:
		return Minor
	}
	return Patch
}

// numbers returns the epoch and the first two numbers of a version, without leading zeros.
func numbers(version string) [3]string {
	var n [3]string
	epoch, rest, ok := strings.Cut(version, ":")
	if ok {
		n[0] = strings.TrimLeft(epoch, "0")
	} else {
		rest = version
	}
	rest = strings.TrimLeft(rest, "vgo")
	if i := strings.IndexAny(rest, "-+~_"); i >= 0 {
		rest = rest[:i]
	}
	for i, part := range strings.SplitN(rest, ".", 3)[:min(2, strings.Count(rest, ".")+1)] {
		n[i+1] = strings.TrimLeft(part, "0")
	}
	return n
}

// compareVersions orders two versions as dpkg does (deb-version(7)), which agrees with apk and rpm on the versions
// that their distributions use. In versions of other packages, what follows a dash is a pre-release, and what
// follows a plus is not compared (https://semver.org).
func compareVersions(kind, a, b string) int {
	epochA, restA := splitEpoch(a)
	epochB, restB := splitEpoch(b)
	if c := compareParts(epochA, epochB); c != 0 {
		return c
	}
	if packages.IsDatabase(kind) {
		upstreamA, revisionA := splitRevision(restA)
		upstreamB, revisionB := splitRevision(restB)
		return cmp.Or(compareParts(upstreamA, upstreamB), compareParts(revisionA, revisionB))
	}
	restA, _, _ = strings.Cut(restA, "+")
	restB, _, _ = strings.Cut(restB, "+")
	return compareParts(strings.Replace(restA, "-", "~", 1), strings.Replace(restB, "-", "~", 1))
}

func splitEpoch(v string) (epoch, rest string) {
	if epoch, rest, ok := strings.Cut(v, ":"); ok {
		return epoch, rest
	}
	return "0", v
}

func splitRevision(v string) (upstream, revision string) {
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return v[:i], v[i+1:]
	}
	return v, ""
}

// compareParts compares runs of other characters and runs of digits in turn. A tilde sorts before the end, and
// letters before all other characters.
func compareParts(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !isDigit(a[0]) || b != "" && !isDigit(b[0]) {
			if c := cmp.Compare(order(a), order(b)); c != 0 {
				return c
			}
			a, b = a[min(1, len(a)):], b[min(1, len(b)):]
		}
		var x, y string
		x, a = digits(a)
		y, b = digits(b)
		if c := cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)); c != 0 {
			return c
		}
	}
	return 0
}

// order returns the rank of the first character of a run of other characters than digits.
func order(s string) int {
	switch {
	case s == "" || isDigit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z':
		return int(s[0])
	}
	return int(s[0]) + 256
}

// digits returns the leading digits of s, without leading zeros, and the rest.
func digits(s string) (number, rest string) {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return strings.TrimLeft(s[:n], "0"), s[n:]
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
