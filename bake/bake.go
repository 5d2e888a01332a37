// Package bake reads the targets of a bake definition, as docker buildx bake --print resolves them, and says
// how kedge builds each.
//
//	d, err := bake.Parse(printed, dir, url)
//	for _, t := range d.Targets {
//		words := append([]string{"build"}, t.Words()...)
//	}
package bake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	gopath "path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tonistiigi/go-csvvalue"
)

// A Definition is what a bake definition asks for.
type Definition struct {
	Targets []*Target // each after those that its contexts name

	dir string // the working folder
	url string // of the definition, if it is not of this machine
}

// A Target is one image to build.
type Target struct {
	Name string
	// Asked is false for a target that only another one builds from. Its image has no name and goes nowhere.
	Asked bool
	// Linked lists the names of contexts that are images of other targets, with the target of each.
	Linked map[string]string
	// Inline is the text of a Dockerfile in the definition. It is nil if the Dockerfile is a file.
	Inline *string
	// Context is a folder, a URL or another word for a context. Dockerfile is the path of its Dockerfile; it is
	// empty if only the builder can read the context, or with Inline.
	Context, Dockerfile string
	Stage               string // the stage to build; empty for the last one

	words    []string // the other flags of kedge build
	contexts []string // the named ones that are no targets
	needs    privileges
}

// printed is the form that docker buildx bake --print has.
type printed struct {
	Group  map[string]struct{ Targets []string }
	Target map[string]*printedTarget
}

type printedTarget struct {
	Annotations      []string           `json:"annotations"`
	Attest           []entry            `json:"attest"`
	Context          *string            `json:"context"`
	Contexts         map[string]string  `json:"contexts"`
	Dockerfile       *string            `json:"dockerfile"`
	DockerfileInline *string            `json:"dockerfile-inline"`
	Args             map[string]*string `json:"args"`
	Labels           map[string]*string `json:"labels"`
	Tags             []string           `json:"tags"`
	CacheFrom        []entry            `json:"cache-from"`
	CacheTo          []entry            `json:"cache-to"`
	Target           string             `json:"target"`
	Secret           []entry            `json:"secret"`
	SSH              []entry            `json:"ssh"`
	Platforms        []string           `json:"platforms"`
	Output           []entry            `json:"output"`
	Pull             bool               `json:"pull"`
	NoCache          bool               `json:"no-cache"`
	Network          string             `json:"network"`
	NoCacheFilter    []string           `json:"no-cache-filter"`
	ShmSize          string             `json:"shm-size"`
	Ulimits          []string           `json:"ulimits"`
	Resources        map[string]any     `json:"resources"`
	Call             string             `json:"call"`
	Entitlements     []string           `json:"entitlements"`
	ExtraHosts       map[string]*string `json:"extra-hosts"`
	Policy           []entry            `json:"policy"`

	// Ignored: they have no meaning after docker buildx has resolved them.
	Description string   `json:"description"`
	Inherits    []string `json:"inherits"`
}

// An entry is a setting with attributes: a string, or an object of strings.
type entry struct {
	text   string
	fields map[string]any
}

func (e *entry) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &e.text)
	}
	return json.Unmarshal(data, &e.fields)
}

// csv returns the entry as a flag has it, type first.
func (e entry) csv() string {
	if e.fields == nil {
		return e.text
	}
	keys := slices.Sorted(maps.Keys(e.fields))
	if i := slices.Index(keys, "type"); i > 0 {
		keys = slices.Insert(slices.Delete(keys, i, i+1), 0, "type")
	}
	var fields []string
	for _, key := range keys {
		field := key + "=" + fmt.Sprint(e.fields[key])
		if strings.ContainsAny(field, ",\"\n") {
			field = `"` + strings.ReplaceAll(field, `"`, `""`) + `"`
		}
		fields = append(fields, field)
	}
	return strings.Join(fields, ",")
}

