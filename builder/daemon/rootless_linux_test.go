package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestFreeIDs(t *testing.T) {
	for lines, want := range map[string]int{
		"":                                   100000,
		"ada:100000:65536\n":                 165536,
		"ada:165536:65536\n":                 100000,
		"ada:165535:65536\n":                 231071,
		"bob:165536:65536\nada:100000:65536": 231072,
		"ada:500:99500\nbob:231072:65536\nbob:300000:1":      100000,
		"# a comment\nada:100000\nada:-1:5\nada:x:1\n\n\r\n": 100000,
		"ada:4294967295:4294967295\nada:1:99999999999":       100000,
	} {
		if got := freeIDs(idRanges(lines)); got != want {
			t.Errorf("%q: %d, not %d", lines, got, want)
		}
	}
}

func TestListedIDs(t *testing.T) {
	for out, want := range map[string]int{
		"": 0,
		"0: ada 100000 65536\n1: ada 300000 1000\n":    66536,
		"Error fetching ranges\n":                      0,
		"0: ada 100000 -5\n1: ada 1 x\n2: ada 1 2 3\n": 0,
	} {
		if got := listedIDs(out); got != want {
			t.Errorf("%q: %d, not %d", out, got, want)
		}
	}
}

// A getsubids that hangs, with a child that keeps its output open, times out.
func TestAskIDs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "getsubids")
	writeFile(t, path, "#!/bin/sh\necho 0: ada 100000 65536\n[ $1 = ada ] || sleep 60\n")
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := listedIDs(askIDs(path, "ada")); got != 65536 {
		t.Errorf("%d ids", got)
	}
	began := time.Now()
	askIDs(path, "-g", "ada")
	if took := time.Since(began); took > idsTime+30*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestForbidden(t *testing.T) {
	for value, want := range map[string]string{"0\n": "user.max_user_namespaces", "1\n": "", "": ""} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "user"), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, "user/max_user_namespaces"), value)
		err := forbidden(dir)
		var setup *SetupError
		if (err != nil) != (want != "") || err != nil && (!errors.As(err, &setup) || setup.Lacks != UserNamespaces || setup.Setting != want) {
			t.Errorf("%q: %v", value, err)
		}
	}
}

// If the configuration names a registry on this machine, the daemon needs this machine's network.
func TestLoopback(t *testing.T) {
	for registry, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "LOCALHOST/proxy": true, "127.0.0.1:5000/docker": true, "http://[::1]:5000": true, "r.localhost:1": true,
		"docker.io": false, "localhost.example.com": false, "10.0.0.1:5000": false, "[::2]": false, "%": false, "": false,
	} {
		for _, config := range []string{"[registry.%q]\nhttp = true\n", "[registry.\"docker.io\"]\nmirrors = [\"mirror.gcr.io\", %q]\n"} {
			c, err := parseSettings(fmt.Appendf(nil, config, registry))
			if err != nil {
				t.Fatal(err)
			}
			if got := c.loopback(); got != want {
				t.Errorf("%q in %q: %v", registry, config, got)
			}
		}
	}
}

func TestNetwork(t *testing.T) {
	empty := t.TempDir()
	o := Options{Env: []string{"PATH=" + empty}}
	if got, err := o.network(settings{}); err != nil || got != "host" {
		t.Errorf("without slirp4netns: %q, %v", got, err)
	}
	o.Network = slirp
	var missing *MissingError
	if _, err := o.network(settings{}); !errors.As(err, &missing) || missing.What != slirp {
		t.Errorf("requested and missing: %v", err)
	}
	if err := os.WriteFile(filepath.Join(empty, slirp), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if tunnel() == nil {
		o.Network = ""
		if got, err := o.network(settings{}); err != nil || got != slirp {
			t.Errorf("with slirp4netns: %q, %v", got, err)
		}
		c, err := parseSettings([]byte("[registry.\"localhost:5000\"]\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := o.network(c); err != nil || got != "host" {
			t.Errorf("with a registry on this machine: %q, %v", got, err)
		}
	}
}
