package frontend

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/moby/buildkit/frontend/subrequests/outline"
)

func TestArgs(t *testing.T) {
	arg := func(name, value string) outline.Arg { return outline.Arg{Name: name, Value: value} }
	tests := []struct {
		name  string
		args  []outline.Arg
		given map[string]string
		want  []Arg
	}{
		{"none", nil, nil, nil},
		{"sorted", []outline.Arg{arg("b", "2"), arg("B", "1"), arg("a", "")}, nil, []Arg{{"B", "1"}, {"a", ""}, {"b", "2"}}},
		{"once", []outline.Arg{arg("A", "1"), arg("A", "1")}, nil, []Arg{{"A", "1"}}},
		{"given", []outline.Arg{arg("A", "1")}, map[string]string{"A": "1", "UNUSED": "2"}, []Arg{{"A", "1"}}},
		{"proxies", []outline.Arg{arg("HTTP_PROXY", "x"), arg("https_proxy", "x"), arg("no_proxy", "x"), arg("ALL_PROXY", "x"), arg("FTP_PROXY", "x")},
			map[string]string{"HTTP_PROXY": "x", "https_proxy": "x"}, nil},
		{"near a proxy", []outline.Arg{arg("HTTP_PROXY_HOST", "x"), arg("MY_HTTP_PROXY", "x")}, nil, []Arg{{"HTTP_PROXY_HOST", "x"}, {"MY_HTTP_PROXY", "x"}}},
		{"epoch", []outline.Arg{arg("SOURCE_DATE_EPOCH", "1")}, map[string]string{"SOURCE_DATE_EPOCH": "1"}, nil},
		{"near the epoch", []outline.Arg{arg("source_date_epoch", "1")}, nil, []Arg{{"source_date_epoch", "1"}}},
		{"platform", []outline.Arg{arg("TARGETARCH", "arm64"), arg("BUILDPLATFORM", "linux/amd64"), arg("TARGETSTAGE", "x")}, nil, nil},
		{"platform given", []outline.Arg{arg("TARGETARCH", "arm64")}, map[string]string{"TARGETARCH": "arm64"}, []Arg{{"TARGETARCH", "arm64"}}},
		{"near a platform", []outline.Arg{arg("targetarch", "x"), arg("TARGETARCHS", "x")}, nil, []Arg{{"TARGETARCHS", "x"}, {"targetarch", "x"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			data, err := json.Marshal(outline.Outline{Args: test.args})
			if err != nil {
				t.Fatal(err)
			}
			got, err := Args(data, test.given)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestArgsOfBuildKit reads an outline that BuildKit wrote, so that it does not depend on this version's type.
func TestArgsOfBuildKit(t *testing.T) {
	got, err := Args([]byte(`{"name":"app","args":[{"name":"V","desc":"what","value":"1","location":{"sourceIndex":0,"ranges":[{"start":{"line":2},"end":{"line":2}}]}}],"sources":["RlJPTSB4"],"later":{}}`), nil)
	if diff := cmp.Diff([]Arg{{"V", "1"}}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for _, broken := range []string{"", "null-", `{"args":{}}`, `{"args":[{"name":1}]}`} {
		if got, err := Args([]byte(broken), nil); err == nil {
			t.Errorf("%q: %v", broken, got)
		}
	}
}

// The hashes are those that the command in the comment of Hash prints. Images in registries have them in
// their tags: if a hash changes, the code is wrong and not this table.
func TestHash(t *testing.T) {
	tests := []struct {
		args []Arg
		want string
	}{
		{nil, "e3b0c44298fc"},
		{[]Arg{{"A", ""}}, "cf676eaab85f"},
		{[]Arg{{"A", "1"}}, "1c178ab3ab63"},
		{[]Arg{{"A", "1"}, {"B", "2"}}, "22ee4d94a93a"},
		{[]Arg{{"B", "2"}, {"A", "1"}}, "22ee4d94a93a"},
		{[]Arg{{"a", "1"}, {"A", "1"}}, "ef758d3cd027"},
		{[]Arg{{"VERSION", "1.2.3"}}, "bde2605cccb1"},
		{[]Arg{{"A_B", "4"}, {"A.B", "3"}, {"A-", "2"}, {"A", "1"}}, "788b14abd45a"},
		{[]Arg{{"A", "two words"}}, "b526a1539354"},
		{[]Arg{{"A", "two\nlines"}}, "96977df75a2d"},
		{[]Arg{{"A", "É"}}, "229751766ec2"},
		{[]Arg{{"URL", "https://example.com/?a=b&c=d"}, {"EMPTY", ""}}, "dd40161543b3"},
	}
	for _, test := range tests {
		if got := Hash(test.args); got != test.want {
			t.Errorf("%q: %s, want %s", test.args, got, test.want)
		}
	}
}

// Sets that look alike have different hashes.
func TestHashTellsApart(t *testing.T) {
	seen := map[string][]Arg{}
	for _, args := range [][]Arg{
		nil, {{"A", ""}}, {{"", ""}}, {{"A", "1"}}, {{"A", "1 "}}, {{"A1", ""}}, {{"A", "1"}, {"B", "2"}}, {{"A", "1B=2"}}, {{"A", "1\nB=2"}},
		{{"A", "2"}, {"B", "1"}}, {{"B", "2"}}, {{"a", "1"}},
	} {
		hash := Hash(args)
		if other, ok := seen[hash]; ok {
			t.Errorf("%v and %v are both %s", other, args, hash)
		}
		seen[hash] = args
	}
}

// TestHashIsThatOfTheCommand runs the command in the comment of Hash.
func TestHashIsThatOfTheCommand(t *testing.T) {
	testenv.Require(t, "sh", "sort", "sha256sum", "head")
	tests := [][]Arg{
		{{"A", "1"}, {"B", "2"}},
		{{"B", "2"}, {"A", "1"}},
		{{"A", ""}},
		{{"a", "1"}, {"B", "2"}, {"_", "3"}, {"A-", "4"}, {"A", "5"}, {"A.B", "6"}},
		{{"A", "two\nlines\n"}, {"A\n", "x"}},
		{{"A", `a b'c"d\n%s$HOME`}, {"É", "\xff\x01"}},
		{{"A", "1"}, {"A", "1"}},
	}
	for _, args := range tests {
		cmd := exec.Command("sh", "-c", `printf '%s\0' "$@" | LC_ALL=C sort -z | sha256sum | head -c 12`, "sh")
		for _, a := range args {
			cmd.Args = append(cmd.Args, a.Name+"="+a.Value)
		}
		want, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := Hash(args); got != string(want) {
			t.Errorf("%q: %s, the command says %s", args, got, want)
		}
	}
}

// FuzzHash looks for two different sets of build args with the same hash.
func FuzzHash(f *testing.F) {
	f.Add("A=1 B=2", "A=1", "B=2")
	f.Add("A=1", "A=1 ", "")
	f.Add("A=", "A", "=")
	read := func(s string) []Arg {
		var args []Arg
		for word := range strings.SplitSeq(s, " ") {
			if name, value, ok := strings.Cut(word, "="); ok {
				args = append(args, Arg{name, value})
			}
		}
		return args
	}
	lines := func(args []Arg) []string {
		var lines []string
		for _, a := range args {
			lines = append(lines, a.Name+"="+a.Value)
		}
		slices.Sort(lines)
		return lines
	}
	f.Fuzz(func(t *testing.T, first, second, third string) {
		if strings.Contains(first+second+third, "\x00") {
			return // no process can be given one
		}
		a, b := read(first), append(read(second), read(third)...)
		if same := slices.Equal(lines(a), lines(b)); same != (Hash(a) == Hash(b)) {
			t.Errorf("%q and %q: %s and %s", a, b, Hash(a), Hash(b))
		}
	})
}
