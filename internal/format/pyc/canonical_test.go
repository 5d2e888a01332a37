package pyc

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// compiler compiles a module with sets of strings, numbers, bytes and tuples with a seed, holds on to objects of it
// or not, and prints what its code means.
const compiler = `
import marshal, sys, importlib._bootstrap_external as b
source = '''
def f(x, *, y=(1, 2)):
    "doc"
    def g(): return x in {"alpha", "beta", "gamma", "delta", b"e", 7, 1.5, 2**70, None, ("t", "u"), ("alpha", 3)}
    return g, x in {"one", "two", "three", "four"}, {"k": "one"}, y
class C:
    two = f("two", y=...)
    names = [n for n in ("one", "two") if n in {"one", "two", "a longer name, which is not an identifier"}]
'''
code = compile(source, "/m.py", "exec", dont_inherit=True)
data = b._code_to_timestamp_pyc(code, 1, 2)
sys.stdout.buffer.write(data)
`

const reader39 = `
import marshal, sys
def norm(x):
    if hasattr(x, "co_code"):
        return ("code", [norm(getattr(x, n)) for n in ("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_nlocals", "co_stacksize", "co_flags",
            "co_code", "co_consts", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_filename", "co_name", "co_firstlineno", "co_lnotab")])
    if isinstance(x, tuple): return ("tuple", [norm(y) for y in x])
    if isinstance(x, frozenset): return ("set", sorted(repr(norm(y)) for y in x))
    return (type(x).__name__, repr(x))
print(norm(marshal.loads(sys.stdin.buffer.read()[16:])))
`

// pythons returns the programs of the versions whose files have another order in each process.
func pythons(t *testing.T) []string {
	var found []string
	for _, name := range []string{"python3.8", "python3.9", "python3.10"} {
		if p, err := exec.LookPath(name); err == nil && exec.Command(p, "-c", "").Run() == nil {
			found = append(found, p)
		}
	}
	return found
}

func python(t *testing.T, program, seed, script string, stdin []byte) []byte {
	t.Helper()
	cmd := exec.Command(program, "-S", "-c", script)
	cmd.Env = []string{"PYTHONHASHSEED=" + seed}
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Files of every seed have one form, which Python reads as the same code.
func TestCanonicalOfPython(t *testing.T) {
	found := pythons(t)
	if len(found) == 0 {
		t.Skip("there is no Python 3.8, 3.9 or 3.10: TestCanonical has files of theirs")
	}
	for _, program := range found {
		want, means := "", ""
		raw := map[string]bool{}
		for _, seed := range []string{"0", "1", "2", "3", "4"} {
			content := python(t, program, seed, compiler, nil)
			got := Canonical(content)
			raw[string(content)] = true
			if again := Canonical(got); !bytes.Equal(got, again) {
				t.Errorf("%s: another form the second time", program)
			}
			meaning := string(python(t, program, "0", reader39, got))
			if before := string(python(t, program, "0", reader39, content)); before != meaning {
				t.Errorf("%s: %s became %s", program, before, meaning)
			}
			if want == "" {
				want, means = string(got), meaning
			}
			if string(got) != want || meaning != means {
				t.Errorf("%s: seed %s has another form", program, seed)
			}
		}
		if len(raw) < 2 {
			t.Errorf("%s writes one form by itself", program)
		}
	}
}

// samples are files that Python 3.9 compiled from one source with different seeds.
func samples(t testing.TB) [][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/*.pyc")
	if err != nil || len(names) < 2 {
		t.Fatalf("%q, %v", names, err)
	}
	var all [][]byte
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, content)
	}
	return all
}

func TestCanonical(t *testing.T) {
	all := samples(t)
	want := Canonical(all[0])
	for i, content := range all {
		got := Canonical(content)
		if !bytes.Equal(got, want) || i > 0 && bytes.Equal(content, all[0]) {
			t.Errorf("file %d", i)
		}
		// What is cut off or followed by something, or of another version, stays.
		for _, n := range []int{0, 15, 16, 17, 40, len(content) - 1} {
			if got := Canonical(content[:n]); !bytes.Equal(got, content[:n]) {
				t.Errorf("%d bytes changed", n)
			}
		}
		longer := append(bytes.Clone(content), 'N')
		if got := Canonical(longer); !bytes.Equal(got, longer) {
			t.Error("a file with more behind its code changed")
		}
		for _, magic := range []string{"\xa7\x0d", "\x42\x0d"} {
			other := append([]byte(magic), content[2:]...)
			if got := Canonical(other); !bytes.Equal(got, other) {
				t.Errorf("a file of version %q changed", magic)
			}
		}
		// Each other set is another form.
		other := bytes.Replace(content, []byte("gamma"), []byte("gamme"), 1)
		if got := Canonical(other); bytes.Equal(got, want) || !strings.Contains(string(got), "gamme") {
			t.Error("another element is the same")
		}
	}
}

func FuzzCanonical(f *testing.F) {
	for _, content := range samples(f) {
		f.Add(content)
	}
	f.Add([]byte("\x61\x0d\r\n\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\xe3" + strings.Repeat("\x00", 24) + ">\x02\x00\x00\x00r\x00\x00\x00\x00N"))
	f.Fuzz(func(t *testing.T, content []byte) {
		before := bytes.Clone(content)
		got := Canonical(content)
		if !bytes.Equal(before, content) {
			t.Fatal("the content changed in place")
		}
		if again := Canonical(got); !bytes.Equal(got, again) {
			t.Fatalf("%q became %q", got, again)
		}
	})
}
