// Package plugin installs kedge as a plugin of the docker CLI, and removes it.
//
// For "docker NAME", the docker CLI runs the program docker-NAME in the folder cli-plugins of its
// configuration. For "docker build", it runs the plugin that the alias "builder" in config.json names.
//
//	link, alias, err := plugin.Install(docker.Dir(env), "/usr/local/bin/kedge", true)
package plugin

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kedge-build/kedge/internal/wholefile"
)

// Name is the plugin's name, as in docker NAME.
const Name = "kedge"

// stateFile is the file in docker's folder that Undo needs.
const stateFile = "kedge-install.json"

// Change is a change to a link or to docker's config.json. The zero value means that nothing changed.
type Change struct {
	Path string // the link, or docker's config.json
	// Old and New are the target of the link, or the value of the alias. They are empty if there is none.
	Old, New string
}

// ForeignError says that a file with the plugin's name is not a link to kedge. It is not changed.
type ForeignError struct {
	Path   string
	Target string // of the link; empty if it is not one
}

func (e *ForeignError) Error() string {
	if e.Target != "" {
		return fmt.Sprintf("%q is a link to %q, not to kedge", e.Path, e.Target)
	}
	return fmt.Sprintf("%q exists and is not a link to kedge", e.Path)
}

// before is the state before Install, as far as Undo cannot derive it.
type before struct {
	Builder json.RawMessage `json:"builder,omitempty"` // the value of the alias
	Aliases *string         `json:"aliases,omitempty"` // the text of "aliases", if it was empty
	Config  *string         `json:"config,omitempty"`  // the text of config.json, if it was empty
	Created bool            `json:"created,omitempty"` // there was no config.json
	Folders []string        `json:"folders,omitempty"` // created by Install, the lowest first
}

// Install links dir/cli-plugins/docker-kedge to program. If alias is set, it also sets the alias "builder"
// in dir/config.json to kedge. dir is docker's folder, such as ~/.docker, and is created if it is missing.
// Install returns its changes to the link and the alias.
//
// The error is a [*ForeignError], a [*ConfigError], or comes from the file system. Install checks
// everything before its first change.
func Install(dir, program string, alias bool) (link, aliased Change, err error) {
	path := linkIn(dir)
	old, err := linked(path, program)
	if err != nil {
		return link, aliased, err
	}
	var config *config
	var state before
	if alias {
		if config, err = readConfig(filepath.Join(dir, "config.json")); err != nil {
			return link, aliased, err
		}
		if config.builder == nil || *config.builder != Name {
			aliased = Change{Path: config.path, New: Name}
			if config.builder != nil {
				aliased.Old = *config.builder
			}
			state = config.alias(Name)
		}
	}
	if old != program {
		if state.Folders, err = makeFolders(filepath.Dir(path)); err != nil {
			return link, aliased, err
		}
		if err := relink(program, path); err != nil {
			return link, aliased, fmt.Errorf("linking %q: %w", path, err)
		}
		link = Change{Path: path, Old: old, New: program}
	}
	if link == (Change{}) && aliased == (Change{}) {
		return link, aliased, nil
	}
	if err := remember(dir, state, aliased != Change{}); err != nil {
		return link, Change{}, err
	}
	if aliased != (Change{}) {
		if err := config.write(); err != nil {
			return link, Change{}, err
		}
	}
	return link, aliased, nil
}

// Undo reverts [Install], and keeps changes that were made since. It returns its changes to the link and
// the alias. Its errors are those of Install.
func Undo(dir, program string) (link, aliased Change, err error) {
	state, err := recall(dir)
	if err != nil {
		return link, aliased, err
	}
	config, err := readConfig(filepath.Join(dir, "config.json"))
	if err != nil {
		return link, aliased, err
	}
	if config.builder != nil && *config.builder == Name {
		aliased = Change{Path: config.path, Old: Name}
		if state.Builder != nil {
			if err := json.Unmarshal(state.Builder, &aliased.New); err != nil {
				return link, Change{}, err
			}
		}
		config.restore(state)
		if err := config.write(); err != nil {
			return link, Change{}, err
		}
	}
	path := linkIn(dir)
	target, err := linked(path, program)
	if err != nil {
		return link, aliased, err
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if err := os.Remove(path); err != nil {
			return link, aliased, err
		}
		link = Change{Path: path, Old: target}
	}
	if err := os.Remove(filepath.Join(dir, stateFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return link, aliased, err
	}
	for _, folder := range state.Folders {
		_ = os.Remove(folder) // fails if it is not empty
	}
	return link, aliased, nil
}

func linkIn(dir string) string { return filepath.Join(dir, "cli-plugins", "docker-"+Name) }

// linked returns the target of the link at path, program if path is the program itself, or "" if there is
// no file at path.
func linked(path, program string) (string, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		if self, err := os.Stat(program); err == nil && os.SameFile(info, self) {
			return program, nil
		}
		return "", &ForeignError{Path: path}
	}
	target, err := os.Readlink(path)
	if err != nil {
		return "", err
	}
	if !isKedge(target, program) {
		return "", &ForeignError{Path: path, Target: target}
	}
	return target, nil
}

// isKedge reports whether the target of a link is kedge, of any version.
func isKedge(target, program string) bool {
	return target == program || filepath.Base(target) == Name
}

// makeFolders creates a folder and its parents, and returns those that were missing, the lowest first.
func makeFolders(dir string) ([]string, error) {
	var missing []string
	for folder := dir; ; folder = filepath.Dir(folder) {
		if _, err := os.Lstat(folder); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		missing = append(missing, folder)
	}
	return missing, os.MkdirAll(dir, 0o700) // docker's own mode
}

// relink creates or replaces a link.
func relink(target, path string) error {
	tmp := path + "." + rand.Text()
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return nil
}

// remember writes the state before Install. If this Install did not change the alias, the state of an
// earlier one stays.
func remember(dir string, state before, aliased bool) error {
	earlier, err := recall(dir)
	if err != nil {
		return err
	}
	folders := append(state.Folders, earlier.Folders...)
	if !aliased {
		state = earlier
	}
	state.Folders = folders
	data, err := json.MarshalIndent(state, "", "\t")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, stateFile), data)
}

func recall(dir string) (before, error) {
	var state before
	path := filepath.Join(dir, stateFile)
	data, err := wholefile.Read(path, maxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return state, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &state)
	}
	if err != nil {
		return state, fmt.Errorf("reading the state before the installation, %q: %w", path, err)
	}
	return state, nil
}
