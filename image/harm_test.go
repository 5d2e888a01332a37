package image

import (
	"archive/tar"
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/kedge-build/kedge/rules"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/blake2b"
)

// layered returns the layers above the base of an image for which change changes what the builder says.
func layered(t testing.TB, raw rawImage, change func(*Source)) ([][]string, error) {
	t.Helper()
	s := testStore(t)
	raw.platform = amd64
	x := newExport(t, raw)
	in := testIngest(t, s, IngestOptions{})
	defer in.Close()
	x.send(t, in)
	sources := sourcesOf([]rawImage{raw})
	if change != nil {
		change(&sources[0])
	}
	img, err := in.Write(t.Context(), x.root, sources, Options{})
	if err != nil {
		return nil, err
	}
	var lists [][]string
	for _, l := range img.Manifests[0].Layers[len(raw.base):] {
		lists = append(lists, listed(t, s, l))
	}
	return lists, nil
}

func symlink(name, target string) tartest.Entry {
	return tartest.Entry{Header: tar.Header{Name: name, Linkname: target, Mode: 0o777, ModTime: old, Typeflag: tar.TypeSymlink}}
}

func owned(uid int) func(*tar.Header) {
	return func(h *tar.Header) { h.Uid, h.Gid, h.ModTime = uid, uid, old }
}

func moded(mode int64) func(*tar.Header) { return func(h *tar.Header) { h.Mode = mode } }

const (
	grownLog   = aLog + "libc6\n"
	hsts       = "# HSTS 1.0 Known Hosts database for GNU Wget.\n"
	auxCache   = "glibc-ld.so.auxcache-2.0"
	pipEntry   = "root/.cache/pip/http/a"
	pipContent = "cc=4,"

	configureLog = "This file contains any messages produced by compilers while\nrunning configure, to aid debugging if configure makes a mistake.\n\nIt was created by a\n## Platform. ##\n"
)

