package frontend

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Setting is a variable of a RUN's environment that changes what compilers and build tools make.
type Setting struct {
	Line        int // of the RUN; 0 if unknown
	Name, Value string
}

// compileVariables are the variables that [Graph.Settings] returns, besides those with a prefix of compilePrefixes.
var compileVariables = []string{
	"AR", "ASFLAGS", "BUNDLE_WITHOUT", "CC", "CFLAGS", "CMAKE_ARGS", "CMAKE_BUILD_TYPE", "CPPFLAGS", "CXX", "CXXFLAGS", "DEB_BUILD_OPTIONS",
	"DEB_BUILD_PROFILES", "FCFLAGS", "FFLAGS", "GO386", "GOAMD64", "GOARM", "GOARM64", "GOEXPERIMENT", "GOFIPS140", "GOFLAGS", "GOTOOLCHAIN",
	"GRADLE_OPTS", "JAVA_OPTS", "JAVA_TOOL_OPTIONS", "LD", "LDFLAGS", "MAKEFLAGS", "MAVEN_OPTS", "MIX_ENV", "NODE_ENV", "NODE_OPTIONS",
	"PYTHONHASHSEED", "PYTHONOPTIMIZE", "RAILS_ENV", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "ZERO_AR_DATE",
}

var compilePrefixes = []string{"CGO_", "CARGO_BUILD_", "CARGO_ENCODED_RUSTFLAGS", "CARGO_PROFILE_", "DEB_CFLAGS_", "DEB_CXXFLAGS_", "DEB_LDFLAGS_"}

// compileVariable reports whether a variable changes what compilers and build tools make.
func compileVariable(name string) bool {
	return slices.Contains(compileVariables, name) || slices.ContainsFunc(compilePrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// Settings returns the compile environment of every RUN behind the result, after ENV and ARG, with that of the base
// image. Variables without a value are left out.
func (g *Graph) Settings() []Setting {
	var settings []Setting
	for _, n := range g.nodes {
		for _, v := range n.op.GetExec().GetMeta().GetEnv() {
			if name, value, _ := strings.Cut(v, "="); value != "" && compileVariable(name) {
				settings = append(settings, Setting{Line: g.step(n.digest).Line, Name: name, Value: value})
			}
		}
	}
	return settings
}

// StageAt returns the name of the stage that a line belongs to, or its index if it has no name. It is empty for a
// line above the first FROM.
func (d *Dockerfile) StageAt(line int) string {
	for i, s := range slices.Backward(d.Stages) {
		if s.Line <= line {
			return cmp.Or(s.Name, strconv.Itoa(i))
		}
	}
	return ""
}
