package parity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kedge-build/kedge/internal/testenv"
)

// A Case is a command line of docker build and the folder that it runs in.
//
// In Args, Env, Stdin and Files, $GIT, $FILES and $REGISTRY are the servers, $COMMIT is a commit on the git
// server, $AGENT the socket of an ssh agent, $DIR the folder, and $SIDE a word that differs between the two
// programs.
type Case struct {
	Name string
	// Files are the contents of the working folder by path. A content that begins with #! is executable, one
	// that begins with "-> " is a link, and a path that ends with a slash is a folder.
	Files map[string]string
	Env   []string
	// Stdin is the standard input; "tar", "gzip", "bzip2" and "xz" are archives of [served].
	Stdin string
	// Args follow "build". Unless they choose an output, the output is an OCI archive.
	Args []string
	// Before are command lines to run first.
	Before [][]string
	Fails  bool
	// Says is text that both print on stderr, and Line the line of the Dockerfile that both show as the one
	// that failed.
	Says []string
	Line int
	// Code is kedge's exit code if it differs from docker's, and Tells is text that only kedge prints on
	// stderr.
	Code  int
	Tells string
	// Each is called before each command line, with the folder and the number of the line, from 0.
	Each func(t *testing.T, w *world, side, dir string, n int)
	// Interrupt is text on stderr after which the program is interrupted.
	Interrupt string
	// Look returns anything else that must be the same.
	Look func(o *outcome) string
	// Pushed are references in the registry to compare, without its address.
	Pushed []string
	// Form is the form of a context that the case covers, as the documents list it.
	Form string
	// Differs are the Differences that the case shows, in addition to those of any case.
	Differs []string
}

// Arguments that choose an output, so that no archive is added.
var outputFlags = regexp.MustCompile(`^(-o|--output|--push|--load|--call|--check|--print)(=|$)`)

// A world has the servers and programs that the cases share.
type world struct {
	programs map[string]string
	homes    map[string]string
	vars     map[string]string
	env      map[string][]string
	registry *testenv.Registry
}

const (
	theirs = "buildx"
	ours   = "kedge"
)

func newWorld(t *testing.T) *world {
	t.Helper()
	testenv.Require(t, "buildkitd", "buildx")
	w := &world{
		programs: map[string]string{theirs: testenv.Program(t, "buildx"), ours: kedge(t)},
		homes:    map[string]string{},
		vars:     map[string]string{},
		env:      map[string][]string{},
	}
	w.registry = testenv.NewRegistry(t)
	testenv.Tiny(t, w.registry)
	w.pushImages(t)
	buildkitd := testenv.StartBuildkitd(t, testenv.BuildkitdOptions{
		Registry: w.registry,
		Config:   `insecure-entitlements = ["network.host", "security.insecure"]`,
	})
	w.vars["REGISTRY"] = w.registry.Addr
	w.serve(t)
	for _, side := range []string{theirs, ours} {
		home := t.TempDir()
		w.homes[side] = home
		w.env[side] = []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + home, "BUILDKIT_PROGRESS=plain",
			"DOCKER_CONFIG=" + filepath.Join(home, ".docker"), "GIT_CONFIG_GLOBAL=" + os.DevNull,
			"DOCKER_HOST=unix://" + filepath.Join(home, "no.sock"), "BUILDX_BUILDER=parity",
		}
		buildxInstance(t, filepath.Join(home, ".docker"), "parity", buildkitd.Addr)
	}
	return w
}

// buildxInstance writes the file that docker buildx create --name NAME --driver remote ADDR writes.
func buildxInstance(t *testing.T, dockerConfig, name, addr string) {
	t.Helper()
	dir := filepath.Join(dockerConfig, "buildx", "instances")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	instance, err := json.Marshal(map[string]any{
		"Name": name, "Driver": "remote",
		"Nodes": []map[string]any{{"Name": name + "0", "Endpoint": addr}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), instance, 0o644); err != nil {
		t.Fatal(err)
	}
}

// kedge returns the path of kedge, built from this source tree.
func kedge(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kedge")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "github.com/kedge-build/kedge/cmd/kedge")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building kedge: %v\n%s", err, out)
	}
	return path
}

