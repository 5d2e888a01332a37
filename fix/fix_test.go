package fix

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kedge-build/kedge/cause"
)

func TestPatch(t *testing.T) {
	stamp := []cause.Cause{{Kind: cause.Timestamp, Format: "date"}}
	header := func(format string) []cause.Cause { return []cause.Cause{{Kind: cause.ArchiveHeader, Format: format}} }
	kind := func(k cause.Kind) []cause.Cause { return []cause.Cause{{Kind: k}} }
	tex := []cause.Cause{{Kind: cause.HashOrder, Format: "TeX tree"}}
	for _, c := range []struct {
		name   string
		causes []cause.Cause
		run    string // an instruction, which begins on line 3
		want   string // the same, patched; "" if there is no patch
	}{
		{"date", stamp, "RUN date > /f", `RUN date -u -d "@$SOURCE_DATE_EPOCH" > /f`},
		{"date in a substitution", stamp, `RUN echo "built $(date +%F)" > /f`, `RUN echo "built $(date -u -d "@$SOURCE_DATE_EPOCH" +%F)" > /f`},
		{"date -u", stamp, "RUN date -u +%s > /f", `RUN date -d "@$SOURCE_DATE_EPOCH" -u +%s > /f`},
		{"date -Iseconds", stamp, "RUN date -Iseconds > /f", `RUN date -u -d "@$SOURCE_DATE_EPOCH" -Iseconds > /f`},
		{"date of something", stamp, "RUN date -d 2020-01-01 > /f", ""},
		{"date in some days", stamp, "RUN date -d '+30 days' +%F > /f", `RUN date -d "$(date -u -d "@$SOURCE_DATE_EPOCH" +%F) +30 days" +%F > /f`},
		{"date of yesterday", stamp, "RUN date -u -d yesterday > /f", `RUN date -u -d "$(date -u -d "@$SOURCE_DATE_EPOCH" +%F) yesterday" > /f`},
		{"date in an hour", stamp, "RUN date -d '+1 hour' > /f", ""},
		{"date of a file", stamp, "RUN date -r /etc/passwd > /f", ""},
		{"a word", stamp, "RUN echo date > /f", ""},
		{"another command", stamp, "RUN update-date > /f", ""},
		{"in single quotes", stamp, "RUN echo '$(date)' > /f", ""},
		{"another cause", kind(cause.Order), "RUN date > /f", ""},
		{"no cause", nil, "RUN date > /f", ""},
		{"exec form", stamp, `RUN ["date"]`, ""},
		{"other instruction", stamp, "CMD date", ""},
		{"no shell", stamp, "RUN date > (", ""},
		{
			"continued", stamp, "RUN apt-get update && \\\n    # now\n    date > /f && \\\n    true",
			"RUN apt-get update && \\\n    # now\n    date -u -d \"@$SOURCE_DATE_EPOCH\" > /f && \\\n    true",
		},
		{"flags", stamp, "RUN --mount=type=cache,target=/date --network=none date > /f", `RUN --mount=type=cache,target=/date --network=none date -u -d "@$SOURCE_DATE_EPOCH" > /f`},
		{"heredoc", stamp, "RUN <<EOF\nset -e\ndate > /f\nEOF", "RUN <<EOF\nset -e\ndate -u -d \"@$SOURCE_DATE_EPOCH\" > /f\nEOF"},
		{"flags on lines of their own", stamp, "RUN --network=none \\\n    --mount=type=cache,target=/date \\\n    date > /f", "RUN --network=none \\\n    --mount=type=cache,target=/date \\\n    date -u -d \"@$SOURCE_DATE_EPOCH\" > /f"},
		{"lines of Windows", stamp, "RUN true && \\\r\n    date > /f\r", "RUN true && \\\r\n    date -u -d \"@$SOURCE_DATE_EPOCH\" > /f\r"},
		{"a word over two lines", stamp, "RUN da\\\nte > /f; date > /g", ""},
		{"heredoc without its tabs", stamp, "RUN <<-EOF\n\tdate > /f\n\tEOF", "RUN <<-EOF\n\tdate -u -d \"@$SOURCE_DATE_EPOCH\" > /f\n\tEOF"},
		{"heredoc for another program", stamp, "RUN <<EOF\n#!/usr/bin/env python3\ndate\nEOF", ""},
		{"heredoc beside a command", stamp, "RUN cat <<A > /f && date > /g\nx\nA", "RUN cat <<A > /f && date -u -d \"@$SOURCE_DATE_EPOCH\" > /g\nx\nA"},
		{"heredoc for a command", stamp, "RUN cat <<EOF > /f\ndate\nEOF", ""},
		{"two", stamp, "RUN date > /a; date > /b", `RUN date -u -d "@$SOURCE_DATE_EPOCH" > /a; date -u -d "@$SOURCE_DATE_EPOCH" > /b`},

		{"RANDOM", kind(cause.Random), "RUN echo $RANDOM > /f", "RUN echo $((SOURCE_DATE_EPOCH % 32768)) > /f"},
		{"RANDOM with operators", kind(cause.Random), "RUN echo ${RANDOM:0:2} > /f", ""},
		{"another variable", kind(cause.Random), "RUN echo $RANDOMIZE > /f", ""},
		{"uuidgen", kind(cause.UUID), "RUN uuidgen > /f", `RUN uuidgen --sha1 --namespace @dns --name "$SOURCE_DATE_EPOCH" > /f`},
		{
			"two uuids", kind(cause.UUID), "RUN uuidgen -r > /f; uuidgen > /g",
			`RUN uuidgen --sha1 --namespace @dns --name "$SOURCE_DATE_EPOCH" > /f; uuidgen --sha1 --namespace @dns --name "$SOURCE_DATE_EPOCH-2" > /g`,
		},
		{"uuids in a loop", kind(cause.UUID), "RUN for i in 1 2; do touch /$(uuidgen); done", ""},
		{"uuid before a loop", kind(cause.UUID), "RUN uuidgen > /f; for i in 1 2; do cat /f; done", `RUN uuidgen --sha1 --namespace @dns --name "$SOURCE_DATE_EPOCH" > /f; for i in 1 2; do cat /f; done`},
		{"mktemp in a loop", kind(cause.TempName), "RUN while read l; do F=$(mktemp); done < /x", ""},
		{"RANDOM in a function", kind(cause.Random), "RUN f() { echo $RANDOM; }; f > /a; f > /b", ""},
		{"date in a loop", kind(cause.Timestamp), "RUN for i in 1 2; do date; done > /f", `RUN for i in 1 2; do date -u -d "@$SOURCE_DATE_EPOCH"; done > /f`},
		{"uuid of a name", kind(cause.UUID), "RUN uuidgen --sha1 --namespace @dns --name x > /f", ""},
		{"mktemp -d", kind(cause.TempName), "RUN D=$(mktemp -d) && cd $D", "RUN D=$(mkdir -p -m 700 /tmp/build && echo /tmp/build) && cd $D"},
		{"mktemp", kind(cause.TempName), "RUN F=$(mktemp)", "RUN F=$(: > /tmp/build.tmp && echo /tmp/build.tmp)"},
		{"mktemp with a template", kind(cause.TempName), "RUN F=$(mktemp /x/XXXX)", ""},
		{"mktemp alone", kind(cause.TempName), "RUN mktemp -d > /f", ""},

		{"gzip", header("gzip mtime"), "RUN gzip -9 /f", "RUN gzip -n -9 /f"},
		{"gzip -n", header("gzip mtime"), "RUN gzip -9n /f", ""},
		{"gunzip", header("gzip mtime"), "RUN gzip -d /f.gz", ""},
		{
			"tar", header("tar mtime"), "RUN tar -czf /x.tgz /src",
			`RUN tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -czf /x.tgz /src`,
		},
		{
			"tar czf", []cause.Cause{{Kind: cause.Order, Format: "tar members"}}, "RUN tar czf /x.tgz --owner=0 /src",
			`RUN tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --group=0 --numeric-owner -czf /x.tgz --owner=0 /src`,
		},
		{"tar cfz", header("tar mtime"), "RUN tar cfz /x.tgz /src", ""},
		{"tar x", header("tar mtime"), "RUN tar xzf /x.tgz", ""},
		{"tar of another archive", header("zip mtime"), "RUN tar czf /x.tgz /src", ""},
		{"zip", header("zip extra field"), "RUN zip -r /x.zip /src", "RUN TZ=UTC zip -X -r /x.zip /src"},
		{
			"zip mtime", header("zip mtime"), "RUN cd /y && zip -rq /x.zip a b",
			`RUN cd /y && find a b -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} + && TZ=UTC zip -X -rq /x.zip a b`,
		},
		{"zip after ||", header("zip mtime"), "RUN false || zip -rq /x.zip a b", ""},
		{"ar", header("ar mtime"), "RUN ar rcs lib.a *.o", "RUN ar rcsD lib.a *.o"},
		{"ar D", header("ar mtime"), "RUN ar rcD lib.a *.o", ""},
		{"ar x", header("ar mtime"), "RUN ar x lib.a", ""},
		{"cpio", header("cpio mtime"), "RUN find . | cpio -o -H newc > /x", "RUN find . | cpio --reproducible -o -H newc > /x"},
		{"cpio -i", header("cpio mtime"), "RUN cpio -i < /x", ""},
		{"compileall", kind(cause.Pyc), "RUN python3 -m compileall /app", "RUN python3 -m compileall --invalidation-mode checked-hash /app"},
		{"python", kind(cause.Pyc), "RUN python3 setup.py", ""},
		{"hash seed", kind(cause.HashOrder), "RUN python3.11 gen.py > /f", "RUN PYTHONHASHSEED=0 python3.11 gen.py > /f"},
		{"hash seed, sudo", kind(cause.HashOrder), "RUN sudo python3 gen.py > /f", "RUN sudo PYTHONHASHSEED=0 python3 gen.py > /f"},
		{"hash seed, command", kind(cause.HashOrder), "RUN command python3 gen.py > /f", "RUN PYTHONHASHSEED=0 command python3 gen.py > /f"},
		{"TeX", tex, "RUN apt-get update && apt-get install -y texlive-base", "RUN apt-get update && PERL_HASH_SEED=0 apt-get install -y texlive-base"},
		{"TeX's formats", tex, "RUN fmtutil-sys --all", "RUN PERL_HASH_SEED=0 fmtutil-sys --all"},
		{"LuaTeX alone", []cause.Cause{{Kind: cause.HashOrder, Format: "LuaTeX format"}}, "RUN apt-get install -y texlive-base", ""},
		{"hash seed set", kind(cause.HashOrder), "RUN PYTHONHASHSEED=1 python3 gen.py > /f", ""},
		{"find", kind(cause.Order), "RUN find . -type f > /f", "RUN find . -type f | LC_ALL=C sort > /f"},
		{"find in a pipe", kind(cause.Order), "RUN find . -print0 | xargs -0 cat > /f", "RUN find . -print0 | LC_ALL=C sort -z | xargs -0 cat > /f"},
		{"sorted", kind(cause.Order), "RUN find . -type f | sort > /f", ""},
		{"find -exec", kind(cause.Order), "RUN find . -type f -exec rm {} +", ""},
		{"ls", kind(cause.Order), "RUN ls > /f", ""},
		{"ls -U", kind(cause.Order), "RUN ls -U > /f", "RUN ls -U | LC_ALL=C sort > /f"},
		{"sort", kind(cause.LocaleOrder), "RUN find . | sort > /f", "RUN find . | LC_ALL=C sort > /f"},
		{"sort in C", kind(cause.LocaleOrder), "RUN find . | LC_ALL=C sort > /f", ""},
		{"openssl", kind(cause.PrivateKey), "RUN openssl req -x509 -newkey rsa:2048 -nodes -out c.pem", ""},
		{"gcc", kind(cause.CompilerDate), "RUN gcc -o x x.c", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			const head, tail = "FROM debian\nENV A=b\n", "\nRUN echo end\n"
			before := head + c.run + tail
			got, ok := Patch("Dockerfile", []byte(before), Step{3, c.causes})
			if ok != (c.want != "") || !ok && got != "" {
				t.Fatalf("ok %v, %s", ok, got)
			}
			if !ok {
				return
			}
			if diff := cmp.Diff(head+c.want+tail, applied(t, before, got)); diff != "" {
				t.Errorf("(-want +got):\n%s\n%s", diff, got)
			}
		})
	}
}

