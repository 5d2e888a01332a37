package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"
)

var update = flag.Bool("update", false, "rewrite golden files")

var epoch = time.Date(2026, 10, 19, 6, 25, 0, 0, time.UTC)

func digest(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }

func excerptOf(s string) *Excerpt { return &Excerpt{Data: []byte(s)} }

// example is a report with some of everything.
func example() *Report {
	const patch = `--- Dockerfile
+++ Dockerfile
@@ -6,2 +6,2 @@
-RUN python3 setup.py build && date > /srv/built
+RUN python3 setup.py build && date -d @$SOURCE_DATE_EPOCH > /srv/built
 CMD ["/srv/app"]
`
	clock := func(where, first, second string) []Cause {
		return []Cause{{
			Kind: "timestamp", Where: where, First: first, Second: second,
			Why:  "The clock of the build is written into the file.",
			Fix:  "Write SOURCE_DATE_EPOCH in its place: date -d @$SOURCE_DATE_EPOCH.",
			Link: "https://reproducible-builds.org/docs/source-date-epoch/",
		}}
	}
	object := func(b byte) []byte {
		data := append([]byte("\x7fELF\x02\x01\x01\x00"), make([]byte, 120)...)
		copy(data[64:], "GNU\x00\x12\x34\x56\x78\x9a\xbc\xde\xf0")
		data[68], data[71], data[72], data[73] = b, b+1, b^0x55, b+9
		return data
	}
	return &Report{
		Title:    "registry.example.org/team/app:1.4",
		Outcome:  Different,
		Sentence: "Two builds differ in 8 files of 2 layers.",
		First:    "first build", Second: "second build",
		Created: epoch.Add(35 * 24 * time.Hour), Command: "kedge verify -f Dockerfile --build-arg PROFILE=release .",
		Dockerfile: "Dockerfile", Lockfile: "Dockerfile.lock", Epoch: epoch, ArgsHash: "args-5f2b8c01d9aa",
		Platforms: []Platform{
			{Platform: "linux/amd64", First: digest("a"), Second: digest("b"), Layers: []Layer{
				{Index: 2, Line: 4, Instruction: "RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*",
					First: digest("c"), Second: digest("d"), Files: []File{
						{Path: "var/log/install.log", Change: Changed, What: []string{"content"},
							First: &Version{Mode: "-rw-r--r--", Owner: "0:0", Size: 214, Time: epoch, Excerpt: &Excerpt{Line: 12, Offset: 480, Truncated: true,
								Data: []byte("Preparing to unpack\nUnpacking python3 (3.11.2-1)\nSetting up python3\nlog started 2026-11-23 14:41:48\nrunning python rtupdate hooks\nProcessing triggers for libc-bin\nldconfig deferred\nok\ndone\n")}},
							Second: &Version{Mode: "-rw-r--r--", Owner: "0:0", Size: 230, Time: epoch, Excerpt: &Excerpt{Line: 12, Offset: 480, Truncated: true,
								Data: []byte("Preparing to unpack\nUnpacking python3 (3.11.2-1)\nSetting up python3\nlog started 2026-11-23 14:42:09\nrunning python rtupdate hooks\nProcessing triggers for libc-bin\nldconfig deferred\nok\ndone\none line more\n")}},
							Causes: clock("line 15", "2026-11-23 14:41:48", "2026-11-23 14:42:09")},
						{Path: "var/log", Change: Changed, What: []string{"mode"},
							First:  &Version{Type: "directory", Mode: "drwxr-xr-x", Owner: "0:0", Time: epoch},
							Second: &Version{Type: "directory", Mode: "drwxrwxr-x", Owner: "0:0", Time: epoch},
							Causes: []Cause{{Kind: "umask", Why: "The umask of the step decides on the mode.", Fix: "Set the mode with chmod."}}},
						{Path: "etc/machine-id", Change: Removed, First: &Version{Mode: "-r--r--r--", Owner: "0:0", Size: 33, Excerpt: excerptOf("7d1f6ba2f6a64b8e9f0c2f7ad2f4f3b1\n")},
							Causes: []Cause{{Kind: "random", Why: "An id is drawn when the package is installed.", Fix: "Empty it: truncate -s 0 /etc/machine-id."}}},
					}},
				{Index: 3, Line: 6, Instruction: "RUN python3 setup.py build && date > /srv/built", First: digest("e"), Second: digest("f"), Files: []File{
					{Path: "srv/built", Change: Changed, What: []string{"content"}, Patch: patch,
						First:  &Version{Mode: "-rw-r--r--", Owner: "0:0", Size: 29, Time: epoch, Excerpt: excerptOf("Mon Nov 23 14:41:48 UTC 2026\n")},
						Second: &Version{Mode: "-rw-r--r--", Owner: "0:0", Size: 29, Time: epoch, Excerpt: excerptOf("Mon Nov 23 14:42:09 UTC 2026\n")},
						Causes: clock("line 1", "14:41:48", "14:42:09")},
					{Path: "srv/app/build/lib/native.so", Change: Changed, What: []string{"content", "time"},
						First:  &Version{Mode: "-rwxr-xr-x", Owner: "0:0", Size: 128, Time: epoch, Excerpt: &Excerpt{Data: object(0x12)}},
						Second: &Version{Mode: "-rwxr-xr-x", Owner: "0:0", Size: 128, Time: epoch.Add(21 * time.Second), Excerpt: &Excerpt{Data: object(0xf1)}},
						Causes: []Cause{{Kind: "build-id", Where: ".note.gnu.build-id", First: "12345678", Second: "f1f2f3f4", Why: "The build-id follows from other content that differs.", Fix: "Mend the other cause, or link with -Wl,--build-id=none."}}},
					{Path: "srv/app/build/lib/\u202egnp.exe", Change: Added, Second: &Version{Mode: "-rw-r--r--", Owner: "1000:1000", Size: 24,
						Excerpt: excerptOf("<script>alert(1)</script>")}},
					{Path: "srv/app/cache", Change: Changed, What: []string{"type", "target"}, First: &Version{Type: "symbolic link", Link: "/tmp/build-8841"}, Second: &Version{Type: "symbolic link", Link: "/tmp/build-9027"},
						Causes: []Cause{{Kind: "build path", First: "/tmp/build-8841", Second: "/tmp/build-9027", Why: "A folder with a name of its own for every build is written down.", Fix: "Build in a folder with a fixed name."}}},
					{Path: "srv/app/requirements.txt", Change: Added},
				}},
			}},
			{Platform: "linux/arm64", First: digest("arm"), Second: digest("arm"), Same: true},
		},
		Pins: []Pin{
			{"image", "docker.io/library/debian:bookworm-slim", digest("debian")},
			{"url", "https://example.org/releases/tool-2.1.tar.gz", digest("tool")},
			{"git", "https://example.org/team/lib.git#v3", "1f0c5a3e9d2b7c64f08e1a5d3b9c7e2f60a4d8b1"},
		},
		Packages:   []Package{{"deb", "tzdata", "2026b-0+deb12u1", "2026c-0+deb12u1"}, {"pip", "certifi", "", "2026.11.2"}},
		Config:     []Setting{{"Env BUILD_ID", "8841", "9027"}, {"history 3", "", "RUN <<EOF\nset -e\nEOF"}},
		Normalised: []Normalised{{"apt-logs", 3, "A log of what apt did is read by nobody."}, {"pyc-times", 1241, "The source time in a .pyc follows its source."}},
	}
}

