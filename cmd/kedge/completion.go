package main

import (
	"context"
	"embed"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/diff"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/rules"
	"github.com/urfave/cli/v2"
)

//go:embed completion
var completionScripts embed.FS

var shells = []string{"bash", "fish", "zsh"}

func (p *process) completionVerb() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print a script with which a shell completes kedge's commands", ArgsUsage: "bash|fish|zsh",
		Description: "In ~/.bashrc or ~/.zshrc: source <(kedge completion bash), or zsh.\nIn ~/.config/fish/config.fish: kedge completion fish | source.",
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 || !slices.Contains(shells, c.Args().First()) {
				return usagef("completion takes the name of a shell: %s", strings.Join(shells, ", "))
			}
			script, err := completionScripts.ReadFile("completion/kedge." + c.Args().First())
			if err == nil {
				_, err = p.stdout.Write(script)
			}
			return err
		},
	}
}

// completeVerb completes a word: kedge __complete WORD... BEGINNING. The answer has the form of
// github.com/spf13/cobra, which docker's own completion reads: a line for each candidate, perhaps with a tab
// and a description, then a colon and the sum of the directives.
const completeVerb = "__complete"

// Directives, with the numbers that cobra gives them.
const (
	orFiles   = 0
	noSpace   = 2
	noFiles   = 4
	orFolders = 16
)

// candidates are the completions of a word.
type candidates struct {
	words     []string
	texts     map[string]string // descriptions of some of words
	directive int
}

func (p *process) complete(ctx context.Context, root *cli.Command, words []string) error {
	if len(words) == 0 {
		return usagef("%s takes the words of a command line; it completes the last one", completeVerb)
	}
	last := len(words) - 1
	found := p.candidates(ctx, root, words[:last], words[last])
	for _, word := range found.words {
		if strings.HasPrefix(word, words[last]) {
			if text := found.texts[word]; text != "" {
				word += "\t" + text
			}
			fmt.Fprintln(p.stdout, word)
		}
	}
	_, err := fmt.Fprintf(p.stdout, ":%d\n", found.directive)
	return err
}

func (p *process) candidates(ctx context.Context, root *cli.Command, words []string, beginning string) candidates {
	// Skip words that make no sense: the command line is not finished.
	line := commandLine{command: root}
	options := slices.Concat([]option{helpOption, versionOption}, carriedOptions)
	for len(words) > 0 {
		word, rest := words[0], words[1:]
		words = rest
		switch {
		case word == "--" && len(line.command.Subcommands) == 0:
			line.args = append(line.args, rest...)
			return p.arguments(ctx, line)
		case len(word) > 1 && word[0] == '-':
			if o, ok := valueMissing(options, word); ok && len(rest) == 0 {
				return p.values(line, o, beginning, "")
			} else if ok {
				_ = line.set(o, rest[0])
				words = rest[1:]
			} else {
				_, _ = line.take(options, word, nil)
			}
		case line.command.Command(word) != nil && word != "help":
			line.command = line.command.Command(word)
			line.verbs = append(line.verbs, line.command.Name)
			options = optionsOf(line.command)
		case len(line.command.Subcommands) == 0:
			line.args = append(line.args, word)
		}
	}
	switch name, _, joined := strings.Cut(beginning, "="); {
	case joined && strings.HasPrefix(name, "--"):
		for _, o := range options {
			if o.named(name[2:]) {
				return p.values(line, o, beginning[len(name)+1:], name+"=")
			}
		}
		return candidates{directive: noFiles}
	case strings.HasPrefix(beginning, "-"):
		return flagCandidates(options)
	case len(line.command.Subcommands) > 0:
		found := candidates{texts: map[string]string{}, directive: noFiles}
		for _, c := range line.command.Subcommands {
			if !c.Hidden {
				found.words, found.texts[c.Name] = append(found.words, c.Name), c.Usage
			}
		}
		return found
	}
	return p.arguments(ctx, line)
}

// valueMissing returns the option that the next word is the value of, if word ends with one.
func valueMissing(options []option, word string) (option, bool) {
	probe := commandLine{}
	rest, err := probe.take(options, word, []string{"value"})
	if err != nil || len(rest) > 0 || len(probe.flags) == 0 {
		return option{}, false
	}
	name := probe.flags[len(probe.flags)-1].name
	i := slices.IndexFunc(options, func(o option) bool { return o.named(name) })
	return options[i], true
}

func flagCandidates(options []option) candidates {
	found := candidates{texts: map[string]string{}, directive: noFiles}
	for _, o := range options {
		if !o.hidden || o.name == helpOption.name {
			found.words, found.texts["--"+o.name] = append(found.words, "--"+o.name), o.usage
		}
	}
	slices.Sort(found.words)
	return found
}

