package main

import (
	"strings"
	"testing"

	"github.com/kedge-build/kedge/internal/testenv"
)

// BuildKit's proxy leaves nothing in the image, although it writes a bundle of certificates twice, to add and to remove
// its own, and sets variables of the step.
func TestProxyNetwork(t *testing.T) {
	registry, direct := testenv.Shared(t)
	proxied := testenv.StartBuildkitd(t, testenv.BuildkitdOptions{Registry: registry, Args: []string{"--proxy-network"}})
	dir := write(t, map[string]string{
		"Dockerfile": "FROM debian:bookworm-slim\n" +
			"RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -r /var/lib/apt/lists/*\n" +
			"RUN echo one > /one\n" +
			"RUN rm /etc/ssl/certs/ACCVRAIZ1.pem && update-ca-certificates\n" +
			"RUN chmod 600 /etc/ssl/certs/ca-certificates.crt\n",
	})
	for _, c := range []struct {
		rules string
		same  bool
	}{{"all", true}, {"-repeats", false}} { // the second build has its steps from the cache
		out, errs := runKedge(t, nil, exitOK, "build", "--builder", direct.Addr, "--normalize", c.rules, dir)
		if strings.Contains(errs, "proxy network requests:") {
			t.Fatal("the shared builder has a proxy")
		}
		out2, errs := runKedge(t, nil, exitOK, "build", "--builder", proxied.Addr, "--normalize", c.rules, dir)
		if c.rules == "all" && !strings.Contains(errs, "proxy network requests:") {
			t.Errorf("nothing was asked through the proxy:\n%s", errs)
		}
		if got, want := digestOf(t, out2), digestOf(t, out); (got == want) != c.same {
			t.Errorf("with --normalize=%s: directly %s, and through the proxy %s", c.rules, want, got)
		}
	}
}
