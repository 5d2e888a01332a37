package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// buildxName is the file name of the plugin that docker runs for docker build, and docker compose for builds.
const buildxName = "docker-buildx"

// systemDirs are docker's folders for plugins that are not a user's; see its package cli-plugins/manager.
var systemDirs = []string{
	"/usr/local/lib/docker/cli-plugins",
	"/usr/local/libexec/docker/cli-plugins",
	"/usr/lib/docker/cli-plugins",
	"/usr/libexec/docker/cli-plugins",
}

// NoBuildxError says that there is no docker-buildx to pass other verbs on to.
type NoBuildxError struct{}

func (*NoBuildxError) Error() string { return "docker's buildx plugin is not installed" }

// ShadowedError says that docker finds another docker-buildx before the one that would be installed.
type ShadowedError struct{ Path, First string }

func (e *ShadowedError) Error() string {
	return fmt.Sprintf("docker takes %q, of a folder in cliPluginsExtraDirs, before %q", e.First, e.Path)
}

// KeptError says that a docker-buildx was put where kedge's link was, while an older one is kept.
type KeptError struct{ Path, Kept string }

func (e *KeptError) Error() string {
	return fmt.Sprintf("%q is not kedge's link any more, and %q is what was there before", e.Path, e.Kept)
}

// InstallBuildx links dir/cli-plugins/docker-buildx to program. It moves a plugin that is there, and creates dir if
// it is missing. extra are docker's cliPluginsExtraDirs. kept is where the earlier plugin is; it is empty if it
// was in no folder of the user.
//
// The error is a *NoBuildxError, a *ShadowedError or a *KeptError, or comes from the file system. InstallBuildx
// checks everything before its first change.
func InstallBuildx(dir, program string, extra []string) (link Change, kept string, err error) {
	path, aside := buildxLink(dir), buildxAside(dir)
	for _, folder := range extra {
		if first := filepath.Join(folder, buildxName); exists(first) {
			return link, "", &ShadowedError{Path: path, First: first}
		}
	}
	old, ours, err := buildxLinked(path, program)
	if err != nil {
		return link, "", err
	}
	if ours && old == program {
		return link, "", nil
	}
	if !ours && exists(path) {
		if exists(aside) {
			return link, "", &KeptError{Path: path, Kept: aside}
		}
		kept = aside
	}
	if _, err := RealBuildx(dir, program, extra); err != nil {
		return link, "", err
	}
	var state before
	if state.Folders, err = makeFolders(filepath.Dir(path)); err != nil {
		return link, "", err
	}
	if kept != "" {
		if err := os.MkdirAll(filepath.Dir(aside), 0o700); err != nil {
			return link, "", err
		}
		// A rename keeps the text of a link, also of a relative one: RealBuildx reads it as from its old folder.
		if err := os.Rename(path, aside); err != nil {
			return link, "", err
		}
	}
	if err := relink(program, path); err != nil {
		return link, kept, fmt.Errorf("linking %q: %w", path, err)
	}
	if len(state.Folders) > 0 {
		err = remember(dir, state, false)
	}
	return Change{Path: path, Old: old, New: program}, kept, err
}

// UndoBuildx reverts [InstallBuildx]. It returns the link that it removed, and the file that it put back. The
// error is a *KeptError if another plugin has the place of the link and an older one is kept.
func UndoBuildx(dir, program string) (link Change, restored string, err error) {
	path, aside := buildxLink(dir), buildxAside(dir)
	old, ours, err := buildxLinked(path, program)
	if err != nil {
		return link, "", err
	}
	switch {
	case !ours && exists(path) && exists(aside):
		return link, "", &KeptError{Path: path, Kept: aside}
	case exists(aside): // its rename replaces the link
		if err := os.Rename(aside, path); err != nil {
			return link, "", err
		}
		restored = path
		_ = os.Remove(filepath.Dir(aside)) // fails if it is not empty
	case ours:
		if err := os.Remove(path); err != nil {
			return link, "", err
		}
	default:
		return link, "", nil
	}
	return Change{Path: path, Old: old}, restored, nil
}

// RealBuildx returns the docker-buildx that docker would run if kedge's link were not there.
func RealBuildx(dir, program string, extra []string) (string, error) {
	folders := slices.Concat([]string{filepath.Dir(buildxAside(dir))}, extra, []string{filepath.Dir(buildxLink(dir))}, systemDirs)
	for _, folder := range folders {
		path := filepath.Join(folder, buildxName)
		if path == buildxAside(dir) {
			if target, err := os.Readlink(path); err == nil && !filepath.IsAbs(target) {
				path = filepath.Join(filepath.Dir(buildxLink(dir)), target)
			}
		}
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if !IsKedge(path, program) {
			return path, nil
		}
	}
	return "", &NoBuildxError{}
}

// IsKedge reports whether path is the program, or a link to kedge of any version.
func IsKedge(path, program string) bool {
	if target, err := filepath.EvalSymlinks(path); err == nil && isKedge(target, program) {
		return true
	}
	info, err := os.Stat(path)
	self, selfErr := os.Stat(program)
	return err == nil && selfErr == nil && os.SameFile(info, self)
}

func buildxLink(dir string) string { return filepath.Join(dir, "cli-plugins", buildxName) }

// buildxAside returns where an earlier plugin is kept: docker would list it if it were in its own folder.
func buildxAside(dir string) string { return filepath.Join(dir, "kedge", buildxName) }

// buildxLinked returns the target of the link at path, and whether it is kedge's.
func buildxLinked(path, program string) (target string, ours bool, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return "", false, err
	}
	if target, err = os.Readlink(path); err != nil {
		return "", false, err
	}
	if !isKedge(target, program) {
		return "", false, nil
	}
	return target, true, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
