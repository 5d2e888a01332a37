package gitdir

import (
	"context"
	"fmt"
	"io"
	gofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// git runs git in a folder, without this machine's configuration.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "protocol.file.allow=always"}, args...)...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "LC_ALL=C",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_AUTHOR_DATE=2024-01-02T03:04:05Z",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com", "GIT_COMMITTER_DATE=2024-01-02T03:04:05Z",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func sh(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-euc", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// origin is a repository with branches, tags and two commits.
func origin(t *testing.T) string {
	t.Helper()
	testenv.Require(t, "git")
	dir := filepath.Join(t.TempDir(), "origin")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "init", "-q", "-b", "main")
	for i, name := range []string{"a", "sub/b"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		git(t, dir, "add", "-A")
		git(t, dir, "commit", "-qm", fmt.Sprint(i))
		git(t, dir, "tag", "-am", "tagged", fmt.Sprintf("v%d", i))
	}
	git(t, dir, "tag", "light")
	git(t, dir, "branch", "feature/x")
	git(t, dir, "repack", "-adq")
	return dir
}

func open(t *testing.T, dir string, o Options) *FS {
	t.Helper()
	files, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	if o.Epoch == nil {
		o.Epoch = func() int64 { return 1700000000 }
	}
	return New(files, o)
}

