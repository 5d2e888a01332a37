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
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/network"
	godigest "github.com/opencontainers/go-digest"
	"golang.org/x/net/html"
)

var update = flag.Bool("update", false, "rewrite golden files")

var epoch = time.Date(2026, 10, 19, 6, 25, 0, 0, time.UTC)

func excerptOf(s string) *Excerpt { return &Excerpt{Data: []byte(s)} }

func digest(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }

// example is the report of two builds that differ in every way.
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
			Kind: "timestamp", Where: where, First: first, Second: second, Format: "RFC 3339", Clock: "build", Count: 1,
			Why: "The clock of the build is written into the file.",
			Fix: "Write SOURCE_DATE_EPOCH instead: date -d @$SOURCE_DATE_EPOCH.",
		}}
	}
	object := func(b byte) []byte {
		data := append([]byte("\x7fELF\x02\x01\x01\x00"), make([]byte, 120)...)
		copy(data[64:], "GNU\x00\x12\x34\x56\x78\x9a\xbc\xde\xf0")
		data[68], data[71], data[72], data[73] = b, b+1, b^0x55, b+9
		return data
	}
	stat := func(kind, mode string, size int64, x *Excerpt) *Stat {
		return &Stat{Type: kind, Mode: mode, Size: size, Time: epoch.Format(time.RFC3339), Excerpt: x}
	}
	file := func(mode string, content string) *Stat {
		return stat("file", mode, int64(len(content)), excerptOf(content))
	}
	link := func(target string) *Stat {
		return &Stat{Type: "symlink", Mode: "777", Time: epoch.Format(time.RFC3339), Target: target}
	}
	log := func(clock, tail string) *Stat {
		const text = "Preparing to unpack\nUnpacking python3 (3.11.2-1)\nSetting up python3\nlog started 2026-11-23 %s\nrunning python rtupdate hooks\nProcessing triggers for libc-bin\nldconfig deferred\nok\ndone\n%s"
		return stat("file", "644", int64(214+len(tail)), &Excerpt{Line: 12, Offset: 480, Truncated: true, Data: fmt.Appendf(nil, text, clock, tail)})
	}
	later := file("755", string(object(0xf1)))
	later.Time = epoch.Add(21 * time.Second).Format(time.RFC3339)
	return &Report{
		Version: Version, Verb: "verify",
		Created: epoch.Add(35 * 24 * time.Hour), Dockerfile: "Dockerfile", Lockfile: "Dockerfile.lock", Epoch: epoch, Args: "5f2b8c01d9aa",
		Image: &Image{
			Digest: digest("index"), Index: digest("attested"), Names: []string{"registry.example.org/team/app:1.4"},
			Pins: []Pin{
				{"image", "docker.io/library/debian:bookworm-slim", digest("debian")},
				{"url", "https://example.org/releases/tool-2.1.tar.gz", digest("tool")},
				{"git", "https://example.org/team/lib.git#v3", "1f0c5a3e9d2b7c64f08e1a5d3b9c7e2f60a4d8b1"},
			},
			Normalised: map[string]map[string][]string{
				"linux/amd64": {"apt-logs": {"/var/log/apt/history.log", "/var/log/apt/term.log"}, "pyc-times": {"/srv/app/a.pyc"}},
				"linux/arm64": {"apt-logs": {"/var/log/apt/history.log"}},
			},
			Rules: map[string]string{"apt-logs": "Logs of apt are dropped. Nothing reads them.", "pyc-times": "The time in a .pyc follows its source."},
			Verdict: &Verdict{Varied: []string{"hostname", "cpus"}, Patch: patch, Platforms: []Platform{
				{Platform: "linux/amd64", First: digest("a"), Second: digest("b"), Layers: []Layer{
					{
						Index: 2, Line: 4, Instruction: "RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*",
						First: digest("c"), Second: digest("d"), Caches: []string{"/var/cache/apt", "/root/.cache"}, Files: []File{
							{Path: "/var/log/install.log", Change: Changed, What: []string{"content"},
								First: log("14:41:48", ""), Second: log("14:42:09", "one line more\n"),
								Causes: clock("line 15", "2026-11-23 14:41:48", "2026-11-23 14:42:09")},
							{Path: "/var/log", Change: Changed, What: []string{"mode"}, First: stat("directory", "755", 0, nil), Second: stat("directory", "777", 0, nil),
								Causes: []Cause{{Kind: "umask", Offset: -1, Count: 1, Why: "The umask of the step decides on the mode.", Fix: "Set the mode with chmod."}}},
							{Path: "/etc/machine-id", Change: Removed, First: file("444", "7d1f6ba2f6a64b8e9f0c2f7ad2f4f3b1\n"),
								Causes: []Cause{{Kind: "random", Count: 1, Why: "An id is drawn when the package is installed.", Fix: "Empty it: truncate -s 0 /etc/machine-id."}}},
						},
					},
					{
						Index: 3, Line: 6, Instruction: "RUN python3 setup.py build && date > /srv/built", First: digest("e"), Second: digest("f"), Patch: patch,
						From: []Origin{{3, "RUN make"}}, Files: []File{
							{Path: "/srv/built", Change: Changed, What: []string{"content"},
								First: file("644", "Mon Nov 23 14:41:48 UTC 2026\n"), Second: file("644", "Mon Nov 23 14:42:09 UTC 2026\n"),
								Causes: clock("line 1", "14:41:48", "14:42:09")},
							{Path: "/srv/app/build/lib/native.so", Change: Changed, What: []string{"content", "time"}, First: file("755", string(object(0x12))), Second: later,
								Causes: []Cause{{Kind: "build-id", Where: ".note.gnu.build-id", First: "12345678", Second: "f1f2f3f4", Count: 1, Why: "The build-id follows from other content that differs.", Fix: "Mend the other cause, or link with -Wl,--build-id=none."}}},
							{Path: "/srv/app/build/lib/\u202egnp.exe", Change: Added, Second: file("4755", "<script>alert(1)</script>")},
							{Path: "/srv/app/cache", Change: Changed, What: []string{"target"}, First: link("/tmp/build-8841"), Second: link("/tmp/build-9027"),
								Causes: []Cause{{Kind: "build-path", Offset: -1, Count: 1, First: "/tmp/build-8841", Second: "/tmp/build-9027", Why: "The file names a folder that has another name in each build.", Fix: "Build in a folder with a fixed name."}}},
							{Path: "/srv/app/requirements.txt", Change: Added},
						},
					},
					{Index: 4, First: digest("g"), Files: []File{}},
				}},
				{Platform: "linux/arm64", First: digest("arm"), Second: digest("arm"), Same: true},
				{Platform: "linux/riscv64", First: digest("x"), Second: digest("y")},
			}},
		},
	}
}

