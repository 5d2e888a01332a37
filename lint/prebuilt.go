package lint

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// prebuilts returns the paths that comments above an instruction allow: # kedge: prebuilt=PATH reason.
func prebuilts(n *parser.Node) []string {
	var paths []string
	for _, comment := range n.PrevComment {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(comment), "kedge: prebuilt="); ok {
			name, _, _ := strings.Cut(rest, " ")
			paths = append(paths, strings.Trim(name, "/"))
		}
	}
	return paths
}

// wrapperJars start a build tool of a version that a file beside them names.
var wrapperJars = []string{"gradle-wrapper.jar", "maven-wrapper.jar"}

// suspicious are the endings of names whose files are worth opening. A file without an ending is, too.
var suspicious = regexp.MustCompile(`(?i)\.(so(\.[0-9.]+)?|a|o|node|exe|dll|dylib|wasm|jar|war|ear|class|pyc|pyo|whl|egg|bin|elf|out|ko|deb|rpm|apk|js|mjs|cjs|css)$`)

// scripts are the endings of names of files that a bundler can have written.
var scripts = regexp.MustCompile(`(?i)\.(m?js|cjs|css)$`)

const (
	mostNamed = 3
	// mostUntold is how many files of a folder are opened whose names do not tell what they are. A folder with more has data,
	// and to open 30,000 takes a third of the time of a build in which nothing changed.
	mostUntold = 1000
)

// A prebuilt is a file of the context that a compiler or a bundler made.
type prebuilt struct {
	name, what string
	machine    string // empty if what does not say
	tracked    bool   // git has it, or nothing is known of git
}

func (f prebuilt) String() string {
	text := f.name + " (" + f.what
	if f.machine != "" {
		text += " for " + f.machine
	}
	if !f.tracked {
		text += ", not in git"
	}
	return text + ")"
}

func checkPrebuilt(p *project, add func(Finding)) {
	read := map[string]prebuilt{} // each file once
	_, wanted, _ := strings.Cut(p.Platform, "/")
	wanted, _, _ = strings.Cut(wanted, "/")
	for _, i := range p.instructions {
		switch i.cmd.(type) {
		case *instructions.CopyCommand, *instructions.AddCommand:
		default:
			continue
		}
		c, ok := i.copies()
		if !ok {
			continue
		}
		ships := slices.Contains(p.ships.chain(), i.stage)
		var found []prebuilt
		untold := map[string]int{} // by folder
		for _, name := range p.files {
			if path.Ext(name) != "" && !suspicious.MatchString(path.Base(name)) || !c.takes(name) || isTool(name) || p.allowed(name) || !ships && isFixture(name) {
				continue
			}
			if ext := path.Ext(name); ext == "" || ext == ".bin" {
				if untold[path.Dir(name)]++; untold[path.Dir(name)] > mostUntold {
					continue
				}
			}
			f, known := read[name]
			if !known {
				if f.what, f.machine = p.compiled(name); f.what != "" {
					f.name, f.tracked = name, p.Tracked == nil || p.Tracked[name]
				}
				read[name] = f
			}
			if f.what != "" {
				found = append(found, f)
			}
		}
		if len(found) == 0 {
			continue
		}
		var words []string
		for _, f := range found[:min(len(found), mostNamed)] {
			words = append(words, f.String())
		}
		finding := Finding{Line: i.start, Message: "copies what was compiled outside of this build: " + strings.Join(words, ", ")}
		if n := len(found) - mostNamed; n > 0 {
			finding.Message += fmt.Sprintf(" and %d more", n)
		}
		// A minified script that git has was put there on purpose.
		if !slices.ContainsFunc(found, func(f prebuilt) bool { return f.what != "minified" || !f.tracked }) {
			finding.Level = Info
		}
		for _, made := range []string{"node_modules", "__pycache__"} {
			if !slices.ContainsFunc(found, func(f prebuilt) bool { return !slices.Contains(strings.Split(path.Dir(f.name), "/"), made) }) {
				finding.Fix = fmt.Sprintf("List **/%s in .dockerignore.", made)
			}
		}
		if n := slices.IndexFunc(found, func(f prebuilt) bool { return f.machine != "" && wanted != "" && f.machine != wanted }); n >= 0 {
			finding.Level = Error
			finding.Message += fmt.Sprintf("; %s does not run on %s", found[n].name, p.Platform)
		}
		add(finding)
	}
}