func (w *world) expand(side, s string) string {
	for _, name := range []string{"GIT", "FILES", "REGISTRY", "COMMIT", "AGENT"} {
		s = strings.ReplaceAll(s, "$"+name, w.vars[name])
	}
	return strings.ReplaceAll(s, "$SIDE", "of-"+side)
}

func (w *world) expandAll(side, dir string, list []string) []string {
	var all []string
	for _, s := range list {
		all = append(all, strings.ReplaceAll(w.expand(side, s), "$DIR", dir))
	}
	return all
}

// run runs the command lines of a case with one program, in a new folder.
func (w *world) run(t *testing.T, side string, c Case) *outcome {
	dir := filepath.Join(t.TempDir(), side, "work")
	if err := w.write(side, dir, c); err != nil {
		t.Error(err)
		return nil
	}
	lines := append(slices.Clone(c.Before), c.Args)
	if last := len(lines) - 1; !slices.ContainsFunc(lines[last], outputFlags.MatchString) {
		lines[last] = append([]string{"--output=type=oci,dest=out.tar"}, lines[last]...)
	}
	var given map[string]entry
	var o *outcome
	for n, args := range lines {
		if o != nil && o.code != 0 {
			t.Errorf("%s build %q: exit code %d\n%s", side, lines[n-1], o.code, o.stderr)
			return nil
		}
		if c.Each != nil {
			c.Each(t, w, side, dir, n)
		}
		if n == 0 {
			var err error
			if given, err = list(dir); err != nil {
				t.Error(err)
				return nil
			}
		}
		o = w.command(t, side, dir, c, args)
	}
	if err := o.read(given); err != nil {
		t.Errorf("%s: reading what it left: %v", side, err)
	}
	for _, ref := range c.Pushed {
		if err := o.pulled(w.registry.Get(t, w.expand(side, ref))); err != nil {
			t.Errorf("%s: %v", side, err)
		}
	}
	return o
}

// write writes the files of a case into a folder.
func (w *world) write(side, dir string, c Case) error {
	for name, content := range c.Files {
		if err := put(filepath.Join(dir, name), w.expand(side, content), strings.HasSuffix(name, "/")); err != nil {
			return err
		}
	}
	return os.MkdirAll(dir, 0o755)
}

// command runs one command line.
func (w *world) command(t *testing.T, side, dir string, c Case, args []string) *outcome {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.programs[side], append([]string{"build"}, w.expandAll(side, dir, args)...)...)
	cmd.Dir = dir
	cmd.Env = append(append(slices.Clone(w.env[side]), "PWD="+dir), w.expandAll(side, dir, c.Env)...)
	cmd.Stdin = strings.NewReader(stdin(t, w.expand(side, c.Stdin)))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if c.Interrupt != "" {
		cmd.Stderr = &watcher{written: &stderr, word: c.Interrupt, seen: func() { _ = cmd.Process.Signal(os.Interrupt) }}
	}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Error(err)
		return &outcome{side: side, dir: dir, code: -1}
	}
	return &outcome{
		side: side, dir: dir, code: cmd.ProcessState.ExitCode(),
		stdout: stdout.Bytes(), stderr: stderr.String(), hidden: []string{dir, "of-" + side},
	}
}

// A watcher reports once that a word was written.
type watcher struct {
	written *bytes.Buffer
	word    string
	seen    func()
}

func (w *watcher) Write(b []byte) (int, error) {
	n, err := w.written.Write(b)
	if w.word != "" && strings.Contains(w.written.String(), w.word) {
		w.word = ""
		w.seen()
	}
	return n, err
}

