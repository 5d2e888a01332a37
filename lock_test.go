package kedge

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/lock"
)

const (
	digestA = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	digestB = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	digestC = "sha256:3333333333333333333333333333333333333333333333333333333333333333"
)

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
			err := writeLock(t.Context(), p.lockfile, before, mine, nil)
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
	if err := writeLock(t.Context(), p.lockfile, &lock.File{}, &lock.File{Target: "app", Epoch: at}, nil); err != nil {
		t.Fatal(err)
	}
	// One that says nothing of target and epoch takes nothing away.
	before := locking(t, nil)
	after := locking(t, map[lock.Source]string{tagged("a:1"): digestA})
	if err := writeLock(t.Context(), p.lockfile, before, after, nil); err != nil {
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
	if err := writeLock(t.Context(), p.lockfile, &lock.File{}, after, nil); !errors.As(err, &syntax) {
		t.Errorf("%v", err)
	}
	if got, err := os.ReadFile(p.lockfile); err != nil || string(got) != "broken" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTargetConflict(t *testing.T) {
	p := testProject(t, "FROM a AS x\nFROM b AS y\n", &lock.File{})
	for i, target := range []string{"x", "y"} {
		err := writeLock(t.Context(), p.lockfile, &lock.File{}, &lock.File{Target: target}, nil)
		if (err == nil) != (i == 0) {
			t.Errorf("%s: %v", target, err)
		}
	}
	f, _, err := lock.Read(p.lockfile)
	if err != nil || f.Target != "x" {
		t.Errorf("target %q, %v", f.Target, err)
	}
}
