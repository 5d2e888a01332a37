package kedge

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/kedge-build/kedge/builder"
)

// An interrupt ends the wait for standard input that sends nothing and does not end.
func TestInputInterrupted(t *testing.T) {
	silent, _ := io.Pipe()
	for _, words := range [][2]string{{"-", ""}, {t.TempDir(), "-"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := readInput(ctx, silent, words[0], words[1]); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%q: %v", words, err)
		}
	}
}

// A patch names a file that git apply can find, wherever the Dockerfile came from.
func TestPatchName(t *testing.T) {
	tests := []struct {
		in   builder.Dockerfile
		want string
	}{
		{builder.Dockerfile{Path: "./a/../b/Dockerfile"}, "b/Dockerfile"},
		{builder.Dockerfile{Path: "/a/app.Dockerfile"}, "app.Dockerfile"},
		{builder.Dockerfile{Inside: "sub/Dockerfile"}, "sub/Dockerfile"},
		{builder.Dockerfile{URL: "https://example.com/x/app"}, "Dockerfile"},
		{builder.Dockerfile{Data: []byte("FROM a")}, "Dockerfile"},
	}
	for _, test := range tests {
		if got := patchName(test.in); got != test.want {
			t.Errorf("%+v: %q, want %q", test.in, got, test.want)
		}
	}
}

// Standard input holds a context, a Dockerfile or neither, and -f has to fit.
func TestInput(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir := t.TempDir()
	archive := string(make([]byte, 1024)) // without entries
	tests := []struct {
		name                 string
		context, file, stdin string
		data, location       string
		wrong                bool // the command line is
	}{
		{name: "a folder", context: dir, location: dir + "/Dockerfile"},
		{name: "a Dockerfile and a folder", context: dir, file: "-", stdin: "FROM a", data: "FROM a"},
		{name: "a Dockerfile", context: "-", stdin: "FROM a", data: "FROM a"},
		{name: "a context", context: "-", stdin: "BZh", wrong: false},
		{name: "both", context: "-", file: "-", wrong: true},
		{name: "two Dockerfiles", context: "-", file: "x", stdin: "FROM a", wrong: true},
		{name: "two Dockerfiles, one a URL", context: "-", file: "https://example.com/x", stdin: "FROM a", wrong: true},
		{name: "nothing", context: "-"},
		{name: "blanks", context: dir, file: "-", stdin: " \n"},
		{name: "no name", wrong: true},
		{name: "zeros are no archive", context: "-", stdin: archive, data: archive},
	}
	for _, test := range tests {
		in, err := readInput(t.Context(), strings.NewReader(test.stdin), test.context, test.file)
		var wrong *InputError
		if errors.As(err, &wrong) != test.wrong || (err == nil) != (test.data != "" || test.location != "") {
			t.Errorf("%s: %v", test.name, err)
		}
		if string(in.dockerfile.Data) != test.data || in.dockerfile.Path != test.location {
			t.Errorf("%s: %+v", test.name, in)
		}
		if err := in.close(); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
