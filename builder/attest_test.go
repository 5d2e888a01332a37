package builder

import (
	"errors"
	"testing"

	"github.com/kedge-build/kedge/lock"
)

func TestPublishable(t *testing.T) {
	const secret = "http://user:pa55word@proxy.test:1"
	for _, test := range []struct {
		name, proxy string
		types, args map[string]string
		pass        Pass
		bad         bool
	}{
		{name: "max", proxy: secret, types: map[string]string{"provenance": "mode=max"}, bad: true},
		{name: "the default mode is max", proxy: secret, types: map[string]string{"provenance": ""}, bad: true},
		{name: "min", proxy: secret, types: map[string]string{"provenance": "version=v1,mode=min"}},
		{name: "no credentials", proxy: "http://proxy.test:1", types: map[string]string{"provenance": "mode=max"}},
		{name: "sbom", proxy: secret, types: map[string]string{"sbom": "mode=max"}},
		{name: "none", proxy: secret},
		{name: "the second build", proxy: secret, types: map[string]string{"provenance": "mode=max"}, pass: Pass{salt: 1 << 10}},
		{name: "overridden", proxy: secret, types: map[string]string{"provenance": "mode=max"}, args: map[string]string{"http_proxy": "x"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := newJob(nil, &Request{
				Lock: &lock.File{}, Args: test.args, Attest: Attest{Types: test.types}, Settings: Settings{Proxies: map[string]string{"HTTP_PROXY": test.proxy}},
			}, test.pass)
			var found *ProxyError
			if err := j.publishable(); errors.As(err, &found) != test.bad {
				t.Error(err)
			}
		})
	}
}
