package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/docker"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/network"
	"github.com/kedge-build/kedge/publish"
	"github.com/kedge-build/kedge/store"
)

// An error has the exit code and the hint of the first row that matches, also if it is wrapped.
func TestAdvice(t *testing.T) {
	for _, test := range []struct {
		err  error
		code int
		hint string
	}{
		{errors.New("x"), exitFailed, ""},
		{usagef("x"), exitUsage, "kedge builder prune --help says how it is used"},
		{&publish.UsageError{Reason: "x"}, exitUsage, "kedge builder prune --help says how it is used"},
		{&builder.ContextError{Name: "x"}, exitUsage, "a named context is"},
		{&builder.ContextError{Err: fs.ErrNotExist}, exitFailed, ""},
		{&builder.ContextError{Err: errors.New("x")}, exitUsage, "a build context is"},
		{&store.DamagedError{Dir: "d", Blob: "b"}, exitFailed, damagedHint},
		{&store.DamagedError{Dir: "d"}, exitFailed, "the store holds only what can be built again: remove d"},
		{&frontend.DeclaredTargetError{Asked: "a", Declared: "b"}, exitForbidden, "kedge lock --target a declares that"},
		{&builder.UnlockedError{}, exitForbidden, "kedge lock adds what is missing"},
		{&builder.RefusedDownloadsError{Silent: []builder.SilentLookup{{}}}, exitFailed, silentAdvice},
		{&builder.RefusedDownloadsError{
			Silent:   []builder.SilentLookup{{}},
			Troubles: []error{&network.FetchError{Err: &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}}},
		}, exitFailed, "--downloads-ca FILE names the authority"},
		{&builder.RefusedDownloadsError{Silent: []builder.SilentLookup{{}}, Troubles: []error{&network.FetchError{Err: x509.HostnameError{}}}}, exitFailed, silentAdvice},
		{&unknownError{Nearest: "prune"}, exitUsage, "did you mean prune?"},
		{fmt.Errorf("loading into Docker: %w", &publish.PlatformsError{}), exitFailed, "turn on containerd's image store"},
		{errors.Join(&store.NotFoundError{}, &docker.EngineError{Err: errors.New("x")}), exitFailed, "does Docker run there"},
	} {
		code, hint := advice(fmt.Errorf("wrapped: %w", test.err), []string{"builder", "prune"})
		if code != test.code || (hint == "") != (test.hint == "") || !strings.HasPrefix(hint, test.hint) {
			t.Errorf("%T: %d, %q", test.err, code, hint)
		}
	}
}

// A docker configuration that cannot be read causes one warning. A missing one causes none.
func TestDockerConfig(t *testing.T) {
	dir := t.TempDir()
	var stderr bytes.Buffer
	p := &process{env: map[string]string{"DOCKER_CONFIG": dir}, stderr: &stderr}
	if p.dockerConfig(); stderr.Len() > 0 {
		t.Errorf("without a file: %s", &stderr)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"auths":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if file := p.dockerConfig(); file == nil || strings.Count(stderr.String(), "warning: docker's configuration, and with it logins, is not read: ") != 1 {
		t.Errorf("%v, %s", file, &stderr)
	}
}