func TestPatchText(t *testing.T) {
	got, _ := Patch("Dockerfile", []byte("FROM a\n\n\n\n\nRUN date > /f"), Step{6, []cause.Cause{{Kind: cause.Timestamp}}})
	want := `--- a/Dockerfile
+++ b/Dockerfile
@@ -3,4 +3,4 @@
 
 
 
-RUN date > /f
\ No newline at end of file
+RUN date -u -d "@$SOURCE_DATE_EPOCH" > /f
\ No newline at end of file
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, line := range []int{-1, 0, 1, 2, 5, 7, 1 << 40} {
		if diff, ok := Patch("Dockerfile", []byte("FROM a\n\n\n\n\nRUN date > /f"), Step{line, []cause.Cause{{Kind: cause.Timestamp}}}); ok {
			t.Errorf("line %d: %s", line, diff)
		}
	}
	if diff, ok := Patch("Dockerfile", []byte("# escape=`\nRUN date > /f"), Step{2, []cause.Cause{{Kind: cause.Timestamp}}}); ok {
		t.Errorf("an instruction for Windows: %s", diff)
	}
}

// TestPatchShell: only scripts of a shell are patched.
func TestPatchShell(t *testing.T) {
	const bash, python, run = "SHELL [\"/bin/bash\", \"-c\"]\n", "SHELL [\"/usr/bin/python3\", \"-c\"]\n", "RUN date > /f\n"
	for before, want := range map[string]bool{
		bash + run: true, python + run: false, python + "FROM b\n" + run: true, python + bash + run: true, bash + python + run: false,
	} {
		dockerfile := "FROM a\n" + before
		step := Step{strings.Count(dockerfile, "\n"), []cause.Cause{{Kind: cause.Timestamp}}}
		if diff, ok := Patch("Dockerfile", []byte(dockerfile), step); ok != want {
			t.Errorf("%q: %v\n%s", dockerfile, ok, diff)
		}
	}
}

