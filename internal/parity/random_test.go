package parity

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Names of files in a random context. The ones after the first six need care somewhere: in patterns, in shells, in tar
// or in JSON.
var randomNames = []string{
	"a", "b.txt", "c.log", "lib", "src", ".hidden",
	"with space", "ünï", "-dash", "x[1]", "st*r", "q?", "h#sh", "do$lar", `back\slash`, `quo"te`, "it's", "A", "%41", "é", "!not", "a.b.c",
}

// A random makes a random case. Its draws decide everything.
type random struct {
	*rand.Rand
	files  map[string]string
	modes  map[string]fs.FileMode
	paths  []string // the files and folders of the context
	lines  []string // of the Dockerfile
	stages []string // the names of the stages that exist
	made   []string // paths that the current stage may have
	shell  bool     // the current stage has a shell
	// Portable contexts have only what git can record.
	portable bool
}

// randomCase returns the case of a seed. Portable cases have contexts that are the same in a git repository.
func randomCase(seed uint64) (c Case, portable bool) {
	g := &random{Rand: rand.New(rand.NewPCG(seed, 0)), files: map[string]string{}, modes: map[string]fs.FileMode{}}
	g.portable = g.IntN(3) == 0
	g.context()
	var args []string
	if g.IntN(2) == 0 {
		args = append(args, "--build-arg", "GIVEN="+g.pick("1", "two words", "", "$X", `"q"`))
	}
	if g.IntN(4) == 0 {
		args = append(args, "--build-arg", "OTHER")
	}
	g.dockerfile()
	if g.IntN(6) == 0 && len(g.stages) > 0 {
		args = append(args, "--output=out", "--target", g.pick(append(g.stages, "0", "nowhere")...))
	}
	g.files["Dockerfile"] = strings.Join(g.lines, "\n") + "\n"
	if g.IntN(8) == 0 {
		g.files["Dockerfile"] = strings.ReplaceAll(g.files["Dockerfile"], "\n", "\r\n")
	}
	return Case{
		Name: fmt.Sprint("seed ", seed), Files: g.files, Args: append(args, "."), Env: []string{"OTHER=from the environment"},
		Each: func(t *testing.T, _ *world, _, dir string, n int) {
			if n > 0 {
				return
			}
			for _, name := range slices.Backward(slices.Sorted(maps.Keys(g.modes))) { // what is in a folder comes first
				if err := os.Chmod(filepath.Join(dir, name), g.modes[name]); err != nil {
					t.Error(err)
				}
			}
		},
	}, g.portable
}

func (g *random) pick(from ...string) string { return from[g.IntN(len(from))] }

// chance is true once in n draws.
func (g *random) chance(n int) bool { return g.IntN(n) == 0 }

func (g *random) addf(format string, args ...any) {
	g.lines = append(g.lines, fmt.Sprintf(format, args...))
}

// context adds files, folders and links to the context, and perhaps a .dockerignore.
func (g *random) context() {
	folders := []string{""}
	for range 3 + g.IntN(8) {
		name := g.pick(folders...) + randomNames[g.IntN(len(randomNames))]
		if slices.Contains(g.paths, name) {
			continue
		}
		g.paths = append(g.paths, name)
		switch kind := g.IntN(8); {
		case kind < 3:
			folders = append(folders, name+"/")
			if g.portable {
				g.files[name+"/inside"] = "inside\n"
				g.paths = append(g.paths, name+"/inside")
			} else {
				g.files[name+"/"] = ""
			}
		case kind == 3:
			g.files[name] = "-> " + g.pick("a", "b.txt", "nowhere", ".", "..", "../../etc", "/etc", "lib")
		case kind == 4:
			g.files[name] = "#!/usr/bin/sh\necho run\n"
		default:
			g.files[name] = strings.Repeat(name+"\n", g.IntN(4))
		}
		if !g.portable && !strings.HasPrefix(g.files[name], "-> ") && g.chance(3) {
			mode := name
			if _, folder := g.files[name+"/"]; folder {
				mode = name + "/"
			}
			g.modes[mode] = []fs.FileMode{0o600, 0o755, 0o444, 0o700, 0o755 | fs.ModeSetuid, 0o775 | fs.ModeSetgid, 0o777 | fs.ModeSticky}[g.IntN(7)]
		}
	}
	if g.chance(3) {
		var ignore []string
		for range 1 + g.IntN(4) {
			ignore = append(ignore, g.pick("*.log", "**/*.txt", "lib", "!lib/a", "src/*", "!*", "# remark", "/a", "a/", "**", "!src", "x[1]", "?", ".*", " c.log ", g.pick(g.paths...)))
		}
		g.files[".dockerignore"] = strings.Join(ignore, "\n")
	}
}

