package daemon

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/pelletier/go-toml/v2"
)

// systemConfig is buildkitd's own default when it runs as root.
const systemConfig = "/etc/buildkit/buildkitd.toml"

// spec describes a daemon. The supervisor reads it from spec.json and copies it to state.json.
type spec struct {
	Buildkitd string   `json:"buildkitd"` // absolute, symlinks resolved
	Stamp     string   `json:"stamp"`     // size and mtime of the file
	Config    string   `json:"config,omitempty"`
	Digest    string   `json:"digest,omitempty"` // sha256 of the configuration
	Flags     []string `json:"flags"`            // derived from the configuration and the installed programs
	// Entitlements are those that a build may request: network.host, as with docker, and those in the configuration.
	Entitlements []string `json:"entitlements"`
	// Rootless is nil for a daemon of root.
	Rootless *rootless `json:"rootless,omitempty"`
}

// changed returns the differences between s and t. Flags do not count: a runtime in another folder does the same.
func (s spec) changed(t spec) []string {
	var names []string
	if s.Buildkitd != t.Buildkitd || s.Stamp != t.Stamp {
		names = append(names, "buildkitd")
	}
	if s.Config != t.Config || s.Digest != t.Digest {
		names = append(names, "config")
	}
	var now, then rootless
	if s.Rootless != nil {
		now = *s.Rootless
	}
	if t.Rootless != nil {
		then = *t.Rootless
	}
	if now.Kit != then.Kit {
		names = append(names, "rootlesskit")
	}
	if now.Network != then.Network {
		names = append(names, "network")
	}
	return names
}

// find returns the spec of the daemon that o describes. It looks for all programs that the daemon needs.
func (o Options) find() (spec, error) {
	var s spec
	var err error
	if s.Buildkitd, err = o.buildkitd(); err != nil {
		return s, err
	}
	fi, err := os.Stat(s.Buildkitd)
	if err != nil {
		return s, fmt.Errorf("looking at buildkitd: %w", err)
	}
	s.Stamp = fmt.Sprintf("%d:%d", fi.Size(), fi.ModTime().UnixNano())

	path, data, err := o.config()
	if err != nil {
		return s, fmt.Errorf("reading the buildkitd configuration: %w", err)
	}
	var c settings
	if path != "" {
		sum := sha256.Sum256(data)
		s.Config, s.Digest = path, hex.EncodeToString(sum[:])
		s.Flags = append(s.Flags, "--config", path)
		if c, err = parseSettings(data); err != nil {
			return s, fmt.Errorf("buildkitd configuration %q: %w", path, err)
		}
	}
	s.Entitlements = append([]string{"network.host"}, c.Entitlements...)
	runtime, err := o.worker(c)
	if err != nil {
		return s, err
	}
	s.Flags = append(s.Flags, runtime...)
	if uid := os.Geteuid(); uid != 0 {
		if s.Rootless, err = o.rootless(uid, c); err != nil {
			return s, fmt.Errorf("running buildkitd without root: %w", err)
		}
	}
	return s, nil
}

func (o Options) buildkitd() (string, error) {
	path, err := o.program(o.Buildkitd)
	if o.Buildkitd == "" {
		beside := filepath.Dir(o.Serve[0])
		path, err = o.search("buildkitd", append([]string{beside}, o.path()...), "buildkitd")
	}
	if err != nil {
		return "", err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", fmt.Errorf("looking for buildkitd: %w", err)
	}
	return path, nil
}

// maxConfig bounds the bytes of buildkitd.toml.
const maxConfig = 1 << 20