// compared is the report of two images that differ in every way.
func compared() *Report {
	files := example().Verdict.Platforms[0].Layers[1].Files
	return &Report{Version: Version, Verb: "diff", Diff: &Diff{
		First:  Side{"registry.example.org/app:1", digest("a"), "linux/amd64"},
		Second: Side{"registry.example.org/app:2", digest("b"), "linux/amd64"},
		Files:  files,
		Packages: []Package{
			{"deb", "tzdata", Changed, "2026b-0+deb12u1", "2026c-0+deb12u1"},
			{"pypi", "certifi", Added, "", "2026.11.2"},
		},
		Config:  []Setting{{"config.Env.BUILD_ID", Changed, "8841", "9027"}, {`config.Labels["a.b"]`, Removed, "x", ""}},
		History: []Step{{Index: 3, Second: &StepState{CreatedBy: "RUN <<EOF\nset -e\nEOF", Created: "2026-11-23T14:42:09Z"}}},
		Sizes:   &Sizes{First: 1000, Second: 2500, Layers: []LayerSize{{1, 1000, 2500}}},
		Layers:  []Layer{{Index: 1, First: digest("c"), Second: digest("d"), Files: files[:1]}, {Index: 2, Second: digest("e"), Files: []File{}}},
		Shared:  []string{digest("base")},
		Notes:   []string{"the packages of \"var/lib/rpm/rpmdb.sqlite\" could not be read: it is no database"},
	}}
}

