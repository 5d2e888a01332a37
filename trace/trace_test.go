package trace

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A testLayer is a layer with files, by path, and the instruction that made it.
type testLayer struct {
	step  frontend.Step
	files map[string]string
}

// write puts an image into a store. The layers without an instruction are the base image's.
func write(t *testing.T, layers ...testLayer) (*store.Store, store.Manifest, []frontend.Step) {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	var m store.Manifest
	var steps []frontend.Step
	for _, l := range layers {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for path, content := range l.files {
			h := &tar.Header{Name: strings.TrimPrefix(path, "/"), Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}
			if target, ok := strings.CutPrefix(content, "-> "); ok {
				h, content = &tar.Header{Name: h.Name, Typeflag: tar.TypeSymlink, Linkname: target}, ""
			}
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(content)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		d := digest.FromBytes(b.Bytes())
		dir := filepath.Join(s.Dir(), "blobs", "sha256")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, d.Encoded()), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		m.Layers = append(m.Layers, store.Layer{Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: int64(b.Len())}, DiffID: d})
		if l.step.Text != "" {
			steps = append(steps, l.step)
		}
	}
	return s, m, steps
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zipped(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	w := zip.NewWriter(&b)
	m, err := w.Create("META-INF/MANIFEST.MF")
	if err == nil {
		_, err = m.Write([]byte(text + "\n"))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zippedAt(t *testing.T, when time.Time) string {
	t.Helper()
	var b strings.Builder
	w := zip.NewWriter(&b)
	_, err := w.CreateHeader(&zip.FileHeader{Name: "x", Modified: when})
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func run(text string) frontend.Step { return frontend.Step{Line: 2, Text: text, Run: true} }

// TestFind plants a date, or the machine, and looks for near cases, which must not be called.
func TestFind(t *testing.T) {
	const day, boot = "2026-11-09", "0b7f4dd8-3e3a-4a6e-9d4a-1f0d6c3a2b11"
	md5sum := func(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
	apk := func(s string) string {
		sum := sha1.Sum([]byte(s))
		return "Q1" + base64.StdEncoding.EncodeToString(sum[:])
	}
	wheel := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "sha256=" + base64.RawURLEncoding.EncodeToString(sum[:])
	}
	note := "released " + day + "\n"
	copied := testLayer{frontend.Step{Line: 3, Text: "COPY . /src"}, map[string]string{"/src/NEWS": "# 1.2 (" + day + ")\n", "/src/VERSION": day + "\n"}}
	for _, test := range []struct {
		name   string
		layers []testLayer
		want   string // certain, warning or nothing
		epoch  string
		commit string
	}{
		{"date", []testLayer{{run("RUN date +%F > /built"), map[string]string{"/built": day + "\n"}}}, "certain /built", "", ""},
		{"a script", []testLayer{
			{frontend.Step{Line: 3, Text: "COPY . /src"}, map[string]string{"/src/build.sh": "echo built=$(date +%F)\n"}},
			{run("RUN ./build.sh"), map[string]string{"/built": "version=1\nbuilt=" + day + "\n"}},
		}, "certain /built", "", ""},
		{"a script that is nowhere", []testLayer{{run("RUN ./build.sh"), map[string]string{"/built": "20261109"}}}, "certain /built", "", ""},
		{"a date of the context in another line", []testLayer{{run("RUN ./build.sh"), map[string]string{"/built": "version=1\nbuilt=" + day + "\n"}}}, "warning /built", "", ""},
		{"a version of the context in another line", []testLayer{
			{frontend.Step{Line: 3, Text: "COPY . /src"}, map[string]string{"/src/package.json": `{"version": "2026.11.9"}`, "/src/a.js": "now = new Date()"}},
			{run("RUN npm run build && date"), map[string]string{"/v.js": `v="2026.11.9"`}},
		}, "warning /v.js", "", ""},
		{"a build arg, and a step that reads the clock", []testLayer{{run("RUN date; echo Version $DAY > /day"), map[string]string{"/day": "Version 09.11.2026"}}}, "warning /day", "", ""},
		{"a build arg, and the time below", []testLayer{{run("RUN echo $DAY > /day; date >> /day"), map[string]string{"/day": "09.11.2026\nMon Nov  9 14:03:25 UTC 2026\n"}}}, "certain /day", "", ""},
		{"a month of the Dockerfile", []testLayer{{run("RUN date; echo $MONTH > /m"), map[string]string{"/m": "release=2026-11\n"}}}, "warning /m", "", ""},
		{"a month of the Dockerfile beside date", []testLayer{{run("RUN date +%Y-%m > /m"), map[string]string{"/m": "2026-11\n"}}}, "certain /m", "", ""},
		{"a year of the Dockerfile", []testLayer{{run("RUN python3 -c 'print(datetime.now().year)' > /y"), map[string]string{"/y": "2026\n"}}}, "certain /y", "", ""},
		{"a build arg beside date", []testLayer{{run("RUN date +%d.%m.%Y > /day"), map[string]string{"/day": "09.11.2026"}}}, "certain /day", "", ""},
		{"a file's name", []testLayer{{run("RUN make"), map[string]string{"/app-20261109.txt": "x"}}}, "certain /app-20261109.txt", "", ""},
		{"a copied file's name", []testLayer{
			{frontend.Step{Line: 3, Text: "COPY . /app"}, map[string]string{"/app/20261109_init.sql": "x", "/app/current": "-> 2026-11-09_b"}},
			{run("RUN chown -R app /app && date"), map[string]string{"/app/20261109_init.sql": "x", "/app/current": "-> 2026-11-09_b"}},
		}, "", "", ""},
		{"a sent file's name", []testLayer{{run("RUN make"), map[string]string{"/out/2026_11_09-sent.txt": "x", "/out/2026_11_09.txt": "x"}}}, "warning /out/2026_11_09.txt", "", ""},
		{"a link", []testLayer{{run("RUN make"), map[string]string{"/current": "-> releases/20261109"}}}, "certain /current", "", ""},
		{"a program, with date", []testLayer{{run("RUN cc -DD=\"$(date +%F)\" main.c"), map[string]string{"/a.out": "\x7fELF\x00\x00" + day + "\x00"}}}, "certain /a.out", "", ""},
		{"a program", []testLayer{{run("RUN make"), map[string]string{"/a.out": "\x7fELF\x00\x00" + day + "\x00"}}}, "warning /a.out", "", ""},
		{"from a stage", []testLayer{{frontend.Step{Line: 9, Text: "COPY --from=b /x /x", Run: true, From: []frontend.Step{run("RUN date > /x")}}, map[string]string{"/x": day}}}, "certain /x", "", ""},
		{"a changelog", []testLayer{{run("RUN ./install"), map[string]string{"/CHANGES": day + " 1.1\n2026-10-01 1.0\n"}}}, "warning /CHANGES", "", ""},
		{"a document", []testLayer{{run("RUN ./install"), map[string]string{"/doc": strings.Repeat("words\n", 2000) + day}}}, "warning /doc", "", ""},
		{"a download", []testLayer{{run("RUN curl -o /v.json https://example.org/v.json"), map[string]string{"/v.json": `{"date":"` + day + `"}`}}}, "warning /v.json", "", ""},
		{"npm's", []testLayer{{run("RUN ./install && date"), map[string]string{"/app/node_modules/a/package.json": day}}}, "warning /app/node_modules/a/package.json", "", ""},
		{"the commit's day", []testLayer{{run("RUN make"), map[string]string{"/built": day}}}, "warning /built", "", day},
		{"the commit's day, and date", []testLayer{{run("RUN date +%F >/built"), map[string]string{"/built": day}}}, "certain /built", "", day},
		{"the epoch's day", []testLayer{{run("RUN make"), map[string]string{"/built": day}}}, "", day, ""},
		{"the epoch's day, and date printed it", []testLayer{{run("RUN date +%F >/built"), map[string]string{"/built": day}}}, "certain /built", day, ""},
		{"the epoch's day, and date of the epoch", []testLayer{{run(`RUN date -d "@$SOURCE_DATE_EPOCH" +%F >/built`), map[string]string{"/built": day}}}, "", day, ""},
		{"a day that date printed in its own form", []testLayer{{run("RUN date +%d-%a >/built"), map[string]string{"/built": "09-Mon\n"}}}, "certain /built", "", ""},
		{"a day in a month", []testLayer{{run("RUN date -d '+1 month' +%F >/expires"), map[string]string{"/expires": "2026-12-09\n"}}}, "certain /expires", "", ""},
		{"copied from the context", []testLayer{copied, {run("RUN cp /src/NEWS /NEWS"), map[string]string{"/NEWS": "# 1.2 (" + day + ")\n"}}}, "", "", ""},
		{"copied, and it is the date alone", []testLayer{copied, {run("RUN cp /src/VERSION /V"), map[string]string{"/V": day + "\n"}}}, "warning /V", "", ""},
		{"date beside a copied one", []testLayer{copied, {run("RUN date +%F > /V"), map[string]string{"/V": day + "\n"}}}, "certain /V", "", ""},
		{"sent, and not in the image", []testLayer{{run("RUN --mount=target=/src cp /src/NOTES /N"), map[string]string{"/N": "sent on " + day}}}, "", "", ""},
		{"a build arg", []testLayer{{run("RUN echo $DAY > /day"), map[string]string{"/day": "09.11.2026"}}}, "", "", ""},
		{"COPY", []testLayer{copied}, "", "", ""},
		{"the base image", []testLayer{{files: map[string]string{"/built": day}}, {run("RUN true"), map[string]string{"/x": "x"}}}, "", "", ""},
		{"dpkg's", []testLayer{
			{files: map[string]string{"/var/lib/dpkg/info/a.md5sums": md5sum(note) + "  opt/note\n", "/var/lib/dpkg/info/a.list": "/opt\n/opt/note\n"}},
			{run("RUN date; dpkg -i a.deb"), map[string]string{"/opt/note": note}},
		}, "", "", ""},
		{"dpkg's, changed", []testLayer{
			{files: map[string]string{"/var/lib/dpkg/info/a.md5sums": md5sum("other") + "  opt/note\n", "/var/lib/dpkg/info/a.list": "/opt/note\n"}},
			{run("RUN date +%F > /opt/note"), map[string]string{"/opt/note": note}},
		}, "certain /opt/note", "", ""},
		{"dpkg's, without a sum", []testLayer{
			{run("RUN ./x"), map[string]string{"/opt/note": note, "/var/lib/dpkg/info/a.list": "/opt/note\n"}},
		}, "warning /opt/note", "", ""},
		{"dpkg's, in /bin", []testLayer{
			{run("RUN date; x"), map[string]string{"/usr/bin/note": note, "/var/lib/dpkg/info/a.md5sums": md5sum(note) + "  bin/note\n"}},
		}, "", "", ""},
		{"a conffile", []testLayer{
			{run("RUN date; x"), map[string]string{"/etc/note": note, "/var/lib/dpkg/status": "Package: a\nConffiles:\n /etc/note " + md5sum(note) + "\n"}},
		}, "", "", ""},
		{"apk's", []testLayer{
			{run("RUN date; x"), map[string]string{"/opt/note": note, "/lib/apk/db/installed": "P:a\nF:opt\nR:note\nZ:" + apk(note) + "\n"}},
		}, "", "", ""},
		{"a wheel's", []testLayer{
			{run("RUN date; x"), map[string]string{"/opt/lib/a/note": note, "/opt/lib/a-1.dist-info/RECORD": "a/note," + wheel(note) + ",20\n"}},
		}, "", "", ""},
		{"RPM's", []testLayer{{run("RUN ./x"), map[string]string{"/usr/share/note": note, "/var/lib/rpm/rpmdb.sqlite": "x"}}}, "warning /usr/share/note", "", ""},
		{"the description of a package", []testLayer{{run("RUN date; x"), map[string]string{"/usr/share/doc/a/changelog": day, "/var/lib/apt/lists/InRelease": "Date: Mon, 09 Nov 2026 14:03:25 UTC"}}}, "", "", ""},
		{"a page that the step wrote", []testLayer{{run("RUN date +%F > /usr/share/doc/a/built"), map[string]string{"/usr/share/doc/a/built": day}}}, "certain /usr/share/doc/a/built", "", ""},
		{"compressed", []testLayer{{run("RUN date +%F | gzip > /built.gz"), map[string]string{"/built.gz": gzipped(t, day)}}}, "certain /built.gz", "", ""},
		{"compressed, without date", []testLayer{{run("RUN ./x"), map[string]string{"/built.gz": gzipped(t, day)}}}, "warning /built.gz", "", ""},
		{"compressed, another day", []testLayer{{run("RUN date"), map[string]string{"/built.gz": gzipped(t, "2026-11-01")}}}, "", "", ""},
		{"damaged", []testLayer{{run("RUN date"), map[string]string{"/built.gz": gzipped(t, day)[:14], "/b.zip": zipped(t, day)[:40]}}}, "", "", ""},
		{"in a jar", []testLayer{{run("RUN date && jar cf a.jar ."), map[string]string{"/a.jar": zipped(t, "Built: "+day)}}}, "certain /a.jar", "", ""},
		{"unpacked from a jar of the context", []testLayer{
			{frontend.Step{Line: 3, Text: "COPY a.jar /"}, map[string]string{"/a.jar": zipped(t, "Built: "+day)}},
			{run("RUN unzip a.jar"), map[string]string{"/MANIFEST": "Built: " + day}},
		}, "", "", ""},
		{"a program whose source reads the clock", []testLayer{
			{frontend.Step{Line: 3, Text: "COPY . /src"}, map[string]string{"/src/gen.py": "import datetime\nprint(datetime.date.today())\n"}},
			{run("RUN ./build"), map[string]string{"/a.out": "\x7fELF\x00\x00" + day + "\x00"}},
		}, "certain /a.out", "", ""},
		{"the month", []testLayer{{run("RUN date +%Y-%m > /m"), map[string]string{"/m": "2026-11\n"}}}, "certain /m", "", ""},
		{"the month, not asked for", []testLayer{{run("RUN ./x"), map[string]string{"/m": "2026-11\n"}}}, "", "", ""},
		{"the month in a document", []testLayer{{run("RUN date; ./x"), map[string]string{"/m": strings.Repeat("words\n", 2000) + "2026-11\n"}}}, "warning /m", "", ""},
		{"the week", []testLayer{{run("RUN date +%V > /w"), map[string]string{"/w": "46\n"}}}, "certain /w", "", ""},
		{"a number like the week", []testLayer{{run("RUN date; ./x"), map[string]string{"/w": "46\n"}}}, "", "", ""},
		{"the boot ID", []testLayer{{run("RUN x"), map[string]string{"/boot": boot + "\n"}}}, "warning /boot", "", ""},
		{"another machine's boot ID", []testLayer{{run("RUN x"), map[string]string{"/boot": "1" + boot[1:] + "\n"}}}, "", "", ""},
		{"the kernel", []testLayer{{run("RUN uname -a"), map[string]string{"/k": "Linux x 6.18.5 #1 SMP\n"}}}, "warning /k", "", ""},
		{"the kernel in a name", []testLayer{{run("RUN mkdir /modules-$(uname -r)"), map[string]string{"/modules-6.18.5": "x"}}}, "warning /modules-6.18.5", "", ""},
		{"the kernel, compressed", []testLayer{{run("RUN uname -r | gzip -n > /k.gz"), map[string]string{"/k.gz": gzipped(t, "6.18.5")}}}, "warning /k.gz", "", ""},
		{"another kernel", []testLayer{{run("RUN uname -a"), map[string]string{"/k": "Linux x 6.18.51\n16.18.5\n6.18.5-rc1\n"}}}, "", "", ""},
		{"nproc", []testLayer{{run("RUN nproc > /n"), map[string]string{"/n": "3\n"}}}, "warning /n", "", ""},
		{"nproc in a setting", []testLayer{{run("RUN echo workers=$(nproc) > /n"), map[string]string{"/n": "a=1\nworkers=3\n"}}}, "warning /n", "", ""},
		{"nproc for make", []testLayer{{run("RUN make -j$(nproc) && make -j \"$(nproc)\" install"), map[string]string{"/n": "3\n"}}}, "", "", ""},
		{"an inode", []testLayer{{run("RUN stat -c %i /etc/passwd > /i"), map[string]string{"/i": "262147\n", "/j": "text\n"}}}, "warning /i", "", ""},
		{"no inode", []testLayer{{run("RUN stat -c %s /etc/passwd > /i"), map[string]string{"/i": "262147\n"}}}, "", "", ""},
		{"a disk", []testLayer{{run("RUN df --output=size / > /d"), map[string]string{"/d": "1K-blocks\n 81106868\n"}}}, "warning /d", "", ""},
		{"a limit", []testLayer{{run("RUN ulimit -n > /l"), map[string]string{"/l": "1048576\n"}}}, "warning /l", "", ""},
		{"a limit that the step sets", []testLayer{{run("RUN ulimit -n 65536; echo ulimit -n 65536 > /l"), map[string]string{"/l": "ulimit -n 65536\n"}}}, "", "", ""},
		{"a kernel parameter", []testLayer{{run("RUN cat /proc/sys/kernel/pid_max > /p"), map[string]string{"/p": "4194304\n"}}}, "warning /p", "", ""},
		{"a parameter to set", []testLayer{{run("RUN echo 'vm.max_map_count = 262144' > /p; sysctl -p /p"), map[string]string{"/p": "vm.max_map_count = 262144\n"}}}, "", "", ""},
		{"a device", []testLayer{{run("RUN stat -c %d / > /d"), map[string]string{"/d": "52\n"}}}, "warning /d", "", ""},
		{"a year in JSON", []testLayer{{run(`RUN echo "{\"year\":$(date +%Y)}" > /y`), map[string]string{"/y": "{\"year\":2026}\n"}}}, "certain /y", "", ""},
		{"a year in one of two lines", []testLayer{{run("RUN date +year=%Y >> /y"), map[string]string{"/y": "name=x\nyear=2026\n"}}}, "certain /y", "", ""},
		{"a year of the Dockerfile, in its line", []testLayer{{run("RUN date +%Y; sed p /y"), map[string]string{"/y": "# copyright 2026\n"}}}, "", "", ""},
		{"a time without its seconds", []testLayer{{run("RUN date +%T | cut -c1-5 > /t"), map[string]string{"/t": "14:03\n"}}}, "certain /t", "", ""},
		{"a word of date", []testLayer{{run("RUN date | awk '{print $3}' > /t"), map[string]string{"/t": "9\n", "/u": "09\n", "/v": "Nov\n"}}}, "certain /v", "", ""},
		{"the first digits of seconds", []testLayer{{run("RUN date +%s | cut -c1-6 > /t"), map[string]string{"/t": "179423\n", "/u": "179424\n"}}}, "certain /t", "", ""},
		{"Python's number of the day", []testLayer{{run("RUN python3 -c 'print(date.today().toordinal())' > /t"), map[string]string{"/t": "739929\n", "/u": "739930"}}}, "certain /t", "", ""},
		{"midnight", []testLayer{{run("RUN make"), map[string]string{"/t": "t=1794182400\n", "/u": "t=1794182401\n"}}}, "certain /t", "", ""},
		{"midnight in binary", []testLayer{{run("RUN ./x; date"), map[string]string{"/t": "\x00\x0d\xf1\x6a", "/u": "\x01\x0d\xf1\x6a"}}}, "certain /t", "", ""},
		{"the day in binary", []testLayer{{run("RUN ./x; date"), map[string]string{"/t": "\x1e\x51", "/u": "\x1f\x51"}}}, "certain /t", "", ""},
		{"midnight in a tar", []testLayer{{run("RUN tar --mtime=$(date +%F) -cf /t x"), map[string]string{"/t": "x\x00" + fmt.Sprintf("%011o\x00", 1794182400), "/u": "x\x00" + fmt.Sprintf("%011o\x00", 1794182401)}}}, "certain /t", "", ""},
		{"midnight in an archive", []testLayer{{run("RUN touch -d $(date +%F) x; zip /t x"), map[string]string{"/t": zippedAt(t, built.Truncate(24*time.Hour)), "/u": zippedAt(t, built.AddDate(0, 0, -1).Truncate(24*time.Hour))}}}, "certain /t", "", ""},
		{"a listing", []testLayer{{run("RUN ls -l /x > /l"), map[string]string{"/l": "-rw-r--r-- 1 root root 0 Nov  9 14:03 x\n", "/m": "-rw-r--r-- 1 root root 0 Nov  9 11:03 x\n"}}}, "certain /l", "", ""},
		{"folders", []testLayer{{run("RUN mkdir -p /o/$(date +%Y/%m/%d)"), map[string]string{"/o/2026/11/09": "x", "/o/2026/11/08": "x"}}}, "certain /o/2026/11/09", "", ""},
		{"a name that date printed", []testLayer{{run("RUN touch /o-$(date +%d%b).log"), map[string]string{"/o-09Nov.log": "x", "/o-08Nov.log": "x", "/x09Nov.log": "x"}}}, "certain /o-09Nov.log", "", ""},
		{"a name with the year", []testLayer{{run("RUN date +%Y"), map[string]string{"/CVE-2026-1301.txt": "x"}}}, "", "", ""},
		{"Perl's day of the year", []testLayer{{run("RUN perl -e '@t=localtime; print $t[7]+1' > /d"), map[string]string{"/d": "313\n"}}}, "certain /d", "", ""},
		{"a date as an integer", []testLayer{{run("RUN cc -DB=$(date +%Y%m%d) x.c"), map[string]string{"/x.o": "\x7fELF\x00\xf5\x28\x35\x01\x00", "/y.o": "\x7fELF\x00\xf6\x28\x35\x01\x00"}}}, "warning /x.o", "", ""},
		{"a platform", []testLayer{{run("RUN x"), map[string]string{"/p": "Linux-6.18.5-x86_64-with-glibc2.36\n", "/q": "linux-headers-6.18.5-18-amd64"}}}, "warning /p", "", ""},
		{"a number", []testLayer{{run("RUN echo 3 > /n"), map[string]string{"/n": "3\n"}}}, "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, m, steps := write(t, test.layers...)
			search := Search{
				Builds: []Window{window1}, Given: []string{"FROM x\nARG DAY\n# copyright 2026\nENV MONTH=2026-11", "09.11.2026"},
				Machine: append([]Fact{{Name: "boot ID", Value: boot}, {Name: "kernel release", Value: "6.18.5"}, {Name: "number of CPUs", Value: "3", Asked: []string{"nproc"}}}, unread...),
				Inputs: func(_ context.Context, fn func(string, []byte)) error {
					fn("src/NOTES", []byte("intro\nsent on "+day+"\n"))
					fn("src/2026_11_09-sent.txt", nil)
					return nil
				},
			}
			for text, to := range map[string]*time.Time{test.epoch: &search.Epoch, test.commit: &search.Commit} {
				if text != "" {
					*to = built
				}
			}
			found, err := Find(t.Context(), s, m, steps, search)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range found {
				words := map[bool]string{true: "certain ", false: "warning "}[f.Certain] + f.Path
				got = append(got, words)
				if f.Line == 0 || f.What == "" || f.Certain == (f.Why != "") && f.Kind == Timestamp {
					t.Errorf("%+v", f)
				}
			}
			if diff := cmp.Diff(test.want, strings.Join(got, ", ")); diff != "" {
				t.Errorf("%s\n%+v", diff, found)
			}
		})
	}
}

// TestFindWithBase looks for the day of a base image: only a step that reads the clock is certain to have written it.
func TestFindWithBase(t *testing.T) {
	for text, certain := range map[string]bool{"RUN cp /etc/base /x": false, "RUN date +%F > /x": true} {
		s, m, steps := write(t, testLayer{files: map[string]string{"/etc/base": "2026-11-09"}}, testLayer{run(text), map[string]string{"/x": "2026-11-09"}})
		for day, want := range map[time.Time]bool{built: certain, built.AddDate(0, 0, -1): true} {
			found, err := Find(t.Context(), s, m, steps, Search{Builds: []Window{window1}, Base: day})
			if err != nil || len(found) != 1 || found[0].Certain != want || (found[0].Why == "") != want {
				t.Errorf("%s, base of %s: %+v, %v", text, day, found, err)
			}
		}
	}
}

func TestFindInStage(t *testing.T) {
	s, m, steps := write(t, testLayer{frontend.Step{Line: 9, Text: "COPY --from=b /x /x", Run: true, From: []frontend.Step{run("RUN apt-get update"), {Line: 4, Text: "RUN date > /x", Run: true}}}, map[string]string{"/x": "2026-11-09"}})
	found, err := Find(t.Context(), s, m, steps, Search{Builds: []Window{window1}})
	want := []Finding{{Line: 4, Instruction: "RUN date > /x", Path: "/x", Kind: Timestamp, What: "ISO date", Text: "2026-11-09", Certain: true}}
	if diff := cmp.Diff(want, found); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := Find(t.Context(), s, store.Manifest{}, steps, Search{Builds: []Window{window1}}); err == nil {
		t.Error("fewer layers than steps are no error")
	}
	if found, err := Find(t.Context(), s, m, steps, Search{}); len(found) > 0 || err != nil {
		t.Errorf("nothing to look for: %v, %v", found, err)
	}
}

// TestManyFindings finds a date that only the clock can have brought among more warnings than Find returns.
func TestManyFindings(t *testing.T) {
	files := map[string]string{"/z": "2026-11-09"}
	for i := range maxFindings + 10 {
		files[fmt.Sprintf("/app/node_modules/%d", i)] = "2026-11-09 machine7"
		files[fmt.Sprintf("/app/%d", i)] = "machine7"
	}
	s, m, steps := write(t, testLayer{run("RUN npm ci; date +%F > /z"), files})
	found, err := Find(t.Context(), s, m, steps, Search{Builds: []Window{window1}, Machine: []Fact{{Name: "hostname", Value: "machine7"}}})
	if err != nil || len(found) != maxFindings {
		t.Fatalf("%d findings, %v", len(found), err)
	}
	if last := found[len(found)-1]; last.Path != "/z" || !last.Certain {
		t.Errorf("the last: %+v", last)
	}
}

// TestAcrossReads finds a date wherever the end of a read falls.
func TestAcrossReads(t *testing.T) {
	for shift := range 12 {
		content := strings.Repeat("\n", window-shift) + "2026-11-09\n" + strings.Repeat("x", 10)
		s, m, steps := write(t, testLayer{run("RUN date"), map[string]string{"/x": content}})
		found, err := Find(t.Context(), s, m, steps, Search{Builds: []Window{window1}})
		if err != nil || len(found) != 1 {
			t.Errorf("%d: %v, %v", shift, found, err)
		}
	}
}

func TestReadMachine(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	got := map[string]string{}
	for _, f := range ReadMachine(fstest.MapFS{
		"proc/sys/kernel/random/boot_id": file("0b7f-4d\n"), "proc/sys/kernel/osrelease": file("6.1.0\n"), "proc/sys/kernel/hostname": file("machine7\n"),
		"proc/cpuinfo": file("processor\t: 0\nmodel name\t: Some CPU 3000\nflags\t\t: fpu vme de pse\nprocessor\t: 1\n"), "proc/meminfo": file("MemTotal:       16384000 kB\nMemFree: 1\n"),
		"sys/devices/system/cpu/online": file("0-1\n"), "etc/resolv.conf": file("# x\nnameserver 10.0.0.2\n"), "proc/stat": file("cpu 1 2\nbtime 1794233001\n"), "proc/cmdline": file("root=/dev/vda1 console=ttyS0\n"), "sys/class/dmi/id/product_uuid": file("4c4c4544-0042\n"),
		"sys/class/net/lo/address": file("00:00:00:00:00:00\n"), "sys/class/net/eth0/address": file("02:42:ac:11:00:02\n"),
		"proc/net/fib_trie": file("Local:\n  |-- 127.0.0.1\n     /32 host LOCAL\n  |-- 172.17.0.2\n     /32 host LOCAL\n  |-- 172.17.0.3\n     /32 link UNICAST\n"),
	}) {
		got[f.Name] += f.Value + " "
	}
	if !strings.Contains(got["hostname, as a hash"], fmt.Sprintf("%x", md5.Sum([]byte("machine7\n")))) {
		t.Error("no hash of the name")
	}
	for name := range got {
		if strings.HasSuffix(name, ", as a hash") {
			delete(got, name)
		}
	}
	want := map[string]string{
		"boot ID": "0b7f-4d 0b7f4d 0B7F-4D ", "kernel release": "6.1.0 ", "hostname": "machine7 ", "CPU model": "Some CPU 3000 ", "CPU features": "fpu vme de pse ", "number of CPUs": "2 ",
		"size of memory": "16384000 16777216000 16000 ", "time of the last start": "1794233001 2026-11-09 14:03 ", "kernel command line": "root=/dev/vda1 console=ttyS0 ",
		"product uuid": "4c4c4544-0042 ", "address of a network card": "02:42:ac:11:00:02 ", "IP address": "172.17.0.2 ",
		"inode number": " ", "size of a disk": " ", "number of a device": " ", "limit of the builder": " ", "kernel parameter": " ", "number of a process": " ", "time since the last start": " ", "name server": "10.0.0.2 ", "range of CPUs": "0-1 ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, f := range ReadMachine(fstest.MapFS{"proc/cpuinfo": file("flags\t: " + strings.Repeat("avx512f ", 200) + "\n")}) {
		if f.Name == "CPU features" && (len(f.Value) > maxValue || !strings.HasSuffix(f.Value, "avx512f")) {
			t.Errorf("%q", f.Value)
		}
	}
	for _, name := range []string{"localhost", "server", "x-1"} {
		if facts := ReadMachine(fstest.MapFS{"proc/sys/kernel/hostname": file(name + "\n")}); len(facts) > len(unread) {
			t.Errorf("%s: %v", name, facts)
		}
	}
}
