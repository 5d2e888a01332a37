package parity

import (
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// example returns an outcome. All its results are equal.
func example(side string) *outcome {
	return &outcome{
		side: side, hidden: []string{"/" + side, "of-" + side},
		stdout: []byte("/" + side + " of-" + side + "\n"),
		files:  map[string]entry{"out/f": {kind: "file", mode: 0o644, hash: "1"}},
		images: map[string]*image{"out.tar linux/amd64": {
			digest: "sha256:1",
			config: &v1.ConfigFile{
				History: []v1.History{{CreatedBy: "RUN echo of-" + side}},
				Config: v1.Config{
					Env: []string{"A=1"}, Cmd: []string{"sh"}, Entrypoint: []string{"e"}, User: "1", WorkingDir: "/w",
					Labels: map[string]string{"a": "b"}, ExposedPorts: map[string]struct{}{"80/tcp": {}},
					Volumes: map[string]struct{}{"/v": {}}, Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "true"}},
					StopSignal: "SIGINT", Shell: []string{"sh"}, OnBuild: []string{"RUN true"},
				},
			},
			tree: map[string]entry{
				"f": {kind: "file", mode: 0o644, uid: 1, gid: 2, hash: "1"}, "l": {kind: "link", link: "f"},
			},
		}},
		names:    map[string][]string{"out.tar": {"app:v1"}},
		metadata: map[string]string{"image.name": `"app:v1"`},
	}
}

// A fault in one of two equal outcomes is found under its own name, and nothing else is.
func TestFaults(t *testing.T) {
	if found := differences(Case{}, example(theirs), example(ours)); len(found) > 0 {
		t.Fatalf("equal outcomes differ: %q", found)
	}
	const key = "out.tar linux/amd64"
	config := func(edit func(*v1.Config)) func(o *outcome) {
		return func(o *outcome) { edit(&o.images[key].config.Config) }
	}
	file := func(name string, edit func(*entry)) func(o *outcome) {
		return func(o *outcome) {
			e := o.images[key].tree[name]
			edit(&e)
			o.images[key].tree[name] = e
		}
	}
	for want, plant := range map[string]func(o *outcome){
		"exit":                func(o *outcome) { o.code = 1 },
		"stdout":              func(o *outcome) { o.stdout = append(o.stdout, "more"...) },
		"left out/f content":  func(o *outcome) { o.files["out/f"] = entry{kind: "file", mode: 0o644, hash: "2"} },
		"left":                func(o *outcome) { o.files["Dockerfile.lock"] = entry{kind: "file"} },
		"names":               func(o *outcome) { o.names["out.tar"] = nil },
		"metadata image.name": func(o *outcome) { o.metadata["image.name"] = `"app"` },
		"metadata new":        func(o *outcome) { o.metadata["new"] = "a list" },
		"images":              func(o *outcome) { delete(o.images, key) },
		"digest":              func(o *outcome) { o.images[key].digest = "sha256:2" },
		"attestations":        func(o *outcome) { o.images[key].attestations = []string{"provenance/v1"} },
		"annotations":         func(o *outcome) { o.images[key].annotations = map[string]string{"a": "b"} },
		"history":             func(o *outcome) { o.images[key].config.History = nil },
		"author":              func(o *outcome) { o.images[key].config.Author = "somebody" },
		"created":             func(o *outcome) { o.images[key].config.Created.Time = created },
		"times":               file("f", func(e *entry) { e.modified = created }),
		"config Env":          config(func(c *v1.Config) { c.Env = []string{"A=2"} }),
		"config Cmd":          config(func(c *v1.Config) { c.Cmd = nil }),
		"config Entrypoint":   config(func(c *v1.Config) { c.Entrypoint = nil }),
		"config User":         config(func(c *v1.Config) { c.User = "root" }),
		"config WorkingDir":   config(func(c *v1.Config) { c.WorkingDir = "/" }),
		"config Labels a":     config(func(c *v1.Config) { c.Labels = map[string]string{"a": "c"} }),
		"config Labels b":     config(func(c *v1.Config) { c.Labels = map[string]string{"a": "b", "b": ""} }),
		"config ExposedPorts": config(func(c *v1.Config) { c.ExposedPorts = nil }),
		"config Volumes":      config(func(c *v1.Config) { c.Volumes = nil }),
		"config Healthcheck":  config(func(c *v1.Config) { c.Healthcheck = nil }),
		"config StopSignal":   config(func(c *v1.Config) { c.StopSignal = "" }),
		"config Shell":        config(func(c *v1.Config) { c.Shell = nil }),
		"config OnBuild":      config(func(c *v1.Config) { c.OnBuild = nil }),
		"tree /f mode":        file("f", func(e *entry) { e.mode = 0o600 }),
		"tree /f owner":       file("f", func(e *entry) { e.gid = 0 }),
		"tree /f content":     file("f", func(e *entry) { e.hash = "2" }),
		"tree /f xattrs":      file("f", func(e *entry) { e.xattrs = "a=b" }),
		"tree /f kind":        file("f", func(e *entry) { e.kind = "pipe" }),
		"tree /l target":      file("l", func(e *entry) { e.link = "g" }),
		"tree":                func(o *outcome) { delete(o.images[key].tree, "l") },
	} {
		o := example(ours)
		plant(o)
		var aspects []string
		for _, line := range differences(Case{}, example(theirs), o) {
			aspect, _, _ := strings.Cut(line, ": ")
			aspects = append(aspects, aspect)
		}
		aspects = slices.DeleteFunc(aspects, func(s string) bool { return s == "times" && (want == "tree") })
		if !slices.Equal(aspects, []string{want}) {
			t.Errorf("planted %q, found %q", want, aspects)
		}
	}
}

// A difference that resembles an intended one is not taken for it, nor is one that the case does not name.
func TestMeant(t *testing.T) {
	for found, want := range map[string][]string{
		`digest: sha256:1, kedge sha256:2`:                                  {"digest"},
		`config Labels dev.kedge.args: none, kedge "0123456789ab"`:          {"args label"},
		`config Labels dev.kedge.args: "a", kedge "0123456789ab"`:           nil,
		`config Labels dev.kedge.other: none, kedge "0123456789ab"`:         nil,
		`config Env: ["A=1"], kedge ["A=2"]`:                                nil,
		`left: no a/Dockerfile.lock, kedge a/Dockerfile.lock`:               {"lockfile"},
		`left: no out.tar, kedge out.tar`:                                   nil,
		`left: Dockerfile.lock, kedge no Dockerfile.lock`:                   nil,
		`stdout: "", kedge "digest  DIGEST"`:                                {"answer"},
		`stdout: "DIGEST", kedge "digest  DIGEST"`:                          nil,
		`metadata kedge.args: none, kedge "0123456789ab"`:                   {"metadata"},
		`metadata image.name: "a", kedge none`:                              nil,
		`attestations: [provenance/v1], kedge []`:                           {"provenance"},
		`attestations: [], kedge [provenance/v1]`:                           nil,
		`exit: 1, kedge 2`:                                                  {"usage"},
		`exit: 1, kedge 3`:                                                  nil,
		`exit: 0, kedge 4`:                                                  nil, // no case lists it
		`tree: /var/log/apt/history.log, kedge no /var/log/apt/history.log`: nil,
	} {
		if got := meant(Case{}, found); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", found, got, want)
		}
	}
	if got := meant(Case{Differs: []string{"ci"}}, `exit: 0, kedge 4`); !slices.Equal(got, []string{"ci"}) {
		t.Errorf("named by the case: %q", got)
	}
}