// A change that a RUN makes to a file of the layers below is undone only if the tool makes it by itself.
func TestFilesBelow(t *testing.T) {
	record := string(append([]byte{7, 0, 0, 0}, make([]byte, 380)...))
	base := tartest.Tar(t, folder("var").With(at(old)), folder("var/log").With(at(old)),
		file("var/log/dpkg.log", "old\n").With(at(old)), file("var/log/wtmp", record).With(at(old)), file("var/log/btmp", "").With(at(old)),
		file("var/cache/ldconfig/aux-cache", auxCache+"1").With(at(old)), file("etc/machine-id", "").With(at(old)),
		file("root/.bash_history", "export TOKEN=abc\n").With(at(old)), file("etc/group-", "a:x:1:\n").With(at(old)),
		file("usr/share/fonts/.uuid", "0f8fad5b-d9cb-469f-a165-70867728950e").With(at(old)), file("root/.wget-hsts", hsts+"a.example\t0\t0\t1\t2\nb.example\t0\t0\t1\t2\n").With(at(old)),
		file("root/.npm/_logs/1.log", "0 verbose cli a\n1 info token\n").With(at(old)), file("root/.erlang.cookie", "AAAAAAAAAAAAAAAAAAAA").With(at(old)),
		file(pipEntry, "mine").With(at(old)), folder("tmp").With(at(old)), file("tmp/go-build123456/a", "mine").With(at(old)))
	for _, test := range []struct {
		name  string
		layer tartest.Entry
		stays bool
	}{
		{"a log that grew", file("var/log/dpkg.log", "old\n"+grownLog), false},
		{"a log that was only touched", file("var/log/dpkg.log", "old\n"), false},
		{"a log that was emptied", file("var/log/dpkg.log", ""), true},
		{"a log that was shortened", file("var/log/dpkg.log", "ol"), true},
		{"a log that was replaced by another", file("var/log/dpkg.log", grownLog), true},
		{"a log to which a person added", file("var/log/dpkg.log", "old\nnote\n"), true},
		{"a log with another mode", file("var/log/dpkg.log", "old\n"+grownLog).With(moded(0o600)), true},
		{"a log that only has another mode", file("var/log/dpkg.log", "old\n").With(moded(0o600)), true},
		{"a log with another owner", file("var/log/dpkg.log", "old\n"+grownLog).With(owned(7)), true},
		{"a log that became a link", symlink("var/log/dpkg.log", "/dev/null"), true},
		{"a log that became a folder", folder("var/log/dpkg.log"), true},
		{"a log that was deleted", file("var/log/.wh.dpkg.log", ""), true},
		{"a folder of logs that was emptied", file("var/log/.wh..wh..opq", ""), true},
		{"records that grew", file("var/log/wtmp", record+record), false},
		{"records that were emptied", file("var/log/wtmp", ""), true},
		{"records of an empty file", file("var/log/btmp", "\x06"+record[1:]), false},
		{"other records", file("var/log/wtmp", "\x02"+record[1:]), true},
		{"a cache that was written again", file("var/cache/ldconfig/aux-cache", auxCache+"2"), false},
		{"a cache that was replaced", file("var/cache/ldconfig/aux-cache", "mine"), true},
		{"a cache that was emptied", file("var/cache/ldconfig/aux-cache", ""), true},
		{"a cache with another mode", file("var/cache/ldconfig/aux-cache", auxCache+"2").With(moded(0o600)), true},
		{"a cache that became a link", symlink("var/cache/ldconfig/aux-cache", "/x"), true},
		{"a cache that was deleted", file("var/cache/ldconfig/.wh.aux-cache", ""), true},
		{"a history that was emptied", file("root/.bash_history", ""), true},
		{"a history that was deleted", file("root/.wh..bash_history", ""), true},
		{"a backup with another mode", file("etc/group-", "a:x:1:\n").With(moded(0o600)), true},
		{"a font's id with another mode", file("usr/share/fonts/.uuid", "1f8fad5b-d9cb-469f-a165-70867728950e").With(moded(0o600)), true},
		{"a font's id that was deleted", file("usr/share/fonts/.wh..uuid", ""), true},
		{"a list of hosts that was emptied", file("root/.wget-hsts", ""), true},
		{"a list of hosts without one of them", file("root/.wget-hsts", hsts+"a.example\t0\t0\t1\t2\n"), true},
		{"a log of npm without a line", file("root/.npm/_logs/1.log", "0 verbose cli a\n"), true},
		{"another cookie", file("root/.erlang.cookie", "BBBBBBBBBBBBBBBBBBBB"), true},
		{"a machine id that was deleted", file("etc/.wh.machine-id", ""), true},
		{"a machine id that became a link", symlink("etc/machine-id", "/run/id"), true},
		{"a cached response over a file", file(pipEntry, "yours"), true},
		{"a temporary file of the base", file("tmp/go-build123456/a", "yours"), true},
		{"a temporary file of the base that was deleted", file("tmp/go-build123456/.wh.a", ""), true},
	} {
		got, err := layered(t, rawImage{base: [][]byte{base}, layers: [][]byte{tartest.Tar(t, test.layer)}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if stays := len(got[0]) == 1; stays != test.stays {
			t.Errorf("%s: the layer has %q", test.name, got[0])
		}
	}
}

// What exists nowhere else stays: files that were moved or copied, and what links and the configuration lead to.
func TestNothingIsLost(t *testing.T) {
	log, record := aLog+"a\n", string(append([]byte{7, 0, 0, 0}, make([]byte, 380)...))
	manIndex := fmt.Sprintf("\xce\x9a\x57\x13\x00foo\x00-\t1\t1\t%d\t126011791\tA\t-\t-\t-\tdoes bar\x00", late.Unix())
	uv := "root/.cache/uv/archive-v0/0aB_cDeFgHiJkLmNoPqRs"
	home := []tartest.Entry{folder("root").With(at(old)), folder("root/.cache").With(at(old))}
	for _, test := range []struct {
		name   string
		base   []tartest.Entry
		layers [][]tartest.Entry
		config string
		gone   string // the end of the only path that does not stay; empty for none
	}{
		{"a log moved from the base", []tartest.Entry{file("opt/a", log)}, [][]tartest.Entry{{file("opt/.wh.a", ""), file("var/log/dpkg.log", log)}}, "", ""},
		{"a log copied from the base", []tartest.Entry{file("opt/a", log)}, [][]tartest.Entry{{file("var/log/dpkg.log", log)}}, "", ""},
		{"a log moved from an earlier layer", nil, [][]tartest.Entry{{file("opt/a", log)}, {file("opt/.wh.a", ""), file("var/log/dpkg.log", log)}}, "", ""},
		{"records that were moved", []tartest.Entry{file("opt/wtmp", record)}, [][]tartest.Entry{{file("var/log/wtmp", record)}}, "", ""},
		{"an id of the base that was moved", []tartest.Entry{file("opt/id", madeUpID+"\n")}, [][]tartest.Entry{{file("etc/machine-id", madeUpID+"\n")}}, "", ""},
		{"an id that another file names", nil, [][]tartest.Entry{{file("opt/licence", "for "+madeUpID), file("etc/machine-id", madeUpID)}}, "", ""},
		{"an id that a file of a later layer names", nil, [][]tartest.Entry{{file("etc/machine-id", madeUpID)}, {file("opt/licence", "id="+madeUpID+";")}}, "", ""},
		{"a cookie that was moved", []tartest.Entry{file("opt/c", "ABCDEFGHIJKLMNOPQRST")}, [][]tartest.Entry{{file("root/.erlang.cookie", "ABCDEFGHIJKLMNOPQRST")}}, "", ""},
		{"a log of configure beside its results", nil, [][]tartest.Entry{{file("src/config.log", configureLog), file("src/config.status", "x")}}, "", "config.log"},
		{"a log of configure beside results of an earlier layer", nil, [][]tartest.Entry{{file("src/configure", "x")}, {file("src/config.log", configureLog)}}, "", "config.log"},
		{"a log of configure that was put elsewhere", nil, [][]tartest.Entry{{file("srv/config.log", configureLog), file("src/config.status", "x")}}, "", ""},
		{"a cache", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, "", pipEntry},
		{"a cache that a variable names", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"Env":["PIP_CACHE_DIR=/root/.cache/pip/http"]}`, ""},
		{"a cache that one of several paths names", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"Env":["A=/usr:/root/.cache/pip/http/a"]}`, ""},
		{"a cache that an option in a variable names", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"Env":["OPTS=--cache=/root/.cache/pip/http --x"]}`, ""},
		{"a cache whose tool's folder a variable names", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"Env":["PIP_CACHE_DIR=/root/.cache/pip"]}`, ""},
		{"a cache that is below one for all tools", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"Env":["XDG_CACHE_HOME=/root/.cache"]}`, pipEntry},
		{"a cache that is far below what a variable names", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"Env":["HOME=/root"]}`, pipEntry},
		{"a cache that the working directory is in", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"WorkingDir":"/root/.cache/pip/http"}`, ""},
		{"a cache far below the working directory", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"WorkingDir":"/root"}`, pipEntry},
		{"a log that the command reads", nil, [][]tartest.Entry{{file("var/log/dpkg.log", log)}}, `{"Cmd":["cat","/var/log/dpkg.log"]}`, ""},
		{"a log that the entrypoint reads", nil, [][]tartest.Entry{{file("var/log/dpkg.log", log)}}, `{"Entrypoint":["sh","-c","cat /var/log/dpkg.log"]}`, ""},
		{"a cache that the command names in the home folder", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"Cmd":["sh","-c","ls $HOME/.cache/pip"]}`, ""},
		{"a cache that a variable names in the home folder", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"Env":["PIP_CACHE_DIR=~/.cache/pip"]}`, ""},
		{"a cache in the home folder of the user", nil, [][]tartest.Entry{{file("home/a/.cache/pip/http/a", pipContent)}}, `{"User":"a:a","Cmd":["ls","~/.cache/pip"]}`, ""},
		{"a cache in the home folder of a user by number", nil, [][]tartest.Entry{{file("home/b/.cache/pip/http/a", pipContent)}}, `{"User":"1000","Cmd":["ls","~/.cache/pip"]}`, ""},
		{"a cache of another than root", nil, [][]tartest.Entry{{file("home/b/.cache/pip/http/a", pipContent)}}, `{"Cmd":["ls","/root/.cache/pip"]}`, "http/a"},
		{"a cache in the home folder, by a pattern", nil, [][]tartest.Entry{{file("root/.cache/pip/http/a", pipContent)}}, `{"Cmd":["sh","-c","ls ~/.cache/pip/http/*"]}`, ""},
		{"a log by the value of a variable", nil, [][]tartest.Entry{{file("var/log/dpkg.log", log)}}, `{"Env":["D=/var/log"],"Cmd":["sh","-c","cat ${D}/dpkg.log"]}`, ""},
		{"a log by another variable", nil, [][]tartest.Entry{{file("var/log/dpkg.log", log)}}, `{"Env":["D=/var/log"],"Cmd":["sh","-c","cat $E/dpkg.log"]}`, "dpkg.log"},
		{"a log by its name in its folder", nil, [][]tartest.Entry{{file("var/log/dpkg.log", log)}}, `{"Cmd":["sh","-c","cd /var/log && tail -f dpkg.log"]}`, ""},
		{"a log by its name in another folder", nil, [][]tartest.Entry{{file("var/log/dpkg.log", log)}}, `{"Cmd":["sh","-c","cd /srv && tail -f dpkg.log"]}`, "dpkg.log"},
		{"a log that the command removes", nil, [][]tartest.Entry{{file("var/log/dpkg.log", log)}}, `{"Cmd":["sh","-c","rm -f /var/log/dpkg.log; exec app"]}`, "dpkg.log"},
		{"a log through a link", []tartest.Entry{symlink("logs", "/var/log")}, [][]tartest.Entry{{file("var/log/dpkg.log", log)}}, `{"Cmd":["cat","/logs/dpkg.log"]}`, ""},
		{"a log through two links", []tartest.Entry{symlink("logs", "var/logs"), symlink("var/logs", "log")}, [][]tartest.Entry{{file("var/log/dpkg.log", log)}}, `{"Cmd":["cat","/var/logs/dpkg.log"]}`, ""},
		{"a log beside a link", []tartest.Entry{symlink("logs", "/var/log")}, [][]tartest.Entry{{file("var/log/dpkg.log", log)}}, `{"Cmd":["cat","/logs/app.log"]}`, "dpkg.log"},
		{"a log with an attribute", nil, [][]tartest.Entry{{file("var/log/dpkg.log", log).With(func(h *tar.Header) {
			h.Format, h.PAXRecords = tar.FormatPAX, map[string]string{xattrPrefix + "user.a": "1"}
		})}}, "", ""},
		{"a file with the name of a temporary folder", nil, [][]tartest.Entry{{file("tmp/jest_setup", "x")}}, "", ""},
		{"a temporary folder", nil, [][]tartest.Entry{{file("tmp/npm-12-0123abcd/a", "x")}}, "", "a"},
		{"a cache that the command names in the working directory", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"WorkingDir":"/root","Cmd":["sh","-c","cat .cache/pip/http/a; true"]}`, ""},
		{"a cache that the health check reads", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"Healthcheck":{"Test":["CMD-SHELL","test -s /root/.cache/pip/http/a"]}}`, ""},
		{"a cache that an instruction for later takes", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"OnBuild":["RUN cp -r /root/.cache/pip/http /srv"]}`, ""},
		{"a cache that a label names", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"Labels":{"cache":"/root/.cache/pip"}}`, ""},
		{"a cache that the script of the command names", nil, [][]tartest.Entry{{file(pipEntry, pipContent), file("usr/bin/run", "#!/bin/sh\ncat ~/.cache/pip/http/a\n")}}, `{"Entrypoint":["run"]}`, ""},
		{"a cache that a script in the working directory names", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}, {file("srv/run", "#!/bin/sh\ncat /root/.cache/pip/http/a\n")}}, `{"WorkingDir":"/srv","Cmd":["./run"]}`, ""},
		{"a log that a script names in its folder", nil, [][]tartest.Entry{{file("var/log/dpkg.log", log), file("usr/bin/run", "#!/bin/sh\ncd /var/log && cat dpkg.log\n")}}, `{"Entrypoint":["run"]}`, ""},
		{"an index that a script reads", nil, [][]tartest.Entry{{file("var/cache/man/index.db", manIndex), file("usr/bin/run", "#!/bin/sh\nexec apropos x\n")}}, `{"Entrypoint":["run"]}`, ""},
		{"an index that no script reads", nil, [][]tartest.Entry{{file("var/cache/man/index.db", manIndex), file("usr/bin/run", "#!/bin/sh\nexec apropos x\n")}}, `{"Entrypoint":["other"]}`, "index.db"},
		{"a cache that another script names", nil, [][]tartest.Entry{{file(pipEntry, pipContent), file("usr/bin/walk", "#!/bin/sh\ncat ~/.cache/pip/http/a\n")}}, `{"Entrypoint":["run"]}`, pipEntry},
		{"a cache for use without a network", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"Env":["PIP_NO_INDEX=1"]}`, ""},
		{"a cache that was unpacked with its time", nil, [][]tartest.Entry{{file(pipEntry, pipContent).With(at(old))}}, "", ""},
		{"a cache at a volume", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"Volumes":{"/root/.cache/pip":{}}}`, ""},
		{"a cache below a volume", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"Volumes":{"/root":{}}}`, ""},
		{"a log below a volume", nil, [][]tartest.Entry{{file("var/log/dpkg.log", log)}}, `{"Volumes":{"/var/log/":{}}}`, ""},
		{"a cache at a volume that is a link", []tartest.Entry{symlink("data", "/root/.cache/pip")}, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"Volumes":{"/data":{}}}`, ""},
		{"a cache below a link to its folder", []tartest.Entry{symlink("data", "/root/.cache")}, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"Volumes":{"/data/pip":{}}}`, ""},
		{"a cache beside a volume that is a link", []tartest.Entry{symlink("data", "/srv")}, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"Volumes":{"/data":{}}}`, pipEntry},
		{"a cache beside a volume", nil, [][]tartest.Entry{{file(pipEntry, pipContent)}}, `{"Volumes":{"/root/.cache/pi":{}}}`, pipEntry},
		{"uv's folder", nil, [][]tartest.Entry{{file(uv+"/m.py", "code")}}, "", "m.py"},
		{"what a link leads to", nil, [][]tartest.Entry{{file(uv+"/m.py", "code"), symlink("venv/m.py", "/"+uv+"/m.py")}}, "", ""},
		{"what a link to its folder leads to", nil, [][]tartest.Entry{{file(uv+"/m.py", "code"), symlink("venv", "/"+uv)}}, "", ""},
		{"what a relative link leads to", nil, [][]tartest.Entry{{file(uv+"/m.py", "code"), symlink("venv/lib/m.py", "../../"+uv+"/m.py")}}, "", ""},
		{"what a link of a later layer leads to", nil, [][]tartest.Entry{{file(uv+"/m.py", "code")}, {symlink("venv", "/"+uv)}}, "", ""},
		{"what a link of the base leads to", []tartest.Entry{symlink("venv", "/"+uv)}, [][]tartest.Entry{{file(uv+"/m.py", "code")}}, "", ""},
		{"what a hard link shares", nil, [][]tartest.Entry{{file(uv+"/m.py", "code"), hardLink("venv/m.py", uv+"/m.py")}}, "", ""},
		{"a link to a file beside", nil, [][]tartest.Entry{{file(uv+"/m.py", "code"), symlink("venv", "/root/.cache/uv/other")}}, "", "m.py"},
		{"a link to a folder far above", nil, [][]tartest.Entry{{file(uv+"/m.py", "code"), symlink("home/root", "/root")}}, "", "m.py"},
		{"a log that a link leads to", nil, [][]tartest.Entry{{file("var/log/dpkg.log", log), symlink("srv/log", "/var/log/dpkg.log")}}, "", ""},
		{"an empty folder of a cache", nil, [][]tartest.Entry{append(home, folder("root/.cache/pip").With(at(old)))}, "", ""},
		{"an owned folder of a cache", nil, [][]tartest.Entry{append(home, folder("root/.cache/pip").With(owned(7)), folder("root/.cache/pip/http").With(owned(7)))}, "", ""},
	} {
		raw := rawImage{base: [][]byte{tartest.Tar(t, test.base...)}}
		want := []string{}
		for _, l := range test.layers {
			raw.layers = append(raw.layers, tartest.Tar(t, l...))
			for _, e := range l {
				if test.gone == "" || !strings.HasSuffix(e.Name, test.gone) {
					want = append(want, e.Name)
				}
			}
		}
		if test.config != "" {
			var diffIDs, history []string
			for _, l := range append(slices.Clone(raw.base), raw.layers...) {
				diffIDs, history = append(diffIDs, fmt.Sprintf("%q", diffIDOf(t, l))), append(history, `{"created_by":"a"}`)
			}
			raw.config = fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":%s,"history":[%s],"rootfs":{"type":"layers","diff_ids":[%s]}}`,
				test.config, strings.Join(history, ","), strings.Join(diffIDs, ","))
		}
		got, err := layered(t, raw, nil)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		var names []string
		for _, line := range slices.Concat(got...) {
			name, _, _ := strings.Cut(line, " ")
			names = append(names, name)
		}
		for _, name := range want {
			if !slices.Contains(names, name) {
				t.Errorf("%s: %s is gone, of %q", test.name, name, names)
			}
		}
		if len(names) != len(want) {
			t.Errorf("%s: %q, want %q", test.name, names, want)
		}
	}
}

