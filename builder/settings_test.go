package builder

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
)

func TestResolveHosts(t *testing.T) {
	entries := []string{"a=10.0.0.1", "b=host-gateway", "c=::1"}
	daemon := []gateway.WorkerInfo{{}, {Labels: map[string]string{"org.mobyproject.buildkit.worker.moby.host-gateway-ip": "172.17.0.1"}}}
	got, err := resolveHosts(entries, daemon)
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
	if _, err := resolveHosts(entries, daemon[:1]); !errors.As(err, &gateway) || gateway.Host != "b" {
		t.Errorf("without an address: %v", err)
	}
}
