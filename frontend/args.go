package frontend

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/subrequests/outline"
)

// Arg is a build arg with the value that it has in a build.
type Arg struct{ Name, Value string }

// Args reads BuildKit's outline of a target: the ARGs that it and the stages below it use, each once,
// sorted by name. given are the build args of the command line.
//
// Left out are those that say how a build is run, and not what is built: the predefined proxy args,
// SOURCE_DATE_EPOCH, and BuildKit's automatic platform args unless they are given, since an index of
// several platforms has several values of them.
func Args(outlineJSON []byte, given map[string]string) ([]Arg, error) {
	var o outline.Outline
	if err := json.Unmarshal(outlineJSON, &o); err != nil {
		return nil, fmt.Errorf("reading the outline of the Dockerfile: %w", err)
	}
	values := map[string]string{}
	var args []Arg
	for _, a := range o.Args {
		if _, isGiven := given[a.Name]; left(a.Name, isGiven) {
			continue
		}
		if _, seen := values[a.Name]; seen {
			continue
		}
		values[a.Name] = a.Value
		args = append(args, Arg{a.Name, a.Value})
	}
	sortArgs(args)
	return args, nil
}

// GivenArgs are the args of a build whose frontend has no outline: the build args that are given, but
// for the same that Args leaves out.
func GivenArgs(given map[string]string) []Arg {
	var args []Arg
	for name, value := range given {
		if !left(name, true) {
			args = append(args, Arg{name, value})
		}
	}
	sortArgs(args)
	return args
}

func sortArgs(args []Arg) {
	slices.SortFunc(args, func(a, b Arg) int { return strings.Compare(a.Name, b.Name) })
}

func left(name string, given bool) bool {
	switch strings.ToUpper(name) {
	case "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY":
		return true
	}
	switch name {
	case "SOURCE_DATE_EPOCH":
		return true
	case "BUILDPLATFORM", "BUILDOS", "BUILDOSVERSION", "BUILDARCH", "BUILDVARIANT",
		"TARGETPLATFORM", "TARGETOS", "TARGETOSVERSION", "TARGETARCH", "TARGETVARIANT", "TARGETSTAGE":
		return !given
	}
	return false
}

// Hash names a set of build args by 12 hex digits. For A=1 and B=2 it is what this prints:
//
//	printf '%s\0' A=1 B=2 | LC_ALL=C sort -z | sha256sum | head -c 12
//
// Of no args it is the beginning of the sha256 of nothing. No value can hold a NUL, so that no two
// sets look alike. Tags carry it as args-HASH; another way of hashing would come with another prefix.
func Hash(args []Arg) string {
	lines := make([]string, len(args))
	for i, a := range args {
		lines[i] = a.Name + "=" + a.Value + "\x00"
	}
	// Sorted with their ends, as sort -z does it.
	slices.SortFunc(lines, func(a, b string) int {
		return strings.Compare(strings.TrimSuffix(a, "\x00"), strings.TrimSuffix(b, "\x00"))
	})
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return hex.EncodeToString(sum[:])[:12]
}
