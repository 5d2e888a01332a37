package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/kedge-build/kedge/secret"
	"github.com/kedge-build/kedge/store"
)

func TestSecretsInImage(t *testing.T) {
	key := strings.Repeat("key material\n", 9000)
	secrets := map[string][]byte{"token": []byte("sesame-open"), "key": []byte(key), "short": []byte("12345\n")}
	layer := func(entries ...tartest.Entry) [][]byte { return [][]byte{tartest.Tar(t, entries...)} }
	tests := []struct {
		name string
		raw  rawImage
		want []string
	}{
		{"nothing", rawImage{layers: layer(file("a", "sesame-close"), file("b", key[:len(key)/2]), file("c", "12345"))}, nil},
		{"a file", rawImage{layers: layer(file("a", ""), file("etc/b", "x=sesame-open\n"))}, []string{"0 /etc/b token plain"}},
		{"a large one", rawImage{layers: layer(file("k", string(tartest.Noise(3<<20))+key))}, []string{"0 /k key plain"}},
		{"both, in two layers", rawImage{layers: [][]byte{tartest.Tar(t, file("a", "sesame-open"+key)), tartest.Tar(t, file("b", "sesame-open"))}},
			[]string{"0 /a key plain", "0 /a token plain", "1 /b token plain"}},
		{"a name", rawImage{layers: layer(file("d-sesame-open/f", ""))}, []string{"0 /d-***/f token plain"}},
		{"a name with base64 in lines", rawImage{layers: layer(file("c2VzYW1l\nLW9wZW4=", ""))}, []string{"0 *** token base64"}},
		{"a link", rawImage{layers: layer(typed("l", tar.TypeSymlink, "/sesame-open"))}, []string{"0 /l token plain"}},
		{"an attribute", rawImage{layers: layer(file("a", "").With(func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "sesame-open"} }))},
			[]string{"0 /a token plain"}},
		{"the base image's", rawImage{base: layer(file("a", "sesame-open")), layers: layer(file("b", ""))}, nil},
		{"what a rule drops", rawImage{layers: layer(file("var/log/dpkg.log", aLog+"sesame-open\n"))}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := testStore(t)
			test.raw.platform = amd64
			// A layer that the store knows is searched all the same.
			for _, known := range []bool{false, true} {
				if known {
					build(t, s, Options{}, test.raw)
					writeFile(t, storePath(s, "index.json"), []byte(`{"schemaVersion":2,"manifests":[]}`))
				}
				got := leaksOf(t, s, Options{Secrets: secrets}, test.raw)
				if diff := gocmp.Diff(test.want, got); diff != "" {
					t.Errorf("known %v (-want +got):\n%s", known, diff)
				}
				if list, err := s.Images(t.Context()); err != nil || (len(list) == 0) != (len(test.want) > 0) {
					t.Errorf("known %v: the store lists %v, %v", known, list, err)
				}
			}
		})
	}
}

func leaksOf(t testing.TB, s *store.Store, o Options, raw rawImage, statements ...string) []string {
	t.Helper()
	x := newExport(t, raw)
	if len(statements) > 0 {
		attested(t, x, raw.platform, statements...)
	}
	in := testIngest(t, s, IngestOptions{})
	defer in.Close()
	x.send(t, in)
	_, err := in.Write(t.Context(), x.root, sourcesOf([]rawImage{raw}), o)
	var leaked *secret.LeakError
	if !errors.As(err, &leaked) {
		if err != nil {
			t.Fatal(err)
		}
		return nil
	}
	var lines []string
	for _, l := range leaked.Leaks {
		lines = append(lines, fmt.Sprintf("%d %s %s %s", l.Layer, l.Path, l.Secret, l.Form))
	}
	for _, value := range o.Secrets {
		if strings.Contains(err.Error(), string(bytes.TrimSpace(value))) {
			t.Errorf("the error has the value: %v", err)
		}
	}
	return lines
}

func TestSecretsInConfig(t *testing.T) {
	s := testStore(t)
	base, blob := tartest.Tar(t, file("b", "")), tartest.Tar(t, file("a", ""))
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/","T=sesame-open"],"Labels":{"a":"sesame-close"}},
		"rootfs":{"type":"layers","diff_ids":["%s","%s"]},
		"history":[{"created_by":"sesame-open of the base"},{"created_by":"RUN curl -H sesame-open"}]}`, diffIDOf(t, base), diffIDOf(t, blob))
	got := leaksOf(t, s, Options{Secrets: map[string][]byte{"token": []byte("sesame-open")}},
		rawImage{platform: amd64, base: [][]byte{base}, layers: [][]byte{blob}, config: config})
	want := []string{"-1 config.Env[1] token plain", "-1 history[1].created_by token plain"}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSecretsInAttestation(t *testing.T) {
	s := testStore(t)
	raw := rawImage{platform: amd64, layers: [][]byte{tartest.Tar(t, file("a", ""))}}
	secrets := Options{Secrets: map[string][]byte{"token": []byte("sesame-open")}}
	got := leaksOf(t, s, secrets, raw, `{"predicate":{"secrets":["token"]}}`, `{"predicate":{"args":{"a":"x=sesame-open"}}}`)
	if diff := gocmp.Diff([]string{"-1 predicate.args.a token plain"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := leaksOf(t, s, secrets, raw, `{"predicate":{"secrets":["token"]}}`); got != nil {
		t.Error(got)
	}
}

func typed(name string, kind byte, link string) tartest.Entry {
	e := file(name, "")
	e.Typeflag, e.Linkname = kind, link
	if kind == tar.TypeDir {
		e.Mode = 0o755
	}
	return e
}
