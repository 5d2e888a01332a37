package plugin

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	dockerconfig "github.com/docker/cli/cli/config"
	"github.com/google/go-cmp/cmp"
)

// docker returns docker's folder with a config.json, unless its text is "absent".
func docker(t *testing.T, text string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "docker")
	if text == "absent" {
		return dir
	}
	write(t, filepath.Join(dir, "config.json"), text)
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

// tree lists the content of a folder, with modes and the targets of links.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var text []byte
		switch info.Mode().Type() {
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text = []byte(target)
		case 0:
			if text, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		found[path] = info.Mode().String() + " " + string(text)
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}

const program = "/opt/kedge/bin/kedge"

func install(t *testing.T, dir string, alias bool) (link, aliased Change) {
	t.Helper()
	link, aliased, err := Install(dir, program, alias)
	if err != nil {
		t.Fatal(err)
	}
	return link, aliased
}

// configs are texts of config.json before and after --alias. The first ends at the | in the second.
var configs = map[string]struct{ before, after string }{
	"none":  {"absent", "{\n\t\"aliases\": {\n\t\t\"builder\": \"kedge\"\n\t}\n}"},
	"blank": {"\n", "{\n\t\"aliases\": {\n\t\t\"builder\": \"kedge\"\n\t}\n}"},
	"empty": {"{ }\n", "{\n\t\"aliases\": {\n\t\t\"builder\": \"kedge\"\n\t}\n}\n"},
	"docker's": {
		"{\n\t\"auths\": {\n\t\t\"a\": {}\n\t},\n\t\"credsStore\": \"pass\"\n}",
		"{\n\t\"auths\": {\n\t\t\"a\": {}\n\t},\n\t\"credsStore\": \"pass\",\n\t\"aliases\": {\n\t\t\"builder\": \"kedge\"\n\t}\n}",
	},
	"two spaces": {
		"{\n  \"x\": [1,  2],\n  \"auths\": {}\n}\n",
		"{\n  \"x\": [1,  2],\n  \"auths\": {},\n  \"aliases\": {\n    \"builder\": \"kedge\"\n  }\n}\n",
	},
	"one line": {`{"auths":{},"x":1.0e3}`, `{"auths":{},"x":1.0e3,"aliases":{"builder":"kedge"}}`},
	"spaced":   {`{ "x": "\u0061" }`, `{ "x": "\u0061","aliases": {"builder": "kedge"} }`},
	"buildx": {
		"{\n\t\"aliases\": {\n\t\t\"builder\": \"buildx\"\n\t},\n\t\"experimental\": \"enabled\"\n}",
		"{\n\t\"aliases\": {\n\t\t\"builder\": \"kedge\"\n\t},\n\t\"experimental\": \"enabled\"\n}",
	},
	"no alias":      {"{\n\t\"aliases\": {},\n\t\"x\": 1\n}", "{\n\t\"aliases\": {\n\t\t\"builder\": \"kedge\"\n\t},\n\t\"x\": 1\n}"},
	"null":          {`{"aliases":null}`, `{"aliases":{"builder":"kedge"}}`},
	"another alias": {"{\n\t\"Aliases\": {\n\t\t\"b\": \"c\"\n\t}\n}", "{\n\t\"Aliases\": {\n\t\t\"b\": \"c\",\n\t\t\"builder\": \"kedge\"\n\t}\n}"},
	"only aliases":  {`{"aliases":{}}`, `{"aliases":{"builder":"kedge"}}`},
}

func TestInstall(t *testing.T) {
	for name, c := range configs {
		t.Run(name, func(t *testing.T) {
			dir := docker(t, c.before)
			before := tree(t, dir)
			link, aliased := install(t, dir, true)
			if want := (Change{Path: linkIn(dir), New: program}); link != want {
				t.Errorf("%v, and not %v", link, want)
			}
			if aliased.New != Name || aliased.Path != filepath.Join(dir, "config.json") {
				t.Error(aliased)
			}
			after := tree(t, dir)
			mode := "-rw-r----- "
			if c.before == "absent" {
				mode = "-rw------- "
			}
			if diff := cmp.Diff(mode+c.after, after[filepath.Join(dir, "config.json")]); diff != "" {
				t.Error(diff)
			}
			file, err := dockerconfig.Load(dir)
			if err != nil || file.Aliases["builder"] != Name {
				t.Errorf("docker reads %v, %v", file.Aliases, err)
			}
			if link, aliased := install(t, dir, true); link != (Change{}) || aliased != (Change{}) {
				t.Errorf("again: %v, %v", link, aliased)
			}
			if diff := cmp.Diff(after, tree(t, dir)); diff != "" {
				t.Errorf("again: %s", diff)
			}
			if link, aliased, err = Undo(dir, program); err != nil || link.Old != program || aliased.Old != Name {
				t.Error(link, aliased, err)
			}
			if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
				t.Errorf("undone: %s", diff)
			}
			if link, aliased, err = Undo(dir, program); err != nil || link != (Change{}) || aliased != (Change{}) {
				t.Error(link, aliased, err)
			}
		})
	}
}

