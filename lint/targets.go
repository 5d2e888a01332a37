package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/internal/shell"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// tests are commands that run tests: a program and the words that follow it.
var tests = [][]string{
	{"go", "test"}, {"npm", "test"}, {"npm", "t"}, {"npm", "run", "test"}, {"yarn", "test"}, {"yarn", "run", "test"}, {"pnpm", "test"}, {"pnpm", "run", "test"},
	{"bun", "test"}, {"jest"}, {"vitest"}, {"mocha"}, {"npx", "jest"}, {"npx", "vitest"}, {"npx", "mocha"}, {"pytest"}, {"tox"}, {"nox"}, {"cargo", "test"},
	{"cargo", "nextest"}, {"mvn", "test"}, {"mvn", "verify"}, {"gradle", "test"}, {"gradle", "check"}, {"make", "test"}, {"make", "check"}, {"ctest"},
	{"rspec"}, {"bundle", "exec", "rspec"}, {"rake", "test"}, {"phpunit"}, {"dotnet", "test"}, {"mix", "test"}, {"ninja", "test"}, {"meson", "test"},
}

// runsTests reports whether a command runs tests.
func runsTests(c shell.Command) bool {
	words := slices.Clone(c.Words)
	if len(words) == 0 {
		return false
	}
	words[0] = strings.TrimPrefix(c.Name(), "./")
	if strings.HasSuffix(words[0], "w") && (words[0] == "mvnw" || words[0] == "gradlew") {
		words[0] = map[string]string{"mvnw": "mvn", "gradlew": "gradle"}[words[0]]
	}
	if strings.HasPrefix(words[0], "python") && len(words) > 2 && words[1] == "-m" {
		words = words[2:]
	}
	words = slices.DeleteFunc(words, func(w string) bool { return strings.HasPrefix(w, "-") })
	return slices.ContainsFunc(tests, func(t []string) bool {
		return len(words) >= len(t) && slices.Equal(words[:len(t)], t)
	})
}

func checkTests(p *project, add func(Finding)) {
	behind, content := p.sources(p.ships), p.ships
	for content.parent != nil && !content.changes() { // the last stage can be no more than a name for another
		content = content.parent
	}
	for _, s := range p.stages {
		if behind[s] || p.sources(s)[content] {
			continue
		}
		level := Warning
		for _, from := range s.chain() {
			if behind[from] { // both come from one build: what it made is tested, the image around it is not
				level = Info
			}
		}
		for _, i := range s.instructions {
			if n := slices.IndexFunc(i.commands, runsTests); n >= 0 {
				add(Finding{Line: p.at(i, i.commands[n]), Level: level, Message: fmt.Sprintf("these tests run in a stage that %s does not come from: what ships is not the image that was tested", p.ships.words())})
			}
		}
	}
}

// changes reports whether a stage has files that its base does not have.
func (s *stage) changes() bool {
	return slices.ContainsFunc(s.instructions, func(i *instruction) bool {
		switch i.cmd.(type) {
		case *instructions.RunCommand, *instructions.CopyCommand, *instructions.AddCommand:
			return true
		}
		return false
	})
}

// words names a stage in messages.
func (s *stage) words() string {
	if s.name != "" {
		return fmt.Sprintf("stage %q", s.name)
	}
	return fmt.Sprintf("the stage at line %d", s.line)
}
