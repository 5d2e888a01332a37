package docker

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// Files that docker buildx create wrote.
	remoteInstance = `{"Name":"far","Driver":"remote","Nodes":[{"Name":"far0","Endpoint":"tcp://far:1234","Platforms":null,` +
		`"DriverOpts":{"cacert":"/tls/ca.pem","cert":"/tls/cert.pem","key":"/tls/key.pem","servername":"buildkit","default-load":"true"},"Flags":null,"Files":null}],"Dynamic":false}`
	twoNodes = `{"Name":"two","Driver":"docker-container","Nodes":[` +
		`{"Name":"two0","Endpoint":"default","Platforms":[{"architecture":"amd64","os":"linux"}],"Flags":["--debug"],"Files":{"buildkitd.toml":"W10="}},` +
		`{"Name":"two1","Endpoint":"arm","Platforms":[{"architecture":"arm64","os":"linux"},{"architecture":"arm","os":"linux","variant":"v7"}]}]}`
)

func TestBuilder(t *testing.T) {
	env := home(t, map[string]string{"buildx/instances/far": remoteInstance, "buildx/instances/two": twoNodes, "buildx/instances/lab": remoteInstance})
	c := New(env)
	addContext(t, c, "lab", "tcp://lab:2375")
	addContext(t, c, "near", "tcp://near:2375")
	for name, want := range map[string]*Builder{
		"far": {Name: "far", Driver: "remote", Nodes: []Node{{Name: "far0", Endpoint: "tcp://far:1234", DriverOpts: map[string]string{
			"cacert": "/tls/ca.pem", "cert": "/tls/cert.pem", "key": "/tls/key.pem", "servername": "buildkit", "default-load": "true",
		}}}},
		"TWO": {Name: "two", Driver: "docker-container", Nodes: []Node{
			{Name: "two0", Endpoint: "default", Platforms: []ocispec.Platform{{Architecture: "amd64", OS: "linux"}}},
			{Name: "two1", Endpoint: "arm", Platforms: []ocispec.Platform{{Architecture: "arm64", OS: "linux"}, {Architecture: "arm", OS: "linux", Variant: "v7"}}},
		}},
		"near":    {Name: "near", Driver: "docker", Nodes: []Node{{Name: "near", Endpoint: "near"}}},
		"default": {Name: "default", Driver: "docker", Nodes: []Node{{Name: "default", Endpoint: "default"}}},
	} {
		got, err := c.Builder(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if b, err := c.Builder("lab"); err != nil || b.Driver != "remote" {
		t.Errorf("an instance goes before a context of its name: %v %v", b, err)
	}
	for _, name := range []string{"moon", "", "../instances/far", "-o", "far/", "a\x00b"} {
		_, err := c.Builder(name)
		want := &NotFoundError{Name: name, Known: []string{"default", "far", "lab", "near", "two"}}
		if d := cmp.Diff(error(want), err, cmp.Comparer(func(a, b error) bool { return a.Error() == b.Error() })); d != "" {
			t.Error(d)
		}
	}
	env["BUILDX_CONFIG"] = t.TempDir()
	if _, err := New(env).Builder("far"); err == nil {
		t.Error("$BUILDX_CONFIG does not count")
	}
}

// Each platform goes to the node that was created with it, or to the one whose daemon has it, or to the first.
func TestShares(t *testing.T) {
	b, err := parseInstance([]byte(twoNodes))
	if err != nil {
		t.Fatal(err)
	}
	for want, asked := range map[string][]string{
		"two0:":                                         nil,
		"two0:linux/amd64":                              {"linux/amd64"},
		"two1:linux/arm64":                              {"linux/arm64"},
		"two1:linux/arm64/v8":                           {"linux/arm64/v8"},
		"two1:linux/arm64,linux/arm/v7":                 {"linux/arm64", "linux/arm/v7"},
		"two0:linux/amd64 two1:linux/arm64":             {"linux/arm64", "linux/amd64"},
		"two0:linux/amd64 two1:linux/riscv64":           {"linux/amd64", "linux/riscv64"}, // two1's daemon emulates it
		"two0:linux/s390x":                              {"linux/s390x"},                  // which none has
		"two1:linux/arm/v6":                             {"linux/arm/v6"},                 // a v7 runs it
		"two0:linux/386":                                {"linux/386"},                    // an amd64 runs it
		"two0:bogus/x/y/z":                              {"bogus/x/y/z"},
		"two0:linux/amd64,linux/s390x two1:linux/arm64": {"linux/amd64", "linux/s390x", "linux/arm64"},
	} {
		shares, err := b.Shares(asked, func(n Node) ([]ocispec.Platform, error) {
			if n.Name == "two1" {
				return []ocispec.Platform{{OS: "linux", Architecture: "riscv64"}}, nil
			}
			return nil, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range shares {
			got = append(got, s.Node.Name+":"+strings.Join(s.Platforms, ","))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%v: %v, want %s", asked, got, want)
		}
	}
	down := errors.New("down")
	if _, err := b.Shares([]string{"linux/s390x"}, func(Node) ([]ocispec.Platform, error) { return nil, down }); !errors.Is(err, down) {
		t.Errorf("a node that does not answer: %v", err)
	}
	// What does not matter is not asked for.
	for _, asked := range [][]string{nil, {"linux/amd64"}} {
		if _, err := b.Shares(asked, func(Node) ([]ocispec.Platform, error) { return nil, down }); err != nil {
			t.Error(err)
		}
	}
	b.Nodes = b.Nodes[:1]
	if shares, err := b.Shares([]string{"linux/riscv64"}, nil); err != nil || len(shares) != 1 || shares[0].Node.Name != "two0" {
		t.Errorf("the only node: %v, %v", shares, err)
	}
}

func TestRemote(t *testing.T) {
	b, err := parseInstance([]byte(remoteInstance))
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Nodes[0].remote()
	want := &Connection{Address: "tcp://far:1234", CACert: "/tls/ca.pem", Cert: "/tls/cert.pem", Key: "/tls/key.pem", ServerName: "buildkit"}
	if err != nil || got.Address != want.Address || got.CACert != want.CACert || got.Cert != want.Cert || got.Key != want.Key || got.ServerName != want.ServerName {
		t.Errorf("%+v, %v", got, err)
	}
	for _, opts := range []map[string]string{
		{"cacert": "ca.pem"},
		{"cert": "/cert.pem", "key": "/key.pem"},
		{"cacert": "/ca.pem", "cert": "/cert.pem"},
		{"cacert": "/ca.pem", "key": "/key.pem"},
		{"servername": "far"},
		{"bogus": "x"},
	} {
		if _, err := (Node{Name: "n", Endpoint: "tcp://far:1234", DriverOpts: opts}).remote(); err == nil {
			t.Errorf("%v is taken", opts)
		}
	}
}

func TestDamagedInstance(t *testing.T) {
	env := home(t, map[string]string{"buildx/instances/.keep": ""})
	path := filepath.Join(env["HOME"], ".docker", "buildx", "instances", "bad")
	for content, want := range map[string]string{
		"":                            "unexpected end",
		`{"Name":"bad","Nodes":[{"N`:  "unexpected end",
		`[]`:                          "cannot unmarshal",
		`null`:                        "no name",
		`{"Driver":"remote"}`:         "no name",
		`{"Name":"bad","Nodes":null}`: "no node",
		`{"Name":"-o","Nodes":[{}]}`:  "no name for a builder",
		`{"Name":"bad","Driver":"remote","Nodes":[{}]}`:                             "no name for a node",
		`{"Name":"bad","Driver":"docker-container","Nodes":[{"Name":"a/../b"}]}`:    "no name for a node",
		`{"Name":"bad","Driver":"remote","Nodes":[{"Name":"bad0","Endpoint":""}]}`:  "no endpoint",
		`{"Name":"bad","Driver":"remote","Nodes":[{"Name":"bad0","Endpoint":[1]}]}`: "cannot unmarshal",
		strings.Repeat(" ", maxInstance+1):                                          "larger than",
	} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := New(env).Builder("bad")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60s: %v, not one line with %q", content, err, want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := New(env).Builder("bad"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a folder: %v", err)
	}
}

func FuzzInstance(f *testing.F) {
	f.Add([]byte(remoteInstance), "linux/amd64")
	f.Add([]byte(twoNodes), "linux/arm/v7")
	f.Fuzz(func(t *testing.T, data []byte, platform string) {
		b, err := parseInstance(data)
		if err != nil {
			return
		}
		shares, err := b.Shares([]string{platform}, func(Node) ([]ocispec.Platform, error) { return nil, nil })
		if err != nil || len(shares) != 1 || shares[0].Node.Name == "" {
			t.Errorf("%v, %v", shares, err)
		}
		_, _ = shares[0].Node.remote()
	})
}

// What docker buildx use wrote counts for its context, or for all with --global.
func TestUsed(t *testing.T) {
	for _, c := range []struct {
		name, current, host, want string
	}{
		{"none", "", "", ""},
		{"for the context", `{"Key":"unix:///a.sock","Name":"far","Global":false}`, "unix:///a.sock", "far"},
		{"for another context", `{"Key":"unix:///b.sock","Name":"far","Global":false}`, "unix:///a.sock", ""},
		{"for all", `{"Key":"unix:///b.sock","Name":"far","Global":true}`, "unix:///a.sock", "far"},
		{"one that is gone", `{"Key":"unix:///a.sock","Name":"gone","Global":false}`, "unix:///a.sock", ""},
		{"a context", `{"Key":"unix:///a.sock","Name":"","Global":false}`, "unix:///a.sock", ""},
		{"no name", `{"Key":"unix:///a.sock","Name":"../far","Global":true}`, "unix:///a.sock", ""},
		{"damaged", `{`, "unix:///a.sock", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{"instances/far": `{"Name":"far"}`, "current": c.current} {
				path := filepath.Join(dir, "buildx", name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got := New(map[string]string{"DOCKER_CONFIG": dir, "DOCKER_HOST": c.host}).Used(); got != c.want {
				t.Errorf("%q, not %q", got, c.want)
			}
		})
	}
}
