package kedge

import (
	"testing"
	"time"

	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
)

func TestDeclare(t *testing.T) {
	made, other := time.Unix(1700000000, 0).UTC(), time.Unix(1600000000, 0).UTC()
	tests := []struct {
		name     string
		lock     lock.File
		built    string // the target
		explicit bool
		target   string
		last     string
		epoch    time.Time
	}{
		{"new", lock.File{}, "app", false, "app", "", made},
		{"declared", lock.File{Target: "base", Epoch: other}, "app", false, "base", "", other},
		{"epoch of this build only", lock.File{}, "app", true, "app", "", time.Time{}},
		{"another target first", lock.File{}, "test", false, "app", "", time.Time{}},
	}
	parsed, err := frontend.Parse("Dockerfile", []byte("FROM a AS test\nFROM test AS app\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		r := &builder.Result{Resolution: builder.Resolution{Lock: &test.lock, Epoch: made}}
		before := *test.lock.Clone()
		p := &plan{project: &project{parsed: parsed}, target: test.built, declared: "app"}
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