// TestPatchOfSeveral: one patch changes several instructions, each once.
func TestPatchOfSeveral(t *testing.T) {
	const before = "FROM a\nRUN date > /a && uuidgen > /b\n# 1\n# 2\n# 3\n# 4\n# 5\nRUN uuidgen > /c\nRUN date > /d\nRUN uuidgen > /e\n"
	stamp, id := []cause.Cause{{Kind: cause.Timestamp}}, []cause.Cause{{Kind: cause.UUID}}
	got, ok := Patch("Dockerfile", []byte(before), Step{8, id}, Step{2, stamp}, Step{9, id}, Step{2, id}, Step{10, id}, Step{3, id}, Step{80, id})
	if !ok {
		t.Fatal("no patch")
	}
	const uuid = `uuidgen --sha1 --namespace @dns --name "$SOURCE_DATE_EPOCH`
	want := "FROM a\nRUN date -u -d \"@$SOURCE_DATE_EPOCH\" > /a && " + uuid + "\" > /b\n# 1\n# 2\n# 3\n# 4\n# 5\nRUN " + uuid + "-2\" > /c\nRUN date > /d\nRUN " + uuid + "-3\" > /e\n"
	if diff := cmp.Diff(want, applied(t, before, got)); diff != "" {
		t.Errorf("(-want +got):\n%s\n%s", diff, got)
	}
	if strings.Count(got, "--- a/Dockerfile") != 1 {
		t.Errorf("more than one diff:\n%s", got)
	}
}

