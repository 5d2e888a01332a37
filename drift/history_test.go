package drift

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// repository returns a git checkout in which each of the images was committed as a record, in a folder below its
// top.
func repository(t *testing.T, images ...v1.Image) (dir string) {
	t.Helper()
	top := t.TempDir()
	dir = filepath.Join(top, "app", "Dockerfile.drift")
	git := func(env string, args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", top, "-c", "user.name=a", "-c", "user.email=a@example.org"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_COMMITTER_DATE="+env, "GIT_AUTHOR_DATE="+env)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	git("", "init", "-q")
	for i, img := range images {
		r := record(t, img)
		r.Reason = fmt.Sprintf("reason %d", i)
		r.Findings = []map[string]int{{"native-code": 1}, {"prebuilt": 2}, {"piped-shell": 1}}[i]
		if err := r.Save(dir); err != nil {
			t.Fatal(err)
		}
		git("", "add", "-A")
		git(fmt.Sprintf("2026-01-%02dT00:00:00Z", i+1), "commit", "-q", "-m", fmt.Sprintf("build %d", i))
		if err := os.WriteFile(filepath.Join(top, "other"), []byte{byte(i)}, 0o644); err != nil {
			t.Fatal(err)
		}
		git("", "add", "-A")
		git(fmt.Sprintf("2026-01-%02dT01:00:00Z", i+1), "commit", "-q", "-m", "no build")
	}
	return dir
}

func TestLog(t *testing.T) {
	with := func(version, data string) v1.Image {
		return image(t, v1.Config{}, []item{{name: "var/lib/dpkg/status", content: status("openssl", version)}}, []item{{name: "app/data", content: data}})
	}
	dir := repository(t, with("3.0.1-1", "a"), with("3.0.2-1", strings.Repeat("b", 1000)), with("3.0.2-1", strings.Repeat("b", 500)))
	h, err := Log(t.Context(), os.Environ(), dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range h.Builds {
		var moved []string
		for _, m := range b.Moved {
			moved = append(moved, fmt.Sprintf("%s %s %s>%s %d", m.Kind, m.Name, m.From, m.To, m.Bytes))
		}
		got = append(got, fmt.Sprintf("%s %s %q %q %d %d: %s", b.Time.Format("01-02"), b.Subject, b.Reason, b.Base, b.Files, b.Packages, strings.Join(moved, ", ")))
	}
	want := []string{
		`01-01 build 0 "reason 0" "" 6 1: `,
		`01-02 build 1 "reason 1" "" 6 1: package deb/openssl 3.0.1-1>3.0.2-1 0, folder /app > 999, layer RUN 1 > 999, layer RUN 0 > 0`,
		`01-03 build 2 "reason 2" "" 6 1: folder /app > -500, layer RUN 1 > -500`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if fmt.Sprint(h.Often) != "[{folder /app 2 map[piped-shell:1 prebuilt:1]} {layer RUN 1 2 map[piped-shell:1 prebuilt:1]}]" {
		t.Errorf("%v", h.Often)
	}
	if h, err := Log(t.Context(), os.Environ(), dir, 1); err != nil || len(h.Builds) != 1 || h.Builds[0].Subject != "build 2" {
		t.Errorf("the last one: %v, %v", h, err)
	}
	if h, err := Log(t.Context(), os.Environ(), filepath.Join(filepath.Dir(dir), "Other.drift"), 0); err != nil || len(h.Builds) != 0 {
		t.Errorf("a record that git does not have: %v, %v", h, err)
	}
	clone := filepath.Join(t.TempDir(), "clone")
	if out, err := exec.Command("git", "clone", "-q", "--depth", "2", "file://"+filepath.Dir(filepath.Dir(dir)), clone).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if shallow, err := Log(t.Context(), os.Environ(), filepath.Join(clone, "app", "Dockerfile.drift"), 0); err != nil || !shallow.Shallow || h.Shallow || len(shallow.Builds) != 1 {
		t.Errorf("a shallow clone: %+v, %v", shallow, err)
	}
	var no *GitError
	if _, err := Log(t.Context(), os.Environ(), filepath.Join(t.TempDir(), "Dockerfile.drift"), 0); !errors.As(err, &no) {
		t.Errorf("no checkout: %v", err)
	}
}

func TestLoadCommit(t *testing.T) {
	dir := repository(t, image(t, v1.Config{}, []item{{name: "a", content: "1"}}), image(t, v1.Config{}, []item{{name: "b", content: "1"}}))
	path := os.Getenv("PATH")
	r, ok, err := LoadCommit(t.Context(), os.Environ(), dir, "HEAD~2")
	if err != nil || !ok || len(r.Files) != 1 || r.Files[0].Path != "/a" {
		t.Errorf("%+v, %v, %v", r, ok, err)
	}
	for _, none := range []string{"v1", "HEAD~9", "registry.example.org/app:1", "--output=x", ""} {
		if r, ok, err := LoadCommit(t.Context(), os.Environ(), dir, none); ok || err != nil {
			t.Errorf("%q: %v, %v, %v", none, r, ok, err)
		}
	}
	t.Setenv("PATH", t.TempDir())
	var no *GitError
	if _, _, err := LoadCommit(t.Context(), os.Environ(), dir, "HEAD"); !errors.As(err, &no) {
		t.Errorf("without git: %v", err)
	}
	t.Setenv("PATH", path)
	if _, ok, err := LoadCommit(t.Context(), os.Environ(), filepath.Join(filepath.Dir(dir), "x.drift"), "HEAD"); ok || err != nil {
		t.Errorf("no record in the commit: %v, %v", ok, err)
	}
}
