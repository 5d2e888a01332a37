package image

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	gocmp "github.com/google/go-cmp/cmp"
)

const token = "hunter2/+ ä?secret"

func TestFindSecret(t *testing.T) {
	pad := strings.Repeat("x", window)
	std, web := base64.StdEncoding.EncodeToString, base64.RawURLEncoding.EncodeToString
	tests := []struct{ name, text, form string }{
		{"nothing", "", ""},
		{"plain", "a" + token + "b", "plain"},
		{"alone", token, "plain"},
		{"a part", token[1:] + token[:len(token)-1], ""},
		{"another case", strings.ToUpper(token), ""},
		{"url", "https://u:" + url.QueryEscape(token) + "@h", "url"},
		{"url path", "https://h/" + url.PathEscape(token), "url"},
		{"base64", std([]byte(token)), "base64"},
		{"base64 of user and token", std([]byte("u:" + token)), "base64"},
		{"base64, shifted by two, something behind", std([]byte("ab" + token + "xyz")), "base64"},
		{"base64 for URLs", web([]byte("abcd" + token)), "base64"},
		{"base64 of a part", std([]byte(token[2:])), ""},
		{"base64 in lines", lines(std([]byte(pad[:50] + token + pad[:50]))), "base64"},
		{"base64 in lines of DOS", strings.ReplaceAll(lines(std([]byte(pad[:50]+token+pad[:50]))), "\n", "\r\n"), "base64"},
		{"base64 in lines, over the end of what is read at once", pad[:window-80] + "\n" + lines(std([]byte(pad[:50]+token))), "base64"},
		{"plain in lines", token[:5] + "\n" + token[5:], ""},
		{"over the end of what is read at once", pad[:window-len(token)/2] + token, "plain"},
		{"just before it", pad[:window-len(token)] + token + pad, "plain"},
		{"just behind it", pad + token, "plain"},
		{"one byte of it on the other side", pad[:window-1] + token, "plain"},
		{"a part over the end", pad[:window-3] + token[:len(token)-1], ""},
	}
	for _, test := range tests {
		for name, reader := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "half": iotest.HalfReader,
		} {
			s := newSearcher(newNeedles(map[string][]byte{"id": []byte(token + "\n"), "short": []byte("x\n"), "empty": nil}))
			found, err := s.find(reader(strings.NewReader(test.text)))
			if err != nil {
				t.Fatal(err)
			}
			var form string
			if len(found) > 0 {
				form = found[0].form
			}
			if form != test.form || len(found) > 1 {
				t.Errorf("%s, %s: found %q, want %q", test.name, name, form, test.form)
			}
		}
	}
	s := newSearcher(newNeedles(map[string][]byte{"json": []byte("line one\nline two")}))
	if found := s.in(`{"key":"line one\nline two"}`); len(found) != 1 || found[0].form != "json" {
		t.Errorf("%v", found)
	}
	if _, err := s.find(iotest.ErrReader(errFull)); !errors.Is(err, errFull) {
		t.Error(err)
	}
}

// lines breaks a text as base64 does.
func lines(text string) string {
	var b strings.Builder
	for len(text) > 76 {
		b.WriteString(text[:76] + "\n")
		text = text[76:]
	}
	return b.String() + text + "\n"
}

func TestSecretsInImage(t *testing.T) {
	key := strings.Repeat("key material\n", 9000)
	secrets := map[string][]byte{"token": []byte("sesame-open"), "key": []byte(key), "short": []byte("12345\n")}
	layer := func(entries ...tarEntry) [][]byte { return [][]byte{tarball(t, entries...)} }
	tests := []struct {
		name string
		raw  rawImage
		want []string
	}{
		{"nothing", rawImage{layers: layer(file("a", "sesame-close"), file("b", key[:len(key)/2]), file("c", "12345"))}, nil},
		{"a file", rawImage{layers: layer(file("a", ""), file("etc/b", "x=sesame-open\n"))}, []string{"0 /etc/b token plain"}},
		{"a large one", rawImage{layers: layer(file("k", string(noise(3<<20))+key))}, []string{"0 /k key plain"}},
		{"both, in two layers", rawImage{layers: [][]byte{tarball(t, file("a", "sesame-open"+key)), tarball(t, file("b", "sesame-open"))}},
			[]string{"0 /a key plain", "0 /a token plain", "1 /b token plain"}},
		{"a name", rawImage{layers: layer(file("d-sesame-open/f", ""))}, []string{"0 /d-***/f token plain"}},
		{"a name with base64 in lines", rawImage{layers: layer(file("c2VzYW1l\nLW9wZW4=", ""))}, []string{"0 *** token base64"}},
		{"a link", rawImage{layers: layer(typed("l", tar.TypeSymlink, "/sesame-open"))}, []string{"0 /l token plain"}},
		{"an attribute", rawImage{layers: layer(file("a", "").with(func(h *tar.Header) { h.PAXRecords = map[string]string{xattrPrefix + "user.a": "sesame-open"} }))},
			[]string{"0 /a token plain"}},
		{"the base image's", rawImage{base: layer(file("a", "sesame-open")), layers: layer(file("b", ""))}, nil},
		{"what a rule drops", rawImage{layers: layer(file("var/log/dpkg.log", "sesame-open"))}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := testStore(t)
			test.raw.platform = amd64
			// A layer that is known without the check is looked at all the same.
			for _, known := range []bool{false, true} {
				if known {
					build(t, s, Options{}, test.raw)
					if err := os.Truncate(s.path("index.json"), 0); err != nil {
						t.Fatal(err)
					}
					if err := s.withIndexLock(t.Context(), func() error { return s.writeIndex(nil) }); err != nil {
						t.Fatal(err)
					}
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

func leaksOf(t testing.TB, s *Store, o Options, raw rawImage, statements ...string) []string {
	t.Helper()
	x := newExport(t, raw)
	if len(statements) > 0 {
		attested(t, x, raw.platform, statements...)
	}
	in := testIngest(t, s, IngestOptions{})
	defer in.Close()
	x.send(t, in)
	_, err := in.Write(t.Context(), x.root, sourcesOf([]rawImage{raw}), o)
	var leaked *LeakError
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
	base, blob := tarball(t, file("b", "")), tarball(t, file("a", ""))
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
	raw := rawImage{platform: amd64, layers: [][]byte{tarball(t, file("a", ""))}}
	secrets := Options{Secrets: map[string][]byte{"token": []byte("sesame-open")}}
	got := leaksOf(t, s, secrets, raw, `{"predicate":{"secrets":["token"]}}`, `{"predicate":{"args":{"a":"x=sesame-open"}}}`)
	if diff := gocmp.Diff([]string{"-1 predicate.args.a token plain"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := leaksOf(t, s, secrets, raw, `{"predicate":{"secrets":["token"]}}`); got != nil {
		t.Error(got)
	}
}