// Parse reads the output of docker buildx bake --print in the folder dir, an absolute path. url is the URL of a
// definition in a git repository or an archive, and empty for files of this machine.
func Parse(data []byte, dir, url string) (*Definition, error) {
	var p printed
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	dec.DisallowUnknownFields() // a setting that is overlooked would make another image
	if err := dec.Decode(&p); err != nil {
		return nil, fmt.Errorf("reading what docker buildx bake --print wrote: %w", err)
	}
	asked := map[string]bool{}
	p.expand("default", asked, map[string]bool{})
	d, done := &Definition{dir: dir, url: url}, map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(p.Target)) {
		if err := d.add(&p, name, asked, done, nil); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// expand marks the targets of a group, which may have groups in it.
func (p *printed) expand(name string, asked, seen map[string]bool) {
	group, ok := p.Group[name]
	if !ok || seen[name] {
		asked[name] = true
		return
	}
	seen[name] = true
	for _, member := range group.Targets {
		p.expand(member, asked, seen)
	}
}

// add appends a target after those that it is built from. path has the targets that wait for it.
func (d *Definition) add(p *printed, name string, asked, done map[string]bool, path []string) error {
	if slices.Contains(path, name) {
		return fmt.Errorf("target %q is built from itself, by way of %s", name, strings.Join(path, ", "))
	}
	if done[name] {
		return nil
	}
	pt := p.Target[name]
	if pt == nil {
		return fmt.Errorf("target %q is not defined", name)
	}
	t, err := d.newTarget(name, pt, asked[name])
	if err != nil {
		return fmt.Errorf("target %q: %w", name, err)
	}
	for _, context := range slices.Sorted(maps.Keys(t.Linked)) {
		if err := d.add(p, t.Linked[context], asked, done, append(path, name)); err != nil {
			return err
		}
	}
	done[name] = true
	d.Targets = append(d.Targets, t)
	return nil
}

func (d *Definition) newTarget(name string, p *printedTarget, asked bool) (*Target, error) {
	t := &Target{Name: name, Asked: asked, Linked: map[string]string{}, Context: ".", Stage: p.Target}
	if p.Context != nil {
		t.Context = strings.TrimPrefix(*p.Context, "cwd://")
	}
	t.dockerfile(p, d.dir)
	add := func(flag string, values ...string) {
		for _, value := range values {
			t.words = append(t.words, "--"+flag+"="+value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Contexts)) {
		if target, ok := strings.CutPrefix(p.Contexts[name], "target:"); ok {
			t.Linked[name] = target
		} else {
			path, err := d.context(p.Contexts[name])
			if err != nil {
				return nil, err
			}
			t.contexts = append(t.contexts, path)
			add("build-context", name+"="+path)
		}
	}
	pairs(p.Args, func(name string, value *string) {
		if value == nil {
			add("build-arg", name)
		} else {
			add("build-arg", name+"="+plain(*value))
		}
	})
	pairs(p.Labels, func(name string, value *string) { add("label", name+"="+plain(deref(value))) })
	pairs(p.ExtraHosts, func(name string, value *string) {
		for address := range strings.SplitSeq(plain(deref(value)), ",") {
			add("add-host", name+"="+address)
		}
	})
	for _, list := range []struct {
		flag    string
		entries []entry
	}{{"attest", p.Attest}, {"cache-from", p.CacheFrom}, {"secret", p.Secret}} {
		for _, e := range list.entries {
			add(list.flag, e.csv())
		}
	}
	for _, e := range p.Policy {
		add("policy", e.policy())
	}
	for _, e := range p.SSH {
		add("ssh", e.ssh())
	}
	add("platform", p.Platforms...)
	add("no-cache-filter", p.NoCacheFilter...)
	add("ulimit", p.Ulimits...)
	for _, e := range p.Entitlements {
		if !strings.HasPrefix(e, "fs") { // what bake may read and write, which is no matter of the builder
			add("allow", e)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(p.Resources)) {
		add("resource", fmt.Sprintf("%s=%v", key, p.Resources[key]))
	}
	for _, f := range [][2]string{{"network", p.Network}, {"shm-size", p.ShmSize}, {"call", p.Call}} {
		if f[1] != "" {
			add(f[0], f[1])
		}
	}
	if p.Pull {
		add("pull", "true")
	}
	if p.NoCache {
		add("no-cache", "true")
	}
	if !asked {
		add("load", "false")
	} else {
		for _, annotation := range p.Annotations {
			add("annotation", plain(annotation))
		}
		add("tag", p.Tags...)
		for _, e := range p.CacheTo {
			add("cache-to", e.csv())
		}
		for _, e := range p.Output {
			add("output", e.csv())
		}
	}
	t.require(p)
	return t, nil
}

// context returns a named context as kedge build takes it. A folder in a remote definition is one of its repository,
// never of this machine.
func (d *Definition) context(word string) (string, error) {
	path, here := strings.CutPrefix(word, "cwd://")
	if here || d.url == "" || Remote(word) {
		return path, nil
	}
	base, fragment, _ := strings.Cut(d.url, "#")
	base, query, _ := strings.Cut(base, "?")
	if !strings.HasSuffix(base, ".git") && strings.HasPrefix(base, "http") {
		return "", fmt.Errorf("context %q is a folder of %q, which is not a git repository", word, d.url)
	}
	ref, dir, _ := strings.Cut(fragment, ":")
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", fmt.Errorf("the URL %q of the definition: %w", d.url, err)
	}
	dir = gopath.Join("/", dir, values.Get("subdir"), word)[1:]
	if len(values) == 0 {
		return base + "#" + ref + ":" + dir, nil
	}
	values.Set("subdir", dir)
	if ref != "" {
		values.Set("ref", ref)
	}
	return base + "?" + values.Encode(), nil
}

// dockerfile sets the path of the Dockerfile, which the definition has relative to the context.
func (t *Target) dockerfile(p *printedTarget, dir string) {
	name := "Dockerfile"
	if p.Dockerfile != nil && *p.Dockerfile != "" {
		name = *p.Dockerfile
	}
	here, relative := strings.CutPrefix(name, "cwd://")
	switch {
	case p.DockerfileInline != nil:
		inline := plain(*p.DockerfileInline)
		t.Inline = &inline
	case relative && t.Remote() && !filepath.IsAbs(here):
		t.Dockerfile = filepath.Join(dir, here) // kedge build takes another path as one in the context
	case relative:
		t.Dockerfile = here
	case t.Remote():
		t.words = append(t.words, "--file="+name)
	case filepath.IsAbs(name) || strings.Contains(name, "://"):
		t.Dockerfile = name
	default:
		t.Dockerfile = filepath.Join(t.Context, name)
	}
}

// Remote reports whether the context is none of this machine's folders.
func (t *Target) Remote() bool { return Remote(t.Context) }

// Remote reports whether a context, or the first argument of bake, is none of this machine's folders.
func Remote(context string) bool {
	return context == "-" || strings.Contains(context, "://") || strings.HasPrefix(context, "git@") || strings.HasPrefix(context, "github.com/")
}

// Ships reports whether the image leaves this machine.
func (t *Target) Ships() bool {
	for _, word := range t.words {
		value, ok := strings.CutPrefix(word, "--output=")
		if !ok {
			continue
		}
		fields, err := csvvalue.Fields(value, nil)
		if err != nil {
			continue
		}
		file := slices.ContainsFunc(fields, func(f string) bool { return strings.HasPrefix(f, "dest=") })
		for _, f := range fields {
			if f == "type=registry" || f == "push=true" || f == "type=oci" || f == "type=docker" && file {
				return true
			}
		}
	}
	return false
}

// Words returns the flags of kedge build, without the lockfile and linked contexts, and then the context.
func (t *Target) Words() []string {
	words := slices.Clone(t.words)
	if t.Stage != "" {
		words = append(words, "--target="+t.Stage)
	}
	switch {
	case t.Inline != nil:
		words = append(words, "--file=-")
	case t.Dockerfile != "":
		words = append(words, "--file="+t.Dockerfile)
	}
	return append(words, "--", t.Context)
}

// ssh returns the entry as --ssh has it: ID=PATH,PATH.
func (e entry) ssh() string {
	if e.fields == nil {
		return e.text
	}
	word := fmt.Sprint(e.fields["id"])
	if paths, ok := e.fields["paths"].([]any); ok && len(paths) > 0 {
		var all []string
		for _, path := range paths {
			all = append(all, fmt.Sprint(path))
		}
		word += "=" + strings.Join(all, ",")
	}
	return word
}

// policy returns the entry as --policy has it.
func (e entry) policy() string {
	if e.fields == nil {
		return e.text
	}
	if e.value("Disabled") == "true" || e.value("disabled") == "true" {
		return "disabled=true"
	}
	var fields []string
	files, _ := e.fields["Files"].([]any)
	for _, file := range files {
		if object, ok := file.(map[string]any); ok {
			fields = append(fields, fmt.Sprintf("filename=%v", object["Filename"]))
		}
	}
	if e.value("Reset") == "true" {
		fields = append(fields, "reset=true")
	}
	return strings.Join(fields, ",")
}

// plain undoes what --print does so that its output is a definition again.
func plain(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "$${", "${"), "%%{", "%{")
}

func pairs(m map[string]*string, f func(name string, value *string)) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		f(name, m[name])
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
