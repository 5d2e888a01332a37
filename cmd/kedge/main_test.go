package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/rogpeppe/go-internal/testscript"
)

// withDaemons stops the shared daemons at the end.
type withDaemons struct{ *testing.M }

func (m withDaemons) Run() int { return testenv.Main(m.M) }

func TestMain(m *testing.M) {
	testscript.Main(withDaemons{m}, map[string]func(){"kedge": main, "docker-kedge": main, "docker-buildx": main})
}

// TestScript runs the scripts against a shared buildkitd. They have testscript's own commands and those of the table
// below.
func TestScript(t *testing.T) {
	registry, buildkitd := testenv.Shared(t)
	// Under nohup the programs that the tests start would ignore SIGHUP. They do not if it is handled here.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_DATA_HOME", filepath.Join(e.WorkDir, "data"))
			e.Setenv("BUILDKIT_HOST", buildkitd.Addr)
			e.Setenv("BUILDKITD_CONFIG", buildkitd.Config)
			e.Setenv("BUILDKIT_PROGRESS", "plain")
			e.Setenv("BUILDX_NO_DEFAULT_LOAD", "1") // a test must not load into the machine's Docker
			e.Setenv("REGISTRY", registry.Addr)
			e.Setenv("RUN", filepath.Base(filepath.Dir(e.WorkDir))) // another name for each run of the scripts
			e.Setenv("EXAMPLES", filepath.Join(testenv.Repository(t), "examples"))
			e.Setenv("KEDGE_BUILDKITD", filepath.Join(testenv.Repository(t), "bin", "buildkitd"))
			e.Setenv("PATH", e.Getenv("PATH")+":"+filepath.Join(testenv.Repository(t), "bin")) // buildctl
			e.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
			files := testenv.NewFiles(t)
			e.Setenv("FILES", files.URL)
			e.Values["files"], e.Values["registry"] = files, registry
			git := testenv.NewGit(t)
			e.Setenv("GIT", git.URL)
			e.Values["t"], e.Values["git"] = t, git
			return nil
		},
		Cmds: commands,
		Condition: func(cond string) (bool, error) {
			if cond != "clock" {
				return false, fmt.Errorf("no condition %q", cond)
			}
			// make build compiles what moves a clock.
			can := builder.CanMoveClock(runtime.GOARCH)
			if !can && os.Getenv("KEDGE_TEST_REQUIRE") != "" {
				return false, errors.New("no library to move a clock: make clock")
			}
			return can, nil
		},
	})
}