// dockerfile adds the lines of a Dockerfile.
func (g *random) dockerfile() {
	if g.chance(10) {
		g.addf("# escape=`")
	}
	for range g.IntN(3) {
		g.addf("%s", g.pick("ARG BASE=shell", "ARG GIVEN", "ARG GIVEN=default", "ARG OTHER", "ARG BASE=${UNSET:-tiny}", "ARG TARGETARCH"))
	}
	for n := range 1 + g.IntN(3) {
		g.stage(n)
	}
}

func (g *random) stage(n int) {
	base := g.pick("shell", "shell", "shell", "tiny", "scratch", "${BASE:-shell}", "configured")
	if len(g.stages) > 0 && g.chance(3) {
		base = g.pick(g.stages...)
	}
	g.shell = base != "tiny" && base != "scratch"
	g.made = []string{"/etc", "/usr/bin", "/made"}
	from := "FROM " + base
	if g.chance(8) {
		from = "FROM --platform=$BUILDPLATFORM " + base
	}
	if g.chance(2) || n == 0 {
		name := g.pick("one", "two", "three", "Four", "a-b")
		from += " " + g.pick("AS", "as") + " " + name
		g.stages = append(g.stages, name)
	} else {
		g.stages = append(g.stages, fmt.Sprint(n))
	}
	g.lines = append(g.lines, from)
	if base == "configured" {
		g.addf("USER root")
	}
	for range 1 + g.IntN(7) {
		switch draw := g.IntN(20); {
		case draw < 7:
			g.copied()
		case draw < 9:
			g.added()
		case draw < 14 && g.shell:
			g.ran()
		default:
			g.configured()
		}
	}
}

// path returns a path for the image.
func (g *random) path() string {
	p := g.pick("/d", "/d/", "/d/e/", "/made", "/made/", "rel", "./rel/", ".", "/", "/etc/", "/deep/er/x", "/ünï/", "/usr/bin/")
	g.made = append(g.made, "/"+strings.Trim(p, "./"))
	return p
}

// source returns a source for COPY: a path of the context or a pattern.
func (g *random) source() string {
	switch g.IntN(8) {
	case 0:
		return "."
	case 1:
		return g.pick("*", "?", "*.txt", "[a-c]*", "l*/", "./a", "/a", "../a", "**", "nowhere", "lib/../a")
	default:
		return g.pick(g.paths...)
	}
}

// operands returns the sources and the destination of COPY or ADD. Names that need it are in the JSON form.
func (g *random) operands(sources ...string) string {
	dest := g.path()
	if len(sources) > 1 && !strings.HasSuffix(dest, "/") && g.chance(8) == false {
		dest += "/"
	}
	all := append(sources, dest)
	if slices.ContainsFunc(all, func(s string) bool { return strings.ContainsAny(s, " \"'\\$") }) || g.chance(4) {
		text, err := json.Marshal(all)
		if err != nil {
			panic(err) // cannot happen: they are strings
		}
		return string(text)
	}
	return strings.Join(all, " ")
}

func (g *random) copied() {
	flags := ""
	for _, flag := range []string{
		"--chown=" + g.pick("1000:33", "www-data", "33:www-data", "0", "7:nogroup", "nobody:0", "$GIVEN:1"),
		"--chmod=" + g.pick("0640", "755", "u=rwX,go=rX", "a+x", "4755", "go-w", "1777"),
		"--link", "--parents",
		"--exclude=" + g.pick("*.txt", "**/inside", "a", "lib/*"),
	} {
		if g.chance(5) {
			flags += flag + " "
		}
	}
	if g.chance(6) {
		g.addf("COPY %s<<%s %s\nline with $GIVEN and \\$PATH\nEOF", flags, g.pick("EOF", `"EOF"`, "-EOF"), g.path())
		return
	}
	if len(g.stages) > 1 && g.chance(3) {
		from := g.pick(append(g.stages[:len(g.stages)-1:len(g.stages)-1], "tiny", "shell", "0")...)
		g.addf("COPY --from=%s %s%s", from, flags, g.operands(g.pick("/made", "/d", "/etc/passwd", "/etc", "/usr/bin/c*", "/rel", "d/", "/deep", "/")))
		return
	}
	sources := []string{g.source()}
	if g.chance(4) {
		sources = append(sources, g.source())
	}
	g.addf("COPY %s%s", flags, g.operands(sources...))
}

