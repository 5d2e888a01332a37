package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.jsonl")
	with := map[string]string{"kedge": "kedge version 1"}
	results := []result{
		{Context: "a", Date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Seconds: 1.5,
			BuildKit: &outcome{Digests: []string{"sha256:1", "sha256:2"}},
			Kedge:    &outcome{Same: true, Verdict: []byte(`{"reproducible":true}`)}},
		{Context: "b", Kedge: &outcome{Error: "E: no"}},
	}
	done, r, err := openRecord(path, false, with)
	if err != nil {
		t.Fatal(err)
	}
	if len(done) != 0 {
		t.Errorf("a new record has %d results", len(done))
	}
	for _, res := range results {
		if err := r.append(res); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.file.WriteString(`{"context":"cut sh`); err != nil {
		t.Fatal(err)
	}
	r.Close()

	if _, _, err := openRecord(path, false, with); !errors.Is(err, os.ErrExist) {
		t.Errorf("an existing record was overwritten: %v", err)
	}
	if _, _, err := openRecord(path, true, map[string]string{"kedge": "kedge version 2"}); err == nil {
		t.Error("a record of another version was continued")
	}
	done, r, err = openRecord(path, true, with)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]result{"a": results[0], "b": results[1]}
	if diff := cmp.Diff(want, done); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	again := result{Context: "b", Kedge: &outcome{Same: true}}
	if err := r.append(again); err != nil {
		t.Fatal(err)
	}
	r.Close()
	want["b"] = again // the last line for a context counts
	if done, r, err = openRecord(path, true, with); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if diff := cmp.Diff(want, done); diff != "" {
		t.Errorf("results after the cut line (-want +got):\n%s", diff)
	}
}

