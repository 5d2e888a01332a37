package drift

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/pelletier/go-toml/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var now = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// base is what the images of TestJudge come from.
func baseItems() []item {
	return []item{
		{name: "usr/lib/os-release", content: osRelease}, {name: "etc/apt/sources.list", content: "deb http://deb.example.org/debian bookworm main\n"},
		{name: "var/lib/dpkg/status", content: status("openssl", "3.0.1-1", "libc6", "2.36-9", "zlib", "1:1.2.13")},
		{name: "app/data", content: strings.Repeat("x", 9000)}, {name: "bin/su", content: "su", mode: 0o4755}, {name: "tmp/", mode: 0o1777}, {name: "bin/ls", content: "ls", mode: 0o755},
	}
}

func status(pairs ...string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		b.WriteString("Package: " + pairs[i] + "\nVersion: " + pairs[i+1] + "\n\n")
	}
	return b.String()
}

// TestJudge has a planted drift for every reason, and beside it the nearest one that is none.
func TestJudge(t *testing.T) {
	config := v1.Config{User: "app", Env: []string{"A=1", "PATH=/bin"}, Entrypoint: []string{"/app"}, Cmd: []string{"a"}, ExposedPorts: map[string]struct{}{"80/tcp": {}}, Volumes: map[string]struct{}{"/data": {}}}
	with := func(edit func(*v1.Config)) v1.Config {
		c := *config.DeepCopy()
		edit(&c)
		return c
	}
	first := record(t, image(t, config, baseItems()))
	for _, test := range []struct {
		name     string
		config   v1.Config
		layer    []item
		settings string
		want     []string // what the reasons contain, in their order; fail unless it begins with "warn"
	}{
		{name: "nothing", config: config},
		{name: "a file", config: config, layer: []item{{name: "app/b", content: "b"}}},
		{name: "a setuid file", config: config, layer: []item{{name: "bin/x", content: "x", mode: 0o4755}}, want: []string{"new setuid path: /bin/x"}},
		{name: "a file becomes setgid", config: config, layer: []item{{name: "bin/ls", content: "ls", mode: 0o2755}}, want: []string{"new setgid path: /bin/ls"}},
		{name: "another content of a setuid file", config: config, layer: []item{{name: "bin/su", content: "so", mode: 0o4755}}},
		{name: "a setgid folder", config: config, layer: []item{{name: "srv/", mode: 0o2755}}},
		{name: "capabilities", config: config, layer: []item{{name: "bin/ls", content: "ls", mode: 0o755, xattrs: map[string]string{"security.capability": "x"}}}, want: []string{"new capabilities path: /bin/ls"}},
		{name: "another xattr", config: config, layer: []item{{name: "bin/ls", content: "ls", mode: 0o755, xattrs: map[string]string{"user.x": "x"}}}},
		{name: "a world-writable file", config: config, layer: []item{{name: "app/w", content: "w", mode: 0o666}}, want: []string{"new world-writable path: /app/w"}},
		{name: "a world-writable folder", config: config, layer: []item{{name: "app/", mode: 0o1777}}, want: []string{"new world-writable path: /app"}},
		{name: "a symlink", config: config, layer: []item{{name: "app/l", link: "/etc"}}},
		{name: "another user", config: with(func(c *v1.Config) { c.User = "root" }), want: []string{"USER changed: app -> root"}},
		{name: "no user", config: with(func(c *v1.Config) { c.User = "" }), want: []string{"USER removed"}},
		{name: "another entrypoint", config: with(func(c *v1.Config) { c.Entrypoint = nil }), want: []string{"ENTRYPOINT removed"}},
		{name: "another env", config: with(func(c *v1.Config) { c.Env = []string{"A=2", "PATH=/bin"} }), want: []string{"ENV A changed: 1 -> 2"}},
		{name: "env in another order", config: with(func(c *v1.Config) { c.Env = []string{"PATH=/bin", "A=1"} })},
		{name: "another command", config: with(func(c *v1.Config) { c.Cmd = []string{"b"} })},
		{name: "a port", config: with(func(c *v1.Config) { c.ExposedPorts = map[string]struct{}{"80/tcp": {}, "81/tcp": {}} }), want: []string{"port 81/tcp added"}},
		{name: "a distribution", config: config, layer: []item{{name: "usr/lib/os-release", content: "ID=debian\nVERSION_ID=13\n"}}, want: []string{"base distribution changed: debian 12 -> debian 13"}},
		{name: "a source", config: config, layer: []item{{name: "etc/apt/sources.list.d/x.list", content: "deb https://evil.example.org x y"}}, want: []string{"new source of packages: deb https://evil.example.org x y"}},
		{name: "no source", config: config, layer: []item{{name: "etc/apt/.wh.sources.list"}}},
		{name: "a major version", config: config, layer: []item{{name: "var/lib/dpkg/status", content: status("openssl", "4.0.1-1", "libc6", "2.36-9", "zlib", "1:1.2.13")}},
			want: []string{"packages up by major: 1, at most 0: openssl 3.0.1-1 -> 4.0.1-1"}},
		{name: "a minor version", config: config, layer: []item{{name: "var/lib/dpkg/status", content: status("openssl", "3.1.1-1", "libc6", "2.36-9", "zlib", "1:1.2.13")}}},
		{name: "a lower version", config: config, layer: []item{{name: "var/lib/dpkg/status", content: status("openssl", "3.0.1~rc1-1", "libc6", "2.36-9", "zlib", "1:1.2.13")}},
			want: []string{"packages down: 1, at most 0: openssl 3.0.1-1 -> 3.0.1~rc1-1"}},
		{name: "too many packages", config: config, layer: []item{{name: "var/lib/dpkg/status", content: status("a", "1", "b", "1")}}, settings: "[drift]\npackages-added = 1\npackages-removed = 3\n",
			want: []string{"packages added: 2, at most 1: a 1, b 1"}},
		{name: "growth", config: config, layer: []item{{name: "app/b", content: strings.Repeat("b", 2000)}}, want: []string{"size: +2kB (21."}},
		{name: "growth by bytes", config: config, layer: []item{{name: "app/b", content: strings.Repeat("b", 2000)}}, settings: "[drift]\npercent = \"any\"\nbytes = \"1kB\"\n",
			want: []string{"bytes: +2kB, at most 1kB; the most in /app: +2kB"}},
		{name: "growth within", config: config, layer: []item{{name: "app/b", content: strings.Repeat("b", 2000)}}, settings: "[drift]\npercent = 22.5\nbytes = 2000\n"},
		{name: "shrinking", config: config, layer: []item{{name: "app/.wh.data"}}, want: []string{"size: -9kB (9"}},
		{name: "files", config: config, layer: []item{{name: "a", content: "1"}, {name: "b", content: "1"}, {name: "bin/ls", content: "sl", mode: 0o755}},
			settings: "[drift]\nfiles-added = 1\nfiles-changed = 0\nfiles-removed = 0\n", want: []string{"files changed: 1, at most 0", "files added: 2, at most 1"}},
		{name: "in a volume", config: config, layer: []item{{name: "data/x", content: strings.Repeat("b", 9000)}}, settings: "[drift]\nfiles-added = 1\n"},
		{name: "beside a volume", config: config, layer: []item{{name: "database", content: strings.Repeat("b", 9000)}}, want: []string{"size: +9kB"}},
		{name: "setuid in a volume", config: config, layer: []item{{name: "data/x", content: "x", mode: 0o4755}}, want: []string{"new setuid path: /data/x"}},
		{name: "in a tmpfs", config: config, layer: []item{{name: "run/x", content: strings.Repeat("b", 9000)}}, settings: "[drift]\ntmpfs = [\"/run\"]\n"},
		{name: "an ignored path", config: config, layer: []item{{name: "app/b", content: strings.Repeat("b", 9000)}},
			settings: "[[drift.path]]\nmatch = \"/app\"\nlevel = \"ignore\"\nreason = \"r\"\n"},
		{name: "a rule that has ended", config: config, layer: []item{{name: "app/b", content: strings.Repeat("b", 9000)}},
			settings: "[[drift.path]]\nmatch = \"app/*\"\nlevel = \"ignore\"\nreason = \"r\"\nuntil = 2026-11-28\n", want: []string{"size: +9kB", "warn the rule for path app/* ended on 2026-11-28"}},
		{name: "a rule on its last day", config: config, layer: []item{{name: "app/b", content: strings.Repeat("b", 9000)}},
			settings: "[[drift.path]]\nmatch = \"app/*\"\nlevel = \"ignore\"\nreason = \"r\"\nuntil = 2026-11-29\n"},
		{name: "more than is allowed", config: config, layer: []item{{name: "app/b", content: strings.Repeat("b", 9000)}},
			settings: "[[drift.path]]\nmatch = \"app\"\nlevel = \"allow\"\nbytes = \"1kB\"\nreason = \"r\"\n", want: []string{"path app: 1 differ, by 9kB in all, more than is allowed"}},
		{name: "what is allowed", config: config, layer: []item{{name: "app/b", content: strings.Repeat("b", 9000)}},
			settings: "[[drift.path]]\nmatch = \"app\"\nlevel = \"allow\"\nbytes = \"9kB\"\nfiles = 1\nreason = \"r\"\n"},
		{name: "a path that must not move", config: config, layer: []item{{name: "bin/ls", content: "sl", mode: 0o755}},
			settings: "[[drift.path]]\nmatch = \"bin/l*\"\nlevel = \"fail\"\nreason = \"r\"\n", want: []string{"path bin/l*: 1 differ"}},
		{name: "a path to warn of", config: config, layer: []item{{name: "bin/ls", content: "sl", mode: 0o755}},
			settings: "[[drift.path]]\nmatch = \"bin/l*\"\nlevel = \"warn\"\nreason = \"r\"\n", want: []string{"warn path bin/l*: 1 differ"}},
		{name: "setuid is never silent", config: config, layer: []item{{name: "bin/x", content: "x", mode: 0o4755}},
			settings: "[[drift.path]]\nmatch = \"**/x\"\nlevel = \"ignore\"\nreason = \"r\"\n", want: []string{"warn new setuid path: /bin/x"}},
		{name: "an env to warn of", config: with(func(c *v1.Config) { c.Env = []string{"A=2", "PATH=/"} }),
			settings: "[[drift.setting]]\nmatch = \"config.Env.A*\"\nlevel = \"warn\"\nreason = \"r\"\n", want: []string{"ENV PATH changed", "warn ENV A changed"}},
		{name: "a package to keep", config: config, layer: []item{{name: "var/lib/dpkg/status", content: status("openssl", "3.0.1-2", "libc6", "2.36-9", "zlib", "1:1.2.13")}},
			settings: "[[drift.package]]\nmatch = \"deb/open*\"\nlevel = \"fail\"\nreason = \"r\"\n", want: []string{"package openssl 3.0.1-1 -> 3.0.1-2"}},
		{name: "a package up to minor", config: config, layer: []item{{name: "var/lib/dpkg/status", content: status("openssl", "3.1.0-1", "libc6", "3.0-9", "zlib", "1:1.2.13")}},
			settings: "[[drift.package]]\nmatch = \"*\"\nlevel = \"allow\"\nup = \"minor\"\nreason = \"r\"\n", want: []string{"package libc6 2.36-9 -> 3.0-9, and up by minor is allowed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := ParseSettings("kedge.toml", []byte(test.settings))
			if err != nil {
				t.Fatal(err)
			}
			layers := [][]item{baseItems()}
			if test.layer != nil {
				layers = append(layers, test.layer)
			}
			v := Judge(Compare(first, record(t, image(t, test.config, layers...)), s.Tmpfs), s, now)
			within := true
			if len(v.Reasons) != len(test.want) {
				t.Fatalf("reasons %+v, want %q", v.Reasons, test.want)
			}
			for i, want := range test.want {
				text, warn := strings.CutPrefix(want, "warn ")
				within = within && warn
				if r := v.Reasons[i]; !strings.Contains(r.Text, text) || (r.Level == Warn) != warn {
					t.Errorf("reason %d is %+v, want %q", i, r, want)
				}
			}
			if v.Within != within {
				t.Errorf("within: %v", v.Within)
			}
		})
	}
}

