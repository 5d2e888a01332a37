package clock

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// preload returns a library for this machine. make build compiles it.
func preload(t *testing.T, by time.Duration) string {
	t.Helper()
	data, ok := Library(runtime.GOARCH, by)
	if !ok {
		if os.Getenv("KEDGE_TEST_REQUIRE") != "" {
			t.Fatal("there is no library: make clock")
		}
		t.Skip("there is no library: make clock")
	}
	path := filepath.Join(t.TempDir(), "clock.so")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func output(t *testing.T, library, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+library)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestMoved(t *testing.T) {
	for _, by := range []time.Duration{36 * time.Hour, -400 * 24 * time.Hour, time.Second} {
		library := preload(t, by)
		for name, args := range map[string][]string{
			"date": {"+%s"}, "perl": {"-e", "print time"}, "bash": {"-c", "printf '%(%s)T' -1"},
		} {
			if _, err := exec.LookPath(name); err != nil {
				continue
			}
			got, err := strconv.ParseInt(output(t, library, name, args...), 10, 64)
			if d := time.Until(time.Unix(got, 0)) - by; err != nil || d.Abs() > 3*time.Second {
				t.Errorf("%s, moved by %v: %v off, %v", name, by, d, err)
			}
		}
	}
}

// TestWaits waits for points in time, on each function that waits for one. None waits as long as the clock is
// moved, and none returns at once.
func TestWaits(t *testing.T) {
	library := preload(t, 36*time.Hour)
	cc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("there is no gcc")
	}
	program := filepath.Join(t.TempDir(), "waits")
	if out, err := exec.CommandContext(t.Context(), cc, "-pthread", "-o", program, "testdata/waits.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, preload := range []string{"", library} {
		if got := output(t, preload, "timeout", "20", program); got != "ok" {
			t.Errorf("with %q: %s", preload, got)
		}
	}
}

func TestNoLibrary(t *testing.T) {
	if _, ok := Library("pdp11", time.Hour); ok {
		t.Error("there is a library for pdp11")
	}
	if _, ok := Library("../clock", time.Hour); ok {
		t.Error("a path is an architecture")
	}
}