func (g *random) added() {
	flags := ""
	if g.chance(4) {
		flags = g.pick("--chown=33:33 ", "--chmod=0600 ", "--link ", "--unpack=false ", "--unpack=true ", "--exclude=sub ")
	}
	switch g.IntN(4) {
	case 0:
		g.addf("ADD %s%s", flags, g.operands("$FILES/file"))
	case 1:
		g.files["archive.tar"] = tarOf(served)
		g.addf("ADD %s%s", flags, g.operands("archive.tar"))
	case 2:
		g.addf("ADD %s%s", flags, g.operands("$GIT#"+g.pick("v1", "next", "v1:sub")))
	default:
		g.addf("ADD %s%s", flags, g.operands(g.source()))
	}
}

// ran adds a RUN whose result does not depend on the time or on the machine.
func (g *random) ran() {
	p, other := g.pick(g.made...), g.pick(g.made...)
	command := g.pick(
		fmt.Sprintf("mkdir -p /made/new && echo $GIVEN > /made/f && chmod %s /made/f", g.pick("600", "4755", "1777", "000")),
		fmt.Sprintf("rm -rf %s", p),
		fmt.Sprintf("rm -rf %s && mkdir -p %s && echo again > %s/again", p, p, p),
		fmt.Sprintf("[ -d /made ] || mkdir /made; echo x >> /made/g; ln -f /made/g /made/hard; ln -sfn %s /made/soft", other),
		// Whether a chown of one name breaks a hard link of a layer below depends on the snapshotter.
		fmt.Sprintf("rm -f /made/hard; chown -R %s /made 2>/dev/null || mkdir /made", g.pick("33:33", "1000", "nobody:nogroup")),
		"mkdir -p /made && { [ -e /made/pipe ] || mkfifo /made/pipe; }",
		"mkdir -p /made && touch -d 2001-02-03 /made/old && mv /made/old '/made/re named'",
		"cat /etc/passwd > /made-passwd && : > /empty",
		fmt.Sprintf("cp -a %s /copied-$$ 2>/dev/null; mv /copied-$$ /copied 2>/dev/null; rm -rf /copied-$$", p),
		"id -u > /who 2>/dev/null; pwd > /where || true",
		"exit 3",
		fmt.Sprintf("ls %s | sort > /listed || true", p),
	)
	mount := ""
	if g.chance(4) {
		mount = g.pick(
			"--mount=type=bind,target=/src ", "--mount=type=bind,target=/mnt,rw ", "--mount=type=tmpfs,target=/tmpfs ",
			"--mount=type=bind,from=tiny,target=/tiny ", "--mount=type=bind,source=a,target=/one-file ", "--mount=type=secret,id=none,target=/none ",
			"--mount=type=cache,target=/cache,id=random ",
		)
	}
	switch g.IntN(6) {
	case 0:
		g.addf("RUN %s<<EOF\nset -e\n%s\nEOF", mount, command)
	case 1:
		text, err := json.Marshal([]string{"sh", "-c", command})
		if err != nil {
			panic(err) // cannot happen: they are strings
		}
		g.addf("RUN %s%s", mount, text)
	default:
		g.addf("RUN %s%s", mount, command)
	}
}

// configured adds an instruction that changes the configuration or the variables.
func (g *random) configured() {
	g.addf("%s", g.pick(
		"ENV A=1 B=\"two words\"", "ENV GIVEN=$GIVEN-more", "ENV C ${A:+set} and $$", "ENV PATH=/made:$PATH",
		"ARG GIVEN", "ARG GIVEN=inner", "ARG OTHER", "ARG TARGETARCH TARGETPLATFORM", "ARG LATE=${GIVEN:-none}",
		"LABEL one=$GIVEN two=\"a b\"", "LABEL \"odd key\"=x multi=\"line\\\n  more\"", "LABEL late=${LATE%e}",
		"WORKDIR /work", "WORKDIR rel", "WORKDIR /made/$GIVEN", "USER 33", "USER 1000:33", "USER root", "USER www-data",
		"EXPOSE 80 443/udp", "EXPOSE 9000-9002", "VOLUME /data", "VOLUME [\"/v 1\", \"/v2\"]", "STOPSIGNAL 9",
		"CMD echo $A", "CMD [\"a\", \"b\"]", "ENTRYPOINT [\"/x\"]", "ENTRYPOINT exec x", "SHELL [\"sh\", \"-c\"]",
		"ONBUILD COPY . /on", "ONBUILD LABEL on=build", "HEALTHCHECK NONE", "HEALTHCHECK --interval=3s CMD true",
		"MAINTAINER me", "# a remark", "",
	))
}