func TestStep(t *testing.T) {
	for _, test := range []struct {
		kind, from, to string
		want           Step
	}{
		{"deb", "1.2.3-1", "2.0-1", Major}, {"deb", "1:1.2", "2:1.2", Major}, {"deb", "1.2.3-1", "1.3-1", Minor}, {"deb", "1.2.3-1", "1.2.4-1", Patch},
		{"deb", "1.2.3-1", "1.2.3-1+deb12u1", Patch}, {"deb", "1.2.3-2", "1.2.3-1", Down}, {"deb", "2.0~rc1", "2.0", Patch}, {"deb", "2.0", "2.0~rc1", Down},
		{"deb", "1.10", "1.9", Down}, {"deb", "1.9", "1.10", Minor}, {"deb", "1.0", "1.00", ""}, {"deb", "1.0", "0:1.0", ""},
		{"npm", "1.2.3", "2.0.0-rc.1", Major}, {"npm", "2.0.0-rc.1", "2.0.0", Patch}, {"npm", "1.0.0+a", "1.0.0+b", ""},
		{"golang", "v1.2.3", "v1.3.0", Minor}, {"golang", "go1.26.1", "go1.26.2", Patch}, {"golang", "v0.0.0-20240101000000-abcdef", "v0.0.0-20250101000000-abcdef", Patch},
		{"pypi", "", "1", Major}, {"apk", "1.2.3-r0", "1.2.3-r1", Patch}, {"deb", "20240101", "20250101", Major},
	} {
		if got := step(test.kind, test.from, test.to); got != test.want {
			t.Errorf("%s %s -> %s: %q, want %q", test.kind, test.from, test.to, got, test.want)
		}
	}
}