var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	// push REF FILE CONTENT: pushes an image of one file; an existing tag moves.
	"push": func(ts *testscript.TestScript, _ bool, args []string) {
		need(ts, args, 3, "push REF FILE CONTENT")
		t := ts.Value("t").(*testing.T)
		base := testenv.Scratch(t, "amd64")
		created := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
		ts.Value("registry").(*testenv.Registry).Push(t, args[0], testenv.Derive(t, base, created, map[string]string{args[1]: args[2]}))
	},
	// serve PATH CONTENT: serves the content on the file server.
	"serve": func(ts *testscript.TestScript, _ bool, args []string) {
		need(ts, args, 2, "serve PATH CONTENT")
		ts.Value("files").(*testenv.Files).Set(args[0], args[1], time.Time{})
	},
	// report FILE: checks what a verb printed as JSON, or wrote, against docs/report.schema.json.
	"report": func(ts *testscript.TestScript, _ bool, args []string) {
		need(ts, args, 1, "report FILE")
		ts.Check(testenv.CheckReport(ts.Value("t").(*testing.T), []byte(ts.ReadFile(args[0]))))
	},
	// code N PROGRAM ARG...: runs the program, and fails unless its exit code is N.
	"code": func(ts *testscript.TestScript, _ bool, args []string) {
		if len(args) < 2 {
			ts.Fatalf("usage: code N PROGRAM ARG...")
		}
		want, err := strconv.Atoi(args[0])
		ts.Check(err)
		err = ts.Exec(args[1], args[2:]...)
		got := 0
		if exit, ok := err.(*exec.ExitError); ok {
			got = exit.ExitCode()
		} else {
			ts.Check(err)
		}
		if got != want {
			ts.Fatalf("exit code %d, not %d", got, want)
		}
	},
	// lookups REPOSITORY: fails unless the registry was asked for a tag of it.
	"lookups": func(ts *testscript.TestScript, neg bool, args []string) {
		need(ts, args, 1, "lookups REPOSITORY")
		asked := false
		for _, r := range ts.Value("registry").(*testenv.Registry).TagLookups() {
			asked = asked || strings.HasPrefix(r.Path, "/v2/"+args[0]+"/")
		}
		if asked == neg {
			ts.Fatalf("asked for tags of %s: %v", args[0], asked)
		}
	},
	// forget: forgets the requests to the registry.
	"forget": func(ts *testscript.TestScript, _ bool, args []string) {
		need(ts, args, 0, "forget")
		ts.Value("registry").(*testenv.Registry).Forget()
	},
	// secret REPOSITORY USER PASSWORD: makes the registry require them.
	"secret": func(ts *testscript.TestScript, _ bool, args []string) {
		need(ts, args, 3, "secret REPOSITORY USER PASSWORD")
		ts.Value("registry").(*testenv.Registry).RequireAuth(args[0], args[1], args[2])
	},
	// login USER PASSWORD: writes what docker login would.
	"login": func(ts *testscript.TestScript, _ bool, args []string) {
		need(ts, args, 2, "login USER PASSWORD")
		ts.Setenv("DOCKER_CONFIG", ts.Value("registry").(*testenv.Registry).DockerConfig(ts.Value("t").(*testing.T), args[0], args[1]))
	},
	// commit BRANCH FILE CONTENT: adds a commit to the git server's repository, and sets $COMMIT.
	"commit": func(ts *testscript.TestScript, _ bool, args []string) {
		need(ts, args, 3, "commit BRANCH FILE CONTENT")
		t, git := ts.Value("t").(*testing.T), ts.Value("git").(*testenv.Git)
		ts.Setenv("COMMIT", git.Commit(t, args[0], map[string]string{args[1]: args[2]}))
	},
	// checkin BRANCH DIR: adds a commit with the files of a folder, and sets $COMMIT.
	"checkin": func(ts *testscript.TestScript, _ bool, args []string) {
		need(ts, args, 2, "checkin BRANCH DIR")
		files, dir := map[string]string{}, ts.MkAbs(args[1])
		ts.Check(filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			name, _ := filepath.Rel(dir, path)
			files[name] = string(data)
			return err
		}))
		t, git := ts.Value("t").(*testing.T), ts.Value("git").(*testenv.Git)
		ts.Setenv("COMMIT", git.Commit(t, args[0], files))
	},
	// gittag TAG COMMIT: sets a tag of the git server's repository; an existing one moves.
	"gittag": func(ts *testscript.TestScript, _ bool, args []string) {
		need(ts, args, 2, "gittag TAG COMMIT")
		ts.Value("git").(*testenv.Git).Tag(ts.Value("t").(*testing.T), args[0], args[1])
	},
	// servefile PATH FILE: serves a file on the file server.
	"servefile": func(ts *testscript.TestScript, _ bool, args []string) {
		need(ts, args, 2, "servefile PATH FILE")
		ts.Value("files").(*testenv.Files).Set(args[0], ts.ReadFile(args[1]), time.Time{})
	},
	"sshagent": sshagent,
	"newer":    newer,
	// gitsecret TOKEN: makes the git server require it.
	"gitsecret": func(ts *testscript.TestScript, _ bool, args []string) {
		need(ts, args, 1, "gitsecret TOKEN")
		ts.Value("git").(*testenv.Git).RequireToken(args[0])
	},
	// rewind BRANCH COMMIT: force-pushes, which removes later commits.
	"rewind": func(ts *testscript.TestScript, _ bool, args []string) {
		need(ts, args, 2, "rewind BRANCH COMMIT")
		t, git := ts.Value("t").(*testing.T), ts.Value("git").(*testenv.Git)
		git.Move(t, args[0], args[1])
		git.Prune(t)
	},
	// keep NAME: sets $NAME to the digest that the last command printed.
	"keep": func(ts *testscript.TestScript, _ bool, args []string) {
		need(ts, args, 1, "keep NAME")
		for line := range strings.Lines(ts.ReadFile("stdout")) {
			if digest, ok := strings.CutPrefix(line, "digest  "); ok {
				ts.Setenv(args[0], strings.TrimSpace(digest))
				return
			}
		}
		ts.Fatalf("no digest was printed")
	},
	// same A B fails unless the words are equal, ! same unless they differ.
	"same": func(ts *testscript.TestScript, neg bool, args []string) {
		need(ts, args, 2, "same A B")
		if (args[0] == args[1]) == neg {
			ts.Fatalf("%q and %q: same is %v", args[0], args[1], args[0] == args[1])
		}
	},
	// touch TIME FILE...: sets mtimes.
	"touch": func(ts *testscript.TestScript, _ bool, args []string) {
		when, err := time.Parse(time.RFC3339Nano, args[0])
		ts.Check(err)
		for _, name := range args[1:] {
			ts.Check(os.Chtimes(ts.MkAbs(name), when, when))
		}
	},
}

func need(ts *testscript.TestScript, args []string, n int, usage string) {
	if len(args) != n {
		ts.Fatalf("%v", fmt.Errorf("usage: %s", usage))
	}
}