// TestPatchOfNames: only commands that may have made the name of a file that one build has are changed.
func TestPatchOfNames(t *testing.T) {
	for _, c := range []struct {
		run, file string
		ok        bool
	}{
		{"touch /x-$(date +%F)", "/x-2026-11-23", true},
		{"touch /x-$(date +%F); F=$(mktemp)", "/x/tmp.Xa3dKq91mN", true},
		{"date > /x; F=$(true)", "/x/tmp.Xa3dKq91mN", false},
		{"date > /x", "/x-7d444840-9dc0-11d1-b245-5ffdce74fad2", false},
		{"touch /x-$(uuidgen)", "/x-7d444840-9dc0-11d1-b245-5ffdce74fad2", true},
		{"touch /x-$RANDOM; date", "/x-12345", true},
		{"F=$(mktemp)", "/x-2026-11-23", false},
		{"date", "/x", false},
	} {
		causes, err := cause.Find(t.Context(), c.file, &cause.File{Content: strings.NewReader("x"), Size: 1}, nil, cause.Hints{})
		if err != nil {
			t.Fatal(err)
		}
		diff, ok := Patch("Dockerfile", []byte("RUN "+c.run), Step{1, causes})
		if ok != c.ok {
			t.Errorf("%q of %q: ok %v\n%s", c.run, c.file, ok, diff)
		}
		if strings.Contains(c.file, "tmp.") && strings.Contains(diff, "-u -d") {
			t.Errorf("%q: the date is innocent\n%s", c.run, diff)
		}
	}
}

