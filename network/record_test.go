package network

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/lock"
	"github.com/opencontainers/go-digest"
)

const (
	digestA = digest.Digest("sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	digestB = digest.Digest("sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")
)

var canonical = header + `version 1
repo registry.example.com/team/app
allow a.example.com
allow b.example.com:8443
step bbbbbbbb "build: RUN npm ci"
step aaaaaaaa "tools: RUN curl \"$URL\""
GET http://example.com/ 200 3 ` + string(digestA) + ` -
HEAD https://example.com/a 200 -1 - aaaaaaaa
GET https://example.com/a?x=1 302 0 ` + string(digestB) + ` aaaaaaaa,bbbbbbbb Etag="\"v1\"" Location="/b?x=1"
GET https://example.com/b 200 7 ` + string(digestA) + ` bbbbbbbb vary:Accept="" Content-Type="text/html"
GET https://example.com/b 200 9 ` + string(digestB) + ` bbbbbbbb vary:Accept="text/html" Content-Type="text/html"
GET https://gone.example.com:8443/ 0 0 - bbbbbbbb
`

func TestFormatIsCanonical(t *testing.T) {
	r, err := Parse("R", []byte(canonical))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(canonical, string(r.Format())); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(canonical, string(r.Clone().Format())); diff != "" {
		t.Error(diff)
	}
	lines := strings.Split(canonical, "\n")
	var mixed []string
	for i := range lines {
		mixed = append(mixed, lines[len(lines)-1-i], "# a comment", "")
	}
	if r, err = Parse("R", []byte(strings.Join(mixed, "\n"))); err != nil || string(r.Format()) != canonical {
		t.Errorf("in another order: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	entry := "GET https://example.com/ 200 3 " + string(digestA) + " aaaaaaaa"
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "R:1: no version: this is not a record of downloads"},
		{"no version", entry, "R:1: no version"},
		{"newer", "version 2\n", "R:1: version 2 is newer than this kedge, which reads version 1: use a newer kedge"},
		{"version zero", "version 0\n", "R:1: version is not a positive number"},
		{"twice", "version 1\nversion 1\n", "R:2: version occurs twice, first on line 1"},
		{"conflict marker", "version 1\n<<<<<<< HEAD\n", `R:2: unknown word "<<<<<<<"`},
		{"carriage return", "version 1\r\n", "R:1: version is not a positive number"},
		{"POST", "version 1\n" + strings.Replace(entry, "GET", "POST", 1), `R:2: unknown word "POST"`},
		{"few words", "version 1\nGET https://example.com/", "R:2: an entry has method"},
		{"two answers", "version 1\n" + entry + "\n" + strings.Replace(entry, " 3 ", " 4 ", 1), "R:3: GET https://example.com/ occurs twice, first on line 2"},
		{"two headers", "version 1\n" + entry + "\n" + entry + ` Etag="x"`, "R:3: GET https://example.com/ occurs twice, first on line 2"},
		{"two names", "version 1\nstep aaaaaaaa \"a\"\nstep aaaaaaaa \"b\"", "R:3: step aaaaaaaa occurs twice, first on line 2"},
		{"pattern", "version 1\nallow *.example.com", `R:2: "*.example.com" is not a host`},
		{"default port", "version 1\n" + strings.Replace(entry, ".com/", ".com:443/", 1), `R:2: "https://example.com:443/" is not a URL in canonical form`},
		{"user", "version 1\n" + strings.Replace(entry, "//", "//me@", 1), "R:2: \"https://me@example.com/\" is not a URL in canonical form"},
		{"credential", "version 1\n" + strings.Replace(entry, ".com/", ".com/?token=x", 1), `R:2: "https://example.com/?token=x" is not a URL in canonical form`},
		{"upper case", "version 1\n" + strings.Replace(entry, "example", "Example", 1), "R:2: \"https://Example.com/\" is not a URL in canonical form"},
		{"ftp", "version 1\n" + strings.Replace(entry, "https", "ftp", 1), "R:2: "},
		{"status", "version 1\n" + strings.Replace(entry, "200", "99", 1), "R:2: 99 is not the status"},
		{"304", "version 1\n" + strings.Replace(entry, "200", "304", 1), "R:2: 304 is not the status"},
		{"plus", "version 1\n" + strings.Replace(entry, "200", "+200", 1), `R:2: "+200" is not a number`},
		{"size", "version 1\n" + strings.Replace(entry, " 3 ", " -1 ", 1), "R:2: -1 is not the size"},
		{"digest", "version 1\n" + strings.Replace(entry, "sha256:a", "sha256:A", 1), "R:2: "},
		{"sha512", "version 1\n" + strings.Replace(entry, string(digestA), "sha512:"+strings.Repeat("a", 128), 1), "R:2: "},
		{"no digest", "version 1\n" + strings.Replace(entry, string(digestA), "-", 1), "R:2: "},
		{"a digest too many", "version 1\n" + strings.Replace(entry, "GET", "HEAD", 1), "R:2: an answer without a body has a digest"},
		{"step of an entry", "version 1\n" + strings.Replace(entry, "aaaaaaaa", "../etc/x", 1), "R:2: "},
		{"cookie", "version 1\n" + entry + ` Set-Cookie="x"`, `R:2: a record does not keep the header "Set-Cookie"`},
		{"header twice", "version 1\n" + entry + ` Etag="x" Etag="y"`, "R:2: header Etag occurs twice"},
		{"no quotes", "version 1\n" + entry + ` Etag=x`, `R:2: "Etag" is not a header and its value in quotes`},
		{"other quotes", "version 1\n" + entry + " Etag=`x`", "R:2: "},
		{"control character", "version 1\n" + entry + ` Etag="x\n"`, "R:2: the value of Etag"},
		{"no header", "version 1\n" + entry + ` Etag="x" `, "R:2: no header after that of"},
		{"vary of a credential", "version 1\n" + entry + ` vary:Authorization="x"`, `R:2: a record does not keep the header "Authorization"`},
		{"step", "version 1\nstep xyz \"a\"", `R:2: "xyz" is not the ID of a step`},
		{"name", "version 1\nstep aaaaaaaa a", "R:2: the name of step aaaaaaaa"},
		{"name of two lines", "version 1\nstep aaaaaaaa \"a\\nb\"", "R:2: the name of step aaaaaaaa"},
		{"host", "version 1\nallow a/b", `R:2: "a/b" is not a host`},
		{"no repo", "version 1\nrepo ", "R:2: repo names no repository"},
		{"repo", "version 1\nrepo a b", `R:2: "a b" is not a repository`},
		{"binary", "version 1\n\xff", "R:1: not UTF-8 text"},
		{"every error", "version 1\nx\ny", "R:2: unknown word \"x\": this kedge knows version, allow, repo, step, GET and HEAD\nR:3: unknown word \"y\""},
		{"thousands of errors", "version 1\n" + strings.Repeat("x\n", 5000), "R:2: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse("R", []byte(test.text))
			var errs Errors
			if !errors.As(err, &errs) || !strings.HasPrefix(err.Error(), test.want) || len(errs.Errors) > maxErrors {
				t.Errorf("got  %.500v\nwant %s", err, test.want)
			}
		})
	}
}