// A large file is known by its beginning, if the rule goes by that.
func TestLargeFiles(t *testing.T) {
	large := string(make([]byte, rules.MaxRead))
	for _, test := range []struct {
		name, content string
		base          []tartest.Entry
		stays         bool
	}{
		{"var/cache/apt/pkgcache.bin", "\xdc\x76\xfe\x98" + large, nil, false},
		{"var/cache/apt/pkgcache.bin", "mine" + large, nil, true},
		{"var/cache/apt/pkgcache.bin", "\xdc\x76\xfe\x98" + large, []tartest.Entry{file("opt/moved", "\xdc\x76\xfe\x98"+large)}, true},
		{"var/log/journal/a/system.journal", "LPKSHHRH" + large, nil, false},
		{"var/log/journal/a/system.journal", "LPKSHHRH" + large, []tartest.Entry{file("var/log/journal/a/system.journal", "LPKSHHRH")}, true},
		{"var/log/dpkg.log", aLog + large, nil, true},
		{"opt/a.jar", "PK" + large, nil, true},
		{"opt/m.pyc", compiledPyc(late.Unix(), large), nil, true},
	} {
		got, err := layered(t, rawImage{base: [][]byte{tartest.Tar(t, test.base...)}, layers: [][]byte{tartest.Tar(t, file(test.name, test.content))}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if stays := len(got[0]) == 1; stays != test.stays {
			t.Errorf("%s, %q…: it stays: %v", test.name, test.content[:8], stays)
		}
	}
}

// Folders with names that a tool made up go with their content, if nothing of it stays and they have the owner
// of the folder around them.
func TestEmptiedFolders(t *testing.T) {
	root := []tartest.Entry{folder("root"), folder("root/.cache"), folder("root/.cache/pip"), folder("root/.cache/pip/http"), folder("root/.cache/pip/http/a")}
	for name, test := range map[string]struct {
		more []tartest.Entry
		want int
	}{
		"with a cache":                 {[]tartest.Entry{file(pipEntry+"/b", pipContent)}, 4},
		"with a file that stays, too":  {[]tartest.Entry{file(pipEntry+"/b", pipContent), file(pipEntry+"/c", "mine")}, 6},
		"with nothing":                 {nil, 5},
		"with an owner of its own":     {[]tartest.Entry{folder(pipEntry + "/b").With(owned(7)), file(pipEntry+"/b/c", pipContent)}, 6},
		"with another folder in it":    {[]tartest.Entry{folder(pipEntry + "/b"), file(pipEntry+"/b/c", pipContent)}, 4},
		"with an empty folder in it":   {[]tartest.Entry{folder(pipEntry + "/b"), file(pipEntry+"/c", pipContent)}, 6},
		"with a mode of its own":       {[]tartest.Entry{folder(pipEntry + "/b").With(moded(0o1777)), file(pipEntry+"/b/c", pipContent)}, 6},
		"with a link that leads there": {[]tartest.Entry{file(pipEntry+"/b", pipContent), symlink("x", "/"+pipEntry)}, 7},
	} {
		got, err := layered(t, rawImage{layers: [][]byte{tartest.Tar(t, append(slices.Clone(root), test.more...)...)}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(got[0]) != test.want {
			t.Errorf("%s: %q, want %d", name, got[0], test.want)
		}
	}
}

func gzippedAt(t testing.TB, when time.Time, content string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.ModTime = when
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// An archive whose digest stands in the image keeps its bytes, wherever and however that is written.
func TestChecksumsHold(t *testing.T) {
	archive, plain := gzippedAt(t, late, "a"), gzippedAt(t, epoch, "a")
	m, s1, s256, s384, s512 := md5.Sum([]byte(archive)), sha1.Sum([]byte(archive)), sha256.Sum256([]byte(archive)), sha512.Sum384([]byte(archive)), sha512.Sum512([]byte(archive))
	s224, b256, b512 := sha256.Sum224([]byte(archive)), blake2b.Sum256([]byte(archive)), blake2b.Sum512([]byte(archive))
	std, raw := base64.StdEncoding.EncodeToString, base64.RawURLEncoding.EncodeToString
	sums := map[string]string{
		"sha256sum":               hex.EncodeToString(s256[:]) + "  a.gz\n",
		"sha256sum -b, at an end": "x *a.gz " + hex.EncodeToString(s256[:]),
		"sha1sum":                 hex.EncodeToString(s1[:]) + "  a.gz\n",
		"md5sums of dpkg":         hex.EncodeToString(m[:]) + "  usr/share/a.gz\n",
		"sha512sum":               hex.EncodeToString(s512[:]) + "  a.gz\n",
		"sha384sum":               hex.EncodeToString(s384[:]) + "  a.gz\n",
		"sha224sum":               hex.EncodeToString(s224[:]) + "  a.gz\n",
		"b2sum":                   hex.EncodeToString(b512[:]) + "  a.gz\n",
		"b2sum -l 256":            hex.EncodeToString(b256[:]) + "  a.gz\n",
		"capitals":                strings.ToUpper(hex.EncodeToString(s256[:])),
		"a digest of OCI":         `{"digest":"sha256:` + hex.EncodeToString(s256[:]) + `"}`,
		"npm's integrity":         `{"integrity":"sha512-` + std(s512[:]) + `"}`,
		"sha1 of npm":             `"sha1-` + std(s1[:]) + `"`,
		"sha256 of a script":      `integrity="sha256-` + std(s256[:]) + `"`,
		"sha384 of a script":      `integrity="sha384-` + std(s384[:]) + `"`,
		"RECORD":                  "a.gz,sha256=" + raw(s256[:]) + ",7\n",
		"pip's hash":              "a==1 --hash=sha256:" + hex.EncodeToString(s256[:]),
		"Content-MD5":             std(m[:]),
		"in a database":           "SQLite\x00\x01\x02" + hex.EncodeToString(s256[:]) + "\x00\x03",
		"in a compressed list":    gzippedAt(t, epoch, "x\n"+hex.EncodeToString(s512[:])+"  a.gz\n"),
		"after a large file":      strings.Repeat("x", 64<<10-30) + " " + hex.EncodeToString(s256[:]),
		"across blocks":           strings.Repeat("\n", 64<<10-20) + hex.EncodeToString(s512[:]) + "\n",
	}
	for name, text := range sums {
		got, err := layered(t, rawImage{layers: [][]byte{tartest.Tar(t, file("a.gz", archive), file("sums", text))}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(got[0], "a.gz "+archive) {
			t.Errorf("%s: the archive changed", name)
		}
	}
	for name, text := range map[string]string{
		"none": "x", "another": strings.Repeat("0", 64), "a part": hex.EncodeToString(s256[:16]), "more": hex.EncodeToString(s256[:]) + "00",
		"of what is unpacked": hex.EncodeToString(md5.New().Sum([]byte("a"))),
	} {
		got, err := layered(t, rawImage{layers: [][]byte{tartest.Tar(t, file("a.gz", archive), file("sums", text))}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if name != "a part" && !slices.Contains(got[0], "a.gz "+plain) {
			t.Errorf("%s: the archive did not change", name)
		}
	}
	// The sum is in the Dockerfile.
	got, err := layered(t, rawImage{layers: [][]byte{tartest.Tar(t, file("a.gz", archive))}}, func(s *Source) { s.Text = "RUN echo " + hex.EncodeToString(s256[:]) + " a.gz | sha256sum -c" })
	if err != nil || !slices.Equal(got[0], []string{"a.gz " + archive}) {
		t.Errorf("the Dockerfile: %v, %v", got, err)
	}
	got, err = layered(t, rawImage{layers: [][]byte{tartest.Tar(t, file("a.gz", archive))}}, func(s *Source) { s.Downloads = []digest.Digest{digest.NewDigestFromBytes(digest.SHA256, s256[:])} })
	if err != nil || !slices.Equal(got[0], []string{"a.gz " + archive}) {
		t.Errorf("a recorded download: %v, %v", got, err)
	}
	// The sum is in a lower layer, a higher one, or one of the base image.
	sum, signature := tartest.Tar(t, file("sums", sums["sha256sum"])), tartest.Tar(t, file("a.gz.asc", "-----BEGIN PGP SIGNATURE-----"))
	archived := tartest.Tar(t, file("a.gz", archive))
	for name, test := range map[string]struct {
		raw rawImage
		at  int
	}{
		"a lower layer":  {rawImage{layers: [][]byte{sum, archived}}, 1},
		"a higher layer": {rawImage{layers: [][]byte{archived, sum}}, 0},
		"the base":       {rawImage{base: [][]byte{sum}, layers: [][]byte{archived}}, 0},

		"a signature in its layer":    {rawImage{layers: [][]byte{tartest.Tar(t, file("a.gz", archive), file("a.gz.sig", "x"))}}, 0},
		"a signature in a lower one":  {rawImage{layers: [][]byte{signature, archived}}, 1},
		"a signature in a higher one": {rawImage{layers: [][]byte{archived, signature}}, 0},
	} {
		got, err := layered(t, test.raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(got[test.at], "a.gz "+archive) {
			t.Errorf("%s: the archive changed", name)
		}
	}
	blob := sha1.Sum([]byte(fmt.Sprintf("blob %d\x00", len(archive)) + archive))
	for name, e := range map[string]tartest.Entry{
		"in a name": file("store/"+hex.EncodeToString(s256[:])+".gz", "x"), "in a folder's name": folder("files-2.1/" + hex.EncodeToString(s1[:])),
		"in a link": symlink("digest", "sha256:"+hex.EncodeToString(s256[:])), "in binary": file("sum", string(s256[:])),
		"in a git index": file("app/.git/index", gitIndex(blob[:])),
		"beside it":      file("a.gz.crc", "1 2"), "in a bundle beside it": file("a.gz.sigstore.json", "{}"), "in a signature of its stem": file("a.sig", "x"),
	} {
		got, err := layered(t, rawImage{layers: [][]byte{tartest.Tar(t, file("a.gz", archive), e)}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(got[0], "a.gz "+archive) {
			t.Errorf("%s: the archive changed", name)
		}
	}
	got, err = layered(t, rawImage{layers: [][]byte{tartest.Tar(t, file("a.gz", archive), file("b.gz.sig", "x"), file("b.sig", "x"), file("x/a.gz.sig", "x"))}}, nil)
	if err != nil || !slices.Contains(got[0], "a.gz "+plain) {
		t.Errorf("the signature of another file: %v, %v", got, err)
	}
	// The base's archive, also moved, keeps its bytes.
	for name, layer := range map[string][]byte{
		"touched": tartest.Tar(t, file("a.gz", archive).With(moded(0o600))), "moved": tartest.Tar(t, file(".wh.a.gz", ""), file("b.gz", archive)),
	} {
		got, err := layered(t, rawImage{base: [][]byte{archived}, layers: [][]byte{layer}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(got[0][len(got[0])-1], archive) {
			t.Errorf("%s: the archive changed", name)
		}
	}
}

// gitIndex returns an index with one file.
func gitIndex(id []byte) string {
	b := append([]byte("DIRC\x00\x00\x00\x02\x00\x00\x00\x01"), make([]byte, 40)...)
	b[12+26], b[12+27] = 0x81, 0xa4 // a regular file
	b = append(append(b, id...), "\x00\x04a.gz\x00\x00\x00\x00\x00\x00"...)
	sum := sha1.Sum(b)
	return string(append(b, sum[:]...))
}

// So does every other file that a rule would drop or change.
func TestSumsHold(t *testing.T) {
	compiled, log := compiledPyc(late.Unix(), "x"), aLog+"a\n"
	for name, content := range map[string]string{"app/__pycache__/m.cpython-311.pyc": compiled, "var/log/dpkg.log": log, pipEntry: pipContent} {
		sum := sha256.Sum256([]byte(content))
		for sums, stays := range map[string]bool{hex.EncodeToString(sum[:]): true, strings.Repeat("0", 64): false} {
			got, err := layered(t, rawImage{layers: [][]byte{tartest.Tar(t, file(name, content), file("sums", sums))}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if slices.Contains(got[0], name+" "+content) != stays {
				t.Errorf("%s: it stays: %v", name, !stays)
			}
		}
	}
	// A list in a cache goes with the cache.
	sum := md5.Sum([]byte("created_at: a\n---\n"))
	index := "root/.bundle/cache/compact_index/a/"
	got, err := layered(t, rawImage{layers: [][]byte{tartest.Tar(t, file(index+"versions", "created_at: a\n---\n"), file(index+"versions.etag", hex.EncodeToString(sum[:])))}}, nil)
	if err != nil || len(got[0]) > 0 {
		t.Errorf("an index and its sum: %q, %v", got, err)
	}
}

// What echo, printf or a here-document wrote stands in the Dockerfile.
func TestQuoted(t *testing.T) {
	entry := hsts + "a.example\t0\t1\t2\t3\n"
	for text, stays := range map[string]bool{
		"RUN printf '" + strings.ReplaceAll(strings.ReplaceAll(entry, "\n", `\n`), "\t", `\t`) + "' > ~/.wget-hsts": true,
		"RUN <<X cat > ~/.wget-hsts\n" + entry + "X":                                                                true,
		"RUN echo '" + strings.TrimSpace(hsts) + "'":                                                                false,
		"RUN wget https://a.example":                                                                                false,
		"":                                                                                                          false,
	} {
		got, err := layered(t, rawImage{layers: [][]byte{tartest.Tar(t, file("root/.wget-hsts", entry))}}, func(s *Source) { s.Texts = map[int]string{0: text} })
		if err != nil {
			t.Fatal(err)
		}
		if (len(got[0]) == 1) != stays {
			t.Errorf("%q: it stays: %v", text, !stays)
		}
	}
	got, err := layered(t, rawImage{layers: [][]byte{tartest.Tar(t, file("root/.wget-hsts", hsts))}}, func(s *Source) { s.Texts = map[int]string{0: hsts} })
	if err != nil || len(got[0]) > 0 {
		t.Errorf("comments alone: %q, %v", got, err)
	}
}

// A script that COPY brought may have written the file.
func TestQuotedByScript(t *testing.T) {
	entry := hsts + "a.example\t0\t1\t2\t3\n"
	for script, stays := range map[string]bool{"cat > ~/.wget-hsts <<X\n" + entry + "X\n": true, "wget https://a.example; cat /var/log/dpkg.log\n": false} {
		raw := rawImage{layers: [][]byte{tartest.Tar(t, file("tmp/setup", script)), tartest.Tar(t, file("tmp/.wh.setup", ""), file("root/.wget-hsts", entry))}}
		got, err := layered(t, raw, func(s *Source) { delete(s.Run, 0) })
		if err != nil {
			t.Fatal(err)
		}
		if (len(got[1]) == 2) != stays {
			t.Errorf("%q: %q", script, got[1])
		}
	}
}

// What the Dockerfile names, and does not remove, stays, and so does what a file that COPY brought names.
func TestMentioned(t *testing.T) {
	for text, stays := range map[string]bool{
		"RUN chmod 600 /var/log/dpkg.log": true, "RUN chmod 600 /var/log/*.log": true, "RUN cd /var/log && chmod 600 dpkg.log": true, "RUN mv /opt/x \\\n  /var/log/dpkg.log": true,
		"RUN chmod 600 /var/log/apt/*.log": false, "RUN chmod -R g+w /var/log": false, "RUN chmod 600 /var/log/*": false, "RUN tail dpkg.log": false,
		"RUN rm -rf /var/lib/apt/lists/* /var/log/dpkg.log": false, "RUN apt-get clean; rm \\\n  -f /var/log/dpkg.log": false, "# /var/log/dpkg.log is large\nRUN true": false, "RUN true \\\n  # not /var/log/dpkg.log\n  && true": false,
		"RUN test -s /var/log/dpkg.log && grep x /var/log/dpkg.log": false, "RUN [ -s /var/log/dpkg.log ]": false, "RUN date > /var/log/dpkg.log": false, "RUN mkdir -p /var/log/dpkg.log": false, "RUN mkdir -m 700 /var/log/dpkg.log": true, "RUN dd if=/x of=/var/log/dpkg.log": true, "RUN python3 -c 'open(\"/var/log/dpkg.log\", \"w\")'": true, "RUN test -s /x && cp /x /var/log/dpkg.log": true,
		"RUN : > /var/log/dpkg.log": false, "RUN truncate -s0 /var/log/*.log": false, "RUN --mount=type=tmpfs,target=/var/log/dpkg.log true": false,
	} {
		got, err := layered(t, rawImage{layers: [][]byte{tartest.Tar(t, file("var/log/dpkg.log", aLog+"a\n"))}}, func(s *Source) { s.Text = text })
		if err != nil {
			t.Fatal(err)
		}
		if (len(got[0]) == 1) != stays {
			t.Errorf("%q: it stays: %v", text, !stays)
		}
	}
	for name, stays := range map[string]bool{"etc/agent.yml": true, "srv/app.py": true} {
		for text, named := range map[string]bool{"path: /var/log/dpkg.log\n": true, "path: /var/log/app.log\n": false, "path: /var/log/\n": false} {
			raw := rawImage{layers: [][]byte{tartest.Tar(t, file(name, text)), tartest.Tar(t, file("var/log/dpkg.log", aLog+"a\n"))}}
			got, err := layered(t, raw, func(s *Source) { delete(s.Run, 0) })
			if err != nil {
				t.Fatal(err)
			}
			if (len(got[1]) == 1) != (stays && named) {
				t.Errorf("%s, %q: %q", name, text, got[1])
			}
		}
	}
	// A file that a RUN made says nothing: packages have lists of logs.
	got, err := layered(t, rawImage{layers: [][]byte{tartest.Tar(t, file("etc/logrotate.d/dpkg", "/var/log/dpkg.log {\n"), file("var/log/dpkg.log", aLog+"a\n"))}}, nil)
	if err != nil || len(got[0]) != 1 {
		t.Errorf("%q, %v", got, err)
	}
}

// A copy of an archive under a name that no rule knows stays equal to it.
func TestRenamedCopies(t *testing.T) {
	archive, plain := gzippedAt(t, late, "a"), gzippedAt(t, epoch, "a")
	for name, test := range map[string]struct{ other, want string }{
		"blob": {archive, archive}, "a.dat": {archive, archive}, "b.gz": {archive, plain}, "c": {gzippedAt(t, late, "b"), plain}, "d": {"a", plain},
	} {
		for _, layers := range [][][]byte{{tartest.Tar(t, file("a.gz", archive), file(name, test.other))}, {tartest.Tar(t, file("a.gz", archive)), tartest.Tar(t, file(name, test.other))}} {
			got, err := layered(t, rawImage{layers: layers}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got[0][0] != "a.gz "+test.want {
				t.Errorf("%s: %q", name, got[0][0])
			}
		}
	}
}

// An archive whose name stands beside a number may have a checksum of any kind, and so may all if the Dockerfile has a word
// of signing.
func TestOtherChecksums(t *testing.T) {
	archive, plain := gzippedAt(t, late, "a"), gzippedAt(t, epoch, "a")
	for text, held := range map[string]bool{
		"3912342123 24 a.gz\n": true, "/w/a.gz 0A1B2C3D\n": true, "crc(a.gz)=1234567\n": true, "12345 1 x/a.gz": true,
		"a.gz\n": false, "3912342123 24 b.gz\n": false, "a.gz 7\n1234\n": false, "3912342123 24 aa.gz\n": false,
	} {
		got, err := layered(t, rawImage{layers: [][]byte{tartest.Tar(t, file("a.gz", archive), file("sums", text))}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if (got[0][0] == "a.gz "+archive) != held || !held && got[0][0] != "a.gz "+plain {
			t.Errorf("%q: %q", text, got[0][0])
		}
	}
	for text, held := range map[string]bool{"RUN openssl dgst -sha256 -sign /k -out /s a.gz": true, "RUN gpg --import k && gzip a": false} {
		for how, change := range map[string]func(*Source){"Dockerfile": func(s *Source) { s.Text = text }, "script": func(s *Source) { delete(s.Run, 1) }} {
			got, err := layered(t, rawImage{layers: [][]byte{tartest.Tar(t, file("a.gz", archive)), tartest.Tar(t, file("s.sh", "#!/bin/sh\n"+text))}}, change)
			if err != nil {
				t.Fatal(err)
			}
			if (got[0][0] == "a.gz "+archive) != held {
				t.Errorf("%s, %q: %q", how, text, got[0][0])
			}
		}
	}
}

// A digest of a large file counts, too.
func TestSumOfLargeFile(t *testing.T) {
	large := pipContent + string(make([]byte, rules.MaxRead))
	sum := sha512.Sum512([]byte(large))
	for text, stays := range map[string]bool{hex.EncodeToString(sum[:]): true, strings.Repeat("0", 128): false} {
		got, err := layered(t, rawImage{layers: [][]byte{tartest.Tar(t, file(pipEntry, large)), tartest.Tar(t, file("sums", text))}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if (len(got[0]) == 1) != stays {
			t.Errorf("it stays: %v", !stays)
		}
	}
}

// A RUN may copy from what it mounts to a path that it names.
func TestMountedFiles(t *testing.T) {
	for text, stays := range map[string]bool{"RUN cp /m/log /var/log/dpkg.log": true, "RUN pip install -r /m/requirements.txt": false} {
		got, err := layered(t, rawImage{layers: [][]byte{tartest.Tar(t, file("var/log/dpkg.log", aLog+"a\n"))}}, func(s *Source) { s.Texts, s.Mounts = map[int]string{0: text}, map[int]bool{0: true} })
		if err != nil {
			t.Fatal(err)
		}
		if (len(got[0]) == 1) != stays {
			t.Errorf("%q: it stays: %v", text, !stays)
		}
	}
}

// Tools make their temporary folders private.
func TestPrivateLeftovers(t *testing.T) {
	for mode, want := range map[int64]int{0o700: 0, 0o755: 2} {
		got, err := layered(t, rawImage{layers: [][]byte{tartest.Tar(t, folder("tmp/pip-install-python38").With(moded(mode)), file("tmp/pip-install-python38/a", "x"))}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(got[0]) != want {
			t.Errorf("%o: %q", mode, got)
		}
	}
}

// A time that a step gave to a file of the layers below is kept, unless it is that of the build.
func TestRedated(t *testing.T) {
	base := tartest.Tar(t, file("etc/a", "a").With(at(old)))
	for when, want := range map[time.Time]int{old.Add(-time.Hour): 1, old: 0, late: 0} {
		got, err := layered(t, rawImage{base: [][]byte{base}, layers: [][]byte{tartest.Tar(t, file("etc/a", "a").With(at(when)))}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(got[0]) != want {
			t.Errorf("%v: %q", when, got)
		}
	}
}

// What the store remembers of a layer with an archive counts only as long as the sum of the archive is in the
// image, or is not.
func TestChecksumComesAndGoes(t *testing.T) {
	s := testStore(t)
	archive := gzippedAt(t, late, "a")
	sum := sha256.Sum256([]byte(archive))
	archived, summed, other := tartest.Tar(t, file("a.gz", archive)), tartest.Tar(t, file("sums", hex.EncodeToString(sum[:]))), tartest.Tar(t, file("x", "y"))
	for _, test := range []struct {
		upper []byte
		want  string
	}{{other, gzippedAt(t, epoch, "a")}, {summed, archive}, {other, gzippedAt(t, epoch, "a")}, {summed, archive}} {
		img, _ := build(t, s, Options{}, rawImage{platform: amd64, layers: [][]byte{archived, test.upper}})
		if got := listed(t, s, img.Manifests[0].Layers[0]); !slices.Equal(got, []string{"a.gz " + test.want}) {
			t.Errorf("got %q", got)
		}
	}
}

// What COPY brings stays byte for byte, with all that it is called.
func TestInputsStay(t *testing.T) {
	when := at(old)
	names := map[string]string{
		"var/log/dpkg.log": aLog + "a\n", "var/log/wtmp": strings.Repeat("\x00", 384), "etc/machine-id": madeUpID, "root/.erlang.cookie": "ABCDEFGHIJKLMNOPQRST",
		pipEntry: pipContent, "a.gz": gzippedAt(t, late, "a"), "m/a.pyc": compiledPyc(late.Unix(), "x"), "etc/shadow": fmt.Sprintf("a:*:%d:0:99999:7:::\n", late.Unix()/86400),
		"root/.cache/uv/archive-v0/0aB_cDeFgHiJkLmNoPqRs/m.py": "code", "tmp/npm-12-0a1b2c3d/a": "x", "var/cache/ldconfig/aux-cache": auxCache,
	}
	var layer []tartest.Entry
	var want []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		layer, want = append(layer, file(name, names[name]).With(when)), append(want, name+" @1000000000 "+names[name])
	}
	got, err := layered(t, rawImage{layers: [][]byte{tartest.Tar(t, layer...)}}, func(s *Source) { s.Run = nil })
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(want, got[0]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for i := range layer {
		layer[i].ModTime = late
	}
	got, err = layered(t, rawImage{layers: [][]byte{tartest.Tar(t, layer...)}}, func(s *Source) {
		s.Copies = map[int][]rules.Copy{0: {{From: "", To: ""}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got[0]) != 5 {
		t.Errorf("of the root of a stage: %q", got[0])
	}
}

// A word that the Dockerfile names was chosen.
func TestChosenWords(t *testing.T) {
	layer := tartest.Tar(t, file("etc/machine-id", madeUpID), file("root/.erlang.cookie", "ABCDEFGHIJKLMNOPQRST"))
	for _, text := range []string{"", "RUN echo " + madeUpID + " > /etc/machine-id; printf 'ABCDEFGHIJKLMNOPQRST' > ~/.erlang.cookie"} {
		got, err := layered(t, rawImage{layers: [][]byte{layer}}, func(s *Source) { s.Text = text })
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"etc/machine-id"}
		if text != "" {
			want = []string{"etc/machine-id " + madeUpID, "root/.erlang.cookie ABCDEFGHIJKLMNOPQRST"}
		}
		if !slices.Equal(got[0], want) {
			t.Errorf("%q: %q", text, got[0])
		}
	}
}

// An account of a step that ran on another day, and came from the builder's cache, has that day.
func TestDaysOfLayers(t *testing.T) {
	const day = 24 * time.Hour
	line := func(name string, when time.Time) string {
		return fmt.Sprintf("%s:*:%d:0:99999:7:::\n", name, when.Unix()/int64(day.Seconds()))
	}
	first, second := late.Add(100*day), late.Add(200*day)
	layers := [][]byte{
		tartest.Tar(t, file("etc/shadow", line("a", first)).With(at(first))),
		tartest.Tar(t, file("etc/shadow", line("a", first)+line("b", second)+line("c", first.Add(50*day))).With(at(second))),
	}
	s := testStore(t)
	want := "etc/shadow " + line("a", epoch) + line("b", epoch) + line("c", first.Add(50*day))
	for n := 1; n <= 2; n++ { // the second time, the store remembers the first layer
		img, _ := build(t, s, Options{}, rawImage{platform: amd64, layers: layers[:n]})
		if got := listed(t, s, img.Manifests[0].Layers[n-1]); n == 2 && !slices.Equal(got, []string{want}) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A whiteout without permissions is the builder's in a layer of RUN. A COPY deletes nothing, so there it is a file.
func TestWhiteoutOfCopy(t *testing.T) {
	base := tartest.Tar(t, folder("etc"), file("etc/passwd", "root"))
	for copied, refused := range map[bool]bool{true: true, false: false} {
		raw := rawImage{platform: amd64, base: [][]byte{base}, layers: [][]byte{tartest.Tar(t, file("etc/.wh.passwd", "").With(moded(0)))}}
		x, in := newExport(t, raw), testIngest(t, testStore(t), IngestOptions{})
		x.send(t, in)
		sources := sourcesOf([]rawImage{raw})
		sources[0].Copied = map[int]bool{1: copied}
		_, err := in.Write(t.Context(), x.root, sources, Options{})
		if errors.As(err, new(*WhiteoutError)) != refused {
			t.Errorf("copied: %v: %v", copied, err)
		}
	}
}

// A file that is called like a whiteout would delete another.
func TestFilesLikeWhiteouts(t *testing.T) {
	base := tartest.Tar(t, folder("etc"), file("etc/passwd", "root"))
	for name, e := range map[string]tartest.Entry{
		"/etc/.wh.passwd": file("etc/.wh.passwd", "x"), "/etc/.wh.group": file("etc/.wh.group", "").With(moded(0o644)), "/etc/.wh..wh..opq": file("etc/.wh..wh..opq", "x"), "/etc/.wh.": file("etc/.wh.", "x"),
	} {
		for _, version := range []int{1, 2} {
			s := testStore(t)
			raw := rawImage{platform: amd64, base: [][]byte{base}, layers: [][]byte{tartest.Tar(t, e)}}
			x := newExport(t, raw)
			in := testIngest(t, s, IngestOptions{})
			x.send(t, in)
			sources := sourcesOf([]rawImage{raw})
			sources[0].File, sources[0].Lines = "Dockerfile", map[int]int{1: 7}
			_, err := in.Write(t.Context(), x.root, sources, Options{Rules: rules.Set{Version: version}})
			in.Close()
			var whiteout *WhiteoutError
			if !errors.As(err, &whiteout) || whiteout.Path != name || whiteout.Line != 7 || !strings.Contains(err.Error(), "Dockerfile:7: ") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestBonds: of what Cargo keeps of units, only what is out of date goes, and what follows from that.
func TestBonds(t *testing.T) {
	unit := func(local string, deps ...string) string {
		return fmt.Sprintf(`{"rustc":1,"deps":[%s],"local":[%s]}`, strings.Join(deps, ","), local)
	}
	dep := func(hash string) string { // 16 digits of hexadecimal, from the lowest byte
		sum, err := hex.DecodeString(hash)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`[2,"a",false,%d]`, binary.LittleEndian.Uint64(sum))
	}
	const script, lib, bin, other = "0000000000000001", "0000000000000002", "00000000000000ff", "ff00000000000003"
	clock := fmt.Sprintf(`{"Precalculated":"%d.000000001s (Cargo.lock)"}`, late.Unix())
	const folder = "app/target/debug/.fingerprint/"
	got := written(t, Options{}, tartest.Tar(t, file("etc/passwd", "root")), tartest.Tar(t,
		// The order of a layer is that of names.
		file(folder+"bin-1/bin-a", bin), file(folder+"bin-1/bin-a.json", unit(`{"CheckDepInfo":{"dep_info":"x"}}`, dep(other), dep(lib))),
		file(folder+"lib-1/dep-lib-a", "\x00"), file(folder+"lib-1/invoked.timestamp", "This file"), file(folder+"lib-1/lib-a", lib), file(folder+"lib-1/lib-a.json", unit("", dep(script))),
		file(folder+"other-1/lib-other", other), file(folder+"other-1/lib-other.json", unit("", dep("0100000000000000"))),
		file(folder+"script-1/run", script), file(folder+"script-1/run.json", unit(clock, dep(lib))), // a circle, which Cargo never writes
	))
	want := []string{
		folder + "lib-1/dep-lib-a \x00", folder + "lib-1/invoked.timestamp This file", folder + "other-1/lib-other " + other,
		folder + "other-1/lib-other.json " + unit("", dep("0100000000000000")),
	}
	if diff := gocmp.Diff([][]string{want}, got); diff != "" {
		t.Error(diff)
	}
}