// Without the alias, config.json is not changed. The alias can come later.
func TestInstallLink(t *testing.T) {
	dir := docker(t, "{}")
	before := tree(t, dir)
	if link, aliased := install(t, dir, false); link.New != program || aliased != (Change{}) {
		t.Error(link, aliased)
	}
	if text := tree(t, dir)[filepath.Join(dir, "config.json")]; text != "-rw-r----- {}" {
		t.Error(text)
	}
	if link, aliased := install(t, dir, true); link != (Change{}) || aliased.New != Name {
		t.Error(link, aliased)
	}
	if link, _, err := Install(dir, "/new/kedge", false); err != nil || link.Old != program || link.New != "/new/kedge" {
		t.Error(link, err)
	}
	if _, _, err := Undo(dir, "/new/kedge"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// Undo keeps changes that docker and its user made since Install.
func TestUndoLater(t *testing.T) {
	dir := docker(t, `{"aliases":{"builder":"buildx"}}`)
	install(t, dir, true)
	file, err := dockerconfig.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	file.CredentialsStore = "pass"
	if err := file.Save(); err != nil { // in docker's own format and order
		t.Fatal(err)
	}
	if _, aliased, err := Undo(dir, program); err != nil || aliased.New != "buildx" {
		t.Error(aliased, err)
	}
	if file, err = dockerconfig.Load(dir); err != nil || file.Aliases["builder"] != "buildx" || file.CredentialsStore != "pass" {
		t.Error(file, err)
	}

	install(t, dir, true)
	write(t, filepath.Join(dir, "config.json"), `{"aliases":{"builder":"other"}}`)
	if link, aliased, err := Undo(dir, program); err != nil || link == (Change{}) || aliased != (Change{}) {
		t.Error(link, aliased, err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "config.json")); err != nil || string(text) != `{"aliases":{"builder":"other"}}` {
		t.Errorf("%s %v", text, err)
	}
}

func TestInstallForeign(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"file":   func(path string) error { return os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755) },
		"link":   func(path string) error { return os.Symlink("/usr/bin/podman", path) },
		"folder": func(path string) error { return os.Mkdir(path, 0o755) },
	} {
		dir := docker(t, "{}")
		if err := os.MkdirAll(filepath.Dir(linkIn(dir)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := put(linkIn(dir)); err != nil {
			t.Fatal(err)
		}
		before := tree(t, dir)
		var foreign *ForeignError
		if _, _, err := Install(dir, program, true); !errors.As(err, &foreign) || foreign.Path != linkIn(dir) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := Undo(dir, program); !errors.As(err, &foreign) {
			t.Errorf("%s: undo: %v", name, err)
		}
		if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// A program in docker's folder itself, as packages install it, stays.
func TestInstallPackaged(t *testing.T) {
	dir := docker(t, "{}")
	write(t, linkIn(dir), "kedge")
	before := tree(t, dir)
	if link, aliased, err := Install(dir, linkIn(dir), true); err != nil || link != (Change{}) || aliased.New != Name {
		t.Error(link, aliased, err)
	}
	if _, _, err := Undo(dir, linkIn(dir)); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// A config.json that is elsewhere is written there.
func TestInstallFollows(t *testing.T) {
	for _, there := range []bool{true, false} {
		dir := docker(t, "absent")
		real := filepath.Join(t.TempDir(), "real.json")
		if there {
			write(t, real, `{"x":1}`)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(real, filepath.Join(dir, "config.json")); err != nil {
			t.Fatal(err)
		}
		before := tree(t, dir)
		install(t, dir, true)
		if text, err := os.ReadFile(real); err != nil || !strings.Contains(string(text), `"kedge"`) {
			t.Errorf("%s %v", text, err)
		}
		if _, _, err := Undo(dir, program); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
			t.Error(diff)
		}
		if _, err := os.Stat(real); there != (err == nil) {
			t.Error(there, err)
		}
	}
}

func TestInstallBadConfig(t *testing.T) {
	for _, text := range []string{
		"{", "[]", "nonsense", `{"a":1} {}`, `{"aliases":1}`, `{"aliases":[]}`, `{"aliases":{"builder":1}}`, `{"aliases":{"builder":null}}`,
		`{"aliases":{},"aliases":{"builder":"x"}}`, `{"aliases":{},"Aliases":{}}`, `{"aliases":{"builder":"a","builder":"b"}}`,
	} {
		dir := docker(t, text)
		before := tree(t, dir)
		var bad *ConfigError
		if _, _, err := Install(dir, program, true); !errors.As(err, &bad) {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

func FuzzConfig(f *testing.F) {
	for _, c := range configs {
		f.Add(c.before)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "config.json")
		write(t, path, text)
		c, err := readConfig(path)
		if err != nil || c.builder != nil && *c.builder == Name {
			return
		}
		state := c.alias(Name)
		if err := os.WriteFile(path, c.text, 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err = readConfig(path); err != nil || c.builder == nil || *c.builder != Name {
			t.Fatalf("%q: %v", c.text, err)
		}
		c.restore(state)
		if string(c.text) != text {
			t.Errorf("%q is not %q", c.text, text)
		}
	})
}
