package rules

import (
	"archive/zip"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

// dropped stands for a file that is not left.
const dropped = "(dropped)"

// applied returns what the rules of a version leave of a file in a layer.
func applied(version int, l Layer, name, content string) string {
	f := Facts{Epoch: epoch.Unix(), Name: name, Made: late.Unix(), Days: BuildDays(late.Unix(), 0), Linked: slices.Contains(l.Named, name),
		Chosen: func(word string) bool { return word == chosenID || word == chosenCookie }}
	for _, r := range (Set{Version: version}).Matcher(l).Find(name) {
		f.Asked = slices.Contains(l.Asked, r.ID)
		switch {
		case r.Whole():
			return dropped
		case !r.Covers([]byte(content), f), r.Bonds() && !r.Bond([]byte(content), f).Stale:
			continue
		case r.Drops():
			return dropped
		}
		return string(r.Rewrite([]byte(content), f))
	}
	return content
}

const (
	chosenID     = "0123456789ab4def8123456789abcdef"
	chosenCookie = "ACHOSENCLUSTERCOOKIE"
	autoconf     = "This file contains any messages produced by compilers while\nrunning configure, to aid debugging if configure makes a mistake.\n\nIt was created by a configure 1, which was\n## --------- ##\n## Platform. ##\n## --------- ##\n"
)

// byproducts are files as tools write them, and what a rule leaves of them.
var byproducts = []struct{ name, content, want string }{
	{"var/log/dpkg.log", "2026-11-29 11:41:29 startup archives unpack\n2026-11-29 11:41:29 status half-configured libc6:amd64 2.36\n", dropped},
	{"var/log/alternatives.log", "update-alternatives 2026-11-29 11:41:29: run with --install /usr/bin/a\n", dropped},
	{"var/log/apt/history.log", "\nStart-Date: 2026-11-29  11:41:29\nCommandline: apt-get install a\nInstall: a:amd64 (1)\nEnd-Date: 2026-11-29  11:41:30\n", dropped},
	{"var/log/apt/term.log", "\nLog started: 2026-11-29  11:41:29\nSelecting previously...\nLog ended: 2026-11-29  11:41:30\n", dropped},
	{"var/log/bootstrap.log", "gpgv: Signature made\nSelecting previously unselected package libc6:amd64.\nUnpacking libc6:amd64 (2.36) ...\nSetting up libc6:amd64 (2.36) ...\n", dropped},
	{"var/log/apt/eipp.log.xz", "\xfd7zXZ\x00\x00", dropped},
	{"var/log/dnf.log", "2026-11-29T11:41:29+0000 INFO --- logging initialized ---\nmore\n2026-11-29T11:41:30+0000 INFO done\n", dropped},
	{"var/log/hawkey.log", "INFO 2026-11-29T11:41:29+0000 a\n", dropped},
	{"var/log/yum.log", "Nov 29 11:41:29 Installed: a\n", dropped},
	{"var/log/pacman.log", "[2026-11-29T11:41:29+0000] [PACMAN] Running 'pacman -S a'\n", dropped},
	{"var/log/aptitude", "Aptitude 0.8.13: log report\nSun, Nov 29 2026 16:14:05 +0000\n\n  IMPORTANT: this log only lists intended actions\n", dropped},
	{"var/log/zypp/history", "# 2026-11-29 11:41:29 a\n", dropped},
	{"var/log/journal/0123/system.journal", "LPKSHHRH\x00", dropped},
	{"var/log/fontconfig.log", "/usr/share/fonts: caching, new cache contents: 0 fonts, 1 dirs\n/usr/bin/fc-cache: succeeded\n", dropped},
	{"var/log/fontconfig.log", "Font directories:\n\t/usr/share/fonts\n/usr/share/fonts: caching, new cache contents: 0 fonts, 1 dirs\n/var/cache/fontconfig: invalid cache file: 0a-le64.cache-8\nfc-cache: succeeded\n", dropped},
	{"var/log/wtmp", string(loginRecord(7)), ""},
	{"var/cache/ldconfig/aux-cache", "glibc-ld.so.auxcache-2.0\x00", dropped},
	{"var/cache/apt/pkgcache.bin", "\xdc\x76\xfe\x98\x10", dropped},
	{"var/cache/apt/srcpkgcache.bin", "\xdc\x76\xfe\x98\x10", dropped},
	{"var/cache/dnf/fedora.solv", "SOLV\x00", dropped},
	{"var/lib/dpkg/status-old", "Package: a\nStatus: install ok installed\n", dropped},
	{"var/lib/dpkg/diversions-old", "/bin/sh\n/bin/sh.distrib\ndash\n", dropped},
	{"var/cache/debconf/config.dat-old", "Name: a/b\nTemplate: a/b\n", dropped},
	{"var/lib/apt/extended_states.1", "Package: a\nAuto-Installed: 1\n", dropped},
	{"etc/shadow", fmt.Sprintf("a:*:%d:0:99999:7:::\n", late.Unix()/day), "a:*:19675:0:99999:7:::\n"},
	{"etc/shadow-", fmt.Sprintf("a:*:%d:0:99999:7:::\n", late.Unix()/day), "a:*:19675:0:99999:7:::\n"},
	{"etc/machine-id", "9c0a4f3e1b2d4c5e8f90a1b2c3d4e5f6\n", ""},
	{"etc/machine-id", fmt.Sprintf("9c0a4f3e1b2dfc5ef190a1b2%08x\n", late.Unix()-5), string(derivedMachineID(epoch.Unix()))},
	{"etc/machine-id", fmt.Sprintf("9c0a4f3e1b2d4c5e8f90a1b2%08x\n", late.Unix()-5), string(derivedMachineID(epoch.Unix()))},
	{"etc/machine-id", fmt.Sprintf("9c0a4f3e1b2d4c5e8f90a1b2%08x\n", late.Unix()-2*day), ""},
	{"var/lib/dbus/machine-id", fmt.Sprintf("9c0a4f3e1b2dfc5ef190a1b2%08x\n", late.Unix()), string(derivedMachineID(epoch.Unix()))},
	{"var/lib/systemd/random-seed", randomSeed(), dropped},
	{"var/cache/fontconfig/0123-le64.cache-8", "\x04\xfc\x02\xfc\x08", dropped},
	{"root/.cache/fontconfig/0123-le64.cache-7", "\x04\xfc\x02\xfc\x07", dropped},
	{"usr/share/fonts/truetype/.uuid", "0f8fad5b-d9cb-469f-a165-70867728950e", dropped},
	{"usr/share/poppler/cMap/Adobe-GB1/.uuid", "0f8fad5b-d9cb-469f-a165-70867728950e", dropped},
	{"tmp/jest_0/haste-map-0fc68e2c37e5ba4981815c4d4363766d-0e2187301e51dc079af807d2d9019671", "x", dropped},
	{"var/cache/man/index.db", manIndex("\xce\x9a\x57\x13", late), dropped},
	{"var/cache/man/de/index.db", manIndex("\x13\x57\x9a\xcd", late), dropped},
	{"root/.cache/pip/http-v2/0/1/2/3/4/" + strings.Repeat("a", 56), "cc=4,\x82", dropped},
	{"root/.cache/pip/http-v2/0/1/2/3/4/" + strings.Repeat("a", 56) + ".body", "PK\x03\x04", dropped},
	{"root/.cache/pip/selfcheck/" + strings.Repeat("a", 56), `{"key":"/usr","last_check":"2026-11-29T11:41:29Z"}`, dropped},
	{"home/ada/.cache/pypoetry/cache/repositories/PyPI/_http/0/1", "cc=4,\x82", dropped},
	{"root/.cache/uv/simple-v12/pypi/a.rkyv", "\x00", dropped},
	{"root/.cache/uv/archive-v0/0aB_cDeFgHiJkLmNoPqRs/m.py", "a", dropped},
	{"root/.cargo/.global-cache", "SQLite format 3\x00", dropped},
	{"root/.local/share/gem/specs/rubygems.org%443/specs.4.8", "\x04\x08[", dropped},
	{"root/.bundle/cache/compact_index/rubygems.org.443.0/versions", "created_at: 2026-11-01\n---\n", dropped},
	{"root/.ccache/0/1/abc.o", "cCrS\x00", dropped},
	{"root/.cache/ccache/0/1/abcR", "\xcc\xac\x00", dropped},
	{"root/.cache/ccache/0/stats", strings.Repeat("0\n", 30), dropped},
	{"root/.cache/matplotlib/fontlist-v330.json", "{\n  \"_version\": 330,\n  \"ttflist\": []}", dropped},
	{"root/.gradle/daemon/8.5/daemon-123.out.log", "2026", dropped},
	{"root/.cpan/Metadata", "pst0\x04", dropped},
	{"root/.cpanm/work/1795469268.123/build.log", "cpanm", dropped},
	{"root/.npm/_cacache/index-v5/aa/bb/cc", npmIndex("1800000000000", "Mon, 23 Nov 2026 21:27:50 GMT"), npmIndex("1700000000000", "Tue, 14 Nov 2023 22:13:20 GMT")},
	{"root/.npm/_logs/2026-11-29T11_41_29_123Z-debug-0.log", "0 verbose cli /usr/bin/node\n", dropped},
	{"root/.cache/go-build/00/00aa-a", goCacheEntry(late.UnixNano()), goCacheEntry(1700000000e9)},
	{"root/.cache/go-build/trim.txt", fmt.Sprint(late.Unix()), "1700000000"},
	{"root/.config/go/telemetry/local/go@1.count", "# telemetry/counter file v1\n\x00", dropped},
	{"root/.m2/repository/a/1/_remote.repositories", "#NOTE: This is a Maven Resolver internal implementation file, its format can be changed without prior notice.\n#Sun Nov 29 11:41:29 UTC 2026\nb.jar>central=\na.pom>central=\n",
		"#NOTE: This is a Maven Resolver internal implementation file, its format can be changed without prior notice.\n#Tue Nov 14 22:13:20 UTC 2023\na.pom>central=\nb.jar>central=\n"},
	{"root/.wget-hsts", "# HSTS 1.0 Known Hosts database for GNU Wget.\n# Edit at your own risk.\nlocalhost\t0\t0\t1\t2\n", dropped},
	{"tmp/npm-123-0a1b2c3d/x", "x", dropped}, {"tmp/dnf-root-ab1cdefg/x", "x", dropped}, {"tmp/apt.conf.aB3dEf", "x", dropped}, {"tmp/apt-key-gpghome.AbCdEfGhIj/x", "x", dropped}, {"tmp/hsperfdata_root/1", "1", dropped}, {"tmp/go-build123456789/a", "x", dropped},
	{"tmp/pip-build-env-ab_1cd2e/a", "x", dropped}, {"tmp/yarn--1795469268123-0.5123/node", "x", dropped}, {"tmp/.X99-lock", "1\n", dropped},
	{"src/config.log", autoconf, dropped},
	{"app/CMakeFiles/CMakeOutput.log", "The system is: Linux - 6.1\n", dropped},
	{"app/CMakeFiles/CMakeConfigureLog.yaml", "\n---\nevents:\n", dropped},
	{"var/lib/gems/3.1.0/extensions/x86_64-linux/3.1.0/a-1/gem_make.out", "current directory: /var/lib/gems\n", dropped},
	{"src/html/.doctrees/environment.pickle", "\x80\x05\x95\x8c\x12sphinx.environment\x94\x8c\x10BuildEnvironment\x94", dropped},
	{"src/autom4te.cache/requests", "# This file was generated by Autom4te 2.71.\n", dropped},
	{"app/target/release/.fingerprint/a-dd5f6d5ce5e0dcb8/run-build-script-build-script-build.json", cargoRecord("1795977071.337971019s (Cargo.lock)"), dropped},
	{"src/build/.ninja_log", "# ninja log v5\n3\t9\t1800000000123456789\tb.o\taf\n0\t8\t1800000000123456789\ta.o\t1f\n1\t2\t1000000000000000000\tb.o\t2f\n",
		"# ninja log v5\n0\t1\t1700000000000000000\ta.o\t1f\n0\t1\t1000000000000000000\tb.o\t2f\n"},
	{"src/build/.ninja_deps", ninjaDatabase(1800000000e9, []string{"b.o", "b.c", "x.h"}, []string{"a.o", "a.c", "x.h"}), ninjaDatabase(1700000000e9, []string{"a.o", "a.c", "x.h"}, []string{"b.o", "b.c", "x.h"})},
	{"var/lib/gems/3.1.0/gems/a-1/ext/a/Makefile", "sitearchdir = ./.gem.20261123-7-h9oyru\n", "sitearchdir = ./.gem.tmp\n"},
	{"usr/lib/python3.9/__pycache__/m.cpython-39.pyc", py39("\xfa\x01b\xfa\x01a"), py39("z\x01az\x01b")},
	{"etc/ssl/certs/java/cacerts", string(trustStore(late)), string(trustStore(epoch))},
	{"src/.git/index", string(indexes()[0]), string(neutralIndex(indexes()[0], Facts{}))},
	{"src/.git/logs/refs/heads/a", reflogLine(fmt.Sprint(late.Unix())), reflogLine("1700000000")},
	{"var/spool/cron/crontabs/root", crontab(late.UTC().Format(time.ANSIC)), crontab("Tue Nov 14 22:13:20 2023")},
	{"root/.config/configstore/update-notifier-npm-check-updates.json", fmt.Sprintf("{\n\t\"optOut\": false,\n\t\"lastUpdateCheck\": %d\n}", late.UnixMilli()), "{\n\t\"optOut\": false,\n\t\"lastUpdateCheck\": 1700000000000\n}"},
	{"root/.gnupg/pubring.kbx", keybox(late.Unix()), keybox(epoch.Unix())},
	{"srv/keys/trustdb.gpg", trustDatabase(late.Unix()), trustDatabase(epoch.Unix())},
	{"root/.erlang.cookie", "ABCDEFGHIJKLMNOPQRST", dropped},
	{"var/lib/rabbitmq/.erlang.cookie", strings.Repeat("aB3+", 14) + "\n", dropped},
}

// cargoRecord returns what Cargo 1.63 writes about a build script that has run.
func cargoRecord(sources string) string {
	return `{"rustc":6313857479023064299,"features":"","target":0,"profile":0,"path":0,"deps":[[13698299589270819626,"build_script_build",false,8070945589186487357]],"local":[{"Precalculated":"` +
		sources + `"}],"rustflags":[],"metadata":0,"config":0,"compile_kind":0}`
}

// keybox returns a keyring without keys, as gpg 2.2 makes it.
func keybox(when int64) string {
	b := []byte("\x00\x00\x00\x20\x01\x01\x00\x02KBXf\x00\x00\x00\x00")
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, uint32(when)), uint32(when))
	return string(b) + strings.Repeat("\x00", 8)
}

