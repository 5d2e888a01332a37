package main

import (
	"cmp"
	_ "embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/internal/debian"
)

// packagesTxt lists Debian packages, one a line, small ones first.
//
//go:embed packages.txt
var packagesTxt string

// buildContext is a folder with a Dockerfile.
type buildContext struct {
	name string // unique, for people
	dir  string
}

// findContexts returns the build contexts for the arguments. Those of a folder are sorted by name.
// "packages" and "packages:RELEASE" stand for the packages in packages.txt, on bookworm or another release
// of Debian. Their contexts are written below scratch.
func findContexts(args []string, scratch string) ([]buildContext, error) {
	var found []buildContext
	for _, arg := range args {
		var more []buildContext
		var err error
		if kind, release, chosen := strings.Cut(arg, ":"); kind != "packages" {
			more, err = below(arg)
		} else if chosen && (release == "" || debian.ReleaseOf(release) != release) {
			err = fmt.Errorf("%q: %q is not bullseye, bookworm, trixie or sid", arg, release)
		} else {
			more, err = writePackages(parsePackages(packagesTxt), arg, cmp.Or(release, debian.Bookworm), scratch)
		}
		if err != nil {
			return nil, err
		}
		for _, c := range more {
			if slices.ContainsFunc(found, func(f buildContext) bool { return f.name == c.name }) {
				return nil, fmt.Errorf("%q names a second context %q", arg, c.name)
			}
			found = append(found, c)
		}
	}
	return found, nil
}

// below returns every folder with a Dockerfile at or below root. Their names begin with root's.
func below(root string) ([]buildContext, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	var found []buildContext
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == ".git":
			return filepath.SkipDir
		case entry.IsDir() || entry.Name() != "Dockerfile":
			return nil
		}
		dir := filepath.Dir(path)
		name, err := filepath.Rel(filepath.Dir(root), dir)
		found = append(found, buildContext{name: filepath.ToSlash(name), dir: dir})
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no Dockerfile below %q", root)
	}
	slices.SortFunc(found, func(a, b buildContext) int { return strings.Compare(a.name, b.name) })
	return found, nil
}

// parsePackages returns the lines of a list that are neither empty nor comments.
func parsePackages(list string) []string {
	var names []string
	for line := range strings.Lines(list) {
		if line, _, _ = strings.Cut(line, "#"); strings.TrimSpace(line) != "" {
			names = append(names, strings.TrimSpace(line))
		}
	}
	return names
}

// writePackages writes a context for each package, which only installs it on a release. Its name begins
// with prefix.
func writePackages(names []string, prefix, release, scratch string) ([]buildContext, error) {
	var written []buildContext
	for _, name := range names {
		dir := filepath.Join(scratch, release, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		dockerfile := "FROM debian:" + release + "-slim\n" +
			"RUN apt-get update && apt-get install -y --no-install-recommends " + name + "\n"
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
			return nil, err
		}
		written = append(written, buildContext{name: prefix + "/" + name, dir: dir})
	}
	return written, nil
}