func render(t testing.TB, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := HTML(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestGolden holds the page of the example, but for its style and script.
func TestGolden(t *testing.T) {
	page := render(t, example())
	got := strings.NewReplacer(style, "…", script, "…", policy(), "…",
		html.EscapeString(policy()), "…", strings.ReplaceAll(html.EscapeString(policy()), "+", "&#43;"), "…").Replace(page)
	golden := filepath.Join("testdata", "example.html")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-update writes it anew):\n%s", golden, diff)
	}
	if again := render(t, example()); again != page {
		t.Error("the same report gives another page")
	}
}

func TestOutcomes(t *testing.T) {
	for outcome, want := range map[Outcome]string{Same: "Identical", Different: "Not identical", Unverified: "Not verified", "": "Not verified"} {
		page := render(t, &Report{Title: "t", Outcome: outcome, Platforms: []Platform{{Platform: "linux/amd64", First: digest("a"), Same: outcome == Same}}})
		check(t, page)
		if !strings.Contains(page, want+"</strong>") {
			t.Errorf("%q does not say %q", outcome, want)
		}
		if strings.Contains(page, `id="files"`) != (outcome == Different) {
			t.Errorf("%q: a list of files", outcome)
		}
	}
	for _, outcome := range []Outcome{Same, Unverified} { // a value that contradicts itself
		r := example()
		r.Outcome = outcome
		check(t, render(t, r))
		r.Platforms[0].Same = true
		check(t, render(t, r))
	}
	if err := HTML(&bytes.Buffer{}, nil); err == nil {
		t.Error("no report is rendered")
	}
	check(t, render(t, &Report{}))
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestWriteFails(t *testing.T) {
	boom := errors.New("boom")
	if err := HTML(failing{boom}, example()); !errors.Is(err, boom) {
		t.Errorf("a writer that fails: %v", err)
	}
}

// vectors are what would run, load or deceive, if it were written as it is.
var vectors = []string{
	`<script>window.pwned=1;alert(1)</script>`,
	`</script><script>window.pwned=1</script>`,
	`</style><script>window.pwned=1</script>`,
	`</title><script>window.pwned=1</script>`,
	`<!--<script>`, `-->`, `<![CDATA[<script>window.pwned=1</script>]]>`,
	`<img src=x onerror=window.pwned=1>`,
	`"><img src=x onerror=window.pwned=1>`,
	`' onmouseover='window.pwned=1`, `" autofocus onfocus="window.pwned=1`,
	`<svg/onload=window.pwned=1>`, `<svg><script>window.pwned=1</script></svg>`,
	`<math><mi xlink:href="javascript:window.pwned=1">x`,
	`<iframe srcdoc="<script>parent.pwned=1</script>">`,
	`<a href="javascript:window.pwned=1">x</a>`, `javascript:window.pwned=1`, `JaVaScRiPt:window.pwned=1`,
	`data:text/html,<script>window.pwned=1</script>`, `vbscript:x`, `https:javascript:window.pwned=1`,
	`<base href="https://evil.invalid/">`, `<meta http-equiv="refresh" content="0;url=https://evil.invalid/">`,
	`<link rel=stylesheet href=https://evil.invalid/x.css>`, `<style>@import "https://evil.invalid/x.css";</style>`,
	`<form action=https://evil.invalid/><button>x</button></form>`,
	`<details open ontoggle=window.pwned=1>`, `<body onload=window.pwned=1>`, `<template><script>`,
	`{{.Script}}`, `{{template "text" .}}`, "${window.pwned=1}", "`${window.pwned=1}`",
	"\x00<script>window.pwned=1</script>", "<\x00script>window.pwned=1</script>", "<scr\xffipt>", "\xc0\xbcscript\xc0\xbewindow.pwned=1",
	"\u2028window.pwned=1\u2029", "\u202egnp.exe", "\u2066\u2067\u2068\u2069", "\u200b\u200c\u200d\ufeff\u00ad", "\x1b[31mred\x1b[0m\x07",
	"\U000e0041\U000e0042", "\ufe0f\U000e0100", "\u115f\u3164", "\u0085\u009b", "+ADw-script+AD4-",
	"a\r\nb\tc", strings.Repeat("../", 40) + "etc/passwd", strings.Repeat("x", 5000), strings.Repeat("a/", 3000) + "b", "", "/", "//", ".", "..",
}

// hostile has every vector in every field.
func hostile() *Report {
	r := &Report{Outcome: Different, Created: epoch, Epoch: epoch}
	r.Title, r.Sentence, r.First, r.Second = vectors[0], strings.Join(vectors, "\n"), vectors[1], vectors[2]
	r.Command, r.Dockerfile, r.Lockfile, r.ArgsHash = strings.Join(vectors[:20], " "), vectors[3], vectors[7], vectors[8]
	var files []File
	for _, v := range vectors {
		version := func(tail string) *Version {
			return &Version{Type: v, Mode: v + tail, Owner: v, Size: -1, Link: v + tail, Time: epoch, Excerpt: &Excerpt{Data: []byte(v + "\n" + v + tail), Offset: -5, Line: -1}}
		}
		cause := Cause{Kind: v, Where: v, Why: v, Fix: v, Link: v, First: v, Second: v}
		files = append(files,
			File{Path: v, Change: Change(v), What: []string{v, v}, First: version("1"), Second: version("2"), Causes: []Cause{cause, cause}, Patch: "+" + v + "\n-" + v},
			File{Path: "dir/" + v, Change: Added, Second: version("")},
			File{Path: v + "/x", Change: Removed, First: version("")})
		r.Platforms = append(r.Platforms, Platform{Platform: v, First: v, Second: v + "x"})
		r.Pins = append(r.Pins, Pin{v, v, v})
		r.Packages = append(r.Packages, Package{v, v, v, v})
		r.Config = append(r.Config, Setting{v, v, v})
		r.Normalised = append(r.Normalised, Normalised{v, 1, v})
	}
	r.Platforms = append([]Platform{{Platform: "linux/amd64", First: digest("a"), Second: digest("b"),
		Layers: []Layer{{Index: -1, Instruction: vectors[0], Files: files}, {Index: 1, Line: -2, Instruction: vectors[8]}}}}, r.Platforms...)
	return r
}

func TestHostile(t *testing.T) {
	page := render(t, hostile())
	check(t, page)
	shown := said(t, page)
	// Nothing is lost: what is escaped is still there to be read.
	for _, want := range []string{vectors[0], vectors[7], vectors[9], `{{.Script}}`, `\u202egnp.exe`, `\x00<script>`, `\u2028window`, `\ufeff`, `\U000e0041`, `\u3164`, `\x1b[31mred`, `\u009b`, `\xc0\xbc`, `a\r\nb\tc`} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not shown", want)
		}
	}
}