// trustDatabase returns a trust database of one record.
func trustDatabase(when int64) string {
	return string(binary.BigEndian.AppendUint32([]byte("\x01gpg\x03\x03\x01\x05\x01\x02\x00\x00"), uint32(when))) + strings.Repeat("\x00", 24)
}

// ninjaDatabase returns a .ninja_deps file as Ninja writes it, with a record for each output and its inputs.
func ninjaDatabase(when uint64, outputs ...[]string) string {
	b, ids := []byte("# ninjadeps\n\x04\x00\x00\x00"), map[string]uint32{}
	le := binary.LittleEndian
	for _, names := range outputs {
		for _, name := range names {
			if _, known := ids[name]; known {
				continue
			}
			id := uint32(len(ids))
			ids[name] = id
			for len(name)%4 != 0 {
				name += "\x00"
			}
			b = le.AppendUint32(append(le.AppendUint32(b, uint32(len(name)+4)), name...), ^id)
		}
		b = le.AppendUint32(b, uint32(4*len(names)+8)|1<<31)
		for i, name := range names {
			if b = le.AppendUint32(b, ids[name]); i == 0 {
				b = le.AppendUint64(b, when)
			}
		}
	}
	return string(b)
}

// py39 returns a file as Python 3.9 compiles it, checked by a hash, with a set of two strings.
func py39(set string) string {
	const none, number = "N", "\x00\x00\x00\x00"
	return "\x61\x0d\r\n\x03\x00\x00\x00hashhash" + "c" + strings.Repeat(number, 6) + "s" + number + ")\x01" + ">\x02\x00\x00\x00" + set +
		strings.Repeat(none, 6) + number + none
}

