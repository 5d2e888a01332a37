package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	commitA = "0123456789abcdef0123456789abcdef01234567"
)

const canonical = header + `version = 1
target = "runtime"
epoch = 2026-10-20T00:00:00Z
downloads = "` + digestB + `"

[image]
"docker.io/library/debian:bookworm-slim" = "` + digestA + `"
"docker.io/library/golang:1.26" = "` + digestB + `"

[local]
"docker.io/library/base:1" = "` + digestB + `"

[url]
"https://example.com/a.tar.gz?x=\"1\"" = "` + digestA + `"

[git]
"https://example.com/r.git#main" = "` + commitA + `"

[environment]
"build CFLAGS" = "-O2 -DNAME=\"x\""
"build GOFLAGS" = ["-mod=mod", "-mod=vendor"]
`

func TestFormatIsCanonical(t *testing.T) {
	f, err := Parse("Dockerfile.lock", []byte(canonical))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(canonical, string(f.Format())); diff != "" {
		t.Error(diff)
	}
	if f.Target != "runtime" || !f.Epoch.Equal(time.Date(2026, 10, 20, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("target %q, epoch %v", f.Target, f.Epoch)
	}
	if pin, ok := f.Pin(Source{URL, `https://example.com/a.tar.gz?x="1"`}); !ok || pin != digestA {
		t.Errorf("pin %q, %v", pin, ok)
	}
}

// Order, white space and comments make no difference.
func TestParseIsIndependentOfForm(t *testing.T) {
	free := `
[git]
'https://example.com/r.git#main'="` + commitA + `"   # a comment
[image]
"docker.io/library/golang:1.26" = '` + digestB + `'
"docker.io/library/debian:bookworm-slim" = "` + digestA + `"
[url]
'https://example.com/a.tar.gz?x="1"' = "` + digestA + `"
`
	free += "[local]\n'docker.io/library/base:1'=\"" + digestB + "\"\n"
	free += "[environment]\n'build GOFLAGS'=[ '-mod=mod',\n '-mod=vendor', ]\n'build CFLAGS'='-O2 -DNAME=\"x\"'\n"
	top := "downloads = '" + digestB + "'\nepoch = 2026-10-20T02:00:00+02:00\ntarget=\"runtime\"\nversion=1\n"
	f, err := Parse("Dockerfile.lock", []byte(top+free))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(canonical, string(f.Format())); diff != "" {
		t.Error(diff)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct {
		name, text, want string
	}{
		{"empty", "", "L:1: no version: this is not a lockfile of kedge"},
		{"not TOML", "version = 1\n[image\n", "L:2: not TOML"},
		{"conflict marker", "version = 1\n<<<<<<< HEAD\n", "L:2: not TOML"},
		{"newer", "version = 2\n", "L:1: version 2 is newer than this kedge, which reads version 1: use a newer kedge"},
		{"version as string", "version = \"1\"\n", "L:1: version is not a positive number"},
		{"version zero", "version = 0\n", "L:1: version is not a positive number"},
		{"unknown key", "version = 1\ncolour = 3\n", `L:2: unknown key "colour": this kedge knows version, target, last, strict-target, epoch, rules and downloads`},
		{"unknown table", "version = 1\n[images]\n\"a\" = \"b\"\n", "L:2: unknown table [images]: this kedge knows [image], [local], [url], [git] and [environment]"},
		{"array of tables", "version = 1\n[[image]]\n", "L:2: only tables of key = value lines are allowed here"},
		{"duplicate key", "version = 1\nversion = 1\n", "L:2: version occurs twice, first on line 1"},
		{"duplicate pin", "version = 1\n[image]\n\"a\" = \"" + digestA + "\"\n\"a\" = \"" + digestA + "\"\n", `L:4: image "a" occurs twice, first on line 3`},
		{"duplicate table", "version = 1\n[image]\n[image]\n", "L:3: [image] occurs twice, first on line 2"},
		{"not a digest", "version = 1\n[image]\n\"a\" = \"latest\"\n", `L:3: the pin of "a" is not a digest sha256:…: "latest"`},
		{"short digest", "version = 1\n[url]\n\"a\" = \"sha256:abc\"\n", `L:3: the pin of "a" is not a digest sha256:…: "sha256:abc"`},
		{"not a commit", "version = 1\n[git]\n\"a\" = \"" + digestA + "\"\n", `L:3: the pin of "a" is not a git commit in hex: "` + digestA + `"`},
		{"pin is a number", "version = 1\n[image]\n\"a\" = 7\n", `L:3: the pin of "a" is not a string in quotes`},
		{"epoch is a number", "version = 1\nepoch = 1700000000\n", "L:2: epoch is not a time in whole seconds such as 2006-01-02T15:04:05Z"},
		{"epoch has no zone", "version = 1\nepoch = 2026-10-20T00:00:00\n", "L:2: epoch is not a time in whole seconds such as 2006-01-02T15:04:05Z"},
		{"empty target", "version = 1\ntarget = \"\"\n", "L:2: target is not the name of a stage in quotes"},
		{"strict-target is a string", "version = 1\nstrict-target = \"true\"\n", "L:2: strict-target is not true or false"},
		{"short digest of downloads", "version = 1\ndownloads = \"sha256:abc\"\n", "L:2: downloads is not a digest sha256:… in quotes"},
		{"downloads is a number", "version = 1\ndownloads = 7\n", "L:2: downloads is not a digest sha256:… in quotes"},
		{"space in reference", "version = 1\n[image]\n\"a b\" = \"" + digestA + "\"\n", `L:3: "a b" is not a reference`},
		{"variable without a stage", "version = 1\n[environment]\n\"CFLAGS\" = \"-O2\"\n", `L:3: "CFLAGS" is not a stage and a variable with a space between`},
		{"variable is a number", "version = 1\n[environment]\n\"build CFLAGS\" = 2\n", `L:3: the value of "build CFLAGS" is neither a string in quotes nor a sorted array of several`},
		{"one value in an array", "version = 1\n[environment]\n\"build CFLAGS\" = [\"-O2\"]\n", `L:3: the value of "build CFLAGS" is neither a string`},
		{"values not sorted", "version = 1\n[environment]\n\"build CFLAGS\" = [\"b\", \"a\"]\n", `L:3: the value of "build CFLAGS" is neither a string`},
		{"a value twice", "version = 1\n[environment]\n\"build CFLAGS\" = [\"a\", \"a\"]\n", `L:3: the value of "build CFLAGS" is neither a string`},
		{"duplicate variable", "version = 1\n[environment]\n\"b C\" = \"a\"\n\"b C\" = \"a\"\n", `L:4: environment "b C" occurs twice, first on line 3`},
		{"dotted key", "version = 1\n[image]\na.b = \"" + digestA + "\"\n", "L:3: a.b is not one key: a reference is written in quotes"},
		{"binary", "version = 1\n\xff\xfe", "L:1: not UTF-8 text"},
		{
			"every error", "version = 1\nfoo = 1\nbar = 2\n",
			"L:2: unknown key \"foo\": this kedge knows version, target, last, strict-target, epoch, rules and downloads\nL:3: unknown key \"bar\": this kedge knows version, target, last, strict-target, epoch, rules and downloads",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse("L", []byte(test.text))
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
			var errs Errors
			if !errors.As(err, &errs) {
				t.Errorf("error is a %T", err)
			}
		})
	}
}

func TestEnvironmentChanges(t *testing.T) {
	from := &File{Environment: map[string][]string{"b A": {"1"}, "b B": {"1", "2"}, "b C": {"1"}}}
	to := &File{Environment: map[string][]string{"a A": {"1"}, "b A": {"1"}, "b B": {"2"}}}
	want := []EnvironmentChange{{"a A", nil, []string{"1"}}, {"b B", []string{"1", "2"}, []string{"2"}}, {"b C", []string{"1"}, nil}}
	if diff := cmp.Diff(want, from.EnvironmentChanges(to)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if changes := from.EnvironmentChanges(from.Clone()); changes != nil {
		t.Error(changes)
	}
}

func TestAddNeverMoves(t *testing.T) {
	f := &File{}
	s := Source{Image, "docker.io/library/debian:12"}
	if err := f.Add(s, digestA); err != nil {
		t.Fatal(err)
	}
	if err := f.Add(s, digestA); err != nil {
		t.Errorf("the same again: %v", err)
	}
	var conflict *ConflictError
	if err := f.Add(s, digestB); !errors.As(err, &conflict) || conflict.Locked != digestA {
		t.Errorf("got %v", err)
	}
	if pin, _ := f.Pin(s); pin != digestA {
		t.Errorf("pin moved to %s", pin)
	}
}

func TestChanges(t *testing.T) {
	a, b := &File{}, &File{}
	moved, gone, came, same := Source{Image, "moved"}, Source{Git, "gone"}, Source{URL, "came"}, Source{Image, "same"}
	for _, add := range []struct {
		f   *File
		s   Source
		pin string
	}{{a, moved, digestA}, {b, moved, digestB}, {a, gone, commitA}, {b, came, digestA}, {a, same, digestA}, {b, same, digestA}} {
		if err := add.f.Add(add.s, add.pin); err != nil {
			t.Fatal(err)
		}
	}
	want := []Change{{moved, digestA, digestB}, {came, "", digestA}, {gone, commitA, ""}}
	if diff := cmp.Diff(want, a.Changes(b)); diff != "" {
		t.Error(diff)
	}
	if got := a.Changes(a.Clone()); got != nil {
		t.Errorf("a file differs from its copy: %v", got)
	}
}

func TestUpdateManyWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "Dockerfile.lock")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			err := Update(t.Context(), path, func(f *File) error {
				return f.Add(Source{Image, fmt.Sprintf("docker.io/library/i:%d", i)}, digestA)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	f, exists, err := Read(path)
	if err != nil || !exists || len(f.Sources()) != 20 {
		t.Fatalf("%d of 20 pins, %v", len(f.Sources()), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestUpdateThatFailsLeavesTheOld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "Dockerfile.lock")
	if err := os.WriteFile(path, []byte(canonical), 0o600); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	add := func(f *File) error { return f.Add(Source{Image, "x"}, digestA) }
	canceled, cancel := context.WithCancel(t.Context())
	for name, update := range map[string]error{
		"edit fails":  Update(t.Context(), path, func(f *File) error { return errors.Join(add(f), boom) }),
		"interrupted": Update(canceled, path, func(f *File) error { cancel(); return add(f) }),
	} {
		if !errors.Is(update, boom) && !errors.Is(update, context.Canceled) {
			t.Errorf("%s: %v", name, update)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != canonical {
		t.Errorf("%v\n%s", err, got)
	}
	if err := Update(t.Context(), path, add); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestUpdateKeepsSymlink(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "Dockerfile.lock")
	if err := os.Symlink("shared.lock", path); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"a", "b"} { // at first, the target of the link does not exist
		if err := Update(t.Context(), path, func(f *File) error { return f.Add(Source{Image, name}, digestA) }); err != nil {
			t.Fatal(err)
		}
		target, err := os.Readlink(path)
		if err != nil || target != "shared.lock" {
			t.Errorf("the link leads to %q, %v", target, err)
		}
		if f, _, err := Read(filepath.Join(dir, target)); err != nil || len(f.Sources()) != i+1 {
			t.Errorf("its target: %v, %v", f, err)
		}
	}
}

// A pipe as the lockfile would block both calls for ever; a huge file would fill the memory.
func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	pipe, huge := filepath.Join(dir, "pipe.lock"), filepath.Join(dir, "huge.lock")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(huge, nil, 0o600), os.Truncate(huge, maxSize+1)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{pipe: "is a named pipe, not a file", huge: "is larger than 32 MiB"} {
		_, _, err := Read(path)
		update := Update(t.Context(), path, func(*File) error { t.Errorf("edit of %s runs", path); return nil })
		for _, err := range []error{err, update} {
			if err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		}
	}
}

func largeFile(tb testing.TB) *File {
	large := &File{}
	for i := range 50_000 {
		if err := large.Add(Source{Image, fmt.Sprintf("registry.example.com/team/image-%05d:v1", i)}, digestA); err != nil {
			tb.Fatal(err)
		}
	}
	return large
}

// The time of a large file must grow with its size, not with its square.
func TestLargeFile(t *testing.T) {
	large := largeFile(t)
	path := filepath.Join(t.TempDir(), "Dockerfile.lock")
	if err := os.WriteFile(path, large.Format(), 0o644); err != nil {
		t.Fatal(err)
	}
	start := cpuTime(t)
	err := Update(t.Context(), path, func(f *File) error {
		if changes := large.Changes(f); len(changes) > 0 {
			return fmt.Errorf("%d pins changed", len(changes))
		}
		return f.Add(Source{URL, "https://example.com/"}, digestA)
	})
	// It takes 0.4 s. With the square in it, it took 20 s.
	if took := cpuTime(t) - start; err != nil || took > 2*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}

// cpuTime returns the processor time of this process, which other processes do not prolong.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func BenchmarkParse(b *testing.B) {
	data := largeFile(b).Format()
	for b.Loop() {
		if _, err := Parse("L", data); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(canonical))
	f.Add([]byte("version = 1\n[environment]\n\"a B\" = [\"\\u0000\", \"b\"]\n"))
	f.Add([]byte("version = 1\n[image]\na.b = \"\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("L", data)
		if err != nil {
			return
		}
		text := file.Format()
		again, err := Parse("L", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if diff := cmp.Diff(string(text), string(again.Format())); diff != "" {
			t.Error(diff)
		}
	})
}
