// Package plugin makes kedge a plugin of the docker CLI, and takes that back.
//
// The docker CLI runs the program docker-NAME in the folder cli-plugins of its configuration for
// "docker NAME", and the plugin that the alias "builder" in its config.json names for "docker build".
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

// Name is what docker calls the plugin: docker NAME.
const Name = "kedge"

// stateFile, in docker's folder, holds what Undo needs.
const stateFile = "kedge-install.json"

// Change is something that was done. Its zero value is nothing.
type Change struct {
	Path string // the link, or docker's config.json
	// Old and New are what a link points to, or an alias says; empty where there is none.
	Old, New string
}

// ForeignError is a file that bears the plugin's name and is no link to kedge. It is left as it is.
type ForeignError struct {
	Path   string
	Target string // what it points to, if it is a link
}

func (e *ForeignError) Error() string {
	if e.Target != "" {
		return fmt.Sprintf("%q is a link to %q, and not to kedge", e.Path, e.Target)
	}
	return fmt.Sprintf("%q is there, and is no link to kedge", e.Path)
}

// before is what Install found, as far as it cannot be told from what it left.
type before struct {
	Builder json.RawMessage `json:"builder,omitempty"` // what the alias said
	Aliases *string         `json:"aliases,omitempty"` // the text of "aliases", if nothing was in it
	Config  *string         `json:"config,omitempty"`  // the text of config.json, if nothing was in it
	Created bool            `json:"created,omitempty"` // there was no config.json
	Folders []string        `json:"folders,omitempty"` // that were made, the lowest first
}

// Install links dir/cli-plugins/docker-kedge to a program, and with alias has the alias "builder" in
// dir/config.json name it. dir is docker's folder, such as ~/.docker, and is made if it is missing.
// It returns what it did: the link and the alias. What is as it should be is left alone.
//
// Errors are [*ForeignError], [*ConfigError] and those of the file system. Before the first change,
// everything has been looked at.
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

// Undo takes back what [Install] did in a folder for a program, and leaves alone what somebody else has
// done since. It returns what it did; its errors are those of Install.
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
		_ = os.Remove(folder) // unless something else is in it by now
	}
	return link, aliased, nil
}

func linkIn(dir string) string { return filepath.Join(dir, "cli-plugins", "docker-"+Name) }

// linked returns what a link to kedge points to, the program itself if it stands there, or nothing if
// nothing does.
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

// isKedge says whether what a link points to is kedge, of whatever version.
func isKedge(target, program string) bool {
	return target == program || filepath.Base(target) == Name
}

// makeFolders makes a folder and those above it, and returns those that it made, the lowest first.
func makeFolders(dir string) ([]string, error) {
	var made []string
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, at)
	}
	return made, os.MkdirAll(dir, 0o700) // as docker makes it
}

// relink makes a link, or has one point elsewhere.
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

// remember writes what was there, unless an earlier Install has, of which this one only moved the link.
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
		return state, fmt.Errorf("reading what was there before, %q: %w", path, err)
	}
	return state, nil
}
