package publish

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/tartest"
)

// A fakeEngine is an Engine that has images by name or ID, and whose POST /images/load is a handler.
type fakeEngine struct {
	url      string
	images   map[string]string
	oneOnly  bool
	closed   bool
	received int
}

func newEngine(t *testing.T, handler http.HandlerFunc) *fakeEngine {
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	return &fakeEngine{url: srv.URL}
}

func (e *fakeEngine) Name() string { return "fake" }

func (e *fakeEngine) Load(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	e.received++
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+"/images/load", r)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (e *fakeEngine) ID(_ context.Context, name string) (string, error) { return e.images[name], nil }

func (e *fakeEngine) TakesIndex(context.Context) (bool, error) { return !e.oneOnly, nil }

func (e *fakeEngine) Close() error { e.closed = true; return nil }

func TestLoad(t *testing.T) {
	s := testStore(t)
	img := build(t, s, small(t, string(tartest.Noise(2<<20))))
	want := exported(t, s, img, Docker, "app:v1")
	engine := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("the engine got %d bytes, %v", len(got), err)
		}
		io.WriteString(w, `{"status":"Loading layer","progressDetail":{"current":1,"total":2},"id":"x"}`+"\n"+
			`{"stream":"Loaded image: app:v1\n"}`+"\n"+`{"stream":"Loaded image ID: sha256:abc\n"}`)
	})
	got, err := sendImage(t.Context(), s, img.Descriptor, []string{"app:v1"}, engine)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff([]string{"app:v1", "sha256:abc"}, got); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
}

func TestLoadFails(t *testing.T) {
	s := testStore(t)
	img := build(t, s, small(t, string(tartest.Noise(2<<20))))
	refuse := func(body string) *fakeEngine {
		return newEngine(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) })
	}
	tests := []struct {
		name   string
		engine Engine
		want   string
	}{
		{"error in the stream", refuse(`{"stream":"x"}{"errorDetail":{"message":"no space left"},"error":"old field"}`), "no space left"},
		{"old error field", refuse(`{"error":"manifest.json: no such file"}`), "manifest.json: no such file"},
		{"garbage", refuse(`<html>`), "read the answer"},
		{"cut", refuse(`{"stream":"Loaded`), "read the answer: unexpected EOF"},
		{"no engine", &fakeEngine{url: "none:"}, "unsupported protocol scheme"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := sendImage(t.Context(), s, img.Descriptor, nil, tt.engine)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		engine := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
			io.CopyN(io.Discard, r.Body, 1<<20)
			cancel()
			io.Copy(io.Discard, r.Body) // ends with the connection
		})
		if _, err := sendImage(ctx, s, img.Descriptor, nil, engine); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want %v", err, context.Canceled)
		}
	})
	t.Run("no such layer", func(t *testing.T) {
		removeBlob(t, s, img.Manifests[0].Layers[0].Descriptor.Digest)
		engine := newEngine(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
		_, err := sendImage(t.Context(), s, img.Descriptor, nil, engine)
		if err == nil || !strings.Contains(err.Error(), "not found") {
			t.Errorf("error %v, want what the store says", err)
		}
	})
}

func FuzzLoaded(f *testing.F) {
	f.Add([]byte(`{"stream":"Loaded image: a:b\n"}{"status":"x"}`))
	f.Add([]byte(`{"errorDetail":{"message":"x"}}`))
	f.Add([]byte(`{"stream":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		names, err := readLoaded(bytes.NewReader(data))
		if err != nil && names != nil {
			t.Errorf("both names %q and error %v", names, err)
		}
	})
}
