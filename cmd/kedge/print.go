package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/kedge-build/kedge/report"
	"github.com/kedge-build/kedge/store"
)

// printJSON prints v for programs.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// harmless returns lines of text, such as an error, without anything that a terminal takes for a command.
func harmless(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) || r == '\t' || r == '\n' {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// normalised says how many paths of an image each rule applied to, on all platforms together, and which.
func normalised(img store.Image) (counts string, paths []string) {
	byRule := map[string]int{}
	for _, rules := range img.Normalised() {
		for rule, touched := range rules {
			byRule[rule] += len(touched)
			for _, path := range touched {
				paths = append(paths, harmless(strings.ReplaceAll(path, "\n", `\n`))+" by "+rule)
			}
		}
	}
	var words []string
	for _, rule := range slices.Sorted(maps.Keys(byRule)) {
		words = append(words, fmt.Sprintf("%d by %s", byRule[rule], rule))
	}
	slices.Sort(paths)
	return strings.Join(words, ", "), slices.Compact(paths)
}

// enumerated returns the first five names in one line: "a, b and 3 more".
func enumerated(names []string) string {
	const most = 5
	more := ""
	if n := len(names) - most; n > 0 {
		names, more = names[:most], fmt.Sprintf(" and %d more", n)
	}
	return strings.ReplaceAll(strings.Join(names, ", "), "\n", `\n`) + more
}

// sayChanges says what a lock became, or would become.
func (p *process) sayChanges(would bool, changes []report.LockChange) {
	for _, c := range changes {
		p.note("%s", c.Words(would))
	}
}
