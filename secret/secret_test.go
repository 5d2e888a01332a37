package secret

import (
	"encoding/base64"
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
)

const token = "hunter2/+ ä?secret"

var errBroken = errors.New("broken")

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
	if found := s.inText(`{"key":"line one\nline two"}`); len(found) != 1 || found[0].form != "json" {
		t.Errorf("%v", found)
	}
	if _, err := s.find(iotest.ErrReader(errBroken)); !errors.Is(err, errBroken) {
		t.Error(err)
	}
}

// lines breaks a text into lines like base64(1).
func lines(text string) string {
	var b strings.Builder
	for len(text) > 76 {
		b.WriteString(text[:76] + "\n")
		text = text[76:]
	}
	return b.String() + text + "\n"
}
