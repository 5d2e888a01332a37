package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/kedge-build/kedge/docker"
	"github.com/kedge-build/kedge/plugin"
)

// buildxName is the plugin that kedge can stand in front of.
const buildxName = "buildx"

// buildxOptions are the options of docker buildx itself, which stand in front of its verbs.
var buildxOptions = []option{
	{name: "builder", kind: "string"},
	{name: "debug", short: "D", boolean: true},
}

// replaced maps the verbs of docker buildx that kedge does to its own.
var replaced = map[string]string{"build": "build", "b": "build", "bake": "bake", "f": "bake"}

// buildxLine parses the words of docker buildx after docker's own options. It returns them with a verb of kedge
// first, and the options of buildx after it. ours is false if kedge does not do this.
func buildxLine(words []string) (rest []string, ours bool, err error) {
	if len(words) > 0 && words[0] == buildxName { // compose runs the plugin without its name
		words = words[1:]
	}
	var line commandLine
	if rest, err = line.takeOptions(buildxOptions, words); err != nil {
		return words, false, err
	}
	if len(rest) == 0 || replaced[rest[0]] == "" {
		return words, false, nil
	}
	rest = slices.Concat([]string{replaced[rest[0]]}, rest[1:])
	for _, f := range line.flags { // those after the verb come later, and win
		rest = slices.Insert(rest, 1, "--"+f.name+"="+f.value)
	}
	return rest, true, nil
}

// passOn replaces this process by the real docker-buildx if docker runs it by that name for something that
// kedge does not do. It returns if there is no reason to, or if that fails.
func passOn(argv, environ []string) error {
	if len(argv) == 0 || pluginName(argv[0]) != buildxName {
		return nil
	}
	var line commandLine
	words, err := line.takeOptions(dockerOptions, argv[1:])
	if err == nil {
		if _, ours, err := buildxLine(words); ours && err == nil {
			return nil
		}
	}
	env := map[string]string{}
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	for _, f := range line.flags {
		if f.name == "config" {
			env["DOCKER_CONFIG"] = f.value
		}
	}
	real, err := realBuildx(env, false)
	if err != nil {
		return err
	}
	return syscall.Exec(real, slices.Concat([]string{real}, argv[1:]), environ)
}

// realBuildx returns the path of docker-buildx, and never kedge's own. If standalone is set, it can be one on
// PATH that is no plugin.
func realBuildx(env map[string]string, standalone bool) (string, error) {
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	real, err := plugin.RealBuildx(docker.Dir(env), program, extraDirs(env))
	if err == nil || !standalone {
		return real, err
	}
	for _, name := range []string{"docker-buildx", "buildx"} {
		path, lookErr := exec.LookPath(name)
		if lookErr == nil && !plugin.IsKedge(path, program) {
			return path, nil
		}
	}
	return "", err
}

// extraDirs returns the folders of plugins that docker's config.json names.
func extraDirs(env map[string]string) []string {
	file, err := docker.Load(docker.Dir(env))
	if err != nil {
		return nil // docker says so itself
	}
	return file.CLIPluginsExtraDirs
}

// impliedBuilder reports whether $BUILDX_BUILDER names the current context only because docker build sets it
// for its plugin.
func (p *process) impliedBuilder(name string) bool {
	if p.plugin != buildxName {
		return false
	}
	current, err := docker.New(p.env).Context()
	return err == nil && name == current
}
