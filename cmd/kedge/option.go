package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// An option describes a flag for the command line, its help and its completion.
type option struct {
	name     string // long name
	short    string // one letter, or empty
	others   []string
	kind     string // of its value, in docker's words; empty if it takes none
	usage    string
	boolean  bool
	fallback string // default that help prints, if any
	hidden   bool
	env      []string
}

// optionOf describes a flag. A flag that takes no value accepts one as --flag=VALUE.
func optionOf(f cli.Flag) option {
	var o option
	for _, name := range f.Names() {
		switch {
		case len(name) == 1 && o.short == "":
			o.short = name
		case len(name) > 1 && o.name == "":
			o.name = name
		default:
			o.others = append(o.others, name)
		}
	}
	if v, ok := f.(cli.VisibleFlag); ok {
		o.hidden = !v.IsVisible()
	}
	doc, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return o
	}
	o.usage = strings.ReplaceAll(doc.GetUsage(), "`", "")
	o.env = doc.GetEnvVars()
	switch f := f.(type) {
	case *cli.BoolFlag:
		o.boolean = true
		if f.Value {
			o.fallback = "true"
		}
	case *cli.StringSliceFlag:
		o.kind = "stringArray"
	case *cli.GenericFlag:
		o.kind = "string"
		if v, ok := f.Value.(interface{ Type() string }); ok {
			o.kind = v.Type()
		}
		if v, ok := f.Value.(interface{ IsBoolFlag() bool }); ok && v.IsBoolFlag() {
			o.kind = ""
		}
	case *cli.DurationFlag:
		o.kind, o.fallback = "duration", f.Value.String()
	case *cli.StringFlag:
		o.kind = "string"
		if f.Value != "" {
			o.fallback = strconv.Quote(f.Value)
		}
	default:
		o.kind = "string"
		if !doc.TakesValue() {
			o.kind = ""
		} else if v := doc.GetValue(); v != "" && v != "0" {
			o.kind, o.fallback = "int", v
		}
	}
	return o
}

// canonical returns the name of the option in a commandLine.
func (o option) canonical() string {
	if o.name != "" {
		return o.name
	}
	return o.short
}

func (o option) named(name string) bool {
	return name != "" && (name == o.name || name == o.short || slices.Contains(o.others, name))
}

// optionsOf describes the flags of a verb, including those of every verb.
func optionsOf(c *cli.Command) []option {
	var options []option
	for _, f := range c.Flags {
		options = append(options, optionOf(f))
	}
	return append(options, helpOption)
}

var (
	helpOption    = option{name: "help", short: "h", boolean: true, usage: "print help", hidden: true}
	versionOption = option{name: "version", short: "v", boolean: true, usage: "print the version"}
	// carriedOptions are also accepted before the verb, as by docker buildx.
	carriedOptions = []option{{name: "builder", kind: "string", hidden: true}, {name: "debug", short: "D", boolean: true, hidden: true}}
)
