package kedge_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/store"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func writeDockerfile(t *testing.T, text string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "Dockerfile"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return folder
}

// TestExample runs the program of the package's Example, on a folder that is reproducible and on one that
// is not.
func TestExample(t *testing.T) {
	_, buildkitd := testenv.Shared(t)
	for name, test := range map[string]struct{ dockerfile, want string }{
		"same":  {"FROM debian:bookworm-slim\nRUN echo one > /file\n", `^reproducible: sha256:[0-9a-f]{64}\n$`},
		"other": {"FROM debian:bookworm-slim\nRUN date +%N > /file\n", `^\S*/Dockerfile:2: RUN date \+%N > /file differs\n$`},
	} {
		t.Run(name, func(t *testing.T) {
			folder := writeDockerfile(t, test.dockerfile)
			var out strings.Builder
			if err := verifyFolder(t.Context(), &out, buildkitd.Addr, filepath.Join(t.TempDir(), "images"), folder); err != nil {
				t.Fatal(err)
			}
			if !regexp.MustCompile(test.want).MatchString(out.String()) {
				t.Errorf("printed %q, want a match of %s", out.String(), test.want)
			}
			f, exists, err := lock.Read(filepath.Join(folder, "Dockerfile.lock"))
			if err != nil || !exists || len(f.Sources()) != 1 {
				t.Errorf("lockfile: %+v, %v, %v", f, exists, err)
			}
		})
	}
}

// TestPullFails has the registry refuse the look-up of newer images that Options.Pull asks for: the image is
// built, and the result says what is not known.
func TestPullFails(t *testing.T) {
	registry := testenv.NewRegistry(t)
	testenv.Tiny(t, registry)
	buildkitd := testenv.StartBuildkitd(t, testenv.BuildkitdOptions{Registry: registry})
	b, err := builder.Open(t.Context(), builder.Options{Address: buildkitd.Addr})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	images, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	defer images.Close()
	env := kedge.Env{Builder: b, Store: images, Environ: os.Environ()}
	o := kedge.Options{Context: writeDockerfile(t, "FROM tiny\nLABEL a=b\n"), Pull: true}
	first, err := kedge.Build(t.Context(), env, o)
	if err != nil || first.NotLookedUp != nil {
		t.Fatalf("%v, %v", first, err)
	}
	if err := first.WriteLock(t.Context()); err != nil {
		t.Fatal(err)
	}
	registry.Fault(testenv.Status(403))
	second, err := kedge.Build(t.Context(), env, o)
	if err != nil {
		t.Fatal(err)
	}
	if second.NotLookedUp == nil || second.Moved != nil {
		t.Errorf("moved %v, %v", second.Moved, second.NotLookedUp)
	}
	if second.Image.Descriptor.Digest != first.Image.Descriptor.Digest {
		t.Errorf("another image: %s, not %s", second.Image.Descriptor.Digest, first.Image.Descriptor.Digest)
	}
}

// TestCallerClock has a build take the time from Env.Now.
func TestCallerClock(t *testing.T) {
	_, buildkitd := testenv.Shared(t)
	b, err := builder.Open(t.Context(), builder.Options{Address: buildkitd.Addr})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	images, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	defer images.Close()
	// A clock that stands before the base image was made: its date is to come, and does not count.
	early := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	o := kedge.Options{Context: writeDockerfile(t, "FROM debian:bookworm-slim\nLABEL a=b\n")}
	res, err := kedge.Build(t.Context(), kedge.Env{Builder: b, Store: images, Now: func() time.Time { return early }}, o)
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC); !res.Epoch.Equal(want) {
		t.Errorf("epoch %v, want %v", res.Epoch, want)
	}
}