func loginRecord(kind byte) []byte {
	b := make([]byte, 384)
	binary.NativeEndian.PutUint32(b, uint32(kind))
	return b
}

func reflogLine(when string) string {
	return strings.Repeat("0", 40) + " " + strings.Repeat("1", 40) + " a <b> " + when + " +0000\n"
}

func crontab(date string) string {
	return "# DO NOT EDIT THIS FILE - edit the master and reinstall.\n# (- installed on " + date + ")\n# (Cron version -- x)\n5 4 * * * true\n"
}

// manIndex returns an index of man-db with a page.
func manIndex(magic string, when time.Time) string {
	return fmt.Sprintf("%s\x00foo\x00-\t1\t1\t%d\t126011791\tA\t-\t-\t-\tdoes bar\x00", magic, when.Unix())
}

// randomSeed returns bytes as various as those of a seed.
func randomSeed() string {
	var b []byte
	for i := range 512 {
		b = append(b, byte(i*7))
	}
	return string(b)
}

// What a RUN's tools leave is dropped or written in one form, and so is what COPY takes from a stage with a folder
// far above. What any other instruction brings stays.
func TestByproducts(t *testing.T) {
	for _, test := range byproducts {
		for how, l := range map[string]Layer{
			"by a RUN": {Run: true}, "from the root of a stage": {Run: true, Copies: []Copy{{"", ""}}},
			"below another root": {Run: true, Copies: []Copy{{"", ""}}, Inputs: []string{"srv", "opt/app"}},
		} {
			if got := applied(Version, l, test.name, test.content); got != test.want {
				t.Errorf("%s, %s: %q, want %q", test.name, how, got, test.want)
			}
		}
		if got := applied(Version, Layer{}, test.name, test.content); got != test.content {
			t.Errorf("%s, which COPY or ADD brought: %q", test.name, got)
		}
	}
}