// drifted is the report of an image that is beyond the thresholds.
func drifted() *Report {
	d := compared().Diff
	d.Layers, d.History, d.Shared, d.Notes, d.Sizes.Layers = []Layer{}, []Step{}, []string{}, nil, []LayerSize{}
	return &Report{Version: Version, Verb: "drift check", Drift: &Drift{
		Settings: "/src/kedge.toml", Diff: d, Apart: []File{{Path: "/data/x", Change: Added, Second: &Stat{Type: "file", Size: 5, Mode: "644"}}},
		Sources: []Setting{{"deb https://deb.example.org/debian x main", Added, "", "deb https://deb.example.org/debian x main"}},
		Reasons: []DriftReason{
			{"fail", "new setuid path: /srv/x|y", "", 0}, {"fail", "packages up by major: 2, at most 0: openssl 1 -> 3", "", 2}, {"warn", "ENV A changed: 1 -> 2", "the release of May", 0},
		},
		Counts: []DriftCount{{"per cent", "4.2", "10", false}, {"packages up by major", "2", "0", true}, {"files added", "3", "", false}},
	}}
}

// driftLog is a history of n builds.
func driftLog(n int) *Report {
	l := &DriftLog{Record: "Dockerfile.drift", Builds: []DriftBuild{}, Often: []DriftOften{{"package", "deb/openssl", n - 1, []DriftFinding{{"piped-shell", 4, n - 1}, {"prebuilt", 6, 1}}}, {"folder", "/usr/lib", n - 1, nil}}}
	for i := range n {
		b := DriftBuild{
			Commit: strings.Repeat(fmt.Sprintf("%04x", i), 10), Time: epoch.AddDate(0, 0, i), Subject: fmt.Sprintf("Build %d of <b>the</b> app", i), Digest: digest(fmt.Sprint(i)), Base: "debian 12",
			Size: 70_000_000 + int64(i%7)*1_000_000 + int64(i)*20_000, Download: 30_000_000 + int64(i)*10_000, Files: 4000 + i%13, Packages: 90 + i/50,
			Layers: []DriftLayer{{digest("base"), 60_000_000, "debootstrap"}, {digest(fmt.Sprint("l", i)), 10_000_000 + int64(i%7)*1_000_000, "RUN apt-get install -y openssl # buildkit"}}, Moved: []DriftMove{},
		}
		if i > 0 {
			b.Moved = []DriftMove{{"package", "deb/openssl", fmt.Sprintf("3.0.%d", i-1), fmt.Sprintf("3.0.%d", i), 0}, {Kind: "package", Name: "deb/new", Second: "1"}, {Kind: "folder", Name: "/usr/lib", Bytes: 1_000_000}, {Kind: "layer", Name: "RUN apt-get install -y openssl # buildkit", Bytes: -5}}
			b.Reason = "a security fix"
			b.Findings = []DriftFinding{{"piped-shell", 4, i}, {"prebuilt", 6, 1}}
		}
		l.Builds = append(l.Builds, b)
	}
	return &Report{Version: Version, Verb: "drift log", DriftLog: l}
}

// examples are reports of every kind, by the name of their golden files.
func examples() map[string]*Report {
	explained, once, same := compared(), example(), example()
	explained.Verb = "explain"
	once.Verb, once.Verdict, once.Created = "build", nil, time.Time{}
	same.Verdict = &Verdict{
		Reproducible: true, Platforms: []Platform{{Platform: "linux/amd64", First: digest("a"), Second: digest("a"), Same: true}},
		NotCovered: []Gap{{"download", 2, "may have downloaded what is not locked: apt-get update"}, {"git-dir", 0, "the context's .git"}},
		Builders:   []Builder{{"kedge's own", "v0.34.2", "linux/amd64", "6.18.5"}, {"tcp://build\x1b[2J.example", "", "linux/arm64", ""}},
	}
	rules := &Report{Version: Version, Verb: "explain", Image: &Image{Digest: once.Digest, Names: []string{}, Pins: []Pin{}, Normalised: once.Normalised, Rules: once.Rules}}
	side := Side{Digest: digest("a"), Platform: "linux/amd64"}
	return map[string]*Report{
		"drift": drifted(), "driftlog": driftLog(3),
		"promote": NewPromotion("registry.example.org/staging/app:1", "registry.example.org/app:1", digest("a"), true, []Condition{
			{"locked", true, "the lock was full"}, {"verified", false, "kedge has not verified this digest"},
		}),
		"verify": example(), "same": same, "build": once, "diff": compared(), "explain": explained, "rules": rules,
		"equal": {Version: Version, Verb: "diff", Diff: &Diff{
			Same: true, First: side, Second: side, Files: []File{}, Packages: []Package{}, Config: []Setting{}, History: []Step{}, Layers: []Layer{}, Shared: []string{digest("base")},
		}},
		"lock": {Version: Version, Verb: "lock", Lockfile: "Dockerfile.lock", Args: "5f2b8c01d9aa", Epoch: epoch, Lock: &Lock{
			Changed: true, Target: "app", Sources: 3, Changes: []LockChange{
				{Kind: "image", Ref: "docker.io/library/debian:bookworm-slim", New: digest("debian")},
				{Kind: "url", Ref: "https://example.org/tool.tar.gz", Old: digest("tool")},
				{Kind: "rules", Old: "1", New: "2"},
			},
		}},
		"refresh": {Version: Version, Verb: "lock", Lockfile: "Dockerfile.lock", Args: "5f2b8c01d9aa", Epoch: epoch, Lock: &Lock{
			Changed: true, Target: "app", Sources: 3, Changes: []LockChange{}, Downloads: refreshed(),
			Images: []ImageMove{{"docker.io/library/debian:bookworm-slim", digest("debian"), digest("newer"), []Package{{"deb", "libc6", Changed, "2.36-9", "2.36-10"}}}},
		}},
	}
}