// applied returns a text after git applied a patch to it.
func applied(t *testing.T, text, diff string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "Dockerfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("git", "apply", "-")
	c.Dir, c.Stdin = dir, strings.NewReader(diff)
	c.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("git apply: %v\n%s\n%s", err, out, diff)
	}
	patched, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(patched)
}

// The patched commands do what their notes promise, with Debian's own tools.
func TestPatchedCommands(t *testing.T) {
	shell := func(dir, script string) string {
		c := exec.Command("sh", "-c", script)
		c.Dir, c.Env = dir, append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return string(out)
	}
	for _, c := range []struct{ run, causes string }{
		{"date", "timestamp"},
		{"echo $(date +%s)", "timestamp"},
		{"date -Iseconds", "timestamp"},
		{"echo x > x; touch -d @$(shuf -i 1-1000000 -n 1) x; gzip -c x", "archive-header:gzip mtime"},
		{"echo x > x; touch -d @$(shuf -i 1-1000000 -n 1) x; tar cf - x", "archive-header:tar mtime"},
		{"find /etc/apt /etc/alternatives | shuf > /dev/null; find /etc/apt", "order"},
	} {
		k, format, _ := strings.Cut(c.causes, ":")
		diff, ok := Patch("Dockerfile", []byte("RUN "+c.run), Step{1, []cause.Cause{{Kind: cause.Kind(k), Format: format}}})
		if !ok {
			t.Errorf("%s: no patch", c.run)
			continue
		}
		patched := strings.TrimPrefix(applied(t, "RUN "+c.run, diff), "RUN ")
		dir := t.TempDir()
		if first, second := shell(dir, patched), shell(dir, patched); first != second {
			t.Errorf("%s: %q and %q", patched, first, second)
		}
	}
}

func FuzzPatch(f *testing.F) {
	files, err := filepath.Glob("../examples/*/Dockerfile")
	if err != nil || len(files) == 0 {
		f.Fatal("no examples", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, 3)
	}
	f.Add([]byte("RUN date && tar czf x . && zip -r x.zip y | find . > $RANDOM"), 1)
	f.Add([]byte("RUN <<EOF\ndate\nEOF\n"), 1)
	var causes []cause.Cause
	for _, d := range cause.Kinds() {
		causes = append(causes, cause.Cause{Kind: d.Kind})
	}
	for _, format := range []string{"zip mtime", "tar mtime", "ar mtime", "cpio mtime", "gzip mtime"} {
		causes = append(causes, cause.Cause{Kind: cause.ArchiveHeader, Format: format})
	}
	f.Fuzz(func(t *testing.T, dockerfile []byte, line int) {
		if diff, ok := Patch("Dockerfile", dockerfile, Step{line, causes}); ok == (diff == "") {
			t.Errorf("%v %q", ok, diff)
		}
	})
}
