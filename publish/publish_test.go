package publish

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func TestNames(t *testing.T) {
	const hash = "0123456789ab"
	long := strings.Repeat("t", 128-len("-args-"+hash))
	tests := []struct {
		tag  string
		want []string
	}{
		{"app", []string{"docker.io/library/app:latest", "docker.io/library/app:args-" + hash}},
		{"app:1.2", []string{"docker.io/library/app:1.2", "docker.io/library/app:1.2-args-" + hash}},
		{"app:latest", []string{"docker.io/library/app:latest", "docker.io/library/app:latest-args-" + hash}},
		{"team/app", []string{"docker.io/team/app:latest", "docker.io/team/app:args-" + hash}},
		{"localhost:5000/app", []string{"localhost:5000/app:latest", "localhost:5000/app:args-" + hash}},
		{"localhost:5000/app:1", []string{"localhost:5000/app:1", "localhost:5000/app:1-args-" + hash}},
		{"ghcr.io/o/app:V1_x", []string{"ghcr.io/o/app:V1_x", "ghcr.io/o/app:V1_x-args-" + hash}},
		{"app:" + long, []string{"docker.io/library/app:" + long, "docker.io/library/app:" + long + "-args-" + hash}},
		{"app:" + long + "t", nil},
		{"", nil},
		{"App", nil},
		{"app:", nil},
		{"a:b:c", nil},
		{"app@sha256:" + strings.Repeat("1", 64), nil},
		{"app:1@sha256:" + strings.Repeat("1", 64), nil},
		{"https://example.com/app", nil},
		{strings.Repeat("a", 64), nil},
	}
	for _, test := range tests {
		t.Run(test.tag, func(t *testing.T) {
			got, err := Names([]string{test.tag}, hash)
			if (err != nil) != (test.want == nil) {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got, err := Names(nil, hash); err != nil || got != nil {
		t.Errorf("no tag: %q, %v", got, err)
	}
	if got, err := Names([]string{"a", "b:1"}, hash); err != nil || len(got) != 4 {
		t.Errorf("two tags: %q, %v", got, err)
	}
	if got, err := Names([]string{"a", "B"}, hash); err == nil || got != nil {
		t.Errorf("one of two is none: %q, %v", got, err)
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	writeFile(t, file, nil)
	for want, w := range map[string]Wanted{
		"":                             {},
		"--push needs a name":          {Push: true},
		"has no name":                  {Outputs: []Output{{Type: Image, Push: true}}},
		"invalid tag":                  {Tags: []string{"UPPER"}},
		`invalid tag "BAD"`:            {Outputs: []Output{{Type: OCI, Dest: "-", Names: []string{"BAD"}}}},
		"two outputs are for standard": {Outputs: []Output{{Type: OCI, Dest: "-"}, {Type: Tar, Dest: "-"}}},
		"is a directory":               {Outputs: []Output{{Type: OCI, Dest: dir}}},
		"is a file":                    {Outputs: []Output{{Type: Local, Dir: true, Dest: file}}},
	} {
		err := w.Check()
		var usage *UsageError
		if (err == nil) != (want == "") || err != nil && (!errors.As(err, &usage) || !strings.Contains(err.Error(), want)) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	fine := Wanted{Push: true, Tags: []string{"app"}, Outputs: []Output{
		{Type: Image, Push: true}, {Type: OCI, Dest: filepath.Join(dir, "new/app.tar")}, {Type: Local, Dir: true, Dest: dir},
	}}
	if err := fine.Check(); err != nil {
		t.Error(err)
	}
}

func TestPlace(t *testing.T) {
	for _, test := range []struct {
		o    Output
		dest string
		dir  bool
		err  string
	}{
		{Output{Type: Local, Dest: "d"}, "d", true, ""},
		{Output{Type: Local}, "", true, "dest=DIR is missing"},
		{Output{Type: Local, Dest: "-"}, "-", true, "a directory cannot go to stdout"},
		{Output{Type: Tar}, "-", false, ""},
		{Output{Type: OCI}, "-", false, ""},
		{Output{Type: OCI, Dir: true}, "", true, "dest=DIR is missing"},
		{Output{Type: Docker}, "", false, ""},
		{Output{Type: Docker, Dir: true, Dest: "d"}, "d", true, "tar=false is for type=oci"},
		{Output{Type: Image, Dest: "x"}, "x", false, "type=image has no dest"},
		{Output{Type: CacheOnly, Dest: "x"}, "x", false, "type=cacheonly has no dest"},
	} {
		o, err := test.o.Place()
		if o.Dest != test.dest || o.Dir != test.dir || (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
			t.Errorf("%+v: %+v, %v", test.o, o, err)
		}
	}
}

// An Engine is looked for if something asks for it, and its absence is an error only if that is explicit.
func TestPrepareEngine(t *testing.T) {
	absent := errors.New("no Docker Engine answers")
	type outcome struct {
		asked, loaded, missing bool
		err                    string
	}
	for _, test := range []struct {
		name   string
		w      Wanted
		engine *fakeEngine // nil: absent
		want   outcome
	}{
		{"nothing", Wanted{}, nil, outcome{}},
		{"by default", Wanted{LoadDefault: true}, &fakeEngine{}, outcome{asked: true, loaded: true}},
		{"by default, absent", Wanted{LoadDefault: true}, nil, outcome{asked: true, missing: true}},
		{"an output says where", Wanted{LoadDefault: true, Outputs: []Output{{Type: CacheOnly}}}, &fakeEngine{}, outcome{}},
		{"pushed", Wanted{LoadDefault: true, Push: true, Tags: []string{"a"}}, &fakeEngine{}, outcome{}},
		{"asked for", Wanted{Load: true}, &fakeEngine{}, outcome{asked: true, loaded: true}},
		{"asked for, absent", Wanted{Load: true}, nil, outcome{asked: true, err: "loading into Docker: no Docker Engine answers"}},
		{"an output", Wanted{Outputs: []Output{{Type: Docker}}}, &fakeEngine{}, outcome{asked: true}},
		{"an output, absent", Wanted{Outputs: []Output{{Type: Docker}}}, nil, outcome{asked: true, err: "loading into Docker: no Docker Engine answers"}},
		{"two platforms", Wanted{Load: true, Platforms: 2}, &fakeEngine{}, outcome{asked: true, loaded: true}},
		{"two platforms for one", Wanted{Load: true, Platforms: 2}, &fakeEngine{oneOnly: true},
			outcome{asked: true, err: `loading into Docker: the Docker Engine at "fake" cannot store an image for several platforms`}},
		{"two platforms for one by default", Wanted{LoadDefault: true, Platforms: 2}, &fakeEngine{oneOnly: true}, outcome{asked: true, missing: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got outcome
			d, err := Prepare(t.Context(), test.w, Env{Engine: func(context.Context) (Engine, error) {
				got.asked = true
				if test.engine == nil {
					return nil, absent
				}
				return test.engine, nil
			}})
			if err != nil {
				got.err = err.Error()
			} else {
				got.loaded, got.missing = d.wanted.Load, d.missing != nil
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(outcome{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if test.engine != nil && got.asked != test.engine.closed {
				t.Errorf("closed: %v", test.engine.closed)
			}
		})
	}
}

// One call names the image, writes its outputs, loads and pushes it.
func TestDeliver(t *testing.T) {
	s := testStore(t)
	img := build(t, s, small(t, "a"))
	r := newRegistry(t, nil)
	engine := newEngine(t, func(w http.ResponseWriter, req *http.Request) {
		io.Copy(io.Discard, req.Body)
		io.WriteString(w, `{"stream":"Loaded image: app:1\n"}`)
	})
	engine.images = map[string]string{img.Manifests[0].Config.String(): img.Manifests[0].Config.String()}
	file, tag := filepath.Join(t.TempDir(), "new/app.tar"), r.host+"/team/app:1"
	var stdout strings.Builder
	d, err := Prepare(t.Context(), Wanted{
		Tags: []string{tag}, Push: true, Load: true,
		Outputs: []Output{{Type: OCI, Dest: file, Names: []string{"unused"}}, {Type: Tar, Dest: "-"}, {Type: CacheOnly}},
	}, Env{Stdout: &stdout, Engine: func(context.Context) (Engine, error) { return engine, nil }})
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := d.Deliver(t.Context(), s, img, "0123456789ab")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{tag, tag + "-args-0123456789ab"}
	want := Receipt{Names: names, ID: img.Manifests[0].Config, Steps: []Step{{Loaded, "app:1"}, {Pushed, names[0]}, {Pushed, names[1]}}}
	if diff := cmp.Diff(want, receipt); diff != "" {
		t.Errorf("receipt (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(file); err != nil || stdout.Len() == 0 {
		t.Errorf("%v, %d bytes on stdout", err, stdout.Len())
	}
	for _, n := range names {
		ref, err := name.ParseReference(n)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := remote.Head(ref); err != nil || got.Digest.String() != img.Descriptor.Digest.String() {
			t.Errorf("%s: %v, %v", n, got, err)
		}
		if desc, err := s.Resolve(t.Context(), n); err != nil || desc.Digest != img.Descriptor.Digest {
			t.Errorf("%s in the store: %v, %v", n, desc, err)
		}
	}
	// The second time the Engine has it under both names.
	for _, n := range names {
		engine.images[n] = img.Manifests[0].Config.String()
	}
	if receipt, err = d.Deliver(t.Context(), s, img, "0123456789ab"); err != nil || receipt.Steps[0] != (Step{Present, "fake"}) || engine.received != 1 {
		t.Errorf("%+v, %v", receipt, err)
	}
}

// A failure leaves the receipt of the steps before it, and an image that is not loaded says why.
func TestDeliverFails(t *testing.T) {
	s := testStore(t)
	img := build(t, s, small(t, "a"))
	r := newRegistry(t, nil)
	missing := errors.New("no Docker Engine answers")
	d, err := Prepare(t.Context(), Wanted{LoadDefault: true}, Env{Engine: func(context.Context) (Engine, error) { return nil, missing }})
	if err != nil {
		t.Fatal(err)
	}
	if receipt, err := d.Deliver(t.Context(), s, img, "0123456789ab"); err != nil || receipt.NotLoaded != missing || receipt.ID != img.Descriptor.Digest {
		t.Errorf("%+v, %v", receipt, err)
	}
	d, err = Prepare(t.Context(), Wanted{Outputs: []Output{
		{Type: Image, Push: true, Names: []string{r.host + "/app"}}, {Type: Local, Dir: true, Dest: filepath.Join(t.TempDir(), "out"), Root: RootOptions{Source: "nowhere"}},
	}}, Env{})
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := d.Deliver(t.Context(), s, img, "0123456789ab")
	var path *PathError
	if !errors.As(err, &path) || !slices.Contains(receipt.Steps, Step{Pushed, r.host + "/app:latest"}) {
		t.Errorf("%+v, %v", receipt, err)
	}
}
