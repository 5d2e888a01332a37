package image

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/kedge-build/kedge/rules"
	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
)

const madeUpID = "9c0a4f3e1b2d4c5e8f90a1b2c3d4e5f6"

// aLog is a line of dpkg.log up to the name of a package.
const aLog = "2026-11-29 11:41:29 install "

func folder(name string) tartest.Entry {
	return tartest.Entry{Header: tar.Header{Name: name + "/", Mode: 0o755, ModTime: late, Typeflag: tar.TypeDir}}
}

func hardLink(name, target string) tartest.Entry {
	return tartest.Entry{Header: tar.Header{Name: name, Linkname: target, Mode: 0o644, ModTime: late, Typeflag: tar.TypeLink}}
}

func at(when time.Time) func(*tar.Header) { return func(h *tar.Header) { h.ModTime = when } }

// listed returns a line for each entry of a canonical layer: its name, its time if that is not the epoch,
// and its content.
func listed(t testing.TB, s *store.Store, l store.Layer) []string {
	t.Helper()
	r, err := store.OpenLayer(t.Context(), s, l)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	lines := []string{}
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		line := h.Name
		if !h.ModTime.Equal(epoch) {
			line += fmt.Sprintf(" @%d", h.ModTime.Unix())
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if len(body) > 0 {
			line += " " + string(body)
		}
		lines = append(lines, line)
	}
}

// written returns the new layers of an image over base, in the form of listed.
func written(t testing.TB, opts Options, base []byte, layers ...[]byte) [][]string {
	t.Helper()
	s := testStore(t)
	img, _ := build(t, s, opts, rawImage{platform: amd64, base: [][]byte{base}, layers: layers})
	var lists [][]string
	for _, l := range img.Manifests[0].Layers[1:] {
		lists = append(lists, listed(t, s, l))
	}
	return lists
}

var old = time.Unix(1000000000, 0)

