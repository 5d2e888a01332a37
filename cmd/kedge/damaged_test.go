package main

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kedge-build/kedge/internal/testenv"
)

// A blob that a registry sends damaged is asked for again. If it stays damaged, the build fails with a hint; once the
// registry sends it whole, the next build succeeds, although the builder has received it damaged before.
func TestDamagedBlob(t *testing.T) {
	_, shared := testenv.Shared(t)
	registry := testenv.NewRegistry(t)
	image := testenv.Derive(t, testenv.Scratch(t, "amd64"), time.Unix(1e9, 0), map[string]string{"etc/from": registry.Addr})
	registry.Push(t, "base:1", image)
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	var left, sent atomic.Int32 // how often the layer will be damaged, and how often it was asked for
	registry.Fault(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		registry.Handler().ServeHTTP(answer, r)
		body := answer.Body.Bytes()
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, digest.String()) {
			if sent.Add(1); left.Add(-1) >= 0 {
				body[len(body)/2] ^= 1
			}
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(body)
	})
	build := []string{"build", "--builder", shared.Addr, write(t, map[string]string{"Dockerfile": "FROM --platform=linux/amd64 " + registry.Addr + "/base:1\nCOPY Dockerfile /\n"})}

	left.Store(1 << 20)
	_, errs := runKedge(t, nil, exitFailed, build...)
	if !strings.Contains(errs, "hint: the registry sent other bytes than "+digest.String()) {
		t.Errorf("always damaged: %s", errs)
	}
	if n := sent.Load(); n < 2 {
		t.Errorf("the registry was asked %d times", n)
	}
	left.Store(1)
	out, _ := runKedge(t, nil, exitOK, build...)
	if left.Load() >= 0 {
		t.Error("the damaged answer was not sent")
	}
	if again, _ := runKedge(t, nil, exitOK, build...); digestOf(t, again) != digestOf(t, out) {
		t.Errorf("the next build: %s, not %s", again, out)
	}
}