func check(t testing.TB, page string) {
	t.Helper()
	for _, f := range faults(page) {
		t.Error(f)
	}
}

// faults says where a page is not as every page is: one script and one style, which the policy names
// by their hash, no attribute that runs anything, no address but fragments and https, and no
// character that deceives.
func faults(page string) (found []string) {
	fault := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		return []string{err.Error()}
	}
	allowed := map[string]string{
		"html": "lang", "meta": "charset http-equiv content name", "section": "id class", "nav": "aria-label", "a": "href rel", "svg": "viewBox aria-hidden",
		"path": "d", "th": "scope colspan class", "td": "data-l data-n class colspan", "table": "class", "details": "open class", "li": "id class", "div": "class id hidden", "bdi": "class", "b": "class",
		"figure": "id", "pre": "tabindex", "input": "type id autocomplete spellcheck placeholder", "button": "type id", "output": "id for",
		"header": "class", "span": "class", "code": "class", "p": "class", "dt": "class", "dl": "class", "mark": "class", "tr": "class", "thead": "class",
	}
	count := map[string]int{}
	ids := map[string]bool{}
	var fragments []string
	var content, styled, scripted string
	depth, deepest := 0, 0
	var walk func(n *html.Node)
	walk = func(n *html.Node) {
		depth++
		deepest = max(deepest, depth)
		defer func() { depth-- }()
		if n.Type == html.CommentNode {
			fault("a comment: %q", n.Data)
		}
		if n.Type == html.ElementNode {
			count[n.Data]++
			switch n.Data {
			case "iframe", "img", "object", "embed", "base", "link", "form", "template", "math", "video", "audio":
				fault("an element %q", n.Data)
			case "style":
				styled = n.FirstChild.Data
			case "script":
				scripted = n.FirstChild.Data
			}
			for _, a := range n.Attr {
				if !strings.Contains(" "+allowed[n.Data]+" ", " "+a.Key+" ") {
					fault("an attribute %s of %s: %q", a.Key, n.Data, a.Val)
				}
				switch {
				case a.Key == "id" && ids[a.Val]:
					fault("two elements %q", a.Val)
				case a.Key == "id":
					ids[a.Val] = true
				case a.Key == "href" && strings.HasPrefix(a.Val, "#"):
					fragments = append(fragments, a.Val[1:])
				case a.Key == "href" && !strings.HasPrefix(a.Val, "https://"):
					fault("an address: %q", a.Val)
				case a.Key == "content" && strings.Contains(a.Val, "default-src"):
					content = a.Val
				case a.Key == "class" && len(a.Val) > 20:
					fault("a class %q", a.Val)
				}
			}
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	walk(doc)
	if deepest > 200 {
		fault("elements are nested %d deep", deepest)
	}
	for _, name := range []string{"script", "style", "main", "h1", "title"} {
		if count[name] != 1 {
			fault("%d elements %s", count[name], name)
		}
	}
	for _, f := range fragments {
		if !ids[f] {
			fault("#%s leads nowhere", f)
		}
	}
	if !strings.HasPrefix(content, "default-src 'none'; ") || strings.Contains(content, "unsafe") {
		fault("the policy is %q", content)
	}
	for _, s := range []string{styled, scripted} {
		sum := sha256.Sum256([]byte(s))
		if !strings.Contains(content, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
			fault("the policy %q does not name what begins with %.40q", content, s)
		}
	}
	for i, r := range page {
		if r != '\n' && r != '\t' && !plain(r, len(string(r))) {
			fault("%U at %d: …%q", r, i, page[max(0, i-40):min(len(page), i+40)])
			break
		}
	}
	return found
}

func TestFaults(t *testing.T) {
	page := render(t, example())
	for old, new := range map[string]string{
		"</main>":                    "<script>x</script></main>",
		"</h1>":                      "<img src=x></h1>",
		`<h2>Config</h2>`:            `<h2 onclick="x">Config</h2>`,
		`<section id="causes">`:      `<section style="color:red" id="causes">`,
		`href="#causes"`:             `href="javascript:x"`,
		`href="#packages"`:           `href="#elsewhere"`,
		`href="#files"`:              `href="http://example.org/"`,
		`<i>\u202e</i>gnp`:           "\u202egnp",
		`"use strict";`:              `"use strict";;`,
		"color-scheme: light dark;":  "color-scheme: light;",
		"default-src &#39;none&#39;": "default-src *",
		`id="config"`:                `id="causes"`,
	} {
		if !strings.Contains(page, old) {
			t.Errorf("the page has no %q", old)
		} else if found := faults(strings.Replace(page, old, new, 1)); len(found) == 0 {
			t.Errorf("%q is not noticed", new)
		}
	}
}

// said is what a page says, without its elements.
func said(t testing.TB, page string) string {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for n := range doc.Descendants() {
		if n.Type == html.TextNode && n.Parent.Data != "script" && n.Parent.Data != "style" {
			b.WriteString(n.Data)
		}
	}
	return b.String()
}

// large is a report of n files in folders that lie in each other.
func large(n int) *Report {
	r := &Report{Title: "large", Outcome: Different, Sentence: fmt.Sprintf("Two builds differ in %d files.", n), Created: epoch}
	files := make([]File, n)
	for i := range files {
		v := func(s string) *Version {
			return &Version{Mode: "-rw-r--r--", Owner: "0:0", Size: int64(1000 + i), Time: epoch, Excerpt: excerptOf(fmt.Sprintf("line one\nbuilt at %s by %d\nthe last line\n", s, i))}
		}
		files[i] = File{
			Path:   fmt.Sprintf("usr/lib/python3/dist-packages/package%02d/module%d/sub%d/deep/file%d.py", i%50, i%7, i%3, i),
			Change: []Change{Changed, Changed, Changed, Added, Removed}[i%5], What: []string{"content"}, First: v("14:41:48"), Second: v("14:42:09"),
			Causes: []Cause{{Kind: "timestamp", Where: "line 2", First: "14:41:48", Second: "14:42:09", Why: "The clock of the build is written into the file.", Fix: "Write SOURCE_DATE_EPOCH in its place."}},
		}
		switch files[i].Change {
		case Added:
			files[i].First = nil
		case Removed:
			files[i].Second = nil
		}
	}
	r.Platforms = []Platform{{Platform: "linux/amd64", First: digest("a"), Second: digest("b"), Layers: []Layer{{Index: 1, Line: 2, Instruction: "RUN make install", Files: files}}}}
	return r
}

func TestPageIsBounded(t *testing.T) {
	noise := bytes.Repeat([]byte("\x00<\u202e>\xff&"), 4000)
	bomb := large(40_000)
	links := &Version{Link: string(noise), Excerpt: &Excerpt{Data: noise}}
	for i := range bomb.Platforms[0].Layers[0].Files {
		f := &bomb.Platforms[0].Layers[0].Files[i]
		f.Path = fmt.Sprintf("%d/%s", i, strings.Repeat("<&\u202e/", 200))
		f.Patch = fmt.Sprintf("+%d <&\u202e", i)
		f.First = links
		f.Second = &Version{Excerpt: &Excerpt{Data: []byte("\n")}}
	}
	for range 5000 {
		bomb.Pins = append(bomb.Pins, Pin{Ref: string(noise)})
	}
	page := render(t, bomb)
	t.Logf("a bomb: %d KiB", len(page)>>10)
	if len(page) > 40<<20 {
		t.Errorf("the page of a bomb has %d bytes", len(page))
	}
	shown := said(t, page)
	for _, want := range []string{"which the page has no room for", "more files without excerpts", "bytes …", "more patches"} {
		if !strings.Contains(shown, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	page = render(t, large(10_000))
	t.Logf("10,000 files: %d KiB", len(page)>>10)
	if len(page) > 16<<20 {
		t.Errorf("the page of 10,000 files has %d bytes", len(page))
	}
	if n := strings.Count(page, `class="f"`); n != 10_000 {
		t.Errorf("of 10,000 files %d are listed", n)
	}
}

func BenchmarkHTML(b *testing.B) {
	r := large(10_000)
	for b.Loop() {
		render(b, r)
	}
}

func FuzzHTML(f *testing.F) {
	for _, v := range vectors {
		f.Add(v, []byte(v), []byte(v+"x"))
	}
	f.Add("a/b", []byte("\x7fELF\x02"), []byte("\x7fELF\x01\x00"))
	f.Add("a/b", []byte("one\ntwo\nthree"), []byte("one\nTwo\nthree\n"))
	f.Fuzz(func(t *testing.T, s string, first, second []byte) {
		check(t, render(t, &Report{Title: s, Outcome: Different, Sentence: s, Platforms: []Platform{{Platform: s, First: s, Layers: []Layer{{Files: []File{{
			Path: s, What: []string{s}, Patch: s, Causes: []Cause{{Kind: s, Link: s, Why: s}},
			First: &Version{Excerpt: &Excerpt{Data: first}}, Second: &Version{Excerpt: &Excerpt{Data: second}}}}}}}}}))
	})
}
