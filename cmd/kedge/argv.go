package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/moby/buildkit/util/suggest"
	"github.com/urfave/cli/v2"
)

// A commandLine is a parsed argv. Its syntax is that of docker (github.com/spf13/pflag).
type commandLine struct {
	verbs   []string     // "builder", "prune"
	command *cli.Command // that the verbs name; kedge itself if there are none
	flags   []flagValue  // in the order of the command line
	args    []string
	help    bool
	version bool
}

// A flagValue is a flag, by its canonical name, with its value.
type flagValue struct{ name, value string }

// argv returns the command line in the form that urfave/cli reads: flags first, each by its canonical name
// and in one word with its value.
func (l commandLine) argv() []string {
	argv := append([]string{"kedge"}, l.verbs...)
	for _, f := range l.flags {
		argv = append(argv, "--"+f.name+"="+f.value)
	}
	return slices.Concat(argv, []string{"--"}, l.args)
}

// An unknownError says that kedge has no such flag or verb.
type unknownError struct {
	Message string
	Verb    string   // empty for a flag
	Verbs   []string // the verbs in front of it
	Nearest string   // the most similar flag or verb, if there is one
}

func (e *unknownError) Error() string { return e.Message }

func (e *unknownError) hint() string {
	if len(e.Verbs) == 0 && slices.Contains(buildxVerbs, e.Verb) {
		return fmt.Sprintf("docker buildx %s is still there", e.Verb)
	}
	help := strings.Join(slices.Concat([]string{"kedge"}, e.Verbs, []string{"--help"}), " ") + " lists what there is"
	if e.Nearest != "" {
		help = fmt.Sprintf("did you mean %s? %s", e.Nearest, help)
	}
	return help
}

// parse parses the words after the name of the program. Its errors are *unknownError and usageError.
func parse(root *cli.Command, words []string) (commandLine, error) {
	line := commandLine{command: root}
	options := slices.Concat([]option{helpOption, versionOption}, carriedOptions)
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		switch {
		case word == "--" && len(line.command.Subcommands) == 0:
			line.args = append(line.args, words...)
			words = nil
		case len(word) > 1 && word[0] == '-':
			var err error
			if words, err = line.take(options, word, words); err != nil {
				return line, err
			}
		case len(line.command.Subcommands) == 0:
			line.args = append(line.args, word)
		case word == "help":
			line.help = true
		default:
			verb := line.command.Command(word)
			if verb == nil {
				return line, line.noVerb(word)
			}
			line.command, line.verbs = verb, append(line.verbs, verb.Name)
			options = optionsOf(verb)
		}
	}
	if line.help || line.version || len(line.verbs) == 0 {
		return line, nil
	}
	for i := 0; i < len(line.flags); i++ { // also those before the verb
		switch name := line.flags[i].name; {
		case slices.ContainsFunc(options, func(o option) bool { return o.named(name) }):
		case name == "debug": // docker accepts it for every command
			line.flags = slices.Delete(line.flags, i, i+1)
			i--
		default:
			return line, line.noFlag("unknown flag: --"+name, name, options)
		}
	}
	return line, nil
}

// take parses a word with flags. If the last flag needs a value that is not in the word, the next word is it.
// take returns the remaining words.
func (l *commandLine) take(options []option, word string, rest []string) ([]string, error) {
	if name, ok := strings.CutPrefix(word, "--"); ok {
		name, value, joined := strings.Cut(name, "=")
		if name == "" || name[0] == '-' {
			return nil, usagef("bad flag syntax: %s", word)
		}
		i := slices.IndexFunc(options, func(o option) bool { return len(name) > 1 && o.named(name) })
		if i < 0 {
			return nil, l.noFlag("unknown flag: --"+name, name, options)
		}
		switch {
		case joined:
		case options[i].kind == "":
			value = "true"
		case len(rest) == 0:
			return nil, usagef("flag needs an argument: --%s", name)
		default:
			value, rest = rest[0], rest[1:]
		}
		return rest, l.set(options[i], value)
	}
	for letters := word[1:]; letters != ""; {
		letter := letters[:1]
		i := slices.IndexFunc(options, func(o option) bool { return o.named(letter) })
		if i < 0 {
			long, _, _ := strings.Cut(word[1:], "=")
			r, _ := utf8.DecodeRuneInString(letters)
			return nil, l.noFlag(fmt.Sprintf("unknown shorthand flag: %q in -%s", r, letters), long, options)
		}
		var value string
		switch {
		case len(letters) > 2 && letters[1] == '=':
			value, letters = letters[2:], ""
		case options[i].kind == "":
			value, letters = "true", letters[1:]
		case len(letters) > 1:
			value, letters = letters[1:], ""
		case len(rest) == 0:
			return nil, usagef("flag needs an argument: %q in -%s", letter[0], letters)
		default:
			value, letters, rest = rest[0], "", rest[1:]
		}
		if err := l.set(options[i], value); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

func (l *commandLine) set(o option, value string) error {
	is, err := strconv.ParseBool(value)
	if err != nil && o.boolean {
		return usagef("invalid argument %q for --%s: not true or false", value, o.canonical())
	}
	switch o.name {
	case helpOption.name:
		l.help = is
	case versionOption.name:
		l.version = is
	default:
		l.flags = append(l.flags, flagValue{o.canonical(), value})
	}
	return nil
}

func (l *commandLine) noFlag(message, name string, options []option) error {
	e := &unknownError{Message: message, Verbs: l.verbs}
	var names []string
	for _, o := range options {
		if o.name == name { // with one dash
			e.Nearest = "--" + name
			return e
		}
		if !o.hidden {
			names = append(names, o.name)
		}
	}
	if nearest, ok := suggest.Search(name, names, true); ok {
		e.Nearest = "--" + nearest
	}
	return e
}

func (l *commandLine) noVerb(name string) error {
	e := &unknownError{Message: fmt.Sprintf("no verb %q", name), Verb: name, Verbs: l.verbs}
	if len(l.verbs) > 0 {
		e.Message = strings.Join(l.verbs, " ") + " has " + e.Message
	}
	var names []string
	for _, c := range l.command.Subcommands {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	e.Nearest, _ = suggest.Search(name, names, true)
	return e
}
