package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/urfave/cli/v2"
)

var update = flag.Bool("update", false, "write man/")

// everyVerb calls f for kedge itself and every verb that is not hidden.
func everyVerb(f func(path []string, c *cli.Command)) {
	var walk func(path []string, c *cli.Command)
	walk = func(path []string, c *cli.Command) {
		f(path, c)
		for _, sub := range c.Subcommands {
			if !sub.Hidden {
				walk(append(slices.Clone(path), sub.Name), sub)
			}
		}
	}
	walk([]string{"kedge"}, rootOf((&process{env: map[string]string{}}).app()))
}

// Every flag has a text that fits into help, and every verb is listed.
func TestHelp(t *testing.T) {
	everyVerb(func(path []string, c *cli.Command) {
		name := strings.Join(path, " ")
		if len(c.Subcommands) == 0 {
			for _, problem := range problems(c) {
				t.Errorf("%s: %s", name, problem)
			}
		}
		if p := newPage(path, c); len(path) == 1 {
			var listed []string
			for _, g := range p.groups {
				for _, verb := range g.verbs {
					listed = append(listed, verb.Name)
				}
			}
			for _, verb := range c.Subcommands {
				if !verb.Hidden && !slices.Contains(listed, verb.Name) {
					t.Errorf("%s is in no group: see verbGroups", verb.Name)
				}
			}
		}
		var help bytes.Buffer
		if err := newPage(path, c).write(&help); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(help.String()) {
			if len(line) > helpWidth+1 {
				t.Errorf("%s: this line is longer than %d: %s", name, helpWidth, line)
			}
		}
	})
}

// problems returns what is wrong with the texts of a verb and its flags.
func problems(c *cli.Command) []string {
	var found []string
	bad := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if c.Usage == "" || len(c.Usage) > 75 || strings.HasSuffix(c.Usage, ".") {
		bad("%q is no text of at most 75 letters without a full stop", c.Usage)
	}
	seen := map[string]bool{}
	for _, f := range c.Flags {
		o := optionOf(f)
		for _, name := range append([]string{o.name, o.short}, o.others...) {
			if seen[name] && name != "" {
				bad("--%s: there are two", name)
			}
			seen[name] = true
		}
		if o.name == "" {
			bad("%v has no long name", f.Names())
		}
		if o.hidden {
			continue
		}
		if o.usage == "" || len(o.usage) > 110 || strings.ContainsAny(o.usage, "\n\t") || strings.HasSuffix(o.usage, ".") {
			bad("--%s: %q is no text of one line of at most 110 letters without a full stop", o.name, o.usage)
		}
		if len(o.left()) > 40 {
			bad("--%s %s is longer than 40 letters", o.name, o.kind)
		}
	}
	return found
}

func TestHelpProblems(t *testing.T) {
	verb := func(flags ...cli.Flag) *cli.Command { return &cli.Command{Name: "x", Usage: "do it", Flags: flags} }
	for want, c := range map[string]*cli.Command{
		"":               verb(&cli.BoolFlag{Name: "fine", Usage: "is fine"}, &cli.BoolFlag{Name: "legacy", Hidden: true}),
		"no text":        verb(&cli.BoolFlag{Name: "silent"}),
		"full stop":      verb(&cli.BoolFlag{Name: "stop", Usage: "a sentence."}),
		"at most":        verb(&cli.StringFlag{Name: "long", Usage: strings.Repeat("a ", 60)}),
		"there are two":  verb(&cli.BoolFlag{Name: "a1", Usage: "a"}, &cli.StringFlag{Name: "b1", Aliases: []string{"a1"}, Usage: "b"}),
		"no long name":   verb(&cli.BoolFlag{Name: "a", Usage: "a"}),
		"40 letters":     verb(&cli.StringSliceFlag{Name: strings.Repeat("long", 10), Usage: "a"}),
		"of at most 75 ": {Name: "x"},
	} {
		if got := strings.Join(problems(c), "\n"); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%q: %s", want, got)
		}
	}
}