// TestVersion1 holds the rules of locks that name version 1.
func TestVersion1(t *testing.T) {
	base := tartest.Tar(t,
		folder("etc").With(at(old)), file("etc/passwd", "root").With(at(old)), file("etc/link", "x").With(at(old)),
		folder("var").With(at(old)), folder("var/log").With(at(old)), file("var/log/dpkg.log", "base").With(at(old)))
	private := func(h *tar.Header) { h.Mode = 0o600 }
	attributed := func(h *tar.Header) {
		h.Format, h.PAXRecords = tar.FormatPAX, map[string]string{xattrPrefix + "user.a": "1"}
	}
	tests := []struct {
		name  string
		layer []tartest.Entry
		want  []string
	}{
		{"a log that the base has", []tartest.Entry{folder("var"), folder("var/log"), file("var/log/dpkg.log", "new")}, []string{}},
		{"a log that the base lacks", []tartest.Entry{folder("var"), folder("var/log"), folder("var/log/apt"), file("var/log/apt/history.log", "new")}, []string{"var/ @1000000000", "var/log/", "var/log/apt/"}},
		{"much like a log", []tartest.Entry{file("var/log/dpkg.log.d", "a"), file("var/log/apt-x/history.log", "b"), file("srv/var/log/dpkg.log", "c")},
			[]string{"var/log/dpkg.log.d a", "var/log/apt-x/history.log b", "srv/var/log/dpkg.log c"}},
		{"a log that is removed", []tartest.Entry{file("var/log/.wh.dpkg.log", "")}, []string{"var/log/.wh.dpkg.log"}},
		{"something else that is removed", []tartest.Entry{file("etc/.wh.nothing", ""), file("srv/.wh..wh..opq", "")}, []string{}},
		{"a folder that is made empty", []tartest.Entry{file("etc/.wh..wh..opq", ""), file("etc/passwd", "root")}, []string{"etc/.wh..wh..opq", "etc/passwd root"}},
		{"a file again", []tartest.Entry{folder("etc"), file("etc/passwd", "root")}, []string{}},
		{"other content", []tartest.Entry{folder("etc"), file("etc/passwd", "tree")}, []string{"etc/ @1000000000", "etc/passwd tree"}},
		{"another mode", []tartest.Entry{file("etc/passwd", "root").With(private)}, []string{"etc/passwd root"}},
		{"another owner", []tartest.Entry{file("etc/passwd", "root").With(func(h *tar.Header) { h.Uid = 7 })}, []string{"etc/passwd root"}},
		{"an attribute", []tartest.Entry{file("etc/passwd", "root").With(attributed)}, []string{"etc/passwd root"}},
		{"another type", []tartest.Entry{folder("etc/passwd")}, []string{"etc/passwd/"}},
		{"another mode of a folder", []tartest.Entry{folder("etc").With(private)}, []string{"etc/"}},
		{"a folder that something came into", []tartest.Entry{folder("etc"), file("etc/new", "a")}, []string{"etc/", "etc/new a"}},
		{"a folder that something went from", []tartest.Entry{folder("etc"), file("etc/.wh.link", "")}, []string{"etc/", "etc/.wh.link"}},
		{"a file again, and a link to it", []tartest.Entry{folder("etc"), file("etc/link", "x"), hardLink("etc/second", "etc/link")}, []string{"etc/", "etc/link x", "etc/second"}},
		{"a log, and a link to it", []tartest.Entry{file("var/log/dpkg.log", "new"), hardLink("kept", "var/log/dpkg.log")}, []string{"var/log/dpkg.log new", "kept"}},
		{"a home", []tartest.Entry{file("root/.wget-hsts", ""), file("home/a/.wget-hsts", ""), file("home/a/b/.wget-hsts", "c"), file("root/.cache/pip/http/a", "d"), file("root/.cache/other", "e")},
			[]string{"home/a/b/.wget-hsts c", "root/.cache/other e"}},
		{"in the depth of a home", []tartest.Entry{file("root/.m2/repository/a/b/1/_remote.repositories", "t"), file("root/.m2/repository/a/b/1/b.jar", "j")}, []string{"root/.m2/repository/a/b/1/b.jar j"}},
		{"mail", []tartest.Entry{file("var/mail/a", ""), file("var/mail/b", "mail")}, []string{"var/mail/b mail"}},
		{"a machine id", []tartest.Entry{file("etc/machine-id", "0123456789abcdef0123456789abcdef\n")}, []string{"etc/machine-id"}},
		{"no machine id", []tartest.Entry{file("etc/machine-id", "uninitialized\n")}, []string{"etc/machine-id uninitialized\n"}},
		{"passwords", []tartest.Entry{file("etc/shadow", "a:*:20000:0:99999:7:::\nb:*:19000:0:99999:7:::\nodd\nc:!::0:99999:7:::\n")},
			[]string{"etc/shadow a:*:19675:0:99999:7:::\nb:*:19000:0:99999:7:::\nodd\nc:!::0:99999:7:::\n"}},
		{"a cookie", []tartest.Entry{file("root/.erlang.cookie", "ABCDEFGHIJKLMNOPQRST"), file("var/lib/rabbitmq/.erlang.cookie", "CHOSEN")}, []string{"var/lib/rabbitmq/.erlang.cookie CHOSEN"}},
		{"Debian's cookie", []tartest.Entry{file("var/lib/rabbitmq/.erlang.cookie", strings.Repeat("aB3+", 14)+"\n"), file("home/a/.erlang.cookie", strings.Repeat("aB3+", 13)+"\n")},
			[]string{"home/a/.erlang.cookie " + strings.Repeat("aB3+", 13) + "\n"}},
		{"records of logins", []tartest.Entry{file("var/log/wtmp", "ada"), file("var/log/btmp", ""), file("var/log/lastlog", "ada")}, []string{"var/log/wtmp", "var/log/btmp"}},
		{"temporary folders", []tartest.Entry{folder("tmp"), folder("tmp/npm-12"), file("tmp/npm-12/a", "x"), file("tmp/mine", "y")}, []string{"tmp/", "tmp/mine y"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			layer := tartest.Tar(t, test.layer...)
			if diff := gocmp.Diff([][]string{test.want}, written(t, Options{Rules: rules.Set{Version: 1}}, base, layer)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			all, err := rules.Parse("none")
			if err != nil {
				t.Fatal(err)
			}
			if got := written(t, Options{Rules: all}, base, layer); len(got[0]) != len(test.layer) {
				t.Errorf("without rules: %q", got)
			}
		})
	}
}

func TestLayersRepeat(t *testing.T) {
	base := tartest.Tar(t, folder("etc").With(at(old)))
	first := tartest.Tar(t, folder("etc"), file("etc/a", "1"), file("etc/b", "1"))
	second := tartest.Tar(t, folder("etc"), file("etc/a", "1"), file("etc/b", "2"))
	third := tartest.Tar(t, folder("etc"), file("etc/a", "1"), file("etc/b", "1"))
	want := [][]string{{"etc/", "etc/a 1", "etc/b 1"}, {"etc/", "etc/b 2"}, {"etc/", "etc/b 1"}}
	if diff := gocmp.Diff(want, written(t, Options{}, base, first, second, third)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestWhatIsKnownChangesNothing: records of lower layers do not change a layer.
func TestWhatIsKnownChangesNothing(t *testing.T) {
	base := tartest.Tar(t, folder("etc"), file("etc/a.pyc", compiledPyc(1, "code")), file("etc/a.py", "a").With(at(old)))
	layers := [][]byte{
		tartest.Tar(t, file("etc/b.pyc", compiledPyc(late.Unix(), "code")), file("etc/b.py", "b"), file("etc/c", "c")),
		tartest.Tar(t, file("etc/a.pyc", compiledPyc(2, "code")), file("etc/b.pyc", compiledPyc(late.Unix(), "code")), file("etc/c", "c")),
		tartest.Tar(t, file("etc/c", "d"), file("etc/b.pyc", compiledPyc(late.Unix(), "other"))),
	}
	want := written(t, Options{}, base, layers...)
	s := testStore(t)
	for n := 1; n <= len(layers); n++ {
		img, _ := build(t, s, Options{}, rawImage{platform: amd64, base: [][]byte{base}, layers: layers[:n]})
		for i, l := range img.Manifests[0].Layers[1:] {
			if diff := gocmp.Diff(want[i], listed(t, s, l)); diff != "" {
				t.Errorf("layer %d of %d (-at once +one by one):\n%s", i, n, diff)
			}
		}
	}
}

// TestNotSent: a layer that was not sent is over other layers than the last time.
func TestNotSent(t *testing.T) {
	s := testStore(t)
	top := tartest.Tar(t, file("a", "1"))
	one, two := tartest.Tar(t, file("a", "1")), tartest.Tar(t, file("a", "2"))
	build(t, s, Options{}, rawImage{platform: amd64, layers: [][]byte{one, top}})
	raw := rawImage{platform: amd64, layers: [][]byte{two, top}}
	x := newExport(t, raw)
	in := testIngest(t, s, IngestOptions{})
	x.send(t, in)
	_, err := in.Write(t.Context(), x.root, sourcesOf([]rawImage{raw}), Options{})
	if notSent := (*NotSentError)(nil); !errors.As(err, &notSent) {
		t.Fatalf("got %v", err)
	}
	if sent := x.send(t, in); len(sent) != 1 || !sent[digest.FromBytes(top)] {
		t.Errorf("another export sent %v", sent)
	}
	img, err := in.Write(t.Context(), x.root, sourcesOf([]rawImage{raw}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := listed(t, s, img.Manifests[0].Layers[1]); !slices.Equal(got, []string{"a 1"}) {
		t.Errorf("got %q", got)
	}
	// Now the store remembers both.
	for _, below := range [][]byte{one, two} {
		build(t, s, Options{}, rawImage{platform: amd64, layers: [][]byte{below, top}})
	}
}

// TestNotSentAtAll: with other rules, and in a store without the surveys of a layer, one more export sends all layers.
func TestNotSentAtAll(t *testing.T) {
	none, err := rules.Parse("none")
	if err != nil {
		t.Fatal(err)
	}
	raw := rawImage{platform: amd64, layers: [][]byte{tartest.Tar(t, file("a", "1")), tartest.Tar(t, file("b", "2")), tartest.Tar(t, file("c", "3"))}}
	for name, o := range map[string]Options{"rules": {Rules: none}, "surveys": {}} {
		t.Run(name, func(t *testing.T) {
			s := testStore(t)
			build(t, s, Options{}, raw)
			listings, err := filepath.Glob(filepath.Join(s.Dir(), "layers", "entries-*"))
			if err != nil || len(listings) == 0 {
				t.Fatalf("%q, %v", listings, err)
			}
			for _, listing := range listings {
				if err := os.Remove(listing); err != nil {
					t.Fatal(err)
				}
			}
			x := newExport(t, raw)
			in := testIngest(t, s, IngestOptions{})
			for i := range 2 {
				x.send(t, in)
				_, err := in.Write(t.Context(), x.root, sourcesOf([]rawImage{raw}), o)
				if notSent := (*NotSentError)(nil); errors.As(err, &notSent) != (i == 0) || i == 1 && err != nil {
					t.Fatalf("export %d: %v", i, err)
				}
			}
		})
	}
}

func TestKeep(t *testing.T) {
	s := testStore(t)
	raw := rawImage{platform: amd64, base: [][]byte{tartest.Tar(t, folder("etc"))}, layers: [][]byte{
		tartest.Tar(t, file("var/log/dpkg.log", aLog+"a\n"), file("root/.cache/pip/http/a", "cc=4,")),
		tartest.Tar(t, file("var/log/dpkg.log", aLog+"a\n"+aLog+"b\n")),
	}}
	x := newExport(t, raw)
	in := testIngest(t, s, IngestOptions{})
	x.send(t, in)
	sources := sourcesOf([]rawImage{raw})
	sources[0].Keep = map[int][]string{1: {"/var/log"}}
	img, err := in.Write(t.Context(), x.root, sources, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]string{{"var/log/dpkg.log " + aLog + "a\n"}, {}} {
		if got := listed(t, s, img.Manifests[0].Layers[1+i]); !slices.Equal(got, want) {
			t.Errorf("layer %d: %q, want %q", i, got, want)
		}
	}
	want := map[string]map[string][]string{"linux/amd64": {"language-caches": {"/root/.cache/pip/http/a"}, "package-manager-logs": {"/var/log/dpkg.log"}}}
	if diff := gocmp.Diff(want, img.Normalised()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestKeepBelow: kept paths of a lower layer make records of higher layers useless.
func TestKeepBelow(t *testing.T) {
	raw := rawImage{platform: amd64, base: [][]byte{tartest.Tar(t, folder("etc"))}, layers: [][]byte{
		tartest.Tar(t, file("var/log/dpkg.log", aLog+"a\n")),
		tartest.Tar(t, file("var/log/.wh.dpkg.log", "")),
	}}
	with := func(s *store.Store, keep map[int][]string) store.Image {
		x := newExport(t, raw)
		in := testIngest(t, s, IngestOptions{})
		defer in.Close()
		sources := sourcesOf([]rawImage{raw})
		sources[0].Keep = keep
		img, _ := x.write(t, in, sources, Options{})
		return img
	}
	s := testStore(t)
	if got := listed(t, s, with(s, nil).Manifests[0].Layers[2]); len(got) != 0 {
		t.Errorf("nothing to hide: %q", got)
	}
	if got := listed(t, s, with(s, map[int][]string{1: {"var/log"}}).Manifests[0].Layers[2]); !slices.Equal(got, []string{"var/log/.wh.dpkg.log"}) {
		t.Errorf("what is kept below is to be hidden: %q", got)
	}
}

// TestBaseAsItIs: the listing of a base layer does not change the layers above.
func TestBaseAsItIs(t *testing.T) {
	global := tartest.Entry{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "x"}}}
	base := [][]byte{tartest.Tar(t, folder("etc"), file("etc/secret", "s")), tartest.Tar(t, global, file("other", "o"))}
	s := testStore(t)
	for i := range 3 {
		layer := tartest.Tar(t, file("etc/.wh.secret", ""), file("n", fmt.Sprint(i)))
		img, _ := build(t, s, Options{}, rawImage{platform: amd64, base: base, layers: [][]byte{layer}})
		if got := listed(t, s, img.Manifests[0].Layers[2]); len(got) != 2 {
			t.Errorf("build %d: %q", i, got)
		}
	}
	// A damaged listing is ignored, and the layer is read again.
	for _, f := range files(t, s.Dir()) {
		if strings.HasSuffix(f, ".gob") {
			data := []byte(readFile(t, filepath.Join(s.Dir(), f)))
			data[len(data)-1] ^= 1
			writeFile(t, filepath.Join(s.Dir(), f), data)
		}
	}
	img, _ := build(t, s, Options{}, rawImage{platform: amd64, base: base, layers: [][]byte{tartest.Tar(t, file("etc/.wh.secret", ""), file("n", "4"))}})
	if got := listed(t, s, img.Manifests[0].Layers[2]); len(got) != 2 {
		t.Errorf("damaged: %q", got)
	}
}

// TestBaseOfAnotherName: a listing is not kept for a diffID that the layer does not have.
func TestBaseOfAnotherName(t *testing.T) {
	s := testStore(t)
	honest, other := tartest.Tar(t, file("usr/sudo", "bad")), tartest.Tar(t, file("usr/sudo", "fix"))
	fixed := tartest.Tar(t, file("usr/sudo", "fix").With(at(old)))
	raw := rawImage{platform: amd64, base: [][]byte{other}, layers: [][]byte{fixed}}
	raw.config = fmt.Sprintf(`{"architecture":"amd64","os":"linux","history":[{"created_by":"a"},{"created_by":"b"}],"rootfs":{"type":"layers","diff_ids":[%q,%q]}}`,
		diffIDOf(t, honest), diffIDOf(t, fixed))
	x := newExport(t, raw)
	in := testIngest(t, s, IngestOptions{})
	x.send(t, in)
	if _, err := in.Write(t.Context(), x.root, sourcesOf([]rawImage{raw}), Options{}); err == nil {
		t.Error("a base layer with another diffID is taken")
	}
	in.Close()
	img, _ := build(t, s, Options{}, rawImage{platform: amd64, base: [][]byte{honest}, layers: [][]byte{fixed}})
	if got := listed(t, s, img.Manifests[0].Layers[1]); len(got) != 1 {
		t.Errorf("the fix is gone: %q", got)
	}
}

// TestMachineIDOfTheBase: a machine id that a step empties or creates is empty, whatever the base image
// has.
func TestMachineIDOfTheBase(t *testing.T) {
	const id, another = "0123456789abcdef0123456789abcdef\n", "9c0a4f3e1b2d4c5e8f90a1b2c3d4e5f6\n"
	off, err := rules.Parse("-machine-id")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		base, layer string
		rules       rules.Set
		want        []string
	}{
		{id, "", rules.Set{}, []string{"etc/machine-id"}},
		{id, another, rules.Set{}, []string{"etc/machine-id"}},
		{"", another, rules.Set{}, []string{}},
		{"", "", rules.Set{}, []string{}},
		{id, another, off, []string{"etc/machine-id " + another}},
		{"", another, off, []string{"etc/machine-id " + another}},
		{id, id, off, []string{}},
	} {
		got := written(t, Options{Rules: test.rules}, tartest.Tar(t, file("etc/machine-id", test.base)), tartest.Tar(t, file("etc/machine-id", test.layer)))[0]
		if !slices.Equal(got, test.want) {
			t.Errorf("%q over %q: %q, want %q", test.layer, test.base, got, test.want)
		}
	}
}

// TestRuleBehindAnother: if the first rule for a path is off, the next one still sees the content.
func TestRuleBehindAnother(t *testing.T) {
	off, err := rules.Parse("-language-caches")
	if err != nil {
		t.Fatal(err)
	}
	s := testStore(t)
	raw := rawImage{platform: amd64, layers: [][]byte{tartest.Tar(t, file("root/.cache/pip/a.whl", "no archive"))}}
	x := newExport(t, raw)
	in := testIngest(t, s, IngestOptions{})
	x.send(t, in)
	sources := sourcesOf([]rawImage{raw})
	sources[0].Run = map[int]bool{0: true}
	img, err := in.Write(t.Context(), x.root, sources, Options{Rules: off})
	if err != nil {
		t.Fatal(err)
	}
	if got := listed(t, s, img.Manifests[0].Layers[0]); !slices.Equal(got, []string{"root/.cache/pip/a.whl no archive"}) {
		t.Errorf("got %q", got)
	}
}

func TestHostileLayers(t *testing.T) {
	for name, data := range map[string][]byte{
		"long path":    tartest.Tar(t, file(strings.Repeat("a/", 3000)+"f", "")),
		"root a file":  tartest.Tar(t, file(".", "")),
		"long link":    tartest.Tar(t, hardLink("l", strings.Repeat("a", 5000))),
		"root, a link": tartest.Tar(t, hardLink(".", "a")),
	} {
		s := scanner{epoch: epoch, clamp: epoch, read: func(*entry) bool { return true }}
		r, err := layer.Open(t.Context(), io.NopCloser(bytes.NewReader(data)), layer.Digests{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.scan(r); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	// Of two entries for one name the last counts, even if it repeats an entry of a lower layer.
	base := tartest.Tar(t, file("a", "x"))
	if got := written(t, Options{}, base, tartest.Tar(t, file("a", "y"), file("a", "x")))[0]; !slices.Equal(got, []string{"a y", "a x"}) {
		t.Errorf("one name twice: %q", got)
	}
	// No time is later than the epoch, not even that of a folder of the base image.
	base = tartest.Tar(t, folder("etc").With(at(late)), file("etc/a", "x"))
	if got := written(t, Options{}, base, tartest.Tar(t, folder("etc").With(at(late)), file("etc/a", "y")))[0]; !slices.Equal(got, []string{"etc/", "etc/a y"}) {
		t.Errorf("a folder of the base: %q", got)
	}
}

// compiledPyc returns a compiled file of Python 3.11 that records the time of its source.
func compiledPyc(source int64, code string) string {
	b := []byte{0xa7, 0x0d, '\r', '\n', 0, 0, 0, 0}
	b = binary.LittleEndian.AppendUint32(b, uint32(source))
	b = binary.LittleEndian.AppendUint32(b, 7)
	return string(b) + "\xe3" + code
}

func TestPyc(t *testing.T) {
	name := "m/__pycache__/a.cpython-311.opt-1.pyc"
	late := late.Truncate(time.Second)
	source := func(when time.Time) tartest.Entry { return file("m/a.py", "source").With(at(when)) }
	compiled := func(when time.Time) tartest.Entry { return file(name, compiledPyc(when.Unix(), "code")) }
	tests := []struct {
		name string
		base []tartest.Entry
		new  []tartest.Entry
		want time.Time // in the last entry
	}{
		{"source made by the same step", nil, []tartest.Entry{source(late), compiled(late)}, epoch},
		{"source unpacked by the same step", nil, []tartest.Entry{source(old), compiled(old)}, old},
		{"source of the base image", []tartest.Entry{source(old)}, []tartest.Entry{compiled(old)}, old},
		{"source of the base image, newer than the epoch", []tartest.Entry{source(late)}, []tartest.Entry{compiled(late)}, late},
		{"source of the base image, touched", []tartest.Entry{source(old)}, []tartest.Entry{source(late), compiled(late)}, old},
		{"no source", nil, []tartest.Entry{compiled(late)}, epoch},
		{"stale", nil, []tartest.Entry{source(old), compiled(old.Add(time.Hour))}, old.Add(time.Hour)},
		{"source edited by the same step", nil, []tartest.Entry{source(late.Add(time.Hour)), compiled(late)}, time.Unix(noSource, 0)},
		{"source of the context, edited", nil, []tartest.Entry{source(late), compiled(epoch)}, time.Unix(noSource, 0)},
		{"stale in the base image, and compiled again", []tartest.Entry{source(old), compiled(late)}, []tartest.Entry{compiled(old)}, old},
		{"of another than that of the base image", []tartest.Entry{source(late)}, []tartest.Entry{compiled(late.Add(time.Hour))}, time.Unix(noSource, 0)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := written(t, Options{}, tartest.Tar(t, test.base...), tartest.Tar(t, test.new...))[0]
			want := name + " " + compiledPyc(test.want.Unix(), "code")
			if last := got[len(got)-1]; last != want {
				t.Errorf("got %q, want %q", last, want)
			}
		})
	}
	for what, content := range map[string]string{
		"by hash":  "\xa7\x0d\r\n\x03\x00\x00\x00" + strings.Repeat("\xff", 8) + "code",
		"Python 2": "\x03\xf3\r\n\xff\xff\xff\xffcode4567",
		"short":    "\xa7\x0d\r\n",
		"no pyc":   strings.Repeat("text", 10),
	} {
		want := []string{"a.pyc " + content}
		if what == "Python 2" {
			want = []string{"a.pyc \x03\xf3\r\n" + string(binary.LittleEndian.AppendUint32(nil, uint32(epoch.Unix()))) + "code4567"}
		}
		if got := written(t, Options{}, tartest.Tar(t), tartest.Tar(t, file("a.pyc", content)))[0]; !slices.Equal(got, want) {
			t.Errorf("%s: %q", what, got)
		}
	}
}

// TestEdited: Python takes the same compiled files for stale as before.
func TestEdited(t *testing.T) {
	name := "m/__pycache__/a.cpython-311.pyc"
	source := func(content string, when time.Time) tartest.Entry { return file("m/a.py", content).With(at(when)) }
	compiled := func(when time.Time, code string) tartest.Entry { return file(name, compiledPyc(when.Unix(), code)) }
	late := late.Truncate(time.Second)
	base := tartest.Tar(t, source("1", late), compiled(late, "1"), source("other", late).With(func(h *tar.Header) { h.Name = "m/b.py" }))
	made, e := tartest.Tar(t, source("1", late), compiled(late, "1")), epoch.Unix()
	tests := []struct {
		name   string
		base   []byte
		layers [][]byte
		want   [][]string
	}{
		{"by a later step", tartest.Tar(t), [][]byte{made, tartest.Tar(t, source("2", late.Add(time.Hour))), tartest.Tar(t, source("3", late.Add(2*time.Hour)))},
			[][]string{{"m/a.py 1", name + " " + compiledPyc(e, "1")}, {fmt.Sprintf("m/a.py @%d 2", e-1)}, {fmt.Sprintf("m/a.py @%d 3", e-1)}}},
		{"and compiled", tartest.Tar(t), [][]byte{made, tartest.Tar(t, source("2", late.Add(time.Hour)), compiled(late.Add(time.Hour), "2"))},
			[][]string{{"m/a.py 1", name + " " + compiledPyc(e, "1")}, {"m/a.py 2", name + " " + compiledPyc(e, "2")}}},
		{"and compiled by one later", tartest.Tar(t), [][]byte{made, tartest.Tar(t, source("2", late.Add(time.Hour))), tartest.Tar(t, compiled(late.Add(time.Hour), "2"))},
			[][]string{{"m/a.py 1", name + " " + compiledPyc(e, "1")}, {fmt.Sprintf("m/a.py @%d 2", e-1)}, {name + " " + compiledPyc(e-1, "2")}}},
		{"over a base image of the epoch", tartest.Tar(t, source("1", epoch), compiled(epoch, "1")), [][]byte{tartest.Tar(t, source("2", late))},
			[][]string{{fmt.Sprintf("m/a.py @%d 2", e-1)}}},
		{"touched", tartest.Tar(t), [][]byte{made, tartest.Tar(t, source("1", late.Add(time.Hour)))},
			[][]string{{"m/a.py 1", name + " " + compiledPyc(e, "1")}, {}}},
		{"near: another module", base, [][]byte{tartest.Tar(t, file("m/b.py", "2"), file("m/aa.py", "3"))},
			[][]string{{"m/b.py 2", "m/aa.py 3"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := gocmp.Diff(test.want, written(t, Options{}, test.base, test.layers...)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestOff: if a rule is off, a file that differs in what the rule rewrites is another file.
func TestOff(t *testing.T) {
	base, layer := tartest.Tar(t, file("etc/machine-id", "")), tartest.Tar(t, file("etc/machine-id", madeUpID))
	for s, want := range map[string][]string{"all": {}, "-machine-id": {"etc/machine-id " + madeUpID}} {
		rules, err := rules.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff([][]string{want}, written(t, Options{Rules: rules}, base, layer)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", s, diff)
		}
	}
}

// A file of a lower layer gets another name. A snapshotter that tracks hard links across layers lists all
// of its names, an overlay only the new one. The result is the same.
func TestLinkedBelow(t *testing.T) {
	base := tartest.Tar(t, file("bin/true", "x"), hardLink("bin/yes", "bin/true"), file("bin/other", "y"))
	for name, test := range map[string]struct {
		layer []tartest.Entry
		want  []string
	}{
		"overlay":          {[]tartest.Entry{file("srv/new", "x")}, []string{"srv/new x"}},
		"native":           {[]tartest.Entry{file("srv/new", "x"), hardLink("bin/true", "srv/new"), hardLink("bin/yes", "srv/new")}, []string{"srv/new x"}},
		"native, touched":  {[]tartest.Entry{file("bin/true", "x"), hardLink("bin/yes", "bin/true")}, []string{}},
		"two new":          {[]tartest.Entry{file("srv/new", "x"), hardLink("bin/true", "srv/new"), hardLink("srv/also", "srv/new")}, []string{"srv/new x", "srv/also"}},
		"another content":  {[]tartest.Entry{file("srv/new", "z"), hardLink("bin/true", "srv/new")}, []string{"srv/new z", "bin/true"}},
		"another mode":     {[]tartest.Entry{file("srv/new", "x").With(func(h *tar.Header) { h.Mode = 0o755 }), hardLink("bin/yes", "srv/new")}, []string{"srv/new x", "bin/yes"}},
		"of another":       {[]tartest.Entry{file("srv/new", "x"), hardLink("bin/other", "srv/new")}, []string{"srv/new x", "bin/other"}},
		"replaced as well": {[]tartest.Entry{file(".wh.bin", ""), file("srv/new", "x"), hardLink("bin/true", "srv/new")}, []string{".wh.bin", "srv/new x", "bin/true"}},
	} {
		got := written(t, Options{}, base, tartest.Tar(t, test.layer...))[0]
		if diff := gocmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}

	// A hard link keeps its target of the time when it was made.
	first := tartest.Tar(t, file("bin/true", "new"))
	second := tartest.Tar(t, file("srv/new", "x"), hardLink("bin/true", "srv/new"), hardLink("bin/yes", "srv/new"))
	got := written(t, Options{}, base, first, second)[1]
	if diff := gocmp.Diff([]string{"srv/new x", "bin/true"}, got); diff != "" {
		t.Errorf("after a change (-want +got):\n%s", diff)
	}
}