// sent returns what a walk sends: mode and content by path, in order.
func sent(t *testing.T, f fsutil.FS, opt *fsutil.FilterOpt) (listed []string, content map[string]string) {
	t.Helper()
	filtered, err := fsutil.NewFilterFS(f, opt)
	if err != nil {
		t.Fatal(err)
	}
	content = map[string]string{}
	v := &fsutil.Validator{}
	err = filtered.Walk(t.Context(), "", func(name string, e gofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if err := v.HandleChange(fsutil.ChangeKindAdd, name, info, nil); err != nil { // the order that a daemon wants
			return err
		}
		st := info.Sys().(*fstypes.Stat)
		text := ""
		if info.Mode().IsRegular() {
			r, err := filtered.Open(name)
			if err != nil {
				return err
			}
			defer r.Close()
			b, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			if int64(len(b)) != st.Size {
				t.Errorf("%s: %d bytes, sent as %d", name, len(b), st.Size)
			}
			text = string(b)
		}
		listed = append(listed, fmt.Sprintf("%o %s", st.Mode, name))
		content[name] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return listed, content
}

// write writes what a walk sends into a folder.
func write(t *testing.T, f fsutil.FS) string {
	t.Helper()
	dir := t.TempDir()
	err := f.Walk(context.Background(), "", func(name string, e gofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		to := filepath.Join(dir, name)
		if info.IsDir() {
			return os.Mkdir(to, info.Mode().Perm())
		}
		r, err := f.Open(name)
		if err != nil {
			return err
		}
		defer r.Close()
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, info.Mode().Perm())
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Whatever happened to a clone, it is sent as a fresh one is, and git works in it.
func TestClones(t *testing.T) {
	from := origin(t)
	for name, script := range map[string]string{
		"later":                 "touch -d 2001-01-01 a; git status",
		"another umask":         "cd ..; rm -rf b; umask 077; git clone -q \"$ORIGIN\" b",
		"other hooks and logs":  "git reset -q --hard HEAD~1; git reset -q --hard ORIG_HEAD; rm .git/hooks/*",
		"no template":           "cd ..; rm -rf b; git clone -q --template= \"$ORIGIN\" b",
		"an index of version 4": "git update-index --index-version 4; git update-index --untracked-cache || true",
		"packed references":     "git pack-refs --all",
		"fetched again":         "git tag -d v0 light >/dev/null; git update-ref -d refs/remotes/origin/feature/x; git fetch -q --tags",
		"a commit's message":    "echo x > .git/COMMIT_EDITMSG; echo y > .git/FETCH_HEAD",
		"a commit graph":        "git commit-graph write --reachable",
		"collected":             "git gc -q",
		"modes of a share":      "chmod -R a+x .git",
		"left folders":          "git pack-refs --all; mkdir -p .git/refs/heads/main/x .git/logs/refs/heads/main.d; rm .git/logs/refs/heads/main; mkdir .git/logs/refs/heads/main",
		"garbage":               "echo x > .git/objects/pack/tmp_pack_abc; mkdir -p .git/refs/remotes/gone .git/branches",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			git(t, dir, "clone", "-q", from, "a")
			git(t, dir, "clone", "-q", from, "b")
			t.Setenv("ORIGIN", from)
			sh(t, filepath.Join(dir, "b"), script)
			a, b := open(t, filepath.Join(dir, "a"), Options{KeepModes: false}), open(t, filepath.Join(dir, "b"), Options{})
			listed, content := sent(t, a, nil)
			again, same := sent(t, b, nil)
			withGit := func(all []string) (git []string) {
				for _, line := range all {
					if strings.Contains(line, ".git") {
						git = append(git, line)
					}
				}
				return git
			}
			if diff := cmp.Diff(withGit(listed), withGit(again)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(content, same); diff != "" {
				t.Error(diff)
			}
			if repos := b.Repos(); len(repos) != 1 || repos[0].Path != ".git" || repos[0].Own != nil || repos[0].Credentials != nil {
				t.Errorf("repositories: %+v", repos)
			}

			clone := write(t, b)
			for _, args := range [][]string{
				{"status", "--porcelain"}, {"log", "--format=%H %s", "--all"}, {"describe", "--tags"}, {"describe"}, {"for-each-ref"}, {"ls-files", "-s"},
				{"config", "--list", "--local"}, {"rev-parse", "HEAD@{0}"}, {"fetch"}, {"remote", "-v"}, {"show-ref", "-d"},
			} {
				want, got := git(t, filepath.Join(dir, "b"), args...), git(t, clone, args...)
				if want != got {
					t.Errorf("git %q: %q, want %q", args, got, want)
				}
			}
			git(t, clone, "fsck", "--strict")
			sh(t, clone, `echo more >> a; git -c user.name=n -c user.email=e commit -qam more; git checkout -q -b other; git gc -q; git stash list; git reflog >/dev/null`)
			if got := git(t, clone, "status", "--porcelain"); got != "" {
				t.Errorf("after a commit: %q", got)
			}
		})
	}
}

// What a user made stays, and is named as what another clone does not have.
func TestOwn(t *testing.T) {
	from := origin(t)
	for name, test := range map[string]struct{ script, file, want, own string }{
		"a hook":         {"printf '#!/bin/sh\\n' > .git/hooks/pre-commit; chmod 750 .git/hooks/pre-commit", ".git/hooks/pre-commit", "#!/bin/sh\n", "hook pre-commit"},
		"served by http": {"mv .git/hooks/post-update.sample .git/hooks/post-update; git update-server-info", ".git/info/refs", "*refs/", "hook post-update"},
		"a hooks folder": {"mkdir .git/mine; printf '#!/bin/sh\\n' > .git/mine/pre-commit; chmod 755 .git/mine/pre-commit; git config core.hooksPath .git/mine", ".git/mine/pre-commit", "#!/bin/sh\n", ""},
		"a setting":      {"git config user.name me; git config alias.co checkout", ".git/config", "*co = checkout", ""},
		"an exclude":     {"echo '*.o' >> .git/info/exclude", ".git/info/exclude", "**.o", ""},
		"a description":  {"echo mine > .git/description", ".git/description", "mine\n", ""},
		"a stash":        {"echo x >> a; git -c user.name=n -c user.email=e stash -q", ".git/logs/refs/stash", "*WIP on main", "stash"},
		"a merge":        {"git rev-parse HEAD > .git/MERGE_HEAD", ".git/MERGE_HEAD", "*", "under way"},
		"no branch":      {"git checkout -q --detach", ".git/HEAD", "*", "no branch"},
		"shallow":        {"cd ..; rm -rf b; git clone -q --depth 1 file://$ORIGIN b", ".git/shallow", "*", "shallow"},
		"a split index":  {"git update-index --split-index", ".git/index", "*link", "index is split"},
		"a work tree":    {"git worktree add -q ../w", ".git/worktrees/w/gitdir", "*", "further work trees"},
		"skipped":        {"git update-index --skip-worktree a", ".git/index", "*DIRC\x00\x00\x00\x03", ""},
		"a note":         {"git -c user.name=n -c user.email=e notes add -m x", ".git/refs/notes/commits", "*", ""},
		"lfs":            {"mkdir -p .git/lfs/objects; echo x > .git/lfs/objects/x", ".git/lfs/objects/x", "x\n", ""},
		"a shared group": {"git config core.sharedRepository group; chmod 664 .git/config", ".git/config", "*", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "b")
			git(t, filepath.Dir(dir), "clone", "-q", from, "b")
			t.Setenv("ORIGIN", from)
			sh(t, dir, test.script)
			f := open(t, dir, Options{})
			listed, content := sent(t, f, nil)
			got, ok := content[test.file]
			if part, partly := strings.CutPrefix(test.want, "*"); !ok || partly && !strings.Contains(got, part) || !partly && got != test.want {
				t.Errorf("%s: %q, sent: %v", test.file, got, ok)
			}
			own := strings.Join(f.Repos()[0].Own, "; ")
			if test.own == "" && own != "" || !strings.Contains(own, test.own) {
				t.Errorf("own: %q, want %q", own, test.own)
			}
			if name == "a shared group" && !strings.Contains(strings.Join(listed, "\n"), "664 .git/config") {
				t.Error("the mode of a shared repository was changed")
			}
			if name == "a hook" && !strings.Contains(strings.Join(listed, "\n"), "755 .git/hooks/pre-commit") {
				t.Error("the hook cannot be executed")
			}
			if name == "a hooks folder" && !strings.Contains(strings.Join(listed, "\n"), "755 .git/mine/pre-commit") {
				t.Error("the program cannot be executed")
			}
			before, clone := git(t, dir, "status", "--porcelain"), write(t, f)
			if name != "a work tree" { // whose paths are those of this machine
				if after := git(t, clone, "status", "--porcelain"); after != before || git(t, clone, "stash", "list") != git(t, dir, "stash", "list") {
					t.Errorf("status: %q, want %q", after, before)
				}
			}
		})
	}
}

func TestCredentials(t *testing.T) {
	from := origin(t)
	for setting, found := range map[string]bool{
		"[remote \"origin\"]\n\turl = https://u:secret@example.com/r\n":            true,
		"[remote \"origin\"]\n\tpushurl = https://ghp_0123456789abcdefgh@host/r\n": true,
		"[http \"https://host/\"]\n\textraheader = AUTHORIZATION: basic abc\n":     true,
		"[url \"https://u:secret@host/\"] insteadOf = https://host/\n":             true,
		"[remote \"origin\"]\n\turl = https://me@host/r\n":                         false,
		"[remote \"origin\"]\n\turl = ssh://git@host:22/r\n":                       false,
		"[remote \"origin\"]\n\turl = git@host:r.git\n":                            false,
		"[user]\n\tname = a:b@c\n":                                                 false,
	} {
		dir := filepath.Join(t.TempDir(), "b")
		git(t, filepath.Dir(dir), "clone", "-q", from, "b")
		if err := os.WriteFile(filepath.Join(dir, ".git/config"), []byte(setting), 0o600); err != nil {
			t.Fatal(err)
		}
		f := open(t, dir, Options{})
		_, content := sent(t, f, nil)
		if content[".git/config"] != setting {
			t.Errorf("%q was changed", setting)
		}
		got := f.Repos()[0].Credentials
		if len(got) > 0 != found || strings.Contains(fmt.Sprint(got), "secret") {
			t.Errorf("%q: credentials %q", setting, got)
		}
	}
}

// Submodules, nested checkouts, ignored folders and what is no repository.
func TestFolders(t *testing.T) {
	from := origin(t)
	dir := filepath.Join(t.TempDir(), "b")
	git(t, filepath.Dir(dir), "clone", "-q", from, "b")
	git(t, dir, "submodule", "--quiet", "add", from, "lib/sub")
	git(t, dir, "commit", "-qm", "submodule")
	git(t, dir, "clone", "-q", from, "nested")
	sh(t, dir, "mkdir none bare; mkdir none/.git; echo x > none/.git/ORIG_HEAD; git clone -q --bare nested bare/r.git; echo x > bare/r.git/ORIG_HEAD")
	sh(t, dir, "find .git -type d -exec chmod 700 {} +") // as with another umask
	f := open(t, dir, Options{})
	listed, content := sent(t, f, nil)
	for _, line := range listed {
		if strings.Contains(line, " .git") && strings.HasSuffix(strings.Fields(line)[0], "700") {
			t.Error(line)
		}
	}
	for _, name := range []string{"none/.git/ORIG_HEAD", "bare/r.git/ORIG_HEAD", "bare/r.git/hooks/update.sample", "lib/sub/.git"} {
		if _, ok := content[name]; !ok {
			t.Errorf("%s was left out", name)
		}
	}
	for _, name := range []string{"nested/.git/hooks/update.sample", ".git/modules/lib/sub/hooks/update.sample", ".git/modules/lib/sub/description"} {
		if _, ok := content[name]; ok {
			t.Errorf("%s was sent", name)
		}
	}
	clone := write(t, f)
	for _, sub := range []string{".", "lib/sub", "nested"} {
		if got, want := git(t, filepath.Join(clone, sub), "status", "--porcelain"), git(t, filepath.Join(dir, sub), "status", "--porcelain"); got != want {
			t.Errorf("%s: status %q, want %q", sub, got, want)
		}
	}
	if got := git(t, clone, "submodule", "status"); got != git(t, dir, "submodule", "status") {
		t.Errorf("submodules: %q", got)
	}

	// An ignored folder is not read, and one that a build names a part of is sent as it is.
	f = open(t, dir, Options{})
	if listed, _ := sent(t, f, &fsutil.FilterOpt{ExcludePatterns: []string{"**/.git"}}); strings.Contains(strings.Join(listed, "\n"), " .git/") || f.Repos() != nil {
		t.Errorf("ignored: %q, %v", listed, f.Repos())
	}
	f.Leave("it is only a test")
	if _, content = sent(t, f, nil); content[".git/hooks/update.sample"] == "" || len(f.Repos()[0].Own) == 0 {
		t.Errorf("left: %v", f.Repos())
	}
	f = open(t, dir, Options{})
	if _, content := sent(t, f, &fsutil.FilterOpt{FollowPaths: []string{".git/HEAD", ".git/refs"}}); content[".git/HEAD"] == "" || content[".git/refs/heads/main"] == "" {
		t.Errorf("sent: %v", content)
	}
}

// Damage ends nothing: damaged files are sent as they are.
func TestDamaged(t *testing.T) {
	from := origin(t)
	for _, script := range []string{
		"echo x > .git/packed-refs", "echo x > .git/refs/heads/main", "head -c 50 .git/index > i; mv i .git/index", "echo '[core' > .git/config",
		"ln -sf nowhere .git/ORIG_HEAD", "rm .git/index .git/packed-refs", "rm -r .git/logs", "ln a .git/hard; ln .git/config .git/other",
	} {
		dir := filepath.Join(t.TempDir(), "b")
		git(t, filepath.Dir(dir), "clone", "-q", from, "b")
		sh(t, dir, script)
		_, content := sent(t, open(t, dir, Options{}), nil)
		for _, name := range []string{"packed-refs", "refs/heads/main", "index", "config"} {
			disk, err := os.ReadFile(filepath.Join(dir, ".git", name))
			if got, ok := content[".git/"+name]; ok != (err == nil) || len(disk) > 0 && len(disk) < 60 && got != string(disk) {
				t.Errorf("%s: %s is %q", script, name, got)
			}
		}
	}
}
