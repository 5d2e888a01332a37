package lint

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// volatileArg matches names of ARGs whose value is another with every commit, run or machine.
var volatileArg = regexp.MustCompile(`^(BUILD_?(DATE|TIME|TIMESTAMP|NUMBER|NUM|ID|HOST|USER|URL)|BUILT_(AT|ON)|(VCS|GIT|SOURCE)_?(REF|REV|REVISION|COMMIT|SHA|SHA1|HASH|DATE|DIRTY)(_SHORT)?|COMMIT(_?(SHA|HASH|ID|DATE|REF))?|REVISION|CREATED|TIMESTAMP|HOSTNAME|CI_\w+|GITHUB_(SHA|RUN_\w+)|CACHE_?BUST(ER)?|CACHEBUST)$`)

func checkVolatileArgs(p *project, add func(Finding)) {
	for _, s := range p.stages {
		declared := map[string]int{}
		for _, i := range s.instructions {
			if arg, ok := i.cmd.(*instructions.ArgCommand); ok {
				for _, a := range arg.Args {
					if volatileArg.MatchString(strings.ToUpper(a.Key)) {
						declared[a.Key] = i.start
					}
				}
				continue
			}
			use := ""
			switch i.cmd.(type) {
			case *instructions.LabelCommand:
				use = "a label"
			case *instructions.EnvCommand:
				use = "the environment of the image"
			case *instructions.RunCommand:
				use = "a layer"
			}
			for name := range declared {
				if use != "" && mentionsVariable(i.text, name) {
					add(Finding{Line: i.start, Message: fmt.Sprintf("%s reaches %s: every value gives another image", name, use)})
				}
			}
		}
	}
}

// mentionsVariable reports whether text has $name or ${name.
func mentionsVariable(text, name string) bool {
	for _, form := range []string{"$" + name, "${" + name} {
		for rest := text; ; {
			_, after, ok := strings.Cut(rest, form)
			if !ok {
				break
			}
			if after == "" || !isNameByte(after[0]) {
				return true
			}
			rest = after
		}
	}
	return false
}

func isNameByte(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

func checkBaseArgs(p *project, add func(Finding)) {
	open := map[string]bool{}
	automatic := []string{"TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT", "TARGETSTAGE", "BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT"}
	for _, i := range p.instructions {
		if i.stage != nil {
			break
		}
		if arg, ok := i.cmd.(*instructions.ArgCommand); ok {
			for _, a := range arg.Args {
				if _, given := p.Args[a.Key]; a.Value == nil && !given && !slices.Contains(automatic, a.Key) {
					open[a.Key] = true
				}
			}
		}
	}
	for _, s := range p.stages {
		for name := range open {
			if !mentionsVariable(s.written, name) {
				continue
			}
			// ${NAME:-x} and ${NAME:+x} say what holds without the argument.
			if text := s.written; strings.Contains(text, "${"+name) && !strings.Contains(text, "${"+name+"}") && !strings.Contains(text, "$"+name) {
				continue
			}
			add(Finding{Line: s.line, Message: fmt.Sprintf("the base depends on %s, which has no default", name), Fix: fmt.Sprintf("Give it one: ARG %s=VALUE.", name)})
		}
	}
}
