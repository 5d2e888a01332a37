package cause

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "write docs/causes.md")

// The builds of the tests ran at these times, on these machines.
var hints = Hints{
	First:     Window{time.Date(2026, 11, 23, 14, 40, 0, 0, time.UTC), time.Date(2026, 11, 23, 14, 45, 0, 0, time.UTC)},
	Second:    Window{time.Date(2026, 11, 23, 14, 50, 0, 0, time.UTC), time.Date(2026, 11, 23, 14, 55, 0, 0, time.UTC)},
	Hostnames: [2]string{"zanzibar", "madagascar"},
}

var (
	moment1 = time.Date(2026, 11, 23, 14, 41, 54, 0, time.UTC)
	moment2 = time.Date(2026, 11, 23, 14, 52, 7, 0, time.UTC)
)

func fileOf[T string | []byte](content T) *File {
	b := []byte(content)
	return &File{Content: bytes.NewReader(b), Size: int64(len(b)), Type: tar.TypeReg, Mode: 0o644}
}

func find[T string | []byte](t testing.TB, name string, first, second T, h Hints) []Cause {
	t.Helper()
	causes, err := Find(t.Context(), name, fileOf(first), fileOf(second), h)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range causes {
		if c.Why == "" || c.Fix == "" || c.Count < 1 || describe(c.Kind).Kind != c.Kind {
			t.Errorf("incomplete: %+v", c)
		}
	}
	return causes
}

func kindsOf(causes []Cause) []Kind {
	var list []Kind
	for _, c := range causes {
		list = append(list, c.Kind)
	}
	return list
}