// What COPY takes from a stage by its name, or by a folder that only the rule is about, or from another place, stays,
// unless only a time in it changes. So does what a COPY of the stage brought there.
func TestCopiedByName(t *testing.T) {
	for _, test := range byproducts {
		if test.want != dropped && test.want != "" {
			continue
		}
		for how, l := range map[string]Layer{
			"by its name":             {Run: true, Copies: []Copy{{test.name, test.name}}},
			"with its folder":         {Run: true, Copies: []Copy{{path.Dir(test.name), path.Dir(test.name)}}},
			"from another place":      {Run: true, Copies: []Copy{{"srv/made", test.name}}},
			"from another folder":     {Run: true, Copies: []Copy{{"srv/made", ""}}},
			"brought by another COPY": {Run: true, Copies: []Copy{{"", ""}}, Inputs: []string{test.name}},
			"at a volume":             {Run: true, Volumes: []string{test.name}},
			"below a volume":          {Run: true, Volumes: []string{test.name[:strings.IndexByte(test.name, '/')]}},
			"kept":                    {Run: true, Keep: []string{"/" + test.name}},
			"named by the image":      {Run: true, Named: []string{test.name}},
		} {
			if strings.HasSuffix(test.name, "machine-id") && (strings.Contains(how, "volume") || how == "named by the image") {
				continue // it is never lost: a link to it, or D-Bus, gets another
			}
			if anywhere(test.name) && (how == "from another folder" || how == "with its folder") {
				continue // its tool writes into any folder
			}
			if how == "with its folder" && slices.ContainsFunc(shared, func(p []string) bool {
				return len(p) == strings.Count(test.name, "/") && match(p, strings.Split(path.Dir(test.name), "/"))
			}) {
				continue // a folder far above
			}
			if got := applied(Version, l, test.name, test.content); got != test.content {
				t.Errorf("%s, %s: %q", test.name, how, got)
			}
		}
	}
}

// A pattern in a COPY asks for what it matches, unless it takes all of a folder far above.
func TestCopiedByPattern(t *testing.T) {
	const log = "2026-11-29 11:41:29 startup archives unpack\n"
	for _, test := range []struct {
		copied        Copy
		name, content string
		stays         bool
	}{
		{Copy{"var/log/*.log", "var/log"}, "var/log/dpkg.log", log, true},
		{Copy{"var/log/d*", "var/log"}, "var/log/dpkg.log", log, true},
		{Copy{"var/log/*", "var/log"}, "var/log/dpkg.log", log, true}, // the folder of logs
		{Copy{"var/lo?/dpkg.log", "var/log"}, "var/log/dpkg.log", log, true},
		{Copy{"root/.cache/*", "root/.cache"}, "root/.cache/pip/http/a", "cc=4,", true},
		{Copy{"root/.ca*", "root"}, "root/.cache/pip/http/a", "cc=4,", true},
		{Copy{"root/*", "root"}, "root/.cache/pip/http/a", "cc=4,", false},
		{Copy{"*", ""}, "var/log/dpkg.log", log, false},
		{Copy{"var/*", "var"}, "var/log/dpkg.log", log, false},
		{Copy{"v*", ""}, "var/log/dpkg.log", log, false},
	} {
		got := applied(Version, Layer{Run: true, Copies: []Copy{test.copied}}, test.name, test.content)
		if (got != dropped) != test.stays {
			t.Errorf("COPY --from=a /%s /%s: it stays: %v", test.copied.From, test.copied.To, !test.stays)
		}
	}
}

// A COPY of a folder that only holds caches or logs asks for them.
func TestCopiedCaches(t *testing.T) {
	for from, stays := range map[string]bool{"root/.cache": true, "root": false, "": false} {
		got := applied(Version, Layer{Run: true, Copies: []Copy{{from, from}}}, "root/.cache/pip/http/a", "cc=4,")
		if (got != dropped) != stays {
			t.Errorf("COPY --from=a /%s: it stays: %v", from, !stays)
		}
	}
}

// An archive that COPY or ADD brought to a stage keeps its bytes in the image that copies it from there.
func TestArchivesOfStages(t *testing.T) {
	archive := gzipHeader(late.Unix())
	for _, test := range []struct {
		name   string
		inputs []string
		stays  bool
	}{{"app/a.gz", []string{"app/a.gz"}, true}, {"app/a.gz", []string{"app"}, false}, {"app/a.gz", []string{"app/b.gz"}, false}, {"opt/a.gz", []string{"app/a.gz"}, true}} {
		got := applied(Version, Layer{Run: true, Copies: []Copy{{"app", "app"}, {"app/a.gz", "opt"}}, Inputs: test.inputs}, test.name, archive)
		if (got == archive) != test.stays {
			t.Errorf("%s, with %q: %q", test.name, test.inputs, got)
		}
	}
}

