package debian

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// source is a suite and its mirror.
type source struct{ url, suite string }

// bootstrap installs a Debian release in root, and returns the date of the archive
// that it came from.
func bootstrap(ctx context.Context, root, release string, log io.Writer) (created time.Time, err error) {
	sources, err := sources(ctx, release, log)
	if err != nil {
		return created, err
	}
	if err := run(ctx, log, "debootstrap", "--variant=minbase", release, root, sources[0].url); err != nil {
		return created, err
	}
	settings, err := checks(ctx)
	if err != nil {
		return created, err
	}
	for name, content := range files {
		if err := put(root, name, content); err != nil {
			return created, err
		}
	}
	if err := put(root, "etc/apt/sources.list.d/debian.sources", deb822(sources)); err != nil {
		return created, err
	}
	if err := os.Remove(filepath.Join(root, "etc/apt/sources.list")); err != nil {
		return created, err
	}
	if settings != "" {
		if err := put(root, "etc/apt/apt.conf.d/mirror", settings); err != nil {
			return created, err
		}
	}
	// debootstrap copies resolv.conf, and only handles the first suite.
	for _, args := range [][]string{{"update"}, {"dist-upgrade", "-y"}, {"clean"}} {
		if err := run(ctx, log, "chroot", append([]string{root, "apt-get"}, args...)...); err != nil {
			return created, err
		}
	}
	if created, err = archiveDate(root); err != nil {
		return created, err
	}
	if err := put(root, "usr/sbin/policy-rc.d", policyRCD); err != nil {
		return created, err
	}
	if err := os.Chmod(filepath.Join(root, "usr/sbin/policy-rc.d"), 0o755); err != nil {
		return created, err
	}
	return created, slim(root)
}

// sources returns the archives of a release, the release's own first: those of this
// machine's apt configuration, or for a release that is not in it, those of the same
// mirrors. It asks apt, which parses every form of its configuration. apt answers
// without a network and without package lists.
func sources(ctx context.Context, release string, log io.Writer) ([]source, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "--print-uris", "update").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("no apt here: the packages come from the mirror that a Debian machine's apt is set to")
	}
	if err != nil {
		return nil, fmt.Errorf("asking apt for its mirror: %w", err)
	}
	configured := parseSources(string(out))
	if found := archivesOf(release, configured); len(found) > 0 && found[0].suite == release {
		return found, nil
	}
	guessed := guess(release, configured)
	if len(guessed) == 0 {
		return nil, errors.New("this machine's apt is set to no mirror of Debian")
	}
	// An old or unreleased release lacks some of the archives.
	found := guessed[:1]
	for _, s := range guessed[1:] {
		if err := fetches(ctx, s); err != nil {
			fmt.Fprintf(log, "no %s at %s: %v\n", s.suite, s.url, err)
			continue
		}
		found = append(found, s)
	}
	return found, nil
}

// fetches returns an error unless the mirror has the archive.
func fetches(ctx context.Context, s source) error {
	dir, err := os.MkdirTemp("", "kedge-debian-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	out, err := exec.CommandContext(ctx, "/usr/lib/apt/apt-helper", "-o", "APT::Sandbox::User=root", "download-file",
		s.url+"/dists/"+s.suite+"/InRelease", filepath.Join(dir, "InRelease")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// The suites of a release in addition to the one with its name.
const (
	updates  = "-updates"
	security = "-security"
)

var indexURI = regexp.MustCompile(`(?m)^'([^']+)/dists/((?:bullseye|bookworm|trixie|sid)(?:-updates|-security)?)/main/binary-[a-z0-9]+/Packages`)

// parseSources picks the archives of the releases from the output of
// `apt-get --print-uris update`, by the package indexes of the component main.
// The first of several mirrors of a suite counts, since other publishers' archives,
// which can use Debian's names, usually come after Debian's.
func parseSources(out string) []source {
	var found []source
	for _, m := range indexURI.FindAllStringSubmatch(out, -1) {
		if !slices.ContainsFunc(found, func(s source) bool { return s.suite == m[2] }) {
			found = append(found, source{url: m[1], suite: m[2]})
		}
	}
	return found
}

// archivesOf returns the archives in found that belong to a release, its own first.
func archivesOf(release string, found []source) []source {
	var own []source
	for _, suite := range []string{release, release + security, release + updates} {
		if i := slices.IndexFunc(found, func(s source) bool { return s.suite == suite }); i >= 0 {
			own = append(own, found[i])
		}
	}
	return own
}

// guess returns the likely archives of a release on the mirrors of other releases,
// its own first.
func guess(release string, configured []source) []source {
	var main, fixes string
	for _, s := range configured {
		switch {
		case strings.HasSuffix(s.suite, security):
			fixes = cmp.Or(fixes, s.url)
		case !strings.HasSuffix(s.suite, updates):
			main = cmp.Or(main, s.url)
		}
	}
	if main == "" {
		return nil
	}
	found := []source{{main, release}}
	if release == "sid" { // has no others
		return found
	}
	if fixes != "" {
		found = append(found, source{fixes, release + security})
	}
	return append(found, source{main, release + updates})
}

// checks returns this machine's apt settings for the age of Release files, as lines
// of an apt.conf. The image needs them as well if the mirror is a snapshot.
func checks(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return "", fmt.Errorf("asking apt for its settings: %w", err)
	}
	var kept strings.Builder
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Acquire::Check-") {
			kept.WriteString(line)
		}
	}
	return kept.String(), nil
}

// deb822 returns the sources as a .sources file; see sources.list(5).
func deb822(sources []source) string {
	var b strings.Builder
	for i, s := range sources {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n"+
			"Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n", s.url, s.suite)
	}
	return b.String()
}

var releaseDate = regexp.MustCompile(`(?m)^Date: (.*)$`)

// archiveDate returns the newest Date of the Release files below root, which apt
// fetched.
func archiveDate(root string) (newest time.Time, err error) {
	names, err := filepath.Glob(filepath.Join(root, "var/lib/apt/lists/*InRelease"))
	if err != nil {
		return newest, err
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			return newest, err
		}
		m := releaseDate.FindSubmatch(content)
		if m == nil {
			return newest, fmt.Errorf("%q has no Date", filepath.Base(name))
		}
		date, err := time.Parse(time.RFC1123, string(m[1]))
		if err != nil {
			return newest, fmt.Errorf("%q: %w", filepath.Base(name), err)
		}
		if date.After(newest) {
			newest = date
		}
	}
	if newest.IsZero() {
		return newest, errors.New("apt has fetched no Release file")
	}
	return newest.UTC(), nil
}

// run runs a program in the environment for installing packages, with its output
// on log.
func run(ctx context.Context, log io.Writer, name string, args ...string) error {
	var tail bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = []string{"PATH=" + defaultPath, "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	cmd.Stdout = io.MultiWriter(log, &tail)
	cmd.Stderr = cmd.Stdout
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(tail.String()), "\n")
		return fmt.Errorf("running %s: %w:\n%s", name, err, strings.Join(lines[max(0, len(lines)-10):], "\n"))
	}
	return nil
}

func put(root, name, content string) error {
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), 0o644)
}
