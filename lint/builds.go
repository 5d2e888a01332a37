package lint

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/internal/shell"
	"go.yaml.in/yaml/v3"
)

// A ciBuild is a build of the Dockerfile that another file asks for: a compose or bake file, or a CI job.
type ciBuild struct {
	file   string
	line   int
	name   string // of the service, the target or the command
	target string
	args   map[string]string
	images []string
	pushed bool
}

// ciFiles are files at the top of a context that can ask for builds, with what reads them.
var ciFiles = []struct {
	pattern string
	read    func([]byte) []ciBuild
}{
	{"compose.yaml", yamlBuilds(composeBuilds)}, {"compose.yml", yamlBuilds(composeBuilds)},
	{"docker-compose.yaml", yamlBuilds(composeBuilds)}, {"docker-compose.yml", yamlBuilds(composeBuilds)},
	{"docker-bake.json", yamlBuilds(bakeBuilds)}, {"docker-bake.hcl", hclBuilds},
	{".github/workflows/*.yml", yamlBuilds(workflowBuilds)}, {".github/workflows/*.yaml", yamlBuilds(workflowBuilds)},
	{".gitlab-ci.yml", yamlBuilds(gitlabBuilds)}, {"Jenkinsfile", jenkinsBuilds},
}

// yamlBuilds returns a function that reads a YAML file. One that is none has no builds.
func yamlBuilds(read func(*yaml.Node) []ciBuild) func([]byte) []ciBuild {
	return func(text []byte) []ciBuild {
		var doc yaml.Node
		if yaml.Unmarshal(text, &doc) != nil || len(doc.Content) == 0 {
			return nil
		}
		return read(doc.Content[0])
	}
}

// maxBuildFile bounds what is read of a file of ciFiles.
const maxBuildFile = 1 << 20

// builds returns the builds of the Dockerfile that files of the context ask for. A file that cannot be read, or is not
// what its name says, asks for none.
func (p *project) builds() []ciBuild {
	if p.Context == nil {
		return nil
	}
	var builds []ciBuild
	for _, kind := range ciFiles {
		names, err := fs.Glob(p.Context, kind.pattern)
		if err != nil {
			continue
		}
		for _, name := range names {
			data, err := p.read(name, maxBuildFile)
			if err != nil {
				continue
			}
			for _, b := range kind.read(data) {
				b.file = filepath.Join(p.Dir, filepath.FromSlash(name))
				builds = append(builds, b)
			}
		}
	}
	return builds
}

// key returns the value of a key of a mapping, or nil.
func key(n *yaml.Node, names ...string) *yaml.Node {
	for _, name := range names {
		if n == nil || n.Kind != yaml.MappingNode {
			return nil
		}
		var found *yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				found = n.Content[i+1]
			}
		}
		n = found
	}
	return n
}

// each calls fn with the keys and values of a mapping.
func each(n *yaml.Node, fn func(name string, value *yaml.Node)) {
	if n == nil || n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		fn(n.Content[i].Value, n.Content[i+1])
	}
}