func anywhere(name string) bool {
	return slices.ContainsFunc(table, func(r Rule) bool { return strings.Contains(strings.Join(r.paths, " "), "**/") && r.matches(name) })
}

// Files of people stay, whatever they are called.
func TestFilesOfPeople(t *testing.T) {
	compiled := "\xa7\r\r\n\x00\x00\x00\x00\xff\xff\xff\x70\x07\x00\x00\x00"
	for _, test := range [][2]string{
		// What was moved or written to a place that a tool uses.
		{"var/backups/data", "data"}, {"var/backups/seed.sql", "create table t ();\n"}, {"var/backups/dpkg.status.0", "Package: a\n"},
		{"var/log/apt/notes.txt", "mine\n"}, {"var/log/apt/history.log", "a history of mine\n"}, {"var/log/apt/history.log", "Start-Date: 2026\nmine\n"},
		{"var/log/dpkg.log", "old\n"}, {"var/log/dpkg.log", ""}, {"var/log/dpkg.log", "2026-11-29 11:41:29 status installed a:amd64 1\nnote of mine\n"},
		{"var/log/alternatives.log", "chosen\n"}, {"var/log/yum.log", "mine\n"}, {"var/log/aptitude", "mine\n"}, {"var/log/aptitude", "Aptitude is mine\n"}, {"var/log/dnf.rpm.log", "mine\n"}, {"var/log/bootstrap.log", "mine\n"}, {"var/log/bootstrap.log", "Setting up the database\nUnpacking seeds\n"}, {"var/log/dnf-audit.log", "2026-11-29T11:41:29+0000 INFO mine\n"},
		{"var/log/apt/term.log", "\nLog started: 2026-11-29  11:41:29\na\nLog ended: 2026-11-29  11:41:30\nmine\n"}, {"var/log/fontconfig.log", "/usr/share/fonts: caching\nmine\n"}, {"var/log/apt/term.log", "mine\n"},
		{"var/log/lastlog", "\x00"}, {"var/log/wtmp", "mine\n"}, {"var/log/wtmp", strings.Repeat("a", 384)}, {"var/log/btmp", ""}, {"var/log/faillog", "\x00"},
		{"var/log/fontconfig.log", "fonts of mine\n"}, {"var/log/journal/notes", "mine\n"}, {"var/log/tallylog", "x"},
		{"var/mail/ada", ""}, {"var/mail/ada", "From a\n"},
		{"var/cache/ldconfig/aux-cache", "mine"}, {"var/cache/apt/pkgcache.bin", "mine"}, {"var/cache/apt/archives/a.deb", "!<arch>\n"}, {"var/cache/dnf/fedora-1/packages/a.rpm", "\xed\xab\xee\xdb"},
		{"var/cache/apk/APKINDEX.0.tar.gz", "mine"}, {"var/lib/dpkg/mine-old", "mine\n"}, {"var/cache/debconf/mine-old", "mine\n"}, {"var/lib/apt/extended_states.mine", "mine"},
		{"etc/passwd-", "root:x:0:0::/root:/bin/sh\n"}, {"etc/group-", "root:x:0:\n"}, {"etc/subuid-", "a:1:2\n"},
		{"var/lib/systemd/random-seed", strings.Repeat("seed", 128)}, {"var/lib/random-seed", "\x01"}, {"boot/loader/random-seed", ""},
		{"var/log/apt/term.log", "Log started: 2026-11-29  11:41:29\na\nLog ended: 2026-11-29  11:41:30\nmine\nLog started: 2026-11-29  11:41:31\na\nLog ended: 2026-11-29  11:41:32\n"},
		{"var/log/dnf.log", "2026-11-29T11:41:29+0000 INFO a\nmine\n"}, {"var/log/yum.log", "Nov 29 11:41:29 Installed: a\nmine\n"},
		{"var/lib/dpkg/status-mine-old", "Package: a\n"}, {"var/cache/debconf/mine.dat-old", "Name: a/b\n"}, {"var/lib/apt/extended_states.backup", "Package: a\n"},
		{"var/lib/systemd/random-seed", strings.Repeat("\x00", 512)}, {"var/lib/systemd/random-seed", strings.Repeat("\x01\xfe", 256)},
		// Configuration in folders of caches.
		{"root/.ccache/ccache.conf", "max_size = 1G\n"}, {"root/.cache/ccache/ccache.conf", "max_size = 1G\n"}, {"root/.config/go/telemetry/mode", "off 2026-11-29\n"},
		{"root/.fontconfig/fonts.conf", "<fontconfig/>\n"}, {"root/.cache/fontconfig/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n"},
		{"root/.cache/node/corepack/lastKnownGood.json", `{"pnpm":"9.1.0"}`}, {"root/.cache/node/corepack/v1/pnpm/9.1.0/bin/pnpm.cjs", "x"},
		{"root/.cache/pip/pip.conf", "[global]\n"}, {"root/.cache/pip/wheels/0/a.txt", "x"}, {"root/.cache/pip/http/notes", "mine"}, {"root/.cache/pip/selfcheck/mine", "{}"},
		{"root/.cache/composer/.htaccess", "Deny from all"}, {"root/.composer/cache/files/a/b.zip", "mine"}, {"root/.npm/_logs/notes.log", "mine"}, {"root/.npm/_logs/keep", "0 verbose cli\n"},
		{"root/.npm/_cacache/index-v5/aa/bb/cc", "mine"}, {"root/.npm/_cacache/content-v2/sha512/aa/bb", "x"}, {"root/.npm/_cacache/x", "hello\n"}, {"root/.npmrc", "a=b"},
		{"root/.cache/uv/config.toml", "x"}, {"root/.cache/uv/archive-v0/x/m.py", "code\n"}, {"root/.cache/uv/CACHEDIR.TAG", "x"},
		{"usr/local/share/.cache/yarn/v6/pkg", "x"}, {"root/.cache/yarn/v6/npm-a-1-0123/node_modules/a/index.js", "x"}, {"root/.cache/node-gyp/18.0.0/include/node/node.h", "x"},
		{"root/.cache/go-build/00/00aa-d", "object"}, {"root/.cache/go-build/00/a-d", "x"}, {"root/.cache/go-build/00/00aa-a", "mine"}, {"root/.cache/go-build/README", "x"}, {"root/.cache/go-build/trim.txt", "never"},
		{"root/.cargo/config.toml", "[build]\n"}, {"root/.cargo/.package-cache", ""}, {"root/.cargo/.global-cache", "mine"}, {"root/.gem/credentials", "x"}, {"root/.gem/specs/notes", "mine"},
		{"root/.bundle/config", "---\nBUNDLE_PATH: x\n"}, {"root/.bundle/cache/compact_index/notes", "mine"}, {"root/.cache/matplotlib/matplotlibrc", "backend: Agg\n"}, {"root/.cache/mesa_shader_cache/notes", "mine"},
		{"root/.m2/settings.xml", "<settings/>"}, {"root/.m2/repository/a/1/_remote.repositories", "mine\n"}, {"root/.gradle/gradle.properties", "a=b"}, {"root/.gradle/daemon/notes", "mine"}, {"root/.cpan/CPAN/MyConfig.pm", "1;"},
		{"root/.cache/sccache/config", "mine"}, {"root/.cpanm/work/notes", "mine"}, {"root/.cache/gstreamer-1.0/notes", "mine"}, {"root/.cache/pnpm/metadata/notes.json", "{}"},
		// Histories of shells, and files that are called like those of tools.
		{"root/.bash_history", "ls\n"}, {"root/.bash_history", ""}, {"home/a/.psql_history", "\\d\n"}, {"root/.wget-hsts", "mine\n"}, {"root/.viminfo", "mine\n"}, {"root/.python_history", "1\n"},
		{"tmp/pip-constraints.txt", "a==1\n"}, {"tmp/pip-requirements.txt", "a\n"}, {"tmp/npm-10/a", "x"}, {"tmp/hsperfdata_app/README", "x"}, {"tmp/jest_0/notes", "x"}, {"tmp/pip-wheels-internal/a.whl", "x"}, {"tmp/pip-install-packages", "x"}, {"tmp/apt.conf.backup", "x"}, {"tmp/dnf-plugins-override/a", "x"}, {"tmp/apt-dpkg-install-script", "x"}, {"tmp/go-build20240101/a", "x"}, {"tmp/npm-cache/a", "x"}, {"tmp/npm-install.log", "x"}, {"tmp/go-build-script.sh", "x"}, {"tmp/yarn--notes", "x"},
		{"tmp/apt.conf.d/a", "x"}, {"tmp/hsperfdata", "x"}, {"var/tmp/dnf-notes", "x"}, {"tmp/.X-lock", "x"}, {"tmp/v8-compile-cache-mine", "x"},
		// Choices.
		{"etc/machine-id", chosenID + "\n"}, {"etc/machine-id", "0123456789abcdef0123456789abcdef\n"}, {"etc/machine-id", "uninitialized\n"}, {"etc/machine-id", ""}, {"var/lib/dbus/machine-id", chosenID},
		{"root/.erlang.cookie", chosenCookie}, {"root/.erlang.cookie", "chosen"}, {"var/lib/rabbitmq/.erlang.cookie", "CHOSEN"},
		{"etc/shadow", "a:*:23742:0:20:7:::\n"}, {"etc/shadow", "a:*:23742:0:99999:7:::\n"}, {"etc/shadow", "a:*:0:0:99999:7:::\n"}, {"etc/shadow", "a:*:19000:0:99999:7:::\n"}, {"etc/shadow", "a:!::0:99999:7:::\n"},
		{"etc/shadow", fmt.Sprintf("a:*:%d:0:20:7:::\n", late.Unix()/day)}, {"etc/shadow", fmt.Sprintf("a:*:%d:0:90:7:::\n", late.Unix()/day)},
		// Times that only a person can have given to an archive.
		{"srv/a.gz", gzipHeader(late.Unix() + 3*day)}, {"srv/a.zip", zipped(late.AddDate(1, 0, 0))}, {"srv/a.jar", zipped(late.AddDate(9, 0, 0))},
		{"srv/.git/logs/a", reflogLine("4102444800")}, {"root/.cache/go-build/trim.txt", "4102444800"}, {"var/spool/cron/crontabs/a", crontab("Fri Jan  1 00:00:00 2100")},
		{"root/.config/configstore/a.json", `{"lastUpdateCheck":4102444800000}`}, {"root/.gnupg/pubring.kbx", keybox(4102444800)}, {"etc/ssl/certs/java/cacerts", string(trustStore(late.AddDate(9, 0, 0)))},
		{"root/.m2/repository/a/resolver-status.properties", "#NOTE: This is a Maven Resolver internal implementation file, its format can be changed without prior notice.\na.lastUpdated=4102444800000\n"},
		// Other formats.
		{"x.pyc", compiled + "HELLO"}, {"x.pyc", compiled}, {"x.pyc", "\xa7\r\r\n\x02\x00\x00\x00\xff\xff\xff\x70\x07\x00\x00\x00\xe3"}, {"x.pyc", "\xa7\r\n\n" + compiled[4:] + "\xe3"}, {"x.pyc", "mine"},
		{"srv/app/config.log", "This file contains any messages produced by compilers while\nrunning configure, which we keep for support.\nsetting=1\n"}, {"srv/config.log", "mine"},
		{"srv/config.log", autoconf[:strings.Index(autoconf, "It was")]}, {"srv/CMakeFiles/CMakeOutput.log", "mine"}, {"srv/CMakeFiles/CMakeConfigureLog.yaml", "a: b\n"}, {"a/extensions/b/c/d/mkmf.log", "mine\n"},
		{"srv/.ninja_log", "mine\n"}, {"srv/.ninja_log", "# ninja log v4\n0\t1\t2\ta\tf\n"}, {"srv/.ninja_log", "# ninja log v5\n0\t1\t2\ta\tf\nmine\n"}, {"srv/ninja_log", "# ninja log v5\n1\t1\t2\ta\tf\n"},
		{"srv/.ninja_deps", "# ninjadeps\n\x03\x00\x00\x00"}, {"srv/.ninja_deps", ninjaDatabase(1800000000e9, []string{"a.o", "a.c"}) + "\x00"}, {"srv/.ninja_deps", strings.Replace(ninjaDatabase(1800000000e9, []string{"a.o", "a.c"}), "\xff", "\xfe", 1)},
		{"srv/doctrees/environment.pickle", "\x80\x05\x95mine"}, {"srv/.doctrees/index.doctree", "\x80\x05\x8c\x12sphinx.environment BuildEnvironment"}, {"srv/environment.pickle", "\x80\x05\x8c\x12sphinx.environment BuildEnvironment"},
		// A crate whose sources are all as old as the epoch, one from a registry, and what is not Cargo's.
		{"srv/.fingerprint/a/run-build-script-build-script-build.json", cargoRecord("1600000000.000000000s (build.rs)")}, {"srv/.fingerprint/a/run-build-script-build-script-build.json", cargoRecord("1.0.2")},
		{"srv/.fingerprint/a/run-build-script-build-script-build.json", cargoRecord("1700000000.000000019s (build.rs)")}, {"srv/fingerprint/a/a.json", cargoRecord("1795977071.337971019s (Cargo.lock)")},
		{"srv/.fingerprint/a/a.json", `{"local":[{"Precalculated":"1795977071.337971019s (Cargo.lock)"}]}`}, {"srv/.fingerprint/a/notes.json", "[]"}, {"srv/.fingerprint/a/notes", "0123456789abcdef\n"}, {"srv/.fingerprint/a/bin-a", "db2d4ef7a0acd6dc"},
		{"root/.config/configstore/a.json", `{"optOut":true}`}, {"root/.config/configstore/a.json", `{"lastUpdateCheck":1500000000000}`}, {"root/.config/configstore/a.json", `{"a":{"lastUpdateCheck":1800000000000}}`}, {"root/.config/configstore/a.json", `"lastUpdateCheck":1800000000000`}, {"root/.config/configstore/a.json", `{"lastUpdateCheck":18000000000000}`}, {"root/a.json", `{"lastUpdateCheck":1800000000000}`},
		{"root/.gnupg/pubring.kbx", keybox(late.Unix()) + "\x00\x00\x00\x20\x02"}, {"root/.gnupg/pubring.kbx", "mine"}, {"root/.gnupg/pubring.kbx", keybox(1500000000)}, {"root/.gnupg/trustdb.gpg", trustDatabase(late.Unix()) + "x"}, {"root/.gnupg/trustdb.gpg", ""}, {"root/.gnupg/pubring.gpg", keybox(late.Unix())}, {"root/.gnupg/private-keys-v1.d/a.key", keybox(late.Unix())},
		{"srv/autom4te.cache/requests", "mine"}, {"srv/a.gz", "mine"}, {"srv/a.zip", "mine"}, {"srv/a.jar", "PKmine"}, {"srv/.git/index", "DIRC"}, {"srv/.git/logs/a", "mine\n"},
		{"etc/ssl/certs/java/cacerts", "mine"}, {"var/spool/cron/crontabs/a", "# mine\n5 4 * * * true\n"}, {"usr/share/fonts/.uuid", "mine\n"}, {"srv/.uuid", "0f8fad5b-d9cb-469f-a165-70867728950e"}, {"usr/share/app/.uuid", "0f8fad5b-d9cb-469f-a165-70867728950e\n"}, {"usr/share/app/.uuid", "0f8fad5b-d9cb-469f-a165-70867728950e"}, {"var/cache/man/notes", "mine"}, {"var/cache/man/index.db", manIndex("\xce\x9a\x57\x13", epoch)}, {"var/cache/man/notes", manIndex("mine", late)},
	} {
		if got := applied(Version, Layer{Run: true}, test[0], test[1]); got != test[1] {
			t.Errorf("%s, %q: %q", test[0], test[1], got)
		}
	}
}

