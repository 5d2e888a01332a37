package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/kedge-build/kedge/internal/wholefile"
)

// ConfigError says that docker's config.json is malformed or ambiguous. It is not changed.
type ConfigError struct {
	Path string
	Err  error
}

func (e *ConfigError) Error() string { return fmt.Sprintf("reading %q: %v", e.Path, e.Err) }

func (e *ConfigError) Unwrap() error { return e.Err }

// config is docker's config.json. Edits change the bytes of the alias and no others.
type config struct {
	path    string
	text    []byte // nil if there is no file
	builder *string
}

// maxSize bounds the bytes of docker's config.json and of the state file.
const maxSize = 16 << 20

func readConfig(path string) (*config, error) {
	c := &config{path: path}
	data, err := wholefile.Read(path, maxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	c.text = append([]byte{}, data...)
	if len(bytes.TrimSpace(data)) == 0 { // docker accepts an empty file
		return c, nil
	}
	top, err := parseObject(data, 0)
	if err != nil {
		return nil, &ConfigError{path, err}
	}
	if rest := bytes.TrimSpace(data[top.close+1:]); len(rest) > 0 {
		return nil, &ConfigError{path, fmt.Errorf("%.20q follows its end", rest)}
	}
	aliases := top.member("aliases")
	if aliases == nil {
		return c, nil
	}
	if string(data[aliases.value:aliases.end]) == "null" {
		return c, nil
	}
	object, err := parseObject(data, aliases.value)
	if err != nil {
		return nil, &ConfigError{path, fmt.Errorf("aliases: %w", err)}
	}
	if builder := object.member("builder"); builder != nil {
		if err := json.Unmarshal(data[builder.value:builder.end], &c.builder); err != nil || c.builder == nil {
			return nil, &ConfigError{path, errors.New("the alias builder is not a string")}
		}
	}
	return c, nil
}

// alias sets the alias builder, and returns what restore needs.
func (c *config) alias(name string) before {
	var state before
	old := string(c.text)
	if len(bytes.TrimSpace(c.text)) == 0 {
		state.Created = c.text == nil
		if !state.Created {
			state.Config = &old
		}
		c.text = []byte("{}")
	}
	top, _ := parseObject(c.text, 0)
	if len(top.members) == 0 && state.Config == nil && old != "" {
		state.Config = &old
	}
	value, _ := json.Marshal(name)
	aliases := top.member("aliases")
	if aliases == nil {
		c.insert(top, "aliases", "{}")
		top, _ = parseObject(c.text, 0)
		aliases = top.member("aliases")
	} else if c.builder == nil {
		inner := string(c.text[aliases.value:aliases.end])
		if object, err := parseObject(c.text, aliases.value); err != nil || len(object.members) == 0 {
			state.Aliases = &inner
			c.replace(aliases.value, aliases.end, "{}") // it can be null
		}
	}
	if c.builder != nil {
		object, _ := parseObject(c.text, aliases.value)
		builder := object.member("builder")
		state.Builder = bytes.Clone(c.text[builder.value:builder.end])
		c.replace(builder.value, builder.end, string(value))
		return state
	}
	object, _ := parseObject(c.text, aliases.value)
	if len(object.members) == 0 {
		object.indent, object.depth, object.colon = top.indent, 2, top.colon
	}
	c.insert(object, "builder", string(value))
	return state
}

// restore undoes alias.
func (c *config) restore(state before) {
	top, _ := parseObject(c.text, 0)
	aliases := top.member("aliases")
	object, _ := parseObject(c.text, aliases.value)
	builder := object.member("builder")
	switch {
	case state.Builder != nil:
		c.replace(builder.value, builder.end, string(state.Builder))
	case len(object.members) > 1:
		c.remove(object, "builder")
	case state.Aliases != nil:
		c.replace(aliases.value, aliases.end, *state.Aliases)
	case len(top.members) > 1:
		c.remove(top, "aliases")
	case state.Config != nil:
		c.text = []byte(*state.Config)
	case state.Created:
		c.text = nil
	default:
		c.remove(top, "aliases")
	}
}

// write replaces the file, or removes it if c has no text.
func (c *config) write() error {
	if c.text != nil {
		return writeFile(c.path, c.text)
	}
	path, err := wholefile.Follow(c.path)
	if err != nil {
		return err
	}
	return os.Remove(path)
}

func (c *config) replace(from, to int, text string) {
	c.text = []byte(string(c.text[:from]) + text + string(c.text[to:]))
}

// insert adds a member at the end of an object, with the object's indentation.
func (c *config) insert(o object, key, value string) {
	newline := "\n"
	if o.indent == "" {
		newline = ""
	}
	name, _ := json.Marshal(key)
	text := newline + strings.Repeat(o.indent, o.depth) + string(name) + o.colon + value
	if n := len(o.members); n > 0 {
		c.replace(o.members[n-1].end, o.members[n-1].end, ","+text)
		return
	}
	if newline != "" {
		newline += strings.Repeat(o.indent, o.depth-1)
	}
	c.replace(o.open+1, o.close, text+newline)
}

// remove removes a member and its comma.
func (c *config) remove(o object, key string) {
	for i, m := range o.members {
		switch {
		case !strings.EqualFold(m.name, key):
		case i > 0:
			c.replace(o.members[i-1].end, m.end, "")
			return
		case len(o.members) > 1:
			c.replace(m.key, o.members[1].key, "")
			return
		default:
			c.replace(o.open+1, o.close, "")
			return
		}
	}
}

// object has the offsets of the parts of a JSON object.
type object struct {
	open, close int // offsets of the braces
	members     []member
	indent      string // of its first line; empty if the object is on one line
	depth       int    // how often indent starts a line
	colon       string // ":" or ": "
}

type member struct {
	name            string
	key, value, end int // offsets
}

// member returns the member with a name, which docker matches in any case, or nil.
func (o object) member(name string) *member {
	for i := range o.members {
		if strings.EqualFold(o.members[i].name, name) {
			return &o.members[i]
		}
	}
	return nil
}

// parseObject parses the object that starts at an offset of text.
func parseObject(text []byte, start int) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(text[start:]))
	token, err := dec.Token()
	if err != nil {
		return object{}, err
	}
	if token != json.Delim('{') {
		return object{}, errors.New("not an object")
	}
	o := object{open: start + int(dec.InputOffset()) - 1, indent: "\t", depth: 1, colon: ": "}
	next := o.open + 1
	for dec.More() {
		for next < len(text) && strings.ContainsRune(", \t\r\n", rune(text[next])) {
			next++
		}
		m := member{key: next}
		token, err := dec.Token()
		if err != nil {
			return object{}, err
		}
		m.name = token.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return object{}, err
		}
		m.end = start + int(dec.InputOffset())
		m.value = m.end - len(raw)
		if o.member(m.name) != nil && (strings.EqualFold(m.name, "aliases") || strings.EqualFold(m.name, "builder")) {
			return object{}, fmt.Errorf("%q occurs twice", m.name)
		}
		o.members = append(o.members, m)
		next = m.end
	}
	if _, err := dec.Token(); err != nil {
		return object{}, err
	}
	o.close = start + int(dec.InputOffset()) - 1
	if len(o.members) > 0 {
		first := o.members[0]
		_, o.indent, _ = strings.Cut(string(text[o.open+1:first.key]), "\n")
		if text[first.value-1] == ':' {
			o.colon = ":"
		}
	}
	return o, nil
}

func writeFile(path string, data []byte) error {
	if err := wholefile.WriteBytes(path, data, 0o600); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return nil
}
