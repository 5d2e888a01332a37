package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// dockerFlags are the flags of docker build. Help and docs list kedge's own flags after them.
var dockerFlags = []string{
	"add-host", "allow", "annotation", "attest", "build-arg", "build-context", "builder", "cache-from", "cache-to", "call",
	"cgroup-parent", "check", "debug", "file", "iidfile", "label", "load", "metadata-file", "network", "no-cache",
	"no-cache-filter", "output", "platform", "policy", "progress", "provenance", "pull", "push", "quiet", "resource", "sbom",
	"secret", "shm-size", "ssh", "tag", "target", "ulimit",
}

// verbGroups are the verbs in the order of the help. A verb that is in no group is hidden.
var verbGroups = []struct {
	heading string
	verbs   []string
}{
	{"Build", []string{"build", "bake", "lint", "lock", "verify", "tag"}},
	{"Compare", []string{"diff", "explain", "drift", "promote"}},
	{"Store and builder", []string{"images", "export", "prune", "cache", "builder"}},
	{"kedge itself", []string{"install", "completion", "help", "version"}},
}

// A page is the help of kedge or one of its verbs. The help text and the man page are rendered from it.
type page struct {
	path        []string // "kedge", "builder", "prune"
	synopsis    string
	short, long string
	groups      []verbGroup
	sections    []optionSection
}

type verbGroup struct {
	heading string
	verbs   []*cli.Command
}

type optionSection struct {
	heading string
	options []option
}

func newPage(path []string, c *cli.Command) page {
	p := page{path: path, synopsis: "[OPTIONS]", short: c.Usage, long: c.Description}
	if c.ArgsUsage != "" {
		p.synopsis += " " + c.ArgsUsage
	}
	var docker, own []option
	for _, f := range c.Flags {
		o := optionOf(f)
		switch {
		case o.hidden:
		case len(path) == 2 && c.Name == "build" && !slices.Contains(dockerFlags, o.name):
			own = append(own, o)
		default:
			docker = append(docker, o)
		}
	}
	for _, s := range []optionSection{{"Options", docker}, {"Options of kedge's own", own}} {
		if len(s.options) > 0 {
			slices.SortFunc(s.options, func(a, b option) int { return strings.Compare(a.name, b.name) })
			p.sections = append(p.sections, s)
		}
	}
	if len(c.Subcommands) == 0 {
		if len(p.sections) == 0 {
			p.synopsis = strings.TrimSpace(strings.TrimPrefix(p.synopsis, "[OPTIONS]"))
		}
		return p
	}
	p.synopsis = "VERB"
	if len(path) > 1 {
		all := verbGroup{heading: "Verbs"}
		for _, sub := range c.Subcommands {
			if !sub.Hidden {
				all.verbs = append(all.verbs, sub)
			}
		}
		p.groups = []verbGroup{all}
		return p
	}
	for _, g := range verbGroups {
		group := verbGroup{heading: g.heading}
		for _, name := range g.verbs {
			if verb := c.Command(name); verb != nil {
				group.verbs = append(group.verbs, verb)
			}
		}
		p.groups = append(p.groups, group)
	}
	p.sections = []optionSection{{"Options", []option{helpOption, versionOption}}}
	return p
}

// helpWidth is the length of the longest line of help.
const helpWidth = 100

// write writes the page in the layout of docker's help.
func (p page) write(out io.Writer) error {
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "Usage:  %s\n\n%s\n", strings.TrimSpace(strings.Join(p.path, " ")+" "+p.synopsis), p.short)
	if p.long != "" {
		fmt.Fprintf(w, "\n%s\n", p.long)
	}
	for _, g := range p.groups {
		fmt.Fprintf(w, "\n%s:\n", g.heading)
		for _, verb := range g.verbs {
			fmt.Fprintf(w, "  %-12s%s\n", verb.Name, verb.Usage)
		}
	}
	indent := 0
	for _, s := range p.sections {
		for _, o := range s.options {
			indent = max(indent, len(o.left())+3)
		}
	}
	for _, s := range p.sections {
		fmt.Fprintf(w, "\n%s:\n", s.heading)
		for _, o := range s.options {
			fmt.Fprintf(w, "%-*s%s\n", indent, o.left(), wrapped(o.text(), helpWidth-indent, indent))
		}
	}
	if len(p.groups) > 0 {
		fmt.Fprintf(w, "\nRun '%s VERB --help' for more about a verb.\n", strings.Join(p.path, " "))
	}
	return w.Flush()
}

// left returns an option and the kind of its value in docker's notation.
func (o option) left() string {
	left := "      --" + o.name
	if o.short != "" {
		left = "  -" + o.short + ", --" + o.name
	}
	return strings.TrimRight(left+" "+o.kind, " ")
}

// text returns the description of an option, with its default and its environment variables.
func (o option) text() string {
	text := o.usage
	if o.fallback != "" {
		text += " (default " + o.fallback + ")"
	}
	for _, env := range o.env {
		text += " [$" + env + "]"
	}
	return text
}

// wrapped breaks a text into lines of at most width bytes, and indents all but the first.
func wrapped(text string, width, indent int) string {
	var b strings.Builder
	n := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case n+1+len(word) > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			n = 0
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(word)
		n += len(word)
	}
	return b.String()
}