// An image that is replayed offline is compared with the one that was built, and a failure says why.
func TestOffline(t *testing.T) {
	built := []string{"sha256:1"}
	for _, test := range []struct {
		replayed string
		err      error
		want     *outcome
	}{
		{"sha256:1", nil, &outcome{Same: true, Digests: []string{"sha256:1", "sha256:1"}}},
		{"sha256:2", nil, &outcome{Digests: []string{"sha256:1", "sha256:2"}}},
		{"", &commandError{errors.New("exit status 4"), "kedge: not locked\nhint: lock it\n"}, &outcome{Error: "not locked"}},
	} {
		if diff := cmp.Diff(test.want, offline(built, test.replayed, test.err)); diff != "" {
			t.Errorf("%q, %v (-want +got):\n%s", test.replayed, test.err, diff)
		}
	}
	for text, ok := range map[string]bool{`{"digest":"sha256:1","verdict":{}}`: true, `{"verdict":{}}`: false, `x`: false} {
		if _, err := parseAnswer([]byte(text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Only what keys, certificates and databases explain differs by design.
func TestDesign(t *testing.T) {
	for verdict, want := range map[string]bool{
		``: false, `{"platforms":[{"same":true}]}`: false, `{"platforms":[{"same":false}]}`: false,
		`{"platforms":[{"layers":[{"paths":[{"path":"/k","causes":[{"kind":"ssh-key"}]}]}]}]}`:                                                                              true,
		`{"platforms":[{"layers":[{"paths":[{"path":"/k","causes":[{"kind":"ssh-key"}]},{"path":"/etc/shadow","causes":[{"kind":"random","format":"password hash"}]}]}]}]}`: true,
		`{"platforms":[{"layers":[{"paths":[{"path":"/k","causes":[{"kind":"ssh-key"}]},{"path":"/t","causes":[{"kind":"timestamp"}]}]}]}]}`:                                false,
		`{"platforms":[{"layers":[{"paths":[{"path":"/db/a","causes":[{"kind":"database"}]},{"path":"/db/b/c"}]}]}]}`:                                                       true,
		`{"platforms":[{"layers":[{"paths":[{"path":"/a","causes":[{"kind":"database"}]},{"path":"/b","causes":[{"kind":"uuid"}]}]}]}]}`:                                    false,
		`{"platforms":[{"layers":[{"paths":[{"path":"/k","causes":[{"kind":"private-key"}]}]},{"paths":[]}]}]}`:                                                             false,
		`{"platforms":[{"layers":[{"paths":[{"path":"/k","causes":[{"kind":"private-key"}]}]},{"paths":[{"path":"/t","causes":[{"kind":"file-time"}]}]}]}]}`:                false,
	} {
		got, err := left([]byte(verdict))
		if err != nil || got.design != want {
			t.Errorf("%s: %v, %v", verdict, got, err)
		}
	}
}

func TestReadRecordRefuses(t *testing.T) {
	const first = `{"kedge":"1"}` + "\n"
	for name, content := range map[string]string{
		"no versions":     `[]` + "\n",
		"other versions":  `{"kedge":"2"}` + "\n",
		"a result first":  `{"context":"a"}` + "\n",
		"no JSON":         first + "a\n",
		"no context":      first + `{"seconds":1}` + "\n",
		"a list of lines": first + `[{"context":"a"}]` + "\n",
	} {
		if done, _, err := readRecord(strings.NewReader(content), map[string]string{"kedge": "1"}); err == nil {
			t.Errorf("%s: read as %v", name, done)
		}
	}
}

func TestPrintTable(t *testing.T) {
	verdict := []byte(`{"reproducible":false,"platforms":[{"layers":[
		{"paths":[{"path":"/var/log/b","causes":[{"kind":"timestamp"},{"kind":"timestamp"}]},{"path":"/etc/a","causes":[{"kind":"uuid"}]}]},
		{"paths":[{"path":"/etc/a"},{"path":"/c|d","causes":[{"kind":"timestamp"},{"kind":"random"}]},{"path":"/e"}]}]}]}`)
	designed := []byte(`{"platforms":[{"layers":[{"paths":[{"path":"/etc/a.pem","causes":[{"kind":"certificate"},{"kind":"unknown"}]},
		{"path":"/var/lib/s/ibdata1","causes":[{"kind":"database"}]},{"path":"/var/lib/s/m/t.frm","causes":[{"kind":"timestamp"}]}]}]}]}`)
	for _, test := range []struct {
		name    string
		results []result
		want    string
	}{
		{"both", []result{
			{Context: "c/same", BuildKit: &outcome{Same: true}, Kedge: &outcome{Same: true}, Offline: &outcome{Same: true}},
			{Context: "c/differs", BuildKit: &outcome{}, Kedge: &outcome{Verdict: verdict}},
			{Context: "c/kedge fails", BuildKit: &outcome{}, Kedge: &outcome{Error: "oh"}},
			{Context: "c/config", BuildKit: &outcome{Error: "flaky"}, Kedge: &outcome{Verdict: []byte(`{"platforms":[{},{"layers":[{"paths":[]}]}]}`)}},
			{Context: "c/neither", BuildKit: &outcome{Error: "E: no"}, Kedge: &outcome{Error: "E: no\n2"}},
			{Context: "d/server", Kedge: &outcome{Verdict: designed}},
			{Context: "d/moved", Kedge: &outcome{Same: true}, Offline: &outcome{}},
			{Context: "d/asks", Kedge: &outcome{Same: true}, Offline: &outcome{Error: "not locked"}},
		}, `| context       | builds    | identical with BuildKit's own means | identical with kedge | replayed offline   | differs by design | what is left                                          | causes                                            |
| ---           | ---       | ---                                 | ---                  | ---                | ---               | ---                                                   | ---                                               |
| c/same        | yes       | yes                                 | yes                  | yes                |                   |                                                       |                                                   |
| c/differs     | yes       | no                                  | no                   |                    |                   | 4: /c\|d, /e, /etc/a, …                               | timestamp 2, random 1, uuid 1                     |
| c/kedge fails | yes       | no                                  | failed: oh           |                    |                   |                                                       |                                                   |
| c/config      | yes       | failed: flaky                       | no                   |                    |                   | 2: (config), (order)                                  |                                                   |
| c/neither     | no: E: no |                                     |                      |                    |                   |                                                       |                                                   |
| d/server      | yes       |                                     | no                   |                    | yes               | 3: /etc/a.pem, /var/lib/s/ibdata1, /var/lib/s/m/t.frm | certificate 1, database 1, timestamp 1, unknown 1 |
| d/moved       | yes       |                                     | yes                  | no                 |                   |                                                       |                                                   |
| d/asks        | yes       |                                     | yes                  | failed: not locked |                   |                                                       |                                                   |

8 contexts, 7 build. Identical, of what builds:

- with BuildKit's own means: 1 of 4, 25.0 %
- with kedge: 3 of 7, 42.9 %; by design different: 1; replayed offline: 1 of 3, 33.3 %
  - c: 1 of 4, 25.0 %; replayed offline: 1 of 1, 100.0 %
  - d: 2 of 3, 66.7 %; by design different: 1; replayed offline: 0 of 2, 0.0 %
`},
		{"kedge alone", []result{{Context: "a", Kedge: &outcome{Same: true}}}, `| context | builds | identical with BuildKit's own means | identical with kedge | replayed offline | differs by design | what is left | causes |
| ---     | ---    | ---                                 | ---                  | ---              | ---               | ---          | ---    |
| a       | yes    |                                     | yes                  |                  |                   |              |        |

1 contexts, 1 build. Identical, of what builds:

- with kedge: 1 of 1, 100.0 %
`},
		{"nothing builds", []result{{Context: "a", Kedge: &outcome{Error: "x"}}}, `| context | builds | identical with BuildKit's own means | identical with kedge | replayed offline | differs by design | what is left | causes |
| ---     | ---    | ---                                 | ---                  | ---              | ---               | ---          | ---    |
| a       | no: x  |                                     |                      |                  |                   |              |        |

1 contexts, 0 build. Identical, of what builds:

- with kedge: none builds
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got bytes.Buffer
			if err := printTable(&got, test.results); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got.String()); diff != "" {
				t.Errorf("table (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReason(t *testing.T) {
	exit := errors.New("running kedge: exit status 1")
	for _, test := range []struct {
		name, stderr, want string
	}{
		{"the first error of a step", `#5 [2/2] RUN apt-get install -y error: x
#5 0.412 Reading package lists...
#5 0.913 E: Unable to locate package nosuch
#5 0.914 E: Couldn't find any package by glob 'nosuch'
#5 ERROR: process "/bin/sh -c apt-get" did not complete successfully: exit code: 100
kedge: building: failed
hint: no
`, "E: Unable to locate package nosuch"},
		{"an image", "#2 [internal] load metadata\n#2 ERROR: docker.io/library/a:1: not found\nerror: failed to solve\n",
			"ERROR: docker.io/library/a:1: not found"},
		{"kedge's own word", "kedge: \"Dockerfile\": no stage \"x\"\nhint: there is \"y\"\n", `"Dockerfile": no stage "x"`},
		{"the last line", "#1 DONE 0.1s\nerror: connection refused\n\n", "error: connection refused"},
		{"nothing said", "", "running kedge: exit status 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := reason(&commandError{exit, test.stderr}); got != test.want {
				t.Errorf("reason = %q, want %q", got, test.want)
			}
		})
	}
	if got := reason(errors.New("not built within 1m")); got != "not built within 1m" {
		t.Errorf("reason of a timeout = %q", got)
	}
}

func TestFindContexts(t *testing.T) {
	root := filepath.Join(t.TempDir(), "some")
	for _, name := range []string{"Dockerfile", "b/Dockerfile", "a/x/Dockerfile", "a/x/file", "a/.git/Dockerfile", "c/Dockerfile/file"} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := findContexts([]string{root}, "")
	if err != nil {
		t.Fatal(err)
	}
	want := []buildContext{{"some", root}, {"some/a/x", filepath.Join(root, "a/x")}, {"some/b", filepath.Join(root, "b")}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(buildContext{})); diff != "" {
		t.Errorf("findContexts (-want +got):\n%s", diff)
	}
	if _, err := findContexts([]string{root, root}, ""); err == nil {
		t.Error("two contexts of one name")
	}
	if _, err := findContexts([]string{filepath.Join(root, "c")}, ""); err == nil {
		t.Error("a folder without a Dockerfile is a corpus")
	}
}

func TestPackages(t *testing.T) {
	packages, err := findContexts([]string{"packages"}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) != 50 {
		t.Errorf("%d packages, want 50", len(packages))
	}
	i := slices.IndexFunc(packages, func(c buildContext) bool { return c.name == "packages/nginx" })
	if i < 0 {
		t.Fatal("no packages/nginx")
	}
	content, err := os.ReadFile(filepath.Join(packages[i].dir, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	want := "FROM debian:bookworm-slim\nRUN apt-get update && apt-get install -y --no-install-recommends nginx\n"
	if diff := cmp.Diff(want, string(content)); diff != "" {
		t.Errorf("Dockerfile (-want +got):\n%s", diff)
	}
}

func TestPackagesOfRelease(t *testing.T) {
	both, err := findContexts([]string{"packages", "packages:sid"}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"packages/nginx": "FROM debian:bookworm-slim\n", "packages:sid/nginx": "FROM debian:sid-slim\n"} {
		i := slices.IndexFunc(both, func(c buildContext) bool { return c.name == name })
		if i < 0 {
			t.Fatalf("no %s", name)
		}
		content, err := os.ReadFile(filepath.Join(both[i].dir, "Dockerfile"))
		if err != nil || !strings.HasPrefix(string(content), want) {
			t.Errorf("%s: %q, %v", name, content, err)
		}
	}
	for _, arg := range []string{"packages:", "packages:buster", "packages:12"} {
		if _, err := findContexts([]string{arg}, t.TempDir()); err == nil || !strings.Contains(err.Error(), "is not bullseye") {
			t.Errorf("%s: %v", arg, err)
		}
	}
}

// The applications need no images but Debian's, which are the only ones in the registry.
func TestApps(t *testing.T) {
	apps, err := findContexts([]string{"apps"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(apps, func(c buildContext) bool { return c.name == "apps/planted" }) || len(apps) < 15 {
		t.Errorf("%d applications", len(apps))
	}
	for _, app := range apps {
		content, err := os.ReadFile(filepath.Join(app.dir, "Dockerfile"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			if image, ok := strings.CutPrefix(line, "FROM "); ok && strings.Fields(image)[0] != "debian:bookworm-slim" {
				t.Errorf("%s starts from %s", app.name, image)
			}
		}
	}
}
