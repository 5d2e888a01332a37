package builder_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/network"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// TestBase: the builder sends a base image as its registry has it, layer for layer. From then on a builder that has
// nothing builds on it, and its registry is asked for nothing. What is not there is named, all of it.
func TestBase(t *testing.T) {
	registry := testenv.NewRegistry(t)
	testenv.Tiny(t, registry)
	src := lock.Source{Kind: lock.Image, Ref: "docker.io/library/tiny:latest"}
	index := registry.Get(t, "library/tiny")
	image, err := index.Image() // for linux/amd64
	if err != nil {
		t.Fatal(err)
	}
	pinned := &lock.File{}
	for ref, pin := range map[string]string{src.Ref: index.Digest.String(), "docker.io/library/other:1": digest.FromString("x").String()} {
		if err := pinned.Add(lock.Source{Kind: lock.Image, Ref: ref}, pin); err != nil {
			t.Fatal(err)
		}
	}
	open := func() *builder.Builder {
		t.Helper()
		b, err := builder.Open(t.Context(), builder.Options{Address: testenv.StartBuildkitd(t, testenv.BuildkitdOptions{Registry: registry}).Addr})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	sent, err := local.NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	base, err := open().Base(t.Context(), &builder.Request{Lock: pinned}, src, "linux/amd64", sent)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if string(base.Config) != string(config) || len(base.Layers) != len(layers) {
		t.Errorf("got config %s and %d layers, want %s and %d", base.Config, len(base.Layers), config, len(layers))
	}
	for i, l := range layers {
		if hash, err := l.Digest(); err != nil || base.Layers[i].Digest.String() != hash.String() {
			t.Errorf("layer %d is %s, want %s, %v", i, base.Layers[i].Digest, hash, err)
		}
	}

	cache, err := network.OpenCache(t.Context(), filepath.Join(t.TempDir(), "downloads"))
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	name := network.Base{Ref: src.Ref, Pin: digest.Digest(index.Digest.String())}
	if err := cache.KeepBase(t.Context(), "Dockerfile.lock", name, []network.BaseImage{network.BaseImage(base)}, sent); err != nil {
		t.Fatal(err)
	}
	offline := func(ctx context.Context, s lock.Source, pin string) (*builder.Layout, error) {
		dgst, ok := cache.Base(ctx, network.Base{Ref: s.Ref, Pin: digest.Digest(pin)}, []ocispec.Platform{base.Platform})
		if !ok {
			return nil, nil
		}
		return &builder.Layout{Dir: cache.Dir(), Digest: dgst}, nil
	}
	registry.Forget()
	b := open()
	resolve := func(text string) (*builder.Resolution, error) {
		parsed, err := frontend.Parse("Dockerfile", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return b.Resolve(t.Context(), &builder.Request{
			Dockerfile: builder.Dockerfile{Data: []byte(text)}, Parsed: parsed, Platforms: []string{"linux/amd64"},
			Lock: pinned, Locked: true, Offline: offline, NewEpoch: func(newest time.Time) time.Time { return newest.Add(time.Second) },
		})
	}
	res, err := resolve("FROM tiny\nCOPY --from=tiny / /copy\n")
	if err != nil {
		t.Fatal(err)
	}
	if pin, _ := res.Lock.Pin(src); !res.Used[src] || pin != index.Digest.String() || len(res.Lock.Sources()) != 2 {
		t.Errorf("%+v", res)
	}
	_, err = resolve("FROM tiny\nCOPY --from=other:1 / /\nADD https://files.example/f /\n")
	var missing *builder.OfflineError
	if !errors.As(err, &missing) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{`:2: image "docker.io/library/other:1" is not on this machine`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if asked := registry.Requests(); len(asked) > 0 {
		t.Errorf("the registry was asked: %v", asked)
	}
}