// flagValues are the values of flags that have only a few.
var flagValues = map[string][]string{
	"allow":             {"network.host", "security.insecure", "buildx.local.delete"},
	"call":              {"build", "check", "outline", "targets"},
	"context-modes":     {"git", "keep"},
	"format":            {"json", "markdown", "text"},
	"lint":              {"error", "off", "warn"},
	"network":           {"default", "host", "none"},
	"output":            {"type=cacheonly", "type=docker", "type=image", "type=local,dest=", "type=oci,dest=", "type=registry", "type=tar,dest="},
	"platform":          {"linux/386", "linux/amd64", "linux/arm/v7", "linux/arm64", "linux/ppc64le", "linux/riscv64", "linux/s390x"},
	"progress":          {"auto", "none", "plain", "quiet", "rawjson", "tty"},
	"source-date-epoch": {"base", "git"},
	"type":              diff.Types(),
	"vary":              {"time", "hostname", "cpus", "umask", "locale", "order"},
}

// listFlags are flags whose value is a list, separated by commas.
var listFlags = []string{"normalize", "platform", "type", "vary"}

// fileFlags are flags whose value is a file.
var fileFlags = []string{"buildkitd-config", "file", "iidfile", "lockfile", "metadata-file", "report", "tlscacert", "tlscert", "tlskey"}

// values returns the completions of a flag's value. The word starts with before, and the value with beginning.
func (p *process) values(line commandLine, o option, beginning, before string) candidates {
	found := candidates{directive: noFiles}
	if slices.Contains(listFlags, o.name) {
		if i := strings.LastIndex(beginning, ","); i >= 0 {
			before += beginning[:i+1]
		}
		found.directive |= noSpace
	}
	switch {
	case slices.Contains(fileFlags, o.name):
		return candidates{directive: orFiles}
	case o.name == "build-context":
		return candidates{directive: orFolders}
	case o.name == "target" || o.name == "no-cache-filter":
		found.words = p.stages(line)
	case o.name == "normalize":
		found.words = []string{"all", "none"}
		if none, err := rules.Parse("none"); err == nil {
			for _, id := range none.Off {
				found.words = append(found.words, "-"+id, "+"+id)
			}
		}
	default:
		found.words = slices.Clone(flagValues[o.name])
	}
	if slices.ContainsFunc(found.words, func(w string) bool { return strings.HasSuffix(w, "=") && strings.HasPrefix(w, beginning) }) {
		found.directive |= noSpace
	}
	for i := range found.words {
		found.words[i] = before + found.words[i]
	}
	return found
}

// parsedDockerfile returns a Dockerfile of this machine, or nil if it cannot be read or parsed.
func parsedDockerfile(path string) *frontend.Dockerfile {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > 1<<20 {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	file, err := frontend.Parse(path, data)
	if err != nil {
		return nil
	}
	return file
}

// stages returns the names of the stages in the Dockerfile of the command line, if that is a local file.
func (p *process) stages(line commandLine) []string {
	path := "."
	if len(line.args) > 0 {
		path = line.args[0]
	}
	path = filepath.Join(path, "Dockerfile")
	for _, f := range line.flags {
		if f.name == "file" {
			path = f.value
		}
	}
	file := parsedDockerfile(path)
	if file == nil {
		return nil
	}
	var names []string
	for _, s := range file.Stages {
		if s.Name != "" {
			names = append(names, s.Name)
		}
	}
	return names
}

// arguments returns the completions of an argument that is no flag.
func (p *process) arguments(ctx context.Context, line commandLine) candidates {
	switch usage := line.command.ArgsUsage; {
	case usage == "" || len(line.command.Subcommands) > 0:
		return candidates{directive: noFiles}
	case strings.Contains(usage, "bash"):
		return candidates{words: shells, directive: noFiles}
	case strings.HasPrefix(usage, "PATH"):
		return candidates{directive: orFolders}
	default: // names of images, or files
		return candidates{words: p.imageNames(ctx), directive: orFiles}
	}
}

// imageNames returns the names of the images in kedge's store, if there is one.
func (p *process) imageNames(ctx context.Context) []string {
	if _, err := os.Stat(p.storeDir()); err != nil {
		return nil
	}
	store, err := p.openStore(ctx)
	if err != nil {
		return nil
	}
	defer store.Close()
	entries, err := store.Images(ctx)
	if err != nil {
		return nil
	}
	names := map[string]bool{}
	for _, e := range entries {
		for _, name := range e.Names {
			names[strings.TrimPrefix(strings.TrimPrefix(name, "docker.io/"), "library/")] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
