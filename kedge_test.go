package kedge

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/kedge-build/kedge/lock"
)

const (
	digestA = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	digestB = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	digestC = "sha256:3333333333333333333333333333333333333333333333333333333333333333"
)

func TestSecondStart(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	now := time.Date(2026, 5, 6, 7, 8, 40, 0, time.UTC)
	tests := []struct {
		name string
		// How long before now.
		started, runStarted, runFinished time.Duration
		minute                           bool
		want                             time.Duration
	}{
		{"short step, just finished", s, 100 * ms, 0, false, 1900 * ms},
		{"short step, a while ago", 2 * s, 1500 * ms, 1400 * ms, false, 500 * ms},
		{"long step, just finished", time.Minute, time.Minute, 0, false, s},
		{"long step, half a second ago", time.Minute, time.Minute, 500 * ms, false, 500 * ms},
		{"finished a second ago", 10 * s, 10 * s, s, false, 0},
		{"started two seconds ago", 2 * s, 2 * s, 2 * s, false, 0},
		{"long ago", time.Hour, time.Minute, time.Minute, false, 2*s - time.Minute},
		{"started and finished now", 0, 0, 0, false, 2 * s},
		{"another minute", time.Minute, time.Minute, 0, true, 21 * s},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			first := &builder.Result{Started: now.Add(-test.started), LastRunStarted: now.Add(-test.runStarted), LastRunFinished: now.Add(-test.runFinished), Finished: now}
			if got := secondStart(first, test.minute).Sub(now); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
	// Cached steps finished before the build started, perhaps only just.
	if got := secondStart(&builder.Result{Started: now}, false); !got.Equal(now.Add(2 * s)) {
		t.Errorf("everything was cached: %v, want %v", got, now.Add(2*s))
	}
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := sleep(t.Context(), -time.Hour); err != nil || time.Since(start) != 0 {
			t.Errorf("a time that has passed: %v, %v", time.Since(start), err)
		}
		if err := sleep(t.Context(), time.Hour); err != nil || time.Since(start) != time.Hour {
			t.Errorf("an hour: %v, %v", time.Since(start), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Hour+time.Millisecond {
			t.Errorf("interrupted: %v, %v", time.Since(start), err)
		}
	})
}

func TestParseEpoch(t *testing.T) {
	seconds := func(n int64) Epoch { return Epoch{time: time.Unix(n, 0).UTC(), mode: "time"} }
	tests := []struct {
		text string
		want Epoch
		ok   bool
	}{
		{"", Epoch{}, true},
		{"git", Epoch{mode: "git"}, true},
		{"base", Epoch{mode: "base"}, true},
		{"0", seconds(0), true},
		{"1700000000", seconds(1700000000), true},
		{"9223372035", seconds(9223372035), true},
		{"253402300800", Epoch{}, false},
		{"99999999999999999999", Epoch{}, false},
		{"-1", Epoch{}, false},
		{"1.5", Epoch{}, false},
		{"1e9", Epoch{}, false},
		{"0x10", Epoch{}, false},
		{"1_000", Epoch{}, false},
		{" 1", Epoch{}, false},
		{"1\n", Epoch{}, false},
		{"Git", Epoch{}, false},
		{"context", Epoch{}, false},
		{"2024-01-01", Epoch{}, false},
	}
	for _, test := range tests {
		got, err := ParseEpoch(test.text)
		if (err == nil) != test.ok || got != test.want {
			t.Errorf("%q: %v, %v", test.text, got, err)
		}
		if explicit := test.ok && test.text != ""; got.Explicit() != explicit {
			t.Errorf("%q: explicit is %v", test.text, got.Explicit())
		}
	}
}

// newCheckout returns a git repository with one commit, made at that time.
func newCheckout(t testing.TB, committed time.Time) string {
	t.Helper()
	testenv.Require(t, "git")
	dir := t.TempDir()
	for _, args := range [][]string{
		{"init", "--quiet"},
		{"-c", "user.name=kedge", "-c", "user.email=kedge@example.com", "-c", "commit.gpgsign=false", "commit", "--quiet", "--allow-empty", "--message=x"},
	} {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_AUTHOR_DATE=2001-01-01T00:00:00Z", "GIT_COMMITTER_DATE="+committed.Format(time.RFC3339))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	return dir
}

func TestEpochChoose(t *testing.T) {
	committed := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	locked := time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)
	newest := time.Date(2022, 1, 1, 0, 0, 0, 5e8, time.FixedZone("x", 3600))
	inGit := newCheckout(t, committed)
	sub := filepath.Join(inGit, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	plain := t.TempDir()
	t.Setenv("GIT_CEILING_DIRECTORIES", filepath.Dir(plain))
	old := newCheckout(t, time.Date(1975, 1, 1, 0, 0, 0, 0, time.UTC))
	none := time.Time{}
	tests := []struct {
		name         string
		epoch, dir   string
		locked, base time.Time
		want         time.Time
	}{
		{"given", "5", inGit, locked, newest, time.Unix(5, 0)},
		{"given as 1970", "0", inGit, locked, newest, time.Unix(0, 0)},
		{"of git", "git", inGit, locked, newest, committed},
		{"of git, no checkout", "git", plain, locked, newest, none},
		{"of git, too old", "git", old, locked, newest, time.Date(1975, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"of the base", "base", inGit, locked, newest, newest.Truncate(time.Second)},
		{"of the base, 1970", "base", inGit, locked, time.Unix(0, 0), committed},
		{"of the base, none, no checkout", "base", plain, locked, none, earliest},
		{"locked", "", inGit, locked, newest, locked},
		{"default: base", "", inGit, none, newest, newest.Truncate(time.Second)},
		{"base of 1980", "", inGit, none, earliest, earliest},
		{"base just before 1980", "", inGit, none, earliest.Add(-1), committed},
		{"base of 1970", "", inGit, none, time.Unix(0, 0), committed},
		{"no base", "", inGit, none, none, committed},
		{"no base, folder of a checkout", "", sub, none, none, committed},
		{"no base, no checkout", "", plain, none, none, earliest},
		{"no base, no folder", "", filepath.Join(plain, "gone"), none, none, earliest},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e, err := ParseEpoch(test.epoch)
			if err != nil {
				t.Fatal(err)
			}
			got, ask, err := e.choose(test.locked, func() (time.Time, error) { return headTime(t.Context(), test.dir, os.Environ()) })
			if test.want.IsZero() != (err != nil) {
				t.Fatal(err)
			}
			if err != nil {
				return
			}
			if ask != nil {
				if !got.IsZero() {
					t.Errorf("both %v and a question", got)
				}
				got = ask(test.base)
			}
			if !got.Equal(test.want) || got.Location() != time.UTC || got.Nanosecond() != 0 {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "Dockerfile")
	var parse *frontend.ParseError
	var syntax lock.Errors
	write := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []Options{{Context: filepath.Join(dir, "gone")}, {Context: dir}} {
		if _, err := open(t.Context(), Env{}, o); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v: %v", o, err)
		}
	}
	write(file, "RUN x\n")
	if _, err := open(t.Context(), Env{}, Options{Context: dir}); !errors.As(err, &parse) || parse.File != file {
		t.Errorf("broken Dockerfile: %v", err)
	}
	if _, err := open(t.Context(), Env{}, Options{Context: file}); err == nil {
		t.Error("a file as the context")
	}
	write(file, "FROM debian\n")
	p, err := open(t.Context(), Env{}, Options{Context: dir})
	if err != nil || p.lockExists || p.lockfile != file+".lock" || p.name != file {
		t.Errorf("%+v, %v", p, err)
	}
	write(file+".lock", "version = 2\n")
	if _, err := open(t.Context(), Env{}, Options{Context: dir}); !errors.As(err, &syntax) || syntax[0].File != file+".lock" {
		t.Errorf("broken lockfile: %v", err)
	}
	other := filepath.Join(dir, "other.lock")
	write(other, "version = 1\n")
	p, err = open(t.Context(), Env{}, Options{Context: dir, Lockfile: other})
	if err != nil || !p.lockExists || p.lockfile != other {
		t.Errorf("%+v, %v", p, err)
	}
}

func testProject(t testing.TB, dockerfile string, f *lock.File) *project {
	t.Helper()
	parsed, err := frontend.Parse("Dockerfile", []byte(dockerfile))
	if err != nil {
		t.Fatal(err)
	}
	return &project{parsed: parsed, lock: f, lockfile: filepath.Join(t.TempDir(), "Dockerfile.lock")}
}

func TestProjectTarget(t *testing.T) {
	const stages = "FROM a AS base\nFROM b AS App\n"
	tests := []struct {
		name                        string
		dockerfile                  string
		declared, last, asked, want string
		refused                     bool // by the lock
	}{
		{"nothing said", stages, "", "", "", "app", false},
		{"asked", stages, "", "", "base", "base", false},
		{"declared", stages, "base", "app", "", "base", false},
		{"declared and asked", stages, "app", "", "APP", "app", false},
		{"declared and asked by index", stages, "app", "", "1", "app", false},
		{"declared by index", stages, "0", "1", "base", "base", false},
		{"a stage was added", stages, "base", "", "", "", true},
		{"another was added", stages + "FROM c AS test\n", "base", "app", "", "", true},
		{"one was added, the declared one asked", stages, "base", "", "base", "base", false},
		{"the known last is gone", stages, "base", "test", "", "", true},
		{"another", stages, "app", "", "base", "", true},
		{"declared one is gone", stages, "gone", "", "", "", true},
		{"declared one is gone, another asked", stages, "gone", "", "app", "", true},
		{"no such", stages, "app", "", "gone", "", false},
		{"last without a name", "FROM a\n", "0", "", "", "0", false},
		{"last has a name now", "FROM a AS app\n", "0", "", "", "app", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := testProject(t, test.dockerfile, &lock.File{Target: test.declared, Last: test.last})
			p.options.Target = test.asked
			got, err := p.target()
			var refused *TargetError
			var missing *frontend.TargetError
			if got != test.want || errors.As(err, &refused) != test.refused || errors.As(err, &missing) != (test.want == "" && !test.refused) {
				t.Fatalf("%q, %v", got, err)
			}
			if test.refused && (refused.Declared != test.declared || refused.Lockfile != p.lockfile) {
				t.Errorf("%+v", refused)
			}
		})
	}
}

func tagged(name string) lock.Source {
	return lock.Source{Kind: lock.Image, Ref: "docker.io/library/" + name}
}

func locking(t testing.TB, pins map[lock.Source]string) *lock.File {
	t.Helper()
	f := &lock.File{}
	for s, pin := range pins {
		if err := f.Add(s, pin); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestRefreshed(t *testing.T) {
	one, digested := tagged("debian:12"), tagged("debian:12@"+digestA)
	url := lock.Source{Kind: lock.URL, Ref: "https://example.com/debian:12"}
	git := lock.Source{Kind: lock.Git, Ref: "https://example.com/r.git#v1"}
	latest := tagged("tool:latest")
	all := locking(t, map[lock.Source]string{one: digestA, digested: digestA, url: digestA, git: strings.Repeat("1", 40), latest: digestA})
	tests := []struct {
		name    string
		refresh Refresh
		want    []lock.Source
		missing string
	}{
		{"nothing", Refresh{}, nil, ""},
		{"all", Refresh{All: true}, all.Sources(), ""},
		{"all and one", Refresh{All: true, Refs: []string{"debian:12"}}, all.Sources(), ""},
		{"short form", Refresh{Refs: []string{"debian:12"}}, []lock.Source{one}, ""},
		{"full form", Refresh{Refs: []string{one.Ref}}, []lock.Source{one}, ""},
		{"with its digest", Refresh{Refs: []string{digested.Ref}}, []lock.Source{digested}, ""},
		{"latest", Refresh{Refs: []string{"tool"}}, []lock.Source{latest}, ""},
		{"url and git", Refresh{Refs: []string{url.Ref, git.Ref}}, []lock.Source{url, git}, ""},
		{"no such", Refresh{Refs: []string{"debian:12", "debian"}}, nil, "debian"},
		{"no such URL", Refresh{Refs: []string{"https://example.com/debian"}}, nil, "https://example.com/debian"},
		{"no such, all", Refresh{All: true, Refs: []string{"x"}}, nil, "x"},
		{"empty", Refresh{Refs: []string{""}}, nil, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := testProject(t, "FROM a\n", all).refreshed(test.refresh)
			var missing *RefError
			if test.missing != "" || test.name == "empty" {
				if !errors.As(err, &missing) || missing.Ref != test.missing {
					t.Fatalf("%v, %v", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := map[lock.Source]bool{}
			for _, s := range all.Sources() {
				want[s] = false
			}
			for _, s := range test.want {
				want[s] = true
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDeclare(t *testing.T) {
	made, other := time.Unix(1700000000, 0).UTC(), time.Unix(1600000000, 0).UTC()
	tests := []struct {
		name     string
		lock     lock.File
		explicit bool
		target   string
		last     string
		epoch    time.Time
	}{
		{"new", lock.File{}, false, "app", "", made},
		{"declared", lock.File{Target: "base", Epoch: other}, false, "base", "", other},
		{"epoch of this build only", lock.File{}, true, "app", "", time.Time{}},
	}
	parsed, err := frontend.Parse("Dockerfile", []byte("FROM a AS app\nFROM app AS test\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		r := &builder.Result{Resolution: builder.Resolution{Lock: &test.lock, Epoch: made}}
		before := *test.lock.Clone()
		p := &plan{project: &project{parsed: parsed}, target: "app"}
		if test.explicit {
			p.options.Epoch = Epoch{mode: "time"}
		}
		got := p.declare(r)
		if got.Last != test.last {
			t.Errorf("%s: last stage %q, not %q", test.name, got.Last, test.last)
		}
		if got.Target != test.target || !got.Epoch.Equal(test.epoch) {
			t.Errorf("%s: %q, %v", test.name, got.Target, got.Epoch)
		}
		if test.lock.Target != before.Target || !test.lock.Epoch.Equal(before.Epoch) {
			t.Errorf("%s: the builder's lock was changed", test.name)
		}
	}
}

func TestWriteLock(t *testing.T) {
	type pins = map[lock.Source]string
	a, b, c := tagged("a:1"), tagged("b:1"), tagged("c:1")
	tests := []struct {
		name                         string
		before, meanwhile, mine, end pins
		conflict                     lock.Source
	}{
		{"first", nil, nil, pins{a: digestA}, pins{a: digestA}, lock.Source{}},
		{"nothing", pins{a: digestA}, pins{a: digestA}, pins{a: digestA}, pins{a: digestA}, lock.Source{}},
		{"added", pins{a: digestA}, pins{a: digestA}, pins{a: digestA, b: digestB}, pins{a: digestA, b: digestB}, lock.Source{}},
		{"moved", pins{a: digestA}, pins{a: digestA}, pins{a: digestB}, pins{a: digestB}, lock.Source{}},
		{"removed", pins{a: digestA, b: digestA}, pins{a: digestA, b: digestA}, pins{b: digestA}, pins{b: digestA}, lock.Source{}},
		{"others added", pins{a: digestA}, pins{a: digestA, c: digestC}, pins{a: digestA, b: digestB}, pins{a: digestA, b: digestB, c: digestC}, lock.Source{}},
		{"others added first", nil, pins{c: digestC}, pins{b: digestB}, pins{b: digestB, c: digestC}, lock.Source{}},
		{"others added the same", nil, pins{a: digestA}, pins{a: digestA}, pins{a: digestA}, lock.Source{}},
		{"others moved the same", pins{a: digestA}, pins{a: digestB}, pins{a: digestB}, pins{a: digestB}, lock.Source{}},
		{"others moved what I keep", pins{a: digestA}, pins{a: digestB}, pins{a: digestA, b: digestB}, pins{a: digestB, b: digestB}, lock.Source{}},
		{"others removed what I move", pins{a: digestA}, nil, pins{a: digestB}, pins{a: digestB}, lock.Source{}},
		{"others removed what I keep", pins{a: digestA, b: digestA}, pins{b: digestA}, pins{a: digestA, b: digestA, c: digestC}, pins{b: digestA, c: digestC}, lock.Source{}},
		{"others removed what I remove", pins{a: digestA}, nil, nil, nil, lock.Source{}},
		{"others added another", nil, pins{a: digestC}, pins{a: digestA, b: digestB}, pins{a: digestC}, a},
		{"others moved elsewhere", pins{a: digestA}, pins{a: digestC}, pins{a: digestB, b: digestB}, pins{a: digestC}, a},
		{"others moved what I remove", pins{a: digestA}, pins{a: digestC}, pins{b: digestB}, pins{a: digestC}, a},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before, mine := locking(t, test.before), locking(t, test.mine)
			p := testProject(t, "FROM a\n", before)
			old := locking(t, test.meanwhile).Format()
			if err := os.WriteFile(p.lockfile, old, 0o644); err != nil {
				t.Fatal(err)
			}
			err := writeLock(t.Context(), p.lockfile, before, mine)
			var conflict *lock.ConflictError
			if errors.As(err, &conflict) != (test.conflict != lock.Source{}) || conflict == nil && err != nil {
				t.Fatal(err)
			}
			if conflict != nil && (conflict.Source != test.conflict || conflict.Locked != test.meanwhile[test.conflict] || conflict.Found != test.mine[test.conflict]) {
				t.Errorf("%+v", conflict)
			}
			got, err := os.ReadFile(p.lockfile)
			if err != nil {
				t.Fatal(err)
			}
			want := locking(t, test.end).Format()
			if conflict != nil {
				want = old
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("lockfile (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWriteLockDeclares(t *testing.T) {
	at := time.Unix(1700000000, 0).UTC()
	p := testProject(t, "FROM a AS app\n", &lock.File{})
	if err := writeLock(t.Context(), p.lockfile, &lock.File{}, &lock.File{Target: "app", Epoch: at}); err != nil {
		t.Fatal(err)
	}
	// One that says nothing of target and epoch takes nothing away.
	before := locking(t, nil)
	after := locking(t, map[lock.Source]string{tagged("a:1"): digestA})
	if err := writeLock(t.Context(), p.lockfile, before, after); err != nil {
		t.Fatal(err)
	}
	f, exists, err := lock.Read(p.lockfile)
	if err != nil || !exists || f.Target != "app" || !f.Epoch.Equal(at) || len(f.Sources()) != 1 {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestWriteLockFails(t *testing.T) {
	p := testProject(t, "FROM a\n", &lock.File{})
	if err := os.WriteFile(p.lockfile, []byte("broken"), 0o644); err != nil {
		t.Fatal(err)
	}
	after := locking(t, map[lock.Source]string{tagged("a:1"): digestA})
	var syntax lock.Errors
	if err := writeLock(t.Context(), p.lockfile, &lock.File{}, after); !errors.As(err, &syntax) {
		t.Errorf("%v", err)
	}
	if got, err := os.ReadFile(p.lockfile); err != nil || string(got) != "broken" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTargetConflict(t *testing.T) {
	p := testProject(t, "FROM a AS x\nFROM b AS y\n", &lock.File{})
	for i, target := range []string{"x", "y"} {
		err := writeLock(t.Context(), p.lockfile, &lock.File{}, &lock.File{Target: target})
		if (err == nil) != (i == 0) {
			t.Errorf("%s: %v", target, err)
		}
	}
	f, _, err := lock.Read(p.lockfile)
	if err != nil || f.Target != "x" {
		t.Errorf("target %q, %v", f.Target, err)
	}
}

func TestGitDir(t *testing.T) {
	here := newCheckout(t, time.Unix(1600000000, 0))
	t.Setenv("GIT_DIR", newCheckout(t, time.Unix(1700000000, 0))+"/.git")
	if got, _ := headTime(t.Context(), here, os.Environ()); got.Unix() != 1600000000 {
		t.Error(got)
	}
}