// Two branches added steps and answers, and git's merge kept the lines of both.
func TestParseMerged(t *testing.T) {
	entry := "GET https://example.com/ 200 3 " + string(digestA) + " "
	text := "version 1\nallow a.example\nstep aaaaaaaa \"a\"\n"
	r, err := Parse("R", []byte(text+entry+"aaaaaaaa\nallow a.example\nstep aaaaaaaa \"a\"\nstep bbbbbbbb \"b\"\n"+entry+"bbbbbbbb\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := header + text + "step bbbbbbbb \"b\"\n" + entry + "aaaaaaaa,bbbbbbbb\n"; string(r.Format()) != want {
		t.Errorf("got\n%s\nwant\n%s", r.Format(), want)
	}
}

func TestAllow(t *testing.T) {
	for _, test := range []struct {
		allow, url string
		want       bool
	}{
		{"example.com", "https://Example.com/", true},
		{"example.com", "http://example.com:8080/", true},
		{"example.com:443", "https://example.com/", true},
		{"example.com:443", "https://example.com:443/", true},
		{"example.com:443", "http://example.com/", false},
		{"example.com:80", "http://example.com/", true},
		{"example.com:8080", "http://example.com:8080/", true},
		{"example.com:8080", "http://example.com/", false},
		{"::1", "http://[::1]:8080/", true},
		{"example.com", "https://sub.example.com/", false},
	} {
		var r Record
		if err := r.Allow(test.allow); err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(test.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.allows(u.Scheme, u.Host); got != test.want {
			t.Errorf("allow %s: %s %v", test.allow, test.url, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(canonical))
	f.Add([]byte("version 1\nstep aaaaaaaa \"x…\"\nGET https://h/%00?&=#f 200 0 " + string(digestA) + " - Link=\"\\u00e9\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse("R", data)
		if err != nil {
			return
		}
		text := r.Format()
		again, err := Parse("R", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if diff := cmp.Diff(string(text), string(again.Format())); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{"https://User:pw@Example.com:443/a%2Fb?x=1&token=2#f", "http://[::1]:80", "http://h/?sig=x&se=1&a;b", "http://h/ä b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.Parse(s)
		if err != nil {
			return
		}
		text, err := canonicalURL(u)
		if err != nil {
			return
		}
		u, err = url.Parse(text)
		if err != nil {
			t.Fatalf("%q became %q: %v", s, text, err)
		}
		if again, err := canonicalURL(u); err != nil || again != text {
			t.Errorf("%q became %q, and that %q, %v", s, text, again, err)
		}
	})
}

func TestCanonical(t *testing.T) {
	for s, want := range map[string]string{
		"HTTPS://User:pw@Example.COM:443/a%2fB?x=1#f": "https://example.com/a%2fB?x=1",
		"http://example.com":                          "http://example.com/",
		"http://example.com:8080?q":                   "http://example.com:8080/?q",
		"http://[::1]:80/":                            "http://[::1]/",
		"https://s3.example/f?X-Amz-Date=1&X-Amz-Signature=2&x-id=Get&X-Amz-Expires=3": "https://s3.example/f?x-id=Get",
		"https://b.example/f?sp=r&sv=2018&sr=b&se=2025&rscd=attachment&sig=abc&jwt=ey": "https://b.example/f?rscd=attachment",
		"https://cdn.example/f?Expires=1&Signature=x&Key-Pair-Id=K&v=2":                "https://cdn.example/f?v=2",
		"https://h/f?expires=never&sp=1&policy=x":                                      "https://h/f?expires=never&sp=1&policy=x", // no signature: these are the server's own
		"https://h/f?Access%5Ftoken=1&a=%31&&b":                                        "https://h/f?a=%31&&b",
		"https://git.example/f?job_token=1&Private-Token=2&x=3":                        "https://git.example/f?x=3",
		"https://api.example/f?page_token=1&nextToken=2":                               "https://api.example/f?page_token=1&nextToken=2", // of pages
		"https://keyserver.example/pks/lookup?op=get&search=0xABC&key=1":               "https://keyserver.example/pks/lookup?op=get&search=0xABC&key=1",
	} {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := canonicalURL(u); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", s, got, err, want)
		}
	}
}

func TestCleanLinks(t *testing.T) {
	for s, want := range map[string]string{
		"/a%2fb?x=%41 b":              "/a%2fb?x=%41 b",
		"https://me:pw@h/a?token=1&b": "https://h/a?b",
		"?X-Amz-Signature=1":          "",
		"https://h/\x7f":              "",
	} {
		if got := cleanLink(s); got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	}
	const links = `<https://h/?page=2&access_token=x>; rel="next", <https://h/?page=9>; rel="last"`
	if got, want := cleanLinks(links), `<https://h/?page=2>; rel="next", <https://h/?page=9>; rel="last"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestStepDigest(t *testing.T) {
	parse := func(text string) *Record {
		t.Helper()
		r, err := Parse("R", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := parse(canonical)
	a, b, unlisted := r.Digest("aaaaaaaa"), r.Digest("bbbbbbbb"), r.Digest("cccccccc")
	if a == b || b == unlisted || a == unlisted {
		t.Error("steps with other answers have one digest")
	}
	// Another answer of one step changes its digest, and that of steps which may ask for anything.
	r = parse(strings.Replace(canonical, "200 9 ", "200 8 ", 1))
	if r.Digest("aaaaaaaa") != a || r.Digest("bbbbbbbb") == b || r.Digest("cccccccc") == unlisted {
		t.Error("the digests do not follow the answers")
	}
	// Who else asked, and what the step is called, does not count.
	r = parse(strings.Replace(strings.Replace(canonical, "aaaaaaaa,bbbbbbbb", "aaaaaaaa,bbbbbbbb,dddddddd", 1), "npm ci", "npm install", 1))
	if r.Digest("aaaaaaaa") != a || r.Digest("bbbbbbbb") != b {
		t.Error("other steps change a digest")
	}
	r.AddStep(Step{ID: "cccccccc"})
	if got, want := r.Digest("cccccccc"), (&Record{steps: map[string]string{"cccccccc": ""}}).Digest("cccccccc"); got != want {
		t.Error("a step without downloads depends on those of others")
	}
}

func TestMerge(t *testing.T) {
	parse := func(lines ...string) *Record {
		r, err := Parse("R", []byte("version 1\n"+strings.Join(lines, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	a := "GET https://h/a 200 3 " + string(digestA) + " aaaaaaaa"
	r := parse(a)
	if err := r.Merge(parse(strings.Replace(a, " aaaaaaaa", " bbbbbbbb", 1), "GET https://h/b 200 3 "+string(digestB)+" -", "allow h2", `step aaaaaaaa "x"`)); err != nil {
		t.Fatal(err)
	}
	before := string(r.Format())
	var conflict *ConflictError
	if err := r.Merge(parse(strings.Replace(a, string(digestA), string(digestB), 1), "GET https://h/c 200 3 "+string(digestB)+" -")); !errors.As(err, &conflict) || conflict.URL != "https://h/a" {
		t.Errorf("got %v", err)
	}
	if string(r.Format()) != before {
		t.Errorf("a conflict changed the record:\n%s", r.Format())
	}
}

func TestTooManyEntries(t *testing.T) {
	r := &Record{}
	for i := range maxEntries {
		if _, err := r.Add(Entry{Method: http.MethodHead, URL: fmt.Sprintf("http://h/%d", i), Status: 200}); err != nil {
			t.Fatal(err)
		}
	}
	var limit *LimitError
	if _, err := r.Add(Entry{Method: http.MethodHead, URL: "http://h/", Status: 200}); !errors.As(err, &limit) {
		t.Errorf("got %v", err)
	}
}

// Killed between any two steps of writing, the record and the lockfile fit.
func TestRecordAndLockFit(t *testing.T) {
	dir := t.TempDir()
	lockfile := filepath.Join(dir, "app.Dockerfile.lock")
	path := Path(lockfile)
	if path != filepath.Join(dir, "app.Dockerfile.downloads") {
		t.Fatal(path)
	}
	fits := func() *Record {
		t.Helper()
		f, _, err := lock.Read(lockfile)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Read(path, f.Downloads)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	killed := errors.New("killed")
	write := func(r *Record, killAt int) {
		t.Helper()
		var sum digest.Digest
		err := lock.Update(context.Background(), lockfile, func(f *lock.File) (err error) {
			if sum, err = Stage(path, f.Downloads, r); err != nil {
				return err
			}
			f.Downloads = sum
			if killAt == 1 {
				return killed
			}
			return nil
		})
		if err != nil && !errors.Is(err, killed) {
			t.Fatal(err)
		}
		if killAt == 0 {
			if err := Adopt(path, sum); err != nil {
				t.Fatal(err)
			}
		}
	}
	if fits() != nil {
		t.Error("a record from nowhere")
	}
	r := &Record{}
	for i := range 9 {
		old := fits()
		if _, err := r.Add(Entry{Method: http.MethodHead, URL: fmt.Sprintf("http://h/%d", i), Status: 200}); err != nil {
			t.Fatal(err)
		}
		write(r.Clone(), i%3)
		now := fits()
		if i%3 == 1 && old.Sum() != now.Sum() || i%3 != 1 && now.Sum() != r.Sum() {
			t.Errorf("round %d: %s", i, now.Format())
		}
	}
	write(r, 0)
	if got, err := ReadAny(path); err != nil || got.Sum() != r.Sum() {
		t.Errorf("the record has not got its name: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	// An edit by hand does not go unseen; a comment may be added.
	text := string(r.Format())
	rewrite := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rewrite(text + "# reviewed\n")
	fits()
	rewrite(strings.Replace(text, "200", "404", 1))
	var mismatch *MismatchError
	if _, err := Read(path, r.Sum()); !errors.As(err, &mismatch) || mismatch.Found == "" {
		t.Errorf("got %v", err)
	}
	os.Remove(path)
	if _, err := Read(path, r.Sum()); !errors.As(err, &mismatch) || mismatch.Found != "" {
		t.Errorf("got %v", err)
	}
}
