package store

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

func TestBuild(t *testing.T) {
	s, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	image, index, other := digest.FromString("image"), digest.FromString("index"), digest.FromString("other")
	if _, err := s.Build(image); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before any build: %v", err)
	}
	if _, err := s.LastBuild("/Dockerfile"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before any build: %v", err)
	}
	built := Build{Digest: image, Manifests: []digest.Digest{index}, Dockerfile: "/Dockerfile", Lockfile: "/Dockerfile.lock", Target: "app", Declared: "app", Args: "a"}
	verified := Build{Digest: image, Dockerfile: "/Dockerfile", Target: "app", Declared: "app", Args: "a", Verified: &Verified{Reproducible: true, Varied: []string{"cpus"}}}
	save := func(b Build) {
		t.Helper()
		if err := s.SaveBuild(b); err != nil {
			t.Fatal(err)
		}
	}
	save(built)
	save(verified)
	// The index finds what was verified without it.
	for _, dgst := range []digest.Digest{image, index} {
		if b, err := s.Build(dgst); err != nil || b.Verified == nil || !b.Verified.Reproducible {
			t.Errorf("%s: %+v, %v", dgst, b, err)
		}
	}
	// Another build without a verdict keeps it.
	save(built)
	want := built
	want.Version, want.Verified = buildVersion, verified.Verified
	if b, err := s.Build(image); err != nil || cmp.Diff(want, b) != "" {
		t.Errorf("%+v, %v", b, err)
	}
	// A verdict of no replaces a yes.
	verified.Verified = &Verified{}
	save(verified)
	if b, err := s.Build(index); err != nil || b.Verified == nil || b.Verified.Reproducible {
		t.Errorf("%+v, %v", b, err)
	}
	save(Build{Digest: other, Dockerfile: "/other"})
	if b, err := s.LastBuild("/Dockerfile"); err != nil || b.Digest != image {
		t.Errorf("%+v, %v", b, err)
	}
	// A damaged record is none.
	path, err := s.buildPath(index)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{}", `{"version":3}`, `{"version":2,"unknown":1}`} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if b, err := s.Build(index); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %+v, %v", text, b, err)
		}
	}
	if _, err := s.Build("sha256:../../x"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no digest: %v", err)
	}
	// Pruning forgets images that are gone, unless they were verified; all forgets all.
	if _, err := s.Prune(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Build(other); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the build of a pruned image: %v", err)
	}
	if _, err := s.Build(image); err != nil {
		t.Errorf("the verdict of a pruned image: %v", err)
	}
	if _, err := s.Prune(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Build(image); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after pruning all: %v", err)
	}
}

// A build that was not verified leaves the verdicts of manifests that it shares with others.
func TestSaveBuildOfSeveralPlatforms(t *testing.T) {
	amd64, arm64, index := digest.FromString("amd64"), digest.FromString("arm64"), digest.FromString("index")
	alone := Build{Digest: amd64}
	both := Build{Digest: index, Manifests: []digest.Digest{amd64, arm64}}
	verified := func(b Build) Build {
		b.Verified = &Verified{Reproducible: true}
		return b
	}
	for name, test := range map[string]struct {
		builds []Build
		want   []digest.Digest
	}{
		"one of them alone, then both":           {[]Build{verified(alone), both}, []digest.Digest{amd64}},
		"both, then one alone":                   {[]Build{verified(both), alone}, []digest.Digest{amd64, arm64, index}},
		"both, one alone, and both again":        {[]Build{verified(both), alone, both}, []digest.Digest{amd64, arm64, index}},
		"neither":                                {[]Build{alone, both, alone}, nil},
		"both, then with another for a platform": {[]Build{verified(both), {Digest: digest.FromString("other"), Manifests: []digest.Digest{digest.FromString("new"), arm64}}}, []digest.Digest{amd64, arm64, index}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.Context(), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for _, b := range test.builds {
				if err := s.SaveBuild(b); err != nil {
					t.Fatal(err)
				}
			}
			var got []digest.Digest
			for _, dgst := range []digest.Digest{amd64, arm64, index, digest.FromString("other"), digest.FromString("new")} {
				if b, err := s.Build(dgst); err == nil && b.Verified != nil {
					got = append(got, dgst)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestSaveBuildWhileOthersOpen: opening a store, which cleans up there, removes no file that another process is about to write.
func TestSaveBuildWhileOthersOpen(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	done := make(chan struct{})
	stopped := make(chan error, 1)
	go func() {
		for {
			select {
			case <-done:
				stopped <- nil
				return
			default:
			}
			other, err := Open(t.Context(), dir)
			if err != nil {
				stopped <- err
				return
			}
			other.Close()
		}
	}()
	for range 200 {
		b := Build{Digest: digest.FromString("image"), Dockerfile: "/Dockerfile"}
		if err := s.SaveBuild(b); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if b, err := s.LastBuild("/Dockerfile"); err != nil || b.Digest != digest.FromString("image") {
		t.Errorf("%v, %v", b, err)
	}
}
