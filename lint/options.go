package lint

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/internal/shell"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

var native = regexp.MustCompile(`-m(?:arch|tune|cpu)=native|target-cpu=native|-xHost\b|-qarch=auto`)

func checkNative(p *project, add func(Finding)) {
	for _, i := range p.instructions {
		switch i.cmd.(type) {
		case *instructions.RunCommand, *instructions.EnvCommand, *instructions.ArgCommand:
			if word := native.FindString(uncommented(i.text)); word != "" {
				add(Finding{Line: p.find(i, word), Message: fmt.Sprintf("%s compiles for the CPU of the machine that builds", word)})
			}
		}
	}
}

// uncommented returns the text of an instruction without its comment lines.
func uncommented(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func checkDate(p *project, add func(Finding)) {
	p.commands(func(i *instruction, _ int, c shell.Command) {
		if c.Name() != "date" || slices.ContainsFunc(c.Words[1:], func(w string) bool {
			return strings.HasPrefix(w, "-d") || strings.HasPrefix(w, "--date") || strings.HasPrefix(w, "-r") || strings.HasPrefix(w, "--ref") || strings.HasPrefix(w, "-s") || strings.HasPrefix(w, "--set") || strings.Contains(w, "d@") || strings.HasPrefix(w, "-ud")
		}) {
			return
		}
		switch {
		case c.ToFile:
		case c.Outer >= 0:
			outer := i.commands[c.Outer]
			if slices.Contains([]string{"echo", "printf", "test", "["}, outer.Name()) && !outer.ToFile && !piped(i, c.Outer) {
				return // it is only shown
			}
		case !piped(i, slices.IndexFunc(i.commands, func(o shell.Command) bool { return o.Pipeline == c.Pipeline })):
			return
		}
		add(Finding{Line: p.find(i, "date"), Message: "the time of the build becomes part of the image"})
	})
}

// piped reports whether the output of a command goes to another one.
func piped(i *instruction, n int) bool {
	return n >= 0 && n+1 < len(i.commands) && slices.ContainsFunc(i.commands[n+1:], func(o shell.Command) bool {
		return o.Pipeline == i.commands[n].Pipeline && !o.Wrapped
	})
}

func checkGitDescribe(p *project, add func(Finding)) {
	p.commands(func(i *instruction, _ int, c shell.Command) {
		if c.Name() == "git" && slices.Contains(c.Words, "describe") && slices.ContainsFunc(c.Words, func(w string) bool { return strings.HasPrefix(w, "--dirty") || strings.HasPrefix(w, "--broken") }) {
			add(Finding{Line: p.find(i, "describe"), Message: "git describe --dirty depends on files that the commit does not have, and on tags that a clone may lack"})
		}
	})
}

func checkGoPath(p *project, add func(Finding)) {
	for _, i := range p.instructions {
		for _, c := range i.commands {
			if c.Name() != "go" || len(c.Words) < 2 || !slices.Contains([]string{"build", "install"}, c.Words[1]) || slices.Contains(c.Words, "-trimpath") || strings.Contains(i.env["GOFLAGS"]+strings.Join(c.Env, " "), "-trimpath") {
				continue
			}
			if dir := i.workdir(); dir != "" {
				add(Finding{Line: p.at(i, c), Message: fmt.Sprintf("the binary has the path of its sources in it, and WORKDIR %s depends on an argument", dir), Edit: &Edit{Line: p.at(i, c), Old: "go " + c.Words[1], New: "go " + c.Words[1] + " -trimpath"}})
			}
		}
	}
}

// workdir returns the last WORKDIR before an instruction, as it is written, if a build arg decides it.
func (i *instruction) workdir() string {
	dir := ""
	for _, s := range i.stage.chain() {
		for _, before := range s.instructions {
			if before == i {
				return dir
			}
			if w, ok := before.cmd.(*instructions.WorkdirCommand); ok {
				switch {
				case varies(before, w.Path):
					dir = w.Path
				case strings.HasPrefix(w.Path, "/") || strings.HasPrefix(w.Path, "$"):
					dir = ""
				}
			}
		}
	}
	return dir
}

// varies reports whether text has a variable that a build arg decides.
func varies(i *instruction, text string) bool {
	for name := range i.unset {
		if mentionsVariable(text, name) {
			return true
		}
	}
	return false
}

// flagVariables hold options of compilers.
var flagVariables = []string{
	"CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "FFLAGS", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "GOFLAGS", "MAKEFLAGS", "CGO_CFLAGS", "CGO_CPPFLAGS", "CGO_CXXFLAGS",
	"CGO_LDFLAGS", "CGO_ENABLED", "GOAMD64", "GOARM", "GOGCFLAGS", "GOLDFLAGS", "NODE_ENV", "NODE_OPTIONS", "JAVA_TOOL_OPTIONS", "MAVEN_OPTS", "GRADLE_OPTS", "DEB_BUILD_OPTIONS",
}

func checkFlagsFromArgs(p *project, add func(Finding)) {
	for _, i := range p.instructions {
		switch cmd := i.cmd.(type) {
		case *instructions.ArgCommand:
			for _, a := range cmd.Args {
				if a.Value == nil && slices.Contains(flagVariables, a.Key) && i.stage != nil {
					add(Finding{Line: i.start, Level: Info, Message: fmt.Sprintf("%s comes from outside, and the Dockerfile does not say with which options it compiles", a.Key), Fix: fmt.Sprintf("Give it a default: ARG %s=\"…\".", a.Key)})
				}
			}
		case *instructions.EnvCommand:
			for _, kv := range cmd.Env {
				if slices.Contains(flagVariables, kv.Key) && varies(i, kv.Value) {
					add(Finding{Line: p.find(i, kv.Key), Message: fmt.Sprintf("%s depends on an argument without a default", kv.Key)})
				}
			}
		}
	}
}

// A setting is what a stage says about how something is compiled.
type setting struct {
	stage *stage
	text  string
	line  int
}

func checkFlagsDiffer(p *project, add func(Finding)) {
	behind := p.sources(p.ships)
	variables, sources := map[string]setting{}, map[string]setting{}
	for _, s := range p.stages {
		if !behind[s] {
			continue
		}
		for _, i := range s.instructions {
			if env, ok := i.cmd.(*instructions.EnvCommand); ok {
				for _, kv := range env.Env {
					if !strings.HasSuffix(kv.Key, "FLAGS") || kv.Key == "MAKEFLAGS" {
						continue
					}
					now := setting{s, strings.Trim(kv.Value, `"'`), p.find(i, kv.Key)}
					if before, ok := conflict(variables, kv.Key, now); ok && !slices.Contains(s.chain(), before.stage) {
						add(Finding{Line: now.line, Message: fmt.Sprintf("%s is %q here and %q at line %d: two stages behind one image compile differently", kv.Key, now.text, before.text, before.line)})
					}
				}
			}
			for _, c := range i.commands {
				source, flags := compiles(c)
				if source == "" {
					continue
				}
				now := setting{s, flags, p.at(i, c)}
				if before, ok := conflict(sources, source, now); ok {
					add(Finding{Line: now.line, Message: fmt.Sprintf("%s is compiled with %q here and with %q at line %d: two stages behind one image compile it differently", source, now.text, before.text, before.line)})
				}
			}
		}
	}
}

// conflict returns the first setting of a key, if another stage has another text there.
func conflict(first map[string]setting, key string, now setting) (before setting, ok bool) {
	before, ok = first[key]
	if !ok {
		first[key] = now
	}
	return before, ok && before.stage != now.stage && before.text != now.text
}

var (
	compiler   = regexp.MustCompile(`^(?:.*-)?(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+|rustc)(?:-[\d.]+)?$`)
	sourceFile = regexp.MustCompile(`\.(?:c|cc|cpp|cxx|m|f90|rs)$`)
)

// compiles returns the sources that a command compiles, and its options in one order; "" if it compiles none. Output
// files and libraries are no options.
func compiles(c shell.Command) (sources, flags string) {
	if !compiler.MatchString(c.Name()) {
		return "", ""
	}
	var files, options []string
	for _, w := range c.Words[1:] {
		switch {
		case sourceFile.MatchString(w):
			files = append(files, path.Base(w))
		case len(w) > 2 && strings.ContainsRune("OgmfDCs", rune(w[1])) && w[0] == '-':
			options = append(options, w)
		}
	}
	slices.Sort(options)
	return strings.Join(files, " "), strings.Join(options, " ")
}

func checkProfile(p *project, add func(Finding)) {
	for _, s := range p.stages {
		generates := false
		for _, i := range s.instructions {
			text := uncommented(i.text)
			generates = generates || strings.Contains(text, "-fprofile-generate") || strings.Contains(text, "profile-generate=") || strings.Contains(text, "-fprofile-instr-generate")
			if use := slices.IndexFunc([]string{"-fprofile-use", "profile-use=", "-fprofile-instr-use"}, func(w string) bool { return strings.Contains(text, w) }); generates && use >= 0 {
				add(Finding{Line: p.find(i, []string{"-fprofile-use", "profile-use=", "-fprofile-instr-use"}[use]), Message: "the compiler uses a profile that this build itself measured: no two runs count the same"})
			}
		}
	}
}
