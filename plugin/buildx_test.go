package plugin

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// realPlugin writes a program to a folder that docker searches only if the test says so.
func realPlugin(t *testing.T, text string) (dir, path string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "extra")
	path = filepath.Join(dir, buildxName)
	write(t, path, text)
	return dir, path
}

// The plugin that was there is found while kedge stands in front of it, and comes back byte for byte.
func TestInstallBuildx(t *testing.T) {
	for name, put := range map[string]func(t *testing.T, path string) (real string){
		"a file": func(t *testing.T, path string) string {
			write(t, path, "#!/bin/sh\n")
			return ""
		},
		"a link": func(t *testing.T, path string) string {
			_, real := realPlugin(t, "#!/bin/sh\n")
			link(t, real, path)
			return ""
		},
		"a relative link": func(t *testing.T, path string) string {
			write(t, filepath.Join(filepath.Dir(path), "..", "real"), "#!/bin/sh\n")
			link(t, "../real", path)
			return filepath.Join(filepath.Dir(path), "..", "real")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := docker(t, "{}")
			path := buildxLink(dir)
			want := put(t, path)
			if want == "" {
				want = buildxAside(dir)
			}
			before := tree(t, dir)
			for range 2 {
				if _, _, err := InstallBuildx(dir, program, nil); err != nil {
					t.Fatal(err)
				}
			}
			if target, err := os.Readlink(path); err != nil || target != program {
				t.Errorf("linked to %q, %v", target, err)
			}
			if got, err := RealBuildx(dir, program, nil); err != nil || got != filepath.Clean(want) {
				t.Errorf("the real one is %q, not %q: %v", got, want, err)
			}
			if link, kept, err := InstallBuildx(dir, "/new/kedge", nil); err != nil || link.Old != program || link.New != "/new/kedge" || kept != "" {
				t.Error(link, kept, err)
			}
			if _, restored, err := UndoBuildx(dir, "/new/kedge"); err != nil || restored != path {
				t.Error(restored, err)
			}
			if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
				t.Errorf("undone: %s", diff)
			}
			if link, restored, err := UndoBuildx(dir, program); err != nil || link != (Change{}) || restored != "" {
				t.Error("again:", link, restored, err)
			}
		})
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

// Without a real plugin, behind another one, or beside one that came later, nothing changes.
func TestInstallBuildxRefuses(t *testing.T) {
	saved := systemDirs
	systemDirs = nil
	defer func() { systemDirs = saved }()

	dir := docker(t, "{}")
	before := tree(t, dir)
	if _, _, err := InstallBuildx(dir, program, nil); !errors.As(err, new(*NoBuildxError)) {
		t.Error(err)
	}
	extra, first := realPlugin(t, "#!/bin/sh\n")
	shadowed := new(ShadowedError)
	if _, _, err := InstallBuildx(dir, program, []string{extra}); !errors.As(err, &shadowed) || shadowed.First != first {
		t.Error(err)
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Error(diff)
	}

	// One of the system stays where it is, and kedge's link is the only change.
	systemDirs = []string{extra}
	if _, kept, err := InstallBuildx(dir, program, nil); err != nil || kept != "" {
		t.Fatal(kept, err)
	}
	if got, err := RealBuildx(dir, program, nil); err != nil || got != first {
		t.Error(got, err)
	}
	if link, _, err := UndoBuildx(dir, program); err != nil || link.Old != program {
		t.Error(link, err)
	}
	if _, _, err := Undo(dir, program); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Error(diff)
	}

	// An upgrade of docker puts a new one over kedge's link.
	path := buildxLink(dir)
	write(t, path, "old")
	if _, _, err := InstallBuildx(dir, program, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, path, "new")
	before = tree(t, dir)
	if _, _, err := InstallBuildx(dir, program, nil); !errors.As(err, new(*KeptError)) {
		t.Error(err)
	}
	if _, _, err := UndoBuildx(dir, program); !errors.As(err, new(*KeptError)) {
		t.Error(err)
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
}