// isTool reports whether a file is a tool that its own package manager or build tool puts into a project.
func isTool(name string) bool {
	if slices.Contains(wrapperJars, path.Base(name)) {
		return true
	}
	// A folder with a thousand scripts of others is one finding for its native code, and none for the rest.
	return scripts.MatchString(name) && slices.ContainsFunc(strings.Split(path.Dir(name), "/"), func(dir string) bool { return dir == "node_modules" || dir == ".yarn" })
}

// isFixture reports whether a file is the input of a test.
func isFixture(name string) bool {
	return slices.ContainsFunc(strings.Split(path.Dir(name), "/"), func(dir string) bool {
		return slices.Contains([]string{"testdata", "test", "tests", "__tests__", "fixtures", "spec"}, dir)
	})
}

// allowed reports whether a comment anywhere allows a file.
func (p *project) allowed(name string) bool {
	for _, i := range p.instructions {
		for _, pattern := range i.prebuilt {
			if ok, err := path.Match(pattern, name); ok && err == nil || name == pattern || strings.HasPrefix(name, pattern+"/") {
				return true
			}
		}
	}
	return false
}

// compiled returns what a file of the context is if a compiler made it, and the architecture that it is for.
func (p *project) compiled(name string) (what, machine string) {
	f, err := p.open(name)
	if err != nil {
		return "", ""
	}
	defer f.Close()
	head, script := make([]byte, 64), scripts.MatchString(name)
	if script {
		head = make([]byte, maxHead)
	}
	n, err := io.ReadFull(f, head)
	if err != nil && n < 8 {
		return "", ""
	}
	switch {
	case script && minified(head[:n]):
		return "minified", ""
	case script:
		return "", ""
	}
	return compiledHead(head[:n], path.Base(name))
}

const (
	maxHead  = 16 << 10 // bytes that are read of a script
	longLine = 5000     // bytes of a line that no one writes by hand
)

// minified reports whether a script begins with a line that a minifier wrote, behind its licence. A long line that is
// mostly one string or the like holds data.
func minified(head []byte) bool {
	for line := range bytes.Lines(head) {
		if len(line) >= longLine {
			code := bytes.Count(line, []byte("{")) + bytes.Count(line, []byte(";"))
			return code >= len(line)/100
		}
	}
	return false
}

// machines are Docker's names of ELF's machines.
var machines = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_386: "386", elf.EM_AARCH64: "arm64", elf.EM_ARM: "arm", elf.EM_PPC64: "ppc64le", elf.EM_S390: "s390x", elf.EM_RISCV: "riscv64", elf.EM_MIPS: "mips",
}

// compiledHead knows a file by its first bytes, which are at least eight, and its name.
func compiledHead(head []byte, base string) (what, machine string) {
	has := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	switch {
	case has("\x7fELF") && len(head) >= 20:
		var order binary.ByteOrder = binary.LittleEndian
		if head[5] == 2 {
			order = binary.BigEndian
		}
		return "ELF", machines[elf.Machine(order.Uint16(head[18:]))]
	case has("MZ") && (strings.HasSuffix(base, ".exe") || strings.HasSuffix(base, ".dll") || bytes.Contains(head, []byte{0xff, 0xff, 0, 0})):
		return "PE", ""
	case has("\xcf\xfa\xed\xfe") || has("\xce\xfa\xed\xfe") || has("\xfe\xed\xfa\xcf"):
		return "Mach-O", ""
	case has("\x00asm"):
		return "WebAssembly", ""
	case has("\xca\xfe\xba\xbe"):
		if strings.HasSuffix(base, ".class") {
			return "Java class", ""
		}
		return "Mach-O", ""
	case has("!<arch>\n") && strings.HasSuffix(base, ".a"):
		return "static library", ""
	case has("!<arch>\n") && strings.HasSuffix(base, ".deb"):
		return "Debian package", ""
	case has("PK\x03\x04"):
		switch path.Ext(base) {
		case ".jar", ".war", ".ear":
			return "Java archive", ""
		case ".whl", ".egg":
			return "Python wheel", ""
		}
	case len(head) >= 16 && head[2] == '\r' && head[3] == '\n' && (strings.HasSuffix(base, ".pyc") || strings.HasSuffix(base, ".pyo")):
		return "Python bytecode", ""
	}
	return "", ""
}
