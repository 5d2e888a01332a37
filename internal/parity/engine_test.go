package parity

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/kedge-build/kedge/internal/testenv"
)

// engineCases are the ways in which an image gets into a Docker Engine. Ref names the image: by a name, or
// by "stdout" or a file with its ID.
var engineCases = []struct {
	name  string
	args  []string
	ref   string
	names []string
}{
	{"load", []string{"--load", "-t", "$SIDE/load:v1", "."}, "$SIDE/load:v1", []string{"v1"}},
	{"load names", []string{"--load", "-t", "$SIDE/names:v1", "-t", "$SIDE/names", "."}, "$SIDE/names:latest", []string{"latest", "v1"}},
	{"output", []string{"-o", "type=docker,name=$SIDE/output:v1", "."}, "$SIDE/output:v1", []string{"v1"}},
	{"default", []string{"-t", "$SIDE/default:v1", "."}, "$SIDE/default:v1", []string{"v1"}},
	{"quiet", []string{"-q", "."}, "stdout", nil},
	{"quiet with a name", []string{"--load", "-qt", "$SIDE/quiet:v1", "."}, "stdout", []string{"v1"}},
	{"id file", []string{"--load", "--iidfile=iid", "."}, "iid", nil},
}

const engineDockerfile = `FROM shell
ENV GREETING="hello, engine"
LABEL a=b
WORKDIR /work
COPY --chown=7:8 file sub/
USER 7
EXPOSE 80
VOLUME /data
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s CMD true
ENTRYPOINT ["sh", "-c"]
CMD ["id -u; pwd; echo $GREETING; stat -c '%a %u %g %n' sub/file; cat sub/file"]
`

// engine runs the cases of a Docker Engine. docker builds in the engine, and kedge on the BuildKit that the
// other cases use.
func (w *world) engine(t *testing.T, modern bool) {
	engine := testenv.StartDockerd(t, testenv.DockerdOptions{Modern: modern, Registry: w.registry})
	for _, c := range engineCases {
		t.Run(c.name, func(t *testing.T) {
			seen := map[string]any{}
			for _, side := range []string{theirs, ours} {
				seen[side] = w.loaded(t, engine, side, c.args, c.ref)
				repository := strings.SplitN(strings.TrimPrefix(w.expand(side, c.ref), "of-"+side+"/"), ":", 2)[0]
				listed := strings.Fields(engine.Docker(t, "image", "ls", "--format", "{{.Tag}}", "of-"+side+"/"+repository))
				slices.Sort(listed)
				if c.ref != "stdout" && c.ref != "iid" && !slices.Equal(listed, c.names) {
					t.Errorf("%s: names %q, not %q", side, listed, c.names)
				}
			}
			if diff := cmp.Diff(seen[theirs], seen[ours]); diff != "" {
				t.Errorf("(-docker +kedge):\n%s", diff)
			}
		})
	}
}

// loaded builds, and returns the engine's description of the image and the output of its container.
func (w *world) loaded(t *testing.T, engine *testenv.Dockerd, side string, args []string, ref string) map[string]string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), side)
	for name, content := range map[string]string{"Dockerfile": engineDockerfile, "file": "a file\n"} {
		if err := put(filepath.Join(dir, name), content, false); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"DOCKER_HOST=" + engine.Host}
	if side == theirs {
		env = append(env, "BUILDX_BUILDER=")
	}
	o := w.command(t, side, dir, Case{Env: env}, args)
	if o.code != 0 {
		t.Fatalf("%s build %q: exit code %d\n%s", side, args, o.code, excerpt(o.stderr))
	}
	found := map[string]string{}
	switch ref = w.expand(side, ref); ref {
	case "stdout":
		found["stdout"] = o.plain(string(o.stdout))
		ref = strings.TrimSpace(string(o.stdout))
	case "iid":
		content, err := os.ReadFile(filepath.Join(dir, "iid"))
		if err != nil {
			t.Fatal(err)
		}
		found["iid"] = o.plain(string(content))
		ref = string(content)
	}
	var config v1.Config
	if err := json.Unmarshal([]byte(engine.Docker(t, "image", "inspect", "--format", "{{json .Config}}", ref)), &config); err != nil {
		t.Fatal(err)
	}
	delete(config.Labels, "dev.kedge.args")
	maps.Copy(found, fields(&v1.ConfigFile{Config: config}))
	found["container"] = engine.Docker(t, "run", "--rm", ref)
	found["platform"] = fmt.Sprint(engine.Docker(t, "image", "inspect", "--format", "{{.Os}}/{{.Architecture}}", ref))
	return found
}
