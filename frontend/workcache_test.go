package frontend

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
)

func TestWorkCaches(t *testing.T) {
	for _, test := range []struct {
		name, cwd, target string
		cache             bool
		want              []WorkCache
	}{
		{"below", "/src", "/src/obj", true, []WorkCache{{Target: "/src/obj", Line: 2}}},
		{"the folder itself", "/src", "/src/", true, []WorkCache{{Target: "/src", Line: 2}}},
		{"no cache", "/src", "/src/obj", false, nil},
		{"beside", "/src", "/srcobj", true, nil},
		{"above", "/src/app", "/src", true, nil},
		{"elsewhere", "/src", "/var/cache/apt", true, nil},
		{"of no work", "/", "/target", true, nil},
		{"a home's", "/root", "/root/.cache/go-build", true, nil},
		{"a project's", "/app", "/app/web/.next/cache", true, nil},
		{"of node", "/app", "/app/node_modules/x", true, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			mount := llb.Scratch()
			opt := []llb.MountOption{}
			if test.cache {
				opt = append(opt, llb.AsPersistentCacheDir("id", llb.CacheMountShared))
			}
			run := base().Dir(test.cwd).Run(llb.Shlex("make"), llb.AddMount(test.target, mount, opt...), at(2, 2))
			g := mustGraph(t, definition(t, run.Root()))
			got := g.WorkCaches()
			for i := range got {
				if g.nodes[g.index[got[i].Step]].op.GetExec() == nil {
					t.Errorf("%s is no RUN", got[i].Step)
				}
				got[i].Step = ""
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := mustGraph(t, nil).WorkCaches(); got != nil {
		t.Errorf("scratch: %v", got)
	}
}
