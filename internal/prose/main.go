// Command prose finds turns of phrase in comments and documentation that readers stumble over, and
// names each as FILE:LINE. Run it at the root of the repository, as `make lint` does:
//
//	prose [FILE...]
//
// Without arguments it reads every file that git tracks or would track. It looks at comments in Go
// files, at lines of Markdown outside of code blocks, and at comment lines of shell scripts, Makefiles
// and testscripts. A line that contains "prose:allow" is skipped.
//
// It exits with 1 if it finds anything.
package main

import (
	"bytes"
	"fmt"
	"go/scanner"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// A turn is a phrase to avoid.
type turn struct {
	pattern *regexp.Regexp
	instead string
}

// turns are matched against one line at a time.
var turns = []turn{
	{regexp.MustCompile(`(?i)\banew\b`), "again, or drop it"},
	{regexp.MustCompile(`(?i)\b(some|no)body\b`), "someone, no one, or name the reader"},
	{regexp.MustCompile(`(?i)\bin (the )?place of\b`), "instead of, or replaces"},
	{regexp.MustCompile(`(?i)\bof which\b`), "start a new sentence, or whose"},
	{regexp.MustCompile(`(?i)\b(is|are|was|were) to be\b`), "must, should, or will"},
	{regexp.MustCompile(`(?i)\bleaves? out to\b`), "skips, or does not"},
	{regexp.MustCompile(`(?i)\b(of|from|with|than|gives|keeps|reads|takes|has) what (is|was|were|has|have)\b`), "a noun"},
	{regexp.MustCompile(`(?i)\bwhat is (whole|there|below|above|behind|left|asked|wanted|said|known)\b`), "a noun"},
	{regexp.MustCompile(`(^|[.:;!?] +|// )Where (it|there|the|an?|no|nothing|none|one|that|this|kedge|BuildKit|any|both|two|several|more)\b`), "if or when"},
	{regexp.MustCompile(`\b(and|but|also|only|or|except|unless|error|nil|empty|those|that) where (it|there|the|an?|no|nothing|none|one|that|this)\b`), "if or when"},
	{regexp.MustCompile(`, where (it|there) (is|are|was|were)\b`), "if or when"},
	{regexp.MustCompile(`(?i)\bas (docker|buildx|BuildKit|it|they) has it\b`), "like docker"},
}

// allowance on a line skips it.
const allowance = "prose:allow"

// A finding is a phrase to replace.
type finding struct {
	file    string
	line    int // from 1
	phrase  string
	instead string
}

func (f finding) String() string {
	return fmt.Sprintf("%s:%d: %q: write %s", f.file, f.line, f.phrase, f.instead)
}

func main() {
	n, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "prose:", err)
	}
	if err != nil || n > 0 {
		os.Exit(1)
	}
}

// run writes the findings in files to w and returns how many there are.
func run(files []string, w io.Writer) (int, error) {
	if len(files) == 0 {
		out, err := exec.Command("git", "ls-files", "-co", "--exclude-standard", "-z").Output()
		if err != nil {
			return 0, fmt.Errorf("listing files: %w", err)
		}
		files = strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 })
	}
	total := 0
	for _, file := range files {
		if strings.HasPrefix(file, "internal/prose/") { // it quotes the phrases
			continue
		}
		data, err := os.ReadFile(file)
		if os.IsNotExist(err) { // deleted, and not yet committed
			continue
		}
		if err != nil {
			return total, err
		}
		for _, f := range find(file, data) {
			total++
			fmt.Fprintln(w, f)
		}
	}
	return total, nil
}

// find returns the findings in one file, in the order of its lines.
func find(file string, data []byte) []finding {
	var found []finding
	check := func(line int, text string) {
		if strings.Contains(text, allowance) {
			return
		}
		for _, t := range turns {
			if phrase := t.pattern.FindString(text); phrase != "" {
				found = append(found, finding{file, line, strings.TrimSpace(phrase), t.instead})
				return // one a line
			}
		}
	}
	switch ext := filepath.Ext(file); {
	case ext == ".go":
		for line, text := range comments(file, data) {
			check(line, text)
		}
	case ext == ".md":
		fenced := false
		for i, text := range strings.Split(string(data), "\n") {
			if strings.HasPrefix(strings.TrimSpace(text), "```") {
				fenced = !fenced
			}
			if !fenced && !strings.HasPrefix(text, "    ") {
				check(i+1, text)
			}
		}
	case ext == ".txtar", ext == ".sh", ext == ".yml", filepath.Base(file) == "Makefile", bytes.HasPrefix(data, []byte("#!")):
		for i, text := range strings.Split(string(data), "\n") {
			if strings.HasPrefix(strings.TrimSpace(text), "#") {
				check(i+1, text)
			}
		}
	}
	return found
}

// comments yields the lines of the comments of a Go file. Text that does not scan is passed over.
func comments(file string, data []byte) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		set := token.NewFileSet()
		f := set.AddFile(file, -1, len(data))
		var s scanner.Scanner
		s.Init(f, data, func(token.Position, string) {}, scanner.ScanComments)
		for {
			pos, tok, lit := s.Scan()
			if tok == token.EOF {
				return
			}
			if tok != token.COMMENT {
				continue
			}
			first := set.Position(pos).Line
			for i, text := range strings.Split(lit, "\n") {
				if !yield(first+i, text) {
					return
				}
			}
		}
	}
}