// config returns the path and the content of the configuration. The path is empty if there is none.
func (o Options) config() (string, []byte, error) {
	if o.Config != "" {
		path, err := filepath.Abs(o.Config)
		if err != nil {
			return "", nil, err
		}
		data, err := readConfig(path)
		return path, data, err
	}
	own := ""
	if dir := o.env("XDG_CONFIG_HOME"); dir != "" {
		own = filepath.Join(dir, "buildkit", "buildkitd.toml")
	} else if home := o.env("HOME"); home != "" {
		own = filepath.Join(home, ".config", "buildkit", "buildkitd.toml")
	}
	first, second := systemConfig, own
	if os.Geteuid() != 0 {
		first, second = own, systemConfig
	}
	for _, path := range []string{o.env("BUILDKITD_CONFIG"), first, second} {
		if path == "" {
			continue
		}
		path, err := filepath.Abs(path)
		if err != nil {
			return "", nil, err
		}
		data, err := readConfig(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 && path == systemConfig {
			continue // it is for root's daemon
		}
		return path, data, err
	}
	return "", nil, nil
}

// readConfig reads a configuration, which /dev/null can be.
func readConfig(path string) ([]byte, error) {
	if path == os.DevNull {
		return nil, nil
	}
	return wholefile.Read(path, maxConfig)
}

// settings is the part of buildkitd.toml that kedge needs. buildkitd checks the rest.
type settings struct {
	Entitlements []string `toml:"insecure-entitlements"`
	Worker       struct {
		OCI struct {
			Enabled *bool  `toml:"enabled"`
			Binary  string `toml:"binary"`
		} `toml:"oci"`
		Containerd struct {
			Enabled *bool `toml:"enabled"`
		} `toml:"containerd"`
	} `toml:"worker"`
	Registry map[string]struct {
		Mirrors []string `toml:"mirrors"`
	} `toml:"registry"`
}

func parseSettings(data []byte) (settings, error) {
	var c settings
	err := toml.NewDecoder(bytes.NewReader(data)).Decode(&c)
	if decode := (*toml.DecodeError)(nil); errors.As(err, &decode) {
		line, col := decode.Position()
		return c, fmt.Errorf("line %d, column %d: %w", line, col, err)
	}
	return c, err
}

// worker returns the flags that choose the worker and its runtime.
func (o Options) worker(c settings) ([]string, error) {
	if oci := c.Worker.OCI.Enabled; oci != nil && !*oci {
		return nil, nil // the user chose containerd, which has its own runtime
	}
	// Without the first flag, buildkitd only accepts a runtime with the name runc. Without the second, it shares the
	// machine's containerd, if there is one, with every other buildkitd.
	flags := []string{"--oci-worker=true"}
	if c.Worker.Containerd.Enabled == nil {
		flags = append(flags, "--containerd-worker=false")
	}
	binary := func(path string, err error) ([]string, error) {
		return append(flags, "--oci-worker-binary", path), err
	}

	beside := []string{filepath.Dir(o.Serve[0])}
	if name := c.Worker.OCI.Binary; name != "" {
		if strings.Contains(name, "/") {
			return binary(o.program(name))
		}
		return binary(o.search(name, append(o.path(), beside...), name))
	}
	if _, err := o.search("", o.path(), "buildkit-runc", "runc"); err == nil {
		return flags, nil // buildkitd finds it
	}
	if path, err := o.search("", beside, "buildkit-runc", "runc", "crun"); err == nil {
		return binary(path, nil)
	}
	if path, err := o.search("", o.path(), "crun"); err == nil {
		return binary(path, nil)
	}
	return nil, &MissingError{What: "runc", Searched: append(o.path(), beside...)}
}

// program returns the absolute path of a program that the user gave as a path or a name on PATH.
func (o Options) program(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	if !strings.Contains(name, "/") {
		return o.search(name, o.path(), name)
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	if !executable(path) {
		return "", &MissingError{What: filepath.Base(name), Searched: []string{path}}
	}
	return path, nil
}

// search returns the first program with one of the names. It tries a name in all folders before the next name.
func (o Options) search(what string, dirs []string, names ...string) (string, error) {
	for _, name := range names {
		for _, dir := range dirs {
			if path := filepath.Join(dir, name); executable(path) {
				return path, nil
			}
		}
	}
	return "", &MissingError{What: what, Searched: dirs}
}

// path returns the folders of PATH without relative ones, since the daemon runs in another folder.
func (o Options) path() []string {
	var dirs []string
	for _, dir := range filepath.SplitList(o.env("PATH")) {
		if filepath.IsAbs(dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// env returns the value of a variable. The last one counts, as in exec.
func (o Options) env(name string) string {
	value := ""
	for _, kv := range o.Env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}

func executable(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}