// The layout is that of docker's help.
func TestHelpLayout(t *testing.T) {
	c := &cli.Command{Name: "build", Usage: "build it", ArgsUsage: "PATH", Flags: []cli.Flag{
		&cli.BoolFlag{Name: "verify", Usage: "build twice"},
		&cli.StringSliceFlag{Name: "tag", Aliases: []string{"t"}, Usage: "a `NAME`"},
		&cli.StringFlag{Name: "progress", Value: "auto", Usage: strings.Repeat("words ", 12), EnvVars: []string{"P"}},
		&cli.BoolFlag{Name: "rm", Hidden: true},
	}}
	var got bytes.Buffer
	if err := newPage([]string{"kedge", "build"}, c).write(&got); err != nil {
		t.Fatal(err)
	}
	want := `Usage:  kedge build [OPTIONS] PATH

build it

Options:
      --progress string   words words words words words words words words words words words words
                          (default "auto") [$P]
  -t, --tag stringArray   a NAME

Options of kedge's own:
      --verify            build twice
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Error(diff)
	}
}

// roff renders the help of a verb and of the verbs below it as a man page.
func roff(path []string, c *cli.Command) string {
	var b strings.Builder
	word := strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`).Replace
	text := func(s string) string {
		if s = word(s); strings.HasPrefix(s, ".") {
			s = `\&` + s
		}
		return s + "\n"
	}
	p := newPage(path, c)
	fmt.Fprintf(&b, ".\\\" Made by go test ./cmd/kedge -run ManPages -update\n.TH %s 1 \"\" kedge\n", strings.ToUpper(strings.Join(path, `\-`)))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s", strings.Join(path, `\-`), text(p.short))
	body := func(p page, heading string) {
		if heading == ".SH" {
			fmt.Fprint(&b, ".SH SYNOPSIS\n")
		}
		fmt.Fprintf(&b, ".B %s", text(strings.Join(p.path, " ")+" "+p.synopsis))
		if p.long != "" {
			if heading == ".SH" {
				fmt.Fprint(&b, ".SH DESCRIPTION\n")
			}
			fmt.Fprint(&b, text(p.long))
		}
		for _, s := range p.sections {
			if heading == ".SH" {
				fmt.Fprintf(&b, ".SH %s", text(strings.ToUpper(s.heading)))
			}
			for _, o := range s.options {
				left := `\fB` + word("--"+o.name) + `\fR`
				if o.short != "" {
					left = `\fB` + word("-"+o.short) + `\fR, ` + left
				}
				if o.kind != "" {
					left += ` \fI` + o.kind + `\fR`
				}
				fmt.Fprintf(&b, ".TP\n%s\n%s", left, text(o.text()))
			}
		}
	}
	body(p, ".SH")
	if len(path) == 1 {
		for _, g := range p.groups {
			fmt.Fprintf(&b, ".SH %s", text(strings.ToUpper(g.heading)))
			for _, verb := range g.verbs {
				fmt.Fprintf(&b, ".TP\n\\fB%s\\fR\n%s", word("kedge "+verb.Name), text(verb.Usage))
			}
		}
		return b.String()
	}
	for _, sub := range c.Subcommands {
		if !sub.Hidden {
			fmt.Fprintf(&b, ".SH %s%s.PP\n", text(strings.ToUpper(sub.Name)), text(sub.Usage))
			body(newPage(append(slices.Clone(path), sub.Name), sub), ".SS")
		}
	}
	fmt.Fprintf(&b, ".SH SEE ALSO\n.BR kedge (1)\n")
	return b.String()
}

func TestManPages(t *testing.T) {
	pages := map[string]string{}
	everyVerb(func(path []string, c *cli.Command) {
		if len(path) < 3 && c.Name != "help" && c.Name != "version" {
			pages[strings.Join(path, "-")+".1"] = roff(path, c)
		}
	})
	dir := filepath.Join(testenv.Repository(t), "man")
	if *update {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range pages {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	there, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range there {
		if _, ok := pages[filepath.Base(path)]; !ok {
			t.Errorf("%s is of no verb", path)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		path := filepath.Join(dir, name)
		want, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), pages[name]); diff != "" {
			t.Errorf("%s is not what kedge's help says; make docs writes it (-file +help):\n%s", path, diff)
		}
	}
	testenv.Require(t, "groff")
	for _, path := range there {
		out, err := exec.CommandContext(t.Context(), "groff", "-man", "-Tutf8", "-ww", "-z", path).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("groff %s: %v\n%s", path, err, out)
		}
	}
}
