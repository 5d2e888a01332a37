package builder

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/worker/label"
)

func TestResolveHosts(t *testing.T) {
	entries := []string{"a=10.0.0.1", "b=host-gateway", "c=::1"}
	daemon := []gateway.WorkerInfo{{}, {Labels: map[string]string{"org.mobyproject.buildkit.worker.moby.host-gateway-ip": "172.17.0.1"}}}
	got, err := resolveHosts(entries, daemon, false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a=10.0.0.1", "b=172.17.0.1", "c=::1"}, got); diff != "" {
		t.Error(diff)
	}
	if entries[1] != "b=host-gateway" {
		t.Errorf("the request was changed: %q", entries)
	}
	var gateway *GatewayError
	if _, err := resolveHosts(entries, daemon[:1], false); !errors.As(err, &gateway) || gateway.Host != "b" {
		t.Errorf("without an address: %v", err)
	}
}

func TestHostGateway(t *testing.T) {
	const engine = "org.mobyproject.buildkit.worker.moby.host-gateway-ip"
	worker := func(labels map[string]string) []gateway.WorkerInfo { return []gateway.WorkerInfo{{Labels: labels}} }
	for _, test := range []struct {
		name    string
		workers []gateway.WorkerInfo
		local   bool
		want    string
	}{
		{"an Engine's label", worker(map[string]string{engine: "172.17.0.1"}), false, "172.17.0.1"},
		{"a label of kedge's own", worker(map[string]string{engine: "10.9.8.7", label.Network: "host"}), true, "10.9.8.7"},
		{"this machine's network", worker(map[string]string{label.Network: "host"}), true, "127.0.0.1"},
		{"a network of its own", worker(map[string]string{label.Network: "host"}), false, ""},
		{"a bridge", worker(map[string]string{label.Network: "cni"}), true, ""},
		{"no worker", nil, true, ""},
	} {
		if got := hostGateway(test.workers, test.local); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
