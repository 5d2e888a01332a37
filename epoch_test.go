package kedge

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/kedge-build/kedge/lock"
)

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
		{"context", Epoch{mode: "context"}, true},
		{"contexts", Epoch{}, false},
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

// The epoch of the Dockerfile comes after an option, and before the lock.
func TestEpochOfDockerfile(t *testing.T) {
	seconds := func(n int64) Epoch { return Epoch{time: time.Unix(n, 0).UTC(), mode: "time"} }
	committed := time.Unix(1500000000, 0).UTC()
	tests := []struct {
		args    string
		option  Epoch
		given   map[string]string
		fetched time.Time
		want    Epoch
		fails   bool
	}{
		{args: "", want: Epoch{}},
		{args: "ARG SOURCE_DATE_EPOCH", want: Epoch{}},
		{args: "ARG SOURCE_DATE_EPOCH=1600000000", want: seconds(1600000000)},
		{args: "ARG SOURCE_DATE_EPOCH=1600000000", option: seconds(1), want: seconds(1)},
		{args: "ARG SOURCE_DATE_EPOCH=1600000000", option: Epoch{mode: "base"}, want: Epoch{mode: "base"}},
		{args: "ARG DAY=16 SOURCE_DATE_EPOCH=${DAY}00000000", want: seconds(1600000000)},
		{args: "ARG DAY=16\nARG SOURCE_DATE_EPOCH=\"${DAY}00000000\"", given: map[string]string{"DAY": "17"}, want: seconds(1700000000)},
		{args: "ARG SOURCE_DATE_EPOCH=-1", fails: true},
		{args: "ARG SOURCE_DATE_EPOCH=stage", want: Epoch{}},
		{args: "ARG SOURCE_DATE_EPOCH=context", want: Epoch{}},
		{args: "ARG SOURCE_DATE_EPOCH=context", fetched: committed, want: seconds(1500000000)},
		{option: Epoch{mode: "context"}, fetched: committed, want: seconds(1500000000)},
		{option: Epoch{mode: "context"}, want: Epoch{}},
	}
	for _, test := range tests {
		p := testProject(t, test.args+"\nFROM a\nARG SOURCE_DATE_EPOCH=3\n", &lock.File{})
		p.options.Epoch, p.options.Args, p.fetch.committed = test.option, test.given, test.fetched
		got, err := p.epoch()
		if got != test.want || (err != nil) != test.fails {
			t.Errorf("%q: %v, %v", test.args, got, err)
		}
	}
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
		{"given, 1970", "0", inGit, locked, newest, time.Unix(0, 0)},
		{"git", "git", inGit, locked, newest, committed},
		{"git, no checkout", "git", plain, locked, newest, none},
		{"git, too old", "git", old, locked, newest, time.Date(1975, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"base", "base", inGit, locked, newest, newest.Truncate(time.Second)},
		{"base, 1970", "base", inGit, locked, time.Unix(0, 0), committed},
		{"base, none, no checkout", "base", plain, locked, none, earliest},
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

func TestGitDir(t *testing.T) {
	here := newCheckout(t, time.Unix(1600000000, 0))
	t.Setenv("GIT_DIR", newCheckout(t, time.Unix(1700000000, 0))+"/.git")
	if got, _ := headTime(t.Context(), here, os.Environ()); got.Unix() != 1600000000 {
		t.Error(got)
	}
}
