package packages

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestForStream(t *testing.T) {
	tests := []struct {
		path, content string
		want          []Package
	}{
		{
			"var/lib/dpkg/status",
			"Package: libc6\nStatus: install ok installed\nDescription: x\n Package: no\nVersion: 2.36-9\n\n" +
				"Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: last\nVersion: 1:2\n",
			[]Package{{"deb", "libc6", "2.36-9"}, {"deb", "last", "1:2"}},
		},
		{"var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12\n", []Package{{"deb", "base-files", "12"}}},
		{"var/lib/dpkg/status.d/base.md5sums", "Package: x\n", nil},
		{"var/lib/dpkg/status-old", "Package: x\n", nil},
		{"lib/apk/db/installed", "C:Q1\nP:musl\nV:1.2-r0\nF:lib\n\nP:zlib\nV:1\n", []Package{{"apk", "musl", "1.2-r0"}, {"apk", "zlib", "1"}}},
		{"usr/lib/python3/dist-packages/x.dist-info/METADATA", "Metadata-Version: 2.1\r\nName: x\r\nVersion: 1.0\r\n\r\nVersion: 9\r\n", []Package{{"pypi", "x", "1.0"}}},
		{"a/x.egg-info/PKG-INFO", "Name: x\nVersion: 2\n", []Package{{"pypi", "x", "2"}}},
		{"a/x-3.egg-info", "Name: x\nVersion: 3\n", []Package{{"pypi", "x", "3"}}},
		{"a/METADATA", "Name: x\n", nil},
		{"app/node_modules/a/package.json", `{"name":"a","version":"1","dependencies":{"name":"no"}}`, []Package{{"npm", "a", "1"}}},
		{"app/node_modules/@s/a/package.json", `{"name":"@s/a","version":"1"}`, []Package{{"npm", "@s/a", "1"}}},
		{"app/node_modules/a/test/package.json", `{"name":"no","version":"1"}`, nil},
		{"app/package.json", `{"name":"no","version":"1"}`, nil},
		{
			"var/lib/gems/3.1.0/specifications/rack-2.gemspec",
			"# stub: rack 2 ruby lib\nGem::Specification.new do |s|\n  s.name = \"rack\".freeze\n  s.version = \"2.2.4\"\n  s.required_ruby_version = Gem::Requirement.new(\"9\")\nend\n",
			[]Package{{"gem", "rack", "2.2.4"}},
		},
		{"x/specifications/default/json.gemspec", "s.name = 'json'\ns.version = '2'\n", []Package{{"gem", "json", "2"}}},
		{"x/json.gemspec", "s.name = 'json'\n", nil},
	}
	for _, tt := range tests {
		read, kind := ForStream(tt.path)
		if read == nil {
			if tt.want != nil {
				t.Errorf("%s: nothing reads it", tt.path)
			}
			continue
		}
		got, err := read(strings.NewReader(tt.content))
		if err != nil {
			t.Errorf("%s: %v", tt.path, err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: -want +got\n%s", tt.path, d)
		}
		for _, p := range got {
			if p.Kind != kind || !slices.Contains(Kinds(), kind) {
				t.Errorf("%s: kind %q, not %q", tt.path, p.Kind, kind)
			}
		}
	}
}

func TestLongLines(t *testing.T) {
	long := strings.Repeat("x", 3*maxLine)
	got, err := dpkg(strings.NewReader("Package: a\nVersion: 1\nDescription: " + long + "\nStatus: install ok installed\n\nPackage: " + long + "\n"))
	if err != nil || len(got) != 2 || got[0] != (Package{"deb", "a", "1"}) || len(got[1].Name) != maxField {
		t.Errorf("%d packages, %v", len(got), err)
	}
	if _, err := apk(strings.NewReader(strings.Repeat("P:a\n\n", maxPackages+1))); err == nil {
		t.Error("packages without end are taken")
	}
}

// unzipped returns a file of testdata. The databases were made by Debian's rpm and db5.3_load of two
// packages; the description of one is long.
func unzipped(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// ndb returns an ndb database of headers.
func ndb(headers [][]byte) []byte {
	le := binary.LittleEndian
	db := make([]byte, 4096)
	copy(db, "RpmP")
	le.PutUint32(db[12:], 1)
	for i := 32; i < len(db); i += 16 {
		copy(db[i:], "Slot")
	}
	for i, h := range headers {
		slot := db[32+16*(i+1):] // the first is free
		le.PutUint32(slot[4:], uint32(i+1))
		le.PutUint32(slot[8:], uint32(len(db)/16))
		db = append(db, "BlbS"...)
		db = le.AppendUint32(db, uint32(i+1))
		db = le.AppendUint32(db, 0)
		db = le.AppendUint32(db, uint32(len(h)))
		db = append(db, h...)
		db = append(db, make([]byte, 16-len(db)%16)...)
	}
	return db
}

func rpmDatabases(t testing.TB) map[string][]byte {
	t.Helper()
	sqlite := unzipped(t, "rpmdb.sqlite.gz")
	var headers [][]byte
	err := sqliteBlobs(bytes.NewReader(sqlite), int64(len(sqlite)), func(b []byte) error {
		headers = append(headers, slices.Clone(b))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"rpmdb.sqlite": sqlite, "Packages": unzipped(t, "Packages.gz"), "Packages.db": ndb(headers)}
}

func TestRPM(t *testing.T) {
	want := []Package{{"rpm", "kedge-one", "4:1.2-3"}, {"rpm", "kedge-two", "5-3"}}
	for name, db := range rpmDatabases(t) {
		read, kind := ForRandom("var/lib/rpm/" + name)
		if read == nil || kind != "rpm" {
			t.Fatalf("%s: nothing reads it", name)
		}
		got, err := read(bytes.NewReader(db), int64(len(db)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		slices.SortFunc(got, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: -want +got\n%s", name, d)
		}
		if _, err := read(bytes.NewReader(db[:len(db)/2]), int64(len(db)/2)); err == nil && name != "rpmdb.sqlite" {
			t.Errorf("%s: half of it is taken", name)
		}
	}
	if read, _ := ForRandom("srv/Packages"); read != nil {
		t.Error("any file of that name is taken for a database")
	}
}

// TestRPMDamaged changes bytes: the reader must return in time.
func TestRPMDamaged(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	start := time.Now()
	for name, db := range rpmDatabases(t) {
		for range 2000 {
			damaged := slices.Clone(db)
			for range 1 + random.IntN(8) {
				// Most of what matters is near the start of a page.
				damaged[(random.IntN(len(damaged))&^4095+random.IntN(128))%len(damaged)] = byte(random.Uint32())
			}
			_, _ = rpm(bytes.NewReader(damaged), int64(len(damaged)))
		}
		if d := time.Since(start); d > time.Minute {
			t.Fatalf("%s took %v", name, d)
		}
	}
}

func zipped(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		w, err := z.Create(files[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestJar(t *testing.T) {
	pom := "#Generated\ngroupId=org.example\nartifactId=core\nversion=1.2\n"
	manifest := "Manifest-Version: 1.0\r\nBundle-SymbolicName: org.exam\r\n ple.b;singleton:=true\r\nBundle-Version: 3\r\n\r\nName: x\r\nImplementation-Title: no\r\n"
	inner := zipped(t, "META-INF/maven/org.example/core/pom.properties", pom)
	tests := []struct {
		name string
		jar  []byte
		want []Package
	}{
		{"pom", zipped(t, "META-INF/MANIFEST.MF", manifest, "META-INF/maven/g/a/pom.properties", pom), []Package{{"maven", "org.example:core", "1.2"}}},
		{"manifest", zipped(t, "META-INF/MANIFEST.MF", manifest), []Package{{"maven", "org.example.b", "3"}}},
		{"nested", zipped(t, "META-INF/MANIFEST.MF", "Implementation-Title: app\nImplementation-Version: 9\n", "BOOT-INF/lib/core.jar", string(inner), "x.jar", "no zip"), []Package{{"maven", "app", "9"}, {"maven", "org.example:core", "1.2"}}},
		{"nothing", zipped(t, "A.class", ""), nil},
	}
	for _, tt := range tests {
		read, _ := ForRandom("app/lib.jar")
		got, err := read(bytes.NewReader(tt.jar), int64(len(tt.jar)))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, d)
		}
	}
}

// auditable makes an ELF file with the section of cargo-auditable.
func auditable(t testing.TB, content string) []byte {
	t.Helper()
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	_, err := io.WriteString(w, content)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	names := "\x00.dep-v0\x00.shstrtab\x00"
	const head, section = 64, 64
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: head,
		Shentsize: section, Shnum: 3, Shstrndx: 2, Shoff: uint64(head + z.Len() + len(names)),
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	var b bytes.Buffer
	for _, part := range []any{
		h, z.Bytes(), []byte(names), elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: head, Size: uint64(z.Len())},
		elf.Section64{Name: 9, Type: uint32(elf.SHT_STRTAB), Off: uint64(head + z.Len()), Size: uint64(len(names))},
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func scanned(content []byte, part int) bool {
	var s Scanner
	for len(content) > 0 {
		n := min(part, len(content))
		_, _ = s.Write(content[:n])
		content = content[n:]
	}
	return s.Found()
}

func TestProgramCargo(t *testing.T) {
	content := auditable(t, `{"packages":[{"name":"serde","version":"1.0.1","source":"crates.io"},{"name":"app","version":"0.1.0","root":true}]}`)
	got, err := Program(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]Package{{"cargo", "serde", "1.0.1"}, {"cargo", "app", "0.1.0"}}, got); d != "" {
		t.Error(d)
	}
	for _, part := range []int{1, 2, 3, 7, 4096} {
		if !scanned(content, part) {
			t.Errorf("in parts of %d bytes it is not found", part)
		}
		if scanned(content[1:], part) {
			t.Errorf("in parts of %d bytes, what is no ELF file is", part)
		}
	}
	for at := range 200 {
		// Go's mark counts at multiples of 16, wherever the parts end.
		file := append([]byte(elf.ELFMAG), make([]byte, 300)...)
		copy(file[20+at:], goMark)
		for _, part := range []int{1, 5, 16, 33, 100, 4096} {
			if got := scanned(file, part); got != ((20+at)%16 == 0) {
				t.Errorf("Go's mark at %d, in parts of %d: %v", 20+at, part, got)
			}
		}
	}
	if scanned([]byte(elf.ELFMAG+"nothing of that kind"), 5) {
		t.Error("any ELF file is")
	}
}

// TestProgramGo reads the test itself.
func TestProgramGo(t *testing.T) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Program(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	own, ok := debug.ReadBuildInfo()
	if !ok {
		t.Fatal("the test has no build info")
	}
	if !slices.Contains(got, Package{"golang", "stdlib", own.GoVersion}) {
		t.Errorf("no stdlib %s in %v", own.GoVersion, got)
	}
	for _, m := range own.Deps {
		if !slices.Contains(got, Package{"golang", m.Path, m.Version}) {
			t.Errorf("no %s %s in %v", m.Path, m.Version, got)
		}
	}
	content, err := io.ReadAll(io.NewSectionReader(f, 0, info.Size()))
	if err != nil || !scanned(content, 32<<10) {
		t.Errorf("it is not found: %v", err)
	}
}

func FuzzStream(f *testing.F) {
	paths := []string{
		"var/lib/dpkg/status", "lib/apk/db/installed", "x.dist-info/METADATA", "node_modules/a/package.json", "specifications/a.gemspec",
	}
	for i, seed := range []string{"Package: a\nVersion: 1\n\n", "P:a\nV:1\n\n", "Name: a\nVersion: 1\n", `{"name":"a","version":"1"}`, "s.name = \"a\"\ns.version = '1'\n"} {
		f.Add(i, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, which int, content []byte) {
		read, _ := ForStream(paths[uint(which)%uint(len(paths))])
		list, _ := read(bytes.NewReader(content))
		for _, p := range list {
			if p.Name == "" || len(p.Name) > maxField || len(p.Version) > maxField {
				t.Errorf("package %q", p)
			}
		}
	})
}

func FuzzRandom(f *testing.F) {
	for _, db := range rpmDatabases(f) {
		f.Add(db)
	}
	f.Add(zipped(f, "META-INF/MANIFEST.MF", "Implementation-Title: a\n"))
	f.Add(auditable(f, `{"packages":[{"name":"a","version":"1"}]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		for name, read := range map[string]func(io.ReaderAt, int64) ([]Package, error){"rpm": rpm, "jar": jar, "program": Program} {
			// Unguarded: no reader of kedge's own may panic.
			first, err1 := read(bytes.NewReader(content), int64(len(content)))
			again, err2 := read(bytes.NewReader(content), int64(len(content)))
			if diff := cmp.Diff(first, again); diff != "" || (err1 == nil) != (err2 == nil) {
				t.Errorf("%s: two readings differ: %v, %v\n%s", name, err1, err2, diff)
			}
			for _, p := range first {
				if !slices.Contains(Kinds(), p.Kind) {
					t.Errorf("%s: no kind has the name %q", name, p.Kind)
				}
			}
		}
	})
}
