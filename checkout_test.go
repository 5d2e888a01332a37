package kedge

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/internal/testenv"
)

// modules writes a checkout with a submodule that has one itself, and files that git does not track or ignores, and
// the work tree of another branch.
func modules(t *testing.T) (dir, tree string, environ []string) {
	t.Helper()
	testenv.Require(t, "git")
	dir = t.TempDir()
	cmd := exec.Command("sh", "-euc", `
		for name in inner outer main; do
			git init -q $name
			echo x > $name/a
			echo '*.o' > $name/.gitignore
		done
		git -C inner add -A; git -C inner commit -qm x
		git -C outer submodule --quiet add "$PWD/inner" in; git -C outer add -A; git -C outer commit -qm x
		git -C main submodule --quiet add "$PWD/outer" lib; git -C main add -A; git -C main commit -qm x
		git -C main submodule --quiet update --init --recursive
		git -C main worktree add -q ../tree -b tree
		for name in . lib lib/in; do
			echo x > main/$name/b.o
			echo x > main/$name/new
		done`)
	cmd.Dir = dir
	environ = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "LC_ALL=C",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=protocol.file.allow", "GIT_CONFIG_VALUE_0=always",
	}
	cmd.Env = environ
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "main"), filepath.Join(dir, "tree"), environ
}

func TestCheckoutWithSubmodules(t *testing.T) {
	dir, _, environ := modules(t)
	tracked, unread := trackedIn(t.Context(), map[string]string{"context": dir}, environ)
	if unread != nil {
		t.Fatal(unread)
	}
	c := checkout(t.Context(), environ, tracked, map[string][]string{dir: {
		".gitignore", ".gitmodules", "a", "b.o", "lib", "lib/.git", "lib/a", "lib/b.o", "lib/in", "lib/in/.git", "lib/in/a", "lib/in/b.o", "lib/in/new", "lib/new", "new",
	}})
	at := func(names ...string) []string { return joined(dir, names) }
	want := Checkout{Ignored: at("b.o", "lib/b.o", "lib/in/b.o"), Untracked: at("lib/in/new", "lib/new", "new")}
	if diff := cmp.Diff(want, c); diff != "" || c.NotChecked != nil {
		t.Error(diff, c.NotChecked)
	}
}

// A .git that is a file is named if it leads out of the context, as that of a work tree does.
func TestGitFileGap(t *testing.T) {
	dir, tree, _ := modules(t)
	for _, test := range []struct {
		dir, file string
		take      frontend.Take
		gaps      int
	}{
		{tree, ".git", frontend.Take{Source: "local://context"}, 1},
		{tree, ".git", frontend.Take{Source: "local://context", Path: "src"}, 0},
		{filepath.Join(dir, "lib"), ".git", frontend.Take{Source: "local://context"}, 1},
		{dir, "lib/.git", frontend.Take{Source: "local://context"}, 0}, // in every clone it is the same
		{dir, "lib/in/.git", frontend.Take{Source: "local://context"}, 0},
		{dir, "a", frontend.Take{Source: "local://context"}, 0},
	} {
		p := &plan{project: &project{}, request: &builder.Request{Context: builder.Context{Dir: test.dir}}}
		r := &builder.Result{Sent: map[string][]string{test.dir: {test.file}}}
		if got := p.repoGaps(r, frontend.Step{Takes: []frontend.Take{test.take}}); len(got) != test.gaps {
			t.Errorf("%s in %s, %v: %q", test.file, test.dir, test.take, got)
		}
	}
}
