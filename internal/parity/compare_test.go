package parity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// An outcome is the result of a case with one program.
type outcome struct {
	side   string
	dir    string
	code   int
	stdout []byte
	stderr string
	hidden []string // words that only this side has

	files      map[string]entry  // new files in its folder, and the files in archives
	images     map[string]*image // by their archive, layout or reference, and the platform
	names      map[string][]string
	argsTags   []string          // kedge's own names, which images does not have
	metadata   map[string]string // the shapes of the values in a metadata file
	unfinished []string          // temporary and incomplete files
}

var (
	digestPattern = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	argsTag       = regexp.MustCompile(`[:-]args-[0-9a-f]{12}$`)
	partPattern   = regexp.MustCompile(`(^|/)\.[^/]*\.\d+$|\.tmp|\.part`)
)

// plain returns text without digests and without the words that only this side has.
func (o *outcome) plain(s string) string {
	for i, word := range o.hidden {
		s = strings.ReplaceAll(s, word, []string{"DIR", "SIDE"}[i])
	}
	return digestPattern.ReplaceAllString(s, "DIGEST")
}

// read reads the files that the command has left in its folder.
func (o *outcome) read(given map[string]entry) error {
	o.files, o.images, o.names = map[string]entry{}, map[string]*image{}, map[string][]string{}
	left, err := list(o.dir)
	if err != nil {
		return err
	}
	if len(o.stdout) > 512 && string(o.stdout[257:262]) == "ustar" {
		if err := o.archive("stdout", bytes.NewReader(o.stdout)); err != nil {
			return err
		}
		o.stdout = []byte("an archive\n")
	}
	for name := range given {
		if _, ok := left[name]; !ok {
			o.files[name] = entry{kind: "removed"}
		}
	}
	var layouts []string
	for _, name := range slices.Sorted(maps.Keys(left)) {
		e := left[name]
		if before, ok := given[name]; ok && before == e || e.kind == "folder" && given[name].kind == "folder" {
			continue
		}
		if slices.ContainsFunc(layouts, func(dir string) bool { return strings.HasPrefix(name, dir+"/") }) {
			continue
		}
		path := filepath.Join(o.dir, name)
		switch {
		case partPattern.MatchString(name):
			o.unfinished = append(o.unfinished, name)
		case e.kind == "folder" && isLayout(path):
			layouts = append(layouts, name)
			o.files[name] = entry{kind: "layout"}
			if err := o.layout(name, path); err != nil {
				return err
			}
		case e.kind == "file" && strings.HasSuffix(name, ".tar"):
			o.files[name] = entry{kind: "archive", mode: e.mode}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			err = o.archive(name, f)
			f.Close()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		case filepath.Base(name) == "metadata.json":
			o.files[name] = entry{kind: "metadata", mode: e.mode}
			if err := o.readMetadata(path); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		case e.kind == "file" && strings.HasPrefix(filepath.Base(name), "random-"): // the case itself looks at it
			o.files[name] = entry{kind: "file", mode: e.mode}
		case e.kind == "file" && e.size < 1<<16:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			e.hash, e.size = fmt.Sprintf("%q", o.plain(string(content))), 0
			o.files[name] = e
		default:
			o.files[name] = e
		}
	}
	return nil
}

func (o *outcome) readMetadata(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var values map[string]any
	if err := json.Unmarshal(content, &values); err != nil {
		return err
	}
	o.metadata = map[string]string{}
	for key, value := range values {
		o.metadata[key] = o.shape(value)
	}
	return nil
}

// shape describes a JSON value: its strings, and the keys of objects.
func (o *outcome) shape(value any) string {
	switch value := value.(type) {
	case string:
		var parts []string
		for part := range strings.SplitSeq(value, ",") {
			if argsTag.MatchString(part) {
				o.argsTags = append(o.argsTags, part)
			} else {
				parts = append(parts, part)
			}
		}
		return fmt.Sprintf("%q", o.plain(strings.Join(parts, ",")))
	case map[string]any:
		return fmt.Sprintf("an object of %s", strings.Join(slices.Sorted(maps.Keys(value)), ", "))
	case []any:
		return "a list"
	default:
		return fmt.Sprintf("a %T", value)
	}
}

// pulled reads the image that was pushed.
func (o *outcome) pulled(desc *remote.Descriptor) error {
	if desc.MediaType.IsIndex() {
		index, err := desc.ImageIndex()
		if err != nil {
			return err
		}
		return o.index("pushed", index)
	}
	img, err := desc.Image()
	if err != nil {
		return err
	}
	return o.image("pushed", img)
}

// differences returns the differences between two outcomes of a case. Each is one line: an aspect, a colon,
// and both sides, docker's first.
func differences(c Case, a, b *outcome) []string {
	var found []string
	add := func(aspect string, theirs, ours any) {
		if one, two := fmt.Sprint(theirs), fmt.Sprint(ours); one != two {
			found = append(found, fmt.Sprintf("%s: %s, kedge %s", aspect, one, two))
		}
	}
	add("exit", a.code, b.code)
	if (a.code == 0) != (b.code == 0) {
		return found // there is nothing else to compare
	}
	one, two := strings.Split(a.plain(string(a.stdout)), "\n"), strings.Split(b.plain(string(b.stdout)), "\n")
	for i := range max(len(one), len(two)) {
		add("stdout", fmt.Sprintf("%q", at(one, i)), fmt.Sprintf("%q", at(two, i)))
	}
	for _, name := range union(a.files, b.files) {
		x, inA := a.files[name]
		y, inB := b.files[name]
		switch {
		case !inA:
			add("left", "no "+name, name)
		case !inB:
			add("left", name, "no "+name)
		default:
			compareEntries(func(aspect string, x, y any) { add("left "+name+" "+aspect, x, y) }, x, y)
		}
	}
	for _, key := range union(a.metadata, b.metadata) {
		add("metadata "+key, orNone(a.metadata[key]), orNone(b.metadata[key]))
	}
	for _, key := range union(a.names, b.names) {
		add("names", a.names[key], b.names[key])
	}
	add("args tags", len(a.argsTags) > 0, len(b.argsTags) > 0)
	add("images", slices.Sorted(maps.Keys(a.images)), slices.Sorted(maps.Keys(b.images)))
	for key := range a.images {
		if b.images[key] != nil {
			compareImages(add, a, b, key)
		}
	}
	if c.Look != nil {
		add("look", c.Look(a), c.Look(b))
	}
	sort.Strings(found)
	return found
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func union[V any](a, b map[string]V) []string {
	return slices.Compact(slices.Sorted(func(yield func(string) bool) {
		for _, m := range []map[string]V{a, b} {
			for key := range m {
				if !yield(key) {
					return
				}
			}
		}
	}))
}
