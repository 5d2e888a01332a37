package debian

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// files are what debuerreotype sets in every image (its
// debuerreotype-minimizing-config and debuerreotype-slimify), by path.
var files = map[string]string{
	"etc/apt/apt.conf.d/docker-autoremove-suggests": `Apt::AutoRemove::SuggestsImportant "false";
`,
	"etc/apt/apt.conf.d/docker-clean": `DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };

Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
`,
	"etc/apt/apt.conf.d/docker-gzip-indexes": `Acquire::GzipIndexes "true";
`,
	"etc/apt/apt.conf.d/docker-no-languages": `Acquire::Languages "none";
`,
	"etc/dpkg/dpkg.cfg.d/docker-apt-speedup": `force-unsafe-io
`,
	"etc/dpkg/dpkg.cfg.d/docker": slimRules(),
}

// policyRCD keeps packages from starting services. It comes after the
// upgrade, which in a chroot it would only hinder.
const policyRCD = `#!/bin/sh
exit 101
`

// excluded and included are the paths that a slim image does without, and
// those below them that it keeps all the same: licences must stay.
var (
	excluded = []string{"doc", "groff", "info", "linda", "lintian", "locale", "man"}
	included = []string{"doc/*/copyright", "locale/locale.alias"}
)

// slimRules returns excluded and included in the form of dpkg.cfg(5), for the
// packages that are installed later.
func slimRules() string {
	var b strings.Builder
	for _, name := range excluded {
		b.WriteString("path-exclude /usr/share/" + name + "/*\n")
	}
	for _, name := range included {
		b.WriteString("path-include /usr/share/" + name + "\n")
	}
	return b.String()
}

// traces are what installing leaves behind: logs, caches, backups and what
// belongs to the machine that it was done on. Globs, relative to the root.
var traces = []string{
	"etc/*-",
	"etc/hostname",
	"etc/resolv.conf",
	"dev/*",
	"run/*",
	"tmp/*",
	"var/cache/apt/*.bin",
	"var/cache/apt/archives/lock",
	"var/cache/debconf/*-old",
	"var/cache/ldconfig/aux-cache",
	"var/lib/apt/lists/*",
	"var/lib/dpkg/*-old",
	"var/log/alternatives.log",
	"var/log/apt/*",
	"var/log/bootstrap.log",
	"var/log/dpkg.log",
	"var/tmp/*",
}

// slim takes away from the tree at root what a slim image does without, and
// what making it has left.
func slim(root string) error {
	share := filepath.Join(root, "usr/share")
	for _, name := range excluded {
		if err := prune(share, name); err != nil {
			return err
		}
	}
	for _, glob := range traces {
		names, err := filepath.Glob(filepath.Join(root, glob))
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := os.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	err := os.Truncate(filepath.Join(root, "etc/machine-id"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// prune removes the files below share/name that included does not name, and
// then the folders that are empty, but not share/name itself.
func prune(share, name string) error {
	var dirs []string
	err := filepath.WalkDir(filepath.Join(share, name), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if entry.IsDir() {
			dirs = append(dirs, path)
			return nil
		}
		rel, err := filepath.Rel(share, path)
		if err != nil {
			return err
		}
		for _, glob := range included {
			if ok, err := filepath.Match(glob, rel); ok || err != nil {
				return err
			}
		}
		return os.Remove(path)
	})
	if err != nil {
		return err
	}
	for i := len(dirs) - 1; i > 0; i-- { // the deepest first; one that is not empty stays
		if entries, err := os.ReadDir(dirs[i]); err != nil {
			return err
		} else if len(entries) == 0 {
			if err := os.Remove(dirs[i]); err != nil {
				return err
			}
		}
	}
	return nil
}
