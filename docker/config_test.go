package docker

import (
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clidocker "github.com/docker/cli/cli/context/docker"
	"github.com/docker/cli/cli/context/store"
)

// home writes the files of a docker configuration, and returns an environment that has it.
func home(t *testing.T, files map[string]string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, ".docker", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return map[string]string{"HOME": dir}
}

// addContext creates a context as docker context create does.
func addContext(t *testing.T, c *Config, name, host string) {
	t.Helper()
	if err := c.contexts().CreateOrUpdate(store.Metadata{
		Name: name, Endpoints: map[string]any{clidocker.DockerEndpoint: clidocker.EndpointMeta{Host: host}},
	}); err != nil {
		t.Fatal(err)
	}
}

func TestEndpoint(t *testing.T) {
	const current = `{"currentContext": "lab"}`
	for name, test := range map[string]struct {
		env           map[string]string
		config        string
		context, host string
		err           string
	}{
		"nothing":         {context: "default", host: "unix:///var/run/docker.sock"},
		"config.json":     {config: current, context: "lab", host: "tcp://lab:2375"},
		"DOCKER_CONTEXT":  {env: map[string]string{"DOCKER_CONTEXT": "far"}, config: current, context: "far", host: "ssh://ada@far"},
		"default by name": {env: map[string]string{"DOCKER_CONTEXT": "default"}, config: current, context: "default", host: "unix:///var/run/docker.sock"},
		"DOCKER_HOST":     {env: map[string]string{"DOCKER_HOST": "unix:///d.sock", "DOCKER_CONTEXT": "far"}, config: current, context: "default", host: "unix:///d.sock"},
		"no port":         {env: map[string]string{"DOCKER_HOST": "tcp://host"}, context: "default", host: "tcp://host:2375"},
		"no port, TLS":    {env: map[string]string{"DOCKER_HOST": "tcp://host", "DOCKER_TLS": "1"}, context: "default", host: "tcp://host:2376"},
		"no scheme":       {env: map[string]string{"DOCKER_HOST": "host:4"}, context: "default", host: "tcp://host:4"},
		"IPv6":            {env: map[string]string{"DOCKER_HOST": "tcp://[::1]"}, context: "default", host: "tcp://[::1]:2375"},

		"another scheme":   {env: map[string]string{"DOCKER_HOST": "gopher://host"}, err: `docker context "default": its host "gopher://host" is not`},
		"no context":       {env: map[string]string{"DOCKER_CONTEXT": "moon"}, err: `docker context "moon": `},
		"a path":           {env: map[string]string{"DOCKER_CONTEXT": "../../x"}, err: `docker context "../../x": `},
		"no CA":            {env: map[string]string{"DOCKER_HOST": "tcp://host", "DOCKER_TLS_VERIFY": "1"}, err: "ca.pem"},
		"a damaged config": {config: `{"currentContext": `, err: "config.json"},
		"a config of kind": {config: `{"currentContext": 3}`, err: "config.json"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			if test.config != "" {
				files["config.json"] = test.config
			}
			env := home(t, files)
			maps.Copy(env, test.env)
			c := New(env)
			addContext(t, c, "lab", "tcp://lab:2375")
			addContext(t, c, "far", "ssh://ada@far")
			ep, err := c.Endpoint("")
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("error %v, not one line with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if ep.Context != test.context || ep.Host != test.host {
				t.Errorf("context %q at %q, not %q at %q", ep.Context, ep.Host, test.context, test.host)
			}
		})
	}
}

// Another program damaged the context's file.
func TestDamagedContext(t *testing.T) {
	c := New(home(t, nil))
	addContext(t, c, "lab", "tcp://lab:2375")
	metas, err := filepath.Glob(filepath.Join(c.dir, "contexts", "meta", "*", "meta.json"))
	if err != nil || len(metas) != 1 {
		t.Fatal(metas, err)
	}
	for _, content := range []string{``, `{`, `[]`, `{"Name":"lab"}`, `{"Name":"lab","Endpoints":{"docker":{"Host":7}}}`, `{"Name":"lab","Endpoints":{"docker":{}}}`} {
		if err := os.WriteFile(metas[0], []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := c.Endpoint("lab")
		if wrong := (*ContextError)(nil); !errors.As(err, &wrong) || wrong.Context != "lab" {
			t.Errorf("%s: %v", content, err)
		}
	}
}

// Open gives up on an Engine that accepts a connection and never answers.
func TestHangingEngine(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ep, err := New(map[string]string{"HOME": t.TempDir(), "DOCKER_HOST": "unix://" + l.Addr().String()}).Endpoint("")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = ep.Open(t.Context())
	if silent := (*EngineError)(nil); !errors.As(err, &silent) || !strings.HasSuffix(err.Error(), ": nothing for 3s") {
		t.Error(err)
	}
	if took := time.Since(began); took > 10*patience {
		t.Errorf("after %v", took)
	}
}
