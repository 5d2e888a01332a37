package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kedge-build/kedge/internal/testenv"
)

// Other builders build from the lock, whatever became of the tag, the URL and the branch since.
func TestOthersBuildFromTheLock(t *testing.T) {
	registry, buildkitd := testenv.Shared(t)
	engine := testenv.StartDockerd(t, testenv.DockerdOptions{Modern: true, Registry: registry})
	home := newDockerHome(t, "DOCKER_HOST="+engine.Host)
	buildctl, buildx, docker := testenv.Program(t, "buildctl"), testenv.Program(t, "buildx"), testenv.Program(t, "docker-modern")
	home.do(t, buildx, "create", "--name", "remote", "--driver", "remote", buildkitd.Addr)

	git, files := testenv.NewGit(t), testenv.NewFiles(t)
	push := func(tag, content string) {
		created := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
		registry.Push(t, tag, testenv.Derive(t, testenv.Scratch(t, "amd64"), created, map[string]string{"/f": content}))
	}
	push("library/followed:v1", "one")
	push("library/unlocked:v1", "one")
	first := git.Commit(t, "main", map[string]string{"g": "one"})
	files.Set("/u", "one", time.Time{})
	dir := write(t, map[string]string{
		"Dockerfile": "FROM scratch\nCOPY --from=followed:v1 /f /f\nADD " + git.URL + "#main /\nADD " + files.URL + "/u /u\n",
	})
	json := filepath.Join(t.TempDir(), "policy.json")
	lock := func(args ...string) (string, string) {
		t.Helper()
		return runKedge(t, append(home.env, "CI="), 0, append([]string{"lock", "--builder", buildkitd.Addr}, append(args, dir)...)...)
	}
	out, _ := lock("--export=source-policy")
	lock("--export=source-policy", "-o", json)
	if data, err := os.ReadFile(json); err != nil || string(data) != out {
		t.Errorf("on stdout %q, in the file %q, %v", out, data, err)
	}

	push("library/followed:v1", "two")
	git.Commit(t, "main", map[string]string{"g": "two"})
	policy := "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY=" + json
	bake := filepath.Join(t.TempDir(), "bake.json")
	if err := os.WriteFile(bake, []byte(`{"target": {"default": {"context": "`+dir+`"}}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	// build builds into a folder, and returns the files that came out, or what was said if there are none.
	build := func(t *testing.T, env []string, program string, args ...string) (files map[string]string, said string) {
		t.Helper()
		dest := t.TempDir()
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "DEST", dest)
		}
		cmd := exec.Command(program, args...)
		cmd.Env = append(append(os.Environ(), home.env...), env...)
		text, err := cmd.CombinedOutput()
		if err != nil {
			return nil, string(text)
		}
		files = map[string]string{}
		for _, name := range []string{"f", "g", "u"} {
			data, err := os.ReadFile(filepath.Join(dest, name))
			if err != nil {
				t.Fatal(err)
			}
			files[name] = string(data)
		}
		return files, string(text)
	}
	same := func(t *testing.T, files map[string]string, said, want string) {
		t.Helper()
		for _, name := range []string{"f", "g", "u"} {
			if name == "u" && files[name] == "one" {
				continue // it has not moved
			}
			if files[name] != want {
				t.Errorf("%s is %q, not %q\n%s", name, files[name], want, said)
			}
		}
	}
	byBuildx := func(args ...string) []string {
		return append([]string{"build", "--builder=remote", "-o", "DEST"}, append(args, dir)...)
	}
	for name, c := range map[string]struct {
		env     []string
		program string
		args    []string
		want    string
	}{
		"buildx without the policy": {nil, buildx, byBuildx(), "two"},
		"buildx":                    {[]string{policy}, buildx, byBuildx(), "one"},
		"bake":                      {[]string{policy}, buildx, []string{"bake", "--builder=remote", "--allow=fs=*", "-f", bake, "--set=*.output=DEST"}, "one"},
		"docker":                    {[]string{policy}, docker, []string{"build", "-o", "DEST", dir}, "one"},
		"buildctl": {nil, buildctl, []string{"--addr", buildkitd.Addr, "build", "--frontend=dockerfile.v0", "--local=context=" + dir, "--local=dockerfile=" + dir,
			"--source-policy-file=" + json, "--output=type=local,dest=DEST"}, "one"},
	} {
		t.Run(name, func(t *testing.T) {
			files, said := build(t, c.env, c.program, c.args...)
			same(t, files, said, c.want)
		})
	}
	t.Run("a source that is not locked", func(t *testing.T) {
		other := write(t, map[string]string{"Dockerfile": "FROM unlocked:v1\n"})
		if files, said := build(t, []string{policy}, buildx, "build", "--builder=remote", "-o", "DEST", other); files != nil || !strings.Contains(said, "denied by policy") {
			t.Errorf("built: %v\n%s", files, said)
		}
	})
	t.Run("a URL that changed", func(t *testing.T) {
		files.Set("/u", "two", time.Time{})
		defer files.Set("/u", "one", time.Time{})
		// The builder may still have what is locked.
		if files, said := build(t, []string{policy}, buildx, byBuildx("--no-cache")...); files["u"] == "two" {
			t.Errorf("built: %v\n%s", files, said)
		}
	})

	// docker build finds the other form by itself. It looks up what is no image, so that it refuses a branch that
	// has moved.
	rego, byDocker := filepath.Join(dir, "Dockerfile.rego"), []string{"build", "-o", "DEST", dir}
	lock("--export=rego")
	t.Run("rego and a branch that moved", func(t *testing.T) {
		if files, said := build(t, nil, docker, byDocker...); files != nil || !strings.Contains(said, "is not what it locks") {
			t.Errorf("built: %v\n%s", files, said)
		}
	})
	git.Move(t, "main", first)
	for name, program := range map[string]string{"docker": docker, "buildx": buildx} {
		t.Run("rego and "+name, func(t *testing.T) {
			args := byBuildx()
			if program == docker {
				args = []string{"build", "-o", "DEST", dir}
			}
			files, said := build(t, nil, program, args...)
			same(t, files, said, "one")
		})
	}
	t.Run("rego and a source that is not locked", func(t *testing.T) {
		other := write(t, map[string]string{"Dockerfile": "FROM unlocked:v1\n"})
		copyFile(t, rego, filepath.Join(other, "Dockerfile.rego"))
		if files, said := build(t, nil, docker, "build", "-o", "DEST", other); files != nil || !strings.Contains(said, "is not in the lockfile") {
			t.Errorf("built: %v\n%s", files, said)
		}
	})

	// kedge knows the policy as its own, until someone changes it.
	env := append(home.env, "CI=")
	kedgeBuild := []string{"build", "--builder", buildkitd.Addr, dir}
	if _, errs := runKedge(t, env, 0, kedgeBuild...); strings.Contains(errs, "of another lock") {
		t.Error(errs)
	}
	if _, errs := lock("--source-date-epoch=1", "--export=source-policy", "-o", json); strings.Contains(errs, "rego") {
		t.Error(errs)
	}
	if _, errs := runKedge(t, env, 0, kedgeBuild...); !strings.Contains(errs, "Dockerfile.rego is of another lock") {
		t.Error(errs)
	}
	check := []string{"lock", "--builder", buildkitd.Addr, "--check", "--export=rego", dir}
	if _, errs := runKedge(t, env, exitForbidden, check...); !strings.Contains(errs, "Dockerfile.rego: is not up to date") {
		t.Error(errs)
	}
	lock("--export=rego")
	runKedge(t, env, 0, check...)
	data, err := os.ReadFile(rego)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(rego, append(data, "allow := true\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, errs := runKedge(t, env, exitFailed, kedgeBuild...); !strings.Contains(errs, "docker build applies this policy") {
		t.Error(errs)
	}
	if _, errs := runKedge(t, env, exitFailed, "lock", "--builder", buildkitd.Addr, "--export=rego", dir); !strings.Contains(errs, "hint: move it away") {
		t.Error(errs)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