// TestText has a pair for every kind that is found in text, and a similar pair without it.
func TestText(t *testing.T) {
	const key1, key2 = "AAAAC3NzaC1lZDI1NTE5AAAAIFa8Zq", "AAAAC3NzaC1lZDI1NTE5AAAAIK9xPw"
	for _, c := range []struct {
		name          string
		path          string
		first, second string
		want          []Kind
		format        string // of the first
		clock         Clock
	}{
		{name: "equal", first: "same\n", second: "same\n"},

		{name: "rfc3339", first: "built 2026-11-23T14:41:54Z\n", second: "built 2026-11-23T14:52:07Z\n", want: []Kind{Timestamp}, format: "RFC 3339", clock: BuildClock},
		{name: "rfc3339 of another time", first: "built 2021-11-23T14:41:54Z\n", second: "built 2022-11-23T14:52:07Z\n", want: []Kind{Timestamp}, format: "RFC 3339"},
		{name: "iso", first: "2026-11-23 14:41:54 x", second: "2026-11-23 14:52:07 x", want: []Kind{Timestamp}, format: "ISO 8601", clock: BuildClock},
		{name: "rfc2822", first: "Date: Mon, 23 Nov 2026 14:41:54 +0000", second: "Date: Mon, 23 Nov 2026 14:52:07 +0000", want: []Kind{Timestamp}, format: "RFC 2822", clock: BuildClock},
		{name: "rfc1123", first: "Date: Mon, 23 Nov 2026 14:41:54 GMT", second: "Date: Mon, 23 Nov 2026 14:52:07 GMT", want: []Kind{Timestamp}, format: "RFC 1123", clock: BuildClock},
		{name: "date", first: "Mon Nov 23 14:41:54 UTC 2026\n", second: "Mon Nov 23 14:52:07 UTC 2026\n", want: []Kind{Timestamp}, format: "date", clock: BuildClock},
		{name: "ctime", first: "Mon Nov  3 14:41:54 2026\n", second: "Mon Nov 23 14:52:07 2026\n", want: []Kind{Timestamp}, format: "date"},
		{name: "date in en_US", first: "Mon 23 Nov 2026 02:41:54 PM UTC", second: "Mon 23 Nov 2026 02:52:07 PM UTC", want: []Kind{Timestamp}, format: "date in en_US", clock: BuildClock},
		{name: "common log", first: "[23/Nov/2026:14:41:54 +0000]", second: "[23/Nov/2026:14:52:07 +0000]", want: []Kind{Timestamp}, format: "common log", clock: BuildClock},
		{name: "iso date", first: "v 2026-11-23.", second: "v 2026-11-24.", want: []Kind{Timestamp}, format: "ISO date", clock: BuildClock},
		{name: "no date", first: "v 2026-13-23.", second: "v 2026-13-24.", want: []Kind{Unknown}},
		{name: "version", first: "v 1.26.11", second: "v 1.26.12", want: []Kind{Unknown}},
		{name: "month year", first: ".TH X 1 \"November 2026\"", second: ".TH X 1 \"December 2026\"", want: []Kind{Timestamp}, format: "month year", clock: BuildClock},
		{name: "day month year", first: "on 23 November 2026\n", second: "on 24 November 2026\n", want: []Kind{Timestamp}, format: "day month year", clock: BuildClock},
		{name: "august", first: "on 23 August 2026\n", second: "on 24 August 2026\n", want: []Kind{Timestamp}, format: "day month year"},
		{name: "slashes", first: "2026/11/23 14:41:54", second: "2026/11/23 14:52:07", want: []Kind{Timestamp}, format: "date with slashes", clock: BuildClock},
		{name: "compact", first: "snapshot-20261123T144154Z", second: "snapshot-20261123T145207Z", want: []Kind{Timestamp}, format: "compact date and time", clock: BuildClock},
		{name: "compact date", first: "x-20261123.tar", second: "x-20261124.tar", want: []Kind{Timestamp}, format: "compact date", clock: BuildClock},
		{name: "compact, far from the builds", first: "id 20011123 x", second: "id 20091124 x", want: []Kind{Unknown}},
		{name: "epoch", first: "t=1795444914\n", second: "t=1795445527\n", want: []Kind{Timestamp}, format: "epoch seconds", clock: BuildClock},
		{name: "epoch in a map of NIS", first: "YP_LAST_MODIFIED1795444914\x0f\x00", second: "YP_LAST_MODIFIED1795445527\x0f\x00", want: []Kind{Timestamp}, format: "epoch seconds", clock: BuildClock},
		{name: "ten digits behind another word", first: "SERIAL1795444914\n", second: "SERIAL1795445527\n", want: []Kind{Unknown}},
		{name: "epoch ms", first: "t=1795444914123\n", second: "t=1795445527456\n", want: []Kind{Timestamp}, format: "epoch milliseconds", clock: BuildClock},
		{name: "padded epoch µs", first: "timestamp=0001795444914123456\n", second: "timestamp=0001795445527123456\n", want: []Kind{Timestamp}, format: "epoch microseconds", clock: BuildClock},
		{name: "ten digits that are no time of the builds", first: "n=1234567890\n", second: "n=1734567890\n", want: []Kind{Unknown}},
		{name: "time of day", first: "at 14:41:54 done", second: "at 14:52:07 done", want: []Kind{Timestamp}, format: "time of day", clock: BuildClock},
		{name: "C date in text", first: "built Nov 23 2026 x", second: "built Nov 24 2026 x", want: []Kind{Timestamp}, format: "C date", clock: BuildClock},
		{name: "PDF", first: "%PDF /CreationDate (D:20261123144154Z)", second: "%PDF /CreationDate (D:20261123145207Z)", want: []Kind{Timestamp}, format: "PDF", clock: BuildClock},
		{name: "two times in a line", first: "2026-11-23T14:41:54Z 2026-11-23T14:41:59Z", second: "2026-11-23T14:52:07Z 2026-11-23T14:52:09Z", want: []Kind{Timestamp}, format: "RFC 3339", clock: BuildClock},

		{name: "duration", first: "took 0.32s to run", second: "took 1.7s to run", want: []Kind{Duration}},
		{name: "no duration", first: "has 32 apples", second: "has 41 apples", want: []Kind{Unknown}},
		{name: "an id in a path of a web server", first: `src="/_next/static/DbfZ6sIdh0CDGWXtVRybl/_buildManifest.js"`, second: `src="/_next/static/lCt-6SZ-tKNTIM7huBwHW/_buildManifest.js"`, want: []Kind{Random}},
		{name: "path", first: "/build/pkg-a1/src/main.c", second: "/build/pkg-b2/src/main.c", want: []Kind{BuildPath}},
		{name: "no build path", first: "/usr/bin/vi", second: "/usr/bin/ed", want: []Kind{Unknown}},
		{name: "mktemp", first: "dir /tmp/tmp.Xa3dKq91mN/x", second: "dir /tmp/tmp.9dJq0zPwLs/x", want: []Kind{TempName}},
		{name: "cc", first: "file ccXa3dKq.o ", second: "file cc9dJq0z.o ", want: []Kind{TempName}},
		{name: "no mktemp", first: "dir /tmp/a x", second: "dir /tmp/building x", want: []Kind{Unknown}},
		{name: "hinted host", first: "on zanzibar now", second: "on madagascar now", want: []Kind{Hostname}},
		{name: "hostname", first: "hostname: 3f2a91bc77de\n", second: "hostname: 91bc3f2a0417\n", want: []Kind{Hostname}},
		{name: "user and host", first: "compiled by root@alpha (gcc)", second: "compiled by root@beta (gcc)", want: []Kind{Hostname}},
		{name: "two users", first: "mail to ann@example.org", second: "mail to bob@example.org", want: []Kind{Unknown}},
		{name: "uuid", first: "id 7d444840-9dc0-11d1-b245-5ffdce74fad2", second: "id 1b4e28ba-2fa1-41d2-883f-0016d3cca427", want: []Kind{UUID}},
		{name: "no uuid", first: "id 7d444840-9dc0-red", second: "id 7d444840-9dc0-ref", want: []Kind{Unknown}},
		{name: "hex", first: "token=9f86d081884c7d65", second: "token=2c26b46b68ffc68f", want: []Kind{Random}, format: "hex"},
		{name: "traceparent", first: "PWD=/\nTRACEPARENT=00-b029ce6b04d97e7ce5faaf20d2ab2842-b7febab8d35453f9-01\n", second: "PWD=/\nTRACEPARENT=00-6e9e1c2f83a04b5d97e0aa11c3d24f56-4a96bb0c17e2d835-01\n", want: []Kind{Random}, format: "trace context"},
		{name: "no traceparent", first: "SUM=00-b029ce6b04d97e7ce5faaf20d2ab2842\n", second: "SUM=00-6e9e1c2f83a04b5d97e0aa11c3d24f56\n", want: []Kind{Random}, format: "hex"},
		{name: "id in a URL", first: "see https://example.org/f/9f86d081884c7d65/x.css now", second: "see https://example.org/f/2c26b46b68ffc68f/x.css now", want: []Kind{Random}, format: "URL"},
		{name: "short id in a URL", first: "see https://cdn.example.org/a/k3j9x2m1qz/x.css now", second: "see https://cdn.example.org/a/p0w7t5r8ba/x.css now", want: []Kind{Random}, format: "URL"},
		{name: "another host in a URL", first: "see https://mirror.example.org/build/x/y now", second: "see https://server.example.org/build/x/y now", want: []Kind{Unknown}},
		{name: "another version in a URL", first: "see https://example.org/build/1.2.3/y now", second: "see https://example.org/build/1.2.4/y now", want: []Kind{Unknown}},
		{name: "records of paths", first: "a=/build/one/x.c\nb=1\n\na=/build/two/x.c\nb=22\n", second: "a=/build/two/x.c\nb=22\n\na=/build/one/x.c\nb=3\n", want: []Kind{Order, Unknown}, format: "records"},
		{name: "a record with another path", first: "a=/build/one/x.c\nb=1\n\na=/build/two/x.c\nb=2\n", second: "a=/build/six/x.c\nb=1\n\na=/build/two/x.c\nb=2\n", want: []Kind{BuildPath}},
		{name: "14 days after the builds", first: `{"expire_at":1796654514123}`, second: `{"expire_at":1796655127456}`, want: []Kind{Timestamp}, format: "epoch milliseconds", clock: BuildClock},
		{name: "an hour before the builds", first: "since=1795441314\n", second: "since=1795441927\n", want: []Kind{Timestamp}, format: "epoch seconds", clock: BuildClock},
		{name: "14 days and 20 minutes after the builds", first: `{"expire_at":1796655714123}`, second: `{"expire_at":1796656327456}`, want: []Kind{Unknown}},
		{name: "14 days and 15 days after the builds", first: "t=1796654514\n", second: "t=1796741527\n", want: []Kind{Unknown}},
		{name: "Next.js's key", path: "app/.next/cache/.rscinfo", first: `{"encryption.key":"q83vEjRWeJCrze8SNFZ4kKvN7w=="}`, second: `{"encryption.key":"ZmFrZSBieSBkaWNlIHJvbGxlZDI="}`, want: []Kind{SecretKey}},
		{name: "64 hex digits that sign", first: `{"previewModeSigningKey":"9f86d081884c7d659a2feaa0c55ad0159f86d081884c7d659a2feaa0c55ad015"}`, second: `{"previewModeSigningKey":"2c26b46b68ffc68ff99b453c1d3041342c26b46b68ffc68ff99b453c1d304134"}`, want: []Kind{SecretKey}},
		{name: "64 hex digits that name a cache", first: `{"cacheKey":"9f86d081884c7d659a2feaa0c55ad0159f86d081884c7d659a2feaa0c55ad015"}`, second: `{"cacheKey":"2c26b46b68ffc68ff99b453c1d3041342c26b46b68ffc68ff99b453c1d304134"}`, want: []Kind{Random}, format: "hex"},
		{name: "a secret that is a word", first: "secret: internationalization\n", second: "secret: internationalisierung\n", want: []Kind{Unknown}},
		{name: "address of an object", first: "<x.Y object at 0x7f3a2c001b40>", second: "<x.Y object at 0x7fe1d4a01b40>", want: []Kind{MemoryAddress}},
		{name: "address of Ruby", first: "#<Foo:0x00007f3a2c001b40>", second: "#<Foo:0x0000563ad4a01b40>", want: []Kind{MemoryAddress}},
		{name: "a number in hex", first: "crc 0x1f3a2c00 of x", second: "crc 0x2fe1d4a0 of x", want: []Kind{Unknown}},
		{name: "fontconfig", path: "usr/share/fonts/.uuid", first: "7d444840-9dc0-11d1-b245-5ffdce74fad2", second: "1b4e28ba-2fa1-41d2-883f-0016d3cca427", want: []Kind{UUID}},
		{name: "base64", first: "k: q83vEjRWeJCrze8SNFZ4kKvN7w==", second: "k: ZmFrZSBieSBkaWNlIHJvbGxlZDI=", want: []Kind{Random}, format: "base64"},
		{name: "long words", first: "internationalization", second: "internationalisierung", want: []Kind{Unknown}},
		{name: "long names", first: "InternationalizationHelper", second: "ConfigurationFactoryBeans", want: []Kind{Unknown}},
		{name: "shadow", first: "root:$6$abcdefgh$0123456789abcdef:19000:", second: "root:$6$hgfedcba$fedcba9876543210:19000:", want: []Kind{Random}, format: "password hash"},
		{name: "LDAP password", first: "userPassword: {SSHA}hZ6BSPIdT+hpvViJEFnyxIfBeIjWUI9a\n", second: "userPassword: {SSHA}i/Zt1mJ7LGY1HcUxAh+cxyiNe6siR/EK\n", want: []Kind{Random}, format: "password hash"},
		{name: "LDAP password in base64", first: "olcRootPW:: e1NTSEF9aFo2QlNQSWRUK2hwdlZpSkVGbnl4SWZCZUlqV1VJOWE=\n", second: "olcRootPW:: e1NTSEF9aS9adDFtSjdMR1kxSGNVeEFoK2N4eWlOZTZzaVIvRUs=\n", want: []Kind{Random}, format: "password hash"},
		{name: "behind a bracket", first: "x: {a,b}kiwi y", second: "x: {a,b}plum y", want: []Kind{Unknown}},
		{name: "no salt", first: "userPassword: {SHA}hZ6BSPIdT+hpvViJEFnyxIfBeIjWUI9a\n", second: "userPassword: {SHA}i/Zt1mJ7LGY1HcUxAh+cxyiNe6siR/EK\n", want: []Kind{Random}, format: "base64"},
		{name: "number", first: "n = 17\n", second: "n = 23\n", want: []Kind{Unknown}},

		{name: "lines", first: "pear\napple\nfig\n", second: "fig\npear\napple\n", want: []Kind{Order}},
		{name: "other lines", first: "pear\napple\nfig\n", second: "fig\npear\ngrape\n", want: []Kind{Unknown}},
		{name: "collation", first: "B\nC\na\n", second: "a\nB\nC\n", want: []Kind{LocaleOrder}},
		{name: "parallel make", first: "CC a.o\nCC b.o\nCC c.o\n", second: "CC b.o\nCC a.o\nCC c.o\n", want: []Kind{ParallelOrder}},
		{name: "json keys", first: `{"a": 1, "b": [1, 2]}`, second: `{"b": [1, 2], "a": 1}`, want: []Kind{HashOrder}, format: "JSON"},
		{name: "json array", first: `{"a": ["x", "yy"]}`, second: `{"a": ["yy", "x"]}`, want: []Kind{Order}, format: "JSON"},
		{name: "json value", first: `{"a": "x", "b": "y"}`, second: `{"b": "y", "a": "z"}`, want: []Kind{Unknown}},
		{name: "set", first: "S = {'aa', 'bb', 'cc'}\nT = 1\n", second: "S = {'cc', 'aa', 'bb'}\nT = 1\n", want: []Kind{HashOrder}, format: "list"},
		{name: "another set", first: "S = {'aa', 'bb'}\n", second: "S = {'bb', 'cc'}\n", want: []Kind{Unknown}},
		{name: "dict", first: "{'a': {1, 2}, 'b': [3, 4]}", second: "{'b': [3, 4], 'a': {2, 1}}", want: []Kind{HashOrder}, format: "list"},
		{name: "dict with other values", first: "{'aa': 1, 'bb': 2}", second: "{'bb': 1, 'aa': 2}", want: []Kind{Unknown}},
		{name: "dict whose list is in another order", first: "{'a': [3, 4]}", second: "{'a': [4, 3]}", want: []Kind{Order}, format: "list"},
		{name: "set of hashes", first: "at 1, hashes of\n{'9f86d081884c7d65', '2c26b46b68ffc68f'}\nend", second: "at 2, hashes of\n{'2c26b46b68ffc68f', '9f86d081884c7d65'}\nend", want: []Kind{HashOrder, Unknown}, format: "list"},
		{name: "set on lines", first: "x = {\n 'aa',\n 'bb',\n 'cc'\n}\n", second: "x = {\n 'cc',\n 'aa',\n 'bb'\n}\n", want: []Kind{HashOrder}, format: "list"},
		{name: "frozenset", first: "frozenset([1, 'a b', 'c'])", second: "frozenset(['c', 1, 'a b'])", want: []Kind{HashOrder}, format: "list"},
		{name: "Data::Dumper", first: "$VAR1 = {\n 'b' => 1,\n 'a' => 2\n};", second: "$VAR1 = {\n 'a' => 2,\n 'b' => 1\n};", want: []Kind{HashOrder}, format: "list"},
		{name: "long set", first: "{" + strings.Repeat("'some element', ", 100) + "'a', 'b'}", second: "{'b', 'a', " + strings.Repeat("'some element', ", 99) + "'some element'}", want: []Kind{HashOrder}, format: "list"},
		{name: "list", first: "files = ['aa', 'bb', 'cc']\n", second: "files = ['cc', 'aa', 'bb']\n", want: []Kind{Order}, format: "list"},
		{name: "statements", first: "{ aa(); bb(); }", second: "{ bb(); aa(); }", want: []Kind{Order}, format: "list"},
		{name: "words of a line", first: "pear apple fig\n", second: "fig pear apple\n", want: []Kind{Order}},
		{name: "other words of a line", first: "pear apple fig\n", second: "fig pear grape\n", want: []Kind{Unknown}},
		{name: "TeX log", first: "(INITEX)  23 NOV 2026 14:41\n**x", second: "(INITEX)  23 NOV 2026 14:52\n**x", want: []Kind{Timestamp}, format: "TeX log", clock: BuildClock},
		{name: "generalized time", first: "entryCSN: 20261123144154.755507Z#000000#000", second: "entryCSN: 20261123145207.382641Z#000000#000", want: []Kind{Timestamp}, format: "compact date and time", clock: BuildClock},

		{name: "words", first: "foo: warning: x", second: "foo: Warnung: x", want: []Kind{Locale}},
		{name: "other words", first: "foo: apple: x", second: "foo: orange: x", want: []Kind{Unknown}},
		{name: "decimal comma", first: "pi 3.14 ", second: "pi 3,14 ", want: []Kind{Locale}, format: "decimal point"},
		{name: "LANG", first: "LANG=en_US.UTF-8\n", second: "LANG=de_DE.UTF-8\n", want: []Kind{Locale}},

		{name: "march", first: "cc -O2 -march=znver3 -c", second: "cc -O2 -march=skylake -c", want: []Kind{CPU}},
		{name: "cpuinfo", first: "model name\t: EPYC 7B13\n", second: "model name\t: Xeon Gold\n", want: []Kind{CPU}},
		{name: "cpuinfo flags", first: "flags\t\t: fpu vme sse2 avx\n", second: "flags\t\t: fpu vme sse2 avx avx2\n", want: []Kind{CPU}},
		{name: "no cpu", first: "cc -O2 -mvery\n", second: "cc -O2 -mrare\n", want: []Kind{Unknown}},
		{name: "pid", first: "started, pid 1234\n", second: "started, pid 993\n", want: []Kind{ProcessID}},
		{name: "pid file", path: "run/x.pid", first: "1234\n", second: "993\n", want: []Kind{ProcessID}},
		{name: "no pid file", path: "run/x.count", first: "1234\n", second: "993\n", want: []Kind{Unknown}},
		{name: "inode", first: "inode=123456", second: "inode=234567", want: []Kind{FileStatus}},
		{name: "docbook id", first: `<a name="idm45678901"></a>`, second: `<a name="idm98765432"></a>`, want: []Kind{DocumentID}},
		{name: "PDF id", first: "/ID [<AB12CD34AB12CD34> <AB12CD34AB12CD34>]", second: "/ID [<12345678DEADBEEF> <12345678DEADBEEF>]", want: []Kind{DocumentID}},
		{name: "heading", first: `<a name="intro"></a>`, second: `<a name="start"></a>`, want: []Kind{Unknown}},

		{name: "machine id", path: "etc/machine-id", first: "9f86d081884c7d659a2feaa0c55ad015\n", second: "2c26b46b68ffc68ff99b453c1d304134\n", want: []Kind{MachineID}},
		{name: "like a machine id", path: "etc/other", first: "9f86d081884c7d659a2feaa0c55ad015\n", second: "2c26b46b68ffc68ff99b453c1d304134\n", want: []Kind{Random}},
		{name: "machine id that is no id", path: "etc/machine-id", first: "uninitialized\n", second: "\n", want: []Kind{Unknown}},
		{name: "ssh", path: "etc/ssh/ssh_host_ed25519_key.pub", first: "ssh-ed25519 " + key1 + " x\n", second: "ssh-ed25519 " + key2 + " x\n", want: []Kind{SSHKey}},
		{name: "ssh, an algorithm of tomorrow", path: "etc/ssh/ssh_host_x_key.pub", first: "ssh-mldsa44-ed25519@openssh.com " + key1 + " x\n", second: "ssh-mldsa44-ed25519@openssh.com " + key2 + " x\n", want: []Kind{SSHKey}},
		{name: "no ssh", path: "etc/ssh/notes", first: "ssh keys " + key1 + " x\n", second: "ssh keys " + key2 + " x\n", want: []Kind{Unknown}},
		{name: "dpkg", first: "2026-11-23 14:41:54 startup archives unpack\n", second: "2026-11-23 14:52:07 startup archives unpack\n", want: []Kind{PackageLog}, format: "dpkg"},
		{name: "apt", first: "\nStart-Date: 2026-11-23  14:41:54\n", second: "\nStart-Date: 2026-11-23  14:52:07\n", want: []Kind{PackageLog}, format: "apt history"},
		{name: "no dpkg", first: "2026-11-23 14:41:54 hello\n", second: "2026-11-23 14:52:07 hello\n", want: []Kind{Timestamp}, format: "ISO 8601", clock: BuildClock},
		{name: "empty", first: "", second: "hello\n", want: []Kind{Unknown}},
		{name: "time and unknown", first: "2026-11-23T14:41:54Z\nsome other text in the middle\nfoo\n", second: "2026-11-23T14:52:07Z\nsome other text in the middle\nbar\n", want: []Kind{Timestamp, Unknown}, format: "RFC 3339", clock: BuildClock},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := find(t, c.path, c.first, c.second, hints)
			if diff := cmp.Diff(c.want, kindsOf(got)); diff != "" {
				t.Fatalf("(-want +got):\n%s\n%+v", diff, got)
			}
			if len(got) > 0 && (c.format != "" && got[0].Format != c.format || got[0].Clock != c.clock) {
				t.Errorf("format %q of the clock %q, want %q of %q", got[0].Format, got[0].Clock, c.format, c.clock)
			}
		})
	}
}

