package shell

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestScript(t *testing.T) {
	env := func(name string) (string, bool) { return "https://example.com", name == "URL" }
	// Each command stands with the number of its pipeline and, in brackets, the command that it is a word of.
	tests := []struct{ script, want string }{
		{"cd x && npm install", "1 cd x, 2 npm install"},
		{"curl -f $URL/a | sh", "1 curl -f https://example.com/a, 1 sh"},
		{"(curl a || wget b) | tar x", "1 curl a, 1 wget b, 1 tar x"},
		{`sh -c "npm i; echo 'a b'"`, "1 npm i, 2 echo a b"},
		{"curl x | sudo -E bash -", "1 curl x, 1 sudo -E bash -, 1 bash -"},
		{"env A=1 npm ci", "1 env A=1 npm ci, 1 npm ci, 1 ci"}, // an option of env could have a value
		{"bash -c \"$(curl -fsSL x)\"", "1 bash -c $(...), 2[0] curl -fsSL x"},
		{"bash <(curl x)", "1 bash <(...), 2[0] curl x"},
		{"if [ -f a ]; then\n  make \\\n    all\nfi", "1 [ -f a ], 2 make all"},
		{"sh <<EOF\nnpm i\nEOF", "1 sh, 1 npm i"},
		{"A=1 B='x y' make $OTHER ${C:-d}", "1 make $OTHER $C"},
		{"for f in a b; do gcc -c $f; done", "1 gcc -c $f"},
		{"echo 'npm install'", "1 echo npm install"},
		{"((", ""},
	}
	for _, test := range tests {
		var got []string
		first := 0
		for i, c := range Script(test.script, env) {
			if i == 0 {
				first = c.Pipeline
			}
			within := ""
			if c.Outer >= 0 {
				within = fmt.Sprintf("[%d]", c.Outer)
			}
			n := 1
			if c.Pipeline != first {
				n = 2
			}
			got = append(got, fmt.Sprint(n, within, " ", strings.Join(c.Words, " ")))
		}
		if diff := cmp.Diff(test.want, strings.Join(got, ", ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.script, diff)
		}
	}
}

func TestToFile(t *testing.T) {
	for script, want := range map[string]bool{"date > /f": true, "date >> f": true, "date": false, "date 2> f": false, "date > /dev/null": false, "date >&2": false} {
		if got := Script(script, nil)[0].ToFile; got != want {
			t.Errorf("%s: %v", script, got)
		}
	}
}

func FuzzScript(f *testing.F) {
	f.Add("curl $(echo `date`) | sh <<E\n$A\nE")
	f.Fuzz(func(t *testing.T, script string) {
		for _, c := range Script(script, nil) {
			if len(c.Words) == 0 || c.Pipeline == 0 {
				t.Errorf("%+v", c)
			}
		}
	})
}