func scalar(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

// list returns the strings of a sequence, or the lines of a scalar.
func list(n *yaml.Node) []string {
	if n == nil {
		return nil
	}
	if n.Kind == yaml.ScalarNode {
		return strings.FieldsFunc(n.Value, func(r rune) bool { return r == '\n' })
	}
	var out []string
	for _, c := range n.Content {
		if c.Kind == yaml.ScalarNode {
			out = append(out, c.Value)
		}
	}
	return out
}

// settings returns NAME=VALUE settings, of a mapping or of a list.
func settings(n *yaml.Node) map[string]string {
	out := map[string]string{}
	each(n, func(name string, value *yaml.Node) { out[name] = scalar(value) })
	if n != nil && n.Kind != yaml.MappingNode {
		for _, s := range list(n) {
			name, value, _ := strings.Cut(strings.TrimSpace(s), "=")
			out[name] = value
		}
	}
	return out
}

// isThis reports whether a build with a context and a Dockerfile is one of the Dockerfile Dockerfile at the top of
// the context.
func isThis(context, dockerfile string) bool {
	return slices.Contains([]string{"", ".", "./", "{{defaultContext}}"}, context) && slices.Contains([]string{"", "Dockerfile", "./Dockerfile"}, dockerfile)
}

func composeBuilds(doc *yaml.Node) (builds []ciBuild) {
	each(key(doc, "services"), func(name string, service *yaml.Node) {
		build := key(service, "build")
		if build == nil {
			return
		}
		context := cmp.Or(scalar(build), scalar(key(build, "context")))
		if !isThis(context, scalar(key(build, "dockerfile"))) || key(build, "dockerfile_inline") != nil {
			return
		}
		b := ciBuild{line: build.Line, name: name, target: scalar(key(build, "target")), args: settings(key(build, "args"))}
		if t := key(build, "target"); t != nil {
			b.line = t.Line
		}
		if image := scalar(key(service, "image")); image != "" {
			b.images, b.pushed = []string{image}, hasRegistry(image)
		}
		builds = append(builds, b)
	})
	return builds
}

// hasRegistry reports whether an image's name begins with a host: it is meant to be pushed.
func hasRegistry(image string) bool {
	host, _, ok := strings.Cut(image, "/")
	return ok && strings.ContainsAny(host, ".:")
}

func bakeBuilds(doc *yaml.Node) (builds []ciBuild) {
	targets := key(doc, "target")
	inherited := map[string]bool{} // targets that others take their attributes from: they need not be built themselves
	each(targets, func(_ string, own *yaml.Node) {
		for _, parent := range list(key(own, "inherits")) {
			inherited[parent] = true
		}
	})
	each(targets, func(name string, own *yaml.Node) {
		if inherited[name] {
			return
		}
		t := bakeTarget(targets, name, map[string]bool{})
		if !isThis(scalar(t["context"]), scalar(t["dockerfile"])) || t["dockerfile-inline"] != nil {
			return
		}
		b := ciBuild{line: own.Line, name: name, target: scalar(t["target"]), args: settings(t["args"]), images: list(t["tags"])}
		output := strings.Join(list(t["output"]), " ")
		if o := t["output"]; o != nil && o.Kind == yaml.SequenceNode {
			for _, c := range o.Content {
				for k, v := range settings(c) {
					output += " " + k + "=" + v
				}
			}
		}
		b.pushed = strings.Contains(output, "registry") || strings.Contains(output, "push=true") || output == "" && slices.ContainsFunc(b.images, hasRegistry)
		builds = append(builds, b)
	})
	return builds
}

// bakeTarget returns the attributes of a target, with those that it inherits.
func bakeTarget(targets *yaml.Node, name string, seen map[string]bool) map[string]*yaml.Node {
	out := map[string]*yaml.Node{}
	if seen[name] { // bake refuses a cycle
		return out
	}
	seen[name] = true
	own := key(targets, name)
	take := func(attribute string, value *yaml.Node) {
		if before := out[attribute]; attribute == "args" && before != nil && before.Kind == yaml.MappingNode && value.Kind == yaml.MappingNode {
			merged := *value // the later value of a key counts
			merged.Content = append(slices.Clone(before.Content), value.Content...)
			value = &merged
		}
		out[attribute] = value
	}
	for _, parent := range list(key(own, "inherits")) {
		for attribute, value := range bakeTarget(targets, parent, seen) {
			take(attribute, value)
		}
	}
	each(own, take)
	return out
}

func workflowBuilds(doc *yaml.Node) (builds []ciBuild) {
	each(key(doc, "jobs"), func(_ string, job *yaml.Node) {
		steps := key(job, "steps")
		if steps == nil {
			return
		}
		var scripts []*yaml.Node
		elsewhere := key(doc, "defaults", "run", "working-directory") != nil || key(job, "defaults", "run", "working-directory") != nil
		for _, step := range steps.Content {
			if run := key(step, "run"); run != nil && !elsewhere && key(step, "working-directory") == nil {
				scripts = append(scripts, run)
			}
			with := key(step, "with")
			if !strings.HasPrefix(scalar(key(step, "uses")), "docker/build-push-action@") || !isThis(scalar(key(with, "context")), scalar(key(with, "file"))) {
				continue
			}
			b := ciBuild{
				line: step.Line, name: "docker/build-push-action", target: scalar(key(with, "target")), args: settings(key(with, "build-args")),
				images: list(key(with, "tags")), pushed: !slices.Contains([]string{"", "false"}, scalar(key(with, "push"))),
			}
			if t := key(with, "target"); t != nil {
				b.line = t.Line
			}
			builds = append(builds, b)
		}
		builds = append(builds, scriptBuilds(scripts, false)...)
	})
	return builds
}

func gitlabBuilds(doc *yaml.Node) (builds []ciBuild) {
	each(doc, func(_ string, job *yaml.Node) {
		var scripts []*yaml.Node
		for _, name := range []string{"before_script", "script"} {
			if n := key(job, name); n != nil && n.Kind == yaml.SequenceNode {
				scripts = append(scripts, n.Content...)
			} else if n != nil {
				scripts = append(scripts, n)
			}
		}
		builds = append(builds, scriptBuilds(scripts, true)...)
	})
	return builds
}

// expression matches what GitHub replaces before a shell runs the script.
var expression = regexp.MustCompile(`\$\{\{[^{}]*\}\}`)

// variable returns a shell's name for an expression of another language: equal expressions have equal names.
func variable(expression string) string {
	name := strings.Map(func(r rune) rune {
		if r < 0x80 && isNameByte(byte(r)) {
			return r
		}
		return '_'
	}, strings.TrimSpace(expression))
	if name == "" || '0' <= name[0] && name[0] <= '9' {
		name = "_" + name
	}
	return name
}

// scriptBuilds returns the builds of shell scripts that run one after the other, in one shell or each in its own. A
// later push of a name counts. After cd, a path means another one.
func scriptBuilds(scripts []*yaml.Node, oneShell bool) (builds []ciBuild) {
	moved := false
	for _, n := range scripts {
		moved = moved && oneShell
		script := expression.ReplaceAllStringFunc(scalar(n), func(e string) string { return "${" + variable(e[3:len(e)-2]) + "}" })
		for _, c := range shell.Script(script, nil) {
			words := c.Words[1:]
			moved = moved || c.Name() == "cd" || c.Name() == "pushd"
			if !slices.Contains([]string{"docker", "podman", "buildah", "kedge"}, c.Name()) || len(words) == 0 {
				continue
			}
			if words[0] == "buildx" {
				words = words[1:]
			}
			if len(words) == 0 {
				continue
			}
			switch words[0] {
			case "push":
				for i := range builds {
					builds[i].pushed = builds[i].pushed || slices.ContainsFunc(words, func(w string) bool { return slices.Contains(builds[i].images, w) })
				}
			case "build", "bud":
				if b, ok := commandBuild(words[1:]); ok && !moved {
					b.name, b.line = c.Name()+" build", n.Line
					builds = append(builds, b)
				}
			}
		}
	}
	return builds
}

// commandBuild reads the words after docker build.
func commandBuild(words []string) (b ciBuild, ok bool) {
	b.args = map[string]string{}
	var context, file string
	for i := 0; i < len(words); i++ {
		name, value, inline := strings.Cut(words[i], "=")
		if !strings.HasPrefix(name, "-") {
			context = words[i]
			continue
		}
		if !inline && i+1 < len(words) && slices.Contains([]string{"--target", "-t", "--tag", "-f", "--file", "--build-arg", "-o", "--output", "--platform", "--label", "--cache-from", "--cache-to", "--secret", "--builder", "--network"}, name) {
			i++
			value = words[i]
		}
		switch name {
		case "--target":
			b.target = value
		case "-t", "--tag":
			b.images = append(b.images, value)
		case "-f", "--file":
			file = value
		case "--build-arg":
			k, v, _ := strings.Cut(value, "=")
			b.args[k] = v
		case "--push":
			b.pushed = value != "false"
		case "-o", "--output":
			b.pushed = b.pushed || strings.Contains(value, "registry") || strings.Contains(value, "push=true")
		}
	}
	return b, isThis(context, file)
}

func checkOtherTarget(p *project, add func(Finding)) {
	for _, b := range p.builds() {
		if s := p.stage(b.target); b.pushed && b.target != "" && s != nil && s != p.ships {
			add(Finding{File: b.file, Line: b.line, Message: fmt.Sprintf("%s pushes target %q, and %s ships", b.name, b.target, p.ships.words())})
		}
	}
}

func checkSharedName(p *project, add func(Finding)) {
	first := map[string]ciBuild{}
	for _, b := range p.builds() {
		for _, image := range b.images {
			if strings.Contains(image, "$") {
				continue
			}
			before, set := first[b.file+" "+image]
			if !set {
				first[b.file+" "+image] = b
			} else if !maps.Equal(before.args, b.args) {
				add(Finding{File: b.file, Line: b.line, Message: fmt.Sprintf("%s and %s build %s with different build args: which of them the name means depends on who came last", before.name, b.name, path.Base(image))})
			}
		}
	}
}
