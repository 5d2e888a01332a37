package kedge

import (
	"errors"
	"testing"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
)

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
