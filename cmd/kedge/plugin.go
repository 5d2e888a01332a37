package main

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/plugin"
)

// dockerOptions are docker's own options, which it passes in front of the name of the plugin.
var dockerOptions = []option{
	{name: "config", kind: "string"},
	{name: "context", short: "c", kind: "string"},
	{name: "debug", short: "D", boolean: true},
	{name: "host", short: "H", kind: "list"},
	{name: "log-level", short: "l", kind: "string"},
	{name: "tls", boolean: true},
	{name: "tlscacert", kind: "string"},
	{name: "tlscert", kind: "string"},
	{name: "tlskey", kind: "string"},
	{name: "tlsverify", boolean: true},
}

// pluginName returns the name by which docker runs this program as a plugin, or "".
func pluginName(program string) string {
	for _, name := range []string{plugin.Name, buildxName} {
		if filepath.Base(program) == "docker-"+name {
			return name
		}
	}
	return ""
}

// takeOptions parses the options in front of words, and returns the remaining words.
func (l *commandLine) takeOptions(options []option, words []string) ([]string, error) {
	for len(words) > 0 && len(words[0]) > 1 && words[0][0] == '-' {
		var err error
		if words, err = l.take(options, words[0], words[1:]); err != nil {
			return nil, err
		}
	}
	return words, nil
}

// fromDocker parses the argv with which docker runs a plugin: docker-kedge OPTIONS kedge WORD..., with
// docker's own options. It returns the argv of kedge itself, and the options as environment variables; an
// empty one must be unset. It returns any other argv unchanged.
func fromDocker(argv []string) ([]string, map[string]string, error) {
	if len(argv) == 0 || pluginName(argv[0]) == "" {
		return argv, nil, nil
	}
	env := map[string]string{}
	var line commandLine
	words, err := line.takeOptions(dockerOptions, argv[1:])
	if err != nil {
		return argv, nil, err
	}
	var carried []string
	if pluginName(argv[0]) == buildxName {
		if words, _, err = buildxLine(words); err != nil {
			return argv, nil, err
		}
	}
	for _, f := range line.flags {
		on := slices.Contains([]string{"1", "t", "T", "true", "TRUE", "True"}, f.value)
		switch f.name {
		case "config":
			env["DOCKER_CONFIG"] = f.value
		case "context":
			maps.Copy(env, map[string]string{"DOCKER_CONTEXT": f.value, "DOCKER_HOST": ""})
		case "host":
			maps.Copy(env, map[string]string{"DOCKER_CONTEXT": "", "DOCKER_HOST": f.value})
		case "debug":
			carried = append(carried, "--debug="+f.value)
		case "tls", "tlsverify":
			if on {
				env[map[string]string{"tls": "DOCKER_TLS", "tlsverify": "DOCKER_TLS_VERIFY"}[f.name]] = "1"
			}
		case "tlscacert", "tlscert", "tlskey":
			file := map[string]string{"tlscacert": "ca.pem", "tlscert": "cert.pem", "tlskey": "key.pem"}[f.name]
			dir, base := filepath.Split(f.value)
			dir = filepath.Clean(dir)
			if base != file || env["DOCKER_CERT_PATH"] != "" && env["DOCKER_CERT_PATH"] != dir {
				return argv, nil, usagef("docker --%s %q: kedge takes ca.pem, cert.pem and key.pem of one folder, which $DOCKER_CERT_PATH names", f.name, f.value)
			}
			env["DOCKER_CERT_PATH"] = dir
		}
	}
	// The name is the first word, or follows help or completeVerb.
	before := slices.Index(words, plugin.Name)
	if before == 0 || before == 1 && (words[0] == "help" || strings.HasPrefix(words[0], completeVerb)) {
		words = slices.Concat(words[:before], words[before+1:])
	}
	return slices.Concat(argv[:1], carried, words), env, nil
}

// buildxVerbs are the verbs of docker buildx that kedge does not have. Without the alias docker builder runs
// them.
var buildxVerbs = []string{
	"create", "dap", "debug", "dial-stdio", "du", "history", "imagetools", "inspect", "ls", "policy", "rm", "stop",
	"uninstall", "use",
}

// A pruneError says that docker ran either docker builder prune or docker kedge prune: a plugin cannot tell.
type pruneError struct{}

func (*pruneError) Error() string {
	return "docker builder prune, or docker kedge prune: kedge cannot tell which of the two this is"
}
