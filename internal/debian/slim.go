package debian

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// files are the contents of files that debuerreotype adds to every image, by path
// (its debuerreotype-minimizing-config and debuerreotype-slimify).
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

// policyRCD keeps packages from starting services. It is added after the upgrade,
// which it would disturb in a chroot.
const policyRCD = `#!/bin/sh
exit 101
`

// excluded are the paths that a slim image lacks, and included those below them that
// it keeps, such as licences.
var (
	excluded = []string{"doc", "groff", "info", "linda", "lintian", "locale", "man"}
	included = []string{"doc/*/copyright", "locale/locale.alias"}
)

// slimRules returns excluded and included in the format of dpkg.cfg(5), for packages
// that are installed later.
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

// traces are globs of files that an installation leaves, relative to the root: logs,
// caches, backups and files of the machine on which it ran.
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

// slim removes excluded and traces from the tree at root.
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

// prune removes the files below share/name that are not in included, and then the
// empty folders except share/name itself.
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
	for i := len(dirs) - 1; i > 0; i-- { // the deepest first; Remove fails if one is not empty
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
