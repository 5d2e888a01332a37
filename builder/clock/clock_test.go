package clock

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kedge-build/kedge/internal/testenv"
)

// preload returns a library for this machine. make build compiles it.
func preload(t *testing.T, by time.Duration) string {
	t.Helper()
	return libraryFor(t, runtime.GOARCH, by)
}

func libraryFor(t *testing.T, arch string, by time.Duration) string {
	t.Helper()
	data, ok := Library(arch, by)
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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a program that waits wrongly does not end
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
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

// TestReach compiles one program in several ways: for each C library, and for the other architecture, under
// emulation. A static program and a system call see the machine's clock.
func TestReach(t *testing.T) {
	const by = 36 * time.Hour
	for _, test := range []struct {
		name, arch string
		cc         []string
		args       []string
		moved      bool
	}{
		{"glibc", runtime.GOARCH, []string{"gcc"}, nil, true},
		{"a system call", runtime.GOARCH, []string{"gcc"}, []string{"syscall"}, false},
		{"static glibc", runtime.GOARCH, []string{"gcc", "-static"}, nil, false},
		{"musl", runtime.GOARCH, []string{"musl-gcc"}, nil, true},
		{"static musl", runtime.GOARCH, []string{"musl-gcc", "-static"}, nil, false},
		{"arm64", "arm64", []string{"aarch64-linux-gnu-gcc"}, nil, true},
		{"a system call on arm64", "arm64", []string{"aarch64-linux-gnu-gcc"}, []string{"syscall"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			library := libraryFor(t, test.arch, by)
			program := compile(t, "now.c", test.cc...)
			got, err := strconv.ParseInt(runWith(t, library, test.arch, append([]string{program}, test.args...)...), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			want := time.Duration(0)
			if test.moved {
				want = by
			}
			if d := time.Until(time.Unix(got, 0)) - want; d.Abs() > 3*time.Second {
				t.Errorf("moved by %v, want %v", d+want, want)
			}
		})
	}
}

// emulated runs a program for arm64 on another machine.
var emulated = []string{"qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"}

// compile compiles a program of testdata, or skips the test without a compiler.
func compile(t *testing.T, source string, cc ...string) string {
	t.Helper()
	testenv.Require(t, cc[0])
	program := filepath.Join(t.TempDir(), "program")
	args := append(slices.Clone(cc[1:]), "-pthread", "-o", program, filepath.Join("testdata", source))
	if out, err := exec.CommandContext(t.Context(), cc[0], args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// runWith runs a program that preloads a library, and returns what it printed.
func runWith(t *testing.T, library, arch string, command ...string) string {
	t.Helper()
	if arch == runtime.GOARCH {
		return output(t, library, command[0], command[1:]...)
	}
	testenv.Require(t, emulated[0])
	args := slices.Concat(emulated[1:], []string{"-E", "LD_PRELOAD=" + library}, command)
	return output(t, "", emulated[0], args...)
}

// TestWaits waits for points in time, on each function that waits for one. None waits as long as the clock is
// moved, and none returns at once.
func TestWaits(t *testing.T) {
	for _, test := range []struct{ arch, cc string }{{runtime.GOARCH, "gcc"}, {runtime.GOARCH, "musl-gcc"}, {"arm64", "aarch64-linux-gnu-gcc"}} {
		t.Run(test.arch+" "+test.cc, func(t *testing.T) {
			program := compile(t, "waits.c", test.cc)
			for _, preload := range []string{"", libraryFor(t, test.arch, 36*time.Hour)} {
				if got := runWith(t, preload, test.arch, program); got != "ok" {
					t.Errorf("with %q: %s", preload, got)
				}
			}
		})
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
