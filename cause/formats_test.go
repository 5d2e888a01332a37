package cause

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBinaryTime(t *testing.T) {
	le, be := binary.LittleEndian, binary.BigEndian
	dosTime := func(t time.Time) uint32 {
		return uint32(t.Year()-1980)<<25 | uint32(t.Month())<<21 | uint32(t.Day())<<16 | uint32(t.Hour())<<11 | uint32(t.Minute())<<5 | uint32(t.Second()/2)
	}
	for _, c := range []struct {
		format string
		write  func(t time.Time) []byte
	}{
		{"u32 seconds LE", func(t time.Time) []byte {
			return append(le.AppendUint32(nil, uint32(t.Unix())), 0xff, 0xff, 0xff, 0xff)
		}},
		{"u32 seconds BE", func(t time.Time) []byte {
			return append(be.AppendUint32([]byte{0xff, 0xff, 0xff, 0xff}, uint32(t.Unix())), 0xff)
		}},
		{"u64 seconds LE", func(t time.Time) []byte { return le.AppendUint64(nil, uint64(t.Unix())) }},
		{"u64 seconds BE", func(t time.Time) []byte { return be.AppendUint64(nil, uint64(t.Unix())) }},
		{"u64 milliseconds BE", func(t time.Time) []byte { return be.AppendUint64(nil, uint64(t.UnixMilli())) }},
		{"u64 nanoseconds LE", func(t time.Time) []byte { return le.AppendUint64(nil, uint64(t.UnixNano())) }},
		{"FILETIME LE", func(t time.Time) []byte { return le.AppendUint64(nil, uint64(t.Unix()-epoch1601)*1e7) }},
		{"u64 seconds since 1904 BE", func(t time.Time) []byte { return be.AppendUint64(nil, uint64(t.Unix()-epoch1904)) }},
		{"double seconds LE", func(t time.Time) []byte { return le.AppendUint64(nil, math.Float64bits(float64(t.Unix())+0.5)) }},
		{"DOS date LE", func(t time.Time) []byte { return append(le.AppendUint32(nil, dosTime(t)), 0xff, 0xff, 0xff, 0xff) }},
	} {
		t.Run(c.format, func(t *testing.T) {
			file := func(at time.Time) []byte {
				return append(append([]byte("MAGIC\x00\x01\x02\xff\xfe\xfd\xfc"), c.write(at)...), "the end of it\x00\x00\x00"...)
			}
			got := find(t, "x", file(moment1), file(moment2), hints)
			if len(got) != 1 || got[0].Kind != Timestamp || got[0].Format != c.format || got[0].Clock != BuildClock {
				t.Errorf("%+v", got)
			}
			// Numbers that are none of the times of the builds.
			got = find(t, "x", file(moment1.AddDate(-9, 0, 0)), file(moment2.AddDate(-9, 0, 0)), hints)
			if len(got) != 1 || got[0].Kind != Unknown {
				t.Errorf("nine years before: %+v", got)
			}
		})
	}
	// Without windows, recent times near each other are times, and counters are not.
	for want, v := range map[Kind][2]uint32{Timestamp: {1795444914, 1795445527}, Unknown: {17, 18}} {
		file := func(n uint32) []byte {
			return append([]byte("\x00\x01\x02\x03\xff\xff\xff\xff"), le.AppendUint32(nil, n)...)
		}
		if got := find(t, "x", file(v[0]), file(v[1]), Hints{}); len(got) != 1 || got[0].Kind != want {
			t.Errorf("%v: %+v", v, got)
		}
	}
}

func TestRandomBytes(t *testing.T) {
	noise := func(seed byte, n int) []byte {
		b := make([]byte, n)
		_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
		return append(append([]byte("HEAD\x00\x00\x00\x00"), b...), "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00TAIL"...)
	}
	for _, n := range []int{32, 4096, 1 << 20} {
		if diff := cmp.Diff([]Kind{Random}, kindsOf(find(t, "x", noise(1, n), noise(2, n), hints))); diff != "" {
			t.Errorf("%d bytes (-want +got):\n%s", n, diff)
		}
	}
	a, b := noise(1, 0), append(noise(1, 0)[:8], "\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x04\x00\x00\x00"...)
	if diff := cmp.Diff([]Kind{Unknown}, kindsOf(find(t, "x", a, b, hints))); diff != "" {
		t.Errorf("a table (-want +got):\n%s", diff)
	}
}