func FuzzStep(f *testing.F) {
	f.Add("1:1.2-3", "1.2~rc1")
	f.Fuzz(func(t *testing.T, a, b string) {
		if compareVersions("deb", a, b) != -compareVersions("deb", b, a) || compareVersions("npm", a, a) != 0 {
			t.Errorf("%q and %q have no order", a, b)
		}
		step("deb", a, b)
	})
}

func TestSettingsRefused(t *testing.T) {
	cases := map[string]string{
		"[drift]\npercnt = 1":                                             `kedge.toml:2: unknown key "drift.percnt"`,
		"[drift":                                                          "kedge.toml:1: ",
		"[drift]\npercent = -1":                                           "drift.percent is not a number",
		"[drift]\npercent = \"much\"":                                     "drift.percent is not a number",
		"[drift]\npercent = nan":                                          "drift.percent is not a number",
		"[drift]\nbytes = \"ten\"":                                        "drift.bytes is not a size",
		"[drift]\nbytes = -1":                                             "drift.bytes is not a size",
		"[drift]\nfiles-added = 1.5":                                      "drift.files-added is not a number",
		"[drift]\ntmpfs = [\"run\"]":                                      `kedge.toml:2: drift.tmpfs has "run", which is not the absolute path`,
		"[[drift.path]]\nmatch = \"a\"":                                   "kedge.toml:1: [[drift.path]]: it has no reason",
		"[[drift.path]]\nreason = \"r\"":                                  "match says what it is about",
		rule("path", "level = \"maybe\""):                                 `level "maybe" is not`,
		rule("path", "level = \"ignore\"\nfiles = 1"):                     "only a rule of level allow has a limit",
		rule("path", "level = \"allow\"\nup = \"minor\""):                 "up is a limit of packages",
		rule("package", "level = \"allow\"\nfiles = 1"):                   "limits of paths",
		rule("package", "level = \"allow\"\nup = \"down\""):               "is not major, minor or patch",
		rule("setting", "level = \"ignore\""):                             "never ignored",
		rule("path", "level = \"allow\"\nfiles = -1"):                     "files is not a number",
		"[[drift.path]]\nmatch = \"[\"\nlevel = \"warn\"\nreason = \"r\"": "match \"[\"",
		rule("path", "level = \"warn\"\nuntil = \"soon\""):                "kedge.toml:5: ",
		"[drift]\nperCent = 1":                                            `kedge.toml:2: unknown key "perCent"`,
		"drift = 3":                                                       `kedge.toml:1: unexpected TOML integer for "drift"`,
		"[lnt]":                                                           "kedge.toml:1: unknown key",
		"[drift]\ntmpfs = \"/run\"":                                       "kedge.toml:2: ",
		"[drift]\npackages-added = -1\n" + rule("path", "level = \"allow\"") + "\n" + rule("path", "level = \"maybe\""): "kedge.toml:2: drift.packages-added is not a number from 0, or \"any\"\nkedge.toml:7: [[drift.path]]: level \"maybe\"",
		rule("path", "level = \"allow\"\nbytes = true"):                                                                 "kedge.toml:1: [[drift.path]]: bytes is not a size",
		rule("package", "level = 1"):                     "kedge.toml:4: ",
		rule("package", "level = \"allow\"\nup = true"):  "kedge.toml:5: ",
		"[[drift.setting]]\nmatch = 1":                   "kedge.toml:2: ",
		"[[drift.setting]]\nmatch = \"a\"\nreason = [1]": "kedge.toml:3: ",
		"drift = 1": "kedge.toml:1: ",
	}
	for _, key := range []string{"percent", "bytes", "files-added", "files-removed", "files-changed", "packages-added", "packages-removed", "packages-major", "packages-minor", "packages-patch", "packages-down"} {
		for _, value := range []string{"true", "[1]", "\"none\"", "2026-01-01"} {
			cases["[drift]\n# the threshold\n "+key+" = "+value] = "kedge.toml:3: drift." + key + " is not a "
		}
		for _, value := range []string{"0", "7", "\"any\""} {
			if _, err := ParseSettings("kedge.toml", []byte("[drift]\n"+key+" = "+value)); err != nil {
				t.Errorf("%s = %s: %v", key, value, err)
			}
		}
	}
	for text, want := range cases {
		_, err := ParseSettings("kedge.toml", []byte(text))
		var bad *FormatError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func rule(kind, rest string) string {
	return "[[drift." + kind + "]]\nmatch = \"a\"\nreason = \"r\"\n" + rest
}

func FuzzSettings(f *testing.F) {
	f.Add([]byte(rule("path", "level = \"allow\"\nfiles = 1\nuntil = 2026-01-01")))
	f.Add([]byte("[drift]\npercent = 1.5\nbytes = \"20MB\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSettings("kedge.toml", text)
		if err == nil {
			Judge(Compare(&Record{}, &Record{Files: []File{{Path: "/a", Type: "file"}}}, s.Tmpfs), s, now)
		}
	})
}

// TestSchema holds what docs/drift.md shows to docs/kedge.schema.json and to the defaults.
func TestSchema(t *testing.T) {
	page, err := os.ReadFile("../docs/drift.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "```toml\n")
	text, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatal("docs/drift.md shows no settings")
	}
	s, err := ParseSettings("kedge.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultSettings()
	want.Tmpfs, want.Rules = s.Tmpfs, s.Rules
	if len(s.Rules) != 4 || !reflect.DeepEqual(s, want) {
		t.Errorf("docs/drift.md shows %+v, the defaults are %+v", s, want)
	}
	schema := testenv.Schema(t, "../docs/kedge.schema.json")
	for text, valid := range map[string]bool{
		text: true, "": true, "[drift]\nbytes = 5\npercent = \"any\"": true, "[drift]\npercent = -1": false, "[drift]\nfiles = 1": false,
		rule("setting", "level = \"ignore\""): false, rule("path", "level = \"warn\"\nup = \"minor\""): false, "[[drift.path]]\nmatch = \"a\"\nlevel = \"warn\"": false,
	} {
		var doc map[string]any
		if err := toml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		err = schema.Validate(value)
		_, parsed := ParseSettings("kedge.toml", []byte(text))
		if (err == nil) != valid || (parsed == nil) != valid {
			t.Errorf("%q: the schema says %v, and kedge %v", text, err, parsed)
		}
	}
}
