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

// Arg is a build arg and its value in a build.
type Arg struct{ Name, Value string }

// Args returns the ARGs in BuildKit's outline of a target: those that the target and the stages below it
// use, each once, sorted by name. given are the build args of the command line.
//
// Args that only control how a build runs are left out: the predefined proxy args and SOURCE_DATE_EPOCH.
// So are BuildKit's platform args unless they are given, since they differ between the platforms of one
// index.
func Args(outlineJSON []byte, given map[string]string) ([]Arg, error) {
	var o outline.Outline
	if err := json.Unmarshal(outlineJSON, &o); err != nil {
		return nil, fmt.Errorf("reading the outline of the Dockerfile: %w", err)
	}
	values := map[string]string{}
	var args []Arg
	for _, a := range o.Args {
		if _, isGiven := given[a.Name]; omitted(a.Name, isGiven) {
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

// GivenArgs stands in for Args if the frontend has no outline. It returns the given build args, without
// those that Args leaves out.
func GivenArgs(given map[string]string) []Arg {
	var args []Arg
	for name, value := range given {
		if !omitted(name, true) {
			args = append(args, Arg{name, value})
		}
	}
	sortArgs(args)
	return args
}

func sortArgs(args []Arg) {
	slices.SortFunc(args, func(a, b Arg) int { return strings.Compare(a.Name, b.Name) })
}

func omitted(name string, given bool) bool {
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

// Hash returns the hash of a set of build args: the first 12 lower-case hex digits (48 bits) of the SHA-256
// of the NAME=VALUE pairs, each followed by a NUL byte, sorted bytewise. For A=1 and B=2 this prints it:
//
//	printf '%s\0' A=1 B=2 | LC_ALL=C sort -z | sha256sum | head -c 12
//
// No args hash as the empty string does. Neither a name nor a value can hold a NUL, so that no two sets have
// one encoding. Tags carry the hash as args-HASH. It never changes: another algorithm would get another
// prefix.
func Hash(args []Arg) string {
	lines := make([]string, len(args))
	for i, a := range args {
		lines[i] = a.Name + "=" + a.Value + "\x00"
	}
	// sort -z compares the pairs without their NUL.
	slices.SortFunc(lines, func(a, b string) int {
		return strings.Compare(strings.TrimSuffix(a, "\x00"), strings.TrimSuffix(b, "\x00"))
	})
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return hex.EncodeToString(sum[:])[:12]
}
