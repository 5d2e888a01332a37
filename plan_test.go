package kedge

import (
	"cmp"
	"errors"
	"testing"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/store"
)

func TestProjectTarget(t *testing.T) {
	const stages = "FROM a AS base\nFROM b AS App\n"
	tests := []struct {
		name                        string
		dockerfile                  string
		declared, last, asked, want string
		ships                       string // empty: want
		refused                     bool   // by the lock
		strict, out                 bool   // strict-target; the image leaves this machine
	}{
		{name: "nothing said", dockerfile: stages, want: "app"},
		{name: "asked", dockerfile: stages, asked: "base", want: "base", ships: "app"},
		{name: "asked, to be shipped", dockerfile: stages, asked: "base", refused: true, out: true},
		{name: "the last one asked, to be shipped", dockerfile: stages, asked: "app", want: "app", out: true},
		{name: "declared", dockerfile: stages, declared: "base", last: "app", want: "base"},
		{name: "declared and asked", dockerfile: stages, declared: "app", asked: "APP", want: "app", strict: true, out: true},
		{name: "declared by index", dockerfile: stages, declared: "0", last: "1", asked: "base", want: "base"},
		{name: "a stage was added", dockerfile: stages, declared: "base", refused: true},
		{name: "another was added", dockerfile: stages + "FROM c AS test\n", declared: "base", last: "app", refused: true},
		{name: "one was added, the declared one asked", dockerfile: stages, declared: "base", asked: "base", want: "base", out: true},
		{name: "one was added, and is asked", dockerfile: stages, declared: "base", asked: "app", want: "app", ships: "base"},
		{name: "the known last is gone", dockerfile: stages, declared: "base", last: "test", refused: true},
		{name: "another", dockerfile: stages, declared: "app", asked: "base", want: "base", ships: "app"},
		{name: "another, to be shipped", dockerfile: stages, declared: "app", asked: "base", refused: true, out: true},
		{name: "another, strict", dockerfile: stages, declared: "app", asked: "base", refused: true, strict: true},
		{name: "declared one is gone", dockerfile: stages, declared: "gone", refused: true},
		{name: "declared one is gone, another asked", dockerfile: stages, declared: "gone", asked: "app", refused: true},
		{name: "a number", dockerfile: stages, declared: "app", asked: "0"},
		{name: "the number of the only stage", dockerfile: "FROM a\n", asked: "0"},
		{name: "a number that the lock has", dockerfile: "FROM a AS b\nFROM b\n", declared: "b", last: "1", asked: "1", want: "1", ships: "b"},
		{name: "a stage that is called like a number", dockerfile: "FROM a AS 0x\nFROM b AS s1\n", asked: "S1", want: "s1"},
		{name: "no such", dockerfile: stages, declared: "app", asked: "gone"},
		{name: "last without a name", dockerfile: "FROM a\n", declared: "0", want: "0"},
		{name: "last has a name now", dockerfile: "FROM a AS app\n", declared: "0", want: "app"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := testProject(t, test.dockerfile, &lock.File{Target: test.declared, Last: test.last, StrictTarget: test.strict})
			p.options.Target, p.options.Ships = test.asked, test.out
			got, ships, err := p.target()
			var refused *frontend.DeclaredTargetError
			var missing *frontend.TargetError
			if got != test.want || errors.As(err, &refused) != test.refused || errors.As(err, &missing) != (test.want == "" && !test.refused) {
				t.Fatalf("%q, %v", got, err)
			}
			if want := cmp.Or(test.ships, test.want); ships != want {
				t.Errorf("%q ships, not %q", ships, want)
			}
			if test.refused && (test.declared != "" && refused.Declared != test.declared || refused.Lockfile != p.lockfile) {
				t.Errorf("%+v", refused)
			}
		})
	}
}

// Without a place for a lock, the target that is asked for is the one that ships.
func TestTargetWithoutLock(t *testing.T) {
	p := testProject(t, "FROM a AS base\nFROM b AS app\n", &lock.File{})
	p.options.Target, p.options.Ships, p.lockfile = "base", true, ""
	if target, declared, err := p.target(); target != "base" || declared != "base" || err != nil {
		t.Errorf("%q, %q, %v", target, declared, err)
	}
}

// kedge and its frontend mark an image of another target in the same way.
func TestTargetLabel(t *testing.T) {
	if store.TargetLabel != frontend.TargetLabel {
		t.Errorf("%q and %q", store.TargetLabel, frontend.TargetLabel)
	}
}