// tool returns the path of a program. The test is skipped without it, or fails if all programs are required.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("KEDGE_TEST_REQUIRE") == "1" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	return path
}

func run(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	c := exec.Command(tool(t, name), args...)
	c.Dir, c.Env = dir, append(os.Environ(), env...)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

func writeFile(t *testing.T, path, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestELF(t *testing.T) {
	const source = `const char stamp[] = "built " __DATE__ " " __TIME__;
int main(void) { return stamp[0] == 'x'; }
`
	compile := func(epoch string, flags ...string) []byte {
		dir := filepath.Join(t.TempDir(), "src")
		writeFile(t, filepath.Join(dir, "x.c"), source)
		run(t, dir, []string{"SOURCE_DATE_EPOCH=" + epoch}, "gcc", append([]string{"-o", "x", "x.c"}, flags...)...)
		return read(t, filepath.Join(dir, "x"))
	}
	const one, two = "1795444914", "1795545527"
	for _, c := range []struct {
		name          string
		first, second []byte
		want          []Kind
	}{
		{"date", compile(one, "-Wl,--build-id=none"), compile(two, "-Wl,--build-id=none"), []Kind{CompilerDate}},
		{"date and build id", compile(one, "-Wl,--build-id=sha1"), compile(two, "-Wl,--build-id=sha1"), []Kind{CompilerDate, BuildID}},
		{"build id", compile(one, "-Wl,--build-id=0x1234567812345678"), compile(one, "-Wl,--build-id=0x8765432187654321"), []Kind{BuildID}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := find(t, "x", c.first, c.second, hints)
			if diff := cmp.Diff(c.want, kindsOf(got)); diff != "" {
				t.Errorf("(-want +got):\n%s\n%+v", diff, got)
			}
			for _, g := range got {
				if g.Kind == BuildID && strings.HasPrefix(g.Why, "Only the build ID") != (len(got) == 1) {
					t.Errorf("%+v", g)
				}
			}
		})
	}
	// Compressed debug information is opened.
	packed := []string{"-g3", "-gz=zlib", "-include", "stdio.h", "-Wl,--build-id=none"}
	got := find(t, "x", compile(one, append(packed, "-DNAME=/build/one/file")...), compile(one, append(packed, "-DNAME=/build/two/file")...), Hints{})
	if !slices.ContainsFunc(got, func(c Cause) bool { return strings.HasPrefix(c.Where, ".debug_") && c.Kind == BuildPath }) {
		t.Errorf("compressed debug information: %+v", got)
	}
	// Debug information names the directory.
	got = find(t, "x", compile(one, "-g", "-Wl,--build-id=none"), compile(one, "-g", "-Wl,--build-id=none"), Hints{})
	if len(got) == 0 || got[0].Kind != BuildPath && got[0].Kind != TempName {
		t.Errorf("another directory: %+v", got)
	}
}

func TestPyc(t *testing.T) {
	const source = "def f(x):\n    return x in {'alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta', 'eta', 'theta'}\n"
	compile := func(mtime time.Time, source string) []byte {
		dir := t.TempDir()
		path := filepath.Join(dir, "m.py")
		writeFile(t, path, source)
		if err := os.Chtimes(path, mtime, mtime); err != nil {
			t.Fatal(err)
		}
		run(t, dir, []string{"PYTHONHASHSEED=0"}, "python3", "-c", "import py_compile; py_compile.compile('m.py', cfile='m.pyc', dfile='m.py', doraise=True, invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)")
		return read(t, filepath.Join(dir, "m.pyc"))
	}
	first := compile(moment1, source)
	got := find(t, "m.pyc", first, compile(moment2, source), hints)
	if len(got) != 1 || got[0].Kind != Pyc || got[0].Clock != BuildClock || got[0].First != "2026-11-23T14:41:54Z" || !strings.Contains(got[0].Why, "the code is the same") {
		t.Errorf("another time: %+v", got)
	}
	// Older versions of Python do not sort a frozenset.
	swapped := []byte(strings.NewReplacer("alpha", "gamma", "gamma", "alpha").Replace(string(first)))
	if diff := cmp.Diff([]Kind{HashOrder}, kindsOf(find(t, "m.pyc", first, swapped, hints))); diff != "" {
		t.Errorf("another hash seed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Kind{Unknown}, kindsOf(find(t, "m.pyc", first, compile(moment1, strings.Replace(source, "alpha", "omega", 1)), hints))); diff != "" {
		t.Errorf("other code (-want +got):\n%s", diff)
	}
	marked := bytes.Clone(first)
	marked[16] ^= 0x80
	if got := find(t, "m.pyc", first, marked, hints); len(got) != 1 || got[0].Kind != Pyc || !strings.Contains(got[0].Why, "marks of shared objects") {
		t.Errorf("another mark: %+v", got)
	}
}

// TestCompiled finds names of temporary files and addresses in binary files.
func TestCompiled(t *testing.T) {
	object := func(name string, address uint64) []byte {
		b := append([]byte("\x00\x01\x02\x03\x00main.c\x00"), name...)
		b = append(b, "\x00printf\x00"...)
		b = append(b, make([]byte, 64-len(b))...)
		return binary.LittleEndian.AppendUint64(b, address)
	}
	const address = 0x7f3a2c001b40
	for name, c := range map[string]struct {
		first, second []byte
		want          []Kind
	}{
		"a template":                {object("mono_aot_Kd93jS", address), object("mono_aot_p0W7tZ", address), []Kind{TempName}},
		"link time optimisation":    {object("ccKd93jS.ltrans0.ltrans.o", address), object("ccp0W7tZ.ltrans0.ltrans.o", address), []Kind{TempName}},
		"two words":                 {object("mono_aot_reader", address), object("mono_aot_writes", address), []Kind{Unknown}},
		"an address":                {object("main", address), object("main", 0x7fe1d4a01b40), []Kind{MemoryAddress}},
		"an address within a page":  {object("main", address), object("main", 0x7fe1d4a01b48), []Kind{Unknown}},
		"a number, and no address":  {object("main", 0x123a2c001b40), object("main", 0x12e1d4a01b40), []Kind{Unknown}},
		"an address not at a field": {append([]byte("abcd"), object("main", address)...), append([]byte("abcd"), object("main", 0x7fe1d4a01b40)...), []Kind{Unknown}},
	} {
		if diff := cmp.Diff(c.want, kindsOf(find(t, "x.so", c.first, c.second, hints))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestPycVersions: the headers of all versions of Python are recognised, and no others.
func TestPycVersions(t *testing.T) {
	for _, c := range []struct {
		name, header string // up to the time of the source
		kind         Kind
	}{
		{"Python 2.7", "\x03\xf3\r\n", Pyc},
		{"Python 3.6", "\x33\x0d\r\n", Pyc},
		{"Python 3.11", "\xa7\x0d\r\n\x00\x00\x00\x00", Pyc},
		{"a later Python 3", "\x88\x13\r\n\x00\x00\x00\x00", Pyc},
		{"PyPy", "\x50\x01\r\n\x00\x00\x00\x00", Timestamp},
		{"flags that do not exist", "\xa7\x0d\r\n\x08\x00\x00\x00", Timestamp},
	} {
		compiled := func(when time.Time) []byte {
			b := binary.LittleEndian.AppendUint32([]byte(c.header), uint32(when.Unix()))
			if c.name != "Python 2.7" {
				b = append(b, 7, 0, 0, 0)
			}
			return append(b, "\xe3the code"...)
		}
		if diff := cmp.Diff([]Kind{c.kind}, kindsOf(find(t, "m.pyc", compiled(moment1), compiled(moment2), hints))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestSQLite(t *testing.T) {
	database := func(sql string) []byte {
		dir := t.TempDir()
		run(t, dir, nil, "sqlite3", "x.db", sql)
		return read(t, filepath.Join(dir, "x.db"))
	}
	const schema = "create table t (id integer primary key, v text); create table u (k text primary key, v) without rowid;"
	const many = "with recursive n(i) as (select 1 union all select i+1 from n where i < 3000) insert into t select i, 'row number ' || i from n;"
	const big = "insert into t values (9001, hex(zeroblob(20000))); insert into u values ('a', 1), ('b', 2);"
	base := database(schema + many + big)
	for _, c := range []struct {
		name   string
		second string
		want   []seen
	}{
		{"same rows, more writes", schema + many + big + "insert into t values (9002, 'x'); delete from t where id = 9002;", []seen{{SQLite, "", "SQLite"}}},
		{"same rows, other pages", schema + big + many + "create table w (x); drop table w;", []seen{{SQLite, "", "SQLite"}}},
		{"a row more", schema + many + big + "insert into t values (9002, 'x');", []seen{{SQLite, "", "SQLite rows"}}},
		{"without rowid", schema + many + strings.Replace(big, "'b', 2", "'b', 3", 1), []seen{{SQLite, "", "SQLite rows"}}},
		{"a table more", schema + many + big + "create table w (x);", []seen{{SQLite, "", "SQLite rows"}}},
		{"a long row", schema + many + strings.Replace(big, "20000", "20001", 1), []seen{{SQLite, "", "SQLite rows"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := find(t, "x.db", base, database(c.second), hints)
			var have []seen
			for _, g := range got {
				have = append(have, seen{g.Kind, g.Where, g.Format})
				if strings.Contains(g.Why, "could not be read") {
					t.Error(g.Why)
				}
			}
			if diff := cmp.Diff(c.want, have); diff != "" {
				t.Errorf("(-want +got):\n%s\n%+v", diff, got)
			}
		})
	}
	const at = "create table t (id integer primary key, v text); insert into t values (1, '2026-11-23 14:41:54');"
	got := find(t, "x.db", database(at), database(strings.Replace(at, "14:41:54", "14:52:07", 1)), hints)
	if diff := cmp.Diff([]Kind{Timestamp, SQLite}, kindsOf(got)); diff != "" || got[0].Where != "t" || got[0].Clock != BuildClock {
		t.Errorf("a time in a row: %s\n%+v", diff, got)
	}
}

func TestKeys(t *testing.T) {
	type made struct{ key, cert []byte }
	make1 := func(from time.Time) made {
		key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(from.Unix()), Subject: pkix.Name{CommonName: "x"}, NotBefore: from, NotAfter: from.AddDate(1, 0, 0)}
		cert, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return made{der, cert}
	}
	a, b := make1(moment1), make1(moment2)
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	tsig := func(secret string) string {
		return "key \"rndc-key\" {\n\talgorithm hmac-sha256;\n\tsecret \"" + secret + "\";\n};\n"
	}
	for _, c := range []struct {
		name, path    string
		first, second string
		want          []Kind
	}{
		{"pem key", "k.pem", block("PRIVATE KEY", a.key), block("PRIVATE KEY", b.key), []Kind{PrivateKey}},
		{"der key", "k.der", string(a.key), string(b.key), []Kind{PrivateKey}},
		{"pem certificate", "c.pem", block("CERTIFICATE", a.cert), block("CERTIFICATE", b.cert), []Kind{Certificate}},
		{"der certificate", "c.der", string(a.cert), string(b.cert), []Kind{Certificate}},
		{"both", "b.pem", block("PRIVATE KEY", a.key) + block("CERTIFICATE", a.cert), block("PRIVATE KEY", b.key) + block("CERTIFICATE", b.cert), []Kind{PrivateKey, Certificate}},
		{"ssh", "etc/ssh/ssh_host_ecdsa_key", block("OPENSSH PRIVATE KEY", a.key), block("OPENSSH PRIVATE KEY", b.key), []Kind{SSHKey}},
		{"dh", "dh.pem", block("DH PARAMETERS", a.key), block("DH PARAMETERS", b.key), []Kind{Random}},
		{"tsig", "rndc.key", tsig("a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6="), tsig("Zz9Yy8Xx7Ww6Vv5Uu4Tt3Ss2Rr1Qq0P="), []Kind{SecretKey}},
		{"tsig, another algorithm", "rndc.key", tsig("a1B2="), strings.Replace(tsig("a1B2="), "sha256", "sha512", 1), []Kind{Unknown}},
		{"another secret", "x.conf", `secret "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6";`, `secret "Zz9Yy8Xx7Ww6Vv5Uu4Tt3Ss2Rr1Qq0PP";`, []Kind{Random}},
		{"same key, other remark", "k.pem", "# one day\n" + block("PRIVATE KEY", a.key), "# two day\n" + block("PRIVATE KEY", a.key), []Kind{Unknown}},
		{"text about keys", "k.txt", "write -----BEGIN here, then 1\n", "write -----BEGIN here, then 2\n", []Kind{Unknown}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := find(t, c.path, c.first, c.second, hints)
			if diff := cmp.Diff(c.want, kindsOf(got)); diff != "" {
				t.Errorf("(-want +got):\n%s\n%+v", diff, got)
			}
			for _, g := range got {
				secret := func(s string) bool { return len(s) > 30 && g.Kind != Certificate }
				if c.want[0] != Unknown && (secret(g.First) || secret(g.Second)) {
					t.Errorf("shows a key: %+v", g)
				}
			}
		})
	}
	// Debian's certificate has its own fix.
	for name, want := range map[string]bool{"etc/ssl/certs/ssl-cert-snakeoil.pem": true, "etc/ssl/certs/mine.pem": false} {
		got := find(t, name, block("CERTIFICATE", a.cert), block("CERTIFICATE", b.cert), hints)
		if len(got) != 1 || strings.Contains(got[0].Fix, "make-ssl-cert") != want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// A key within other text is not shown, either.
	inJSON := func(m made) string {
		return `{"k": "` + strings.ReplaceAll(block("PRIVATE KEY", m.key), "\n", `\n`) + `"}`
	}
	for _, g := range find(t, "x.json", inJSON(a), inJSON(b), hints) {
		if g.Kind == PrivateKey && len(g.First) > 30 {
			t.Errorf("shows a key: %+v", g)
		}
	}
}

func TestKeystore(t *testing.T) {
	be := binary.BigEndian
	jks := func(at time.Time) []byte {
		b := be.AppendUint32(nil, uint32(0xfeedfeed))
		b = be.AppendUint32(be.AppendUint32(b, 2), 1)
		b = append(be.AppendUint16(be.AppendUint32(b, 2), 5), "my-ca"...)
		b = be.AppendUint64(b, uint64(at.UnixMilli()))
		b = append(be.AppendUint16(b, 5), "X.509"...)
		b = append(be.AppendUint32(b, 4), "cert"...)
		return append(b, make([]byte, 20)...)
	}
	got := find(t, "cacerts", jks(moment1), jks(moment2), hints)
	if len(got) != 1 || got[0].Kind != Keystore || got[0].First != "my-ca of 2026-11-23T14:41:54Z" || got[0].Clock != BuildClock {
		t.Errorf("%+v", got)
	}
	p12 := func(salt string) []byte {
		return append(append(append([]byte{0x30, 0x82, 1, 0, 2, 1, 3, 0x30, 0x82, 0, 0x80}, oidData...), make([]byte, 30)...), salt...)
	}
	if diff := cmp.Diff([]Kind{Keystore}, kindsOf(find(t, "k.p12", p12("salt"), p12("pepper"), hints))); diff != "" {
		t.Errorf("PKCS #12 (-want +got):\n%s", diff)
	}
	near := func(b []byte) []byte { b[0] = 0xaa; return b }
	for _, g := range find(t, "k", near(jks(moment1)), near(jks(moment2)), hints) {
		if g.Kind == Keystore {
			t.Errorf("another magic number: %+v", g)
		}
	}
}

func TestDatabases(t *testing.T) {
	le, be := binary.LittleEndian, binary.BigEndian
	make1 := func(size int, fill func(b []byte)) []byte {
		b := make([]byte, size)
		fill(b)
		return b
	}
	tail := func(b []byte, n byte) []byte {
		c := bytes.Clone(b)
		c[len(c)-9] = n
		return c
	}
	control := func(at time.Time) []byte {
		return make1(8192, func(b []byte) {
			le.PutUint64(b, uint64(at.Unix())<<32|12345)
			le.PutUint32(b[8:], 1700)
			le.PutUint32(b[12:], 202406281)
		})
	}
	got := find(t, "global/pg_control", control(moment1), control(moment2), hints)
	if len(got) != 1 || got[0].Kind != Database || got[0].Clock != BuildClock || got[0].Format != "PostgreSQL control file" {
		t.Errorf("%+v", got)
	}
	table := func(n, more byte) []byte {
		return make1(100, func(b []byte) { copy(b, "\xfe\x01\x0a\x09"); b[65], b[66], b[90] = 16, n, more })
	}
	got = find(t, "x.frm", table(1, 0), table(2, 0), hints)
	if len(got) != 1 || got[0].First != "01000000-0000-0000-0000-000000000000" || !strings.Contains(got[0].Why, "UUID") {
		t.Errorf("%+v", got)
	}
	if got = find(t, "x.frm", table(1, 0), table(1, 1), hints); len(got) != 1 || strings.Contains(got[0].Why, "UUID") {
		t.Errorf("the same version: %+v", got)
	}
	for format, base := range map[string][]byte{
		"PostgreSQL page": make1(16384, func(b []byte) {
			le.PutUint16(b[12:], 40)
			le.PutUint16(b[14:], 8000)
			le.PutUint16(b[16:], 8192)
			le.PutUint16(b[18:], 0x2004)
		}),
		"PostgreSQL WAL": make1(1<<20, func(b []byte) {
			le.PutUint16(b, 0xd116)
			le.PutUint32(b[32:], 1<<20)
			le.PutUint32(b[36:], 8192)
		}),
		"InnoDB tablespace": make1(65536, func(b []byte) {
			be.PutUint32(b, 0xdeadbeef)
			be.PutUint16(b[24:], 8)
		}),
		"InnoDB redo log":        make1(8192, func(b []byte) { copy(b, "Phys"); copy(b[16:], "MariaDB 10.11") }),
		"PostgreSQL statistics":  make1(100, func(b []byte) { le.PutUint32(b, 0x01a5bca7) }),
		"MySQL table definition": make1(100, func(b []byte) { copy(b, "\xfe\x01\x0a\x09") }),
		"MySQL binary log":       make1(100, func(b []byte) { copy(b, "\xfebin") }),
		"Aria":                   make1(8192, func(b []byte) { copy(b, "\xfe\xfe\x0c\x01") }),
		"Berkeley DB":            make1(8192, func(b []byte) { le.PutUint32(b[12:], 0x53162) }),
		"LMDB":                   make1(8192, func(b []byte) { le.PutUint32(b[16:], 0xbeefc0de) }),
		"GDBM":                   make1(4096, func(b []byte) { le.PutUint32(b, 0x13579acf) }),
		"systemd journal":        make1(4096, func(b []byte) { copy(b, "LPKSHHRH") }),
	} {
		t.Run(format, func(t *testing.T) {
			got := find(t, "x", base, tail(base, 7), hints)
			if len(got) != 1 || got[0].Kind != Database || got[0].Format != format {
				t.Errorf("%+v", got)
			}
			near := bytes.Clone(base)
			for i := range 48 {
				near[i] ^= 0x55
			}
			if got := find(t, "x", near, tail(near, 7), hints); len(got) != 1 || got[0].Kind != Unknown {
				t.Errorf("near: %+v", got)
			}
		})
	}
}

func TestTeXFormat(t *testing.T) {
	format := func(minutes, day uint32, words string) []byte {
		b := []byte("W2TX\x00\x00\x00\x04tex\x00" + strings.Repeat("\x00\x65\x00\x00\x00\x00\x03\xe8", 20))
		for _, n := range []uint32{minutes, day, 11, 2026, 0} {
			b = binary.BigEndian.AppendUint32(append(b, 0, 0x65, 0, 0), n)
		}
		return append(append(b, strings.Repeat("\x00\x65\x00\x00\x00\x00\x03\xe8", 20)...), words...)
	}
	const table, moved = "\x05ta-ble\x00\x01pro-ject\x00\x02pre-sent\x00\x03oblig-a-tory", "\x02pre-sent\x00\x03oblig-a-tory\x00\x01pro-ject\x05\x00ta-ble"
	for _, c := range []struct {
		name          string
		first, second []byte
		want          []Kind
	}{
		{"minutes", format(1057, 23, table), format(1058, 23, table), []Kind{Timestamp}},
		{"day", format(0, 23, table), format(0, 24, table), []Kind{Timestamp}},
		{"no time", format(4000, 23, table), format(4001, 23, table), []Kind{Unknown}},
		{"Lua", format(1, 23, table), format(1, 23, moved), []Kind{HashOrder}},
		{"both", format(1057, 23, table), format(1058, 23, moved), []Kind{Timestamp, HashOrder}},
		{"other words", format(1, 23, table), format(1, 23, strings.Replace(moved, "pro-ject", "sub-ject", 1)), []Kind{Unknown}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, kindsOf(find(t, "tex.fmt", c.first, c.second, hints))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	got := find(t, "tex.fmt", format(1057, 23, table), format(1058, 23, table), hints)
	if len(got) != 1 || got[0].First != "2026-11-23 17:37" || got[0].Second != "2026-11-23 17:38" {
		t.Errorf("%+v", got)
	}
	if got := find(t, "x", "\x00"+string(format(1057, 23, table)), "\x00"+string(format(1058, 23, table)), hints); len(got) != 1 || got[0].Kind != Unknown {
		t.Errorf("no format: %+v", got)
	}
}

func TestStatCache(t *testing.T) {
	for magic, want := range map[string]Kind{"glibc-ld.so.auxcache-1.0": FileStatus, "DIRC\x00\x00\x00\x02": FileStatus, "# ninja log v5\n": FileStatus, "# ninjadeps\n": FileStatus,
		"\xa2\xab\x0b\xf0": FileStatus, "\xa8\xab\x0b\xf0": FileStatus, "\xf0\x0b\xab\xa2": Unknown, "# ninja": Unknown, "glibc-ld.so.cache1.1": Unknown} {
		got := find(t, "x", magic+"\x00\x00\x00\x01\x02\x00\x00", magic+"\x00\x00\x00\x07\x09\x00\x00", hints)
		if len(got) != 1 || got[0].Kind != want {
			t.Errorf("%q: %+v", magic, got)
		}
	}
}

// TestFixOfTheTool: a known tool has its own fix.
func TestFixOfTheTool(t *testing.T) {
	for _, test := range []struct{ first, second, fix string }{
		{"/tmp/pip-req-build-xe3mkq9z/_a.c", "/tmp/pip-req-build-q2wjz05p/_a.c", "CFLAGS=-g0"},
		{"/tmp/pip-install-xe3mkq9z/a_1/_a.c", "/tmp/pip-install-q2wjz05p/a_1/_a.c", "CFLAGS=-g0"},
		{"/tmp/pip-target-xe3mkq9z/lib/a.py", "/tmp/pip-target-q2wjz05p/lib/a.py", "--no-compile"},
		{"/tmp/tmpxe3mkq9z/a.py", "/tmp/tmpq2wjz05p/a.py", describe(TempName).Fix},
		{"<!-- Generated by javadoc (17) on Mon Nov 23 14:41:54 UTC 2026 -->", "<!-- Generated by javadoc (17) on Mon Nov 23 14:52:07 UTC 2026 -->", "-notimestamp"},
		{`<meta name="dc.created" content="2026-11-23">`, `<meta name="dc.created" content="2026-11-24">`, "-notimestamp"},
		{"Built: R 4.2.2; ; 2026-11-23 14:41:54 UTC; unix", "Built: R 4.2.2; ; 2026-11-23 14:52:07 UTC; unix", "--built-timestamp"},
		{"return ComposerAutoloaderInit9f86d081884c7d659a2feaa0c55ad015::getLoader();", "return ComposerAutoloaderInit2c26b46b68ffc68ff99b453c1d304134::getLoader();", "autoloader-suffix"},
		{"class Init9f86d081884c7d659a2feaa0c55ad015", "class Init2c26b46b68ffc68ff99b453c1d304134", describe(Random).Fix},
		{"\x00/root/.cpanm/work/1795469268.90/A-1.0\x00", "\x00/root/.cpanm/work/1795469978.90/A-1.0\x00", "PERL_MM_OPT"},
		{"<!-- Generated by hand on Mon Nov 23 14:41:54 UTC 2026 -->", "<!-- Generated by hand on Mon Nov 23 14:52:07 UTC 2026 -->", describe(Timestamp).Fix},
	} {
		got := find(t, "x", test.first, test.second, hints)
		if len(got) != 1 || !strings.Contains(got[0].Fix, test.fix) {
			t.Errorf("%q: %+v", test.first, got)
		}
	}
}

func TestGoBuildID(t *testing.T) {
	body := func(id string) string { return "\x00\xff Go build ID: \"" + id + "\"\n \xff\x00\x00\x00" }
	got := find(t, "x", body("Xa3dKq91mN/9dJq0zPwLs"), body("9dJq0zPwLs/Xa3dKq91mN"), hints)
	if len(got) != 1 || got[0].Kind != BuildID {
		t.Errorf("%+v", got)
	}
}