// refreshed returns how a record of downloads changed: a host is new, a package moved, another was built again
// under its version, and an index and a page are answered otherwise.
func refreshed() *Downloads {
	const deb = "http://deb.example/pool/main/"
	add := func(r *network.Record, url string, status int, size int64, body string) {
		e := network.Entry{Method: "GET", URL: url, Status: status, Size: size}
		if status != 0 {
			e.Digest = godigest.FromString(body)
		}
		if _, err := r.Add(e); err != nil {
			panic(err)
		}
	}
	before, after := &network.Record{}, &network.Record{}
	if err := after.Allow("telemetry.example"); err != nil {
		panic(err)
	}
	add(before, deb+"curl_7.88.1-10_amd64.deb", 200, 300_000, "curl")
	add(after, deb+"curl_7.88.1-11_amd64.deb", 200, 300_100, "curl")
	add(before, "https://registry.example/left-pad/-/left-pad-1.0.0.tgz", 200, 9000, "pad")
	add(after, "https://registry.example/left-pad/-/left-pad-1.0.0.tgz", 200, 9500, "another pad")
	add(after, "https://elsewhere.example/@corp/secret/-/secret-99.0.0.tgz", 200, 1200, "surprise")
	add(before, "http://deb.example/InRelease", 200, 150_000, "index")
	add(after, "http://deb.example/InRelease", 200, 150_000, "another index")
	add(before, "http://deb.example/page", 404, 30, "none")
	add(after, "http://deb.example/page", 200, 3000, "page")
	add(before, "http://old.example/", 0, 0, "")
	return newDownloads(before, after)
}

func render(t testing.TB, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, HTML, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestGolden holds every format of every example. Pages leave out their style and script.
func TestGolden(t *testing.T) {
	short := strings.NewReplacer(style+historyStyle, "…", strings.ReplaceAll(html.EscapeString(sourceHash(style+historyStyle)), "+", "&#43;"), "…", style, "…", script, "…", policy(), "…",
		html.EscapeString(policy()), "…", strings.ReplaceAll(html.EscapeString(policy()), "+", "&#43;"), "…")
	for name, r := range examples() {
		for _, f := range []Format{Text, JSON, Markdown, HTML} {
			var b, again bytes.Buffer
			if err := errors.Join(Write(&b, f, r), Write(&again, f, r)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b.Bytes(), again.Bytes()) {
				t.Errorf("%s: the same report gives another %s", name, f)
			}
			got := b.String()
			if f == HTML {
				check(t, got)
				got = short.Replace(got)
			}
			golden := filepath.Join("testdata", name+"."+string(f))
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-update rewrites it):\n%s", golden, diff)
			}
		}
	}
}