func gzipHeader(when int64) string {
	return string(binary.LittleEndian.AppendUint32([]byte("\x1f\x8b\x08\x00"), uint32(when))) + "\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00"
}

// zipped returns an archive with a file of the epoch, and one of another time.
func zipped(when time.Time) string {
	var b strings.Builder
	w := zip.NewWriter(&b)
	for name, t := range map[string]time.Time{"a": epoch, "b": when} {
		if _, err := w.CreateHeader(&zip.FileHeader{Name: name, Modified: t.UTC()}); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

// A value that a RUN may have from a file that it mounted stays; what has no value of its own does not.
func TestMountedValues(t *testing.T) {
	values := 0
	for _, test := range byproducts {
		got := applied(Version, Layer{Run: true, Mounts: true}, test.name, test.content)
		switch path.Base(test.name) {
		case "machine-id", ".erlang.cookie":
			values++
			if got != test.content {
				t.Errorf("%s: %q", test.name, got)
			}
		default:
			if got != test.want {
				t.Errorf("%s: %q, want %q", test.name, got, test.want)
			}
		}
	}
	if values < 5 {
		t.Errorf("%d values", values)
	}
}

// An archive with times of the build has the epoch, whatever the clock of the build and the time zone were.
func TestArchivesOfBuilds(t *testing.T) {
	for _, when := range []int64{epoch.Unix() + 1, late.Unix() - 3600, late.Unix(), late.Unix() + 13*3600} {
		if got := applied(Version, Layer{Run: true}, "srv/a.gz", gzipHeader(when)); got != gzipHeader(epoch.Unix()) {
			t.Errorf("%d: %q", when, got)
		}
	}
	f := Facts{Epoch: epoch.Unix(), Made: late.Unix(), Clock: 400 * day}
	if got := built(clampGzip)([]byte(gzipHeader(late.Unix()+400*day)), f); string(got) != gzipHeader(epoch.Unix()) {
		t.Errorf("a clock ahead: %q", got)
	}
	f = Facts{Epoch: epoch.Unix(), Made: old.Unix()} // touch -d
	if got := built(clampGzip)([]byte(gzipHeader(late.Unix())), f); string(got) != gzipHeader(epoch.Unix()) {
		t.Errorf("an archive with a time of its own: %q", got)
	}
}

// Version 1 goes by names, and applies most rules to what COPY brings, too.
func TestVersion1(t *testing.T) {
	for name, content := range map[string]string{"var/backups/data": "data", "root/.bash_history": "ls\n", "tmp/pip-constraints.txt": "a", "root/.ccache/ccache.conf": "a", "etc/group-": "a"} {
		for _, run := range []bool{false, true} {
			if got := applied(1, Layer{Run: run}, name, content); got != dropped {
				t.Errorf("%s: %q", name, got)
			}
		}
	}
	if got := applied(1, Layer{}, "src/config.log", autoconf); got != autoconf {
		t.Errorf("a log that COPY brought: %q", got)
	}
}

// A link to the machine id, as Debian's D-Bus has it, must lead to an id. One that the Dockerfile names stays one.
func TestLinkedMachineID(t *testing.T) {
	for _, l := range []Layer{{Run: true, Named: []string{"etc/machine-id"}}, {Run: true, Asked: []string{"machine-id"}}} {
		got := applied(Version, l, "etc/machine-id", "9c0a4f3e1b2d4c5e8f90a1b2c3d4e5f6\n")
		if got != string(derivedMachineID(epoch.Unix())) || !isMachineID([]byte(got)) {
			t.Errorf("%q", got)
		}
	}
}

// The second of two builds may run with another clock than its files.
func TestBuildDays(t *testing.T) {
	f := Facts{Epoch: epoch.Unix(), Days: BuildDays(late.Unix(), 400*day)}
	for days, want := range map[int64]string{0: "19675", 400: "19675", 30: fmt.Sprint(late.Unix()/day + 30)} {
		line := fmt.Sprintf("a:*:%d:0:99999:7:::\n", late.Unix()/day+days)
		if got := string(clampPasswordDates([]byte(line), f)); got != "a:*:"+want+":0:99999:7:::\n" {
			t.Errorf("%d days later: %q", days, got)
		}
	}
}

// Of two entries for one key, npm reads the last.
func TestNpmIndexOrder(t *testing.T) {
	a, b := npmIndex("1", "a"), strings.ReplaceAll(npmIndex("2", "b"), "request-cache:", "other:")
	if isNpmIndex([]byte(b), Facts{}) {
		t.Error("an entry with another hash is taken")
	}
	got := string(evenNpmIndex([]byte(npmIndex("3", "c")+a), Facts{Epoch: epoch.Unix()}))
	if got != a {
		t.Errorf("%q, want %q", got, a)
	}
}

// A Dockerfile with the words of a rule asks for its files, and an image that is configured for use without a network
// needs its caches.
func TestAsked(t *testing.T) {
	for _, test := range []struct{ text, config, want string }{
		{"RUN apt-get install -y man-db", "PATH=/usr/bin", ""},
		{"RUN mandb -q", "", "man-caches"}, {"RUN whatis ls", "", "man-caches"}, {"RUN man -k ls", "", "man-caches"}, {"RUN man ls", "", ""},
		{"RUN make-cookie > ~/.erlang.cookie", "", "erlang-cookie"}, {"RUN dbus-uuidgen > /etc/machine-id", "", "machine-id"},
		{"RUN node -e 'module.enableCompileCache()'", "", "tmp-leftovers"},
		{"RUN openssl dgst -sign k a.gz", "", "gzip-header zip-header"}, {"RUN gpg --batch -u a --detach-sign b.jar", "", "gzip-header zip-header"}, {"RUN cksum a", "", "gzip-header zip-header"},
		{"RUN curl x | gpg --dearmor -o /k && gpg --batch --verify a.asc a", "", ""}, {"RUN sha256sum -c SUMS && openssl version", "", ""},
		{"", "UV_OFFLINE=1", "language-caches language-cache-folders"}, {"", "uvx --offline ruff", "language-caches language-cache-folders"}, {"", "PIP_NO_INDEX=1", "language-caches language-cache-folders"},
		{"", "PATH=/usr/lib/ccache:/usr/bin", "language-caches language-cache-folders"}, {"RUN uv sync --offline", "npm_config_prefer_offline=true", ""},
	} {
		if got := strings.Join(Asked(test.text, test.config), " "); got != test.want {
			t.Errorf("%q, %q: %q, want %q", test.text, test.config, got, test.want)
		}
	}
	for _, test := range byproducts {
		var all []string
		for _, r := range table {
			all = append(all, r.ID)
		}
		got := applied(Version, Layer{Run: true, Asked: all}, test.name, test.content)
		if test.want == dropped && got != test.content {
			t.Errorf("%s: %q", test.name, got)
		}
	}
}
