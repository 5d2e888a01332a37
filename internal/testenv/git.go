package testenv

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A Git is a git repository that is served over smart http on loopback. Like
// public hosts, it serves any commit that a branch or tag reaches by its hash.
//
// Authors and times of commits are fixed, so that equal steps give equal hashes.
type Git struct {
	URL string // "http://127.0.0.1:…/repo.git", what ADD takes

	dir     string // the bare repository
	token   atomic.Pointer[string]
	commits int
}

// NewGit starts a git server with an empty repository, whose HEAD is "main".
func NewGit(t testing.TB) *Git {
	t.Helper()
	path := program(t, "git")
	root := t.TempDir()
	g := &Git{dir: filepath.Join(root, "repo.git")}
	g.run(t, nil, "init", "--quiet", "--bare", "--initial-branch=main", g.dir)
	g.git(t, "config", "uploadpack.allowReachableSHA1InWant", "true")
	g.git(t, "config", "gc.auto", "0")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if token := g.token.Load(); token != nil {
			if _, password, _ := req.BasicAuth(); password != *token {
				w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
				http.Error(w, "who are you?", http.StatusUnauthorized)
				return
			}
		}
		(&cgi.Handler{
			Path:   path,
			Args:   []string{"http-backend"},
			Dir:    root,
			Env:    []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"},
			Stderr: new(bytes.Buffer), // the client reports a missing commit itself
		}).ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	g.URL = server.URL + "/repo.git"
	return g
}

// Dir is the bare repository.
func (g *Git) Dir() string { return g.dir }

// RequireToken makes the server require a token as the password of any user.
func (g *Git) RequireToken(token string) { g.token.Store(&token) }

// Commit adds a commit to a branch, which it creates if necessary, and returns the
// hash. The tree is that of the previous commit with the files (content by path)
// replaced.
func (g *Git) Commit(t testing.TB, branch string, files map[string]string) string {
	t.Helper()
	parent := g.Head(t, branch)
	index := filepath.Join(t.TempDir(), "index")
	env := []string{"GIT_INDEX_FILE=" + index}
	if parent != "" {
		g.run(t, env, "--git-dir="+g.dir, "read-tree", parent)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		blob := g.input(t, files[name], "--git-dir="+g.dir, "hash-object", "-w", "--stdin")
		g.run(t, env, "--git-dir="+g.dir, "update-index", "--add", "--cacheinfo", "100644,"+blob+","+name)
	}
	args := []string{"--git-dir=" + g.dir, "commit-tree", "-m", fmt.Sprintf("commit %d", g.commits+1)}
	if parent != "" {
		args = append(args, "-p", parent)
	}
	date := time.Date(2024, 1, 2, 3, 4, 5+g.commits, 0, time.UTC).Format(time.RFC3339)
	g.commits++
	commit := g.run(t, []string{"GIT_AUTHOR_DATE=" + date, "GIT_COMMITTER_DATE=" + date},
		append(args, g.run(t, env, "--git-dir="+g.dir, "write-tree"))...)
	g.Move(t, branch, commit)
	return commit
}

// Head returns the hash of a branch's commit, or "" if there is no such branch.
func (g *Git) Head(t testing.TB, branch string) string {
	t.Helper()
	return g.git(t, "for-each-ref", "--format=%(objectname)", "refs/heads/"+branch)
}

// Move sets a branch to any commit, as a forced push does.
func (g *Git) Move(t testing.TB, branch, commit string) {
	t.Helper()
	g.git(t, "update-ref", "refs/heads/"+branch, commit)
}

// Tag sets a lightweight tag to a commit.
func (g *Git) Tag(t testing.TB, tag, commit string) {
	t.Helper()
	g.git(t, "update-ref", "refs/tags/"+tag, commit)
}

// Prune removes the commits that no branch or tag reaches, for example after
// [Git.Move].
func (g *Git) Prune(t testing.TB) {
	t.Helper()
	g.git(t, "reflog", "expire", "--expire=now", "--all")
	g.git(t, "gc", "--quiet", "--prune=now")
}

func (g *Git) git(t testing.TB, args ...string) string {
	t.Helper()
	return g.run(t, nil, append([]string{"--git-dir=" + g.dir}, args...)...)
}

func (g *Git) run(t testing.TB, env []string, args ...string) string {
	t.Helper()
	return output(t, gitCommand(env, args))
}

func (g *Git) input(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	cmd := gitCommand(nil, args)
	cmd.Stdin = strings.NewReader(stdin)
	return output(t, cmd)
}

// gitCommand returns a git command that ignores this machine's configuration.
func gitCommand(env, args []string) *exec.Cmd {
	cmd := exec.Command("git", args...)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"),
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=" + os.DevNull,
		"GIT_AUTHOR_NAME=kedge", "GIT_AUTHOR_EMAIL=kedge@example.com",
		"GIT_COMMITTER_NAME=kedge", "GIT_COMMITTER_EMAIL=kedge@example.com",
	}, env...)
	return cmd
}

func output(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}