func TestPageSaysTheOutcome(t *testing.T) {
	for name, want := range map[string]string{
		"same": "Identical", "equal": "Identical", "verify": "Not identical", "diff": "Not identical", "build": "Not verified", "lock": "Not verified", "drift": "Rejected",
	} {
		page := render(t, examples()[name])
		if !strings.Contains(page, want+"</strong>") {
			t.Errorf("the page of %s does not say %q", name, want)
		}
		if strings.Contains(page, `id="files"`) != (want == "Not identical" || want == "Rejected") {
			t.Errorf("the page of %s lists files, or does not", name)
		}
	}
	check(t, render(t, &Report{}))
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestWriteFails(t *testing.T) {
	boom := errors.New("boom")
	for _, f := range []Format{Text, JSON, Markdown, HTML} {
		if err := Write(failing{boom}, f, example()); !errors.Is(err, boom) {
			t.Errorf("%s: a writer that fails: %v", f, err)
		}
	}
	if err := Write(&bytes.Buffer{}, "xml", example()); err == nil {
		t.Error("a format that does not exist is written")
	}
}

// vectors would run, load or deceive if they were written as they are.
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

// hostile returns reports of every kind with every vector in every string.
func hostile() map[string]*Report {
	build := &Report{Version: Version, Verb: vectors[9], Dockerfile: vectors[3], Lockfile: vectors[7], Args: vectors[8], Created: epoch, Epoch: epoch}
	var files []File
	image, diff, lock := &Image{Verdict: &Verdict{}}, &Diff{}, &Lock{Target: vectors[0], Downloads: &Downloads{}}
	image.Digest, image.Index = vectors[0], vectors[1]
	image.Normalised, image.Rules = map[string]map[string][]string{}, map[string]string{}
	for _, v := range vectors {
		stat := func(tail string) *Stat {
			return &Stat{Type: v, Mode: v + tail, Size: -1, Time: v, Target: v + tail, Device: v, Excerpt: &Excerpt{Data: []byte(v + "\n" + v + tail), Offset: -5, Line: -1}}
		}
		cause := Cause{Kind: v, Where: v, Why: v, Fix: v, First: v, Second: v, Format: v, Clock: v}
		files = append(files,
			File{Path: v, Change: Change(v), What: []string{v, v, "type", "mode", "target"}, First: stat("1"), Second: stat("2"), Causes: []Cause{cause, cause}},
			File{Path: "dir/" + v, Change: Added, Second: stat("")},
			File{Path: v + "/x", Change: Removed, First: stat("")})
		layer := Layer{Index: 1, Line: 2, Instruction: v, First: v, Second: v, From: []Origin{{1, v}}, Caches: []string{v, v}, Files: []File{files[len(files)-3]}, Patch: v}
		image.Verdict.Platforms = append(image.Verdict.Platforms, Platform{Platform: v, First: v, Second: v + "x", Layers: []Layer{layer}})
		image.Verdict.Varied, image.Names = append(image.Verdict.Varied, v), append(image.Names, v)
		image.Verdict.Patch += "+" + v + "\n-" + v + "\n"
		image.Pins = append(image.Pins, Pin{v, v, v})
		image.Normalised[v], image.Rules[v] = map[string][]string{v: {v}}, v
		diff.Packages = append(diff.Packages, Package{v, v, Change(v), v, v})
		diff.Config = append(diff.Config, Setting{v, Change(v), v, v})
		diff.History = append(diff.History, Step{1, &StepState{v, v, v, v, false}, &StepState{v, v, v, v + "x", false}})
		diff.Layers = append(diff.Layers, layer)
		diff.Notes = append(diff.Notes, v)
		lock.Changes = append(lock.Changes, LockChange{v, v, v, v})
		lock.Images = append(lock.Images, ImageMove{v, v, v, []Package{{v, v, Change(v), v, v}}})
		d := lock.Downloads
		d.NewHosts, d.OldHosts, d.Allowed = append(d.NewHosts, v), append(d.OldHosts, v), append(d.Allowed, v)
		d.Packages = append(d.Packages, DownloadedPackage{Package{v, v, Change(v), v, v}, []string{v}})
		d.Others = append(d.Others, Download{Change(v), v, v, &Answer{Status: 999, Digest: v}, &Answer{Size: -1}})
	}
	diff.First, diff.Second, diff.Files = Side{vectors[0], vectors[1], vectors[2]}, Side{vectors[0], vectors[1], vectors[2]}, files
	image.Verdict.Platforms = append([]Platform{{Platform: "linux/amd64", First: digest("a"), Second: digest("b"),
		Layers: []Layer{{Index: 0, Instruction: vectors[0], Files: files}, {Index: 1, Line: -2, Instruction: vectors[8]}}}}, image.Verdict.Platforms...)
	with := func(verb string, set func(*Report)) *Report {
		r := *build
		r.Verb = verb
		set(&r)
		return &r
	}
	log := &DriftLog{Record: vectors[0]}
	conditions := []Condition{}
	driftOf := &Drift{Diff: diff, Settings: vectors[1]}
	for _, v := range vectors {
		log.Builds = append(log.Builds, DriftBuild{Commit: v, Subject: v, Reason: v, Digest: v, Base: v, Size: -1, Files: -1,
			Layers: []DriftLayer{{v, -1, v}}, Findings: []DriftFinding{{v, -1, -1}}, Moved: []DriftMove{{v, v, v, v, 1}, {"package", v, v, v, 0}, {"folder", v, "", "", -1}}})
		log.Often = append(log.Often, DriftOften{v, v, 1, []DriftFinding{{v, -1, -1}}})
		conditions = append(conditions, Condition{v, false, v})
		driftOf.Reasons = append(driftOf.Reasons, DriftReason{v, v, v, 1})
		driftOf.Counts = append(driftOf.Counts, DriftCount{v, v, v, true})
	}
	last := &log.Builds[len(log.Builds)-1]
	for _, v := range vectors {
		last.Layers = append(last.Layers, DriftLayer{v, 1, v})
	}
	setImage := func(r *Report) { r.Image = image }
	setDiff := func(r *Report) { r.Diff = diff }
	return map[string]*Report{
		"verify": with("verify", setImage), "rules": with("explain", func(r *Report) {
			r.Image = &Image{Digest: vectors[0], Normalised: image.Normalised, Rules: image.Rules}
		}),
		"diff": with("diff", setDiff), "explain": with("explain", setDiff), "lock": with("lock", func(r *Report) { r.Lock = lock }),
		"drift": with("drift check", func(r *Report) { r.Drift = driftOf }), "driftlog": with("drift log", func(r *Report) { r.DriftLog = log }),
		"promote": NewPromotion(vectors[0], vectors[1], vectors[2], false, conditions),
	}
}

func TestPageEscapes(t *testing.T) {
	for name, r := range hostile() {
		page := render(t, r)
		for _, f := range faults(page) {
			t.Errorf("%s: %s", name, f)
		}
		if name != "verify" {
			continue
		}
		// What is escaped can still be read.
		shown := said(t, page)
		for _, want := range []string{vectors[0], vectors[7], vectors[9], `{{.Script}}`, `\u202egnp.exe`, `\x00<script>`, `\u2028window`, `\ufeff`, `\U000e0041`, `\u3164`, `\x1b[31mred`, `\u009b`, `\xc0\xbc`, `a\r\nb\tc`} {
			if !strings.Contains(shown, want) {
				t.Errorf("%q is not shown", want)
			}
		}
	}
}

// controls are characters in text that a terminal may take for a command.
func controls(s string) (found []string) {
	for i, r := range s {
		if r != '\n' && (!unicode.IsPrint(r) || r == utf8.RuneError && !strings.HasPrefix(s[i:], "\ufffd")) {
			found = append(found, fmt.Sprintf("%U at %d: …%q", r, i, s[max(0, i-40):min(len(s), i+40)]))
		}
	}
	return found
}

// markups are what Markdown has that it should not: HTML that kedge does not write, and characters that begin
// code, links, mentions or another cell.
func markups(s string) (found []string) {
	rest := kedgeMarkup.ReplaceAllString(s, "")
	for _, bad := range []string{"<", "`", "](", "[", "](", "://", "@", "#", "_", "~", "\\", "www."} {
		if i := strings.Index(strings.ToLower(rest), bad); i >= 0 {
			found = append(found, fmt.Sprintf("%q: …%q", bad, rest[max(0, i-40):min(len(rest), i+40)]))
		}
	}
	for line := range strings.SplitSeq(rest, "\n") {
		if n := strings.Count(line, "|"); n != 0 && (!strings.HasPrefix(line, "|") || n < 4 || n > 7) {
			found = append(found, fmt.Sprintf("a row with %d bars: %q", n, line))
		}
	}
	return found
}

var kedgeMarkup = regexp.MustCompile(`</?(details|summary|code|pre)>|&#[0-9]+;`)

func TestTextAndMarkdownEscape(t *testing.T) {
	for name, r := range hostile() {
		var text, markdown bytes.Buffer
		if err := errors.Join(Write(&text, Text, r), Write(&markdown, Markdown, r)); err != nil {
			t.Fatal(err)
		}
		for _, f := range slices.Concat(controls(text.String()), controls(markdown.String()), markups(markdown.String())) {
			t.Errorf("%s: %s", name, f)
		}
	}
	// What the two must notice.
	for _, bad := range []string{"\x1b[2J", "\u202e", "\xff", "\u009b"} {
		if len(controls(bad)) == 0 {
			t.Errorf("%q is not noticed", bad)
		}
	}
	for _, bad := range []string{"<b>", "`x`", "[x](y)", "https://example.org", "@user", "#1", "| a | b | c | d | e | f | g |", "a|b"} {
		if len(markups(bad)) == 0 {
			t.Errorf("%q is not noticed", bad)
		}
	}
}

// TestTextLimits holds that a long list ends with a count.
func TestTextLimits(t *testing.T) {
	r := compared()
	r.Files, r.Layers = nil, nil
	for i := range maxPaths + 5 {
		r.Files = append(r.Files, File{Path: fmt.Sprint("/f", i), Change: Added, Second: &Stat{Type: "file"}})
	}
	var b bytes.Buffer
	if err := Write(&b, Text, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"different\n", "  files     25 added, +0B\n", "  added    /f0  (0B)\n", "  and 5 more (--format json has all)\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// A package stands for the paths that came or went with it, and a folder for those below it.
func TestExplainCondenses(t *testing.T) {
	files := []File{}
	add := func(change Change, pkg string, paths ...string) {
		for _, p := range paths {
			files = append(files, File{Path: p, Change: change, Package: pkg})
		}
	}
	add(Removed, "", "/a", "/a-b", "/a/x", "/a/x/y")
	add(Added, "", "/a/z")
	add(Removed, "jq", "/usr/bin/jq", "/usr/share/doc/jq")
	add(Added, "jq", "/usr/bin/jq2")
	add(Changed, "", "/v", "/v/w")
	r := &Report{Verb: "explain", Diff: &Diff{Files: files, Packages: []Package{{"deb", "jq", Removed, "1", ""}, {"deb", "new", Added, "", "2"}}}}
	var b strings.Builder
	if err := Write(&b, Text, r); err != nil {
		t.Fatal(err)
	}
	const want = `different: 10 files, 2 packages, 0 settings
    removed  deb   jq  1  (2 paths)
    added    deb   new  2
    removed  /a and 2 paths below it
    removed  /a-b
    added    /a/z
    added    /usr/bin/jq2
    changed  /v
    changed  /v/w
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestFileWords(t *testing.T) {
	f := File{
		Change: Changed, What: []string{"content", "mode", "owner"},
		First: &Stat{Type: "file", Size: 2, Mode: "644"}, Second: &Stat{Type: "file", Size: 3, Mode: "4777", UID: 5},
	}
	if got, want := f.words(), "content, +1B, mode 644 -> 4777, owner 0:0 -> 5:0, setuid, world-writable"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func check(t testing.TB, page string) {
	t.Helper()
	for _, f := range faults(page) {
		t.Error(f)
	}
}

// faults returns what no page may have: another script or style than the two that the policy names by their hash,
// an attribute that runs code, an address other than a fragment or https, a character that misleads.
func faults(page string) (found []string) {
	fault := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		return []string{err.Error()}
	}
	allowed := map[string]string{
		"html": "lang", "meta": "charset http-equiv content name", "section": "id class", "nav": "aria-label", "a": "href rel", "svg": "viewBox aria-hidden preserveAspectRatio role aria-label",
		"path": "d class", "rect": "x y width height", "ul": "class", "ol": "class", "time": "datetime", "th": "scope colspan class", "td": "data-l data-n class colspan", "table": "class", "details": "open class", "li": "id class", "div": "class id hidden", "bdi": "class", "b": "class",
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
			if n.Data != "title" || n.Namespace == "" { // a shape of an SVG may have one
				count[n.Data]++
			}
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
		if count[name] != 1 && (name != "script" || count[name] > 0 || strings.Contains(content, "script-src")) {
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
		if s == "" {
			continue
		}
		sum := sha256.Sum256([]byte(s))
		if !strings.Contains(content, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
			fault("the policy %q does not name what begins with %.40q", content, s)
		}
	}
	for i, r := range page {
		if r != '\n' && r != '\t' && !visibleRune(r, len(string(r))) {
			fault("%U at %d: …%q", r, i, page[max(0, i-40):min(len(page), i+40)])
			break
		}
	}
	return found
}

func TestFaults(t *testing.T) {
	pages := []string{render(t, example()), render(t, compared())}
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
		i := slices.IndexFunc(pages, func(page string) bool { return strings.Contains(page, old) })
		if i < 0 {
			t.Errorf("no page has %q", old)
		} else if found := faults(strings.Replace(pages[i], old, new, 1)); len(found) == 0 {
			t.Errorf("%q is not noticed", new)
		}
	}
}

// said returns the text of a page.
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

// large is a report of n files in nested folders.
func large(n int) *Report {
	files := make([]File, n)
	for i := range files {
		v := func(s string) *Stat {
			return &Stat{Type: "file", Mode: "644", Size: int64(1000 + i), Time: epoch.Format(time.RFC3339), Excerpt: &Excerpt{Data: fmt.Appendf(nil, "line one\nbuilt at %s by %d\nthe last line\n", s, i)}}
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
	return &Report{Dockerfile: "large", Created: epoch, Image: &Image{Verdict: &Verdict{Platforms: []Platform{{
		Platform: "linux/amd64", First: digest("a"), Second: digest("b"), Layers: []Layer{{Index: 1, Line: 2, Instruction: "RUN make install", Files: files}},
	}}}}}
}

func TestPageIsBounded(t *testing.T) {
	noise := bytes.Repeat([]byte("\x00<\u202e>\xff&"), 4000)
	bomb := large(40_000)
	links := &Stat{Target: string(noise), Excerpt: &Excerpt{Data: noise}}
	layer := &bomb.Verdict.Platforms[0].Layers[0]
	bomb.Verdict.Patch = strings.Repeat("+<&\u202e\n", 10_000)
	layer.Patch = bomb.Verdict.Patch
	for i := range layer.Files {
		f := &layer.Files[i]
		f.Path = fmt.Sprintf("%d/%s", i, strings.Repeat("<&\u202e/", 200))
		f.First = links
		f.Second = &Stat{Excerpt: &Excerpt{Data: []byte("\n")}}
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
	for _, want := range []string{"that the page has no room for", "shown without excerpts", "bytes …", "more bytes"} {
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

func FuzzWrite(f *testing.F) {
	for _, v := range vectors {
		f.Add(v, []byte(v), []byte(v+"x"))
	}
	f.Add("a/b", []byte("\x7fELF\x02"), []byte("\x7fELF\x01\x00"))
	f.Add("a/b", []byte("one\ntwo\nthree"), []byte("one\nTwo\nthree\n"))
	f.Fuzz(func(t *testing.T, s string, first, second []byte) {
		r := &Report{Dockerfile: s, Lockfile: s, Image: &Image{Names: []string{s}, Verdict: &Verdict{Varied: []string{s}, Patch: s, NotCovered: []Gap{{s, 1, s}}, Platforms: []Platform{{
			Platform: s, First: s, Layers: []Layer{{Line: 1, Instruction: s, Patch: s, Caches: []string{s}, Files: []File{{
				Path: s, What: []string{s}, Causes: []Cause{{Kind: s, Where: s, Why: s, Fix: s, First: s, Second: s}},
				First: &Stat{Target: s, Excerpt: &Excerpt{Data: first}}, Second: &Stat{Excerpt: &Excerpt{Data: second}},
			}}}},
		}}}}}
		check(t, render(t, r))
		var text, markdown bytes.Buffer
		if err := errors.Join(Write(&text, Text, r), Write(&markdown, Markdown, r)); err != nil {
			t.Fatal(err)
		}
		for _, f := range slices.Concat(controls(text.String()), controls(markdown.String()), markups(markdown.String())) {
			t.Error(f)
		}
	})
}
