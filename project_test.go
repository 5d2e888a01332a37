package kedge

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lint"
	"github.com/kedge-build/kedge/lock"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "Dockerfile")
	var parse *frontend.ParseError
	var syntax lock.Errors
	write := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []Options{{Context: filepath.Join(dir, "gone")}, {Context: dir}} {
		if _, err := open(t.Context(), Env{}, o); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v: %v", o, err)
		}
	}
	write(file, "RUN x\n")
	if _, err := open(t.Context(), Env{}, Options{Context: dir}); !errors.As(err, &parse) || parse.File != file {
		t.Errorf("broken Dockerfile: %v", err)
	}
	if _, err := open(t.Context(), Env{}, Options{Context: file}); err == nil {
		t.Error("a file as the context")
	}
	write(file, "FROM debian\n")
	p, err := open(t.Context(), Env{}, Options{Context: dir})
	if err != nil || p.lockExists || p.lockfile != file+".lock" || p.name != file {
		t.Errorf("%+v, %v", p, err)
	}
	write(file+".lock", "version = 2\n")
	if _, err := open(t.Context(), Env{}, Options{Context: dir}); !errors.As(err, &syntax) || syntax[0].File != file+".lock" {
		t.Errorf("broken lockfile: %v", err)
	}
	other := filepath.Join(dir, "other.lock")
	write(other, "version = 1\n")
	p, err = open(t.Context(), Env{}, Options{Context: dir, Lockfile: other})
	if err != nil || !p.lockExists || p.lockfile != other {
		t.Errorf("%+v, %v", p, err)
	}
}

func testProject(t testing.TB, dockerfile string, f *lock.File) *project {
	t.Helper()
	parsed, err := frontend.Parse("Dockerfile", []byte(dockerfile))
	if err != nil {
		t.Fatal(err)
	}
	return &project{parsed: parsed, lock: f, lockfile: filepath.Join(t.TempDir(), "Dockerfile.lock")}
}

// Nothing reads the context any more when a build that failed has ended.
func TestCloseEndsLint(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	ended := false
	p := &project{stopLint: stop, linted: sync.OnceValues(func() ([]lint.Finding, error) {
		<-ctx.Done()
		time.Sleep(10 * time.Millisecond)
		ended = true
		return nil, ctx.Err()
	})}
	go func() { _, _ = p.linted() }()
	if err := p.close(); err != nil || !ended {
		t.Errorf("ended: %v, %v", ended, err)
	}
}
