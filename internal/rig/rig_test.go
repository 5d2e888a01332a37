package rig

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestReleasePath(t *testing.T) {
	const manifests = "/v2/library/debian/manifests/"
	for path, want := range map[string][2]string{
		manifests + "bookworm-slim":            {manifests + "bookworm", "bookworm"},
		manifests + "bullseye":                 {manifests + "bullseye", "bullseye"},
		manifests + "13.2-slim":                {manifests + "trixie", "trixie"},
		manifests + "sid-20260101":             {manifests + "sid", "sid"},
		manifests + "latest":                   {manifests + "bookworm", "bookworm"},
		manifests + "sha256:12":                {manifests + "sha256:12", ""},
		"/v2/library/debian/blobs/sha256:12":   {"/v2/library/debian/blobs/sha256:12", ""},
		"/v2/library/debiana/manifests/latest": {"/v2/library/debiana/manifests/latest", ""},
		"/v2/library/alpine/manifests/latest":  {"/v2/library/alpine/manifests/latest", ""},
		"/v2/":                                 {"/v2/", ""},
	} {
		if got, release := releasePath(path); got != want[0] || release != want[1] {
			t.Errorf("releasePath(%q) = %q, %q, want %q", path, got, release, want)
		}
	}
}

func TestDaemon(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "ready")
	d, err := StartDaemon(exec.Command("sh", "-c", `sleep 0.1; touch "$1"; exec sleep 600`, "sh", mark), func() error {
		_, err := os.Stat(mark)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pid := d.cmd.Process.Pid
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("it does not run: %v", err)
	}
	for range 2 {
		if err := d.Stop(time.Minute); err != nil {
			t.Error(err)
		}
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("it is still there: %v", err)
	}
}

// Stop kills a daemon that ignores SIGTERM, and reports it.
func TestDaemonKilled(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "ready")
	d, err := StartDaemon(exec.Command("sh", "-c", `trap "" TERM; touch "$1"; while :; do sleep 0.05; done`, "sh", mark), func() error {
		_, err := os.Stat(mark)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Stop(50 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("Stop = %v", err)
	}
}

func TestDaemonFails(t *testing.T) {
	never := func() error { return errors.New("never") }
	for program, want := range map[string]string{
		"false":                 "false has ended: exit status 1",
		"kedge-no-such-program": "starting kedge-no-such-program: ",
	} {
		d, err := StartDaemon(exec.Command(program), never)
		if d != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("StartDaemon(%q) = %v, %v; want %q", program, d, err, want)
		}
	}
}
