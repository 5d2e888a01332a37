package store

import (
	"testing"

	"github.com/opencontainers/go-digest"
)

// A process that opens the store, and cleans up there, does not take from another what that is about to write.
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