func TestExcerpts(t *testing.T) {
	got := find(t, "x", "a\nbuilt 2026-11-23T14:41:54Z, 2026-11-23T14:41:58Z\n", "a\nbuilt 2026-11-23T14:52:07Z, 2026-11-23T14:52:08Z\n", hints)
	want := []Cause{{
		Kind: Timestamp, Offset: 8, First: "2026-11-23T14:41:54Z", Second: "2026-11-23T14:52:07Z",
		Why: "The time of the build was written down (RFC 3339).", Fix: describe(Timestamp).Fix,
		Format: "RFC 3339", Clock: BuildClock, Count: 2,
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Excerpts hold no control sequences for a terminal.
	for _, c := range find(t, "x", "title \x1b]0;evil\a x", "title \x1b]0;good\a\x1b[2J x", hints) {
		if strings.ContainsAny(c.First+c.Second, "\x1b\a") {
			t.Errorf("%q %q", c.First, c.Second)
		}
	}
}

// TestDifferingExcerpts: excerpts show the difference, and no secret on either side.
func TestDifferingExcerpts(t *testing.T) {
	long := strings.Repeat("some words, ", 20)
	for name, c := range map[string]struct{ first, second, a, b string }{
		"in a long line":          {long + "pear\nfig\n", "fig\n" + long + "pear\n", "", ""},
		"behind the first four":   {"x: statQ7jW9kL2mN4pR8sT\n", "x: statZ1xC3vB5nM7aS9dF\n", "…Q7jW…", "…Z1xC…"},
		"on one side":             {"x q83vEjRWeJCrze8S4F8 y\n", "x none y\n", "q83v…", "none"},
		"on one side, other long": {"x q83vEjRWeJCrze8S4F8 y\n", "x qpassword-of-mine y\n", "…83vE…", "…pass…"},
	} {
		for _, got := range find(t, "x", c.first, c.second, hints) {
			if got.First == got.Second || !strings.Contains(got.First, c.a) || !strings.Contains(got.Second, c.b) {
				t.Errorf("%s: %q, %q", name, got.First, got.Second)
			}
			for _, secret := range []string{"Q7jW9", "Z1xC3", "3vEjR", "sword"} {
				if strings.Contains(got.First+got.Second, secret) {
					t.Errorf("%s shows a secret: %q, %q", name, got.First, got.Second)
				}
			}
		}
	}
}

func TestRedact(t *testing.T) {
	for _, c := range []struct{ first, second, a, b string }{
		{"k q83vEjRWeJCrze8S4F8 x", "k none x", "k q83v*************** x", "k none x"},
		{"k q83vEjRWeJCrze8S4F8 x", "k password-of-mine x", "k q83v*************** x", "k pass************ x"},
		{"k some words x", "k other words x", "k some words x", "k other words x"},
		{"k q83vEjRWeJCrze8S4F8 x", "", "k q83v*************** x", ""},
	} {
		if a, b := Redact([]byte(c.first), []byte(c.second)); string(a) != c.a || string(b) != c.b {
			t.Errorf("%q and %q became %q and %q", c.first, c.second, a, b)
		}
	}
}

// TestCacheMounts: the cache mounts of a step are the cause of differences without another one.
func TestCacheMounts(t *testing.T) {
	with := hints
	with.Caches = []string{"/c", "/d"}
	for name, c := range map[string]struct {
		first, second string
		hints         Hints
		want          []Kind
	}{
		"cache mounts":           {"2\n", "1\n", with, []Kind{CacheMount}},
		"none":                   {"2\n", "1\n", hints, []Kind{Unknown}},
		"a time":                 {"2026-11-23T14:41:54Z", "2026-11-23T14:52:07Z", with, []Kind{Timestamp}},
		"a time and other bytes": {"2026-11-23T14:41:54Z\nsome other text in the middle\nfoo\n", "2026-11-23T14:52:07Z\nsome other text in the middle\nbar\n", with, []Kind{Timestamp, Unknown}},
	} {
		got := find(t, "n", c.first, c.second, c.hints)
		if diff := cmp.Diff(c.want, kindsOf(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if got[0].Kind == CacheMount && (got[0].Format != "/c /d" || !strings.Contains(got[0].Why, "/c /d")) {
			t.Errorf("%s: %+v", name, got[0])
		}
	}
	one, err := Find(t.Context(), "n", fileOf("x"), nil, with)
	if err != nil || len(one) != 1 || one[0].Kind != CacheMount {
		t.Errorf("a file of one build: %+v, %v", one, err)
	}
}

func TestMetadata(t *testing.T) {
	base := func() *File {
		f := fileOf("x")
		f.ModTime = moment1
		return f
	}
	link := func(target string) *File { return &File{Type: tar.TypeSymlink, Linkname: target, Mode: 0o777} }
	for _, c := range []struct {
		name          string
		first, second *File
		want          []Cause
	}{
		{"nothing", base(), base(), nil},
		{"neither", nil, nil, nil},
		{"first", base(), nil, []Cause{{Kind: OneBuildOnly, First: "x"}}},
		{"second", nil, base(), []Cause{{Kind: OneBuildOnly, Second: "x"}}},
		{"type", base(), link("y"), []Cause{{Kind: FileType, First: "file", Second: "symbolic link"}}},
		{"mode", base(), with(base(), func(f *File) { f.Mode = 0o4755 }), []Cause{{Kind: Mode, First: "644", Second: "4755"}}},
		{"owner", base(), with(base(), func(f *File) { f.UID, f.GID = 101, 102 }), []Cause{{Kind: Owner, First: "0:0", Second: "101:102"}}},
		{"xattrs", base(), with(base(), func(f *File) { f.Xattrs = map[string]string{"user.x": "1"} }), []Cause{{Kind: Xattrs, Second: `user.x="1"`}}},
		{
			"time", base(), with(base(), func(f *File) { f.ModTime = moment2 }),
			[]Cause{{Kind: FileTime, First: "2026-11-23T14:41:54Z", Second: "2026-11-23T14:52:07Z", Format: "mtime", Clock: BuildClock}},
		},
		{"target", link("lib-1"), link("lib-2"), []Cause{{Kind: LinkTarget, First: "lib-1", Second: "lib-2"}}},
		{
			"target with a date", link("x-20261123"), link("x-20261124"),
			[]Cause{{Kind: LinkTarget, First: "x-20261123", Second: "x-20261124", Format: "timestamp"}},
		},
		{
			"device", &File{Type: tar.TypeChar, Major: 1, Minor: 3}, &File{Type: tar.TypeChar, Major: 1, Minor: 5},
			[]Cause{{Kind: Device, First: "1, 3", Second: "1, 5"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Find(t.Context(), "x", c.first, c.second, hints)
			if err != nil {
				t.Fatal(err)
			}
			for i := range c.want {
				c.want[i].Offset, c.want[i].Count = -1, 1
			}
			if diff := cmp.Diff(c.want, got, cmpopts.IgnoreFields(Cause{}, "Why", "Fix")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func with(f *File, change func(*File)) *File {
	change(f)
	return f
}

func TestFileOf(t *testing.T) {
	h := &tar.Header{
		Typeflag: tar.TypeReg, Size: 3, Mode: 0o100755, Uid: 1, Gid: 2, ModTime: moment1,
		PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y", "comment": "z"},
	}
	got := FileOf(h, nil)
	want := &File{Size: 3, Type: tar.TypeReg, Mode: 0o755, UID: 1, GID: 2, ModTime: moment1, Xattrs: map[string]string{"user.x": "y"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

type broken struct{}

var errBroken = errors.New("broken disk")

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errBroken }

func TestErrors(t *testing.T) {
	if _, err := Find(t.Context(), "x", fileOf("x"), &File{Content: broken{}, Size: 1}, hints); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Find(ctx, "x", fileOf("x"), fileOf("y"), hints); err == nil {
		t.Error("no error of a context that ended")
	}
	// A wrong size is not an error.
	if _, err := Find(t.Context(), "x", with(fileOf("x"), func(f *File) { f.Size = 100 }), with(fileOf("y"), func(f *File) { f.Size = -5 }), hints); err != nil {
		t.Error(err)
	}
}

func TestSpans(t *testing.T) {
	f := &finder{ctx: t.Context()}
	long := strings.Repeat("0123456789abcdef", 1000)
	for _, c := range []struct {
		name          string
		first, second string
		want          []span
	}{
		{"equal", "abc", "abc", nil},
		{"replaced", long + "X" + long, long + "Y" + long, []span{{16000, 16001, 16000, 16001}}},
		{"inserted", "head of the file, a line\nand the rest of the file", "head of the file, a new line\nand the rest of the file", []span{{20, 20, 20, 24}}},
		{"appended", "abc", "abcdef", []span{{3, 3, 3, 6}}},
		{"cut", "abcdef", "abc", []span{{3, 6, 3, 3}}},
		{"all", "abc", "xyz", []span{{0, 3, 0, 3}}},
		{"end", "abcd", "abxd", []span{{2, 3, 2, 3}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := f.spans(sectionOf([]byte(c.first)), sectionOf([]byte(c.second)))
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(span{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestKindsMarkdown(t *testing.T) {
	seen := map[Kind]bool{}
	for _, d := range Kinds() {
		if seen[d.Kind] || d.Kind == "" || d.What == "" || d.Why == "" || d.Fix == "" || d.Link == "" {
			t.Errorf("kind %q is incomplete or occurs twice", d.Kind)
		}
		seen[d.Kind] = true
	}
	golden := filepath.Join("..", "docs", "causes.md")
	got := KindsMarkdown()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not what the kinds say; run go test ./cause -run KindsMarkdown -update (-file +kinds):\n%s", golden, diff)
	}
}

// TestFast bounds the time for large files: with one difference, without common parts, and reordered.
func TestFast(t *testing.T) {
	if testing.Short() {
		t.Skip("large files")
	}
	const size = 100 << 20
	noise := func(seed uint64) []byte {
		b := make([]byte, size)
		r := rand.NewChaCha8([32]byte{byte(seed)})
		_, _ = r.Read(b)
		return b
	}
	one := noise(1)
	changed := bytes.Clone(one)
	for i := range 100 {
		copy(changed[i<<20|12345:], "2026-11-23T14:41:54Z")
	}
	text := bytes.Repeat([]byte("a line of text that is not too short\n"), size/37)
	other := bytes.Clone(text)
	copy(other[len(other)/2:], "another")
	for _, c := range []struct {
		name          string
		first, second []byte
	}{{"some", one, changed}, {"all", one, noise(2)}, {"text", text, other}, {"shifted", one, one[7:]}} {
		start := time.Now()
		find(t, "x", c.first, c.second, hints)
		took := time.Since(start)
		t.Logf("%s: %v", c.name, took)
		if took > time.Minute { // far above what any machine takes
			t.Errorf("%s: %v for %d MiB", c.name, took, size>>20)
		}
	}
}

func BenchmarkPlace(b *testing.B) {
	text := "some words here and then a number, which is unknown: 17, and some more words that follow it\n"
	first := strings.Repeat(text, 64)
	second := strings.ReplaceAll(first, "17", "23")
	for b.Loop() {
		find(b, "x", first, second, hints)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/64, "µs/place")
}