// put writes a file in the form of Case.Files.
func put(path, content string, folder bool) error {
	if folder {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if target, ok := strings.CutPrefix(content, "-> "); ok {
		return os.Symlink(target, path)
	}
	mode := os.FileMode(0o644)
	if strings.HasPrefix(content, "#!") {
		mode = 0o755
	}
	return os.WriteFile(path, []byte(content), mode)
}

// TestParity runs every case with both programs. A difference is an error unless it is one of the
// Differences. A Difference that no case shows is an error, too.
func TestParity(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	ran, seen := 0, map[string]bool{}
	t.Run("case", func(t *testing.T) {
		for name, modern := range map[string]bool{"an old engine": false, "a current engine": true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w.engine(t, modern)
			})
		}
		for _, c := range Cases {
			t.Run(c.Name, func(t *testing.T) {
				t.Parallel()
				shown := w.compare(t, c)
				mu.Lock()
				defer mu.Unlock()
				ran++
				for id := range shown {
					seen[id] = true
				}
			})
		}
	})
	if ran < len(Cases) || t.Failed() {
		return // the cases that were left out can show the rest
	}
	for _, d := range Differences {
		if !seen[d.ID] && d.Pattern != nil {
			t.Errorf("no case shows the difference %q any more", d.ID)
		}
	}
}

// compare runs one case and returns the Differences that it shows.
func (w *world) compare(t *testing.T, c Case) map[string]bool {
	var sides sync.WaitGroup
	var theirOutcome, ourOutcome *outcome
	sides.Go(func() { theirOutcome = w.run(t, theirs, c) })
	sides.Go(func() { ourOutcome = w.run(t, ours, c) })
	sides.Wait()
	if theirOutcome == nil || ourOutcome == nil {
		return nil
	}
	defer func() {
		if t.Failed() {
			for _, o := range []*outcome{theirOutcome, ourOutcome} {
				t.Logf("%s build: exit code %d\n%s%s", o.side, o.code, excerpt(string(o.stdout)), excerpt(o.stderr))
			}
		}
	}()
	for _, o := range []*outcome{theirOutcome, ourOutcome} {
		want := 0
		switch {
		case c.Interrupt != "":
			want = 130
		case c.Fails:
			want = 1
		}
		if c.Code != 0 && o.side == ours {
			want = c.Code
		}
		if o.code != want {
			t.Errorf("%s: exit code %d, not %d", o.side, o.code, want)
		}
		for _, want := range c.Says {
			if !strings.Contains(o.stderr, w.expand(o.side, want)) {
				t.Errorf("%s does not say %q", o.side, want)
			}
		}
		if c.Line > 0 && !showsLine(o.stderr, c.Line) {
			t.Errorf("%s does not show line %d of the Dockerfile", o.side, c.Line)
		}
		if len(o.unfinished) > 0 {
			t.Errorf("%s left %q", o.side, o.unfinished)
		}
	}
	if !strings.Contains(ourOutcome.stderr, c.Tells) {
		t.Errorf("kedge does not say %q", c.Tells)
	}
	shown := map[string]bool{}
	for _, found := range differences(c, theirOutcome, ourOutcome) {
		ids := meant(c, found)
		if len(ids) == 0 {
			t.Errorf("a difference that is not listed: %s", found)
		}
		for _, id := range ids {
			shown[id] = true
		}
	}
	for _, id := range c.Differs {
		if !shown[id] {
			t.Errorf("the difference %q is not there any more", id)
		}
	}
	return shown
}

// showsLine reports whether an excerpt of a Dockerfile marks a line.
func showsLine(stderr string, line int) bool {
	return regexp.MustCompile(fmt.Sprintf(`(?m)^\s*%d \| >>> `, line)).MatchString(stderr)
}

// excerpt returns the end of a text.
func excerpt(s string) string {
	const most = 3000
	if len(s) > most {
		s = "…" + s[len(s)-most:]
	}
	return s
}
