package bake

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// definition is what docker buildx bake --print wrote, with a group in a group and a target that two others
// are built from.
const definition = `{
  "group": {
    "default": {"targets": ["images", "test"]},
    "images": {"targets": ["app"]}
  },
  "target": {
    "app": {
      "annotations": ["manifest:a=$${b}"],
      "attest": [{"type": "provenance", "mode": "max"}, {"disabled": true, "type": "sbom"}],
      "context": "app", "contexts": {"base": "target:base", "data": "cwd://data", "image": "docker-image://debian"},
      "dockerfile": "Dockerfile.app",
      "args": {"A": "$${x} %%{y}", "FROM_ENV": null},
      "labels": {"a.b": "c,d"},
      "tags": ["app:2", "app:1"],
      "cache-from": [{"type": "registry", "ref": "r/c"}],
      "cache-to": [{"type": "local", "dest": "cache, 1"}],
      "target": "run",
      "secret": [{"id": "token", "env": "TOKEN"}],
      "ssh": [{"id": "default", "paths": ["/a", "/b"]}, {"id": "x"}],
      "platforms": ["linux/arm64", "linux/amd64"],
      "output": [{"type": "registry"}],
      "pull": true, "no-cache": true, "network": "none", "no-cache-filter": ["run"], "shm-size": "128m",
      "ulimits": ["nofile=1:2"], "resources": {"memory": "1g", "cpu-shares": 5000000}, "call": "build",
      "entitlements": ["network.host", "fs.read=/x"], "extra-hosts": {"h": "1.2.3.4,1.2.3.5"},
      "policy": [{"Disabled": true, "Files": null, "Reset": false}, {"Disabled": false, "Files": [{"Data": null, "Filename": "a.rego"}]}]
    },
    "base": {"context": ".", "dockerfile": "Dockerfile", "tags": ["base"], "output": [{"type": "docker"}], "cache-to": [{"type": "inline"}]},
    "test": {"context": "https://example.com/a.git#main", "dockerfile": "test/Dockerfile", "contexts": {"base": "target:base"}, "dockerfile-inline": null}
  }
}`

func TestParse(t *testing.T) {
	d, err := Parse([]byte(definition), "/work", "")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	var order []string
	for _, target := range d.Targets {
		order = append(order, target.Name)
		got[target.Name] = target.Words()
	}
	if !slices.Equal(order, []string{"base", "app", "test"}) {
		t.Errorf("order %q", order)
	}
	want := map[string][]string{
		"base": {"--load=false", "--file=Dockerfile", "--", "."},
		"app": {
			"--build-context=data=data", "--build-context=image=docker-image://debian", "--build-arg=A=${x} %{y}", "--build-arg=FROM_ENV", "--label=a.b=c,d",
			"--add-host=h=1.2.3.4", "--add-host=h=1.2.3.5", "--attest=type=provenance,mode=max", "--attest=type=sbom,disabled=true",
			"--cache-from=type=registry,ref=r/c", "--secret=env=TOKEN,id=token", "--policy=disabled=true", "--policy=filename=a.rego", "--ssh=default=/a,/b", "--ssh=x",
			"--platform=linux/arm64", "--platform=linux/amd64", "--no-cache-filter=run", "--ulimit=nofile=1:2", "--allow=network.host",
			"--resource=cpu-shares=5000000", "--resource=memory=1g", "--network=none", "--shm-size=128m", "--call=build", "--pull=true", "--no-cache=true",
			"--annotation=manifest:a=${b}", "--tag=app:2", "--tag=app:1", `--cache-to=type=local,"dest=cache, 1"`, "--output=type=registry",
			"--target=run", "--file=app/Dockerfile.app", "--", "app",
		},
		"test": {"--file=test/Dockerfile", "--", "https://example.com/a.git#main"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	base, app, test := d.Targets[0], d.Targets[1], d.Targets[2]
	if base.Asked || !app.Asked || !test.Asked {
		t.Error("asked:", base.Asked, app.Asked, test.Asked)
	}
	if app.Linked["base"] != "base" || len(app.Linked) != 1 {
		t.Error(app.Linked)
	}
	if base.Ships() || !app.Ships() || test.Ships() {
		t.Error("ships:", base.Ships(), app.Ships(), test.Ships())
	}
}

func TestShips(t *testing.T) {
	for output, want := range map[string]bool{
		`{"type": "registry"}`: true, `{"type": "image", "push": "true"}`: true, `{"type": "image", "push": "false"}`: false,
		`{"type": "docker"}`: false, `{"type": "docker", "dest": "a.tar"}`: true, `{"type": "oci", "dest": "a.tar"}`: true,
		`{"type": "local", "dest": "out"}`: false, `{"type": "cacheonly"}`: false, `"type=registry"`: true,
	} {
		d, err := Parse([]byte(`{"target": {"default": {"output": [`+output+`]}}}`), "/work", "")
		if err != nil {
			t.Fatal(err)
		}
		if got := d.Targets[0].Ships(); got != want {
			t.Errorf("%s: %v", output, got)
		}
	}
}

func TestInline(t *testing.T) {
	d, err := Parse([]byte(`{"target": {"default": {"context": "/x", "dockerfile-inline": "FROM a\nENV B=$${C}\n"}}}`), "/work", "")
	if err != nil {
		t.Fatal(err)
	}
	got := d.Targets[0]
	if got.Inline == nil || *got.Inline != "FROM a\nENV B=${C}\n" || !slices.Equal(got.Words(), []string{"--file=-", "--", "/x"}) {
		t.Errorf("%v %q", got, got.Words())
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		`{`:                               "unexpected EOF",
		`{"target": {"a": {"novel": 1}}}`: `unknown field "novel"`,
		`{"target": {"a": {"contexts": {"x": "target:b"}}, "b": {"contexts": {"x": "target:a"}}}}`: "built from itself",
		`{"target": {"a": {"contexts": {"x": "target:b"}}}}`:                                       `target "b" is not defined`,
		`{"target": {"a": {"output": [3]}}}`:                                                       "cannot unmarshal",
	} {
		if _, err := Parse([]byte(text), "/work", ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(definition))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse(data, "/work", "")
		if err != nil {
			return
		}
		for _, target := range d.Targets {
			target.Words()
			target.Ships()
		}
	})
}
